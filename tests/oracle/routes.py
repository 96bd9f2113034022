"""Routes of a chain, in one of several styles a node, each with decoys that must not be taken; NAT on the way. Pure."""

import ipaddress
from typing import TYPE_CHECKING, NamedTuple

from oracle.chain import Stretch, ip

if TYPE_CHECKING:
    from oracle.generate import Making

NEVER = 4294967295  # one in so many connections
WIDE = {4: "10.0.0.0/8", 6: "fd07::/16"}


class Hop(NamedTuple):
    """To ``net`` by way of ``via`` on ``dev``; ``more``: words behind."""

    net: str
    via: str
    dev: str
    more: str = ""


def routes(m: "Making") -> str:
    """Writes them; returns the address that ``a`` asks."""
    c = m.c
    chain = [s for s in c.stretches if not s.side]
    for node in c.nodes[1:-1]:
        c.add(f"{node} forward")
    for i, node in enumerate(c.nodes):
        left, right = _hops(m, chain, i)
        _write(m, node, left, right, ends=i in (0, len(c.nodes) - 1))
    target = _translate(m, chain)
    if m.side:
        _sides(m, chain)
    return target


def _hops(m: "Making", chain: list[Stretch], i: int) -> tuple[list[Hop], list[Hop]]:
    node = m.c.nodes[i]
    left, right = [], []
    if i > 0:
        near = chain[i - 1]
        left = [Hop(s.net, ip(near.left.address), near.right.device) for s in chain[: i - 1]]
    if i < len(chain):
        near = chain[i]
        more = m.route_mtu.get(node, "")
        right = [Hop(s.net, ip(near.right.address), near.left.device, more) for s in chain[i + 1 :]]
        if more and not right:  # the network itself is the neighbour's
            right = [Hop(f"{ip(near.right.address)}/{bits(m)}", "", near.left.device, more)]
    return left, right


def bits(m: "Making") -> int:
    return 32 if m.c.family == 4 else 128


def _line(hop: Hop, net: str = "") -> str:
    via = f"via {hop.via} " if hop.via else ""
    return f"{net or hop.net} {via}dev {hop.dev} {hop.more}".rstrip()


def _write(m: "Making", node: str, left: list[Hop], right: list[Hop], *, ends: bool) -> None:
    c, r = m.c, m.rng
    if not left and not right:
        return
    style = r.choice(("default", "nets", "nets", "policy") if ends else ("nets", "nets", "default", "policy"))
    style = m.style.get(node, style)
    default = (right or left)[0] if style == "default" else None
    if default is not None and default.via:
        zero = "default" if c.family == 4 else "::/0"
        c.add(f"{node} route {_line(default, zero)}")
        rest = left if right else []
    else:
        style, rest = ("nets" if style == "default" else style), left + right
    if style == "policy" and all(h.via for h in rest):
        _policy(m, node, rest)
        return
    for hop in rest:
        c.add(f"{node} route {_line(hop)}")
        _decoy(m, node, hop)
    if style == "nets" and r.random() < 0.6:
        kind = r.choice(("blackhole", "unreachable", "prohibit"))
        c.add(f"{node} route {kind} {WIDE[c.family]}")


def _decoy(m: "Making", node: str, hop: Hop) -> None:
    """The same network at a larger metric, or a wider one, with an MTU that would show."""
    c, r = m.c, m.rng
    if not hop.via or r.random() < 0.6:
        return
    wrong = f"via {hop.via} dev {hop.dev} mtu {c.floor + r.randrange(40)}"
    if r.random() < 0.5:
        c.add(f"{node} route {hop.net} {wrong} metric {r.randint(2000, 9000)}")
        return
    net = ipaddress.ip_network(hop.net)
    wider = net.supernet(r.randint(1, 4))
    c.add(f"{node} route {wider} {wrong} metric {r.randint(1, 900)}")


def _policy(m: "Making", node: str, hops: list[Hop]) -> None:
    """The way stands in a table of its own; the main table would lead nowhere."""
    c, r = m.c, m.rng
    table, six = r.randint(10, 200), "6 " if c.family == 6 else ""
    everything = "::/0" if six else "0.0.0.0/0"
    for hop in hops:
        c.add(f"{node} route {_line(hop)} table {table}")
        which = r.choice((f"from {everything}", f"from {everything} to {hop.net}"))
        c.add(f"{node} rule {six}{r.randint(100, 30000)} {which} lookup {table}")
        if r.random() < 0.7:
            c.add(f"{node} route {r.choice(('blackhole', 'unreachable'))} {hop.net}")


# -- NAT ---------------------------------------------------------------------------------------------------------------


