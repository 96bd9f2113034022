"""tcp_metrics by generic netlink (include/uapi/linux/tcp_metrics.h): what TCP keeps of earlier connections.

Numbers are in the byte order of the machine, addresses in that of the network. Values that were never written are left
out by the kernel (tcp_metrics_fill_info()); the older unit (RTT in milliseconds) stands beside the newer one.
"""

import ipaddress
from struct import Struct

from pathfit.core.remembered import TcpMetrics
from pathfit.wire import genl
from pathfit.wire.netlink import Malformed, attribute, attributes, ip_text, u16, u32

FAMILY = "tcp_metrics"
_GET = 1
_V4, _V6, _AGE, _VALUES, _MSS, _COOKIE, _SRC_V4, _SRC_V6 = 1, 2, 3, 6, 7, 10, 11, 12
# TCP_METRIC_*, each + 1 inside the nest
_RTT_MS, _RTTVAR_MS, _SSTHRESH, _CWND, _REORDERING, _RTT_US, _RTTVAR_US = 1, 2, 3, 4, 5, 6, 7
_U64 = Struct("=Q")


def request(family: int, address: str) -> bytes:
    """What is kept of one address. ``NetlinkSocket.ask`` makes it one question; without an entry the kernel answers
    ESRCH (tcp_metrics_nl_cmd_get())."""
    packed = ipaddress.ip_address(address).packed
    return genl.command(family, _GET, attribute(_V4 if len(packed) == 4 else _V6, packed))


def metrics(data: bytes, at: int, end: int) -> TcpMetrics:
    """One entry. Raises Malformed."""
    found = attributes(data, at + genl.HEADER, end)
    address = found.get(_V4) or found.get(_V6)
    if address is None:
        raise Malformed("TCP metrics of no address")
    source = found.get(_SRC_V4) or found.get(_SRC_V6)
    nest = found.get(_VALUES, b"")
    values = attributes(nest, 0, len(nest))
    age = found.get(_AGE, b"")
    if age and len(age) < _U64.size:
        raise Malformed(f"an age of {len(age)} bytes")
    return TcpMetrics(
        address=ip_text(address),
        src=ip_text(source) if source else "",
        age=_U64.unpack_from(age)[0] / 1e3 if age else 0.0,
        rtt=_seconds(values, _RTT_US, _RTT_MS, 8),  # kept as eighths and quarters (tcp_sock: srtt_us, mdev_us)
        rttvar=_seconds(values, _RTTVAR_US, _RTTVAR_MS, 4),
        ssthresh=_number(values, _SSTHRESH),
        cwnd=_number(values, _CWND),
        reordering=_number(values, _REORDERING),
        mss=u16(found, _MSS) or None,
        cookie=_COOKIE in found,
    )


def _number(values: dict[int, bytes], kind: int) -> int | None:
    return u32(values, kind) if kind in values else None


def _seconds(values: dict[int, bytes], micro: int, milli: int, parts: int) -> float | None:
    if micro in values:
        return u32(values, micro) / parts / 1e6
    return u32(values, milli) / parts / 1e3 if milli in values else None
