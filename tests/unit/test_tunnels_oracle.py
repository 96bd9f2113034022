"""Tunnels this kernel has, row by row: default MTU, the largest packet, what becomes of a larger one; kernel and model.

A tunnel's end learns from the first packet that is too big, so what happens is a story of several packets: each case
says what becomes of the first, the second … of one size (DF set, or not), and the model must say what it comes to.
"""

import contextlib
import socket

import pytest
from topo_lab import PATIENCE, PORT, SAID_AT_ONCE, Lab, lab

from pathfit.core.net import UDP, Flow
from pathfit.core.path import Encap, Fate, Predicted
from pathfit.model import Network, predict
from pathfit.model.tunnels.overhead import default_mtu, fits, mtu_ceiling
from pathfit.model.tunnels.right import right_mtu
from pathfit.model.tunnels.stacks import parse

CABLE = "a eth0 {under} 198.18.9.1/24 2001:db8:9::1/64 -- b eth0 {under} 198.18.9.2/24 2001:db8:9::2/64\n"
ENDS = {4: ("198.18.9.1", "198.18.9.2"), 6: ("2001:db8:9::1", "2001:db8:9::2")}
DEEP = {4: ("198.18.50.1", "198.18.50.2"), 6: ("2001:db8:50::1", "2001:db8:50::2")}
TO = {4: "198.18.60.2", 6: "2001:db8:60::2"}
HERE = {4: "198.18.60.1/24", 6: "2001:db8:60::1/64"}
THERE = {4: "198.18.60.2/24", 6: "2001:db8:60::2/64"}


def pair(name: str, vni: int, ends: tuple[str, str], options: str, *addresses: str) -> str:
    """A VXLAN device of MTU 1500 at both ends of a cable."""
    a, b = ends
    first, second = (addresses[:1], addresses[1:]) if addresses else ((), ())
    return (
        f"a {name} vxlan 1500 id={vni} local={a} remote={b} {options} {' '.join(first)}\n"
        f"b {name} vxlan 1500 id={vni} local={b} remote={a} {options} {' '.join(second)}\n"
    )


def local(outer: int, inner: int, options: str = "") -> str:
    """The tunnel's ends are the hosts that talk."""
    return CABLE.format(under=1500) + pair("vx0", 77, ENDS[outer], options, HERE[inner], THERE[inner])


def bridged(outer: int, inner: int, options: str = "") -> str:
    """Containers behind a bridge that the tunnel is a port of."""
    return (
        CABLE.format(under=1500)
        + pair("vx0", 77, ENDS[outer], f"{options} @br0")
        + "a br0 bridge 1500\nb br0 bridge 1500\n"
        + f"c eth0 1500 {HERE[inner]} -- a vc 1500 @br0\nd eth0 1500 {THERE[inner]} -- b vd 1500 @br0\n"
    )


def routed(outer: int, inner: int, options: str = "") -> str:
    """Containers in subnets of their own; the hosts route through the tunnel."""
    mid = ("198.18.50.1/24", "198.18.50.2/24") if inner == 4 else ("2001:db8:50::1/64", "2001:db8:50::2/64")
    near, gate = ("198.18.59.1/24", "198.18.59.2/24") if inner == 4 else ("2001:db8:59::2/64", "2001:db8:59::1/64")
    far = "198.18.60.1/24" if inner == 4 else "2001:db8:60::1/64"
    if inner == 4:
        near, gate = gate, near
    plain = {x: x.partition("/")[0] for x in (*mid, near, gate, far)}
    nets = ("198.18.59.0/24", "198.18.60.0/24") if inner == 4 else ("2001:db8:59::/64", "2001:db8:60::/64")
    return (
        CABLE.format(under=1500)
        + pair("vx0", 77, ENDS[outer], options, *mid)
        + f"c eth0 1500 {near} -- a vc 1500 {gate}\nd eth0 1500 {THERE[inner]} -- b vd 1500 {far}\n"
        + f"c route default via {plain[gate]}\nd route default via {plain[far]}\n"
        + f"a route {nets[1]} via {plain[mid[1]]}\nb route {nets[0]} via {plain[mid[0]]}\n"
        + "a forward\nb forward\n"
    )


