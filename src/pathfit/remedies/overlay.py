"""Repairs of networks that span hosts: Docker's overlays, and forwarding tables of VXLAN devices.

What libnetwork's overlay driver does (drivers/overlay, moby 20.10 to 27):

* The network's option com.docker.network.driver.mtu is the MTU of the network *underneath* (1500 where nobody says).
  Its containers get 50 less (vxlanEncap); of an encrypted network 26 less again (pktExpansion), rounded down to a
  multiple of 4 (overlayNetwork.maxMTU()).
* It cannot be changed: the network is removed, for which all containers on all hosts must be off it, and made again.
* Its forwarding entries are written when the gossip says so, and never compared with it again. A container that is
  taken off and put back has its host's end of the network made anew.

What concerns other hosts is for a person: lines, each with the host it is to be typed on. What is wrong in this host's
own forwarding table is one entry, and is ours to change.
"""

from collections.abc import Iterable

from pathfit.core.change import SetForwarding
from pathfit.core.engine import Container, Engine, EngineNetwork
from pathfit.core.finding import Facts, Finding, Fix, Lasts
from pathfit.core.net import Point
from pathfit.core.snapshot import HostSnapshot, NetnsSnapshot
from pathfit.model.workloads import plain_name
from pathfit.remedies.base import Argv, enter, ip, nft_takes, reachable, running, verified
from pathfit.remedies.moby import OPTION, client, made_as
from pathfit.rules.engines import Member, on_host
from pathfit.rules.places import place_text
from pathfit.rules.view import View

VXLAN_BYTES, ESP_BYTES, MULTIPLE = 50, 26, 4  # vxlanEncap; pktExpansion, and what an encrypted MTU is a multiple of
USUAL = 1500  # bytes: an MTU that nobody set
MANAGER = "manager"  # any manager of the swarm
IPTABLES = {"ip": "iptables", "ip6": "ip6tables"}


# -- the MTU --------------------------------------------------------------------------------------------------------


def inside(option: int, encrypted: bool) -> int:
    """What containers of an overlay get when its option says ``option`` (overlayNetwork.maxMTU())."""
    mtu = option - VXLAN_BYTES - (ESP_BYTES if encrypted else 0)
    return mtu - mtu % MULTIPLE if encrypted else mtu


def option_for(mtu: int, encrypted: bool) -> int:
    """The smallest value of the option that gives containers the most that is not above ``mtu``."""
    return (mtu - mtu % MULTIPLE + VXLAN_BYTES + ESP_BYTES) if encrypted else mtu + VXLAN_BYTES


def made_again(view: View, found: Member, value: int) -> tuple[Fix, ...]:
    """The network made again with the option for ``value`` inside. By hand: other hosts hang on it."""
    network, link = found.network, found.link
    if network.ingress or link.mtu <= value or inside(network.mtu or USUAL, network.encrypted) != link.mtu:
        return ()  # what the devices have is not what the option says: somebody else sees to it
    option = option_for(value, network.encrypted)
    members = [(host, e, c) for host, e in _engines(view, network) for c in _in(e, network)]
    if not _plain(network, (c for _, _, c in members)):
        return ()
    off = [(host, (*client(e), "network", "disconnect", network.name, c.name)) for host, e, c in members]
    on = [(host, (*client(e), "network", "connect", network.name, c.name)) for host, e, c in members]
    mine = client(found.engine)
    encrypted = ("--opt", "encrypted") if network.encrypted else ()
    kind = ("--driver", "overlay", "--attachable", *made_as(network), *encrypted)
    create = ("network", "create", *kind, "--opt", f"{OPTION}={option}")
    made = [(MANAGER, (*mine, "network", "rm", network.name)), (MANAGER, (*mine, *create, network.name))]
    lines = [*off, *made, *on]
    effective = inside(option, network.encrypted)
    return (
        Fix(
            id="docker-network-mtu",
            title="fix.docker-overlay-mtu",
            platform="docker",
            value=option,
            effective=effective,
            applicability="manual",
            lasts="permanent",
            interrupts=tuple(f"container:{c.name}" for _, _, c in members),
            commands=tuple(argv for _, argv in lines),
            hosts=tuple(host for host, _ in lines),
            where=on_host(view, found.engine),
            facts={"network": network.name, "option": OPTION, "effective": effective, "by_hand": "by-hand.swarm"},
        ),
    )


