"""The shape of a namespace: what decides what happens to its packets, and nothing that differs between twins.

Workloads of one shape are predicted once (:class:`~pathfit.rules.state.machine.Group`). What a rule needs and is not in
here hides twins behind each other.
"""

from collections.abc import Mapping

from pathfit.core.snapshot import Link
from pathfit.model.network import Net, Network
from pathfit.rules.state.standins import families

LOOPBACK = "127."
Shape = tuple[object, ...]


def shape(network: Network, net: Net) -> Shape:
    """Of ``net``; equal for twins alone."""
    at = {x.index: n for n, x in enumerate(net.snap.links)}
    snap = net.snap
    links = tuple(_device(network, net, x, at) for x in snap.links if not x.loopback)
    routes = frozenset(
        (r.family, r.table, r.dst, r.prefix, r.type, r.metric, r.mtu, r.mtu_lock, r.advmss,
         tuple((at.get(h.link), h.via) for h in r.hops))
        for r in snap.routes
        if r.type not in ("local", "broadcast", "multicast", "anycast") and r.prefix not in (32, 128)
    )  # fmt: skip
    tables = tuple(t for t in snap.tables if not _only_loopback(t))
    rest = () if snap.plain else (tables, tuple(snap.rules), tuple(snap.exceptions), _switches(net))
    return (links, routes, rest, families(net))


def _device(network: Network, net: Net, x: Link, at: Mapping[int, int]) -> Shape:
    other = network.peer(net, x)
    there: Shape = ()
    if other is not None:
        o = other[1]
        there = (other[0].key, o.mtu, o.master, o.up, o.bridge_port, _on(o))
    leads = (x.vxlan, x.wireguard, tuple(sorted(x.info.items())))  # tunnels to different ends are not twins
    return (x.name, x.kind, x.mtu, x.up, x.carrier, _on(x), there, at.get(x.master), leads)


def _on(link: Link) -> tuple[str, ...] | None:
    """Offload features that are switched on; None: not known."""
    return None if link.features is None else tuple(k for k, v in link.features.items() if v)


def _switches(net: Net) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(net.snap.sysctls.items()))


def _only_loopback(table: object) -> bool:
    """A table that only turns an address of 127/8 round (Docker's resolver, on a port of its own in each container)."""
    chains = getattr(table, "chains", ())
    for chain in chains:
        for rule in chain.rules:
            tests = [e for e in rule.exprs if getattr(e, "field", "") in ("daddr", "saddr")]
            if not any(v.startswith(LOOPBACK) for e in tests for v in e.values):
                return False
    return all(c.policy == "accept" for c in chains)
