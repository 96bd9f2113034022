"""A large ClientHello: when it may be sent, and what its fate proves."""

import pytest

from pathfit.core.measured import Bracket, FlightTry
from pathfit.measure.flight import Known, bracket, judge, known, second_round

HOLE = Known(carries=False, packet=1500, hello=1720, rtt=0.001, lossy=False)
OPEN = Known(carries=True, packet=1500, hello=1720, rtt=0.001, lossy=False)


def forward(passes: int | None, fails: int | None = None, **more: object) -> Bracket:
    told = {"method": "tcp-sack", "tests": "forward", "grade": "proof"} | more
    return Bracket(passes=passes, fails=fails, **told)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("measured", "sendable", "wanted"),
    [
        (forward(1500), 1500, True),
        (forward(1400, 1401), 1500, False),
        (forward(1400, 1401, grade="step"), 1500, False),
        (forward(4000, 4001), 9000, True),  # the flight of 1772 fits below the hole
        (forward(1412, 1413, grade="told", told_mtu=1412), 1500, "flight-would-teach"),
        (forward(1450, 1451, note="told-in-part"), 1500, "flight-out-unknown"),
        (forward(1400, note="unproven", grade="none"), 1500, "flight-out-unknown"),
        (forward(1400, grade="none"), 1500, "flight-out-unknown"),
        (forward(None), 1500, "flight-out-unknown"),
        (None, 1500, "flight-out-unknown"),
    ],
)
def test_it_is_sent_only_where_it_teaches_nobody(measured: Bracket | None, sendable: int, wanted: bool | str) -> None:
    found = known(measured, sendable, 4, 1720, 0.001, lossy=False)
    assert (found if isinstance(found, str) else found.carries) == wanted


def tries(text: str) -> list[FlightTry]:
    """ "large lost, small answered" """
    words = [t.split() for t in text.split(",")]
    return [FlightTry(kind=k, outcome=o, hello=1720, packet=1500) for k, o in words]  # type: ignore[arg-type]


LOST = "large lost, small answered, large lost, large lost, small answered"
RESET = "large reset, small answered, large reset, large reset, small answered, small answered"


@pytest.mark.parametrize(
    ("know", "said", "verdict", "how"),
    [
        (OPEN, "large answered, small unfinished", "passes", ""),
        (HOLE, "large answered, small answered", "passes", ""),
        (OPEN, "large lost, small answered, large answered", "passes", ""),  # the first met loss
        (OPEN, "large alert, small alert", "passes", ""),  # it does not like either, and says so to both
        (HOLE, LOST, "lost", "lost"),
        (HOLE, "large lost, small answered, large lost, small answered", "undecided", ""),
        (HOLE, LOST.replace("small answered", "small lost"), "undecided", ""),
        (HOLE, RESET, "undecided", "reset"),
        (OPEN, f"{RESET}, padded reset, padded reset, split answered", "intolerant", "reset"),
        (OPEN, f"{LOST}, padded lost, padded lost, split answered", "intolerant", "lost"),
        (OPEN, f"{RESET}, padded answered, padded answered, split answered", "refused", "reset"),
        (OPEN, f"{RESET}, padded reset, padded silent, split answered", "undecided", "reset"),
        (OPEN, RESET, "undecided", "reset"),
        (OPEN, "large reset, small answered, large silent, large reset, padded reset, padded reset", "undecided", ""),
        (OPEN, RESET.replace("small answered", "small reset"), "undecided", ""),
        (OPEN, "large unconnected, small unconnected", "undecided", ""),
    ],
)
def test_verdicts(know: Known, said: str, verdict: str, how: str) -> None:
    flight = judge(know, tries(said))
    assert (flight.verdict, flight.how) == (verdict, how)
    shown = bracket(flight)
    assert (shown.method, shown.tests, bool(shown.note)) == ("tls-first-flight", "forward", True)
    assert (shown.fails is not None) == (verdict == "lost")


def test_what_cannot_be_explained_by_size_takes_more() -> None:
    assert second_round(HOLE) == ("small", "large", "large")
    assert {"padded", "split"} <= set(second_round(OPEN))
    assert OPEN.patience > 1 > HOLE.patience
