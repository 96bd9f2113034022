"""What Weave Net says of its connections: GET http://127.0.0.1:6784/report, answered as JSON.

Only asked where ``weaver`` is seen, with :data:`BUDGET` seconds, and never over a network: the address is the host's
own loopback. ``Router.Connections`` has one element a connection (weave prog/weaver/http.go, mesh status.go,
LocalConnectionStatus): ``Address``, ``State``, ``Info``; since 2.0 ``Attrs`` too ({"name": "fastdp", "mtu": 1376,
"encrypted": true}). Before, name and encryption stand in ``Info``: "encrypted   sleeve 8a:…(node2)", "fastdp 8a:…
mtu=1376". ``Router.OverlayDiagnostics`` has a member ``fastdp`` where the fast datapath may be used at all.
"""

import ipaddress
import os
import re
from typing import Any, Literal

import msgspec

from pathfit.core.evidence_base import Missing
from pathfit.core.node import WeaveConnection
from pathfit.host import clock, netns
from pathfit.host.loopback import LoopbackClient
from pathfit.observe.nodes import files

PORT = 6784
PATH = "/report"
BUDGET = 0.3  # seconds; a quiet weaver answers in 0.005
BUDGETS = 1.0  # seconds for all weavers of a machine together: anybody may call a process so
LIMIT = 4 << 20  # bytes: a mesh of a hundred peers makes about one million
CONNECTIONS = 1000
STATES = frozenset({"established", "pending", "connecting", "retrying", "waiting", "failed"})
_MTU = re.compile(r"\bmtu=(\d{1,6})\b")
_MODE = re.compile(r"\b(fastdp|sleeve)\b")
_PEER = re.compile(r"\b((?:[0-9a-f]{2}:){5}[0-9a-f]{2}(?:\([^()\s]{1,128}\))?)")


def ask_of(pid: int, end: float) -> tuple[tuple[WeaveConnection, ...], bool] | Missing:
    """The same for a weaver by its process, in whatever namespace that lives; we are back home afterwards. ``end``: by
    the clock, when no more is asked."""
    if clock.now() >= end:
        return _missing("too many weavers did not answer in time", "limit")
    try:
        fd = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as e:
        return _missing(e.strerror or str(e), "vanished")
    try:
        with netns.inside(fd):
            return ask()
    except OSError as e:
        return _missing(e.strerror or str(e), "permission")
    finally:
        os.close(fd)


def ask(port: int = PORT) -> tuple[tuple[WeaveConnection, ...], bool] | Missing:
    """(connections, may the fast datapath be used) of the weaver in the namespace we stand in. Never raises."""
    try:
        with LoopbackClient(port, BUDGET, LIMIT) as client:
            answer = client.get(PATH)
        if answer.status != 200:
            return _missing(f"it answers with HTTP {answer.status}", "malformed")
        return parse(msgspec.json.decode(answer.body))
    except TimeoutError:
        return _missing("it gave no answer in time", "timeout")
    except (ValueError, RecursionError):  # msgspec.MsgspecError is a ValueError
        return _missing("what answers there is not Weave's report", "malformed")
    except OSError as e:
        return _missing(e.strerror or str(e), "absent")


def _missing(why: str, code: str) -> Missing:
    how = f"curl -H 'Accept: application/json' http://127.0.0.1:{PORT}{PATH}"
    return Missing(what="Weave's connections", why=why, how=how, code=code)


def parse(report: object) -> tuple[tuple[WeaveConnection, ...], bool]:
    """The report as values. What has the wrong shape is left out."""
    router = files.table(files.table(report).get("Router"))
    raw = router.get("Connections")
    listed = [x for x in raw[:CONNECTIONS] if isinstance(x, dict)] if isinstance(raw, list) else []
    fast = "fastdp" in files.table(router.get("OverlayDiagnostics"))
    whole = router.get("Encryption") is True
    return tuple(_connection(one, whole) for one in listed), fast


def _connection(raw: dict[str, Any], encryption: bool) -> WeaveConnection:
    info, attrs = files.word(raw.get("Info"), 512), files.table(raw.get("Attrs"))
    state = files.word(raw.get("State"))
    peer, told = _PEER.search(info), _MTU.search(info)
    address, port = _end(files.word(raw.get("Address"), 64))
    encrypted = attrs.get("encrypted") is True if "encrypted" in attrs else _encrypted(info, encryption)
    return WeaveConnection(
        peer=peer[1] if peer else "",
        address=address,
        port=port,
        mode=_mode(files.word(attrs.get("name")) or info) if state in ("established", "pending") else "",
        state=state if state in STATES else "",
        mtu=files.mtu(attrs.get("mtu")) or (files.mtu(told[1]) if told else None),
        encrypted=encrypted,
    )


def _end(text: str) -> tuple[str, int]:
    """(address, port) of "198.18.0.2:6783" or "[2001:db8::1]:6783"; ("", 0) for anything else."""
    address, _, port = text.rpartition(":")
    try:
        found = ipaddress.ip_address(address.removeprefix("[").removesuffix("]"))
    except ValueError:
        return "", 0
    return str(found), int(port) if port.isascii() and port.isdigit() and len(port) < 6 else 0


def _mode(text: str) -> Literal["fastdp", "sleeve", ""]:
    found = _MODE.search(text)
    if found is None:
        return ""
    return "fastdp" if found[1] == "fastdp" else "sleeve"


def _encrypted(info: str, encryption: bool) -> bool:
    first = info.partition(" ")[0]
    return first == "encrypted" or (encryption and first != "unencrypted")
