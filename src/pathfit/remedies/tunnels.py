"""Tunnels of programs: the MTU of the tun or tap device they hold, and what each is told for good.

The device's MTU bounds what its host sends and invites, so it cures whoever asks from there, both ways. Who is only
behind it is told of it on the way out, and still invites too much: for them the route in their own namespace is first
(``route``), and of the program what changes their SYNs, where it can (OpenVPN's ``mssfix``).

Tried with the real programs (tests/engines/test_tunnels.py): Open vSwitch 3.1 takes ``mtu_request``; OpenVPN 2.6 takes
``tun-mtu`` and ``mssfix N fixed`` (earlier ones know no "fixed"); wg-quick takes ``MTU`` (wireguard-tools 1.0). The
configurations of the last two hold keys: they are named, never read, so a person writes the line.
"""

from pathfit.core.change import SetOvsMtu
from pathfit.core.finding import Facts, Fix
from pathfit.core.snapshot import Link, NetnsSnapshot
from pathfit.remedies.base import UNDO, Argv, at, reachable, verified
from pathfit.remedies.link import IPV6_MIN_MTU, set_mtu, setting
from pathfit.rules.places import place_text
from pathfit.rules.view import View

OVS_SOCKETS = ("/var/run/openvswitch/db.sock", "/run/openvswitch/db.sock")


def held_mtu(view: View, value: int) -> tuple[Fix, ...]:
    """The fixes; nothing where the device is not held by a program, or IPv6 would go from it."""
    ns = view.namespace(view.edge.netns) if view.edge.host == view.host else None
    link = view.link_at(view.edge)
    if view.state is None or ns is None or link is None or link.kind != "tun" or not link.holder:
        return ()
    if value < IPV6_MIN_MTU or not reachable(ns):
        return ()
    mine = view.source is not None and view.source.id == ns.id and view.source_link == link and link.mtu > value
    fixes = (_device(view, ns, link, value),) if mine else ()
    return (*fixes, *_configured(view, ns, link, value, mine=mine))


def _configured(view: View, ns: NetnsSnapshot, link: Link, value: int, *, mine: bool) -> tuple[Fix, ...]:
    """What the program is told for good, where it is certain by what: only of the host's own namespace."""
    program, _, number = (link.holder or "").partition("[")
    config, own = link.holder_config, view.state is not None and ns.id == view.state.own
    if not config or not own:
        return ()
    if program == "openvpn":
        hang_up = ("kill", "-HUP", number.rstrip("]"))
        ours = (_line(view, ns, link, value, f"tun-mtu {value}", "fix.openvpn-tun-mtu", hang_up),) if mine else ()
        return (*ours, _line(view, ns, link, value, f"mssfix {value} fixed", "fix.openvpn-mssfix", hang_up))
    if program == "ovs-vswitchd" and mine:
        return (_requested(view, ns, link, value, config),)
    return (_wg_quick(view, ns, link, value, config),) if program == "wireguard-go" and mine else ()


def _device(view: View, ns: NetnsSnapshot, link: Link, value: int) -> Fix:
    where = at(view, ns, link.name)
    return Fix(
        id="held-link-mtu",
        title="fix.held-link-mtu",
        platform="linux",
        value=value,
        effective=value,
        applicability="safe",
        lasts="recreate",
        commands=(set_mtu(ns, link, value),),
        undo=(set_mtu(ns, link, link.mtu),),
        where=where,
        facts={"place": place_text(where), "holder": link.holder},
        changes=(setting(ns, link, value),),
        verify=verified(view),
    )


def _requested(view: View, ns: NetnsSnapshot, link: Link, value: int, socket: str) -> Fix:
    """Open vSwitch: ``mtu_request`` of the interface (ovs-vswitchd.conf.db(5), Interface)."""
    where = at(view, ns, link.name)
    database = () if socket in OVS_SOCKETS else (f"--db=unix:{socket}",)
    return Fix(
        id="ovs-mtu-request",
        title="fix.ovs-mtu-request",
        platform="openvswitch",
        value=value,
        effective=value,
        applicability="safe",
        lasts="permanent",
        commands=(("ovs-vsctl", *database, "set", "interface", link.name, f"mtu_request={value}"),),
        undo=UNDO,
        where=where,
        facts={"place": place_text(where), "link": link.name},
        changes=(SetOvsMtu(socket=socket, interface=link.name, mtu=value),),
        verify=verified(view),
    )


def _line(view: View, ns: NetnsSnapshot, link: Link, value: int, text: str, title: str, then: Argv) -> Fix:
    """OpenVPN: a line at the end of its configuration, which counts before one above; SIGHUP: read it again."""
    config = link.holder_config or ""
    write = ("sh", "-c", 'echo "$1" >>"$2"', "sh", text, config)
    return _by_hand(view, ns, link, value, title, "by-hand.openvpn", (write, then))


def _wg_quick(view: View, ns: NetnsSnapshot, link: Link, value: int, config: str) -> Fix:
    """wg-quick: ``MTU`` of the section Interface (wg-quick(8)), instead of another one; and the device now."""
    edit = ("sed", "-i", "-e", r"/^[ \t]*MTU[ \t]*=/Id", "-e", rf"/^\[Interface\]/Ia MTU = {value}", config)
    return _by_hand(view, ns, link, value, "fix.wg-quick-mtu", "by-hand.wg-quick", (edit, set_mtu(ns, link, value)))


def _by_hand(
    view: View, ns: NetnsSnapshot, link: Link, value: int, title: str, why: str, commands: tuple[Argv, ...]
) -> Fix:
    where = at(view, ns, link.name)
    facts: Facts = {
        "place": place_text(where),
        "link": link.name,
        "holder": link.holder,
        "path": link.holder_config,
        "by_hand": why,
    }
    return Fix(
        id=title.removeprefix("fix."),
        title=title,
        platform=why.removeprefix("by-hand."),
        value=value,
        effective=value,
        applicability="manual",
        lasts="permanent",
        interrupts=(place_text(where),) if why == "by-hand.openvpn" else (),
        commands=commands,
        where=where,
        facts=facts,
    )
