"""Cables of which both halves are watched: each tap hears what comes in, and that is what left by the other half.

For each packet that leaves, the kernel copies it before any filter of ours runs (dev_queue_xmit_nit()), whosever it is:
that is half of what taps cost others. What a cable took and did not give back, the tracing program tells, packet by
packet; without it, or without names of the kernel's functions, nobody could say on which side of a tap it was.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from pathfit.capture.drops import Drop
from pathfit.core.tracing import Seen, Tap, inode
from pathfit.host.ring import Ring
from pathfit.model.dropped import came_across, in_cable
from pathfit.wire import dissect
from pathfit.wire.dissect import ETH_IPV4, ETH_IPV6

ETHERNET = 14


class Cables:
    """``far``: of each tap that hears only what comes in the one at the other half, by their numbers."""

    def __init__(self) -> None:
        self.far: dict[int, int] = {}

    def halve(self, pairs: Sequence[tuple[int, int]], rings: Mapping[int, Ring]) -> None:
        """From now on. A pair of which one cannot be heard is left as it is, and so are all before Linux 4.20."""
        for a, b in pairs:
            if a not in rings or b not in rings:
                continue
            try:
                rings[a].leave_out(True)
                rings[b].leave_out(True)
            except OSError:
                continue
            self.far |= {a: b, b: a}

    def left(self, seen: Seen) -> Seen | None:
        """How a packet that came in left by the other half."""
        if seen.out or seen.tap not in self.far:
            return None
        return replace(seen, tap=self.far[seen.tap], time=seen.time - 1, out=True)

    def in_between(self, drops: Sequence[Drop], taps: Sequence[Tap], began: int) -> tuple[list[Seen], Counter[int]]:
        """What left by a half and was dropped before it came in by the other one; and of each tap, how many more of
        which that is not known. ``began``: of the watch (CLOCK_MONOTONIC)."""
        named = {(inode(taps[n].netns), taps[n].at.link): n for n in self.far}
        found: list[Seen] = []
        unknown: Counter[int] = Counter()
        for drop in drops:
            at, functions = named.get((drop.at.netns, drop.at.device)), (drop.function, *drop.callers)
            within = in_cable(functions) if at is not None else False
            if at is None or within is False:
                continue
            tap = self.far[at] if came_across(functions) else at
            seen = _seen(drop, tap, began) if within else None
            if seen is None:
                unknown += Counter({at: 1, self.far[at]: 1})
            else:
                found.append(seen)
        return found, unknown

    def lost(self, own: Mapping[int, int], unheard: int) -> Counter[int]:
        """What each tap lost: what left by a half is lost with what came in by the other one. ``own``: by its ring;
        ``unheard``: drops of which nobody heard."""
        return Counter(own) + Counter({n: own.get(far, 0) + unheard for n, far in self.far.items()})


def _seen(drop: Drop, tap: int, began: int) -> Seen | None:
    """The kernel has its headers from the IP header on: whose MAC addresses it had, nobody knows."""
    if not drop.packet.layers:
        return None
    ip = drop.packet.layers[0].ip
    kind = (ETH_IPV4 if ip.family == 4 else ETH_IPV6).to_bytes(2, "big")
    data = bytes(ETHERNET - len(kind)) + kind + drop.at.headers[: ip.size or None]
    length = ETHERNET + ip.size if ip.size else drop.at.length
    kept = dissect.without_payload(data, dissect.frame(data))
    return Seen(tap=tap, time=drop.at.time - began - 1, length=length, out=True, data=kept)
