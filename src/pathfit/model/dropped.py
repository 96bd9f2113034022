"""Why the kernel dropped a packet: from its reason, the function that did it and who called that, to one word.

Half of the drops for size have no reason of their own (NOT_SPECIFIED): they are known by their callers. Function names
vary between kernels and compilers, so the decisive one is looked for anywhere among the callers, by its beginning. What
no row knows is "unknown", never a guess; and much that is freed is no loss: a ping answered by its raw socket, what a
closed connection still held.

Measured on 6.18 (tests/unit/test_capture_drops.py builds each row); sources: ip_forward(), ip6_forward(),
__dev_forward_skb2(), br_dev_queue_push_xmit(), ip_fragment(), include/net/dropreason-core.h. Pure.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

Limit = Literal["", "egress", "peer", "port", "underlay"]


class Why(NamedTuple):
    """``word``: what happened; ``limit``: whose MTU decided, where one did: that of the device the route chose
    ("egress"), of the other half of a veth ("peer"), of a bridge's port ("port"; both let MTU + 4 pass), of the device
    below a tunnel ("underlay"). ``told``: does the sender hear of it (ICMP) when nothing is in the way?"""

    word: str
    limit: Limit = ""
    told: bool = False


UNKNOWN = Why("unknown")
FORWARDS = ("ip_forward", "ip6_forward")
TUNNELS = ("iptunnel_xmit", "ip_tunnel_xmit", "udp_tunnel_xmit_skb", "udp_tunnel6_xmit_skb", "ip6_tnl_xmit")
PORTS = ("veth_xmit", "br_dev_queue_push_xmit", "br_nf_dev_queue_xmit")
# No loss on the way: reasons, and (reason, beginning of a function).
NOISE = frozenset(("NOT_DROPPED_YET", "CONSUMED", "QUEUE_PURGE", "SOCKET_CLOSE", "TCP_CLOSE", "PACKET_SOCK_ERROR"))
SOCKETS = "TCP_"  # reasons of a socket that was reached: what it does not want is no loss of the way
LOSSES_AT_SOCKETS = frozenset(("TCP_CSUM", "TCP_MD5FAILURE", "TCP_MINTTL", "TCP_FLAGS"))
NOISY = (
    ("NOT_SPECIFIED", "skb_rbtree_purge"),
    ("NOT_SPECIFIED", "ip6_mc_input"),
    ("NO_SOCKET", "ping_rcv"),
    ("NO_SOCKET", "raw"),
    ("NOT_SPECIFIED", "tpacket_rcv"),  # somebody's tap was full, ours or another's (no reason of its own before 6.11)
    ("NOT_SPECIFIED", "packet_rcv"),
    ("NOT_SPECIFIED", "tcp_"),  # a socket was reached, and did not want it
)

TRANSMITS = "dev_hard_start_xmit"
IN_CABLE = (TRANSMITS, "veth_xmit")
NOT_IN_CABLE = ("__netif_receive_skb", "netif_receive_skb", "__dev_queue_xmit", "dev_queue_xmit", "sch_", "ip", "br_")
BACKLOG = ("enqueue_to_backlog", "netif_rx", "__netif_rx")  # where what came across waits
WAITS = ("process_backlog", "flush_backlog", "veth_")  # of the far half, before its tap
TAKES_UP = ("process_backlog", "__napi_poll", "net_rx_action", "handle_softirqs", "__do_softirq", "do_softirq")
BRIDGE_NF = ("br_nf_dev_queue_xmit", "br_nf_post_routing", "br_nf_ip_fragment")

_ROWS: tuple[tuple[str, tuple[str, ...], Why], ...] = (  # reason, one of these is among the callers, why
    ("PKT_TOO_BIG", FORWARDS, Why("too-big", "egress", told=True)),
    ("PKT_TOO_BIG", (), Why("too-big", "egress")),
    ("NOT_SPECIFIED", ("br_nf_dev_queue_xmit", "br_dev_queue_push_xmit"), Why("port-too-small", "port")),
    ("NOT_SPECIFIED", ("veth_xmit", "__dev_forward_skb", "dev_forward_skb"), Why("peer-too-small", "peer")),
    ("NOT_SPECIFIED", ("ip_fragment", "ip6_fragment"), Why("too-big", "egress")),
    ("NOT_SPECIFIED", ("dst_discard", "ip_error"), Why("refused-by-route")),
    ("NETFILTER_DROP", (), Why("filtered")),
    ("IP_RPFILTER", (), Why("reverse-path")),
    ("IP_INNOROUTES", ("ip6_pkt_prohibit",), Why("refused-by-route", told=True)),
    ("IP_INNOROUTES", (), Why("no-route", told=True)),
    ("IP_OUTNOROUTES", (), Why("no-route")),
    ("IP_INADDRERRORS", (), Why("not-forwarded")),
    ("IP_INHDR", FORWARDS, Why("ttl", told=True)),
    ("IPV6DISABLED", (), Why("family-off")),
    ("NEIGH_FAILED", (), Why("no-neighbour", told=True)),
    ("NOT_SPECIFIED", ("neigh_invalidate", "ndisc_error_report"), Why("no-neighbour", told=True)),  # IPv6
    ("NEIGH_QUEUEFULL", (), Why("neighbour-queue")),
    ("NEIGH_DEAD", (), Why("no-neighbour")),
    ("VXLAN_VNI_NOT_FOUND", (), Why("unknown-vni")),
    ("VXLAN_NO_REMOTE", (), Why("no-tunnel-end")),
    ("VXLAN_ENTRY_EXISTS", (), Why("moved-station")),
    ("NO_SOCKET", ("tcp_v4_rcv", "tcp_v6_rcv"), Why("closed", told=True)),
    ("NO_SOCKET", ("udp",), Why("closed", told=True)),
    ("NO_SOCKET", ("__udp",), Why("closed", told=True)),
    ("SOCKET_RCVBUFF", (), Why("receiver-full")),
    ("TCP_CSUM", (), Why("checksum")),
    ("UDP_CSUM", (), Why("checksum")),
    ("IP_CSUM", (), Why("checksum")),
    ("ICMP_CSUM", (), Why("checksum")),
    ("XFRM_POLICY", (), Why("ipsec-policy")),
    ("TC_INGRESS", (), Why("traffic-control")),
    ("TC_EGRESS", (), Why("traffic-control")),
    ("XDP", (), Why("xdp")),
    ("QDISC_DROP", (), Why("queue-full")),
    ("FULL_RING", (), Why("queue-full")),
    ("CPU_BACKLOG", (), Why("queue-full")),
    ("DEV_READY", (), Why("link-down")),
    ("OTHERHOST", (), Why("not-ours")),
    ("UNHANDLED_PROTO", (), Why("unhandled")),
)  # fmt: skip


def why(reason: str, functions: Sequence[str]) -> Why | None:
    """Why a packet was freed. ``functions``: the one that did it, then its callers, innermost first; names may be "".

    None: no loss on the way. UNKNOWN: a loss of which no row speaks, to be shown with its reason and function.
    """
    functions = _together(functions)
    if reason in NOISE or (reason.startswith(SOCKETS) and reason not in LOSSES_AT_SOCKETS):
        return None
    if any(reason == r and _among((f,), functions[:1]) for r, f in NOISY):
        return None
    if reason in ("PKT_TOO_BIG", "NOT_SPECIFIED") and _bridged(functions):
        return Why("port-too-small", "port")
    if reason in ("PKT_TOO_BIG", "NOT_SPECIFIED") and _outer(functions):
        return Why("outer-too-big", "underlay")
    for wanted, among, found in _ROWS:
        if wanted == reason and (not among or _among(among, functions)):
            return found
    return UNKNOWN


def in_cable(functions: Sequence[str]) -> bool | None:
    """Was it dropped behind the tap of the half it left by, and before that of the half it was to come in by
    (xmit_one() to __netif_receive_skb_core())? None: no name tells."""
    mine = _together(functions)
    for name in mine:
        if name.startswith(IN_CABLE):
            return True
        if name.startswith(NOT_IN_CABLE):
            return False
    waited = _among(WAITS, (*mine, *functions[len(mine) : len(mine) + 1]))
    return None if waited or not any(functions) else False


def came_across(functions: Sequence[str]) -> bool:
    """Of such a packet: does it bear the far half's device already (__dev_forward_skb2())?"""
    return _among(BACKLOG, functions[: functions.index(TRANSMITS)] if TRANSMITS in functions else functions)


