"""Typed by hand or done by apply/: the same state, and after the undo the one before. In real namespaces."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cases import case, hole, probe
from msgspec.structs import replace
from topo_lab import Lab

from pathfit import diagnose
from pathfit.apply.steps import step_of
from pathfit.core.finding import Fix
from pathfit.observe.kernel import read_host

STATE = Path(__file__).parents[1] / "accept" / "state.py"
TEXT = """
c eth0 1500 198.18.1.2/24 2001:db8:1::2/64 -- h vc 1500 @br0
h br0 bridge 1500 198.18.1.1/24 2001:db8:1::1/64
h eth0 1500 198.18.2.2/24 2001:db8:2::2/64 -- r rh 1500 198.18.2.1/24 2001:db8:2::1/64
c route default via 198.18.1.1 metric 7 src 198.18.1.2 advmss 1440
c route default via 2001:db8:1::1 metric 9
h route default via 198.18.2.1
h route default via 2001:db8:2::1
h forward
"""
SIX = {"address": "2001:db8:3::2", "family": 6}
TARGETS: dict[str, dict[str, Any]] = {
    "v4": {},
    "v6": {"contact": SIX},
    "connected": {"contact": {"address": "198.18.1.9"}},
}

pytestmark = pytest.mark.lab


@pytest.fixture
def lab() -> Iterator[Lab]:
    if not all(map(shutil.which, ("ip", "nft"))):
        pytest.skip("needs ip and nft")
    one = Lab(TEXT)
    try:
        one.up()
        yield one
    finally:
        one.down()


def state(lab: Lab) -> Any:
    done = subprocess.run([sys.executable, str(STATE), lab.prefix], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def proposed(lab: Lab, limit: int, measured: dict[str, Any]) -> dict[str, Fix]:
    """What would be proposed in that lab, had it been measured so. Only c and h are visible."""
    names = [f"netns:{lab.prefix}-{n}" for n in "ch"]
    found = read_host(None)
    seen = replace(found, namespaces=tuple(n for n in found.namespaces if n.where in names))
    source = next(n for n in seen.namespaces if n.where == names[0])
    run = case(
        seen,
        probe(reverse=(hole(limit),), **measured),
        place={"where": names[0], "netns": source.id},
        more={"source": names[0]},
    )
    return {x.id: x for f in diagnose.report(run).findings if f.code == "MTU101" for x in f.fixes}


def typed(words: tuple[tuple[str, ...], ...]) -> None:
    for argv in words:
        done = subprocess.run(argv, capture_output=True, text=True)
        assert done.returncode == 0, f"{argv}: {done.stderr}"


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("id_", ["route-mtu", "link-mtu", "mss-clamp"])
def test_typed_or_applied(lab: Lab, id_: str, target: str) -> None:
    before = state(lab)
    fixes = proposed(lab, 1400, TARGETS[target])
    if id_ not in fixes:
        assert (id_, target) == ("mss-clamp", "connected")  # nobody forwards there
        return
    fix = fixes[id_]
    done = [(step_of(c), c, step_of(c).prepare(c, "test")) for c in fix.changes]
    for step, change, prepared in done:
        step.perform(change, prepared, "test")
    applied = state(lab)
    assert all(step.holds(change, prepared) for step, change, prepared in done)
    for step, change, prepared in reversed(done):
        step.undo(change, prepared, "test")
    assert state(lab) == before
    typed(fix.commands)
    assert state(lab) == applied != before
    typed(fix.undo)
    assert state(lab) == before


def test_the_cache_is_forgotten_either_way(lab: Lab) -> None:
    """A path MTU that the kernel learned is gone after the command as after the change."""
    from pathfit.core.change import FlushRouteCache

    where = f"netns:{lab.prefix}-c"
    ns = next(n for n in read_host(None).namespaces if n.where == where)
    change = FlushRouteCache(netns=ns.id, where=where, family=4)
    lab.run("h", "ip", "link", "set", "eth0", "mtu", "1300")
    for forget in (
        lambda: step_of(change).perform(change, step_of(change).prepare(change, "test"), "test"),
        lambda: typed((("ip", "-n", f"{lab.prefix}-c", "-4", "route", "flush", "cache"),)),
    ):
        lab.run("c", "ping", "-c", "1", "-W", "1", "-M", "do", "-s", "1400", "198.18.2.1")
        assert "mtu 1300" in lab.run("c", "ip", "route", "get", "198.18.2.1")
        forget()
        assert "mtu 1300" not in lab.run("c", "ip", "route", "get", "198.18.2.1")
