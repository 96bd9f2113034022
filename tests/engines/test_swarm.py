"""Article 003 with real engines: three nodes of a swarm, each fault from breakage to a container that works, and back.

One swarm for all of it. Where sizes are the matter a case has a container of its own: what a namespace remembers of a
path would speak of another fault.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from engine import required
from labhost import Lab
from recipes.swarm import PORT, Swarm, address

pytestmark = [pytest.mark.slow, pytest.mark.lab]

NET = "app"
OPTION = "com.docker.network.driver.mtu"


@pytest.fixture(scope="module")
def swarm() -> Iterator[Swarm]:
    required()
    with Lab() as lab:
        made = Swarm(lab)
        made.overlay(NET)
        made.serve(3, "web", NET)
        made.node(1).run("ask", "--network", NET)
        made.reached(1, "ask", web(made))
        yield made


@contextmanager
def asking(swarm: Swarm, number: int, name: str) -> Iterator[str]:
    """A container that asks, on its overlay with the others."""
    docker = swarm.node(number)
    docker.run(name, "--network", NET)
    try:
        swarm.reached(number, name, web(swarm))
        yield name
    finally:
        docker("rm", "-f", name)


def web(swarm: Swarm) -> str:
    """The address of the service, on the third node."""
    return swarm.address(3, "web", NET)


def url(swarm: Swarm) -> str:
    return f"http://{web(swarm)}:{PORT}/big"


def finding(report: dict[str, Any], code: str) -> dict[str, Any]:
    found: dict[str, Any] = next(f for f in report["findings"] if f["code"] == code)
    return found


def fix_of(found: dict[str, Any], ident: str) -> dict[str, Any]:
    wanted: dict[str, Any] = next(x for x in found["fixes"] if x["id"] == ident)
    return wanted


def codes(report: dict[str, Any]) -> list[str]:
    return [f["code"] for f in report["findings"]]


def test_what_is_well_says_nothing(swarm: Swarm) -> None:
    given = swarm.snapshots(1, 2, 3)
    report = swarm.diagnose(1, "ask", url(swarm), *given)
    assert (report["verdict"], codes(report), report["missing"]) == ("healthy", [], [])
    done = swarm.pathfit(1, "scan", *given)
    assert done.returncode == 0 and "nothing wrong found" in done.stdout, done.stdout


def test_the_network_beneath_carries_less(swarm: Swarm) -> None:
    """1450 on the wire, 1500 on every device: 1400 fit, for now by the route, for good by the overlay's option."""
    with asking(swarm, 1, "mtu"):
        given = swarm.snapshots(2, 3)
        swarm.carries(1450)
        try:
            assert swarm.get(1, "mtu", web(swarm)) == 28
            report = swarm.diagnose(1, "mtu", url(swarm), *given)
            first = report["findings"][0]
            assert (first["code"], first["confidence"], first["facts"]["limit"]) == ("MTU101", "confirmed", 1400)
            cause = finding(report, "MTU104")
            assert first["because"][0] == "MTU104" and cause["confidence"] == "confirmed"
            assert (cause["facts"]["device"], cause["facts"]["underlay"]) == (f"{NET}/vxlan0", 1450)
            made = fix_of(first, "docker-network-mtu")
            assert (made["value"], made["effective"], made["applicability"]) == (1450, 1400, "manual")
            typed = ["fix", "--from", "container:mtu", "--to", url(swarm)]
            done = swarm.pathfit(1, *typed, "--yes")
            assert done.returncode == 0, done.stdout + done.stderr
            assert swarm.works(1, "mtu", web(swarm))
            assert swarm.pathfit(1, "fix", "--undo", "last").returncode == 0
            assert swarm.get(1, "mtu", web(swarm)) == 28
        finally:
            swarm.carries(1500)


DEAF = """
table inet deaf {
  chain in { type filter hook input priority -300; icmp type destination-unreachable icmp code frag-needed drop; }
}
"""


