"""The MTU of a device of the host itself, for good: written where its network manager will find it at the next start.

For whoever asks from the host (article 001's virtual machine with a NIC of 1500 on a network of 1450): a container's
network is its engine's, see ``docker``. Only where one manager alone says that it keeps the device, and where no file
read later would have the last word. A file of our own is added beside those of the manager, in which nothing of
anybody else is touched; ifupdown has no such place, so one line is added to its stanza.

Sources: systemd.network(5) MTUBytes=; NetworkManager.conf(5) connection section, ethernet.mtu; netplan(5) mtu, files
amend each other; interfaces(5) mtu.
"""

import re

from pathfit.core.change import Change
from pathfit.core.evidence import PlatformFact
from pathfit.core.finding import Applicability, Facts, Fix
from pathfit.core.platform import LinkOwner
from pathfit.core.snapshot import Link, NetnsSnapshot
from pathfit.remedies.base import UNDO, Argv, at, verified
from pathfit.remedies.files import edited
from pathfit.remedies.link import IPV6_MIN_MTU, set_mtu, setting
from pathfit.rules.places import place_text
from pathfit.rules.view import View

QUIET = ("virtio_net", "veth", "dummy", "bridge")
"""Drivers whose MTU is a number and nothing else: no ring is made anew, no link goes down (their ndo_change_mtu)."""
NETPLAN_KINDS = {"": "ethernets", "veth": "ethernets", "bridge": "bridges", "bond": "bonds", "vlan": "vlans"}
PRIVATE = 0o600  # netplan warns of files that others may read


def link_mtu_for_good(view: View, value: int) -> tuple[Fix, ...]:
    """The fix, or nothing when the device is not the host's own or its manager is not certain."""
    ns, link = view.source, view.source_link
    fact = next(iter(view.case.all(PlatformFact)), None)
    if view.state is None or ns is None or link is None or fact is None or ns.id != view.state.own:
        return ()
    if (fact.netns, fact.link) != (ns.id, link.name) or len(fact.owners) != 1 or fact.missing:
        return ()
    owner = fact.owners[0]
    if link.mtu <= value or value < IPV6_MIN_MTU or owner.later:
        return ()
    if owner.manager == "networkmanager" and owner.mtu != 0:
        return (_profile(view, ns, link, owner, value),)
    new = _written(owner, link, value)
    if new is None or new == owner.text:
        return ()
    mode = PRIVATE if owner.manager == "netplan" else 0o644
    edit, write = edited(owner.path, owner.text, new, mode=mode)
    changes: tuple[Change, ...] = (write, setting(ns, link, value))
    quiet = (link.driver or link.kind) in QUIET
    applicability: Applicability = "safe" if quiet else "disruptive"
    where = at(view, ns, link.name)
    facts: Facts = {"place": place_text(where), "path": owner.path, "link": link.name}
    return (
        Fix(
            id=f"{owner.manager}-link-mtu",
            title="fix.link-mtu-file",
            platform=owner.manager,
            value=value,
            effective=value,
            applicability=applicability,
            lasts="permanent",
            interrupts=() if quiet else (place_text(where),),
            commands=(set_mtu(ns, link, value), *_reload(owner)),
            files=(edit,),
            undo=UNDO,
            where=where,
            facts=facts,
            changes=changes,
            verify=verified(view),
        ),
    )


def _written(owner: LinkOwner, link: Link, value: int) -> str | None:
    """The text of the manager's file with the MTU in it; None where we do not know how to say it."""
    if owner.manager == "networkd":
        return f"[Link]\nMTUBytes={value}\n"
    if owner.manager == "networkmanager":
        if link.kind not in ("", "veth") or link.arphrd != 1:
            return None  # of other kinds the MTU has no default (NetworkManager.conf(5), Supported Properties)
        match = f"match-device=interface-name:{link.name}"
        return f"[connection-pathfit-{link.name}]\n{match}\nethernet.mtu={value}\n"
    if owner.manager == "netplan":
        kind = NETPLAN_KINDS.get(link.kind)
        return f"network:\n  version: 2\n  {kind}:\n    {owner.name}:\n      mtu: {value}\n" if kind else None
    return _stanza(owner.text or "", owner.name, value)


def _stanza(text: str, name: str, value: int) -> str | None:
    """The interfaces file with the MTU in the stanza of ``name``, every other byte as it was.

    A line ``mtu`` where the method knows it (static, manual), else a command after the device is up: dhcp has none.
    """
    head = None
    for family in ("inet", "inet6"):
        head = head or re.search(rf"(?m)^[ \t]*iface[ \t]+{re.escape(name)}[ \t]+{family}[ \t]+(\S+)[^\n]*\n?", text)
    if head is None or head[0].rstrip().endswith("\\"):
        return None
    stop = re.compile(r"(?m)^[ \t]*(iface|mapping|auto|allow-\S+|rename|source|source-directory|no-auto-down)\b")
    ends = stop.search(text, head.end())
    body = text[head.end() : ends.start() if ends else len(text)]
    known = head[1] in ("static", "manual")
    line = f"mtu {value}" if known else f"post-up ip link set dev $IFACE mtu {value}"
    old = re.search(r"(?m)^([ \t]*)mtu[ \t]+\d+[ \t]*$", body)
    if old is not None:
        return text[: head.end() + old.start()] + f"{old[1]}mtu {value}" + text[head.end() + old.end() :]
    indent = re.search(r"(?m)^([ \t]+)\S", body)
    newline = "" if head[0].endswith("\n") else "\n"
    return f"{text[: head.end()]}{newline}{indent[1] if indent else '    '}{line}\n{text[head.end() :]}"


def _reload(owner: LinkOwner) -> tuple[Argv, ...]:
    """Let the manager read its file now, where that touches nothing that runs."""
    if owner.manager == "networkd":
        return (("networkctl", "reload"),)
    return (("nmcli", "general", "reload", "conf"),) if owner.manager == "networkmanager" else ()


def _profile(view: View, ns: NetnsSnapshot, link: Link, owner: LinkOwner, value: int) -> Fix:
    """The connection's own profile sets the MTU, or is where we do not look: its tool changes it."""
    return Fix(
        id="networkmanager-link-mtu",
        title="fix.link-mtu-profile",
        platform="networkmanager",
        value=value,
        effective=value,
        applicability="manual",
        lasts="permanent",
        commands=(
            ("nmcli", "connection", "modify", "uuid", owner.name, "802-3-ethernet.mtu", str(value)),
            ("nmcli", "device", "reapply", link.name),
        ),
        where=at(view, ns, link.name),
        facts={"place": place_text(at(view, ns, link.name)), "by_hand": "by-hand.profile"},
    )
