"""The database of Open vSwitch, over its unix socket (RFC 7047): a few transactions, bounded in time and bytes.

Who listens there may be broken or hostile: an answer has a deadline and a size, and what is no answer is a ValueError.
"""

import json
import socket
import time
from typing import Any, NamedTuple

DATABASE = "Open_vSwitch"
BYTES = 1 << 20  # of one answer; those to our questions have a few hundred
PATIENCE = 5.0  # seconds for one transaction
POLL = 0.02  # seconds between two looks at what ovs-vswitchd has done


def transact(path: str, *operations: dict[str, Any]) -> list[dict[str, Any]]:
    """Results of the operations, all or none done (RFC 7047 section 4.1.3). Raises OSError, ValueError."""
    question = {"method": "transact", "params": [DATABASE, *operations], "id": 1}
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as sock:
        sock.settimeout(PATIENCE)
        sock.connect(path)
        sock.sendall(json.dumps(question).encode())
        answer = _answer(sock, time.monotonic() + PATIENCE)
    results = answer.get("result")
    if answer.get("error") or not isinstance(results, list) or len(results) < len(operations):
        raise ValueError(f"the database refuses: {str(answer.get('error'))[:200]}")
    for result in results:
        if not isinstance(result, dict) or "error" in result:
            said = result.get("details") or result.get("error") if isinstance(result, dict) else result
            raise ValueError(f"the database refuses: {str(said)[:200]}")
    return results


def _answer(sock: socket.socket, end: float) -> dict[str, Any]:
    """The message with our id. Messages follow each other without anything between them."""
    text, decoder = "", json.JSONDecoder()
    data = b""
    while True:
        try:
            message, at = decoder.raw_decode(text)
        except ValueError:
            left = end - time.monotonic()
            if left <= 0:
                raise TimeoutError("no answer in time") from None
            sock.settimeout(left)
            more = sock.recv(65536)
            if not more or len(data) > BYTES:
                raise ValueError("what answers there does not speak OVSDB") from None
            data += more
            text = data.decode("utf-8", "replace").lstrip()
            continue
        except RecursionError:
            raise ValueError("what answers there does not speak OVSDB") from None
        if isinstance(message, dict) and message.get("id") == 1 and "result" in message:
            return message
        text = text[at:].lstrip()
        data = text.encode()


class Interface(NamedTuple):
    """``request``: its mtu_request, ``mtu``: of its device, as ovs-vswitchd saw it last (bytes; None: none)."""

    uuid: str
    request: int | None
    mtu: int | None


def interface(path: str, name: str) -> Interface | None:
    """An interface by its name; None: there is no such one. Raises OSError, ValueError."""
    columns = ["_uuid", "mtu_request", "mtu"]
    (found,) = transact(
        path, {"op": "select", "table": "Interface", "where": [["name", "==", name]], "columns": columns}
    )
    rows = found.get("rows")
    if not isinstance(rows, list) or len(rows) > 1:
        raise ValueError("the database knows several interfaces of one name")
    if not rows:
        return None
    if not isinstance(rows[0], dict):
        raise ValueError("the database's answer is senseless")
    uuid, wanted, mtu = (rows[0].get(x) for x in columns)
    if not (isinstance(uuid, list) and len(uuid) == 2 and isinstance(uuid[1], str)):
        raise ValueError("the database's answer is senseless")
    return Interface(uuid[1], wanted if isinstance(wanted, int) else None, mtu if isinstance(mtu, int) else None)


def request_mtu(path: str, uuid: str, mtu: int | None) -> None:
    """Set or clear mtu_request, and wait until ovs-vswitchd has done so (ovs-vsctl(8), next_cfg and cur_cfg).

    Raises OSError (TimeoutError: written, but ovs-vswitchd does not follow), ValueError.
    """
    wanted: Any = ["set", []] if mtu is None else mtu
    own = [["_uuid", "==", ["uuid", uuid]]]
    counted = transact(
        path,
        {"op": "update", "table": "Interface", "where": own, "row": {"mtu_request": wanted}},
        {"op": "mutate", "table": "Open_vSwitch", "where": [], "mutations": [["next_cfg", "+=", 1]]},
        {"op": "select", "table": "Open_vSwitch", "where": [], "columns": ["next_cfg"]},
    )
    goal = _number(counted[2], "next_cfg")
    end = time.monotonic() + PATIENCE
    while True:
        (now,) = transact(path, {"op": "select", "table": "Open_vSwitch", "where": [], "columns": ["cur_cfg"]})
        if _number(now, "cur_cfg") >= goal:
            return
        if time.monotonic() > end:
            raise TimeoutError("ovs-vswitchd does not follow its database")
        time.sleep(POLL)


def _number(result: dict[str, Any], column: str) -> int:
    rows = result.get("rows")
    value = rows[0].get(column) if isinstance(rows, list) and len(rows) == 1 and isinstance(rows[0], dict) else None
    if not isinstance(value, int):
        raise ValueError("the database's answer is senseless")
    return value