def test_the_message_that_too_big_is_gets_lost(swarm: Swarm) -> None:
    """Every node knows that its card carries 1450; the overlay does not, and what says so is filtered in containers."""
    with asking(swarm, 1, "deaf"):
        ends = [(1, "deaf"), (3, "web")]
        for number, name in ends:
            swarm.node(number).host.run(*swarm.space(number, name), "nft", "-f", "-", stdin=DEAF)
        try:
            for number in (1, 2, 3):
                swarm.on(number, "ip", "link", "set", "eth0", "mtu", "1450")
            assert swarm.get(1, "deaf", web(swarm)) == 28
            report = swarm.diagnose(1, "deaf", url(swarm))
            first, cause = report["findings"][0], finding(report, "MTU104")
            assert (first["code"], first["because"][0], cause["confidence"]) == ("MTU101", "MTU104", "confirmed")
            made = fix_of(first, "docker-network-mtu")
            assert (made["value"], made["effective"]) == (1450, 1400)
        finally:
            for number in (1, 2, 3):
                swarm.on(number, "ip", "link", "set", "eth0", "mtu", "1500")
            for number, name in ends:
                swarm.on(number, *swarm.space(number, name), "nft", "delete", "table", "inet", "deaf")


@contextmanager
def leftover(swarm: Swarm, number: int) -> Iterator[None]:
    """What a container that moved to the third node left on another one: its address and its MAC, on the bridge."""
    mac = swarm.device(3, "web", NET)["address"]
    inside = swarm.overlay_space(number, NET)
    swarm.on(number, "ip", "netns", "add", "old")
    try:
        cable = f"ip link add vold mtu 1450 type veth peer name eth0 netns /run/netns/old mtu 1450 address {mac}"
        swarm.on(number, *inside, *cable.split())
        swarm.on(number, *inside, "ip", "link", "set", "vold", "master", "br0", "up")
        learned(swarm, number, "replace")
        swarm.on(number, "ip", "-n", "old", "addr", "add", f"{web(swarm)}/24", "dev", "eth0")
        swarm.on(number, "ip", "-n", "old", "link", "set", "eth0", "up")
        yield
    finally:  # the cable would go with the namespace, but later
        swarm.on(number, *inside, "ip", "link", "delete", "vold")
        swarm.on(number, "ip", "netns", "delete", "old")


def learned(swarm: Swarm, number: int, verb: str) -> None:
    """What the bridge learns of the leftover when it speaks; by hand, or who spoke last would decide."""
    mac = swarm.device(3, "web", NET)["address"]
    how = ["static"] if verb == "replace" else []
    swarm.on(number, *swarm.overlay_space(number, NET), "bridge", "fdb", verb, mac, "dev", "vold", "master", *how)


def test_a_stale_entry_leads_to_who_refuses(swarm: Swarm) -> None:
    with asking(swarm, 2, "side"), leftover(swarm, 2):
        mac = swarm.device(3, "web", NET)["address"]
        entry = [*swarm.overlay_space(1, NET), "bridge", "fdb"]
        swarm.on(1, *entry, "replace", mac, "dev", "vxlan0", "dst", address(2), "self", "permanent")
        assert swarm.refuses(1, "ask", web(swarm))
        alone = swarm.diagnose(1, "ask", url(swarm))
        assert codes(alone)[0] == "RST201", "from this host alone it looks like a closed port"
        report = swarm.diagnose(1, "ask", url(swarm), *swarm.snapshots(1, 2, 3))
        first, cause = report["findings"][0], finding(report, "OVL301")
        assert (first["code"], first["confidence"]) == ("RST203", "confirmed") and "RST201" not in codes(report)
        assert "OVL301" in first["because"]
        assert (first["facts"]["by_host"], first["facts"]["home"], first["facts"]["member"]) == ("n2", "n3", "web")
        assert (cause["facts"]["host"], cause["facts"]["named"], cause["facts"]["home"]) == ("n1", "n2", "n3")
        assert (cause["facts"]["remote"], cause["facts"]["right"]) == (address(2), address(3))
        given = ["--in", str(swarm.folder / "n2.json"), "--in", str(swarm.folder / "n3.json")]
        done = swarm.pathfit(1, "fix", "--from", "container:ask", "--to", url(swarm), *given, "--yes")
        assert done.returncode == 0, done.stdout + done.stderr
        assert swarm.works(1, "ask", web(swarm))
        assert f"{mac} dst {address(3)}" in swarm.on(1, *entry, "show", "dev", "vxlan0")
        assert swarm.pathfit(1, "fix", "--undo", "last").returncode == 0
        assert f"{mac} dst {address(2)}" in swarm.on(1, *entry, "show", "dev", "vxlan0")
        assert swarm.refuses(1, "ask", web(swarm))
        swarm.type(1, fix_of(first, "docker-network-rejoin"))  # the engine writes it anew
        swarm.reached(1, "ask", web(swarm))


