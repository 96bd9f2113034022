"""Things in a lab that have nothing to do with what is asked: links, routes, rules, filters, NAT. Pure."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from oracle.generate import Making


def noise(m: "Making") -> None:
    """A handful, each in a random namespace."""
    r = m.rng
    for i in range(r.randint(0, 5)):
        r.choice((_link, _route, _rule, _filter, _legacy, _sets, _nat))(m, r.choice(m.c.spaces), i)


def _net(m: "Making", i: int) -> str:
    return f"172.{20 + i}.{m.rng.randrange(256)}"


def _link(m: "Making", ns: str, i: int) -> None:
    """A cable to nowhere, and a route by it."""
    r, net = m.rng, _net(m, i)
    other = r.choice(m.c.spaces)
    m.c.add(f"{ns} idle{i} {r.randint(1280, 9000)} {net}.1/24 -- {other} spare{i} {r.randint(1280, 9000)}")
    if r.random() < 0.5:
        m.c.add(f"{ns} route 192.168.{r.randrange(256)}.0/{r.randint(24, 30)} via {net}.2 mtu {r.randint(600, 1400)}")


def _route(m: "Making", ns: str, i: int) -> None:
    m.c.add(f"{ns} route blackhole 100.64.0.0/{m.rng.randint(10, 28)} metric {m.rng.randint(1, 99)}")


def _rule(m: "Making", ns: str, i: int) -> None:
    r, six = m.rng, m.c.family == 6
    source = f"fd99:{i + 1}::/{r.choice((48, 64))}" if six else f"{_net(m, i)}.0/24"
    table = 1000 + i
    m.c.add(f"{ns} rule {'6 ' if six else ''}{r.randint(50, 31000)} from {source} lookup {table}")
    m.c.add(f"{ns} route blackhole {'::/0' if six else 'default'} table {table}")


def _filter(m: "Making", ns: str, i: int) -> None:
    """Rules about others: another port, another protocol, another network, another device."""
    r = m.rng
    hook = r.choice(("prerouting", "input", "forward", "output", "postrouting"))
    other = [x for x in range(1, 60000, 977) if x not in (m.dport, m.dport + 1)]
    few = r.sample(other, 3)
    rules = [
        f"udp dport {few[0]} drop",
        f"tcp dport {{ {few[1]}, {few[2]} }} counter drop",
        f"ip saddr {_net(m, i)}.0/24 drop",
        'meta l4proto sctp drop comment "guest"',
        "ct state established,related accept",
        f"iifname nowhere{i} drop" if hook not in ("output",) else f"oifname nowhere{i} drop",
    ]
    m.nft(ns, "inet", hook, r.choice((-290, -175, -1, 5, 350)), r.sample(rules, r.randint(1, 5)))


def _legacy(m: "Making", ns: str, i: int) -> None:
    r = m.rng
    tool = r.choice(("iptables", "iptables-legacy"))
    if m.c.family == 6:
        tool = tool.replace("iptables", "ip6tables")
    chain = r.choice(("INPUT", "FORWARD", "OUTPUT"))
    m.c.add(
        f"{ns} {tool} -A {chain} -p tcp --dport {m.dport + 2 + r.randrange(99)} -j DROP",
        f"{ns} {tool} -A {chain} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
    )


def _sets(m: "Making", ns: str, i: int) -> None:
    """A jump, a set and a map."""
    r, add = m.rng, f"{ns} nft add"
    hook, priority = r.choice(("input", "forward", "output")), r.choice((-10, 0, 20))
    m.c.add(
        f"{add} table inet zone{i}",
        f"{add} set inet zone{i} ports {{ type inet_service; elements = {{ {m.dport + 3}, {m.dport + 9} }} }}",
        f"{add} chain inet zone{i} sub",
        f"{add} rule inet zone{i} sub udp dport @ports drop",
        f"{add} rule inet zone{i} sub tcp dport @ports reject",
        f"{add} chain inet zone{i} c {{ type filter hook {hook} priority {priority}; }}",
        f"{add} rule inet zone{i} c meta l4proto vmap {{ tcp : jump sub, udp : jump sub, gre : drop }}",
    )


def _nat(m: "Making", ns: str, i: int) -> None:
    """Translates what never comes."""
    family = "ip6" if m.c.family == 6 else "ip"
    m.nft(ns, family, "postrouting", 100, [f"oifname idle{i} masquerade"], "nat")
    m.nft(ns, family, "prerouting", -100, [f"tcp dport {m.dport + 5} redirect to :{m.dport + 6}"], "nat")
