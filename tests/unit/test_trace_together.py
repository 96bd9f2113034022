"""Several traces at once, of the same flow and of different ones: each says what it says alone."""

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from netlab import Net, nets
from weblab import PATHFIT, lost, web

pytestmark = [pytest.mark.lab, pytest.mark.real_root]

HTTPS, HTTP = "https://198.51.100.2:8443/50000", "http://198.51.100.2:8080/50000"


@pytest.fixture
def net() -> Iterator[Net]:
    """c - r - s, where a web server answers."""
    with nets() as net:
        net.routed(("203.0.113", "198.51.100"), ("2001:db8:1", "2001:db8:2"), 2)
        with web(net):
            yield net


def traced(net: Net, *targets: str) -> list[dict[str, Any]]:
    """All of them at once."""
    words = [PATHFIT, "trace", "--from", f"netns:{net('c')}", "--json", "--to"]
    every = [subprocess.Popen([*words, to], stdout=subprocess.PIPE, stderr=subprocess.PIPE) for to in targets]
    found = []
    for one in every:
        out, err = one.communicate(timeout=90)
        assert err == b""
        found.append(json.loads(out))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("count", [5])
def test_the_same_flow(net: Net, count: int) -> None:
    """Each sees the packets of the others as well: they are lost at the same place, for the same reason."""
    net.drop("r", "forward", "iifname vs meta length > 1300 drop")
    for document in traced(net, *[HTTPS] * count):
        assert document["verdict"] == "lost"
        # Of five at once not every packet's rule is heard: then the filter is named with it, and without.
        found = [(*x[:3], set(x[3])) for x in lost(net, document) if x[0] == "reverse"]
        assert found == [("reverse", "r/vs", "r/vc", {"filtered"})]
        (loss,) = [x for x in document["losses"] if x["direction"] == "reverse"]
        assert loss["passed"] <= 1300 < loss["smallest"]


@pytest.mark.slow
def test_a_whole_way(net: Net) -> None:
    for document in traced(net, *[HTTPS] * 5):
        assert (document["verdict"], document["losses"]) == ("arrives", [])


def test_different_flows(net: Net) -> None:
    """What is lost of one is not said of the other."""
    net.drop("r", "forward", "iifname vs tcp sport 8080 meta length > 1300 drop")
    https, http = traced(net, HTTPS, HTTP)
    assert (https["verdict"], https["losses"]) == ("arrives", [])
    assert [x for x in lost(net, http) if x[0] == "reverse"] == [("reverse", "r/vs", "r/vc", ["filtered"])]