def test_an_address_that_two_have(swarm: Swarm) -> None:
    with asking(swarm, 2, "twin"), leftover(swarm, 2):
        assert swarm.refuses(2, "twin", web(swarm))
        report = swarm.diagnose(2, "twin", url(swarm), *swarm.snapshots(1, 3))
        first, cause = report["findings"][0], finding(report, "OVL302")
        assert (first["code"], first["because"]) == ("RST203", ["OVL302"])
        assert (cause["facts"]["one"], cause["facts"]["host"]) == ("web", "n3")
        assert (cause["facts"]["other"], cause["facts"]["there"]) == ("old", "n2")
        remedy = fix_of(first, "member-off")
        swarm.type(2, remedy)
        learned(swarm, 2, "del")  # a bridge forgets by itself what it learned by a port that is down
        assert swarm.works(2, "twin", web(swarm))
        swarm.type(2, remedy, undo=True)
        learned(swarm, 2, "replace")
        assert swarm.refuses(2, "twin", web(swarm))


def test_the_port_is_closed_on_another_node(swarm: Swarm) -> None:
    rule = ["INPUT", "-p", "udp", "--dport", "4789", "-j", "DROP"]
    swarm.on(3, "iptables", "-A", *rule)
    try:
        assert swarm.get(1, "ask", web(swarm)) == 28
        report = swarm.diagnose(1, "ask", url(swarm), *swarm.snapshots(2, 3))
        first, cause = report["findings"][0], finding(report, "OVL303")
        assert first["because"] == ["OVL303"] and cause["facts"]["host"] == "n3", codes(report)
        remedy = fix_of(first, "open-tunnel-port")
        assert remedy["hosts"] == ["n3"]
        swarm.type(1, remedy)
        assert swarm.works(1, "ask", web(swarm))
        swarm.type(1, remedy, undo=True)
        assert swarm.get(1, "ask", web(swarm)) == 28
    finally:
        swarm.on(3, "iptables", "-D", *rule)


def test_resets_that_a_filter_takes(swarm: Swarm) -> None:
    """What people are told to do against article 003: the refusal becomes a silence."""
    tables = [*swarm.space(1, "ask"), "iptables"]
    swarm.on(1, *tables, "-I", "INPUT", "-p", "tcp", "--tcp-flags", "SYN,FIN,RST,URG,PSH", "RST", "-j", "DROP")
    closed = f"tcp://{web(swarm)}:9"
    report = swarm.diagnose(1, "ask", closed)
    first, cause = report["findings"][0], finding(report, "RST205")
    assert (first["code"], first["because"]) == ("NET152", ["RST205"])
    assert (cause["severity"], cause["confidence"]) == ("warning", "confirmed")
    assert "RST205" in swarm.pathfit(1, "scan").stdout
    swarm.type(1, fix_of(first, "delete-rule"))
    after = swarm.diagnose(1, "ask", closed)
    assert codes(after)[0] == "RST201"


