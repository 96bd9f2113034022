"""Ways that carry nothing at all, seen from state alone: filters, the reverse path check, forwarding switched off, no
route, no neighbour, no link, subnets that overlap.

Nobody asked for anything, so what a rule takes away may be meant so: a policy of port numbers is not a fault. What is
said as a warning or error here is what nobody means: an engine's own container that its host does not forward for.
"""

import ipaddress
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from typing import NamedTuple

from pathfit.core.filters import FilterRule, Match, Table, Verdict
from pathfit.core.finding import Confidence, Facts, Finding, Severity
from pathfit.core.net import Point
from pathfit.core.path import Exit, Fate, Filtered, Lookup, Predicted, Resolve
from pathfit.core.snapshot import Link, Route
from pathfit.model.lookup import on_purpose
from pathfit.model.network import Net
from pathfit.rules.base import found, line
from pathfit.rules.places import place_text
from pathfit.rules.state.machine import REF, Group, Machine, Way
from pathfit.rules.state.mtu import about

POLICY = "policy"
ENGINES = ("DOCKER", "KUBE-", "CNI-", "NETAVARK", "CILIUM", "cali-", "FLANNEL", "WEAVE")
MAIN, KERNEL = 254, 2  # RT_TABLE_MAIN, RTPROT_KERNEL
UNASKED = tuple(ipaddress.ip_network(x) for x in ("172.16.0.0/12", "192.168.0.0/16", "10.88.0.0/15"))
"""What engines take by themselves: libnetwork ipamutils (default address pools), Podman's default_subnet and pools."""


def _ended(machine: Machine, *fates: Fate) -> Iterator[tuple[Group, Way, Predicted]]:
    """Ways of groups that any packet fails on. The way back counts only where all of it is seen."""
    for group in machine.groups:
        for way in group.ways:
            if way.what == "route":
                continue
            if way.forward.fate in fates:
                yield group, way, way.forward
            elif way.reverse.complete and way.reverse.fate in fates:
                yield group, way, way.reverse


def _together(ends: Iterable[tuple[Group, Way, Predicted]]) -> Iterator[tuple[Group, Way, Predicted, tuple[str, ...]]]:
    """Those that one place ends, with everybody they are about."""
    by: dict[object, list[tuple[Group, Way, Predicted]]] = {}
    for one in ends:
        by.setdefault((_place(one[2]), getattr(one[2].culprit, "handle", 0)), []).append(one)
    for same in by.values():
        keys = tuple(dict.fromkeys(k for g, _, _ in same for k in g.keys))
        yield (*same[0], keys)


def _place(way: Predicted) -> Point:
    if way.culprit is not None:
        return way.culprit.at
    return way.hops[-1].where if way.hops else Point(host="", netns="")


def dropped(machine: Machine) -> Iterable[Finding]:
    """A firewall rule drops or rejects the asked traffic.

    Why it hurts: the connection never opens, or one kind of packet is missing for ever. It is not an MTU fault.
    Example: nft `ip saddr 10.0.0.0/8 tcp dport 443 counter drop comment "egress-policy-7"` in a forward chain.
    Repair: change or remove that rule where it stands; pathfit shows it and the command, and never does it.
    Severity: info from state alone, since it may be meant so.
    Possible: nothing was asked for; https to elsewhere stands for what containers use.
    Likely: never, from state alone.
    Confirmed: never, from state alone.
    References: nft(8); iptables(8); nft_do_chain(), ipt_do_table().
    """
    for group, way, ended, keys in _together(_ended(machine, Fate.FILTERED)):
        step = ended.culprit
        if isinstance(step, Filtered) and way.what == "elsewhere" and not _forgotten(machine, group, step):
            yield about(_filtered("FLT401", "info", "possible", group, way, step), keys)


def engine_policy(machine: Machine) -> Iterable[Finding]:
    """A host's policy for forwarded packets is "drop", and no rule lets these containers through.

    Why it hurts: an engine (or a firewall) sets the policy of the FORWARD chain to drop and lets only its own networks
    pass; the containers of another engine, a lab, a VM then reach nobody, on the same bridge either when bridged
    packets are shown to iptables.
    Example: Docker was installed beside LXD; `iptables -P FORWARD DROP`, and lxdbr0 has no rule that accepts.
    Repair: a rule that accepts that bridge (for Docker's hosts: in the chain DOCKER-USER).
    Severity: warning.
    Possible: never said.
    Likely: the policy of the forward hook drops, and no rule there accepts anything new from these containers: where
    one lets some ports through, the others are closed on purpose.
    Confirmed: never, from state alone.
    References: docs.docker.com/engine/network/packet-filtering-firewalls; nf_hook_slow(); br_nf_forward_ip().
    """
    for group, way, ended, keys in _together(_ended(machine, Fate.FILTERED)):
        step = ended.culprit
        if isinstance(step, Filtered) and _forgotten(machine, group, step):
            yield about(_filtered("FLT404", "warning", "likely", group, way, step), keys)


