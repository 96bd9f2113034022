"""What the kernel would do with a packet, from snapshots alone: pure, no packet is sent.

* :mod:`~pathfit.model.network` joins the namespaces of one or many hosts;
  :mod:`~pathfit.model.join` says where a frame that leaves one host comes in at another;
* :mod:`~pathfit.model.addr` compares addresses as numbers;
* :mod:`~pathfit.model.place` says which namespaces a WHERE names, :mod:`~pathfit.model.what_if` changes an MTU in them;
* :mod:`~pathfit.model.lookup` finds the route (rules, tables, longest prefix) and the source address;
* :mod:`~pathfit.model.packet` is what walks, :mod:`~pathfit.model.state` where it is;
* :mod:`~pathfit.model.mtu` says how large a packet a host sends, and how large ones its SYN invites;
* :mod:`~pathfit.model.l2` carries a :mod:`~pathfit.model.frame`: veth, bridge, vlan, macvlan, bond;
* :mod:`~pathfit.model.tunnels` wraps packets in packets and predicts the outer ones in turn;
* :mod:`~pathfit.model.filters` evaluates packet filters; ``_policy`` translates the model's packet for them;
* :mod:`~pathfit.model.nat` translates, forth and back, :mod:`~pathfit.model.hooks` is where a walk passes both;
* :mod:`~pathfit.model.journey` is the walk, step by step; :mod:`~pathfit.model.walk` has the two questions;
* :mod:`~pathfit.model.order` says which address a client tries first, :mod:`~pathfit.model.proxies` by which proxy;
* :mod:`~pathfit.model.dropped` says why the kernel dropped a packet, from its reason and who called;
  :mod:`~pathfit.model.ruled` by which rule; :mod:`~pathfit.model.counted` what a counter that moved may mean;
  :mod:`~pathfit.model.taps` where to look at a flow,
  :mod:`~pathfit.model.same` what of a packet stays as it is, :mod:`~pathfit.model.parts` what a fragment carries of it,
  :mod:`~pathfit.model.ladder` where it was seen last;
* :mod:`~pathfit.model.hung` says which sockets hang, and in which direction;
* :mod:`~pathfit.model.workloads` lists whose namespaces they are: containers, pods, and guests without an engine;
  :mod:`~pathfit.model.runners` whose CI runner an engine works for.

Ask :func:`predict` for one direction, :func:`predict_both` for a conversation, :func:`advertised` for the MSS a SYN
promises. A route's, a device's and a cached MTU bound what a host *sends*; what it *receives* is another limit.
Sizes are bytes of IP packet, header included. What cannot be known is ``Fate.UNKNOWN``, with ``why`` and ``ends``.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathfit.model.mtu import advertised as advertised
    from pathfit.model.mtu import own_mtu as own_mtu
    from pathfit.model.network import Net as Net
    from pathfit.model.network import Network as Network
    from pathfit.model.walk import predict as predict
    from pathfit.model.walk import predict_both as predict_both

_HOME = {
    "Net": "network",
    "Network": "network",
    "advertised": "mtu",
    "own_mtu": "mtu",
    "predict": "walk",
    "predict_both": "walk",
}
__all__ = ["Net", "Network", "advertised", "own_mtu", "predict", "predict_both"]


def __getattr__(name: str) -> Any:
    """Lazy: whoever wants one module of this package need not pay for a walk (8 ms before the first packet)."""
    if name in _HOME:
        from importlib import import_module

        return getattr(import_module(f"pathfit.model.{_HOME[name]}"), name)
    raise AttributeError(name)
