"""Who holds a tun or tap device: a VPN or a virtual machine, by /proc/PID/fdinfo ("iff: tun0").

Looked for only when there is such a device. Names are not unique: "tun0" of a container is not that of its host. Which
namespace a device is in the kernel says of the open file itself (TUNGETDEVNETNS, :mod:`pathfit.host.tun`); where it may
not be asked, a name that exists in two namespaces is left unnamed.

Of programs that are known, also what they were configured by, as far as their command line says so and their files are
ours: the configuration of OpenVPN, the database of Open vSwitch. It is named, not read: keys stand in there.
"""

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import pairwise
from typing import NamedTuple

from msgspec.structs import replace

from pathfit.core.snapshot import Link, NetnsSnapshot
from pathfit.host import procfs, tun
from pathfit.observe.processes import argv_of, namespace_of, root_of

FILES = 20_000  # looked at; each costs about 3 microseconds
DATABASE = "/var/run/openvswitch/db.sock"  # where ovs-vswitchd looks when it is told nothing (ovs-vswitchd(8))
WG_QUICK = "/etc/wireguard/{link}.conf"  # wg-quick(8)


class _Held(NamedTuple):
    """An open file: the device's name, the id of its namespace ("" unknown), and whose it is."""

    link: str
    space: str
    pid: int
    program: str


def name(snapshots: Iterable[NetnsSnapshot]) -> list[NetnsSnapshot]:
    """The snapshots with ``holder`` ("openvpn[812]") on the tun and tap devices whose holder was found, and
    ``holder_config`` where that is certain."""
    found = list(snapshots)
    devices = Counter(link.name for s in found for link in s.links if link.kind == "tun")
    if not devices:
        return found
    sure: dict[tuple[str, str], _Held] = {}
    guessed: dict[str, _Held] = {}
    for held in _holders():
        if held.space:
            sure[held.space, held.link] = held
        elif devices[held.link] == 1:
            guessed[held.link] = held

    def named(space: str, link: Link) -> Link:
        held = sure.get((space, link.name)) or guessed.get(link.name) if link.kind == "tun" else None
        if held is None:
            return link
        return replace(link, holder=f"{held.program}[{held.pid}]", holder_config=_config(held))

    return [
        replace(s, links=tuple(named(s.id, link) for link in s.links)) if any(x.kind == "tun" for x in s.links) else s
        for s in found
    ]


def _holders() -> Iterator[_Held]:
    looked = 0
    for pid in procfs.pids():
        for fd in procfs.names(f"/proc/{pid}/fd"):
            looked += 1
            if looked > FILES:
                return
            if procfs.link(f"/proc/{pid}/fd/{fd}") != "/dev/net/tun":
                continue
            for line in procfs.maybe(f"/proc/{pid}/fdinfo/{fd}", 4096).splitlines():
                link = line.partition(":")[2].strip()
                if line.startswith("iff:") and link:
                    yield _Held(link, _space(pid, int(fd)), pid, procfs.maybe(f"/proc/{pid}/comm", 64))


def _space(pid: int, fd: int) -> str:
    with suppress(OSError, AttributeError):  # os.pidfd_open is not in every Python
        return tun.space_of(pid, fd)
    return ""


def _config(held: _Held) -> str | None:
    """The file (or socket) that the holder was configured by; None when that is not certain.

    It must stand where we stand: with our files, and in the namespace of its device, for what it is told it does there.
    """
    if not held.space or namespace_of(held.pid) != held.space or root_of(held.pid) is not None:
        return None
    words = argv_of(held.pid)[1:]
    if held.program == "openvpn":
        return _of_openvpn(words, procfs.link(f"/proc/{held.pid}/cwd"))
    if held.program == "ovs-vswitchd":
        given = next((w for w in words if not w.startswith("-")), f"unix:{DATABASE}")
        return given.removeprefix("unix:") if given.startswith("unix:/") else None
    if held.program == "wireguard-go":
        path = WG_QUICK.format(link=held.link)
        return path if os.path.isfile(path) else None
    return None


def _of_openvpn(words: tuple[str, ...], cwd: str) -> str | None:
    """The one file it was started with: `openvpn FILE` or `openvpn … --config FILE` (openvpn(8))."""
    given = dict(pairwise(words))
    named = words[0] if len(words) == 1 and not words[0].startswith("-") else given.get("--config", "")
    if not named or words.count("--config") > 1:
        return None
    path = os.path.normpath(os.path.join(cwd, given.get("--cd", ""), named))
    return path if path.startswith("/") else None
