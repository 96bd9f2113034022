"""Overlay networks, seen from one host and compared between hosts: entries that point to the wrong place, addresses
that two members have, numbers that differ, tunnel ends that cannot be reached, ports that are closed to them.

A host alone knows where *it* sends; whether that is right shows only beside the host that really has the member. So
most of this compares :class:`~pathfit.rules.state.fleet.Segment` values; one host's snapshot already shows its own
blocked port and its own missing routes.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence

import msgspec

from pathfit.core.finding import Facts, Finding, Severity
from pathfit.core.net import UDP, Flow
from pathfit.core.path import Fate, Filtered
from pathfit.core.snapshot import Link
from pathfit.model.addr import is_multicast
from pathfit.model.lookup import ERRORS, Query, lookup
from pathfit.model.network import Net
from pathfit.model.walk import predict
from pathfit.rules.base import found, line
from pathfit.rules.places import exits, place_text
from pathfit.rules.state.fleet import Digest, Entry, Fleet, Member, Segment, owned
from pathfit.rules.state.machine import REF, Machine, Seat

SPORT = 49152  # somewhere in the range of udp_flow_src_port()
REMOTES = 16  # tunnel ends looked at for one device
VIRTUAL = "00:00:5e:00:0"  # VRRP
APART = 600.0  # seconds between two snapshots: in that time somebody may have moved
NOWHERE = ERRORS | {"none"}


# --- one host --------------------------------------------------------------------------------------------------------


def port_blocked(machine: Machine, towards: Collection[str] = ()) -> Iterable[Finding]:
    """A packet filter takes the tunnel's own packets away.

    Why it hurts: nothing passes between the hosts, of any size, while each host by itself looks well.
    Example: UDP port 4789 is open in the cloud's rules and closed in the host's own firewall.
    Repair: let the tunnel's UDP port through between the hosts, both ways.
    Severity: error.
    Possible: never said.
    Likely: the filter is read and understood in full; nothing was measured.
    Confirmed: never, from state alone.
    References: RFC 7348 section 4.1 (4789); 8472 is Linux' own default, vxlan_port; nft(8).
    """
    by: dict[tuple[object, ...], Finding] = {}
    for net, link, base, remote in _ends(machine, towards):
        step, inward = _blocked(machine, base, link, remote)
        if step is None:
            continue
        facts: Facts = {
            "direction": "inbound" if inward else "outbound",
            "device": _named(machine, net, link),
            "port": link.vxlan.port if link.vxlan else 0,
            "remote": remote,
            "tool": step.tool,
            "table": step.table,
            "chain": step.chain,
            "place": place_text(step.at),
            "host": step.at.host,
        }
        proof = line(REF, "tunnel-filtered", table=step.table, chain=step.chain, rule=step.rule or "-")
        at = (net.point(link.name), step.at)
        one = _for(found("OVL303", "error", "likely", at, facts, proof), machine, net, link)
        rule = (step.at, step.table, step.chain, step.handle, step.rule, facts["port"], inward)
        by[rule] = _both(by[rule], one) if rule in by else one  # one rule, however many tunnels it stands in the way of
    yield from by.values()


def _both(one: Finding, other: Finding) -> Finding:
    """One finding for both: the first that is about somebody says what it is."""
    first, second = (one, other) if one.workloads else (other, one)
    keys = tuple(dict.fromkeys((*first.workloads, *second.workloads)))
    return msgspec.structs.replace(first, workloads=keys, where=tuple(dict.fromkeys((*first.where, *second.where))))


def _named(machine: Machine, net: Net, link: Link) -> str:
    """A tunnel's device; one that an engine hides goes by the network that it belongs to: "app/vxlan0"."""
    name = machine.overlays.get(net.snap.id, "")
    return f"{name}/{link.name}" if name else place_text(net.point(link.name))


def _blocked(machine: Machine, base: Net, link: Link, remote: str) -> tuple[Filtered | None, bool]:
    """The rule that takes the outer packets away, and whether on their way in."""
    port = link.vxlan.port if link.vxlan else 0
    local = link.vxlan.local if link.vxlan else None
    out = Flow(src=local or "", dst=remote, proto=UDP, sport=SPORT, dport=port, size=128, df=False)
    sent = predict(machine.network, base.key, out)
    if sent.fate is Fate.FILTERED and isinstance(sent.culprit, Filtered):
        return sent.culprit, False
    door = next((p.link for p in exits(sent) if p.netns == base.snap.where), None)
    if door is None or door not in base.names or not (local or sent.flow.src):
        return None, False
    back = Flow(src=remote, dst=local or sent.flow.src, proto=UDP, sport=SPORT, dport=port, size=128, df=False)
    came = predict(machine.network, base.key, back, entering=door)
    if came.fate is Fate.FILTERED and isinstance(came.culprit, Filtered):
        return came.culprit, True
    return None, False


