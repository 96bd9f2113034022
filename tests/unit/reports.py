"""Hand-built reports for the tests of render/: article 000 as CONTRACT shows it, and a few others."""

from typing import Any

import msgspec

from pathfit.core.ask import Ask, Target
from pathfit.core.change import SetRouteMtu
from pathfit.core.evidence_base import Missing
from pathfit.core.finding import EvidenceLine, FileEdit, Finding, Fix
from pathfit.core.measured import Bracket, Contact, SideEffect, Used
from pathfit.core.net import Flow, Point
from pathfit.core.path import Enter, Exit, Fate, Filtered, Hop, Limit, Lookup, Predicted
from pathfit.core.report import MeasuredAddress, Report

TARGET = "198.51.100.2"
URL = "https://updates.jenkins.io/"
JENKINS = Point(host="node2", netns="container:jenkins", link="eth0")
DOCKER0 = Point(host="node2", netns="host", link="docker0")
ETH0 = Point(host="node2", netns="host", link="eth0")
FLOW = Flow(src="172.17.0.2", dst=TARGET, proto=6, dport=443, size=1500)


def ask(**more: Any) -> Ask:
    target = Target(text=URL, protocol="https", host="updates.jenkins.io", port=443)
    return Ask(**{"command": "diagnose", "source": "container:jenkins", "target": target, **more})


def hops() -> tuple[Hop, ...]:
    """One hop for each namespace, as model/ gives them."""
    rule = Filtered(
        at=DOCKER0, hook="forward", tool="iptables-nft", table="ip filter", chain="DOCKER-USER", verdict="accept"
    )
    route = Lookup(at=JENKINS, route="default via 172.17.0.1", table=254)
    inner = (route, Exit(at=JENKINS, size=1500, mtu=1500))
    host = (Enter(at=DOCKER0, size=1500), rule, Exit(at=ETH0, size=1500, mtu=1400))
    return Hop(where=JENKINS, mtu=1500, steps=inner), Hop(where=DOCKER0, mtu=1400, steps=host)


def forward() -> Predicted:
    limit = Limit(mtu=1400, kind="l3", at=ETH0, then="icmp", told_home=True, function="ip_forward")
    return Predicted(
        flow=FLOW, fate=Fate.DELIVERED, large=Fate.TOO_BIG_TOLD, mtu=1400, limits=(limit,), hops=hops(), ends=ETH0
    )


def bracket(tests: Any, passes: int | None, fails: int | None, grade: Any, **more: Any) -> Bracket:
    method = "tcp-maxseg" if tests == "reverse" else "tcp-sack"
    return Bracket(method=method, tests=tests, passes=passes, fails=fails, grade=grade, exact=True, **more)


def contact(**more: Any) -> Contact:
    return Contact(
        **{
            "address": TARGET,
            "family": 4,
            "port": 443,
            "tcp": "ok",
            "tls": "stalled",
            "protocol": "https",
            "rtt": 0.0004,
            "promised": 1500,
            "offered": 1500,
            **more,
        }
    )


def hole() -> Finding:
    return Finding(
        code="MTU101",
        name="inbound-black-hole",
        severity="error",
        confidence="confirmed",
        where=(ETH0,),
        facts={
            "direction": "inbound",
            "source": "jenkins",
            "target": "updates.jenkins.io",
            "promised": 1500,
            "limit": 1450,
            "fails": 1451,
            "told": False,
            "place": "host/eth0",
            "beyond": True,
            "resembles": "vxlan",
            "layer": None,
            "other_way": 1400,
        },
        evidence=(
            EvidenceLine(
                ref="probe:1",
                message="evidence.in-passes",
                facts={"passes": 1450, "fails": 1451, "method": "tcp-maxseg"},
            ),
            EvidenceLine(ref="probe:1", message="evidence.gap-stays", facts={"size": 1451, "times": 2, "ms": 51}),
            EvidenceLine(ref="trial", message="evidence.trial-ok", facts={"size": 1400}),
        ),
        because=("MTU103",),
        fixes=(now(), for_good()),
    )