def _engines(view: View, network: EngineNetwork) -> list[tuple[str, Engine]]:
    """Every daemon that we know to have members of the network, and its host ("" = this one)."""
    hosts = [("", view.state), *((o.host.host, o.host) for o in view.others)]
    every = [(name, e) for name, h in hosts if h is not None for e in h.engines]
    own = view.state.host if view.state is not None else ""
    return [(n, e) for n, e in every if n != own and any(x.id == network.id for x in e.networks)]


def _in(engine: Engine, network: EngineNetwork) -> list[Container]:
    ids = {m for x in engine.networks if x.id == network.id for m in x.members}
    return [c for c in running(engine) if c.id in ids]


def _plain(network: EngineNetwork, members: Iterable[Container]) -> bool:
    """Are all names such as Docker lets people give? A stranger's file may hold an option instead."""
    return all(map(plain_name, (network.name, *(c.name for c in members))))


# -- who is where ---------------------------------------------------------------------------------------------------


def _host(view: View, name: object) -> HostSnapshot | None:
    """The snapshot of a host, this one included; None when several are called so."""
    hosts = [h for h in (view.state, *(o.host for o in view.others)) if h is not None and h.host == name]
    return hosts[0] if len({(h.boot_id, h.host) for h in hosts}) == 1 else None


def _space(host: HostSnapshot | None, point: Point) -> NetnsSnapshot | None:
    return next((n for n in host.namespaces if n.where == point.netns), None) if host is not None else None


def _elsewhere(view: View, host: HostSnapshot) -> str:
    """What stands before a line: "" for this host."""
    return "" if host is view.state else host.host


def _far(there: str, strange: bool) -> Facts:
    """Why it is left to people."""
    return {"by_hand": "by-hand.other-host"} if there else {"by_hand": "by-hand.strange-end"} if strange else {}


def _networks(host: HostSnapshot, ns: NetnsSnapshot) -> list[EngineNetwork]:
    return [x for e in host.engines for x in e.networks if x.netns == ns.id]


def stale_entry(finding: Finding, view: View) -> tuple[Fix, ...]:
    """OVL301: the entry leads to the right end; or the engine makes its end of the network anew."""
    facts, at = finding.facts, finding.where[0]
    host = _host(view, facts.get("host"))
    ns = _space(host, at)
    mac, old, new = (str(facts.get(k) or "") for k in ("mac", "remote", "right"))
    link = next((x for x in ns.links if x.name == at.link), None) if ns is not None else None
    if host is None or ns is None or link is None or not new or not reachable(ns):
        return ()
    entries = [x for x in ns.fdb if x.link == link.index and x.own and x.mac == mac and x.remote]
    if len(entries) != 1 or entries[0].remote != old:
        return ()
    state = "permanent" if entries[0].state == "permanent" else "dynamic"
    words = (*enter(ns), "bridge", "fdb", "replace", mac, "dev", link.name, "dst")
    there = _elsewhere(view, host)
    known = {x.remote for x in ns.fdb if x.link == link.index} | {
        n.address for x in _networks(host, ns) for n in x.nodes
    }
    strange = not there and new not in known  # only a file says that there is a far end
    change = SetForwarding(netns=ns.id, where=ns.where, link=link.name, index=link.index, mac=mac, remote=new, old=old)
    fix = Fix(
        id="fdb-entry",
        title="fix.fdb-entry",
        platform="linux",
        applicability="manual" if there or strange else "safe",
        lasts="reboot",
        commands=((*words, new, "self", state),),
        undo=((*words, old, "self", state),),
        hosts=(there,) if there else (),
        where=at,
        facts={"place": place_text(at), "mac": mac, "remote": new, "host": host.host, **_far(there, strange)},
        changes=() if there or strange else (change,),
        verify="" if there or strange else verified(view),
    )
    return (fix, *_again(view, host, ns))


def _again(view: View, host: HostSnapshot, ns: NetnsSnapshot) -> tuple[Fix, ...]:
    """All containers of one host off an overlay of Docker's and on again: its end of the network is made anew."""
    engine, network = next(
        ((e, x) for e in host.engines for x in e.networks if x.netns == ns.id and e.kind == "docker"), (None, None)
    )
    members = _in(engine, network) if engine is not None and network is not None else []
    if engine is None or network is None or not members or not _plain(network, members):
        return ()
    lines = tuple((*client(engine), "network", word, network.name, c.name) for word in OFF_ON for c in members)
    fix = _by_hand(
        view,
        host,
        Point(host=host.host, netns=ns.where),
        "fix.docker-network-rejoin",
        lines,
        platform="docker",
        lasts="permanent",
        interrupts=tuple(f"container:{c.name}" for c in members),
        facts={"network": network.name, "by_hand": "by-hand.rejoin"},
    )
    return (fix,)


