"""What a namespace's links do not say themselves and is asked for only where it can be: the peers of WireGuard, the
ports of Open vSwitch, sessions of L2TP, IPsec.

Asking loads nothing: generic netlink families are looked up in the list of those that are there, and a socket of
NETLINK_XFRM is opened only where /proc/net/netlink shows the kernel's own end of it (opening one would load the module,
netlink_create). What reads the answers is loaded where there are any.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from msgspec.structs import replace

from pathfit.core.snapshot import Link, Wireguard, XfrmPolicy, XfrmState
from pathfit.host import procfs
from pathfit.host.nlsocket import NETLINK_GENERIC, NetlinkSocket
from pathfit.wire import genl

if TYPE_CHECKING:
    from pathfit.wire import ovs

Facts = dict[str, str | int | bool]

IPSEC = 50_000  # states or policies of one namespace
PEERS = 10_000  # messages about one device; tunnels, sessions of one namespace


class Families:
    """Generic netlink families by name, found out once in a run."""

    def __init__(self) -> None:
        self._ids: dict[str, int] | None = None

    def find(self, sock: NetlinkSocket, name: str) -> int:
        """The family's number, 0 when this kernel does not have it (now). Raises OSError, netlink.Malformed."""
        if self._ids is None:
            self._ids = {f.name: f.id for f in sock.dump(genl.families(), genl.family)}
        return self._ids.get(name, 0)


def has_ipsec() -> bool:
    """Whether NETLINK_XFRM, 6, is there: column "Eth" of /proc/net/netlink, where the kernel's own "Portid" is 0."""
    lines = procfs.maybe("/proc/thread-self/net/netlink").splitlines()[1:]
    return any(fields[1:3] == ["6", "0"] for line in lines if (fields := line.split()))


def of_wireguard(families: Families, index: int) -> Wireguard | None:
    """One device. Raises OSError, netlink.Malformed."""
    from pathfit.wire import wireguard

    with NetlinkSocket(NETLINK_GENERIC) as sock:
        if family := families.find(sock, wireguard.FAMILY):
            return wireguard.joined(sock.dump(wireguard.request(family, index), wireguard.device, PEERS))
    return None


def of_switch(families: Families, index: int) -> "dict[str, ovs.Vport]":
    """Ports of the datapath with that device, by name. Raises OSError, netlink.Malformed."""
    from pathfit.wire import ovs

    with NetlinkSocket(NETLINK_GENERIC) as sock:
        if family := families.find(sock, ovs.FAMILY):
            return {port.name: port for port in sock.dump(ovs.request(family, index), ovs.vport)}
    return {}


def with_ports(links: Sequence[Link], ports: "dict[str, ovs.Vport]") -> list[Link]:
    """The links with what the switch calls them: ``ovs_type``, and ``ovs_port`` of tunnels (UDP)."""
    return [
        replace(x, info={**x.info, "ovs_type": port.kind, **({"ovs_port": port.port} if port.port else {})})
        if (port := ports.get(x.name))
        else x
        for x in links
    ]


def of_l2tp(families: Families) -> dict[str, Facts]:
    """What L2TP devices of the namespace this thread stands in are, by name. Raises OSError, netlink.Malformed."""
    from pathfit.wire import l2tp

    with NetlinkSocket(NETLINK_GENERIC) as sock:
        family = families.find(sock, l2tp.FAMILY)
        if not family:
            return {}
        tunnels = {x.number: x.info for x in sock.dump(l2tp.tunnels(family), l2tp.tunnel, PEERS)}
        sessions = sock.dump(l2tp.sessions(family), l2tp.session, PEERS)
        return {x.name: {**tunnels[x.tunnel], **x.info} for x in sessions if x.name and x.tunnel in tunnels}


def ipsec() -> tuple[tuple[XfrmState, ...], tuple[XfrmPolicy, ...]]:
    """States and policies of the namespace this thread stands in. Raises OSError, netlink.Malformed."""
    from pathfit.wire import xfrm

    with NetlinkSocket(xfrm.NETLINK_XFRM) as sock:
        states = tuple(sock.dump(xfrm.states(), xfrm.state, IPSEC))
        return states, tuple(sock.dump(xfrm.policies(), xfrm.policy, IPSEC))


def policies() -> int:
    """How many IPsec policies there are. Raises OSError, netlink.Malformed."""
    from pathfit.wire import xfrm

    with NetlinkSocket(xfrm.NETLINK_XFRM) as sock:
        return sock.ask(xfrm.counts(), xfrm.counted) or 0
