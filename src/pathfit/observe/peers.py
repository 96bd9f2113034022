"""Which namespace a link's other end is in: IFLA_LINK_NETNSID to NetnsSnapshot.id.

Every namespace numbers the others in its own way (net/core/net_namespace.c). The kernel tells the number of a
namespace we hold a file of (RTM_GETNSID with NETNSA_FD), so we ask from the inside of the one that has the link. Most
links lead to one of a few hubs, and a leaf is asked about those while it is read: it has few numbers, where the kernel
searches a hub's thousand one after the other. What is left is asked at the end, the likely ones first: a veth's other
half points back at it by ifindex.
"""

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress

from msgspec.structs import replace

from pathfit.core.snapshot import Link, NetnsSnapshot
from pathfit.host.nlsocket import NETLINK_ROUTE, NetlinkSocket
from pathfit.wire import rtnl
from pathfit.wire.netlink import Malformed

Known = dict[str, dict[int, str]]  # namespace id -> its numbers -> namespace id
# (own index, index of the other end) -> the links that say so: their namespace, its number for the other, kind. The two
# halves of a veth stand under (i, j) and (j, i).
Ends = dict[tuple[int, int], list[tuple[str, int, str]]]

LEAF = 4  # numbers of other namespaces: who has more is a hub
HUBS = 3  # remembered
ASKED = 20_000  # questions to the kernel that are shots in the dark, about 3 microseconds each


class Peers:
    """What a tour through namespaces learns of who is joined with whom."""

    def __init__(self) -> None:
        self.files: dict[str, int] = {}  # an open file of each namespace
        self.known: Known = {}
        self._hubs: list[tuple[int, str]] = []  # those with most numbers, and how many
        self._shots = ASKED
        self._ends: Ends = {}

    def meet(self, sock: NetlinkSocket, here: str, links: Iterable[Link]) -> None:
        """Standing in ``here`` with ``sock`` open there: is one of the hubs met before behind a link?"""
        numbers = {n for x in links if (n := x.peer_nsid) is not None and n >= 0}
        if len(numbers) > LEAF:
            self._hubs = sorted([*self._hubs, (len(numbers), here)], reverse=True)[:HUBS]
            return
        try:
            for _, hub in self._hubs:
                if not numbers:
                    return
                if hub in self.files:
                    numbers.discard(self._number(sock, here, hub))
        except (OSError, Malformed):  # resolve() asks again
            return

    def resolve(self, snapshots: Iterable[NetnsSnapshot], enter: Callable[[int, str], None]) -> list[NetnsSnapshot]:
        """The snapshots with ``peer_ns`` of their links filled in where it can be known. ``enter`` as from
        ``netns.wandering``."""
        all_of_them = list(snapshots)
        self._join(all_of_them)
        for snapshot in sorted(all_of_them, key=lambda s: -len(s.links)):  # what hubs learn, leaves need not ask
            if snapshot.id in self.files and self._lacking(snapshot):
                with suppress(OSError):  # it may be gone by now; its links stay without peer_ns: "unknown"
                    enter(self.files[snapshot.id], snapshot.id)
                    self._ask(snapshot)
        return [_with_peers(s, self.known[s.id]) for s in all_of_them]

    def _join(self, snapshots: Iterable[NetnsSnapshot]) -> None:
        """A veth has two halves: where ours leads to, the other one's number means us."""
        ends: Ends = {}
        for snapshot in snapshots:
            self.known.setdefault(snapshot.id, {})
            for link in snapshot.links:
                if (number := link.peer_nsid) is not None and number >= 0:
                    ends.setdefault((link.index, link.peer), []).append((snapshot.id, number, link.kind))
        for (index, peer), halves in ends.items():
            for here, number, kind in halves:
                if kind == "veth" and (there := self.known[here].get(number)):
                    for other, back, other_kind in ends.get((peer, index), ()):
                        if other == there and other_kind == "veth":
                            self.known[other].setdefault(back, here)
        self._ends = ends

    def _lacking(self, snapshot: NetnsSnapshot) -> set[int]:
        """Its numbers of others that are not known yet."""
        known = self.known[snapshot.id]
        return {n for x in snapshot.links if (n := x.peer_nsid) is not None and n >= 0 and n not in known}

    def _ask(self, snapshot: NetnsSnapshot) -> None:
        """Standing in ``snapshot``: first the namespaces with a link that points back, then all others."""
        with NetlinkSocket(NETLINK_ROUTE) as sock:
            for link in snapshot.links:
                if link.peer_nsid is not None and link.peer_nsid not in self.known[snapshot.id]:
                    self._candidates(sock, snapshot, link)
            if not (wanted := self._lacking(snapshot)):
                return
            for other in self.files:
                if self._shots <= 0:
                    return
                self._shots -= 1
                wanted.discard(self._number(sock, snapshot.id, other))
                if not wanted:
                    return

    def _candidates(self, sock: NetlinkSocket, snapshot: NetnsSnapshot, link: Link) -> None:
        for other, number, kind in self._ends.get((link.peer, link.index), ()):
            if number in self.known[other] or other not in self.files:
                continue
            if self._number(sock, snapshot.id, other) == link.peer_nsid:
                if (
                    kind == link.kind == "veth"
                ):  # it has two halves: where ours leads to, the other one's number means us
                    self.known[other][number] = snapshot.id
                return

    def _number(self, sock: NetlinkSocket, here: str, other: str) -> int:
        number = sock.ask(rtnl.nsid_of(self.files[other]), rtnl.nsid)
        if number is None or number < 0:
            return rtnl.NSID_UNASSIGNED
        self.known.setdefault(here, {})[number] = other
        return number


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
    links = [
        replace(x, peer_ns=found) if x.peer_nsid is not None and (found := known.get(x.peer_nsid)) else x
        for x in snapshot.links
    ]
    return replace(snapshot, links=tuple(links))
