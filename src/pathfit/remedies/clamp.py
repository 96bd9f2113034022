"""A constant MSS clamp on the first box that forwards the asked flow, in an nft table of our own.

Constants, not "to path MTU": a limit that nobody tells is in no route. IPv4 takes 40 bytes off, IPv6 60 (RFC 6691).
Both SYN and SYN-ACK pass the forward chain, so both directions are bounded. Not offered where packets would not
come by: bridged without bridge-nf, or flows that a flowtable carries past the forward hook.
"""

from pathfit.core.finding import Fix
from pathfit.core.net import IP_HEADER, TCP_HEADER, Family
from pathfit.core.path import Decap, Encap, Lookup
from pathfit.core.snapshot import NetnsSnapshot
from pathfit.remedies.base import Argv, at, enter, reachable
from pathfit.rules.places import place_text
from pathfit.rules.view import View

TABLE = "pathfit"


def mss_clamp(view: View, value: int) -> tuple[Fix, ...]:
    """The fix, or nothing when no forwarding box is visible or it could not work there."""
    ns = _router(view)
    if ns is None or not reachable(ns):
        return ()
    if any(t.flowtable_devices for t in ns.tables) or any(t.name == TABLE and t.tool == "nft" for t in ns.tables):
        return ()
    family: Family = 6 if view.family == 6 else 4
    mss = value - IP_HEADER[family] - TCP_HEADER
    nft: Argv = (*enter(ns), "nft")
    protocol = "ipv6" if family == 6 else "ipv4"
    rule = f"meta nfproto {protocol} tcp flags & (syn | rst) == syn tcp option maxseg size > {mss}"
    commands = (
        (*nft, "add", "table", "inet", TABLE),
        (*nft, f"add chain inet {TABLE} clamp {{ type filter hook forward priority -150 ; }}"),
        (*nft, f"add rule inet {TABLE} clamp {rule} tcp option maxseg size set {mss}"),
    )
    return (
        Fix(
            id="mss-clamp",
            title="fix.mss-clamp",
            platform="linux",
            value=mss,
            effective=value,
            applicability="safe",
            lasts="reboot",
            commands=commands,
            undo=((*nft, "delete", "table", "inet", TABLE),),
            where=at(view, ns),
            facts={"place": place_text(at(view, ns))},
        ),
    )


def _router(view: View) -> NetnsSnapshot | None:
    """The first namespace after the source that forwards the flow at layer 3 (it looked up a route there)."""
    way = view.predicted_forward
    if way is None or view.source is None:
        return None
    ends = way.hops[-1].where.netns if way.complete and way.hops else None
    inside = 0  # tunnels the packet is in: a route looked up there is not that of the flow
    for hop in way.hops:
        for step in hop.steps:
            if isinstance(step, (Encap, Decap)):
                inside += 1 if isinstance(step, Encap) else -1
            elif isinstance(step, Lookup) and not inside and step.at.netns not in (view.source.where, ends):
                return view.namespace(step.at.netns)
    return None
