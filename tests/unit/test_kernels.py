"""KRN701 and KRN702 by kernel: whom they name, whom they must not, and what two looks at the counters add.

Each line has its source. Builds of RHEL and CentOS 7 by the commits that Red Hat carried over; mainline by its tags.
"""

from typing import Any, NamedTuple

import nodehosts
import pytest
import topo
from cases import case, failed, hung
from msgspec.structs import replace

from pathfit import diagnose, survey
from pathfit.core.case import Case
from pathfit.core.evidence import CounterFact, SocketFact
from pathfit.core.finding import Finding
from pathfit.core.snapshot import HostSnapshot
from pathfit.model.tunnels.makers import heartbeat
from pathfit.render import scan as rendered

CENTOS_70, CENTOS_72 = "3.10.0-123.4.4.el7.x86_64", "3.10.0-327.10.1.el7.x86_64"
VM = """
c eth0 1376 10.32.0.5/12 -- h vethwepl1 1376 @weave
h weave bridge 1376 10.32.0.1/12
h vethwe-bridge 1376 @weave -- h vethwe-datapath 1376
h datapath openvswitch 1376
h eth0 phys 1500 198.18.2.2/24
h route default via 198.18.2.1
c route default via 10.32.0.1
h forward
"""


class Known(NamedTuple):
    """``ufo``, ``df``: the confidence of KRN701 and KRN702 where everything else is given, None: never said."""

    release: str
    ufo: str | None
    df: str | None
    why: str


TABLE = (
    Known("3.10.0-121.el7.x86_64", None, None, "7.0 before its release: nobody has shown it"),
    Known("3.10.0-123.el7.x86_64", "likely", None, "7.0, article 004: no network; iptunnel_xmit() only resets secpath"),
    Known(CENTOS_70, "likely", None, "7.0, weave issue 2289: connection lost, ENOBUFS"),
    Known("3.10.0-123.20.1.el7.x86_64", "likely", None, "the last of 7.0: no repair is known of"),
    Known("3.10.0-229.el7.x86_64", None, None, "7.1, mended (article 004); 963a88b31ddb is not in yet"),
    Known("3.10.0-229.20.1.el7.x86_64", None, None, "7.1, its last"),
    Known("3.10.0-260.el7.x86_64", None, "likely", "963a88b31ddb carried over (239c78db9c41 since -150)"),
    Known("3.10.0-327.el7.x86_64", None, "likely", "7.2, article 004: falls back to sleeve"),
    Known(CENTOS_72, None, "likely", "7.2, the article's own"),
    Known("3.10.0-327.28.2.el7.x86_64", None, "likely", "7.2, weave issue 2634"),
    Known("3.10.0-514.el7.x86_64", None, None, "7.3: Open vSwitch no longer asks for it (614732eaa12d)"),
    Known("3.10.0-1160.el7.x86_64", None, None, "7.9"),
    Known("3.9.11", None, None, "before 3.10: nobody has shown it"),
    Known("3.10.108", "possible", None, "stable: it may carry the repair; no scrubbing in tunnels yet (3.12)"),
    Known("3.11.0-12-generic", "possible", None, "Ubuntu 13.10"),
    Known("3.12.74", "possible", None, "tunnels scrub, but leave local_df alone (239c78db9c41 is of 3.13)"),
    Known("3.13.0-24-generic", None, "possible", "Ubuntu 14.04: UFO mended (article 004), 239c78db9c41 is in"),
    Known("3.16.0-4-amd64", None, "possible", "Debian 8"),
    Known("4.2.8", None, "possible", "the last before 614732eaa12d"),
    Known("4.3.0", None, None, "614732eaa12d: a VXLAN device moves Open vSwitch's packets"),
    Known("4.18.0-553.el8.x86_64", None, None, "RHEL 8"),
    Known("6.1.0-13-amd64", None, None, "Debian 12"),
    Known("6.18.5", None, None, "today"),
    Known("", None, None, "not read"),
    Known("FreeBSD", None, None, "no kernel of ours"),
)


