"""Who holds a tun or tap device: a VPN or a virtual machine, by /proc/PID/fdinfo ("iff: tun0").

Looked for only when there is such a device. An open tun file does not say which namespace its device is in, so a
name that exists in two namespaces is left unnamed.
"""

from collections import Counter
from collections.abc import Iterable

from msgspec.structs import replace

from pathfit.core.snapshot import NetnsSnapshot
from pathfit.host import procfs

FILES = 20_000  # looked at; each costs about 3 microseconds


def name(snapshots: Iterable[NetnsSnapshot]) -> list[NetnsSnapshot]:
    """The snapshots with ``holder`` ("openvpn[812]") on the tun and tap devices whose holder was found."""
    found = list(snapshots)
    devices = Counter(link.name for s in found for link in s.links if link.kind == "tun")
    if not devices:
        return found
    holders = {n: h for n, h in _holders().items() if devices[n] == 1}
    return [
        replace(
            s,
            links=tuple(
                replace(link, holder=holders[link.name]) if link.kind == "tun" and link.name in holders else link
                for link in s.links
            ),
        )
        if any(link.kind == "tun" for link in s.links)
        else s
        for s in found
    ]


def _holders() -> dict[str, str]:
    found: dict[str, str] = {}
    looked = 0
    for pid in procfs.pids():
        for fd in procfs.names(f"/proc/{pid}/fd"):
            looked += 1
            if looked > FILES:
                return found
            if procfs.link(f"/proc/{pid}/fd/{fd}") != "/dev/net/tun":
                continue
            for line in procfs.maybe(f"/proc/{pid}/fdinfo/{fd}", 4096).splitlines():
                if line.startswith("iff:"):
                    found[line.partition(":")[2].strip()] = f"{procfs.maybe(f'/proc/{pid}/comm', 64)}[{pid}]"
    return found
