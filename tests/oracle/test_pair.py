"""Random networks, measured between two ends of ours, held against single packets: the byte, and told or not.

Labs whose filters look at ports are left out: there the measurement's ports are others than the truth's.
"""

from typing import NamedTuple

import pytest

from oracle.build import Built
from oracle.generate import Lab, generate
from oracle.truth import Ends, Talk
from pathfit.core.evidence import ProbeResult
from pathfit.core.measured import Bracket
from pathfit.core.net import Direction
from pathfit.core.request import Measure
from pathfit.probe.pair.outcome import measure_pair

SEEDS = (1, 5, 9, 15, 16, 17, 22, 25, 36, 49, 57, 105)
PATIENCE = 0.2
LESSONS = 9  # limits of one path, each told by another device


class End(NamedTuple):
    """Where a sender that obeys ends: ``passes`` bytes, or in silence above them."""

    told: bool
    size: int


def obeying(talk: Talk, reverse: bool, size: int) -> End:
    """What becomes of a sender that begins with ``size`` and does what it is told."""
    for _ in range(LESSONS):
        seen = talk.probe(reverse, size, True)
        if seen.how in ("whole", "pieces"):
            return End(True, size)
        if seen.value is None or seen.value >= size:  # lost, or nothing to obey
            break
        size = seen.value
    return End(False, size)


def check(talk: Talk, r: ProbeResult, tests: Direction, b: Bracket) -> None:
    reverse = tests == "reverse"
    assert (talk.small(True) if reverse else talk.small(False)).how == "whole"
    assert b.passes is not None and b.method == "udp-pair" and b.grade != "none"
    below = talk.probe(reverse, b.passes, True)
    above = talk.probe(reverse, b.passes + 1, True)
    if below.how == above.how == "error":
        return  # the sender's own route allows less than its device
    assert below.how in ("whole", "pieces")
    if b.fails is None:
        assert above.how == "error", "its own device lets out no more"
        return
    assert b.fails == b.passes + 1 and above.how not in ("whole", "pieces")
    largest = max(a.size for a in r.attempts if a.tests == tests and a.method == b.method)
    said = [t.heard for t in r.too_big if t.tests == tests and t.ours and t.sane]
    assert obeying(talk, reverse, largest).told == (b.grade == "told" and (any(said) or not said))


@pytest.mark.lab
@pytest.mark.parametrize("seed", SEEDS)
def test_the_measurement_agrees_with_single_packets(seed: int) -> None:
    lab: Lab = generate(seed)
    with Built(lab.text, lab.offload) as built:
        r = measure_pair(
            built.spaces[lab.a].fd,
            built.spaces[lab.b].fd,
            Measure(ref="p", source="a", far="b", address=lab.to, port=0, protocol="icmp"),
        )
        assert isinstance(r, ProbeResult)
        built.forget()
        talk = Talk(built, lab.family, Ends(lab.a, lab.b, lab.to, lab.at, lab.sport, lab.dport), PATIENCE)
        try:
            assert talk.open().how == "whole"
            check(talk, r, "forward", r.forward[0])
            check(talk, r, "reverse", r.reverse[0])
        finally:
            talk.close()
