"""Which namespace a link's other end is in: IFLA_LINK_NETNSID to NetnsSnapshot.id.

Every namespace numbers the others in its own way (net/core/net_namespace.c). The kernel tells the number of a
namespace we hold a file of (RTM_GETNSID with NETNSA_FD), so we ask from the inside of the one that has the link,
the likely ones first: a veth's other half points back at it by ifindex.
"""

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress

from msgspec.structs import replace

from pathfit.core.snapshot import Link, NetnsSnapshot
from pathfit.host.nlsocket import NETLINK_ROUTE, NetlinkSocket
from pathfit.wire import rtnl


def resolve(
    snapshots: Iterable[NetnsSnapshot], files: Mapping[str, int], enter: Callable[[int, str], None]
) -> list[NetnsSnapshot]:
    """The snapshots with ``peer_ns`` of their links filled in where it can be known.

    ``files``: an open file of each namespace, by id. ``enter`` as from ``netns.wandering``.
    """
    all_of_them = list(snapshots)
    pointing = _pointing(all_of_them)
    made = []
    for snapshot in all_of_them:
        wanted = {link.peer_nsid for link in snapshot.links if link.peer_nsid is not None and link.peer_nsid >= 0}
        if not wanted or snapshot.id not in files:
            made.append(snapshot)
            continue
        known: dict[int, str] = {}
        with suppress(OSError):  # it may be gone by now; its links stay without peer_ns, which says "unknown"
            enter(files[snapshot.id], snapshot.id)
            with NetlinkSocket(NETLINK_ROUTE) as sock:
                _ask(sock, wanted, _likely_first(snapshot, pointing, files), files, known)
        made.append(replace(snapshot, links=tuple(_with_peer(link, known) for link in snapshot.links)))
    return made


def unknown(snapshots: Iterable[NetnsSnapshot]) -> bool:
    """Whether some link leads into a namespace that is not among them: a hint that there are more."""
    return any(
        link.peer_ns is None and link.peer_nsid is not None and link.peer_nsid >= 0
        for s in snapshots
        for link in s.links
    )


def _with_peer(link: Link, known: Mapping[int, str]) -> Link:
    found = known.get(link.peer_nsid) if link.peer_nsid is not None else None
    return replace(link, peer_ns=found) if found else link


def _pointing(snapshots: Iterable[NetnsSnapshot]) -> dict[tuple[int, int], list[str]]:
    """(own index, index of the other end) of every link that has its other end elsewhere: where such links are."""
    found: dict[tuple[int, int], list[str]] = {}
    for snapshot in snapshots:
        for link in snapshot.links:
            if link.peer_nsid is not None:
                found.setdefault((link.index, link.peer), []).append(snapshot.id)
    return found


def _likely_first(
    snapshot: NetnsSnapshot, pointing: Mapping[tuple[int, int], list[str]], files: Mapping[str, int]
) -> list[str]:
    likely = [
        other
        for link in snapshot.links
        if link.peer_nsid is not None
        for other in pointing.get((link.peer, link.index), ())
    ]
    return list(dict.fromkeys([*likely, *files]))


def _ask(
    sock: NetlinkSocket, wanted: set[int], order: Iterable[str], files: Mapping[str, int], known: dict[int, str]
) -> None:
    for other in order:
        if other not in files:
            continue
        number = sock.ask(rtnl.nsid_of(files[other]), rtnl.nsid)
        if number is not None and number >= 0:
            known[number] = other
        if wanted <= known.keys():
            return
