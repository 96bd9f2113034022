"""Machines that are well, recorded of real engines (record.py), each with one change that breaks it.

What is changed in a twin is one number, or one word, of what the kernel said; nothing of what the engine says.
"""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

from machines import Kind, Said
from msgspec.structs import replace

from pathfit.core.filters import Chain, FilterRule, Match, Table, Verdict
from pathfit.core.snapshot import HostSnapshot, Link, NetnsSnapshot
from pathfit.observe.recorded import load_snapshot

DATA = Path(__file__).parent / "data"
NAMES: dict[str, dict[str, str]] = json.loads((DATA / "names.json").read_text())
Change = Callable[[tuple[HostSnapshot, ...]], tuple[HostSnapshot, ...]]


@cache
def load(label: str) -> HostSnapshot:
    return load_snapshot(DATA / f"{label}.json.gz")


def space_of(host: HostSnapshot, ident: str) -> NetnsSnapshot:
    return next(n for n in host.namespaces if n.id == ident)


def space_at(host: HostSnapshot, label: str, name: str) -> NetnsSnapshot:
    """The namespace of a workload that was called ``name``."""
    hidden = next(k for k, v in NAMES[label].items() if v == name)
    return next(n for n in host.namespaces if n.where.partition(":")[2] == hidden)


def with_space(host: HostSnapshot, space: NetnsSnapshot) -> HostSnapshot:
    return replace(host, namespaces=tuple(space if n.id == space.id else n for n in host.namespaces))


def resized(host: HostSnapshot, ident: str, which: Callable[[Link], bool], mtu: int) -> HostSnapshot:
    """Devices of a namespace with another MTU."""
    space = space_of(host, ident)
    links = tuple(replace(x, mtu=mtu) if which(x) else x for x in space.links)
    assert links != space.links
    return with_space(host, replace(space, links=links))


def _default(space: NetnsSnapshot) -> int:
    return next(r.hops[0].link for r in space.routes if r.prefix == 0 and r.family == 4 and r.hops)


def uplink(mtu: int) -> Change:
    """The device of the host's default route."""

    def change(hosts: tuple[HostSnapshot, ...]) -> tuple[HostSnapshot, ...]:
        (host,) = hosts
        at = _default(space_of(host, host.own))
        return (resized(host, host.own, lambda x: x.index == at, mtu),)

    return change


def far_half(label: str, name: str, mtu: int) -> Change:
    """The host's half of a container's cable."""

    def change(hosts: tuple[HostSnapshot, ...]) -> tuple[HostSnapshot, ...]:
        (host,) = hosts
        peers = {x.peer for x in space_at(host, label, name).links if x.kind == "veth"}
        return (resized(host, host.own, lambda x: x.index in peers and x.kind == "veth", mtu),)

    return change


def forwarding_off(hosts: tuple[HostSnapshot, ...]) -> tuple[HostSnapshot, ...]:
    (host,) = hosts
    space = space_of(host, host.own)
    words = {
        k: "0" if k.endswith(("ip_forward", "forwarding")) and "ipv4" in k else v for k, v in space.sysctls.items()
    }
    return (with_space(host, replace(space, sysctls=words)),)


def nobody_is_let_through(hosts: tuple[HostSnapshot, ...]) -> tuple[HostSnapshot, ...]:
    """DOCKER-USER as Docker makes it: without the rules somebody added."""
    (host,) = hosts
    space = space_of(host, host.own)

    def bare(t: Table) -> Table:
        keep = {c.name: tuple(r for r in c.rules if Verdict(kind="accept") not in r.exprs) for c in t.chains}
        return replace(
            t, chains=tuple(replace(c, rules=keep[c.name]) if c.name == "DOCKER-USER" else c for c in t.chains)
        )

    return (with_space(host, replace(space, tables=tuple(bare(t) for t in space.tables))),)


def overlays_of(mtu: int, wide: int = 1450) -> Change:
    """Every device of an overlay of the size ``wide`` has ``mtu``."""

    def change(hosts: tuple[HostSnapshot, ...]) -> tuple[HostSnapshot, ...]:
        made = []
        for host in hosts:
            spaces = tuple(
                replace(n, links=tuple(replace(x, mtu=mtu) if x.mtu == wide else x for x in n.links))
                for n in host.namespaces
            )
            made.append(replace(host, namespaces=spaces))
        return tuple(made)

    return change