def machine(release: str, nic: int = 1500, overlay: int = 1376, **features: bool) -> HostSnapshot:
    """A virtual machine with Weave: one card of virtio_net, ``overlay`` bytes for containers."""
    found = nodehosts.weave(nic, overlay, "sleeve")
    space = found.namespaces[0]
    links = tuple(replace(x, driver="virtio_net", features=features) if x.name == "eth0" else x for x in space.links)
    return nodehosts.kernel(replace(found, namespaces=(replace(space, links=links),)), release)


def said(host: HostSnapshot, code: str) -> list[Finding]:
    return [f for f in survey.judge(host).findings if f.code == code]


@pytest.mark.parametrize("known", TABLE, ids=lambda k: f"{k.release}")
def test_a_kernel(known: Known) -> None:
    host = machine(known.release, 1450, 1410, ufo=True)
    assert [f.confidence for f in said(host, "KRN701")] == ([known.ufo] if known.ufo else []), known.why
    assert [f.confidence for f in said(host, "KRN702")] == ([known.df] if known.df else []), known.why
    assert said(host, "OVL306"), "the heartbeat does not fit, whatever the kernel"


def test_the_other_conditions_of_the_dead_card() -> None:
    for broken in ("3.10.0-123.el7.x86_64", "3.10.108"):
        assert said(machine(broken, ufo=True), "KRN701")
        assert not said(machine(broken, ufo=False), "KRN701"), "UFO is off"
        assert not said(machine(broken), "KRN701"), "features were not read"
        e1000 = machine(broken, ufo=True)
        space = e1000.namespaces[0]
        links = tuple(replace(x, driver="e1000" if x.driver else None) for x in space.links)
        assert not said(replace(e1000, namespaces=(replace(space, links=links),)), "KRN701"), "another driver"


def test_without_weave_it_is_a_remark() -> None:
    host = topo.host("h eth0 phys 1500 198.18.2.2/24")
    space = host.namespaces[0]
    links = tuple(replace(x, driver="virtio_net", features={"ufo": True}) for x in space.links)
    host = nodehosts.kernel(replace(host, namespaces=(replace(space, links=links),)), CENTOS_70)
    assert [(f.severity, f.confidence) for f in said(host, "KRN701")] == [("info", "possible")]


@pytest.mark.parametrize(
    ("nic", "overlay", "wanted"),
    [
        (1450, 1410, ("warning", "likely", 1460, 10, 1400)),  # the article's
        (1500, 1410, ("info", "possible", None, None, None)),  # its cure
        (1450, 1376, ("info", "possible", None, None, None)),  # Weave's default fits
        (1400, 1376, ("warning", "likely", 1426, 26, 1350)),
    ],
)
def test_where_it_bites(nic: int, overlay: int, wanted: tuple[Any, ...]) -> None:
    (f,) = said(machine(CENTOS_72, nic, overlay), "KRN702")
    assert (f.severity, f.confidence, f.facts.get("heartbeat"), f.facts.get("short"), f.facts.get("fits")) == wanted


def test_it_explains_the_slow_way_and_leaves_the_repair_to_it() -> None:
    report = survey.report_of(case(None).ask, "0.1.0", 0.0, [survey.judge(machine(CENTOS_72, 1450, 1410))], ())
    slow = next(f for f in report.findings if f.code == "OVL306")
    cause = next(f for f in report.findings if f.code == "KRN702")
    assert slow.because == ("KRN702",)
    assert cause.explains == ("OVL306",)
    assert [x.id for x in slow.fixes] == ["weave-mtu"]
    assert cause.fixes == ()


def test_plain_tunnels_are_cut_and_nothing_is_said() -> None:
    """A VXLAN device of the kernel's own sends without DF: no such kernel keeps it from being cut."""
    host = topo.host("h eth0 phys 1450 198.18.2.2/24\nh vx0 vxlan 1450 id=7 local=198.18.2.2")
    assert said(nodehosts.kernel(host, CENTOS_72), "KRN702") == []


# --- the repairs ------------------------------------------------------------------------------------------------------


def test_the_repairs_of_the_dead_card() -> None:
    (f,) = said(machine(CENTOS_70, ufo=True), "KRN701")
    now, good = f.fixes
    assert (now.id, now.lasts, now.commands[0][-5:]) == (
        "offload-off",
        "reboot",
        ("ethtool", "-K", "eth0", "ufo", "off"),
    )
    assert now.undo[0][-1] == "on"
    assert (good.id, good.lasts) == ("kernel-update", "permanent")
    assert all(x.untried and x.source and x.applicability == "manual" and not x.changes for x in f.fixes)