def deep(text: str, middle: int = 4, options: str = "") -> str:
    """One tunnel more underneath: what was sent over the cable goes through it."""
    under = pair("vu0", 66, ENDS[middle], options, DEEP[4][0] + "/24", DEEP[4][1] + "/24")
    body = text.replace(CABLE.format(under=1500), "")
    for old, new in zip(ENDS[4], DEEP[4], strict=True):
        body = body.replace(f"={old} ", f"={new} ")
    return CABLE.format(under=1500) + under + body


ROUTER = """
a eth0 1500 198.18.9.1/24 -- r ra 1500 198.18.9.254/24
r rb 1400 198.18.8.254/24 -- b eth0 1500 198.18.8.1/24
a route 198.18.8.0/24 via 198.18.9.254
b route 198.18.9.0/24 via 198.18.8.254
r forward
"""


def narrow(text: str) -> str:
    """A router between the tunnel's ends that carries 1400."""
    return ROUTER + text.replace(CABLE.format(under=1500), "").replace("=198.18.9.2 ", "=198.18.8.1 ")


NOFRAG = """
b nft add table netdev fd
b nft add chain netdev fd i { type filter hook ingress device eth0 priority 0; }
b nft add rule netdev fd i ip frag-off & 0x3fff != 0 drop
"""

CASES = [
    # name, text, from, in, inner family, DF, the largest that passes, what becomes of larger ones, the model says
    ("vxlan", local(4, 4), "a", "b", 4, True, 1450, ["pieces", "error"], "error"),
    ("vxlan-no-df", local(4, 4), "a", "b", 4, False, 1450, ["pieces", "pieces"], "fragment"),
    ("vxlan-inner6", local(4, 6), "a", "b", 6, True, 1450, ["pieces", "error"], "error"),
    ("vxlan-set", local(4, 4, "df=set"), "a", "b", 4, True, 1450, ["lost", "error"], "error"),
    ("vxlan-set-no-df", local(4, 4, "df=set"), "a", "b", 4, False, 1450, ["lost", "pieces"], "fragment"),
    ("vxlan-inherit", local(4, 4, "df=inherit"), "a", "b", 4, True, 1450, ["lost", "error"], "error"),
    ("vxlan-inherit-no-df", local(4, 4, "df=inherit"), "a", "b", 4, False, 1450, ["pieces", "pieces"], "fragment"),
    ("vxlan6", local(6, 4), "a", "b", 4, True, 1430, ["lost", "error"], "error"),
    ("vxlan6-no-df", local(6, 4), "a", "b", 4, False, 1430, ["lost", "pieces"], "fragment"),
    ("vxlan6-inner6", local(6, 6), "a", "b", 6, True, 1430, ["lost", "error"], "error"),
    ("bridged", bridged(4, 4), "c", "d", 4, True, 1450, ["told", "error"], "icmp"),
    ("bridged-set", bridged(4, 4, "df=set"), "c", "d", 4, True, 1450, ["told", "error"], "icmp"),
    ("bridged-inner6", bridged(4, 6), "c", "d", 6, True, 1450, ["told", "error"], "icmp"),
    ("bridged6", bridged(6, 4), "c", "d", 4, True, 1430, ["told", "error"], "icmp"),
    ("bridged6-inner6", bridged(6, 6), "c", "d", 6, True, 1430, ["told", "error"], "icmp"),
    ("bridged-no-df", bridged(4, 4), "c", "d", 4, False, 1450, ["pieces", "pieces"], "fragment"),
    ("bridged-inherit-no-df", bridged(4, 4, "df=inherit"), "c", "d", 4, False, 1450, ["pieces", "pieces"], "fragment"),
    ("bridged6-no-df", bridged(6, 4), "c", "d", 4, False, 1430, ["lost", "lost"], "silent"),
    ("routed", routed(4, 4), "c", "d", 4, True, 1450, ["pieces", "pieces"], "fragment"),
    ("routed-set", routed(4, 4, "df=set"), "c", "d", 4, True, 1450, ["lost", "lost"], "silent"),
    ("routed6", routed(6, 4), "c", "d", 4, True, 1430, ["lost", "lost"], "silent"),
    ("routed-inner6", routed(4, 6), "c", "d", 6, True, 1450, ["pieces", "told", "error"], "icmp"),
    ("routed6-inner6", routed(6, 6), "c", "d", 6, True, 1430, ["lost", "told", "error"], "icmp"),
    ("deep", deep(local(4, 4)), "a", "b", 4, True, 1400, ["pieces", "pieces", "error"], "error"),
    ("deep-inner6", deep(local(4, 6)), "a", "b", 6, True, 1400, ["pieces", "pieces", "error"], "error"),
    ("deep6", deep(local(4, 4), 6), "a", "b", 4, True, 1380, ["lost", "pieces", "error"], "error"),
    ("deep-bridged", deep(bridged(4, 4)), "c", "d", 4, True, 1400, ["pieces", "told", "error"], "icmp"),
    ("deep6-bridged-no-df", deep(bridged(4, 4), 6), "c", "d", 4, False, 1380, ["lost", "pieces"], "fragment"),
    ("fragments-lost", local(4, 4) + NOFRAG, "a", "b", 4, False, 1450, ["lost", "pieces"], "fragment"),
    ("fragments-lost-bridged", bridged(4, 4) + NOFRAG, "c", "d", 4, False, 1450, ["lost", "lost"], "silent"),
    ("narrow", narrow(local(4, 4)), "a", "b", 4, True, 1350, ["pieces", "pieces"], "fragment"),
    ("narrow-bridged", narrow(bridged(4, 4)), "c", "d", 4, True, 1350, ["pieces", "pieces"], "fragment"),
    ("narrow-bridged-set", narrow(bridged(4, 4, "df=set")), "c", "d", 4, True, 1350, ["lost", "told", "error"], "icmp"),
    ("narrow-set", narrow(local(4, 4, "df=set")), "a", "b", 4, True, 1350, ["lost", "lost", "error"], "error"),
]  # fmt: skip


