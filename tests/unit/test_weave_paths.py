"""OVL306 in a diagnosis: a path through Weave's network, one to a peer (then measured), and paths that are neither."""

from typing import Any

import pytest
import topo
from cases import case, failed, out, passing, probe
from msgspec.structs import replace

from pathfit import diagnose, survey
from pathfit.core.ask import Target
from pathfit.core.case import Case
from pathfit.core.finding import Finding
from pathfit.core.node import NodeFacts, Overlay, WeaveConnection
from pathfit.core.snapshot import HostSnapshot
from pathfit.rules.state.weave import slow_path
from pathfit.words import render as words

PEER, MATE, WEB = "198.18.9.2", "10.32.0.9", "203.0.113.80"
HOST = """
c eth0 {mtu} 10.32.0.5/12 -- h vethwepl1 {mtu} @weave
d eth0 1500 172.17.0.5/16 -- h vd 1500 @docker0
h weave bridge {mtu} 10.32.0.1/12
h docker0 bridge 1500 172.17.0.1/16
h vethwe-bridge {mtu} @weave -- h vethwe-datapath {mtu}
h datapath openvswitch {mtu}
h eth0 phys {nic} 198.18.2.2/24
h route default via 198.18.2.1
c route default via 10.32.0.1
d route default via 172.17.0.1
h forward
"""


def weaving(*modes: str, nic: int = 1450, mtu: int = 1410, encrypted: bool = False, **more: Any) -> HostSnapshot:
    """A host with Weave and a container on it, one beside; a connection for each of ``modes``."""
    host = topo.host(HOST.format(nic=nic, mtu=mtu))
    space = next(n for n in host.namespaces if n.where == "netns:h")
    peers = tuple(
        WeaveConnection(peer=f"8a:00:00:00:00:0{i}(node{i})", address=f"198.18.9.{i}", mode=mode,  # type: ignore[arg-type]
                        state="established", encrypted=encrypted)
        for i, mode in enumerate(modes, 2)
    )  # fmt: skip
    overlay = Overlay(maker="weave", backend="vxlan", granted=mtu, devices=("datapath", "weave"), outer=4, **more)
    facts = NodeFacts(netns=space.id, where=space.where, overlays=(overlay,), weave=peers)
    return replace(host, nodes=(facts,), own=space.id)


def asked(host: HostSnapshot, source: str, to: str, *measured: Any, **contact: Any) -> Case:
    """One run from ``source`` to ``to``; everything passes but for what is said."""
    ns = next(n for n in host.namespaces if n.where == f"netns:{source}")
    target = Target(text=f"http://{to}/", protocol="http", host=to, port=80)
    brackets = measured or (out(1410), passing(1410))
    found = probe(
        forward=tuple(b for b in brackets if b.tests == "forward"),
        reverse=tuple(b for b in brackets if b.tests == "reverse"),
        contact={"address": to, "port": 80, "tls": "n/a", "protocol": "http", **contact},
    )
    where = {"where": f"netns:{source}", "netns": ns.id, "label": source}
    return case(host, found, place=where, more={"source": f"netns:{source}", "target": target})


def slow(run: Case) -> list[Finding]:
    return [f for f in diagnose.report(run).findings if f.code == "OVL306"]


SMALL = {"promised": 1410, "offered": 1410, "sendable": 1410}


def test_a_path_through_weave_is_slow_and_degraded_never_broken() -> None:
    report = diagnose.report(asked(weaving("sleeve"), "c", MATE, **SMALL))
    (f,) = [f for f in report.findings if f.code == "OVL306"]
    assert (report.verdict, f.severity, f.confidence) == ("degraded", "warning", "likely")
    assert {k: f.facts[k] for k in ("heartbeat", "room", "short", "fits")} == {
        "heartbeat": 1460, "room": 1450, "short": 10, "fits": 1400,
    }  # fmt: skip
    assert not any(x.severity == "error" for x in report.findings)
    assert diagnose.exit_status(report) == 0


@pytest.mark.parametrize(
    "run",
    [
        asked(weaving("fastdp"), "c", MATE, **SMALL),
        asked(weaving("sleeve"), "c", "10.32.0.1", **SMALL),
        asked(weaving("sleeve", "fastdp"), "c", MATE, **SMALL),
        asked(weaving("sleeve"), "d", WEB, out(1450), passing(1450), promised=1450, offered=1450, sendable=1450),
        asked(weaving("sleeve"), "c", WEB, **SMALL),
        asked(weaving("sleeve", facts={"no_fastdp": True}), "c", MATE, **SMALL),
    ],
    ids=["fast", "on this host", "which peer is not known", "from another network", "out of the overlay",
         "told not to be fast"],
)  # fmt: skip
def test_paths_that_have_nothing_to_do_with_it(run: Case) -> None:
    report = diagnose.report(run)
    assert [f.code for f in report.findings if f.code == "OVL306"] == []
    assert report.verdict == "healthy"


def hole_at(size: int, **more: Any) -> tuple[Any, Any]:
    return out(size, fails=size + 1, **more), passing(size, fails=size + 1, **more)


def test_a_network_beyond_that_is_too_small_is_confirmed_by_measuring() -> None:
    """The host's own card has 1500: only what was measured to the peer says that 1450 get there."""
    (f,) = slow(asked(weaving("sleeve", nic=1500), "h", PEER, *hole_at(1450)))
    assert (f.confidence, f.facts["case"], f.facts["room"], f.facts["short"], f.facts["fits"]) == (
        "confirmed", "small", 1450, 10, 1400,
    )  # fmt: skip
    assert f.facts["place"] == PEER
    assert [e.ref for e in f.evidence if e.message == "evidence.weave-room"] == ["probe:1"]