OFF_ON = ("disconnect", "connect")


def duplicate(finding: Finding, view: View) -> tuple[Fix, ...]:
    """OVL302: the one who has no right to the address is taken off it. Nothing where both have the same right."""
    facts = finding.facts
    host = _host(view, facts.get("there"))
    name, address = facts.get("other"), facts.get("address")
    if host is None or not facts.get("stray") or not isinstance(address, str):
        return ()
    ns = next((n for n in _owners(host, address) if name in _names(host, n)), None)
    own = next((a for a in ns.addresses if a.address == address), None) if ns is not None else None
    link = next((x for x in ns.links if own is not None and x.index == own.link), None) if ns is not None else None
    if ns is None or own is None or link is None or not reachable(ns):
        return ()
    if any(c.netns == ns.id for e in host.engines for c in e.containers):  # it was given by hand, beside its own
        words = (*ip(ns), "address")
        command = (*words, "del", f"{address}/{own.prefix}", "dev", link.name)
        undo = (*words, "add", f"{address}/{own.prefix}", "dev", link.name)
    else:
        command = (*ip(ns), "link", "set", "dev", link.name, "down")
        undo = (*ip(ns), "link", "set", "dev", link.name, "up")
    at = Point(host=host.host, netns=ns.where, link=link.name)
    facts = {"member": str(name), "address": address, "place": place_text(at)}
    return (_by_hand(view, host, at, "fix.member-off", (command,), undo=(undo,), facts=facts),)


def _owners(host: HostSnapshot, address: str) -> Iterable[NetnsSnapshot]:
    return (n for n in host.namespaces if any(a.address == address for a in n.addresses))


def _names(host: HostSnapshot, ns: NetnsSnapshot) -> set[str]:
    """How a finding may call who lives there."""
    wheres = {ns.where, *ns.names}
    called = {c.name for e in host.engines for c in e.containers if c.netns == ns.id}
    return wheres | called | {w.partition(":")[2] for w in wheres}


def number(finding: Finding, view: View) -> tuple[Fix, ...]:
    """OVL304: the host whose number is wrong makes its end anew, where its engine knows the right one."""
    facts = finding.facts
    host = _host(view, facts.get("wrong"))
    at = next((p for p in finding.where if host is not None and p.host == host.host), None)
    ns = _space(host, at) if at is not None else None
    return _again(view, host, ns) if host is not None and ns is not None else ()


def port(finding: Finding, view: View) -> tuple[Fix, ...]:
    """OVL303: the tunnel's port is let through in front of what takes it."""
    facts = finding.facts
    at = next((p for p in finding.where if place_text(p) == facts.get("place")), finding.where[-1])
    host = _host(view, at.host)
    ns = _space(host, at)
    tool, table, chain, number_ = (facts.get(k) for k in ("tool", "table", "chain", "port"))
    if host is None or ns is None or not reachable(ns) or not isinstance(table, str) or not isinstance(chain, str):
        return ()
    family, _, name = table.partition(" ")
    if not nft_takes(name, chain):
        return ()
    undo: tuple[Argv, ...] = ()
    if tool == "nft":
        match = ("udp", "dport", str(number_), "accept")
        command: Argv = (*enter(ns), "nft", "insert", "rule", family, name, chain, *match)
    elif family in IPTABLES:
        program = IPTABLES[family] + ("-legacy" if tool == "iptables-legacy" else "")
        words = (*enter(ns), program, *(("-t", name) if name != "filter" else ()))
        what = (chain, "-p", "udp", "--dport", str(number_), "-j", "ACCEPT")
        command, undo = (*words, "-I", *what), ((*words, "-D", *what),)
    else:
        return ()
    more: Facts = {"place": place_text(at), "port": number_}
    return (_by_hand(view, host, at, "fix.open-tunnel-port", (command,), undo=undo, facts=more),)


def _by_hand(
    view: View,
    host: HostSnapshot,
    at: Point,
    title: str,
    commands: tuple[Argv, ...],
    *,
    facts: Facts,
    platform: str = "linux",
    lasts: Lasts = "reboot",
    undo: tuple[Argv, ...] = (),
    interrupts: tuple[str, ...] = (),
) -> Fix:
    """Lines for a person, all of them to be typed on ``host``."""
    there = _elsewhere(view, host)
    return Fix(
        id=title.removeprefix("fix."),
        title=title,
        platform=platform,
        applicability="manual",
        lasts=lasts,
        interrupts=interrupts,
        commands=commands,
        undo=undo,
        hosts=(there,) * len(commands) if there else (),
        where=at,
        facts={**facts, "host": host.host},
    )