def moved_member(hosts: tuple[HostSnapshot, ...]) -> tuple[HostSnapshot, ...]:
    """The third host sends what is for c1, which is on the first, to the second."""
    first, second, third = hosts
    mac = next(x.mac for x in space_at(first, "swarm-1", "c1").links if x.mtu == 1450)
    there = next(
        a.address for n in second.namespaces if n.id == second.own for a in n.addresses if a.link == _uplink(n)
    )
    for space in third.namespaces:
        fdb = tuple(replace(e, remote=there) if e.mac == mac and e.remote else e for e in space.fdb)
        if fdb != space.fdb:
            return (first, second, with_space(third, replace(space, fdb=fdb)))
    raise AssertionError("the third host knows nothing of c1")


def _uplink(space: NetnsSnapshot) -> int:
    return next(x.index for x in space.links if x.name == "eth0")


def other_number(hosts: tuple[HostSnapshot, ...]) -> tuple[HostSnapshot, ...]:
    """The third host's end of the overlay of c1 to c3 has another VNI."""
    *others, third = hosts
    for space in third.namespaces:
        links = tuple(
            replace(x, vxlan=replace(x.vxlan, vni=x.vxlan.vni + 900)) if x.vxlan and x.mtu == 1450 else x
            for x in space.links
        )
        if links != space.links and any(_homes_c3(third, space)):
            return (*others, with_space(third, replace(space, links=links)))
    raise AssertionError("no overlay on the third host")


def _homes_c3(host: HostSnapshot, space: NetnsSnapshot) -> list[Link]:
    return [x for x in space.links if x.peer_ns == space_at(host, "swarm-3", "c3").id]


def closed(*open_ports: str) -> Change:
    """The first host's firewall drops what comes in, but for these UDP ports."""
    tests = [
        FilterRule(
            exprs=(Match(field="l4proto", values=("17",)), Match(field="dport", values=(p,)), Verdict(kind="accept"))
        )
        for p in open_ports
    ]
    table = Table(family="inet", name="fw", chains=(Chain(name="in", hook="input", policy="drop", rules=tuple(tests)),))

    def change(hosts: tuple[HostSnapshot, ...]) -> tuple[HostSnapshot, ...]:
        (host,) = hosts
        space = space_of(host, host.own)
        return (with_space(host, replace(space, tables=(*space.tables, table))),)

    return change


def allowlist(*ports: str) -> Change:
    """Somebody's own chain beside the engine's: what is forwarded is dropped, but for these ports."""
    new = [
        FilterRule(
            exprs=(Match(field="l4proto", values=("6",)), Match(field="dport", values=(p,)), Verdict(kind="accept"))
        )
        for p in ports
    ]
    known = FilterRule(exprs=(Match(field="ctstate", values=("established", "related")), Verdict(kind="accept")))
    chain = Chain(name="fwd", hook="forward", policy="drop", priority=10, rules=(known, *new))
    return lambda hosts: tuple(_filtering(h, Table(family="inet", name="egress", chains=(chain,))) for h in hosts)


def _filtering(host: HostSnapshot, table: Table) -> HostSnapshot:
    space = space_of(host, host.own)
    return with_space(host, replace(space, tables=(*space.tables, table)))


def inner_size(mtu: int) -> Change:
    """The inner daemon's bridge and its containers' cables."""

    def change(hosts: tuple[HostSnapshot, ...]) -> tuple[HostSnapshot, ...]:
        (host,) = hosts
        label = "docker-in-docker"
        dind = space_at(host, label, "dind")
        host = resized(host, dind.id, lambda x: x.kind == "bridge" or x.master != 0, mtu)
        for name in ("one", "two"):
            host = resized(host, space_at(host, label, name).id, lambda x: x.kind == "veth", mtu)
        return (host,)

    return change


