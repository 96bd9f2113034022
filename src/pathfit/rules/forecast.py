"""The one door from rules to the model: the predicted way of the asked flow, both directions.

The model is loaded when there is state to ask it about: without any (``pathfit-probe.py``) it is not needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pathfit.core.net import ICMP, ICMPV6, TCP, UDP
from pathfit.core.path import Predicted
from pathfit.core.snapshot import HostSnapshot, Route

if TYPE_CHECKING:
    from pathfit.model.network import Network

Ways = tuple[Predicted | None, Predicted | None]


class _Joined:
    """One snapshot, joined, and what was predicted of it. Both are functions of the snapshot alone, so that to keep
    them changes no answer; the plan, the rules and the remedies of one run ask the same questions many times."""

    def __init__(self, state: HostSnapshot) -> None:
        from pathfit.model.network import Network

        self.state = state
        self.network = Network.of(state)
        self.ways: dict[tuple[str, str, int, int, int | None], Ways] = {}


_last: list[_Joined] = []  # one at most


def _joined(state: HostSnapshot) -> _Joined:
    if not _last or _last[0].state is not state:
        _last[:] = [_Joined(state)]
    return _last[0]


def network(state: HostSnapshot) -> Network:
    """The namespaces of a snapshot with what connects them; the same value while the same snapshot is asked about."""
    return _joined(state).network


def route_of(state: HostSnapshot, ns_id: str, address: str) -> Route | None:
    """The route by which a namespace sends to an address; None when there is none or it is not certain."""
    from pathfit.model.lookup import Query, lookup

    net = network(state).find(ns_id)
    found = lookup(net, Query(dst=address, proto=TCP)) if net is not None else None
    return found.route if found is not None and found.kind == "unicast" else None


def in_order(state: HostSnapshot, ns_id: str, addresses: tuple[str, ...]) -> tuple[str, ...]:
    """Addresses of a target as a client in that namespace would try them."""
    from pathfit.model.order import order

    return order(network(state).find(ns_id), addresses)


def goes(state: HostSnapshot, ns_id: str, address: str) -> bool:
    """Has the namespace a way to that address, as far as we know?"""
    from pathfit.model.order import goes as has_way

    net = network(state).find(ns_id)
    return net is None or has_way(net, address)


def refusal(state: HostSnapshot, ns_id: str, address: str, port: int) -> Predicted | None:
    """The way back of the RST that refuses the asked connection; None when the source's namespace was not read."""
    from pathfit.model.walk import predict_refusal

    joined = network(state)
    return predict_refusal(joined, ns_id, address, dport=port) if joined.find(ns_id) is not None else None


def drawn(state: HostSnapshot, ns_id: str, address: str, port: int, protocol: str) -> tuple[Ways, ...]:
    """The same for each address that NAT may take the flow to, where dice or a hash choose one; () elsewhere."""
    from pathfit.model.walk import predict_drawn

    joined = network(state)
    if joined.find(ns_id) is None:
        return ()
    return predict_drawn(joined, ns_id, address, proto=_proto(protocol, address), dport=port)


def _proto(protocol: str, address: str) -> int:
    return {"udp": UDP, "icmp": ICMPV6 if ":" in address else ICMP}.get(protocol, TCP)


def both(state: HostSnapshot, ns_id: str, address: str, port: int, protocol: str, *, size: int | None = None) -> Ways:
    """(forward, reverse) of the asked flow; (None, None) when the source's namespace was not read.

    ``size``: of the packets both ways, bytes; None = as large as each end would send by itself.
    """
    from pathfit.model.walk import predict_both

    joined = _joined(state)
    if joined.network.find(ns_id) is None:
        return None, None
    proto = _proto(protocol, address)
    key = (ns_id, address, port, proto, size)
    ways = joined.ways.get(key)
    if ways is None:
        ways = joined.ways[key] = predict_both(
            joined.network, ns_id, address, proto=proto, dport=port, size_forward=size, size_reverse=size
        )
    return ways
