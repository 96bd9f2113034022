"""The one door from rules to the model: the predicted way of the asked flow, both directions."""

from pathfit.core.net import ICMP, ICMPV6, TCP, UDP
from pathfit.core.path import Predicted
from pathfit.core.snapshot import HostSnapshot, Route
from pathfit.model.lookup import Query, lookup
from pathfit.model.network import Network
from pathfit.model.walk import predict_both

Ways = tuple[Predicted | None, Predicted | None]


def route_of(state: HostSnapshot, ns_id: str, address: str) -> Route | None:
    """The route by which a namespace sends to an address; None when there is none or it is not certain."""
    net = Network.of(state).find(ns_id)
    found = lookup(net, Query(dst=address, proto=TCP)) if net is not None else None
    return found.route if found is not None and found.kind == "unicast" else None


def both(state: HostSnapshot, ns_id: str, address: str, port: int, protocol: str, *, size: int | None = None) -> Ways:
    """(forward, reverse) of the asked flow; (None, None) when the source's namespace was not read.

    ``size``: of the packets both ways, bytes; None = as large as each end would send by itself.
    """
    network = Network.of(state)
    if network.find(ns_id) is None:
        return None, None
    proto = {"udp": UDP, "icmp": ICMPV6 if ":" in address else ICMP}.get(protocol, TCP)
    return predict_both(network, ns_id, address, proto=proto, dport=port, size_forward=size, size_reverse=size)