def of(
    label: str,
    change: Change | None = None,
    says: Said | None = None,
    infos: tuple[str, ...] = (),
    labels: tuple[str, ...] = (),
) -> Kind:
    files = labels or (label,)

    def make(n: str) -> tuple[HostSnapshot, ...]:
        hosts = tuple(load(x) for x in files)
        return change(hosts) if n == "ill" and change is not None else hosts

    return Kind(label, make, "well", "ill" if change is not None else None, says or {}, frozenset(infos))


def over(*names: str) -> Said:
    return {("warning", "MTU103"): frozenset(names)}


def hidden(*names: str, outside: str = "") -> Said:
    """Offloads are on, as engines leave them: bulk transfers pass. What comes to ``outside`` does not."""
    more: Said = {("warning", "MTU105"): frozenset({outside})} if outside else {}
    return {("warning", "MTU116"): frozenset(names), **more}


def unset(*names: str) -> Said:
    """A network that was given no MTU."""
    return {("warning", "CFG601"): frozenset(names)}


SWARM = ("swarm-1", "swarm-2", "swarm-3")
RECORDINGS = [
    of("docker-default", uplink(1400), over("c1", "c2", "c10")),
    of("docker-default", forwarding_off, {("error", "FLT403"): frozenset({"c1", "c2", "c10"})}),
    of("docker-mtu-1400-empty", uplink(1300), over("web")),
    of("docker-mtu-1400", far_half("docker-mtu-1400", "c2", 1300), hidden("c1", "c2", outside="c2")),
    of("docker-compose", uplink(1300), over("shop_web_1", "shop_db_1", "shop_cache_1", "wiki_app_1")),
    of("docker-internal-icc-off", uplink(1400), over("c1", "c2", "e1", "e2") | unset("e1", "e2"), ("FLT401",)),
    of("docker-internal-icc-off", far_half("docker-internal-icc-off", "v1", 1400), hidden("v1", "v2"), ("FLT401",)),
    of("docker-macvlan", uplink(1400), over("c1")),
    of("docker-ipv6", uplink(1400), over("c1", "c2", "c3") | unset("c2", "c3")),
    of("docker-jumbo-uplink", uplink(1500), over("big")),
    *(of(label, overlays_of(1500), {("warning", "MTU104"): frozenset({f"c{n}"})}) for n, label in enumerate(SWARM, 1)),
    of("swarm-together", moved_member, {("error", "OVL301"): frozenset({"c3"})}, labels=SWARM),
    of("swarm-together", other_number, {("error", "OVL304"): frozenset({"c1", "c2", "c3"})}, labels=SWARM),
    of("swarm-1", closed("7946"), {("error", "OVL303"): frozenset({"c1", "d1"})}),
    of("swarm-1", closed("7946", "4789"), {}),
    of("docker-in-docker", inner_size(1500), {("warning", code): frozenset({"one", "two"})
                                              for code in ("MTU103", "CFG602", "CFG603")}),
    of("podman-netavark", uplink(1450), over("three") | unset("three")),
    of("podman-cni", uplink(1450), over("three") | unset("three")),
    of("containerd-cni", uplink(1400), over("one", "two", "shop/web-1")),
    of("docker-ufw", uplink(1400), over("c1", "c2")),
    of("docker-firewalld", uplink(1400), over("c1")),
    of("docker-libvirt", uplink(1400), over("c1")),
    of("docker-lxd", nobody_is_let_through, {("warning", "FLT404"): frozenset({"u1", "u2"})}),
    of("k8s-flannel", overlays_of(1500), {("warning", "MTU104"): frozenset({"cni-2", "cni-3"})}),
    of(
        "k8s-flannel",
        uplink(1400),
        over("cni-2", "cni-3") | {("warning", "MTU104"): frozenset({"cni-2", "cni-3"})},
    ),
    of("k8s-calico", overlays_of(1500), {("warning", "MTU104"): frozenset({"cni-2", "cni-3"})}),
    of("k8s-calico", forwarding_off, {("error", "FLT403"): frozenset({"cni-2", "cni-3"})}),
    of("docker-ufw", allowlist("5432"), {}, ("FLT401",)),
    of("docker-ufw", allowlist(), {("warning", "FLT404"): frozenset({"c1", "c2"})}),
]  # fmt: skip