def test_a_small_card_is_confirmed_by_measuring_as_well() -> None:
    (f,) = slow(asked(weaving("sleeve"), "h", PEER, out(1450), passing(1450), sendable=1450, promised=1450))
    assert (f.confidence, f.facts["room"], f.facts["place"]) == ("confirmed", 1450, "h/eth0")


def test_a_network_that_carries_it_leaves_the_port() -> None:
    (f,) = slow(asked(weaving("sleeve", nic=1500), "h", PEER, out(1500), passing(1500)))
    assert (f.confidence, f.facts["case"], f.facts["fits"]) == ("likely", "through", None)
    assert f.fixes == ()


def test_one_direction_alone_decides_nothing_unless_it_is_too_small() -> None:
    short = passing(900, grade="none", note="answers-too-short")
    (f,) = slow(asked(weaving("sleeve", nic=1500), "h", PEER, out(1500), short))
    assert (f.confidence, f.facts["case"]) == ("possible", "beyond")
    (f,) = slow(asked(weaving("sleeve", nic=1500), "h", PEER, out(1450, fails=1451), short))
    assert (f.confidence, f.facts["room"]) == ("confirmed", 1450)


def test_a_hole_is_the_fault_and_the_slow_way_does_not_hide_it() -> None:
    report = diagnose.report(asked(weaving("sleeve", nic=1500), "h", PEER, *hole_at(1450)))
    assert (report.verdict, report.findings[0].code) == ("broken", "MTU101")


def test_another_peer_is_not_what_was_asked() -> None:
    (f,) = slow(asked(weaving("sleeve", "sleeve", nic=1500), "h", PEER, *hole_at(1450)))
    assert f.facts["peer"] == "8a:00:00:00:00:02(node2)"
    assert slow(asked(weaving("fastdp", "sleeve", nic=1500), "h", PEER, *hole_at(1450))) == []


def test_a_path_that_fails_elsewhere_says_nothing_of_weave() -> None:
    run = asked(weaving("sleeve"), "d", WEB)
    run = replace(run, exchanges=tuple(x for x in run.exchanges if not x.request.ref.startswith("probe")))
    report = diagnose.report(run.add(asked(weaving("sleeve"), "d", WEB).exchanges[-1].request, (failed("timeout"),)))
    assert report.findings[0].code == "NET152"
    assert "OVL306" not in {f.code for f in report.findings}


# --- the repair -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "value"),
    [
        (weaving("sleeve"), 1400),
        (weaving("sleeve", nic=1400, mtu=1376), 1350),
        (weaving("sleeve", mtu=1376, encrypted=True), 1364),  # 84, and padded to four bytes
        (weaving("sleeve", nic=9001, mtu=8960), 8951),
    ],
    ids=["the article's", "the default on 1400", "encrypted", "jumbo"],
)
def test_the_value_that_fits(host: HostSnapshot, value: int) -> None:
    (f,) = slow(asked(host, "c", MATE, **SMALL))
    (fix,) = f.fixes
    assert (fix.id, fix.value, fix.effective) == ("weave-mtu", value, value)
    assert fix.commands == (("weave", "reset"), ("env", f"WEAVE_MTU={value}", "weave", "launch"))
    assert fix.undo == (("weave", "reset"), ("weave", "launch"))
    assert fix.untried and "2.8.1" in fix.source and not fix.changes
    for lang in ("en", "zh"):
        assert str(value) in words.title(fix, lang, strict=True)
        assert words.by_hand(fix, lang, strict=True)


def test_in_a_cluster_it_is_the_daemonsets_environment() -> None:
    host = weaving("sleeve", mtu=1410, source="/etc/cni/net.d/10-weave.conflist")
    overlay = replace(host.nodes[0].overlays[0], mtu=1410, option="WEAVE_MTU")
    host = replace(host, nodes=(replace(host.nodes[0], overlays=(overlay,)),))
    (fix,) = slow(asked(host, "c", MATE, **SMALL))[0].fixes
    assert fix.commands[0][-1] == "WEAVE_MTU=1400"
    assert fix.commands[0][0] == "kubectl"
    assert fix.undo[0][-1] == "WEAVE_MTU=1410"


def test_nothing_is_proposed_below_what_any_network_carries() -> None:
    (f,) = slow(asked(weaving("sleeve", nic=600, mtu=1410), "c", MATE, **SMALL))
    assert f.facts["fits"] is None
    assert f.fixes == ()


def test_one_value_for_all_peers() -> None:
    """Two peers by two devices: what is written must fit both."""
    from pathfit.model.network import Network
    from pathfit.rules.state.machine import Machine

    text = HOST.format(nic=1450, mtu=1410) + "h eth1 phys 1430 198.18.3.2/24\nh route 198.18.9.3/32 via 198.18.3.1\n"
    host = topo.host(text)
    facts = weaving("sleeve", "sleeve").nodes[0]
    space = next(n for n in host.namespaces if n.where == "netns:h")
    host = replace(host, nodes=(replace(facts, netns=space.id),), own=space.id)
    found = list(slow_path(Machine(host, Network.of(host))))
    assert [(f.facts["room"], f.facts["fits"]) for f in found] == [(1450, 1380), (1430, 1380)]


def test_a_scan_names_those_on_the_network() -> None:
    judged = survey.judge(weaving("sleeve", nic=1500))
    (f,) = [f for f in judged.findings if f.code == "OVL306"]
    assert f.workloads == ("netns:c",)
    assert {w.name: w.verdict for w in judged.workloads} == {"c": "degraded", "d": "healthy"}
    assert {w.verdict for w in survey.judge(weaving("fastdp", nic=1500)).workloads} == {"healthy"}
