"""`pathfit trace` where NAT chooses one of several endpoints for each connection: each is followed to where it went.

c asks a service's address that nobody has; r takes each connection to s or to t, as kube-proxy does. The model cannot
know which: taps on the ways to all of them tell.
"""

import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from netlab import Net, nets
from weblab import PATHFIT, lost, traced, web

pytestmark = [pytest.mark.lab, pytest.mark.real_root]

SERVICE = {"4": "203.0.113.9", "6": "2001:db8:99::9"}
URL = {"4": "http://203.0.113.9:80/50000", "6": "http://[2001:db8:99::9]:80/50000"}
ENDS = {"4": ("198.18.82.2:8080", "198.18.83.2:8080"), "6": ("[2001:db8:82::2]:8080", "[2001:db8:83::2]:8080")}


@pytest.fixture
def net() -> Iterator[Net]:
    with nets() as net:
        net.routed(("198.18.81", "198.18.82"), ("2001:db8:81", "2001:db8:82"), 2)
        net.add("t")
        net.ip("r", f"link add vt type veth peer name eth0 netns {net('t')}")
        net.batch("r", "link set vt up\naddr add 198.18.83.1/24 dev vt\naddr add 2001:db8:83::1/64 dev vt")
        net.batch("t", "link set eth0 up\naddr add 198.18.83.2/24 dev eth0\naddr add 2001:db8:83::2/64 dev eth0")
        net.batch("t", "route add default via 198.18.83.1\nroute add default via 2001:db8:83::1")
        net.plain("t", "eth0")
        net.plain("r", "vt")
        with ExitStack() as stack:
            for host in "st":
                stack.enter_context(web(net, host))
            yield net


def nft(net: Net, words: str, family: str = "4") -> None:
    """r takes connections to the service to one of two, by turns or by chance."""
    ip = "ip" if family == "4" else "ip6"
    s, t = (end.rpartition(":")[0] for end in ENDS[family])
    to = f"dnat to {words} map {{ 0 : {s.strip('[]')} . 8080, 1 : {t.strip('[]')} . 8080 }}"
    chain = "type nat hook prerouting priority -100;"
    rule = f"{ip} daddr {SERVICE[family]} tcp dport 80 {to}"
    net.inside("r", "nft", "-f", "-", stdin=f"table {ip} lb {{ chain c {{ {chain} {rule}\n }}\n }}\n")


def random_map(net: Net) -> None:
    nft(net, "numgen random mod 2")


def kube_proxy_nft(net: Net) -> None:
    """The same as kube-proxy writes it for nftables."""
    ends = [f"chain e{n} {{ meta l4proto tcp dnat to {end}\n }}" for n, end in enumerate(ENDS["4"])]
    draw = "chain svc { numgen random mod 2 vmap { 0 : goto e0, 1 : goto e1 }\n }"
    kind, element = "ipv4_addr . inet_proto . inet_service : verdict", f"{SERVICE['4']} . tcp . 80 : goto svc"
    services = f"map services {{ type {kind}; elements = {{ {element} }}; }}"
    base = "chain c { type nat hook prerouting priority -100; ip daddr . meta l4proto . th dport vmap @services\n }"
    net.inside("r", "nft", "-f", "-", stdin="\n".join(["table ip kube-proxy {", *ends, draw, services, base, "}", ""]))


def kube_proxy(net: Net) -> None:
    """The same as kube-proxy writes it for iptables."""
    lines = ["*nat", ":SVC - [0:0]", ":SEP1 - [0:0]", ":SEP2 - [0:0]"]
    lines += [f"-A PREROUTING -d {SERVICE['4']}/32 -p tcp -m tcp --dport 80 -j SVC"]
    lines += ["-A SVC -m statistic --mode random --probability 0.5 -j SEP1", "-A SVC -j SEP2"]
    for n, end in enumerate(ENDS["4"], 1):
        lines += [f"-A SEP{n} -p tcp -m tcp -j DNAT --to-destination {end}"]
    net.inside("r", "iptables-restore", stdin="\n".join([*lines, "COMMIT", ""]))


def courses(document: dict[str, Any]) -> dict[str | None, dict[str, Any]]:
    return {x["end"]: x for x in ({k: document[k] for k in ("end", "forward", "reverse")}, *document["others"])}


def last(net: Net, course: dict[str, Any]) -> str:
    """The last device of the way out, and how many packets came there."""
    at = course["forward"]["points"][-1]["at"]
    return f"{at['netns']}/{at['link']}".replace(f"netns:{net.prefix}-", "")