def test_another_distribution_has_no_name_for_the_update() -> None:
    (f,) = said(machine("3.11.0-12-generic", ufo=True), "KRN701")
    assert [x.id for x in f.fixes] == ["offload-off"]


def test_a_scan_shows_them() -> None:
    report = survey.report_of(case(None).ask, "0.1.0", 0.0, [survey.judge(machine(CENTOS_70, ufo=True))], ())
    text = rendered.render(report, width=120)
    assert "KRN701 ufo-raw-socket-stall" in text
    assert "ethtool -K eth0 ufo off" in text
    assert "not tried on a live system" in text


# --- counters that stand still ----------------------------------------------------------------------------------------


def looked(before: int, after: int, *, source: str = "netns:h", stuck: int = 0, release: str = CENTOS_70) -> Case:
    """The asked client sits on the host, or in a container; nobody answers. The card's counter is read twice."""
    host = nodehosts.kernel(topo.host(VM), release)
    spaces = []
    for space in host.namespaces:
        links = tuple(
            replace(x, driver="virtio_net", features={"ufo": True}) if x.name == "eth0" and not x.kind else x
            for x in space.links
        )
        spaces.append(replace(space, links=links))
    host = replace(host, namespaces=tuple(spaces))
    ns = next(n for n in host.namespaces if n.where == source)
    counters = [
        CounterFact(ref=f"counters:{when}", counters={"Dev.eth0.tx_packets": n, "Dev.eth0.rx_packets": 9})
        for when, n in (("before", before), ("after", after))
    ]
    silent = {"unacked": 3, "retransmits": 4, "backoff": 4, "last_ack_recv": 9.0, "rcv_ooopack": 0}
    sockets = tuple(hung(wqueue=4000, rmem=0, sport=40000 + n, info=silent) for n in range(stuck))
    return case(
        host,
        SocketFact(ref="sockets", where=source, sockets=sockets, total=stuck),
        *counters,
        failed("timeout", handshake_retrans=3),
        place={"where": source, "netns": ns.id, "label": "h"},
        more={"source": source},
    )


def dead_card(run: Case) -> Finding:
    (f,) = [f for f in diagnose.report(run).findings if f.code == "KRN701"]
    return f


def test_a_counter_that_stands_still_confirms_it() -> None:
    f = dead_card(looked(812, 812, stuck=2))
    assert (f.severity, f.confidence, f.facts["case"]) == ("warning", "confirmed", "stalled")
    told = {e.message: e.facts for e in f.evidence}
    assert told["evidence.tx-stands"] == {"place": "h/eth0", "count": 812, "tries": 4}
    assert told["evidence.sockets-stuck"] == {"count": 2}
    assert f.explains == ("NET152",)
    assert [x.id for x in f.fixes] == ["offload-off", "kernel-update"]


def test_a_kernel_that_may_be_mended_stays_likely() -> None:
    assert dead_card(looked(812, 812, release="3.11.0-12-generic")).confidence == "likely"


def test_a_card_that_sends_is_not_why_nobody_answers() -> None:
    findings = diagnose.report(looked(812, 816)).findings
    assert [f.code for f in findings] == ["NET152"]


def test_the_counters_of_a_container_are_not_those_of_the_card() -> None:
    f = dead_card(looked(812, 812, source="netns:c"))
    assert (f.severity, f.confidence, f.facts["case"]) == ("info", "possible", "weave")
    assert "evidence.tx-stands" not in {e.message for e in f.evidence}


def test_a_mended_kernel_is_not_blamed_for_silence() -> None:
    findings = diagnose.report(looked(812, 812, release="3.10.0-1160.el7.x86_64")).findings
    assert [f.code for f in findings if f.code.startswith("KRN")] == []
    assert findings[0].code == "NET152"


def test_the_sizes_of_this_file_are_weaves() -> None:
    assert (heartbeat(1410), heartbeat(1376)) == (1460, 1426)