def _together(functions: Sequence[str]) -> Sequence[str]:
    """Without what ran when the packet was taken up: a soft interrupt interrupts anything."""
    end = next((n for n, name in enumerate(functions) if n and name.startswith(TAKES_UP)), len(functions))
    return functions[:end]


def _bridged(functions: Sequence[str]) -> bool:
    """Cut for a bridge's port (bridge-nf): br_nf_dev_queue_xmit() ends in a call of ip6_fragment(), and is itself no
    caller any more."""
    return _among(("ip_fragment", "ip6_fragment", "ip_do_fragment"), functions[:1]) and _among(
        BRIDGE_NF, functions[1:2]
    )


def by_bridge_nf(functions: Sequence[str]) -> bool:
    """Did bridge-nf judge it, which lets pass what a port's MTU says, and no more?"""
    return _bridged(functions) or _among(("br_nf_dev_queue_xmit",), _together(functions))


def _outer(functions: Sequence[str]) -> bool:
    """A tunnel's own packet did not fit, and its "don't fragment" was set. What a cable or a bridge's port would not
    take got past that: it is too large there, wrapped or not."""
    if _among(PORTS, functions):
        return False
    return _among(TUNNELS, functions) and _among(("ip_fragment", "ip6_fragment", "ip_output", "ip6_output"), functions)


def _among(beginnings: Sequence[str], functions: Sequence[str]) -> bool:
    return any(name.startswith(one) for one in beginnings for name in functions if name)
