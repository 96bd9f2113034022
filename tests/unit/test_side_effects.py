"""What probing may have left behind: the difference of two readings, and only where there is none a guess."""

import pytest
from cases import ADDRESS, BLIND, case, other, probe
from msgspec.structs import replace

from pathfit import diagnose
from pathfit.core.case import Case
from pathfit.core.evidence import NameFact, RememberedFact
from pathfit.core.measured import SideEffect
from pathfit.core.remembered import Remembered, TcpMetrics, mine, theirs
from pathfit.core.request import ReadRemembered
from pathfit.core.snapshot import PmtuException

GUESS = SideEffect(where="here", what="learned-path-mtu", lasts=600.0)
FAR_GUESS = SideEffect(where=ADDRESS, what="learned-path-mtu", lasts=600.0)
SOURCE = "198.18.1.2"


def kept(mtu: int = 1400, expires: float = 600.0, dst: str = ADDRESS) -> PmtuException:
    return PmtuException(family=4, dst=dst, mtu=mtu, link=2, via="198.18.1.1", expires=expires)


def read(run: Case, before: Remembered, after: Remembered, *, far: bool = False) -> Case:
    ref, where = (theirs, "netns:s") if far else (mine, "netns:c")
    for when, one in (("before", before), ("after", after)):
        request = ReadRemembered(ref=ref(when), source=where, addresses=(one.address,))
        run = run.add(request, (RememberedFact(ref=ref(when), where=where, of=(one,)),))
    return run


def knows(*exceptions: PmtuException, address: str = ADDRESS, **more: object) -> Remembered:
    return Remembered(address=address, believed=1500, exceptions=exceptions, **more)


def effects(run: Case) -> list[tuple[str, str, int | None, int | None]]:
    return [(s.where, s.what, s.before, s.after) for s in diagnose.report(run).side_effects]


PLAIN = case(BLIND, probe())
GUESSED = case(BLIND, probe(side_effects=(GUESS, FAR_GUESS)))
LEARNED = ("here", "learned-path-mtu")


@pytest.mark.parametrize(
    ("run", "expected"),
    [
        (PLAIN, []),
        (GUESSED, [(*LEARNED, None, None), (ADDRESS, "learned-path-mtu", None, None)]),  # nobody was asked
        (read(GUESSED, knows(), knows()), [(ADDRESS, "learned-path-mtu", None, None)]),  # the kernel says otherwise
        (read(GUESSED, knows(), knows(kept())), [(ADDRESS, "learned-path-mtu", None, None), (*LEARNED, 1500, 1400)]),
        (read(PLAIN, knows(kept(expires=300.0)), knows(kept(expires=298.0))), []),  # it was there, and runs out
        (
            read(PLAIN, knows(kept(expires=300.0)), knows(kept(expires=600.0))),
            [(*LEARNED, 1400, 1400)],
        ),  # learned again
        (read(PLAIN, knows(kept(1452)), knows(kept(1400))), [(*LEARNED, 1452, 1400)]),
        (read(PLAIN, knows(kept()), knows()), []),  # what ran out was not left behind
        (
            read(PLAIN, knows(), knows(metrics=(TcpMetrics(address=ADDRESS, age=1.0, rtt=0.02),))),
            [("here", "tcp-metrics", None, None)],
        ),
        (
            read(
                PLAIN,
                knows(metrics=(TcpMetrics(address=ADDRESS, age=1.0, rtt=0.02),)),
                knows(metrics=(TcpMetrics(address=ADDRESS, age=3.0, rtt=0.02),)),
            ),
            [],  # only older
        ),
        # of the target's namespace, where it is ours: instead of what the prober guessed about it
        (read(GUESSED, knows(address=SOURCE), knows(address=SOURCE), far=True), [(*LEARNED, None, None)]),
        (
            read(PLAIN, knows(address=SOURCE), knows(kept(dst=SOURCE), address=SOURCE), far=True),
            [(ADDRESS, "learned-path-mtu", 1500, 1400)],
        ),
    ],
)
def test_the_difference_counts(run: Case, expected: list[tuple[str, str, int | None, int | None]]) -> None:
    assert effects(run) == expected


def test_how_long_it_lasts_is_what_the_kernel_counts() -> None:
    run = read(PLAIN, knows(), knows(kept(expires=597.0), metrics=(TcpMetrics(address=ADDRESS, age=100.0, rtt=0.1),)))
    found = {s.what: (s.lasts, s.about) for s in diagnose.report(run).side_effects}
    assert found == {"learned-path-mtu": (597.0, ADDRESS), "tcp-metrics": (3500.0, ADDRESS)}


def test_what_was_left_out_of_many_addresses_is_said() -> None:
    name = NameFact(
        ref="name", name="s.example", addresses=(ADDRESS, *(f"198.18.7.{n}" for n in range(1, 12))), more=988
    )
    run = case(BLIND, name, probe(), other())
    run = replace(run, ask=replace(run.ask, target=replace(run.ask.target, host="s.example")))
    said = next(m for m in diagnose.report(run).missing if m.code == "limit")
    assert "999 more addresses" in said.what and "2 were looked at" in said.why
    assert said.how == "--resolve s.example:198.18.7.1"
    assert not [m for m in diagnose.report(PLAIN).missing if m.code == "limit"]
