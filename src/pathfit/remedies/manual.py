"""Repairs that somebody else must decide: filters, sysctls, links. Shown as commands, never applied.

Why by hand: a rule that drops was written by somebody for a reason that no snapshot holds.
"""

import ipaddress

from pathfit.core.finding import Finding, Fix
from pathfit.core.snapshot import Link, NetnsSnapshot, Route
from pathfit.remedies import apart
from pathfit.remedies.base import MAIN_TABLE, Argv, at, enter, ip, nft_takes, reachable
from pathfit.remedies.clamp import FORWARDS
from pathfit.rules import forecast
from pathfit.rules.places import place_text
from pathfit.rules.tables import drops_too_big
from pathfit.rules.view import View


def of_filter(finding: Finding, view: View) -> tuple[Fix, ...]:
    """Delete the rule of FLT401 by its handle. nft knows it by that; iptables shows the same rule by its text. Not one
    of those that keep an engine's networks apart: they come back, and other containers rely on them."""
    if apart.is_docker_s(finding):
        return apart.join(finding, view)
    ns = _namespace(finding, view)
    table, chain, handle = (finding.facts.get(k) for k in ("table", "chain", "handle"))
    if ns is None or not isinstance(table, str) or not isinstance(chain, str) or not handle:
        return ()
    if finding.facts.get("tool") == "iptables-legacy" or not nft_takes(table.partition(" ")[2], chain):
        return ()
    command: Argv = (*enter(ns), "nft", "delete", "rule", *table.split(), chain, "handle", str(handle))
    return (_by_hand("delete-rule", "fix.delete-rule", view, ns, (command,)),)


def of_rp_filter(finding: Finding, view: View) -> tuple[Fix, ...]:
    """Loose mode on the device where the check fails (RFC 3704 section 2.4)."""
    ns = _namespace(finding, view)
    link = finding.where[0].link if finding.where else None
    if ns is None or link is None:
        return ()
    key = f"net/ipv4/conf/{link}/rp_filter"
    old = ns.sysctls.get(f"ipv4.conf.{link}.rp_filter", "1")
    return (_sysctl("rp-filter-loose", "fix.rp-filter-loose", view, ns, key, "2", old),)


def of_conntrack(finding: Finding, view: View) -> tuple[Fix, ...]:
    """Connection tracking of the namespace that translates takes what is outside of its window as well (RST204). No
    help where it has forgotten the connection."""
    ns = next((n for n in view.namespaces if n.where == finding.facts.get("translator")), None)
    if ns is None or finding.facts.get("case") != "invalid":
        return ()
    key = "net/netfilter/nf_conntrack_tcp_be_liberal"
    return (_sysctl("conntrack-liberal", "fix.conntrack-liberal", view, ns, key, "1", "0"),)


def of_forwarding(finding: Finding, view: View) -> tuple[Fix, ...]:
    """The switch for all devices; where that is on already, those of single devices that are off (IN_DEV_FORWARD)."""
    ns = _namespace(finding, view)
    if ns is None:
        return ()
    if finding.facts.get("family") == 6:
        return (_sysctl("forwarding-on", "fix.forwarding-on", view, ns, "net/ipv6/conf/all/forwarding", "1", "0"),)
    if ns.sysctls.get("ipv4.ip_forward") != "1":
        return (_sysctl("forwarding-on", "fix.forwarding-on", view, ns, "net/ipv4/ip_forward", "1", "0"),)
    off = [x.name for x in ns.links if ns.sysctls.get(f"ipv4.conf.{x.name}.forwarding") == "0" and not x.loopback]
    keys = [f"net/ipv4/conf/{name}/forwarding" for name in off]
    return tuple(_sysctl("forwarding-on", "fix.forwarding-on", view, ns, key, "1", "0") for key in keys[:1])


def of_no_route(finding: Finding, view: View) -> tuple[Fix, ...]:
    """Take away a route that says no on purpose; or the default route that a container's only neighbour could be.

    Nothing where a gateway would be a guess: several devices, or nobody visible who forwards at the other end.
    """
    ns = _namespace(finding, view)
    if ns is None:
        return ()
    on_purpose = finding.facts.get("route")
    if isinstance(on_purpose, str):
        route = next((r for r in ns.routes if f"{r.type} {_dst(r)}" == " ".join(on_purpose.split()[:2])), None)
        if route is None:
            return ()
        words = (route.type, _dst(route), *_which(route))
        command = (*ip(ns), f"-{route.family}", "route")
        undo = ((*command, "add", *words),)
        return (_by_hand("delete-route", "fix.delete-route", view, ns, ((*command, "del", *words),), undo),)
    gateway = _gateway(view, ns) if ns is view.source and finding.facts.get("case") in ("state", "local") else None
    if gateway is None:
        return ()
    words = ("default", "via", gateway[0], "dev", gateway[1].name)
    command = (*ip(ns), f"-{view.family}", "route")
    undo = ((*command, "del", *words),)
    return (_by_hand("add-route", "fix.add-route", view, ns, ((*command, "add", *words),), undo),)


