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

Known = dict[str, dict[int, str]]  # namespace id -> its numbers -> namespace id


def resolve(
    snapshots: Iterable[NetnsSnapshot], files: Mapping[str, int], enter: Callable[[int, str], None]
) -> list[NetnsSnapshot]:
    """The snapshots with ``peer_ns`` of their links filled in where it can be known.

    ``files``: an open file of each namespace, by id. ``enter`` as from ``netns.wandering``.
    """
    all_of_them = list(snapshots)
    ends = _ends(all_of_them)
    known: Known = {s.id: {} for s in all_of_them}
    hubs_first = sorted(all_of_them, key=lambda s: -len(s.links))  # what they learn, their neighbours need not ask
    for snapshot in hubs_first:
        wanted = {n for link in snapshot.links if (n := link.peer_nsid) is not None and n >= 0}
        if snapshot.id not in files or wanted <= known[snapshot.id].keys():
            continue
        with suppress(OSError):  # it may be gone by now; its links stay without peer_ns, which says "unknown"
            enter(files[snapshot.id], snapshot.id)
            with NetlinkSocket(NETLINK_ROUTE) as sock:
                _ask(sock, snapshot, wanted, _likely_first(snapshot, ends, known, files), files, known)
                _tell(snapshot, ends, known)
    return [_with_peers(s, known[s.id]) for s in all_of_them]


def unknown(snapshots: Iterable[NetnsSnapshot]) -> bool:
    """Whether some link leads into a namespace that is not among them: a hint that there are more."""
    return any(
        link.peer_ns is None and link.peer_nsid is not None and link.peer_nsid >= 0
        for s in snapshots
        for link in s.links
    )


def together(snapshots: Iterable[NetnsSnapshot], start: str) -> frozenset[str]:
    """Namespaces that hang together with ``start`` by links with an end in each: whatever a packet from it can pass."""
    beside: dict[str, set[str]] = {}
    for s in snapshots:
        for link in s.links:
            if link.peer_ns is not None:
                beside.setdefault(s.id, set()).add(link.peer_ns)
                beside.setdefault(link.peer_ns, set()).add(s.id)
    found, todo = {start}, [start]
    while todo:
        new = beside.get(todo.pop(), set()) - found
        found |= new
        todo += new
    return frozenset(found)


def _with_peers(snapshot: NetnsSnapshot, known: Mapping[int, str]) -> NetnsSnapshot:
    if not known:
        return snapshot
    return replace(snapshot, links=tuple(_with_peer(link, known) for link in snapshot.links))


def _with_peer(link: Link, known: Mapping[int, str]) -> Link:
    found = known.get(link.peer_nsid) if link.peer_nsid is not None else None
    return replace(link, peer_ns=found) if found else link


Ends = dict[tuple[int, int], dict[str, Link]]  # (own index, index of the other end) -> links by namespace id


def _ends(snapshots: Iterable[NetnsSnapshot]) -> Ends:
    """Every link that has its other end elsewhere. The two halves of a veth stand under (i, j) and (j, i)."""
    found: Ends = {}
    for snapshot in snapshots:
        for link in snapshot.links:
            if link.peer_nsid is not None:
                found.setdefault((link.index, link.peer), {})[snapshot.id] = link
    return found


def _likely_first(snapshot: NetnsSnapshot, ends: Ends, known: Known, files: Mapping[str, int]) -> list[str]:
    """Where to look: first the namespaces with a link that points back at one of ours and is not matched yet."""
    likely: dict[str, None] = {}
    for link in snapshot.links:
        if link.peer_nsid is not None and link.peer_nsid not in known[snapshot.id]:
            for other, back in ends.get((link.peer, link.index), {}).items():
                if back.peer_nsid not in known[other]:
                    likely[other] = None
    return list(dict.fromkeys([*likely, *files]))


def _ask(
    sock: NetlinkSocket,
    snapshot: NetnsSnapshot,
    wanted: set[int],
    order: Iterable[str],
    files: Mapping[str, int],
    known: Known,
) -> None:
    learned = known[snapshot.id]
    for other in order:
        if wanted <= learned.keys():
            return
        if other in files:
            number = sock.ask(rtnl.nsid_of(files[other]), rtnl.nsid)
            if number is not None and number >= 0:
                learned[number] = other


def _tell(snapshot: NetnsSnapshot, ends: Ends, known: Known) -> None:
    """A veth has two halves: where ours leads to, the other one's number means us."""
    for link in snapshot.links:
        other = known[snapshot.id].get(link.peer_nsid) if link.peer_nsid is not None else None
        back = ends.get((link.peer, link.index), {}).get(other) if other and link.kind == "veth" else None
        if other and back and back.kind == "veth" and back.peer_nsid is not None:
            known[other].setdefault(back.peer_nsid, snapshot.id)
