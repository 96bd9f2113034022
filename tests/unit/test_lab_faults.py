"""Every kind of fault, cable, tunnel and NAT of the format really does what it says: proved with curl in the lab."""

import pytest

from pathfit.lab import Lab, parse

pytestmark = pytest.mark.lab

STAGE = """
ask: {{from: c, to: "https://s:8443/5"}}
hosts: [h, r, s]
containers: {{c: {{in: h}}}}
cables:
  - {{ends: [h, r], mtu: {uplink}}}
  - {{ends: [r, s]}}
services: [{{host: s}}]
expect: {{}}
"""
STAGE_1500 = STAGE.format(uplink=1500)
STAGE_1400 = STAGE.format(uplink=1400)
HANGS = """
truth:
  - {from: c, get: "http://s:8080/300", gives: ok}
  - {from: c, get: "https://s:8443/5", gives: hang}
"""
WORKS = """
truth:
  - {from: c, get: "https://s:8443/200000", gives: ok}
  - {from: c, get: "https://s:8443/", send: 200000, gives: ok}
"""

LABS = {
    "told-works": STAGE_1400 + WORKS,
    "too-big-lost-input": STAGE_1400 + "faults: [{too_big_lost_at: s}]" + HANGS,
    "too-big-lost-output": STAGE_1400 + "faults: [{too_big_lost_at: {host: r, where: output}}]" + HANGS,
    "too-big-never-made": STAGE_1400 + "faults: [{too_big_never_made: {host: r, to: s/net}}]" + HANGS,
    "too-big-lost-forward": """
ask: {from: c, to: "https://s:8443/5"}
hosts: [h, r, q, s]
containers: {c: {in: h}}
cables: [{ends: [h, r], mtu: 1400}, {ends: [r, q]}, {ends: [q, s]}]
faults: [{too_big_lost_at: {host: q, where: forward}}]
services: [{host: s}]
expect: {}
"""
    + HANGS,
    "too-big-lost-v6": "family: 6\n" + STAGE_1400 + "faults: [{too_big_lost_at: s}]" + HANGS,
    "told-works-v6": "family: 6\n" + STAGE_1400 + WORKS,
    "both-families": "family: both\n"
    + STAGE_1500
    + """
truth:
  - {from: c, get: "https://s:8443/200000", gives: ok}
  - {from: c, get: "https://[2001:db8:2::2]:8443/200000", gives: ok}
""",
    "silent-switch": """
ask: {from: c, to: "https://s:8443/5"}
hosts: [c, s]
switches: [sw]
cables: [{ends: [c, sw], mtu: 1500}, {ends: [sw, s], mtu: 1396, mtu_b: 1500}]
services: [{host: s}]
expect: {}
"""
    + HANGS,
    "jumbo": """
ask: {from: c, to: "https://s:8443/5"}
hosts: [c, s]
cables: [{ends: [c, s], mtu: 9000}]
services: [{host: s}]
expect: {}
"""
    + WORKS,
    "tiny-576": """
ask: {from: c, to: "https://s:8443/5"}
hosts: [c, s]
cables: [{ends: [c, s], mtu: 576}]
services: [{host: s}]
expect: {}
"""
    + WORKS,
    "tap-carries": """
ask: {from: c, to: "https://s:8443/5"}
hosts: [c, s]
cables: [{ends: [c, s], rtt: 20, carries: 1500, carries_b: 1400}]
services: [{host: s}]
expect: {}
"""
    + HANGS,
    "tap-loss": """
ask: {from: c, to: "https://s:8443/5"}
hosts: [c, s]
cables: [{ends: [c, s], rtt: 4, loss: 2, seed: 7}]
services: [{host: s}]
expect: {}
truth: [{from: c, get: "https://s:8443/50000", gives: ok}]
""",
    "loss-everything": STAGE_1500
    + """
faults: [{loss: {host: r, percent: 100}}]
truth: [{from: c, get: "http://s:8080/5", gives: hang}]
""",
    "loss-on-link": STAGE_1500
    + """
faults: [{loss: {host: s, percent: 100, link: eth0}}]
truth: [{from: c, get: "http://s:8080/5", gives: hang}]
""",
    "firewall-reset": STAGE_1500
    + """
faults: [{firewall: {host: r, match: "ip daddr <s> tcp dport 8443", verdict: reset}}]
truth: [{from: c, get: "https://s:8443/5", gives: refused}, {from: c, get: "http://s:8080/5", gives: ok}]
""",
    "iptables": STAGE_1500
    + """
faults: [{iptables: {host: h, lines: ["-A FORWARD -s <c> -p tcp --dport 8443 -j DROP"]}}]
truth: [{from: c, get: "https://s:8443/5", gives: hang}, {from: c, get: "http://s:8080/5", gives: ok}]
""",
    "nft-lines": STAGE_1500
    + """
faults:
  - nft: {host: h, lines: [add table inet x, "add chain inet x f { type filter hook forward priority 0; }",
                           "add rule inet x f ip daddr <s> tcp dport 8443 drop"]}
truth: [{from: c, get: "https://s:8443/5", gives: hang}, {from: h, get: "https://s:8443/5", gives: ok}]
""",
    "forwarding-off": STAGE_1500
    + "faults: [{forwarding_off: r}]\ntruth: [{from: c, get: 'http://s:8080/5', gives: fails}]",
    "blackhole": STAGE_1500
    + "faults: [{route: {host: r, to: s/net, kind: blackhole}}]"
    + "\ntruth: [{from: c, get: 'http://s:8080/5', gives: hang}]",
    "blackhole-v6": "family: 6\n"
    + STAGE_1500
    + "faults: [{route: {host: r, to: s/net, kind: blackhole}}]"
    + "\ntruth: [{from: c, get: 'http://s:8080/5', gives: fails}]",
    "unreachable": STAGE_1500
    + "faults: [{route: {host: h, to: s, kind: unreachable}}]"
    + "\ntruth: [{from: c, get: 'http://s:8080/5', gives: unreachable}]",
    "prohibit": STAGE_1500
    + "faults: [{route: {host: h, to: s, kind: prohibit}}]"
    + "\ntruth: [{from: c, get: 'http://s:8080/5', gives: unreachable}]",
    "no-route": STAGE_1500
    + "faults: [{no_route: {host: c}}]\ntruth: [{from: c, get: 'http://s:8080/5', gives: unreachable}]",
    "link-down": STAGE_1500 + "faults: [{link_down: s.eth0}]\ntruth: [{from: c, get: 'http://s:8080/5', gives: fails}]",
    "dead-neighbour": STAGE_1500
    + "faults: [{dead_neighbour: {host: h, to: r}}]\ntruth: [{from: c, get: 'http://s:8080/5', gives: fails}]",
    "rp-filter": """
ask: {from: c, to: "http://s:8080/5"}
hosts: {c: {addresses: {lo: [10.9.9.9]}}, s: null}
cables: [{ends: [c, s]}, {ends: [c, s]}]
routes: [{host: s, to: 10.9.9.9, via: 198.18.2.1}, {host: c, to: s, via: 198.18.1.2, src: 10.9.9.9}]
faults: [{rp_filter: s}]
services: [{host: s}]
expect: {}
truth: [{from: c, get: "http://198.18.1.2:8080/5", gives: hang}]
""",
    "clamp-both": STAGE_1400
    + "clamps: [{host: h, size: 1360}]\nfaults: [{too_big_lost_at: s}, {too_big_lost_at: c}]"
    + WORKS,
    "clamp-pmtu": STAGE_1400 + "clamps: [{host: h}]\nfaults: [{too_big_lost_at: s}, {too_big_lost_at: c}]" + WORKS,
    "clamp-one-sided": STAGE_1400
    + "clamps: [{host: h, in: eth0, size: 1360}]\nfaults: [{too_big_lost_at: s}, {too_big_lost_at: c}]"
    + """
truth:
  - {from: c, get: "http://s:8080/", send: 100000, gives: ok}
  - {from: c, get: "http://s:8080/100000", gives: hang}
""",
    "mtu-probing-rescues": STAGE_1400
    + """
faults: [{too_big_lost_at: s}, {mtu_probing: s}, {sysctl: {host: s, set: {net.ipv4.tcp_base_mss: 512}}}]
truth: [{from: c, get: "http://s:8080/20000", gives: ok, within: 20}]
""",
    "syn-cookies": STAGE_1500 + "faults: [{syn_cookies: s}]" + WORKS,
    "stale-lock": STAGE_1500 + "faults: [{stale_pmtu: {host: c, to: s, mtu: 1300, how: lock}}]" + WORKS,
    "asymmetric-veth": """
ask: {from: c, to: "http://s:8080/5"}
hosts: [h, s]
containers: {c: {in: h, mtu: 1500, mtu_host: 1400}}
cables: [{ends: [h, s]}]
services: [{host: s}]
expect: {}
truth:
  - {from: c, get: "http://s:8080/5", gives: ok}
  - {from: c, get: "http://s:8080/", send: 100000, gives: hang}
""",
    "reverse-route-mtu": STAGE_1500
    + """
faults: [{too_big_lost_at: s}, {route: {host: r, to: h.eth0/net, mtu: 1400, lock: true}}]
truth:
  - {from: c, get: "http://s:8080/", send: 100000, gives: ok}
  - {from: c, get: "http://s:8080/100000", gives: hang}
""",
    "vxlan-fragments": """
ask: {from: c, to: "https://d:8443/5"}
hosts: [a, b]
containers: {c: {in: a, bridge: br0}, d: {in: b, bridge: br0}}
cables: [{ends: [a, b]}]
tunnels: [{ends: [a, b], bridge: br0, mtu: 1500}]
services: [{host: d}]
expect: {}
"""
    + WORKS.replace("s:8443", "d:8443"),
    "vxlan-dev": """
ask: {from: c, to: "https://d:8443/5"}
hosts: [a, b]
containers: {c: {in: a, bridge: br0, mtu: 1450}, d: {in: b, bridge: br0, mtu: 1450}}
cables: [{ends: [a, b]}]
tunnels: [{ends: [a, b], bridge: br0, dev: true}]
services: [{host: d}]
expect: {}
"""
    + WORKS.replace("s:8443", "d:8443"),
    "vxlan-df-v6-outer": """
family: both
ask: {from: a, to: "https://b.vx0:8443/5"}
hosts: [a, b]
cables: [{ends: [a, b]}]
tunnels: [{ends: [a, b], outer: 6, df: set, mtu: 1430}]
services: [{host: b}]
expect: {}
truth: [{from: a, get: "https://b.vx0:8443/200000", gives: ok}]
""",
    "nested": """
ask: {from: i, to: "https://s:8443/5"}
hosts: [h, s]
containers: {o: {in: h}, i: {in: o}}
cables: [{ends: [h, s]}]
services: [{host: s}]
expect: {}
"""
    + WORKS.replace("from: c", "from: i"),
    "dnat-balance": """
ask: {from: c, to: "http://lb:8080/5"}
hosts: [c, lb, b1, b2, b3]
cables: [{ends: [c, lb]}, {ends: [lb, b1]}, {ends: [lb, b2]}, {ends: [lb, b3]}]
nat: [{host: lb, kind: dnat, port: 8080, balance: [b1, b2, b3]}, {host: lb, kind: dnat, port: 8443, to: b1}]
services: [{host: b1, kind: http, status: 201}, {host: b2, kind: http, status: 202}, {host: b3, kind: http}]
expect: {}
truth: [{from: c, get: "http://lb:8080/5", gives: ok}, {from: c, get: "https://lb:8443/5", gives: refused}]
""",
    "redirect": """
ask: {from: c, to: "http://s:80/5"}
hosts: [c, s]
cables: [{ends: [c, s]}]
nat: [{host: s, kind: redirect, port: 80, to_port: 8080}]
services: [{host: s}]
expect: {}
truth: [{from: c, get: "http://s:80/5", gives: ok}]
""",
    "sidecar": STAGE_1500 + "sidecars: [{host: c}]" + WORKS,
    "sidecar-v6": "family: 6\n" + STAGE_1500 + "sidecars: [{host: c}]" + WORKS,
}


@pytest.mark.parametrize("name", LABS)
def test_the_lab_behaves_as_said(name: str) -> None:
    scenario = parse(f"name: {name}\nabout: x\n{LABS[name]}".encode())
    with Lab.up(scenario) as lab:
        assert lab.truth() == []


def test_a_balancer_takes_turns() -> None:
    with Lab.up(parse(f"name: turns\nabout: x\n{LABS['dnat-balance']}".encode())) as lab:
        assert {lab.curl("c", "http://lb:8080/5") for _ in range(3)} == {"200", "201", "202"}


@pytest.mark.parametrize("family", [4, 6])
def test_a_stale_path_mtu_is_really_learnt(family: int) -> None:
    text = (
        f"name: stale\nabout: x\nfamily: {family}\n{STAGE_1500}faults: [{{stale_pmtu: {{host: c, to: s, mtu: 1300}}}}]"
    )
    with Lab.up(parse(text.encode())) as lab:
        show = ["ip", f"-{family}", "route", "get", lab.plan.address("s")]
        assert b"mtu 1300" in lab.run("c", show).stdout
        lab.fresh()
        assert b"mtu 1300" in lab.run("c", show).stdout
