"""The one door from rules to the model: the predicted way of the asked flow, both directions."""

from pathfit.core.net import ICMP, ICMPV6, TCP, UDP
from pathfit.core.path import Predicted
from pathfit.core.snapshot import HostSnapshot
from pathfit.model.network import Network
from pathfit.model.walk import predict_both

Ways = tuple[Predicted | None, Predicted | None]


def both(state: HostSnapshot, ns_id: str, address: str, port: int, protocol: str) -> Ways:
    """(forward, reverse) of the asked flow; (None, None) when the source's namespace was not read."""
    network = Network.of(state)
    if network.find(ns_id) is None:
        return None, None
    proto = {"udp": UDP, "icmp": ICMPV6 if ":" in address else ICMP}.get(protocol, TCP)
    return predict_both(network, ns_id, address, proto=proto, dport=port)