def _forgotten(machine: Machine, group: Group, step: Filtered) -> bool:
    """Is it the policy of a forward hook, on a host where an engine keeps its rules, and did nobody think of these?"""
    if step.hook != "forward" or not step.rule.startswith(POLICY):
        return False
    net = machine.network.at(step.at)
    tables = net.snap.tables if net else ()
    if net is None or not any(c.name.startswith(ENGINES) for t in tables for c in t.chains):
        return False
    doors = Doors(set(_doors(machine, group, net)), {x.name for x in net.snap.links if x.kind == "bridge"})
    mine = [t for t in tables if f"{t.family} {t.name}" == step.table]
    return not any(_lets_out(r, doors, group) for t in mine for r in _reached(t, step.chain))


class Doors(NamedTuple):
    """Devices by which a group's packets come in, and those that lead to containers only."""

    mine: set[str]
    bridges: set[str]


def _doors(machine: Machine, group: Group, net: Net) -> Iterator[str]:
    """Names of the devices by which packets of the group come in there: the halves of its cables, their bridges."""
    for link in group.net.snap.links:
        there = machine.network.peer(group.net, link) if link.kind == "veth" else None
        if there is not None and there[0] is net:
            yield there[1].name
            if there[1].master in net.links:
                yield net.links[there[1].master].name


def _reached(table: Table, first: str) -> Iterator[FilterRule]:
    """Rules of a chain and of all that it leads to, each once."""
    chains = {c.name: c for c in table.chains}
    waiting, seen = [first], {first}
    while waiting:
        chain = chains.get(waiting.pop())
        for rule in chain.rules if chain is not None else ():
            yield rule
            ends = {e.target for e in rule.exprs if isinstance(e, Verdict) and e.target} - seen
            seen |= ends
            waiting += ends


def _lets_out(rule: FilterRule, doors: Doors, group: Group) -> bool:
    """Does it accept something new, and more than ICMP, that such a group may send to elsewhere?"""
    if not any(isinstance(e, Verdict) and e.kind == "accept" for e in rule.exprs):
        return False
    return all(_may_be(e, doors, group) for e in rule.exprs if isinstance(e, Match))


def _may_be(test: Match, doors: Doors, group: Group) -> bool:
    if test.field == "iifname":
        hit = any(fnmatchcase(d, v) if v.endswith("*") else d == v for d in doors.mine for v in test.values)
    elif test.field == "oifname":
        hit = not doors.bridges.issuperset(test.values)  # a published port is let in to a container's bridge
    elif test.field == "ctstate":
        hit = "new" in test.values
    elif test.field == "ctstatus":
        hit = False  # "dnat": it was let in from outside
    elif test.field == "l4proto":
        hit = not set(test.values) <= {"1", "58"}
    elif test.field == "saddr":
        own = [a.address for a in group.net.snap.addresses if a.scope == 0]
        hit = any(_covers(v, a) for v in test.values for a in own)
    else:
        return True
    return hit != test.negate


def _covers(prefix: str, address: str) -> bool:
    try:
        return ipaddress.ip_address(address) in ipaddress.ip_network(prefix, strict=False)
    except ValueError:
        return True  # a range, or a name: it may


def _filtered(code: str, severity: Severity, sure: Confidence, group: Group, way: Way, step: Filtered) -> Finding:
    facts: Facts = {
        "case": "state",
        "direction": "outbound",
        "source": group.name,
        "target": "elsewhere" if way.what == "elsewhere" else way.of.name if way.of else way.to,
        "place": place_text(step.at),
        "tool": step.tool,
        "table": step.table,
        "chain": step.chain,
        "rule": step.rule or POLICY,
        "handle": step.handle,
    }
    proof = line(REF, "rule", table=step.table, chain=step.chain, rule=step.rule or POLICY, place=place_text(step.at))
    return found(code, severity, sure, step.at, facts, proof)


def reverse_path(machine: Machine) -> Iterable[Finding]:
    """The reverse path check drops packets because the way back to their sender leads through another device.

    Why it hurts: nothing is logged; with two NICs, VPNs or policy routes, answers or requests vanish.
    Example: rp_filter=1 and the route to the container's network points to another interface.
    Repair: correct the routes, or set rp_filter=2 (loose) on that device.
    Severity: error.
    Possible: never said.
    Likely: state shows that the check fails on a way that containers use.
    Confirmed: never, from state alone.
    References: RFC 3704; fib_validate_source(), ip_rcv_finish_core().
    """
    for _, _, ended, keys in _together(_ended(machine, Fate.RP_FILTER)):
        at = _place(ended)
        if ended.why.startswith("martian"):
            continue  # it came back to its own sender: what stands for elsewhere is nowhere here
        facts: Facts = {"direction": "outbound", "place": place_text(at)}
        yield about(found("FLT402", "error", "likely", at, facts, line(REF, "rp-filter", place=place_text(at))), keys)


