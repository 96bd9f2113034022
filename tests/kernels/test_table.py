"""What fits into a tunnel, on Debian's 6.1 and 6.12: every row measured in a guest, and predicted from what pathfit
read there; both kernels at once."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import vm
from rows import CABLE, INNER, ROWS, TARGETS, Row
from test_model_tunnels import ending

from pathfit.core import codec
from pathfit.core.net import UDP, Flow
from pathfit.core.path import Fate, Predicted
from pathfit.core.snapshot import SCHEMA, HostSnapshot
from pathfit.model import Network, predict
from pathfit.model.tunnels.overhead import Layer, default_mtu, inner, mtu_ceiling, too_big
from pathfit.model.tunnels.stacks import parse

pytestmark = [pytest.mark.slow, pytest.mark.lab]

FAMILIES = (4, 6)
STATES = {"default": TARGETS[0], "raised": TARGETS[1]}
# What the overhead table's words are for three packets that are a byte too large, one after the other.
BECOMES = {
    "error": ["error", "error", "error"],
    "learned": ["lost", "error", "error"],
    "both": ["pieces", "error", "error"],
    "fragmented": ["pieces", "pieces", "pieces"],
    "silent": ["lost", "lost", "lost"],
}
# What is not predicted, by design, with a word of why. MPLS: where the labels lead is not read, what they take is. Open
# vSwitch: which port takes a frame stands in the switch's own tables.
LABELS, SWITCH = "wraps it into mpls", "Open vSwitch, whose flows are not read"
KEYS_UNREAD = ("macsec",)  # small packets are said to arrive, large ones are not: the two ends' keys are not read
ON_A_CABLE = {"ipvlan": 4, "qinq": 4}  # bytes that a veth carries above its MTU: what others leave to a VLAN tag


class Told(NamedTuple):
    """What one kernel said: results by name, and the folder with the snapshots."""

    results: dict[str, dict[str, Any]]
    folder: Path


def asked(guests: Iterable[vm.Guest]) -> dict[str, Told]:
    """Every row, measured in all these guests at the same time; by series. The snapshots are gone when they are."""
    words = f"cd {Path(__file__).parent} && exec {vm.CHECKOUT}/.venv/bin/python measure.py /out"
    found = {}
    for guest, job in [(g, g.start(words)) for g in guests]:
        done = job.wait()
        assert done.status == 0, done.err
        results = json.loads((guest.folder / "results.json").read_text())
        found[guest.kernel.series] = Told({r["name"]: r for r in results}, guest.folder)
    return found


@pytest.fixture(scope="module")
def told(guests: dict[str, vm.Guest]) -> dict[str, Told]:
    return asked(guests.values())


@pytest.fixture(params=vm.SERIES)
def series(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def layer(row: Row) -> Layer:
    return parse(row.stack).layers[0]


def measured(told: dict[str, Told], series: str, row: Row) -> dict[str, Any]:
    found = told[series].results[row.name]
    assert "failed" not in found, found["failed"]
    return found


def predicted(told: Told, row: Row, state: str, family: int, size: int) -> Predicted:
    file = told.folder / f"{ROWS.index(row)}-{state}.json"
    host = codec.load(file.read_bytes(), HostSnapshot, schema=SCHEMA, version="")
    to = CABLE[row.outer][1] if row.on == "cable" else f"{INNER[family]}{STATES[state]}"
    return predict(Network.of(host), "netns:a", Flow(src="", dst=to, proto=UDP, sport=40000, dport=5353, size=size))


@pytest.mark.parametrize("row", ROWS, ids=lambda r: r.name.replace(" ", "-"))
def test_what_was_predicted_is_what_passes(told: dict[str, Told], series: str, row: Row) -> None:
    found, kind = measured(told, series, row), layer(row).kind
    seen = 0
    for state in (x for x in STATES if x in found):
        for family in row.inner:
            one = found[state][str(family)]
            whole, what = one["whole"], f"{state}, IPv{family}: {one}"
            seen += 1
            assert one["again"] == "whole" and one["outer"] <= 1500 + ON_A_CABLE.get(kind, 0), what
            fits, more = (predicted(told[series], row, state, family, size) for size in (whole, whole + 1))
            if row.switched:
                assert fits.fate is more.large is Fate.UNKNOWN and SWITCH in fits.why and not more.limits, fits
                continue
            assert fits.mtu == more.mtu == whole, f"{what}; {fits.mtu} {fits.why}"
            if kind == "mpls":
                assert fits.fate is fits.large is Fate.UNKNOWN and LABELS in fits.why, fits
            else:
                large = Fate.UNKNOWN if kind in KEYS_UNREAD else Fate.DELIVERED
                assert (fits.fate, fits.large) == (Fate.DELIVERED, large), f"{what}; {fits.why}"
            assert more.limits[0].mtu == whole, what
            assert (more.limits[0].then, more.limits[0].told_home) in ending(one["story"]), f"{what}; {more.limits[0]}"
            assert more.large is not Fate.DELIVERED, what
    assert seen


@pytest.mark.parametrize("row", ROWS, ids=lambda r: r.name.replace(" ", "-"))
def test_the_overhead_table_says_the_same(told: dict[str, Told], series: str, row: Row) -> None:
    found, this = measured(told, series, row), layer(row)
    if row.device:
        assert found["default"]["mtu"] == default_mtu(this, 1500)
        if row.alone:
            assert found["mtu_9000"] == default_mtu(this, 9000)
        assert ("raised" in found) is (mtu_ceiling(this, 1500) is None and not row.switched)
    state = found.get("raised", found["default"])
    for family in row.inner:
        room = 1500 + (ON_A_CABLE["ipvlan"] if this.kind == "ipvlan" else 0)
        assert state[str(family)]["whole"] == inner(this, room, state.get("mtu")), state
        assert state[str(family)]["story"] == BECOMES[too_big(this)], state


def test_the_kernels_agree(told: dict[str, Told]) -> None:
    first, second = ({k: {**v, "seconds": 0, "name": k} for k, v in told[x].results.items()} for x in vm.SERIES)
    assert first == second