def test_another_number_on_another_node(swarm: Swarm) -> None:
    inside = swarm.overlay_space(3, NET)
    entries = swarm.on(3, *inside, "bridge", "fdb", "show", "dev", "vxlan0").splitlines()
    base = swarm.on(3, *inside, "ip", "-j", "-d", "link", "show", "vxlan0")
    number = int(base.partition('"id":')[2].partition(",")[0]) + 900
    swarm.on(3, *inside, "ip", "link", "del", "vxlan0")
    swarm.on(3, "ip", "link", "add", "vx9", "mtu", "1450", "type", "vxlan", "id", str(number), "dstport", "4789",
             "proxy", "nolearning")  # fmt: skip
    swarm.on(3, "ip", "link", "set", "vx9", "netns", inside[1].partition("=")[2], "name", "vxlan0")
    swarm.on(3, *inside, "ip", "link", "set", "vxlan0", "mtu", "1450", "master", "br0", "up")
    for one in entries:
        words = one.split()
        if "dst" in words:
            far = words[words.index("dst") + 1]
            swarm.on(3, *inside, "bridge", "fdb", "add", words[0], "dev", "vxlan0", "dst", far, "self", "permanent")
    assert swarm.get(1, "ask", web(swarm)) == 28
    report = swarm.diagnose(1, "ask", url(swarm), *swarm.snapshots(2, 3))
    first, cause = report["findings"][0], finding(report, "OVL304")
    assert first["because"] == ["OVL304"], codes(report)
    assert (cause["facts"]["wrong"], cause["facts"]["case"]) == ("n3", "vni")
    swarm.type(1, fix_of(first, "docker-network-rejoin"))
    swarm.reached(1, "ask", web(swarm))


def test_the_overlay_made_again_with_what_the_network_beneath_carries(swarm: Swarm) -> None:
    """The option means the network beneath: 1450 is written, and containers have 1400. The lines are what is typed."""
    swarm.serve(2, "two", NET)
    with asking(swarm, 1, "good"):
        given = swarm.snapshots(2, 3)
        swarm.carries(1450)
        try:
            report = swarm.diagnose(1, "good", url(swarm), *given)
        finally:
            swarm.carries(1500)  # or the swarm's own TCP hangs as well
        remedy = fix_of(report["findings"][0], "docker-network-mtu")
        members = {(1, "ask"), (1, "good"), (2, "two"), (3, "web")}
        swarm.type(1, remedy)
        assert swarm.node(1).inspect("network", NET)["Options"][OPTION] == "1450"
        assert {swarm.device(n, name, NET)["mtu"] for n, name in members} == {1400} == {remedy["effective"]}
        swarm.carries(1450)
        try:
            swarm.reached(1, "good", web(swarm))
        finally:
            swarm.carries(1500)
        said = [f for f in _scan(swarm)["findings"] if f["code"] == "CFG606"]
        assert [(f["severity"], f["facts"]["written"], f["facts"]["given"]) for f in said] == [("info", 1450, 1400)]
        back = {**remedy, "commands": [[w for w in c if w != "--opt" and OPTION not in w] for c in remedy["commands"]]}
        swarm.type(1, back)
        assert {swarm.device(n, name, NET)["mtu"] for n, name in members} == {1450}


def _scan(swarm: Swarm) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(swarm.pathfit(1, "scan", "--json").stdout)
    return found


def test_what_docker_makes_of_the_option_of_an_encrypted_overlay(swarm: Swarm) -> None:
    """26 bytes more, down to a multiple of 4: the device shows it, whether or not the kernel has ESP."""
    swarm.overlay("secret", "--opt", "encrypted", "--opt", f"{OPTION}=1450")
    swarm.node(1).run("masked", "--network", "secret")
    assert swarm.device(1, "masked", "secret")["mtu"] == 1372