@pytest.mark.parametrize("family", ["4", "6"])
def test_each_connection_is_followed_to_where_it_went(net: Net, family: str) -> None:
    nft(net, "numgen inc mod 2", family)
    status, document = traced(net, to=URL[family])
    assert (status, document["verdict"], document["losses"]) == (0, "arrives", [])
    found = courses(document)
    assert {end: last(net, found[end]) for end in ENDS[family]} == dict(
        zip(ENDS[family], ("s/eth0", "t/eth0"), strict=True)
    )
    for end in ENDS[family]:
        ways = [found[end][way]["points"] for way in ("forward", "reverse")]
        assert all(len(points) == 4 and all(p["packets"] for p in points) for points in ways), end
        assert all(found[end][way]["ends"] is None for way in ("forward", "reverse"))


def test_what_one_of_them_loses_is_its_own(net: Net) -> None:
    """The cable of t takes less at r's half: r says so on the way out, and nobody does on the way back; s is whole."""
    nft(net, "numgen inc mod 2")
    net.ip("r", "link set vt mtu 1300")
    status, document = traced(net, to=URL["4"])
    out, back = ("forward", "r/vc", "r/vt", ["too-big"]), ("reverse", "t/eth0", "r/vt", ["peer-too-small"])
    assert (status, lost(net, document)) == (1, [out, back])
    assert document["end"] == ENDS["4"][1]
    assert {(x["end"], x["causes"][0]["mtu"]) for x in document["losses"]} == {(ENDS["4"][1], 1300)}
    other = courses(document)[ENDS["4"][0]]
    assert max(p["packets"] for p in other["reverse"]["points"]) == min(
        p["packets"] for p in other["reverse"]["points"]
    )


def test_the_one_that_is_never_asked_says_nothing(net: Net) -> None:
    """One in four thousand million goes to t, whose way is closed: what goes to s arrives, and t is not spoken of."""
    nft(net, "numgen random mod 4294967295")
    net.inside("r", "nft", "flush chain ip lb c")
    s, t = ENDS["4"]
    for rule in (f"numgen random mod 4294967295 < 1 dnat to {t}", f"dnat to {s}"):
        net.inside("r", "nft", f"add rule ip lb c ip daddr {SERVICE['4']} tcp dport 80 {rule}")
    net.drop("t", "input", "tcp dport 8080 drop")
    status, document = traced(net, to=URL["4"])
    assert (status, document["losses"], list(courses(document))) == (0, [], [s])


@pytest.mark.parametrize("write", [kube_proxy, kube_proxy_nft, random_map])
def test_wherever_the_dice_fall(net: Net, write: Callable[[Net], None]) -> None:
    """Each connection has one end, and what its way loses stands there alone."""
    write(net)
    net.drop("t", "input", "tcp dport 8080 drop")
    _, document = traced(net, to=URL["4"])
    found = courses(document)
    assert found and set(found) <= set(ENDS["4"])
    assert bool(document["losses"]) is (ENDS["4"][1] in found)
    assert {x["end"] for x in document["losses"]} <= {ENDS["4"][1]}
    assert {(x["after"]["link"], x["causes"][0]["why"]) for x in document["losses"]} <= {("eth0", "filtered")}


def test_what_is_dropped_before_any_device_behind_the_choice(net: Net) -> None:
    """The translator itself forwards nothing to t: no device saw these packets with t's address. Who sends his SYN
    again is taken to the other one: it is no loss of that one's."""
    nft(net, "numgen inc mod 2")
    net.drop("r", "forward", f"ip daddr {ENDS['4'][1].partition(':')[0]} drop")
    status, document = traced(net, to=URL["4"])
    (loss,) = document["losses"]
    assert (status, loss["end"], loss["after"]["link"], loss["before"]) == (1, ENDS["4"][1], "vc", None)
    assert loss["causes"][0]["why"] == "filtered" and loss["causes"][0]["rule"]["chain"] == "f"


def test_as_text(net: Net) -> None:
    nft(net, "numgen inc mod 2")
    words = [PATHFIT, "trace", "--from", f"netns:{net('c')}", "--to", URL["4"]]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert all(f"to {end}, one of those that NAT chooses among" in done.stdout for end in ENDS["4"]), done.stdout
    assert done.returncode == 0 and "r/vt > t/eth0" in done.stdout.replace(f"{net.prefix}-", "")


def test_what_strangers_may_see_names_no_end(net: Net) -> None:
    """Where NAT takes connections is an address like any other."""
    nft(net, "numgen inc mod 2")
    status, document = traced(net, "--redact", to=URL["4"])
    assert (status, document["verdict"], len(courses(document))) == (0, "arrives", 2)
    said = str(document)
    assert not any(end.partition(":")[0] in said for end in ENDS["4"]) and "8080" in said
