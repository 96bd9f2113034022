"""Packets in packets: what goes around them, what that costs, and where it is taken off again.

* :mod:`~pathfit.model.tunnels.tunnel` wraps a packet and predicts the outer one in turn;
* :mod:`~pathfit.model.tunnels.outers` - what goes around it: addresses, ports, DF, marks;
* :mod:`~pathfit.model.tunnels.overhead` - what that costs, to the byte, for each kind and family;
* :mod:`~pathfit.model.tunnels.exits` - which device takes it off at the other end;
* :mod:`~pathfit.model.tunnels.right` - the MTU a tunnel should have;
* :mod:`~pathfit.model.tunnels.ipsec` - IPsec without a device;
* :mod:`~pathfit.model.tunnels.stacks` - a stack of headers as one writes it ("vxlan over wireguard");
* :mod:`~pathfit.model.tunnels.makers` - what the makers of cluster networks subtract.
"""
