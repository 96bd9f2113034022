"""Every decoder of `trace`, given anything: what tools/fuzz.py asks with coverage as its guide, by hypothesis."""

import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))
import fuzz

NAMES = list(fuzz.TARGETS)
CHANGES = st.lists(st.tuples(st.integers(0, 600), st.integers(0, 255)), max_size=6)


@pytest.mark.parametrize("name", NAMES)
def test_what_it_begins_with(name: str) -> None:
    """Seeds are whole and right, and cut off anywhere they are no trouble."""
    target = fuzz.TARGETS[name]
    for seed in target.seeds():
        for length in (*range(0, len(seed), 7), len(seed)):
            target.check(seed[:length])


@pytest.mark.parametrize("name", NAMES)
@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_anything(name: str, data: st.DataObject) -> None:
    target = fuzz.TARGETS[name]
    target.check(data.draw(st.binary(max_size=fuzz.MOST)))
    seed = bytearray(data.draw(st.sampled_from(target.seeds())))
    for at, value in data.draw(CHANGES):
        if seed:
            seed[at % len(seed)] = value
    target.check(bytes(seed[: data.draw(st.integers(0, len(seed)))]))
    target.check(bytes(seed))


def test_a_check_finds_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A decoder that keeps too much is no match for it."""
    from pathfit.wire import dissect

    monkeypatch.setattr(dissect, "without_payload", lambda data, found: data + b"more")
    with pytest.raises(AssertionError):
        fuzz.frames(fuzz.TARGETS["frames"].seeds()[0])
