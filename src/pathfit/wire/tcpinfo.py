"""struct tcp_info (include/uapi/linux/tcp.h) from getsockopt(TCP_INFO) or from sock_diag's INET_DIAG_INFO.

The kernel appends fields and never moves one, and copies min(what it has, what was asked): the *length* says which
fields exist. A field that is not there is None, never 0.

For a loop that looks at three fields of sixty sockets a millisecond use the offsets (``RCV_MSS`` …) with
``U32(buffer, RCV_MSS)[0]``, or :func:`glance`; :func:`decode` makes the whole value.
"""

from struct import Struct
from typing import NamedTuple

from pathfit.core.sockets import TcpInfo

# Offsets in bytes. All are __u32 unless the comment says otherwise.
STATE = 0  # __u8, TCP_ESTABLISHED = 1 ...
RETRANSMITS = 2  # __u8, RTOs of the segment in front without an answer
PROBES = 3  # __u8
BACKOFF = 4  # __u8
OPTIONS = 5  # __u8, TCPI_OPT_*
RTO = 8  # microseconds
SND_MSS = 16
RCV_MSS = 20
UNACKED = 24
SACKED = 28
LOST = 32
RETRANS = 36
LAST_DATA_SENT = 44  # milliseconds ago
LAST_DATA_RECV = 52
LAST_ACK_RECV = 56
PMTU = 60
RTT = 68  # microseconds
RTTVAR = 72
ADVMSS = 84
TOTAL_RETRANS = 100
BYTES_ACKED = 120  # __u64, payload (and SYN) bytes
BYTES_RECEIVED = 128  # __u64, delivered in order
SEGS_OUT = 136
SEGS_IN = 140
NOTSENT = 144
MIN_RTT = 148  # microseconds, ~0 before the first sample
DATA_SEGS_IN = 152
DATA_SEGS_OUT = 156
BYTES_SENT = 200  # __u64, since 4.19
BYTES_RETRANS = 208  # __u64, since 4.19
DSACK_DUPS = 216  # since 4.19
REORD_SEEN = 220  # since 4.19
RCV_OOOPACK = 224  # since 5.4
SND_WND = 228  # since 5.4

SIZE = 232  # ask getsockopt for this much; older kernels return less
BASE = 104  # since 2.6: up to and with tcpi_total_retrans. Shorter is no tcp_info.

OPT_TIMESTAMPS, OPT_SACK = 1, 2

U32 = Struct("=I").unpack_from
U64 = Struct("=Q").unpack_from

_BASE = Struct("=BxBxBB2xI4xIIIII8xI4xIII4xII8xI12xI").unpack_from  # 0 .. 104
_BYTES = Struct("=QQ").unpack_from  # 120 .. 136, since 4.1
_SEGS = Struct("=II").unpack_from  # 136 .. 144, since 4.2
_DATA = Struct("=IIII").unpack_from  # 144 .. 160, since 4.6
_SENT = Struct("=Q8xII").unpack_from  # 200 .. 224
_LATE = Struct("=II").unpack_from  # 224 .. 232

# STATE, OPTIONS, SND_MSS, RCV_MSS, RTT, ADVMSS, TOTAL_RETRANS, BYTES_ACKED, BYTES_RECEIVED, DATA_SEGS_IN, RCV_OOOPACK
# at once, of the full SIZE: what the prober's loop lives on.
PROBED = Struct("=B4xB10xII44xI12xI12xI16xQQ16xI68xI").unpack_from
_GLANCE = Struct("=I4xI").unpack_from
_NEVER = 0xFFFFFFFF


class Glance(NamedTuple):
    """What tells a hole from a healthy answer; counts of segments, sizes in payload bytes.

    ``ooo`` is None on kernels before 5.4.
    """

    rcv_mss: int
    received: int
    ooo: int | None


def glance(data: bytes | bytearray | memoryview) -> Glance:
    """The three fields the prober's loop lives on, in about a microsecond. Raises ValueError when too short."""
    n = len(data)
    if n < BYTES_RECEIVED + 8:
        raise ValueError(f"tcp_info of {n} bytes: this kernel (before 4.1) counts no received bytes")
    return Glance(
        U32(data, RCV_MSS)[0],
        U64(data, BYTES_RECEIVED)[0],
        U32(data, RCV_OOOPACK)[0] if n >= RCV_OOOPACK + 4 else None,
    )


def decode(data: bytes | bytearray | memoryview) -> TcpInfo:
    """All fields of :class:`~pathfit.core.sockets.TcpInfo`; times in seconds, sizes in bytes of payload.

    Raises ValueError when ``data`` is shorter than the oldest struct tcp_info there is.
    """
    n = len(data)
    if n < BASE:
        raise ValueError(f"tcp_info of {n} bytes, at least {BASE} expected")
    (state, retransmits, backoff, options, rto, snd_mss, rcv_mss, unacked, sacked, lost) = (b := _BASE(data))[:10]
    sent, got, acked_at, pmtu, rtt, rttvar, advmss, total = b[10:]
    acked, received = _BYTES(data, 120) if n >= 136 else (0, 0)
    segs_out, segs_in = _SEGS(data, 136) if n >= 144 else (0, 0)
    notsent, min_rtt, data_in, data_out = _DATA(data, 144) if n >= 160 else (0, _NEVER, 0, 0)
    bytes_sent, dsack, reordered = _SENT(data, 200) if n >= 224 else (None, None, None)
    ooo, window = _LATE(data, 224) if n >= 232 else (None, None)
    return TcpInfo(
        state=state,
        timestamps=bool(options & OPT_TIMESTAMPS),
        sack=bool(options & OPT_SACK),
        snd_mss=snd_mss,
        rcv_mss=rcv_mss,
        advmss=advmss,
        pmtu=pmtu,
        rtt=rtt / 1e6,
        rttvar=rttvar / 1e6,
        rto=rto / 1e6,
        backoff=backoff,
        retransmits=retransmits,
        total_retrans=total,
        unacked=unacked,
        sacked=sacked,
        lost=lost,
        bytes_acked=acked,
        bytes_received=received,
        bytes_sent=bytes_sent,
        segs_in=segs_in,
        segs_out=segs_out,
        data_segs_in=data_in,
        data_segs_out=data_out,
        last_data_sent=sent / 1e3,
        last_data_recv=got / 1e3,
        last_ack_recv=acked_at / 1e3,
        rcv_ooopack=ooo,
        dsack_dups=dsack,
        reord_seen=reordered,
        snd_wnd=window,
        notsent=notsent,
        min_rtt=0.0 if min_rtt == _NEVER else min_rtt / 1e6,
    )
