"""Repairs of devices that programs hold: who asks from there, who is behind it, and where nothing is certain."""

from typing import Any

import pytest
from cases import case, hole, probe
from msgspec.structs import replace
from topo import host

from pathfit import diagnose
from pathfit.core.case import Case
from pathfit.core.change import SetLinkMtu, SetOvsMtu
from pathfit.core.finding import Fix

ITSELF = """
c tun0 phys 1500 198.18.1.2/24
c route default via 198.18.1.1
"""
BEHIND = """
c eth0 1500 198.18.1.2/24 -- h vc 1500 198.18.1.1/24
h tun0 phys 1500 198.18.2.2/24
c route default via 198.18.1.1
h route default via 198.18.2.1
h forward
"""
SOCKET = "/run/openvswitch/db.sock"
CONFIGS = {
    "ovs-vswitchd": SOCKET,
    "openvpn": "/etc/openvpn/a.conf",
    "wireguard-go": "/etc/wireguard/tun0.conf",
}


def held(program: str, text: str = ITSELF, *, limit: int = 1448, own: str = "", **more: Any) -> Case:
    """A hole both ways beyond tun0, which ``program`` holds. ``own``: the host's namespace, by default tun0's."""
    state = host(text)
    spaces = []
    for ns in state.namespaces:
        links = []
        for link in ns.links:
            if link.name == "tun0":
                tap = {"type": "tap" if program == "ovs-vswitchd" else "tun"}
                usual = {"kind": "tun", "info": tap, "holder": f"{program}[7]", "holder_config": CONFIGS.get(program)}
                link = replace(link, **{**usual, **more})
                own = own or ns.id
            links.append(link)
        spaces.append(replace(ns, links=tuple(links)))
    measured = probe(reverse=(hole(limit),), forward=(hole(limit, method="tcp-sack", tests="forward"),))
    return case(replace(state, namespaces=tuple(spaces), own=own), measured)


EXAMPLES = tuple(held(program) for program in CONFIGS)


def fixes(one: Case) -> dict[str, Fix]:
    return {f.id: f for f in diagnose.report(one).findings[0].fixes}


OWN = {
    "ovs-vswitchd": {"held-link-mtu", "ovs-mtu-request"},
    "openvpn": {"held-link-mtu", "openvpn-tun-mtu", "openvpn-mssfix"},
    "wireguard-go": {"held-link-mtu", "wg-quick-mtu"},
    "qemu-system-x86": {"held-link-mtu"},
}


@pytest.mark.parametrize("program", OWN)
def test_who_asks_from_the_device_itself(program: str) -> None:
    found = fixes(held(program))
    assert set(found) == {"route-mtu", *OWN[program]}
    assert all((f.value, f.effective) == (1448, 1448) and not f.untried for f in found.values())
    (change,) = found["held-link-mtu"].changes
    assert isinstance(change, SetLinkMtu) and (change.link, change.mtu) == ("tun0", 1448)


def test_open_vswitch_is_asked_where_it_listens() -> None:
    fix = fixes(held("ovs-vswitchd"))["ovs-mtu-request"]
    assert fix.commands == (("ovs-vsctl", "set", "interface", "tun0", "mtu_request=1448"),)
    assert fix.changes == (SetOvsMtu(socket=SOCKET, interface="tun0", mtu=1448),)
    fix = fixes(held("ovs-vswitchd", holder_config="/srv/db.sock"))["ovs-mtu-request"]
    assert fix.commands[0][:2] == ("ovs-vsctl", "--db=unix:/srv/db.sock")


def test_lines_are_for_a_person_and_no_shell_reads_a_name() -> None:
    fix = fixes(held("openvpn", holder_config="/etc/openvpn/a; reboot.conf"))["openvpn-mssfix"]
    write, again = fix.commands
    assert write == ("sh", "-c", 'echo "$1" >>"$2"', "sh", "mssfix 1448 fixed", "/etc/openvpn/a; reboot.conf")
    assert (again, fix.applicability, fix.changes) == (("kill", "-HUP", "7"), "manual", ())


@pytest.mark.parametrize("program", CONFIGS)
def test_who_is_behind_it_is_not_cured_by_its_mtu(program: str) -> None:
    found = set(fixes(held(program, BEHIND)))
    assert found & set().union(*OWN.values()) == ({"openvpn-mssfix"} if program == "openvpn" else set())
    assert "route-mtu" in found


@pytest.mark.parametrize("program", CONFIGS)
def test_where_it_is_not_certain_what_it_was_told_by(program: str) -> None:
    plain = {"route-mtu", "held-link-mtu"}
    assert set(fixes(held(program, holder_config=None))) == plain
    assert set(fixes(held(program, own="4:77"))) == plain, "not the host's own namespace"
    assert set(fixes(held(program, holder=None))) == {"route-mtu"}


def test_ipv6_would_go_and_what_is_small_enough_stays() -> None:
    assert set(fixes(held("openvpn", limit=1200))) == {"route-mtu"}
    assert "held-link-mtu" not in fixes(held("openvpn", mtu=1448))


@pytest.mark.parametrize(
    ("program", "limit", "like"),
    [
        ("ovs-vswitchd", 1450, "ovs-udp"),
        ("ovs-vswitchd", 1438, "ovs-gre-v6"),
        ("ovs-vswitchd", 1476, None),
        ("wireguard-go", 1408, "wireguard-v6"),
        ("openvpn", 1441, None),
        ("openvpn", 1408, ("openvpn", "over-gcp")),
        ("qemu-system-x86", 1450, "vxlan"),
    ],
)
def test_what_it_resembles_is_of_the_program_that_is_known(
    program: str, limit: int, like: str | tuple[str, str] | None
) -> None:
    facts = diagnose.report(held(program, limit=limit)).findings[0].facts
    said = (facts["resembles"], facts["resembles_over"])
    assert said == (like if isinstance(like, tuple) else (like, None))
    assert (facts["holder"], facts["device"]) == (f"{program}[7]", "tap" if program == "ovs-vswitchd" else "tun")
