"""The MTU of the devices themselves: both halves of the veth, and the bridge on the other side.

One half alone makes a new hole: what the larger half still sends, the smaller one does not receive (above its
MTU + 4, __dev_forward_skb2()). So the fix exists only where both halves are visible. Below 1280 the kernel takes
IPv6 off the device (addrconf_notify(), NETDEV_CHANGEMTU), addresses and routes with it: then it is disruptive.
"""

from pathfit.core.change import SetLinkMtu
from pathfit.core.finding import Applicability, Fix
from pathfit.core.snapshot import Link, NetnsSnapshot
from pathfit.remedies.base import Argv, at, contained, ip, reachable, verified
from pathfit.rules import forecast
from pathfit.rules.places import place_text
from pathfit.rules.view import View

IPV6_MIN_MTU = 1280  # RFC 8200 section 5


def link_mtu(view: View, value: int) -> tuple[Fix, ...]:
    """The fix, or nothing when the other half or its namespace is not visible."""
    ns, link = view.source, view.source_link
    if view.state is None or ns is None or link is None or link.kind != "veth" or link.mtu <= value:
        return ()
    parts = pair(view, ns, link)
    if parts is None:
        return ()
    todo = [(n, x) for n, x in parts if x.mtu > value]
    breaks_v6 = value < IPV6_MIN_MTU
    applicability: Applicability = "disruptive" if breaks_v6 else "safe"
    return (
        Fix(
            id="link-mtu",
            title="fix.link-mtu",
            platform="linux",
            value=value,
            effective=value,
            applicability=applicability,
            lasts="reboot" if "host" in (ns.where, *ns.names) else "recreate",
            interrupts=tuple(dict.fromkeys(f"{n.where} IPv6" for n, _ in todo)) if breaks_v6 else (),
            commands=tuple(set_mtu(n, x, value) for n, x in todo),
            undo=tuple(set_mtu(n, x, x.mtu) for n, x in reversed(todo)),
            where=at(view, ns, link.name),
            facts={"place": place_text(at(view, ns, link.name)), "contained": contained(view, ns)},
            changes=tuple(setting(n, x, value) for n, x in todo),
            verify=verified(view),
        ),
    )


def pair(view: View, ns: NetnsSnapshot, link: Link) -> list[tuple[NetnsSnapshot, Link]] | None:
    """Both halves of a veth, and the bridge that the other one is a port of; None where a half is not ours to set."""
    if view.state is None or link.kind != "veth":
        return None
    network = forecast.network(view.state)
    net = network.find(ns.id)
    other = network.peer(net, link) if net is not None else None
    if other is None or not reachable(ns) or not reachable(other[0].snap):
        return None
    far, half = other[0].snap, other[1]
    bridge = next((x for x in far.links if x.index == half.master and x.kind == "bridge"), None)
    return [(ns, link), (far, half), *([(far, bridge)] if bridge is not None else [])]


def setting(ns: NetnsSnapshot, link: Link, mtu: int) -> SetLinkMtu:
    return SetLinkMtu(netns=ns.id, where=ns.where, link=link.name, index=link.index, mtu=mtu)


def set_mtu(ns: NetnsSnapshot, link: Link, mtu: int) -> Argv:
    return (*ip(ns), "link", "set", "dev", link.name, "mtu", str(mtu))