def story(built: Lab, ns: str, at: str, family: int, size: int, df: bool, count: int) -> list[str]:
    """What becomes of ``count`` packets of one size, one after the other, nothing being remembered before."""
    six, header = family == 6, 48 if family == 6 else 28
    kind = socket.AF_INET6 if six else socket.AF_INET
    with built.inside(at):
        taker = socket.socket(kind, socket.SOCK_DGRAM)
        taker.bind(("::" if six else "", PORT))
    with built.inside(ns):
        giver = socket.socket(kind, socket.SOCK_DGRAM)
    with taker, giver:
        built._options(giver, six, df)
        giver.connect((TO[family], PORT))
        built._warm(giver, taker)
        built.forget()
        return [one(built, giver, taker, size - header, f"s{n}".encode()) for n in range(count)]


def one(built: Lab, giver: socket.socket, taker: socket.socket, payload: int, sentinel: bytes) -> str:
    """What becomes of one packet; the small one behind it says that there is nothing more to wait for."""
    before = pieces(built)
    try:
        giver.send(b"L" * payload)
    except OSError as e:
        return SAID_AT_ONCE.get(e.errno or 0, f"errno {e.errno}")
    for _ in range(3):  # an error that waits on the socket ends a send
        with contextlib.suppress(OSError):
            if giver.send(sentinel):
                break
    taker.settimeout(PATIENCE)
    got: list[bytes] = []
    with contextlib.suppress(TimeoutError):
        while not got or got[-1] != sentinel:
            got.append(taker.recv(9000))
    if built._error(giver) is not None:
        return "told"
    if not any(len(x) == payload for x in got):
        return "lost"
    return "pieces" if pieces(built) > before else "whole"


def pieces(built: Lab) -> int:
    return sum(built._reassembled(six) for six in (False, True))


def asked(network: Network, ns: str, family: int, size: int, df: bool) -> Predicted:
    flow = Flow(src="", dst=TO[family], proto=UDP, sport=40000, dport=PORT, size=size, df=df)
    return predict(network, f"netns:{ns}", flow)


@pytest.mark.lab
@pytest.mark.parametrize(
    ("name", "text", "ns", "at", "family", "df", "mtu", "becomes", "then"), CASES, ids=[c[0] for c in CASES]
)
def test_a_tunnel_does_what_the_model_says(
    name: str, text: str, ns: str, at: str, family: int, df: bool, mtu: int, becomes: list[str], then: str
) -> None:
    with lab(text) as built:
        assert story(built, ns, at, family, mtu, df, 2) == ["whole", "whole"]
        assert story(built, ns, at, family, mtu + 1, df, len(becomes)) == becomes
        built.forget()
        network = Network.of(built.snapshot())
    said = asked(network, ns, family, mtu + 1, df)
    assert (said.fate, said.complete) == (Fate.DELIVERED, True), said.why
    assert said.mtu == mtu
    assert (said.limits[0].mtu, said.limits[0].then) == (mtu, then)
    if not name.startswith("narrow"):  # whose router the host does not see
        host = network.find("netns:a")
        assert host is not None and right_mtu(network, host, host.names["vx0"]) == mtu
    steps = [s for hop in said.hops for s in hop.steps if isinstance(s, Encap)]
    assert said.limits[0].overhead == sum(s.overhead for s in steps) or name.startswith("deep")


