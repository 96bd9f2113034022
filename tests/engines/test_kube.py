"""A Kubernetes node as each maker lays it out: too large for the network below, named by pod, and the right setting.

What the setting is to be proves itself: laid out anew with the number that pathfit says, as the maker would, the pod
gets what it needs. That a cluster's own parser takes the line stays untried, and the repair says so.
"""

import json
import os
from collections.abc import Iterator
from typing import Any

import pytest
from article import PATHFIT
from engine import required
from labhost import COMES, Lab
from recipes import containerds, ovs
from recipes.cluster_makers import MAKERS, SWITCHED
from recipes.clusters import NARROW, SIZE, Cluster, Maker

pytestmark = [pytest.mark.slow, pytest.mark.lab]
POD = "shop/web-0"
VLAN = 4  # bytes that a switch's port lets pass above its MTU (VLAN_HLEN): measured where no device of ours is smaller
SCANNED = ("calico", "cilium", "ovn-kubernetes")  # one for each cause


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    required(*containerds.PROGRAMS)
    with Lab() as lab:
        yield Cluster(lab)


@pytest.fixture(scope="module")
def switched() -> Iterator[Cluster]:
    required(*containerds.PROGRAMS, *ovs.PROGRAMS)
    with Lab() as lab:
        yield Cluster(lab, switched=True)


def pathfit(c: Cluster, *words: str) -> dict[str, Any]:
    """On the node, as its root would type it; the JSON."""
    env = {**os.environ, "PATHFIT_STATE": str(c.n1.folder / "state"), "LANG": "C.UTF-8"}
    done = c.n1.call(str(PATHFIT), *words, "--json", env=env)
    assert done.stdout, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def settings(finding: dict[str, Any], maker: Maker) -> list[dict[str, Any]]:
    return [x for x in finding["fixes"] if x["id"] == f"{maker.name}-mtu"]


@pytest.mark.parametrize("maker", MAKERS, ids=lambda m: m.name)
def test_a_pod_gets_its_makers_right_setting(cluster: Cluster, maker: Maker) -> None:
    check(cluster, maker)


@pytest.mark.parametrize("maker", SWITCHED, ids=lambda m: m.name)
def test_a_pod_behind_open_vswitch_too(switched: Cluster, maker: Maker) -> None:
    """The kernel sees a tap and a cable that ends nowhere: what state says comes from the maker's files alone."""
    check(switched, maker)


def check(cluster: Cluster, maker: Maker) -> None:
    wrong = maker.sizes(maker.wrong)
    cluster.install(maker, wrong)
    pid = cluster.pod(maker, wrong, POD)
    assert cluster.effective(pid, maker) == wrong.pod
    assert not cluster.curl(pid, maker, patience=0.3).startswith("200")

    report = pathfit(cluster, "diagnose", "--from", f"pod:{POD}", "--to", maker.url)
    first = report["findings"][0]
    assert (first["code"], first["confidence"]) == ("MTU101", "confirmed")
    (fix,) = settings(first, maker)
    assert (fix["applicability"], fix["untried"]) == ("manual", True)
    assert fix["source"] and fix["commands"] and f"pod:{POD}" in fix["interrupts"]
    assert maker.option in fix["title"] and str(fix["value"]) in fix["title"]
    assert not maker.cause or maker.cause in first["because"]
    if maker.name in SCANNED:
        (seen,) = [f for f in pathfit(cluster, "scan")["findings"] if f["code"] == maker.cause]
        assert seen["workloads"] == [f"pod:{POD}"]
        assert [(x["value"], x["effective"]) for x in settings(seen, maker)] == [(fix["value"], fix["effective"])]

    assert fix["effective"] in (NARROW - maker.over, NARROW - maker.over + VLAN), "all that fits, and no more"
    right = maker.sizes(fix["value"])
    assert right.pod == fix["effective"] < wrong.pod
    cluster.install(maker, right)
    pid = cluster.pod(maker, right, POD)
    assert cluster.effective(pid, maker) == fix["effective"]
    assert cluster.curl(pid, maker, patience=COMES) == f"200 {SIZE}"
    report = pathfit(cluster, "diagnose", "--from", f"pod:{POD}", "--to", maker.url)
    assert (report["verdict"], [f["code"] for f in report["findings"] if f["severity"] != "info"]) == ("healthy", [])