def end_unreachable(machine: Machine, towards: Collection[str] = ()) -> Iterable[Finding]:
    """A host has no way to another tunnel end.

    Why it hurts: whatever is behind that end cannot be reached from here; other ends work.
    Example: the node's address was changed, and the overlay still names the old one.
    Repair: the route to that end; or tell the overlay where the end is now.
    Severity: error without a route; warning where its neighbour did not answer lately.
    Possible: never said.
    Likely: the routing table, or the neighbour table, says so.
    Confirmed: never, from state alone.
    References: vxlan_xmit_one(), ip_route_output_flow(); neigh_invalidate().
    """
    for net, link, base, remote in _ends(machine, towards):
        way = lookup(base, Query(dst=remote, src=(link.vxlan.local if link.vxlan else None) or "", proto=UDP))
        facts: Facts = {"device": _named(machine, net, link), "remote": remote, "place": place_text(base.point())}
        severity: Severity = "error"
        if way.kind in NOWHERE:
            facts["case"] = "route"
            proof = line(REF, "no-route", place=place_text(base.point()), target=remote)
        else:
            hop = way.hops[0] if way.kind == "unicast" and way.hops else None
            entry = base.neighbours.get((hop.link, hop.via or remote)) if hop else None
            if entry is None or entry.state != "failed":
                continue
            severity, facts["case"] = "warning", "neighbour"
            proof = line(REF, "neighbour", place=place_text(base.point()), address=entry.address)
        yield _for(found("OVL305", severity, "likely", net.point(link.name), facts, proof), machine, net, link)


def _ends(machine: Machine, towards: Collection[str]) -> Iterator[tuple[Net, Link, Net, str]]:
    """(namespace, VXLAN device, namespace its packets are sent from, remote end): unicast ends, each once; only those
    among ``towards``, where it names some."""
    for net in machine.network.nets.values():
        for link in net.snap.links:
            vx = link.vxlan
            base = machine.network.home(net, link) if vx and not vx.collect_metadata and link.up else None
            if vx is None or base is None:
                continue
            told = [x.remote for x in net.snap.fdb if x.link == link.index and x.own and x.remote]
            remotes = dict.fromkeys([*([vx.remote] if vx.remote else []), *told])
            for remote in [r for r in remotes if not is_multicast(r) and (not towards or r in towards)][:REMOTES]:
                yield net, link, base, remote


def _for(finding: Finding, machine: Machine, net: Net, link: Link) -> Finding:
    """With the workloads that are plugged in where the tunnel is, or live in its namespace."""
    plugged = (net.key, link.master)
    keys = [
        key
        for group in machine.groups
        if (plugged in machine.segments(group.net) if link.master else group.net is net)
        for key in group.keys
    ]
    return msgspec.structs.replace(finding, workloads=tuple(keys))


# --- hosts side by side ----------------------------------------------------------------------------------------------


def stale_entry(fleet: Fleet) -> Iterable[Finding]:
    """A host sends the frames for a member of an overlay to a host where that member is not.

    Why it hurts: whoever is there answers with a reset, or nobody does; from other hosts the same address works.
    Example: three hosts; a container moved from the second to the first, and the third still sends to the second.
    Repair: remove the entry (`bridge fdb del`), or let the engine make the network anew on that host.
    Severity: error where the host that has the member, and the one that is named instead, are both seen; otherwise a
    warning.
    Possible: never said.
    Likely: forwarding and neighbour tables of these hosts say so.
    Confirmed: never, from state alone.
    References: vxlan_find_mac(), vxlan_snoop(); moby issues 26523, 33626 (stale overlay entries after a move).
    """
    for ends in fleet.overlays:
        have = _homes(ends)
        for d, s in ends:
            for entry in s.entries:
                home = _home(have.get(entry.mac, ()), ends, s)
                if home is None or entry.remote in home[1].local or home[1] is s:
                    continue
                right = _called(home[1], ends)
                if home[0] is d:  # ends of one machine: nodes in namespaces of it
                    other = next((t for _, t in ends if entry.remote in t.local), None)
                    yield _stale(d, s, entry, home, place_text(other.at) if other else None, right)
                else:
                    named = fleet.ends.get(entry.remote)
                    yield _stale(d, s, entry, home, named.host if named else None, right)


