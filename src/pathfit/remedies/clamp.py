"""A constant MSS clamp on the first box that forwards the asked flow, in an nft table of our own.

Constants, not "to path MTU": a limit that nobody tells is in no route. IPv4 takes 40 bytes off, IPv6 60 (RFC 6691),
each in a rule of its own; a family that the box does not forward gets none. Both SYN and SYN-ACK pass the forward
chain, so both directions are bounded. Not offered where packets would not come by: bridged without bridge-nf, or
carried past the forward hook by a flowtable, by XDP, or by the eBPF programs of a network plugin.
"""

from pathfit.core.change import AddNftTable
from pathfit.core.finding import Fix
from pathfit.core.net import Family, mss_of
from pathfit.core.path import Decap, Encap, Lookup
from pathfit.core.snapshot import NetnsSnapshot
from pathfit.remedies.base import Argv, at, enter, reachable, verified
from pathfit.rules.places import place_text
from pathfit.rules.view import View

TABLE = "pathfit"
CHAIN = "type filter hook forward priority -150 ; policy accept ;"  # -150: where mangle stands (NF_IP_PRI_MANGLE)
FAMILIES: tuple[Family, ...] = (4, 6)
FORWARDS = {4: "ipv4.ip_forward", 6: "ipv6.conf.all.forwarding"}
BPF_DEVICES = ("cilium_host", "bpfout.cali", "bpfin.cali")
"""Devices of the network plugins that forward by eBPF, past netfilter (Cilium; Calico's eBPF data plane)."""


def mss_clamp(view: View, value: int) -> tuple[Fix, ...]:
    """The fix, or nothing when no forwarding box is visible or it could not work there."""
    ns = _router(view)
    if ns is None or not reachable(ns) or _past(ns):
        return ()
    if view.contact is not None and view.contact.tcp == "n/a" and view.contact.udp != "n/a":
        return ()  # it bounds TCP alone
    if any(t.name == TABLE and t.family == "inet" and t.tool == "nft" for t in ns.tables):
        return ()
    asked: Family = 6 if view.family == 6 else 4
    families = [f for f in FAMILIES if f == asked or ns.sysctls.get(FORWARDS[f]) == "1"]
    rules = [_rule(f, mss_of(f, value)) for f in families]
    nft: Argv = (*enter(ns), "nft")
    script = "\n".join(
        [f"table inet {TABLE} {{", "  chain clamp {", *(f"    {x}" for x in (CHAIN, *rules)), "  }", "}"]
    )
    return (
        Fix(
            id="mss-clamp",
            title="fix.mss-clamp",
            platform="linux",
            value=mss_of(asked, value),
            effective=value,
            applicability="safe",
            lasts="reboot",
            commands=(
                (*nft, "add", "table", "inet", TABLE),
                (*nft, f"add chain inet {TABLE} clamp {{ {CHAIN} }}"),
                *((*nft, f"add rule inet {TABLE} clamp {rule}") for rule in rules),
            ),
            undo=((*nft, "delete", "table", "inet", TABLE),),
            where=at(view, ns),
            facts={"place": place_text(at(view, ns))},
            changes=(AddNftTable(netns=ns.id, where=ns.where, family="inet", name=TABLE, script=script + "\n"),),
            verify=verified(view),
        ),
    )


def _rule(family: Family, mss: int) -> str:
    syn = f"meta nfproto {'ipv6' if family == 6 else 'ipv4'} tcp flags & (syn | rst) == syn"
    return f"{syn} tcp option maxseg size > {mss} tcp option maxseg size set {mss}"


def _past(ns: NetnsSnapshot) -> bool:
    """May forwarded packets go past the forward hook there?"""
    return any(t.flowtable_devices for t in ns.tables) or any(x.xdp or x.name in BPF_DEVICES for x in ns.links)


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
