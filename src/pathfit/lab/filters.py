"""NAT, clamps, firewalls and faults of a scenario as nft text, sysctls and routes of its hosts. Pure.

Chains stand where people and engines put them: source NAT at postrouting 100, destination NAT at prerouting -100,
clamps at forward -150 (mangle), a "too big" that must never be seen at input -300 (before connection tracking).
"""

import ipaddress
import re
from collections.abc import Callable
from typing import Any

from pathfit.lab.layout import Layout
from pathfit.lab.routing import add_route, destination, forwards, next_hop_on_shared
from pathfit.lab.scenario import (
    At,
    Clamp,
    DeadNeighbour,
    Fault,
    Firewall,
    Lines,
    Loss,
    Nat,
    NoAnswer,
    NoRoute,
    Route,
    Sidecar,
    StalePmtu,
    Sysctls,
    TooBigLost,
)

PROXY_MARK = 0x5049  # a sidecar's own packets carry it, so that they are not redirected to itself
_PLACEHOLDER = re.compile(r"<([a-z][a-z0-9-]{0,14}(?:\.[A-Za-z0-9_-]{1,15})?)(/net)?(:6|:4)?>")


def fill(plan: Layout, line: str) -> str:
    """``<s>`` -> its address, ``<c/net>`` -> its prefix, ``<s:6>`` the IPv6 one. Raises KeyError."""

    def one(m: re.Match[str]) -> str:
        family = int(m[3][1:]) if m[3] else plan.scenario.families[0]
        return plan.network(m[1], family) if m[2] else plan.address(m[1], family)

    return _PLACEHOLDER.sub(one, line)


def add_filters(plan: Layout) -> None:
    """Everything of the scenario that is not a link, an address or a plain route."""
    for bridge in plan.bridges:
        if bridge.nat:
            _masquerade_bridge(plan, bridge.port.host, bridge.port.link)
    for nat in plan.scenario.nat:
        _nat(plan, nat)
    for i, clamp in enumerate(plan.scenario.clamps):
        _clamp(plan, clamp, i)
    for sidecar in plan.scenario.sidecars:
        _sidecar(plan, sidecar)
    for i, fault in enumerate(plan.scenario.faults):
        name, value = fault_of(fault)
        _FAULTS[name](plan, value, i)


def fault_of(fault: Fault) -> tuple[str, Any]:
    """The one key that is set. Raises ValueError for none or several."""
    keys = [(k, getattr(fault, k)) for k in fault.__struct_fields__ if getattr(fault, k) is not None]
    if len(keys) != 1:
        raise ValueError(f"exactly one of: {', '.join(fault.__struct_fields__)}")
    return keys[0]


def _table(plan: Layout, host: str, family: str, name: str, chains: str) -> None:
    plan.hosts[host].nft.append(f"table {family} {name} {{\n{chains}\n}}\n")


def _ip_word(family: int) -> str:
    return "ip" if family == 4 else "ip6"


def _masquerade_bridge(plan: Layout, host: str, link: str) -> None:
    for family in plan.scenario.families:
        ip = _ip_word(family)
        net = plan.network(f"{host}.{link}", family)
        chain = (
            f"  chain POSTROUTING {{\n    type nat hook postrouting priority srcnat; policy accept;\n"
            f'    {ip} saddr {net} oifname != "{link}" counter masquerade\n  }}'
        )
        _table(plan, host, ip, "nat", chain)


def _nat(plan: Layout, nat: Nat) -> None:
    for family in plan.scenario.families:
        ip = _ip_word(family)
        if nat.kind == "masquerade":
            where = f'oifname "{nat.out}" ' if nat.out else ""
            hook, rule = "postrouting priority srcnat", f"{where}counter masquerade"
            chain = "POSTROUTING"
        else:
            hook = f"{nat.hook} priority {'dstnat' if nat.hook == 'prerouting' else '-100'}"
            rule, chain = _dnat_rule(plan, nat, family), nat.hook.upper()
        body = f"  chain {chain} {{\n    type nat hook {hook}; policy accept;\n    {rule}\n  }}"
        _table(plan, nat.host, ip, "nat", body)