Home = tuple[Digest, Segment, Member]


def _homes(ends: Iterable[tuple[Digest, Segment]]) -> dict[str, list[Home]]:
    """Who has each MAC address of an overlay."""
    found: dict[str, list[Home]] = {}
    for d, s in ends:
        for m in s.members:
            found.setdefault(m.mac, []).append((d, s, m))
    return found


def _home(them: Sequence[Home], ends: Sequence[tuple[Digest, Segment]], asking: Segment) -> Home | None:
    """Where a MAC address really is, as far as it is certain. Of several who have it: the only one whom an engine gave
    its address (what a container left behind is nobody's); else the only one to whom other ends than ``asking`` send.
    """
    if len(them) < 2:
        return them[0] if them else None
    if known := rightful(them):
        return known
    mac = them[0][2].mac
    sent = {e.remote for _, s in ends if s is not asking for e in s.entries if e.mac == mac}
    named = [h for h in them if sent.intersection(h[1].local)]
    return named[0] if len(named) == 1 else None


def rightful(them: Sequence[Home]) -> Home | None:
    """The only one of several members whom an engine gave its address."""
    known = [h for h in them if h[2].given]
    return known[0] if len(known) == 1 else None


def _called(end: Segment, ends: Iterable[tuple[Digest, Segment]]) -> str:
    """The address by which others reach that end; its first one where nobody does."""
    used = {r for _, s in ends for r in s.remotes}
    return next((a for a in end.local if a in used), end.local[0] if end.local else "")


def _stale(d: Digest, s: Segment, entry: Entry, home: Home, named: str | None, right: str) -> Finding:
    there, end, member = home
    mac, remote = entry.mac, entry.remote
    facts: Facts = {
        "case": "within" if there is d else "named" if named else "unnamed",
        "host": d.host,
        "device": s.title,
        "member": member.name,
        "mac": mac,
        "remote": remote,
        "named": named,
        "home": place_text(end.at) if there is d else there.host,
        "right": right,
        "address": member.addresses[0] if member.addresses else None,
    }
    lines = (
        line(REF, "entry", host=d.host, mac=mac, remote=remote),
        line(REF, "member-at", member=member.name, mac=mac, host=there.host),
    )
    finding = found("OVL301", "error" if named else "warning", "likely", (s.at, end.at), facts, *lines)
    return msgspec.structs.replace(finding, workloads=tuple(dict.fromkeys(m.key for m in s.members if m.key)))


def duplicate(fleet: Fleet) -> Iterable[Finding]:
    """Two members of one network have the same address.

    Why it hurts: each of them gets the other's packets, now and then; connections break with resets.
    Example: an overlay was made by hand on two hosts with the same range to give addresses from.
    Repair: give one of them another address; keep the ranges of hosts apart.
    Severity: error; a warning where it is only possible.
    Possible: the snapshots of the two hosts were taken at different times, so that a member may have moved; or they do
    not say when, and both members have the same MAC address as well.
    Likely: both are seen in the same segment.
    Confirmed: never, from state alone.
    References: RFC 5227; RFC 4862 section 5.4; libnetwork netutils.GenerateMACFromIP (the same address, the same MAC).
    """
    for ends in fleet.overlays:
        have: dict[str, list[Home]] = {}
        for d, s in ends:
            for m in s.members:
                for address in m.addresses:
                    have.setdefault(address, []).append((d, s, m))
        for address, homes in have.items():
            pair = twins(homes)
            if pair is not None and not shared_gateway(homes):
                yield _twice(address, *pair)


def twins(homes: Sequence[Home]) -> tuple[Home, Home] | None:
    """Two that have one address: with different MAC addresses, else behind different ends. The rightful one first. A
    router's virtual MAC address is on several hosts on purpose (RFC 5798 section 7.3)."""
    one = rightful(homes) or homes[0]
    others = [h for h in homes if h is not one]
    other = next((h for h in others if h[2].mac != one[2].mac), None) or next(
        (h for h in others if h[0] is not one[0] and not one[2].mac.startswith(VIRTUAL)), None
    )
    return (one, other) if other is not None else None


