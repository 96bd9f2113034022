"""Repairs that somebody else must decide: filters, sysctls, links. Shown as commands, never applied.

Why by hand: a rule that drops was written by somebody for a reason that no snapshot holds.
"""

from pathfit.core.finding import Finding, Fix
from pathfit.core.snapshot import NetnsSnapshot
from pathfit.remedies.base import Argv, at, enter, ip, reachable
from pathfit.rules.places import place_text
from pathfit.rules.tables import drops_too_big
from pathfit.rules.view import View


def of_filter(finding: Finding, view: View) -> tuple[Fix, ...]:
    """Delete the rule of FLT401 by its handle. nft knows it by that; iptables shows the same rule by its text."""
    ns = _namespace(finding, view)
    table, chain, handle = (finding.facts.get(k) for k in ("table", "chain", "handle"))
    if ns is None or not isinstance(table, str) or not isinstance(chain, str) or not handle:
        return ()
    if finding.facts.get("tool") == "iptables-legacy":
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


def of_forwarding(finding: Finding, view: View) -> tuple[Fix, ...]:
    ns = _namespace(finding, view)
    if ns is None:
        return ()
    key = "net/ipv6/conf/all/forwarding" if finding.facts.get("family") == 6 else "net/ipv4/ip_forward"
    return (_sysctl("forwarding-on", "fix.forwarding-on", view, ns, key, "1", "0"),)


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