def _dnat_rule(plan: Layout, nat: Nat, family: int) -> str:
    ip = _ip_word(family)
    port = f"tcp dport {nat.port} " if nat.port else "meta l4proto tcp "
    if nat.kind == "redirect":
        return f"{port}counter redirect to :{nat.to_port}"
    own = "" if nat.hook == "output" else "fib daddr type local "
    after = f":{nat.to_port}" if nat.to_port else ""
    if not nat.balance:
        to = plan.address(nat.to or "", family)
        to = f"[{to}]" if after and family == 6 else to
        return f"{own}{port}counter dnat to {to}{after}"
    backends = ", ".join(f"{i} : {plan.address(b, family)}" for i, b in enumerate(nat.balance))
    n = len(nat.balance)
    pick = f"numgen inc mod {n}" if nat.by == "turn" else f"jhash {ip} saddr . tcp sport mod {n} seed 0x50"
    return f"{own}{port}counter dnat to {pick} map {{ {backends} }}"


def _clamp(plan: Layout, clamp: Clamp, i: int) -> None:
    way = (f'iifname "{clamp.incoming}" ' if clamp.incoming else "") + (f'oifname "{clamp.out}" ' if clamp.out else "")
    size = str(clamp.size) if clamp.size else "rt mtu"
    body = (
        f"  chain clamp{i} {{\n    type filter hook {clamp.hook} priority mangle; policy accept;\n"
        f"    {way}tcp flags & (syn | rst) == syn counter tcp option maxseg size set {size}\n  }}"
    )
    _table(plan, clamp.host, "inet", "mss", body)


def _sidecar(plan: Layout, sidecar: Sidecar) -> None:
    ports = ", ".join(map(str, sidecar.ports))
    for family in plan.scenario.families:
        body = (
            f"  chain OUTPUT {{\n    type nat hook output priority -100; policy accept;\n"
            f"    meta mark {PROXY_MARK:#x} accept\n"
            f"    tcp dport {{ {ports} }} counter redirect to :{sidecar.listen}\n  }}"
        )
        _table(plan, sidecar.host, _ip_word(family), "sidecar", body)


def _too_big_lost(plan: Layout, value: str | TooBigLost, i: int) -> None:
    at = TooBigLost(host=value) if isinstance(value, str) else value
    body = (
        f"  chain {at.where} {{\n    type filter hook {at.where} priority -300; policy accept;\n"
        "    icmp type destination-unreachable icmp code frag-needed counter drop\n"
        "    icmpv6 type packet-too-big counter drop\n  }"
    )
    _table(plan, at.host, "inet", "noptb", body)


def _too_big_never_made(plan: Layout, value: NoAnswer, i: int) -> None:
    for family in plan.scenario.families:
        to = destination(plan, value.to, family)
        if to is not None:
            plan.hosts[value.host].rules.append((to, "prohibit"))


def _links(plan: Layout, host: str) -> list[str]:
    found = []
    for pair in plan.pairs():
        found += [p.link for p in pair if p.host == host]
    return found


def _ingress(plan: Layout, host: str, link: str | None, table: str, rules: list[str]) -> None:
    for name in [link] if link else _links(plan, host):
        chain = "c" + re.sub(r"[^a-zA-Z0-9]", "", name)
        body = (
            f'  chain {chain} {{\n    type filter hook ingress device "{name}" priority 0; policy accept;\n    '
            + "\n    ".join(rules)
            + "\n  }"
        )
        _table(plan, host, "netdev", table, body)


def _fragments_dropped(plan: Layout, value: str | At, i: int) -> None:
    at = At(host=value) if isinstance(value, str) else value
    rules = ["ip frag-off & 0x3fff != 0 counter drop", "meta protocol ip6 ip6 nexthdr 44 counter drop"]
    _ingress(plan, at.host, at.link, "nofrag", rules)


def _loss(plan: Layout, value: Loss, i: int) -> None:
    share = round(value.percent * 100)
    rule = "counter drop" if share >= 10000 else f"numgen random mod 10000 < {share} counter drop"
    if value.link:
        return _ingress(plan, value.host, value.link, f"loss{i}", [rule])
    hooks = ["forward"] if forwards(plan, value.host) else ["input", "output"]
    for hook in hooks:
        body = f"  chain {hook} {{\n    type filter hook {hook} priority -200; policy accept;\n    {rule}\n  }}"
        _table(plan, value.host, "inet", f"loss{i}", body)
    return None


def _firewall(plan: Layout, value: Firewall, i: int) -> None:
    verdict = {"drop": "drop", "reset": "reject with tcp reset", "reject": "reject", "accept": "accept"}[value.verdict]
    comment = f' comment "{value.comment}"' if value.comment else ""
    body = (
        f"  chain {value.chain} {{\n    type filter hook {value.hook} priority {value.priority}; policy accept;\n"
        f"    {fill(plan, value.match)} counter {verdict}{comment}\n  }}"
    )
    _table(plan, value.host, "inet", value.table, body)