def duplicate_here(machine: Machine) -> Iterable[Finding]:
    """Two members of one network have the same address.

    Why it hurts: each of them gets the other's packets, now and then; connections break with resets.
    Example: a container was given a fixed address that another one on its bridge had got from its engine; an overlay
    was made by hand on two hosts with the same range to give addresses from.
    Repair: give one of them another address; keep the ranges of hosts apart.
    Severity: error.
    Possible: never said.
    Likely: both are seen on the same bridge, or in the same segment of hosts that send to each other, with different
    MAC addresses. What all members of a service have (a prefix of 32) is no duplicate.
    Confirmed: never, from state alone.
    References: RFC 5227; RFC 4862 section 5.4.
    """
    have: dict[tuple[str, int, int | None, str], list[tuple[Seat, Link, Net, Link]]] = {}
    spanning = {(n.key, x.master) for n in machine.network.nets.values() for x in n.snap.links if x.vxlan and x.master}
    seated = ((s, s.net) for s in machine.seats if s.net is not None and not s.workload.note)
    for seat, inside in seated:
        for link in inside.snap.links:
            there = machine.network.peer(inside, link) if link.kind == "veth" and link.up else None
            if there is None or not there[1].master or not there[1].up:
                continue
            net, port = there
            if (net.key, port.master) in spanning:
                continue  # hosts side by side show it
            vlan = port.bridge_port.pvid if port.bridge_port else None
            for a in owned(inside, link):
                have.setdefault((net.key, port.master, vlan, a.address), []).append((seat, link, net, port))
    for (*_, address), homes in have.items():
        other = next((h for h in homes if h[1].mac != homes[0][1].mac), None)
        if other is not None:
            yield _same_bridge(machine, address, homes[0], other)


def _same_bridge(
    machine: Machine, address: str, one: tuple[Seat, Link, Net, Link], other: tuple[Seat, Link, Net, Link]
) -> Finding:
    host = machine.host.host
    names = [h[0].workload.name for h in (one, other)]
    facts: Facts = {"address": address, "one": names[0], "other": names[1], "host": host, "there": host}
    lines = [line(REF, "member-at", member=h[0].workload.name, mac=h[1].mac, host=host) for h in (one, other)]
    at = tuple(h[2].point(h[3].name) for h in (one, other))
    finding = found("OVL302", "error", "likely", at, facts, *lines)
    return msgspec.structs.replace(finding, workloads=(one[0].key, other[0].key))


def shared_gateway(homes: Sequence[Home]) -> bool:
    """The tunnel's own namespace answers for the same address on every host (an anycast gateway): on purpose."""
    return all(not m.key for _, _, m in homes)


def _twice(address: str, one: Home, other: Home) -> Finding:
    (d1, s1, m1), (d2, s2, m2) = one, other
    facts: Facts = {
        "address": address,
        "one": m1.name,
        "other": m2.name,
        "host": d1.host,
        "there": d2.host,
        "mac": m2.mac,
        "stray": bool(m1.given) and not m2.given,
    }
    lines = (
        line(REF, "member-at", member=m1.name, mac=m1.mac, host=d1.host),
        line(REF, "member-at", member=m2.name, mac=m2.mac, host=d2.host),
    )
    keys = tuple(dict.fromkeys(m.key for m in (m1, m2) if m.key))
    at_once = d1 is d2 or at_one_time(d1, d2)
    sure = at_once if at_once is not None else m1.mac != m2.mac
    severity: Severity = "error" if sure else "warning"
    where = tuple(dict.fromkeys((s1.at, s2.at)))
    finding = found("OVL302", severity, "likely" if sure else "possible", where, facts, *lines)
    return msgspec.structs.replace(finding, workloads=keys)


def at_one_time(a: Digest, b: Digest) -> bool | None:
    """Were two hosts read close enough to each other to be compared? None where it is not known."""
    return None if a.taken is None or b.taken is None else abs(a.taken - b.taken) <= APART