def _dst(route: Route) -> str:
    """As `ip route` prints it."""
    if not route.prefix:
        return "default"
    return route.dst if route.prefix == (32 if route.family == 4 else 128) else f"{route.dst}/{route.prefix}"


def _which(route: Route) -> Argv:
    table: Argv = ("table", str(route.table)) if route.table != MAIN_TABLE else ()
    metric: Argv = ("metric", str(route.metric)) if route.metric else ()
    return (*table, *metric)


def _gateway(view: View, ns: NetnsSnapshot) -> tuple[str, Link] | None:
    """(address, own device): the address in our subnet at the other end of our only cable, of a host that forwards."""
    links = [x for x in ns.links if not x.loopback]
    if view.state is None or len(links) != 1 or any(r.prefix == 0 and r.family == view.family for r in ns.routes):
        return None
    network = forecast.network(view.state)
    net = network.find(ns.id)
    other = network.peer(net, links[0]) if net is not None else None
    if other is None or other[0].snap.sysctls.get(FORWARDS[view.family]) != "1":
        return None
    far, half = other[0].snap, other[1]
    subnets = [
        ipaddress.ip_interface(f"{a.address}/{a.prefix}").network for a in ns.addresses if a.link == links[0].index
    ]
    found = [
        a.address
        for a in far.addresses
        if a.link in (half.index, half.master) and any(ipaddress.ip_address(a.address) in n for n in subnets)
    ]
    same = [a for a in found if (":" in a) == (view.family == 6)]
    return (same[0], links[0]) if len(same) == 1 else None


def of_link(finding: Finding, view: View) -> tuple[Fix, ...]:
    ns = _namespace(finding, view)
    link = finding.where[0].link if finding.where else None
    if ns is None or link is None:
        return ()
    up: Argv = (*ip(ns), "link", "set", "dev", link, "up")
    down: Argv = (*ip(ns), "link", "set", "dev", link, "down")
    return (_by_hand("link-up", "fix.link-up", view, ns, (up,), (down,), link),)


def of_too_big(finding: Finding, view: View) -> tuple[Fix, ...]:
    """Let "too big" through, in front of the rule that takes it, where state shows that in the sender's namespace."""
    ns = view.target if finding.facts.get("direction") == "inbound" else view.source
    stopper = drops_too_big(ns, view.family)
    if ns is None or stopper is None or not reachable(ns) or stopper[0].tool == "iptables-legacy":
        return ()
    table, chain = stopper
    if not nft_takes(table.name, chain.name):
        return ()
    match = ("icmpv6", "type", "packet-too-big") if view.family == 6 else ("icmp", "type", "destination-unreachable")
    rule: Argv = (*enter(ns), "nft", "insert", "rule", table.family, table.name, chain.name, *match, "accept")
    return (_by_hand("allow-too-big", "fix.allow-too-big", view, ns, (rule,)),)


def _namespace(finding: Finding, view: View) -> NetnsSnapshot | None:
    ns = view.namespace(finding.where[0].netns) if finding.where else None
    return ns if ns is not None and reachable(ns) else None


def _sysctl(id_: str, title: str, view: View, ns: NetnsSnapshot, key: str, new: str, old: str) -> Fix:
    """Slashes in the key, for a device name may hold dots (sysctl(8))."""
    run = enter(ns)
    return _by_hand(
        id_, title, view, ns, ((*run, "sysctl", "-w", f"{key}={new}"),), ((*run, "sysctl", "-w", f"{key}={old}"),)
    )


def _by_hand(
    id_: str,
    title: str,
    view: View,
    ns: NetnsSnapshot,
    commands: tuple[Argv, ...],
    undo: tuple[Argv, ...] = (),
    link: str | None = None,
) -> Fix:
    place = at(view, ns, link)
    return Fix(
        id=id_,
        title=title,
        platform="linux",
        applicability="manual",
        lasts="reboot",
        commands=commands,
        undo=undo,
        where=place,
        facts={"place": place_text(place)},
    )
