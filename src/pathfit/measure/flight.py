"""A large ClientHello as a first flight: which to send when, and what their fates prove. Pure.

::

    round 1   a large one and a small one; the large one is answered: done
    round 2   two more of each; where packets as large are known to get out also two of the same length without the new
              key share, and a small one in two segments

A large first flight *lost* is a hole of the path (the way out was measured before, and loses such packets): then the
small one beside it is answered. Where the way out carries such packets and it is still not answered, three times, nor
is one of the same length with other contents, while the small ones are, somebody on the way or at the end does not bear
a ClientHello that long. Anything less regular is undecided.
"""

from collections.abc import Sequence
from typing import Literal

import msgspec

from pathfit.core.measured import Bracket, Flight, FlightTry, FlightVerdict
from pathfit.core.net import IP_HEADER, TCP_HEADER, TIMESTAMPS
from pathfit.measure.verdict import SETTLE, SETTLE_LOSS, UNEVEN_AGE

Kind = Literal["large", "padded", "small", "split"]
REPEATS = 3  # large ones that failed
SECOND = 0.25  # seconds without an answer after which the second round begins; longer than one retransmission takes
NOTES: dict[FlightVerdict, str] = {
    "passes": "flight-passes",
    "lost": "flight-lost",
    "intolerant": "flight-intolerant",
    "refused": "flight-refused",
    "undecided": "flight-undecided",
}
FAILED = ("alert", "reset", "closed", "silent", "lost", "garbage")


class Known(msgspec.Struct, frozen=True):
    """What was measured before: ``carries``: the way out carries packets of the flight's size; otherwise it loses them
    in silence. ``packet``: the largest IP packet the flight goes out in."""

    carries: bool
    packet: int
    hello: int
    rtt: float
    lossy: bool

    @property
    def patience(self) -> float:
        """Seconds without an answer after which there is none. What is known to be lost is waited for as any gap is."""
        if self.carries:
            return max(UNEVEN_AGE, 4 * self.rtt)
        return max(2 * self.rtt, SETTLE_LOSS if self.lossy else SETTLE)


def known(forward: Bracket | None, sendable: int, family: int, hello: int, rtt: float, lossy: bool) -> Known | str:
    """What allows a large flight, which our kernel sends and which therefore may teach it a path MTU; or why it must
    not be sent: a message id. ``sendable``: the largest IP packet our TCP would send, bytes."""
    packet = min(sendable, hello + IP_HEADER[family] + TCP_HEADER + TIMESTAMPS)
    if forward is None or forward.passes is None or forward.note in ("told-in-part", "uneven", "unproven"):
        return "flight-out-unknown"
    if forward.told_mtu is not None or forward.told_by is not None or forward.grade == "told":
        return "flight-would-teach"
    if forward.passes >= packet:
        return Known(True, packet, hello, rtt, lossy)
    if forward.fails is not None and forward.fails <= packet and forward.grade in ("proof", "step"):
        return Known(False, packet, hello, rtt, lossy)
    return "flight-out-unknown"


FIRST_ROUND: tuple[Kind, ...] = ("small", "large")  # small ones first: some servers serve one after the other


def second_round(know: Known) -> tuple[Kind, ...]:
    """What is sent when the first large one is not answered."""
    more: tuple[Kind, ...] = ("small", "large", "large")
    return ("small", *more, "padded", "padded", "split") if know.carries else more


def judge(know: Known, tries: Sequence[FlightTry]) -> Flight:
    """The verdict. Notes: "flight-small-too" (the small one fares no better: that is not about size),
    "flight-unlike" (several of one kind fared differently)."""
    verdict, how, note = _judged(know, tries)
    split = next((t.outcome for t in tries if t.kind == "split"), "")
    return Flight(
        verdict=verdict,
        hello=know.hello,
        packet=know.packet,
        how=how,
        split=split,
        note=note,
        tries=tuple(tries),
    )


def _judged(know: Known, tries: Sequence[FlightTry]) -> tuple[FlightVerdict, str, str | None]:
    large, padded, small = (_of(tries, kind) for kind in ("large", "padded", "small"))
    if "answered" in large or (large and {*large, *small} == {"alert"}):
        return "passes", "", None
    if not small or set(small) != {"answered"}:
        return "undecided", "", "flight-small-too"
    if len(large) < REPEATS or len(set(large)) > 1 or large[0] not in FAILED:
        return "undecided", "", "flight-unlike"
    how = large[0]
    if not know.carries:
        return ("lost", how, None) if how == "lost" else ("undecided", how, "flight-unlike")
    if padded and "answered" in padded:
        return "refused", how, None
    if len(padded) > 1 and set(padded) == {how}:
        return "intolerant", how, None
    return "undecided", how, "flight-unlike"


def _of(tries: Sequence[FlightTry], kind: Kind) -> list[str]:
    return [t.outcome for t in tries if t.kind == kind and t.outcome not in ("unconnected", "unfinished")]


def bracket(flight: Flight) -> Bracket:
    """What stands under ``tried``: the largest packet of a first flight that got an answer, or did not."""
    lost = flight.verdict == "lost"
    return Bracket(
        method="tls-first-flight",
        tests="forward",
        passes=flight.packet if flight.verdict in ("passes", "refused") else None,
        fails=flight.packet if lost else None,
        grade="proof" if lost or flight.verdict == "passes" else "none",
        note=flight.note or NOTES[flight.verdict],
    )


def outcome(
    *, over: bool, connected: bool, answered: bool, alert: bool, garbage: bool, ended: str | None, acked: bool
) -> str:
    """How one ClientHello fared; ``over``: nothing more was waited for."""
    if not connected:
        return "unconnected"
    for is_so, word in ((answered, "answered"), (alert, "alert"), (garbage, "garbage")):
        if is_so:
            return word
    if ended in ("reset", "closed"):
        return ended
    return "unfinished" if not over else "silent" if acked else "lost"