def not_forwarding(machine: Machine) -> Iterable[Finding]:
    """A host on the way does not forward packets.

    Why it hurts: containers reach their host and nothing beyond it.
    Example: net.ipv4.ip_forward=0 after a reboot, or `forwarding` switched off for one interface.
    Repair: `sysctl -w net.ipv4.ip_forward=1` (and keep it in /etc/sysctl.d).
    Severity: error for IPv4; warning for IPv6, which many hosts leave off on purpose.
    Possible: never said.
    Likely: the default route of a container leads to a host that does not forward.
    Confirmed: never, from state alone.
    References: ip_forward(), ip_route_input_slow(); sysctl net.ipv4.conf.*.forwarding.
    """
    for _, way, ended, keys in _together(_ended(machine, Fate.FORWARDING_OFF)):
        at = _place(ended)
        facts: Facts = {"direction": "outbound", "place": place_text(at), "family": way.family}
        proof = line(REF, "forwarding-off", place=place_text(at))
        severity: Severity = "error" if way.family == 4 else "warning"
        yield about(found("FLT403", severity, "likely", at, facts, proof), keys)


def no_route(machine: Machine) -> Iterable[Finding]:
    """There is no route to the target, or back from it, or the route says so on purpose.

    Why it hurts: nothing passes, of any size.
    Example: a container without default route; a `blackhole` or `prohibit` route left by a CNI.
    Repair: add the route; remove the blackhole.
    Severity: info from state alone: a network without a way out may be meant so.
    Possible: a container's packets end at a host that has no route for them, or at a route that refuses them.
    Likely: never, from state alone.
    Confirmed: never, from state alone.
    References: fib_lookup(), ip_error(); ip-route(8).
    """
    for group, way, ended, keys in _together(_ended(machine, Fate.NO_ROUTE, Fate.UNREACHABLE)):
        step = ended.culprit
        at = _place(ended)
        if not isinstance(step, Lookup):
            continue
        refused = on_purpose(step.route)
        target = way.of.name if way.of else "elsewhere" if way.what == "elsewhere" else way.to
        facts: Facts = {"case": "state", "direction": "outbound", "target": target, "place": place_text(at)}
        proof = line(REF, "no-route", place=place_text(at), target=way.to)
        if refused:
            facts["case"], facts["route"] = "route", step.route
            proof = line(REF, "route", place=place_text(at), route=step.route)
        if at.netns != group.net.snap.where or refused:
            yield about(found("RTE501", "info", "possible", at, facts, proof), keys)


def neighbour(machine: Machine) -> Iterable[Finding]:
    """The next hop, or the target itself, does not answer on its own link (ARP, NDP).

    Why it hurts: nothing passes; after about three seconds "no route to host" comes back.
    Example: the container behind an address is gone; the VLAN of a port is wrong.
    Repair: find out why that address does not answer on that link.
    Severity: warning from state alone: an entry that failed says what was, not what is.
    Possible: never said.
    Likely: the kernel asked for the gateway in vain.
    Confirmed: never, from state alone.
    References: neigh_invalidate(), arp_error_report(); RFC 826; RFC 4861 section 7.
    """
    for _, way, ended, keys in _together(_ended(machine, Fate.NEIGH_FAILED)):
        step = ended.culprit
        if not isinstance(step, Resolve) or step.state != "failed" or way.what != "elsewhere":
            continue
        facts: Facts = {"case": "state", "direction": "outbound", "address": step.address, "place": place_text(step.at)}
        proof = line(REF, "neighbour", place=place_text(step.at), address=step.address)
        yield about(found("RTE502", "warning", "likely", step.at, facts, proof), keys)


def link_down(machine: Machine) -> Iterable[Finding]:
    """A device on the way is down or has no carrier.

    Why it hurts: nothing passes.
    Example: the far half of a veth pair, or a bridge port, was never set up.
    Repair: `ip link set DEV up`; for "no carrier" look at the other end.
    Severity: error.
    Possible: never said.
    Likely: the device is on a way that a running container uses.
    Confirmed: never, from state alone.
    References: IFF_UP, IFF_LOWER_UP (netdevice(7)); dev_queue_xmit().
    """
    ours = ((g, w, p) for g, w, p in _ended(machine, Fate.LINK_DOWN) if w.what != "mate" or _own_cable(machine, g, p))
    for _, _, ended, keys in _together(ours):
        step = ended.culprit
        at = step.at if isinstance(step, Exit) else _place(ended)
        facts: Facts = {"direction": "outbound", "place": place_text(at)}
        yield about(found("RTE503", "error", "likely", at, facts, line(REF, "link-down", place=place_text(at))), keys)


