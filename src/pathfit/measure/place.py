"""Where on the way out large packets die: small and large packets with growing TTL. Pure.

A router that drops a packet because its TTL ended answers with a small "time exceeded", whatever came in. So per
TTL the small packet tells that the router talks at all, the large one that it got that far. A hop is accused only
when it answered small twice and neither it nor any later hop answered large (probing.md 10).
"""

import msgspec

from pathfit.core.measured import HopAnswer

TRIES = 2
PACE = 0.05  # seconds between two rounds: icmp_ratelimit gives a router one answer a second after a burst of six


class Hop(msgspec.Struct):
    """One TTL."""

    small: str | None = None
    large: str | None = None
    small_answers: int = 0
    large_answers: int = 0
    small_tries: int = 0
    large_tries: int = 0


class Places(msgspec.Struct):
    """All TTLs. The shell asks :meth:`wanted`, sends, and reports with :meth:`answered`."""

    max_ttl: int
    hops: dict[int, Hop] = msgspec.field(default_factory=dict)
    reached_small: int | None = None  # first TTL at which the target itself answered
    reached_large: int | None = None

    def __post_init__(self) -> None:
        self.hops = {ttl: Hop() for ttl in range(1, self.max_ttl + 1)}

    @property
    def last(self) -> int:
        """No TTL above this says anything new."""
        return min(self.max_ttl, self.reached_small or self.max_ttl)

    def wanted(self, attempt: int) -> list[tuple[int, bool]]:
        """(TTL, large) to send in attempt 0, 1, …: the small ones first, so that a router with few answers left
        spends them on what makes an accusation possible; only where something is still open."""
        out = []
        for large in (False, True):
            for ttl in range(1, self.last + 1):
                hop = self.hops[ttl]
                enough = hop.large_answers >= 1 if large else hop.small_answers >= TRIES
                if not enough and (attempt == 0 or self._open(ttl)):
                    out.append((ttl, large))
        return out

    def _open(self, ttl: int) -> bool:
        """Is it still unknown whether large packets get this far? One that got further got here."""
        return not any(h.large_answers for t, h in self.hops.items() if t >= ttl)

    def sent(self, ttl: int, large: bool) -> None:
        hop = self.hops[ttl]
        if large:
            hop.large_tries += 1
        else:
            hop.small_tries += 1

    def answered(self, ttl: int, large: bool, by: str, target: bool) -> None:
        """``by`` answered; ``target``: it is the target itself."""
        hop = self.hops.get(ttl)
        if hop is None:
            return
        if large:
            hop.large, hop.large_answers = by, hop.large_answers + 1
            if target:
                self.reached_large = min(self.reached_large or ttl, ttl)
        else:
            hop.small, hop.small_answers = by, hop.small_answers + 1
            if target:
                self.reached_small = min(self.reached_small or ttl, ttl)

    def answers(self) -> tuple[HopAnswer, ...]:
        """Nearest first, up to the target or the last TTL anybody answered."""
        most = max((t for t, h in self.hops.items() if h.small or h.large), default=0)
        most = min(most, self.last)
        return tuple(
            HopAnswer(
                ttl=t,
                small=self.hops[t].small,
                large=self.hops[t].large,
                small_tries=self.hops[t].small_tries,
                large_tries=self.hops[t].large_tries,
            )
            for t in range(1, most + 1)
        )


def accused(hops: tuple[HopAnswer, ...]) -> int | None:
    """TTL of the first hop that large packets do not reach although small ones do and no later hop answered large;
    None when nobody can be accused. The segment to blame lies between the hop before and this one."""
    last_large = max((h.ttl for h in hops if h.large), default=0)
    for h in hops:
        if h.ttl > last_large and h.small and h.small_tries >= TRIES and h.large_tries >= TRIES:
            return h.ttl
    return None