def _translate(m: "Making", chain: list[Stretch]) -> str:
    c, r = m.c, m.rng
    at = ip(chain[-1].right.address)
    family = "ip6" if c.family == 6 else "ip"
    for i, kind in m.translators:
        node, out, come = c.nodes[i], chain[i].left, chain[i - 1].right
        if kind in ("masquerade", "snat", "both"):
            to = "masquerade" if kind != "snat" else f"snat to {ip(out.address)}"
            tool = r.choice(("nft", "nft", "iptables", "iptables-legacy")) if kind != "both" else "nft"
            if tool == "nft":
                match = r.choice((f"oifname {out.device}", f"{family} saddr {chain[0].net}"))
                m.nft(node, family, "postrouting", 100, [f"{match} {to}"], "nat")
            else:
                jump = "MASQUERADE" if kind != "snat" else f"SNAT --to-source {ip(out.address)}"
                tool = tool.replace("iptables", "ip6tables") if c.family == 6 else tool
                c.add(f"{node} {tool} -t nat -A POSTROUTING -o {out.device} -j {jump}")
        if kind in ("dnat", "both") and at == ip(chain[-1].right.address):
            match = f"{family} daddr {ip(come.address)} meta l4proto {{ tcp, udp }} th dport {m.dport}"
            if m.drawn:
                _draw(m, node, chain[i].net, match, ip(come.address), at)
            else:
                m.nft(node, family, "prerouting", -100, [f"{match} dnat to {at}"], "nat")
            at = ip(come.address)
    return at


def _draw(m: "Making", node: str, beside: str, match: str, service: str, at: str) -> None:
    """The translator chooses between two, and nobody can tell which; but one in thousands of millions is a chance that
    never comes, so that all connections go to ``at``. The other is a host beside it, or an address that nobody has."""
    c, r = m.c, m.rng
    other = str(ipaddress.ip_network(beside).network_address + 6)
    if r.random() < 0.6 and c.room("", 1):
        e = c.space("end")
        net = c.network(c.family)
        _, mine, theirs = next(net), next(net), next(net)
        c.add(f"{node} {c.device()} 1500 {mine} -- {e} eth0 1500 {theirs}")
        c.add(f"{e} route {'default' if c.family == 4 else '::/0'} via {ip(mine)}")
        other = ip(theirs)
    if m.drawn == "rules":
        rules = [f"{match} numgen random mod {NEVER} < 1 dnat to {other}", f"{match} dnat to {at}"]
        m.nft(node, "ip6" if c.family == 6 else "ip", "prerouting", -100, rules, "nat")
    elif m.drawn == "almost":  # the certain one first
        rules = [f"{match} numgen random mod {NEVER} < {NEVER - 1} dnat to {at}", f"{match} dnat to {other}"]
        m.nft(node, "ip6" if c.family == 6 else "ip", "prerouting", -100, rules, "nat")
    else:  # as kube-proxy writes it
        tool = r.choice(("iptables", "iptables-legacy"))
        tool = tool.replace("iptables", "ip6tables") if c.family == 6 else tool
        dice = "-m statistic --mode random --probability 0.00000000047"
        for p in ("tcp", "udp"):
            head = f"{node} {tool} -t nat -A PREROUTING -d {service} -p {p} --dport {m.dport}"
            c.add(f"{head} {dice} -j DNAT --to-destination {other}", f"{head} -j DNAT --to-destination {at}")


# -- the second way ----------------------------------------------------------------------------------------------------


def _sides(m: "Making", chain: list[Stretch]) -> None:
    """One direction takes the stretch beside the main one (most specific routes)."""
    c = m.c
    assert m.side is not None
    index, which = m.side
    main = chain[index]
    sides = [s for s in c.stretches if s.side]
    first, second = sides[0], sides[-1]  # the same one without a router
    source, target = _source_at(m, chain, index), ip(chain[-1].right.address)
    if m.side_router:
        q = first.right.node
        c.add(f"{q} route {source}/{bits(m)} via {ip(first.left.address)} dev {first.right.device}")
        c.add(f"{q} route {target}/{bits(m)} via {ip(second.left.address)} dev {second.right.device}")
    if which == "back":
        here = second.left if m.side_router else second.right
        near = second.right if m.side_router else first.left
        node, to, own = main.right.node, source, main.right.address
        ending = index == len(chain) - 1
    else:
        here, near = first.left, first.right
        node, to, own = main.left.node, target, main.left.address
        ending = index == 0
    src = f" src {ip(own)}" if ending and (which == "back" or m.rng.random() < 0.85) else ""
    c.add(f"{node} route {to}/{bits(m)} via {ip(near.address)} dev {here.device}{src}")


def _source_at(m: "Making", chain: list[Stretch], index: int) -> str:
    """The source as the stretch ``index`` carries it."""
    source = ip(chain[0].left.address)
    for i, kind in m.translators:
        if i <= index and kind != "dnat":
            source = ip(chain[i].left.address)
    return source