def _own_cable(machine: Machine, group: Group, ended: Predicted) -> bool:
    """Is it a device of the group itself, or the other half of its cable? That a mate is down is no fault of others."""
    at = ended.culprit.at if isinstance(ended.culprit, Exit) else _place(ended)
    peers = (machine.network.peer(group.net, x) for x in group.net.snap.links if x.kind == "veth")
    return at.netns == group.net.snap.where or at in [p[0].point(p[1].name) for p in peers if p is not None]


def overlapping(machine: Machine) -> Iterable[Finding]:
    """A network of containers has the addresses of another network that its host has a route to.

    Why it hurts: whatever has such an address on the other side cannot be reached, and which one wins may change with
    the order in which devices came up.
    Example: a compose network took 172.18.0.0/16, and the company's VPN routes 172.16.0.0/12.
    Repair: another subnet for the container network (`default-address-pools` in daemon.json).
    Severity: warning; info where the other route is a larger one and the containers' network was given its addresses
    by a person: who sends all of 10.0.0.0/8 to headquarters may have 10.5.0.0/24 here on purpose.
    Possible: the other route covers more than the containers' network, which did not get its addresses by itself.
    Likely: both routes are in one table, over different devices, for the same addresses; or the containers' network has
    the addresses that Docker and Podman take when nobody says which.
    Confirmed: never, from state alone.
    References: fib_table_lookup(): the longest prefix wins, then the metric.
    """
    bridges = {key for group in machine.groups for key in machine.segments(group.net)}
    for net in machine.network.nets.values():
        ours = [r for r in _connected(net) if (net.key, r.hops[0].link) in bridges]
        covering = _by_prefix(net) if ours else {}
        for mine in ours:
            subnet = _subnet(mine)
            for length in {x for family, x in covering if family == mine.family and x <= subnet.prefixlen}:
                for other in covering[mine.family, length].get(int(subnet.supernet(new_prefix=length)[0]), ()):
                    if _clashes(net, mine, other):
                        yield _overlap(machine, net, mine, other)


def _by_prefix(net: Net) -> dict[tuple[int, int], dict[int, list[Route]]]:
    """Routes by (family, prefix length), then by their first address as a number."""
    found_: dict[tuple[int, int], dict[int, list[Route]]] = {}
    for r in net.snap.routes:
        if r.prefix and r.table == MAIN and r.type == "unicast" and r.hops:
            first = int(ipaddress.ip_address(r.dst))
            found_.setdefault((r.family, r.prefix), {}).setdefault(first, []).append(r)
    return found_


def _connected(net: Net) -> list[Route]:
    return [
        r
        for r in net.snap.routes
        if r.type == "unicast" and r.prefix and r.table == MAIN and len(r.hops) == 1 and not r.hops[0].via
        and r.protocol == KERNEL and not r.dst.startswith("fe80")
    ]  # fmt: skip


def _clashes(net: Net, mine: Route, other: Route) -> bool:
    """Another route to the same addresses by another device; the default route covers everything and does not count."""
    if other is mine or other.family != mine.family or other.table != MAIN or other.type != "unicast":
        return False
    if not other.prefix or not other.hops or other.hops[0].link == mine.hops[0].link or other.dst.startswith("fe80"):
        return False
    link = net.links.get(other.hops[0].link)
    host_route = other.prefix in (32, 128)  # one address on purpose: a container of Calico or Cilium, a VPN's peer
    return link is not None and link.up and not host_route and other.prefix <= mine.prefix


def _subnet(route: Route) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    return ipaddress.ip_network(f"{route.dst}/{route.prefix}", strict=False)


def _overlap(machine: Machine, net: Net, mine: Route, other: Route) -> Finding:
    device, far = net.links[mine.hops[0].link], net.links[other.hops[0].link]
    at, there = net.point(device.name), net.point(far.name)
    facts: Facts = {
        "subnet": str(_subnet(mine)),
        "other": str(_subnet(other)),
        "device": place_text(at),
        "there": place_text(there),
    }
    proof = line(REF, "two-routes", one=_shown(mine, device), other=_shown(other, far))
    keys = tuple(k for g in machine.groups if (net.key, device.index) in machine.segments(g.net) for k in g.keys)
    here = _subnet(mine)
    by_accident = other.prefix == mine.prefix or any(here.version == x.version and here.overlaps(x) for x in UNASKED)
    severity: Severity = "warning" if by_accident else "info"
    sure: Confidence = "likely" if by_accident else "possible"
    return about(found("RTE504", severity, sure, (at, there), facts, proof), keys)


def _shown(route: Route, link: Link) -> str:
    via = f" via {route.hops[0].via}" if route.hops[0].via else ""
    return f"{_subnet(route)}{via} dev {link.name}"
