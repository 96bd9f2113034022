"""A TCP socket as the kernel sees it (sock_diag with INET_DIAG_INFO; struct tcp_info)."""

from pathfit.core.base import Value


class TcpInfo(Value, frozen=True, kw_only=True):
    """The fields of struct tcp_info we use (include/uapi/linux/tcp.h). None: this kernel does not have the field.

    Times in seconds. ``rcv_mss`` is payload bytes of the largest segment received; 536 and less is its initial
    value and no evidence. ``advmss``/``snd_mss`` exclude options as the kernel does.
    """

    state: int
    timestamps: bool = False
    sack: bool = False
    snd_mss: int = 0
    rcv_mss: int = 0
    advmss: int = 0
    pmtu: int = 0
    rtt: float = 0.0
    rttvar: float = 0.0
    rto: float = 0.0
    backoff: int = 0
    retransmits: int = 0  # unrecovered RTOs of the segment in front
    total_retrans: int = 0
    unacked: int = 0
    sacked: int = 0
    lost: int = 0
    bytes_acked: int = 0
    bytes_received: int = 0
    bytes_sent: int | None = None
    segs_in: int = 0
    segs_out: int = 0
    data_segs_in: int = 0
    data_segs_out: int = 0
    last_data_sent: float = 0.0  # seconds ago
    last_data_recv: float = 0.0
    last_ack_recv: float = 0.0
    rcv_ooopack: int | None = None  # since 5.4
    dsack_dups: int | None = None
    reord_seen: int | None = None
    snd_wnd: int | None = None
    notsent: int = 0
    min_rtt: float = 0.0


class Socket(Value, frozen=True, kw_only=True):
    """One TCP socket of a namespace. ``rqueue``/``wqueue`` bytes waiting to be read / not yet acknowledged."""

    family: int
    src: str
    sport: int
    dst: str
    dport: int
    state: int
    rqueue: int = 0
    wqueue: int = 0
    inode: int = 0
    uid: int = 0
    mark: int = 0
    timer: int = 0  # idiag_timer: 1 retransmit, 2 keepalive, 4 zero window probe
    retrans: int = 0
    expires: float = 0.0
    info: TcpInfo | None = None
    process: str | None = None  # "curl[812]"
    rmem: int | None = None  # bytes of receive buffer in use; with rqueue 0 they wait behind a gap