def _nft(plan: Layout, value: Lines, i: int) -> None:
    plan.hosts[value.host].nft.append("\n".join(fill(plan, line) for line in value.lines) + "\n")


def _iptables(tool: str) -> Callable[[Layout, Lines, int], None]:
    def add(plan: Layout, value: Lines, i: int) -> None:
        plan.hosts[value.host].iptables += [(tool, fill(plan, line)) for line in value.lines]

    return add


def _ip(plan: Layout, value: Lines, i: int) -> None:
    plan.hosts[value.host].ip += [fill(plan, line) for line in value.lines]


def _sysctl(plan: Layout, value: Sysctls, i: int) -> None:
    plan.hosts[value.host].sysctl.update({k: str(v) for k, v in value.set.items()})


def _set(**settings: str) -> Callable[[Layout, str, int], None]:
    def add(plan: Layout, host: str, i: int) -> None:
        plan.hosts[host].sysctl.update({k.replace("__", "."): v for k, v in settings.items()})

    return add


def _forwarding_off(plan: Layout, host: str, i: int) -> None:
    plan.hosts[host].sysctl.update({"net.ipv4.ip_forward": "0", "net.ipv6.conf.all.forwarding": "0"})


def _route(plan: Layout, value: Route, i: int) -> None:
    add_route(plan, value)


def _no_route(plan: Layout, value: NoRoute, i: int) -> None:
    host = plan.hosts[value.host]
    gone = {destination(plan, value.to, f) for f in plan.scenario.families}
    kept = [r for r in host.routes if r.to not in gone]
    if len(kept) == len(host.routes):
        raise ValueError(f"{value.host} has no route to {value.to}; it has: {', '.join(r.to for r in host.routes)}")
    host.routes = kept


def _link_down(plan: Layout, place: str, i: int) -> None:
    host, _, link = place.partition(".")
    for pair in plan.pairs():
        for port in pair:
            if port.host == host and (not link or port.link == link):
                port.up = False


def _dead_neighbour(plan: Layout, value: DeadNeighbour, i: int) -> None:
    for family in plan.scenario.families:
        hop, segment = next_hop_on_shared(plan, value.host, value.to, family)
        net = ipaddress.ip_network(segment.nets[family])
        for r in plan.hosts[value.host].routes:
            if r.via == hop:
                r.via = str(net.network_address + 250)


def _stale_pmtu(plan: Layout, value: StalePmtu, i: int) -> None:
    if value.how == "lock":
        add_route(plan, Route(host=value.host, to=value.to, mtu=value.mtu, lock=True))
    # "exception" is provoked by the builder, with a real ICMP


_FAULTS: dict[str, Callable[[Layout, Any, int], None]] = {
    "too_big_lost_at": _too_big_lost,
    "too_big_never_made": _too_big_never_made,
    "fragments_dropped_at": _fragments_dropped,
    "loss": _loss,
    "firewall": _firewall,
    "nft": _nft,
    "iptables": _iptables("iptables"),
    "iptables_legacy": _iptables("iptables-legacy"),
    "ip6tables": _iptables("ip6tables"),
    "ip": _ip,
    "sysctl": _sysctl,
    "forwarding_off": _forwarding_off,
    "rp_filter": _set(net__ipv4__conf__all__rp_filter="1", net__ipv4__conf__default__rp_filter="1"),
    "syn_cookies": _set(net__ipv4__tcp_syncookies="2"),
    "mtu_probing": _set(net__ipv4__tcp_mtu_probing="1"),
    "route": _route,
    "no_route": _no_route,
    "link_down": _link_down,
    "dead_neighbour": _dead_neighbour,
    "stale_pmtu": _stale_pmtu,
}


def base_sysctl(forward: bool) -> dict[str, str]:
    """What every namespace starts with; the scenario's own settings win.

    Bridged packets do not pass netfilter (br_netfilter may or may not be loaded here): with it a bridge port of
    MTU n carries n (br_nf_dev_queue_xmit), without it n + 4 (is_skb_forwardable), and a lab must not depend on that.
    """
    on = "1" if forward else "0"
    return {
        "net.ipv4.conf.all.rp_filter": "0",
        "net.ipv4.conf.default.rp_filter": "0",
        "net.ipv4.ip_forward": on,
        "net.ipv6.conf.all.forwarding": on,
        "net.ipv6.conf.default.accept_dad": "0",  # addresses are usable at once
        "net.ipv6.conf.all.accept_dad": "0",
        "net.ipv6.conf.default.router_solicitations": "0",
        "net.bridge.bridge-nf-call-iptables": "0",
        "net.bridge.bridge-nf-call-ip6tables": "0",
    }