def number_differs(fleet: Fleet) -> Iterable[Finding]:
    """Two tunnel ends name each other, with different network numbers or ports.

    Why it hurts: the far end has no device for the number that comes in and drops everything, in silence.
    Example: one host was joined with VNI 77, the other with 78; or 4789 here and 8472 there.
    Repair: the same VNI and the same UDP port at both ends.
    Severity: error.
    Possible: never said.
    Likely: both ends are seen; each names the other, and the networks behind them overlap.
    Confirmed: never, from state alone.
    References: vxlan_rcv() (VXLAN_VNI_NOT_FOUND); RFC 7348 section 4.1.
    """
    all_ = [(d, s) for ends in fleet.overlays for d, s in ends]
    by_host: dict[tuple[str, str], list[Segment]] = {}
    for d, s in all_:
        by_host.setdefault(d.key, []).append(s)
    said: set[frozenset[tuple[str, str]]] = set()
    for d, s in all_:
        for remote in s.remotes:
            far = fleet.ends.get(remote)
            if far is None or far is d:
                continue
            theirs = by_host.get(far.key, [])
            if any((t.port, t.vni) == (s.port, s.vni) for t in theirs):
                continue
            other = next((t for t in theirs if set(t.remotes) & set(s.local) and _same_network(s, t)), None)
            pair = frozenset({(d.host, place_text(s.at)), (far.host, place_text(other.at) if other else "")})
            if other is not None and pair not in said:
                said.add(pair)
                yield _differs(d, s, far, other, _odd_one(s, other, [x for _, x in all_]))


def _same_network(a: Segment, b: Segment) -> bool:
    return bool(set(a.networks) & set(b.networks))


def _odd_one(s: Segment, t: Segment, every: Sequence[Segment]) -> Segment | None:
    """Which of two that differ is wrong: whose engine says another number, else the one that fewer ends agree with."""
    against = [x for x in (s, t) if x.told and x.vni not in x.told]
    if len(against) == 1:
        return against[0]
    like = [sum((x.port, x.vni) == (y.port, y.vni) and _same_network(x, y) for y in every) for x in (s, t)]
    return None if like[0] == like[1] else s if like[0] < like[1] else t


def _differs(d: Digest, s: Segment, far: Digest, t: Segment, wrong: Segment | None) -> Finding:
    case = "vni" if s.vni != t.vni else "port"
    facts: Facts = {
        "case": case,
        "host": d.host,
        "there": far.host,
        "device": s.title,
        "other": t.title,
        "ours": s.vni if case == "vni" else s.port,
        "theirs": t.vni if case == "vni" else t.port,
        "wrong": None if wrong is None else d.host if wrong is s else far.host,
    }
    lines = (
        line(REF, "tunnel-number", host=d.host, device=place_text(s.at), vni=s.vni, port=s.port),
        line(REF, "tunnel-number", host=far.host, device=place_text(t.at), vni=t.vni, port=t.port),
    )
    keys = tuple(dict.fromkeys(m.key for m in (*s.members, *t.members) if m.key))
    finding = found("OVL304", "error", "likely", (s.at, t.at), facts, *lines)
    return msgspec.structs.replace(finding, workloads=keys)


def uneven(fleet: Fleet) -> Iterable[Finding]:
    """Hosts of one overlay give their members different MTUs.

    Why it hurts: between two members TCP takes the smaller; everything else (UDP, a tunnel in it, a host that is
    passed through) meets a limit that depends on who talks to whom.
    Example: one node of thirty was added with another network card, and its overlay has 8950 where others have 1450.
    Repair: the same MTU on every host: the smallest that any of them can carry.
    Severity: warning.
    Possible: never said.
    Likely: the devices of both hosts say so.
    Confirmed: never, from state alone.
    References: flannel and calico detect the MTU on each node by itself (pkg/backend/vxlan, felix mtu.go).
    """
    for ends in fleet.overlays:
        sizes: dict[int, list[tuple[Digest, Segment]]] = {}
        for d, s in ends:
            members = sorted({m.mtu for m in s.members if m.mtu})
            for size in members or [s.mtu]:
                sizes.setdefault(size, []).append((d, s))
        if len(sizes) < 2:
            continue
        usual = max(sizes, key=lambda size: (len(sizes[size]), -size))
        for size, odd in sizes.items():
            for d, s in odd if size != usual else ():
                yield _odd(d, s, s.vni, size, usual, len(sizes[usual]))


def _odd(d: Digest, s: Segment, vni: int, size: int, usual: int, others: int) -> Finding:
    facts: Facts = {"host": d.host, "network": s.name or f"VNI {vni}", "own": size, "usual": usual, "others": others}
    proof = line(REF, "sizes", host=d.host, device=place_text(s.at), own=size, usual=usual, others=others)
    keys = tuple(dict.fromkeys(m.key for m in s.members if m.key and m.mtu in (size, 0)))
    return msgspec.structs.replace(found("MTU117", "warning", "likely", s.at, facts, proof), workloads=keys)