def now() -> Fix:
    change = ("ip", "netns", "exec", "jenkins", "ip", "route", "change", "default", "via", "172.17.0.1", "mtu", "1400")
    return Fix(
        id="route-mtu",
        title="fix.route-mtu",
        platform="linux",
        value=1400,
        effective=1400,
        applicability="safe",
        lasts="recreate",
        commands=(change,),
        undo=(change[:-2],),
        facts={
            "place": "jenkins",
            "contained": True,
            "proof": "proof.body",
            "size": 1400,
            "mss": 1360,
            "body": 200_000,
        },
        changes=(SetRouteMtu(netns="4:2", where="pid:812", family=4, table=254, dst="", prefix=0, mtu=1400),),
        verify="measured",
    )


def for_good() -> Fix:
    diff = '--- /dev/null\n+++ /etc/docker/daemon.json\n@@ -0,0 +1,3 @@\n+{\n+  "mtu": 1400\n+}\n'
    return Fix(
        id="docker-daemon-mtu",
        title="fix.docker-daemon-mtu",
        platform="docker",
        value=1400,
        effective=1400,
        applicability="disruptive",
        lasts="permanent",
        interrupts=("container:jenkins", "container:db", "container:web"),
        files=(FileEdit(path="/etc/docker/daemon.json", diff=diff, new='{\n  "mtu": 1400\n}\n'),),
        commands=(("systemctl", "restart", "docker.service"),),
        facts={"path": "/etc/docker/daemon.json", "restarts": True},
    )


def overpromise() -> Finding:
    return Finding(
        code="MTU103",
        name="mss-overpromise",
        severity="warning",
        confidence="confirmed",
        where=(JENKINS,),
        facts={"direction": "both", "source": "jenkins", "own": 1500, "limit": 1400, "link": "eth0"},
        evidence=(EvidenceLine(ref="probe:1", message="evidence.promise", facts={"own": 1500, "limit": 1400}),),
        explains=("MTU101",),
    )


def article_000(**more: Any) -> Report:
    """The container hangs, the host does not: in 1450, out 1400 and told."""
    out = bracket("forward", 1400, 1401, "told", told_by="172.17.0.1", told_mtu=1400)
    back = bracket("reverse", 1450, 1451, "proof")
    echo = Bracket(method="icmp-echo", tests="both", passes=1400, fails=1401, grade="told")
    measured = MeasuredAddress(
        contact=contact(),
        forward=out,
        reverse=back,
        forward_tried=(out, echo),
        reverse_tried=(back, echo),
        ends_at="target",
    )
    report = Report(
        version="0.1.0",
        ask=ask(),
        verdict="broken",
        findings=(hole(), overpromise()),
        forward=forward(),
        measured=(measured,),
        side_effects=(SideEffect(where=TARGET, what="a cached path MTU", lasts=600.0),),
        used=Used(packets=210, connections=18, seconds=0.08),
        took=0.084,
        source_label="jenkins",
        target_label="updates.jenkins.io",
        host="node2",
    )
    return msgspec.structs.replace(report, **more)


def healthy() -> Report:
    """All that the two ends invite passes."""
    measured = MeasuredAddress(
        contact=contact(tls="ok", http="200"),
        forward=bracket("forward", 1500, None, "proof"),
        reverse=bracket("reverse", 1500, None, "proof"),
        ends_at="target",
    )
    return article_000(verdict="healthy", findings=(), measured=(measured,), forward=None, side_effects=())


def unknown() -> Report:
    """The place we were to ask from is not there."""
    missing = Missing(what="netns:nope", why="no namespace of this name", how="ip netns list", ref="source")
    return Report(
        version="0.1.0",
        ask=ask(source="netns:nope"),
        verdict="unknown",
        missing=(missing,),
        why_unknown="why.no-source",
        source_label="nope",
        target_label="updates.jenkins.io",
    )