MADE = [  # what is made over an underlay, over which MTUs
    ("vxlan", "type vxlan id 9 remote 198.18.9.2 dstport 4789 dev eth0"),
    ("vxlan,nodev", "type vxlan id 9 remote 198.18.9.2 dstport 4789"),
    ("vxlan6", "type vxlan id 9 remote 2001:db8:9::2 dstport 4789 dev eth0"),
    ("vxlan6,nodev", "type vxlan id 9 remote 2001:db8:9::2 dstport 4789"),
    ("macvlan", "link eth0 type macvlan mode bridge"),
]


@pytest.mark.lab
@pytest.mark.parametrize("under", [1280, 1500, 9000])
@pytest.mark.parametrize(("stack", "words"), MADE, ids=[m[0] for m in MADE])
def test_a_new_device_has_the_mtu_of_the_table(stack: str, words: str, under: int) -> None:
    layer = parse(stack).layers[0]
    with lab(CABLE.format(under=under)) as built:
        shown = _made(built, words)
        most = mtu_ceiling(layer, under)
        refused = _set(built, (most or under) + 1)
        kept = _set(built, most or 65000)
    assert shown == default_mtu(layer, under) == fits((layer,), under)[0].mtu
    assert (refused, kept) == (most is not None, False)


def _made(built: Lab, words: str) -> int:
    """The MTU a device has that is made with these words (``link eth0`` stands before the rest)."""
    built.run("a", "ip", "link", "add", "name", "new", *words.split())
    text = built.run("a", "ip", "-o", "link", "show", "new")
    return int(text.split(" mtu ")[1].split()[0])


def _set(built: Lab, mtu: int) -> bool:
    """Does the kernel refuse this MTU?"""
    built.run("a", "ip", "link", "set", "new", "mtu", str(mtu))
    return f" mtu {mtu} " not in built.run("a", "ip", "-o", "link", "show", "new")


@pytest.mark.lab
@pytest.mark.parametrize("upper", ["vxlan", "vxlan6"])
@pytest.mark.parametrize("lower", ["vxlan", "vxlan6", "vxlan,nodev"])
def test_a_stack_of_two_has_the_mtus_of_the_table(upper: str, lower: str) -> None:
    words, under = dict(MADE), 1500
    stack = fits(parse(f"{upper}+{lower}/{under}").layers, under)
    deeper = words[upper].replace("dev eth0", "dev low").replace("id 9", "id 10")
    with lab(CABLE.format(under=under)) as built:
        built.run("a", "ip", "link", "add", "name", "low", *words[lower].split())
        assert (_made(built, deeper), stack[1].mtu) == (stack[0].mtu, default_mtu(parse(lower).layers[0], under))


@pytest.mark.lab
@pytest.mark.parametrize("family", [4, 6])
def test_macvlan_carries_what_its_device_carries(family: int) -> None:
    """Containers on a macvlan over a cable: as large as the cable's MTU, and one byte more is no packet any more."""
    text = CABLE.format(under=1500)
    with lab(text) as built:
        for ns, address in (("a", HERE[family]), ("b", THERE[family])):
            built.run(ns, "ip", "link", "add", "link", "eth0", "name", "mv0", "type", "macvlan", "mode", "bridge")
            built.run(ns, "ip", "link", "set", "mv0", "up")
            built.run(ns, "ip", "addr", "add", address, "dev", "mv0", "nodad")
        assert story(built, "a", "b", family, 1500, True, 1) == ["whole"]
        assert story(built, "a", "b", family, 1501, True, 1) == ["error"]
        said = asked(Network.of(built.snapshot()), "a", family, 1501, True)
    assert (said.fate, said.mtu, said.limits[0].then) == (Fate.DELIVERED, 1500, "error"), said.why
