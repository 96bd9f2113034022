"""What the prober measured, attempt by attempt. Raw facts first; the judgement stands beside them."""

from typing import Literal

from pathfit.core.base import Value
from pathfit.core.net import Direction

Outcome = Literal[
    "full",  # a segment of the asked size arrived
    "capped",  # the whole answer arrived, in smaller segments, nothing was missing on the way
    "healed",  # something was missing first and came later, in smaller segments (the sender was told, or probed)
    "recovered",  # something was missing first and came later, in segments of the asked size: loss
    "gap",  # later bytes arrived, the ones before did not, and that stayed so for the settling time
    "silent",  # our request was acknowledged, nothing came back
    "unacked",  # our request itself was not acknowledged
    "short",  # an answer came, too short to hold a full segment
    "refused",
    "reset",
    "timeout",  # no answer to our SYN
    "unreachable",
    "filtered",  # a filter said so: ICMP "administratively prohibited"
    "closed",  # the peer closed before saying anything
    "told",  # a "too big" came back for this packet
    "local",  # EMSGSIZE: our own link or route is smaller
    "passed",  # forward or echo: acknowledged
    "lost",  # forward or echo: no answer
    "aborted",  # we ended it (limit, time)
]


class Attempt(Value, frozen=True, kw_only=True):
    """One connection or one packet. ``size`` asked and ``arrived`` seen, both bytes of IP packet.

    ``gap``: seconds the gap had stood when we judged; ``got`` payload bytes delivered in order; ``ooo`` segments
    received out of order; ``acked`` our request bytes acknowledged; ``at`` seconds since the probe began.
    """

    n: int
    method: str
    size: int
    outcome: Outcome
    port: int = 0  # our port
    arrived: int = 0
    got: int = 0
    ooo: int = 0
    gap: float = 0.0
    acked: int = 0
    retrans: int = 0
    rtt: float | None = None
    at: float = 0.0
    took: float = 0.0
    round: int = 0
    plain: bool = False  # a socket as the asked client would open it, without TCP_MAXSEG
    by: str | None = None  # who answered (too big, reset, unreachable)
    mtu: int | None = None  # what a "too big" said
    ttl: int = 0  # of the packet sent, when limited
    note: str = ""
    tests: str = ""  # "forward" or "reverse", where the method itself does not say it
    phase: str = ""  # how far TLS came: "hello-sent", "server-hello", "certificates", "finished"


Grade = Literal["proof", "step", "told", "none"]


class Bracket(Value, frozen=True, kw_only=True):
    """Largest size that gets through and smallest that does not, in one direction, by one method.

    ``grade``: "proof" a gap that stays, repeated, with a smaller size passing; "step" a repeated monotone step
    without the gap; "told" somebody said "too big"; "none" nothing measured. ``note`` is a message id.
    """

    # "tcp-maxseg", "tcp-sack", "tcp-segments", "icmp-echo", "udp-closed", "udp-quic", "udp-dns", "tcp-trial"; where
    # both ends are ours "udp-pair", "tcp-pair"
    method: str
    tests: Literal["forward", "reverse", "both"]
    passes: int | None = None
    fails: int | None = None
    grade: Grade = "none"
    note: str | None = None
    exact: bool = False
    told_by: str | None = None
    told_mtu: int | None = None


class Split(Value, frozen=True, kw_only=True):
    """Packets that may be in pieces, of one kind in one direction, seen from both ends.

    ``kind`` "fragments": datagrams of ``size`` bytes sent in fragments of at most ``piece``; "whole": sent in one piece
    without DF (IPv4). ``arrived`` of ``sent``, ``cut`` of those in pieces; ``door``: came in there, but were not handed
    on; ``lost``: did not arrive although small packets sent after them did; ``sure``: one arrived, or enough were lost.
    """

    direction: Direction
    kind: Literal["fragments", "whole"]
    size: int
    piece: int = 0
    sent: int = 0
    arrived: int = 0
    cut: int = 0
    door: int = 0
    lost: int = 0
    sure: bool = False


class TooBig(Value, frozen=True, kw_only=True):
    """A "fragmentation needed" or "packet too big" that arrived while we measured.

    ``ours``: its embedded headers match a packet we sent. ``sane``: 68 <= mtu < size (v4), 1280 <= mtu (v6).
    """

    by: str
    mtu: int
    size: int = 0
    ours: bool = True
    sane: bool = True
    link: str | None = None
    tests: str = ""  # "reverse": it came to the far end, which is ours
    heard: bool = True  # False: it came in, but not as far as the kernel there (a filter of its own, a bad checksum)


class HopAnswer(Value, frozen=True, kw_only=True):
    """One TTL: who answered the small and the large packet (None: nobody), over ``tries`` each."""

    ttl: int
    small: str | None = None
    large: str | None = None
    small_tries: int = 0
    large_tries: int = 0


class TcpSizes(Value, frozen=True, kw_only=True):
    """What our end of one TCP connection says of sizes (struct tcp_info), bytes of payload; ``path_mtu`` of IP packet.

    ``received``: the largest segment that came in; what it begins with is no evidence (536 and less).
    """

    advertised: int
    sending: int
    received: int
    path_mtu: int


class Contact(Value, frozen=True, kw_only=True):
    """How the asked client fares: a plain connection from the source to one address of the target."""

    address: str
    family: int
    port: int
    tcp: Literal["ok", "refused", "reset", "timeout", "unreachable", "n/a"] = "n/a"
    tls: Literal["ok", "stalled", "failed", "n/a"] = "n/a"
    http: str = "n/a"  # "200", "stalled", "n/a", "garbage"
    protocol: str = "tcp"  # what it turned out to speak: https, http, tcp, udp, icmp
    rtt: float | None = None
    promised: int | None = None  # largest IP packet our SYN invites
    offered: int | None = None  # largest IP packet their SYN-ACK invites, as it reached us
    sendable: int | None = None  # largest IP packet our TCP would send now (snd_mss + headers)
    timestamps: bool = False
    answered: int = 0  # bytes of answer that arrived in order
    acked: bool = False  # request wholly acknowledged
    largest: int = 0  # largest IP packet that arrived on plain connections
    local_address: str | None = None
    local_ports: tuple[int, ...] = ()
    alert: str | None = None  # TLS alert or certificate error, in OpenSSL's words
    alert_kind: str | None = None  # "alert", "certificate", "garbage", "closed"
    error: str | None = None  # errno name of a failed connect
    error_from: str | None = None  # who sent the RST or ICMP
    icmp: tuple[int, int] | None = None  # type, code of the ICMP that ended it
    synack_ttl: int | None = None
    rst_unheard: int | None = None  # TTL of a RST that came to the device while our own TCP heard of none
    rst_ttl: int | None = None
    rst_after: float | None = None  # seconds from SYN (or request) to RST
    rst_phase: str | None = None  # "syn", "request", "answer"
    echo_ttl: int | None = None
    handshake_retrans: int = 0
    alpn: str | None = None
    invited: int | None = None  # what our SYN invites as it arrived there (clamps!), where both ends are ours
    sizes_first: TcpSizes | None = None  # the asked client's connection: when it stood
    sizes_last: TcpSizes | None = None  # and when it was closed
    udp: Literal["ok", "refused", "silent", "unreachable", "filtered", "n/a"] = "n/a"
    speaks: str | None = None  # what answers on a UDP port: "dns", "quic", "other"
    phase: str = ""  # how far TLS came on the asked client's connections, as in Attempt; what ended it is ``alert``


class DnsSize(Value, frozen=True, kw_only=True):
    """One question asked with room for answers of ``room`` bytes (EDNS), as often as ``tries`` rounds that count.

    ``answered`` of them; ``cut``: the answer said that it is cut (TC); ``size`` of it, bytes of DNS; ``piece``: bytes
    of the largest IP fragment it came in, 0 when it came whole.
    """

    room: int
    tries: int = 0
    answered: int = 0
    cut: bool = False
    size: int = 0
    piece: int = 0


class DnsAnswers(Value, frozen=True, kw_only=True):
    """How answers of several sizes of a DNS server arrive. ``tcp``: the same by TCP, ``tcp_size`` bytes."""

    name: str
    kind: str
    sizes: tuple[DnsSize, ...] = ()
    tcp: Literal["ok", "refused", "timeout", "failed", "n/a"] = "n/a"
    tcp_size: int = 0


class FlightTry(Value, frozen=True, kw_only=True):
    """One ClientHello as a first flight. ``kind``: "large" (with a key share of X25519MLKEM768), "padded" (as long,
    without it), "small", "split" (the small one in two segments). ``hello`` its bytes, ``packet`` the largest IP packet
    it went out in, ``acked`` its bytes that were acknowledged."""

    kind: Literal["large", "padded", "small", "split"]
    outcome: Literal["answered", "alert", "reset", "closed", "silent", "lost", "garbage", "unconnected", "unfinished"]
    hello: int
    packet: int
    acked: int = 0
    port: int = 0
    took: float = 0.0
    alert: str | None = None


FlightVerdict = Literal[
    "passes",  # it was answered
    "lost",  # it does not get out, as larger packets do not, and the small one does
    "intolerant",  # packets as large do get out; one that is as long is not borne, whatever is in it
    "refused",  # one that is as long is borne: the server dislikes what is in it
    "undecided",
]


class Flight(Value, frozen=True, kw_only=True):
    """How a large ClientHello fares beside a small one. ``how``: the outcome of the large ones, where they failed;
    ``split``: the outcome of the small one in two segments, "" when it was not tried; ``note``: message id."""

    verdict: FlightVerdict
    hello: int
    packet: int
    how: str = ""
    split: str = ""
    note: str | None = None
    tries: tuple[FlightTry, ...] = ()


class SideEffect(Value, frozen=True, kw_only=True):
    """Something our probing may have left behind, here or there. ``about`` which address; path MTU (bytes) ``before``
    and ``after``, where a kernel was asked."""

    where: str
    what: str
    lasts: float | None = None  # seconds
    about: str = ""
    before: int | None = None
    after: int | None = None


class Used(Value, frozen=True, kw_only=True):
    """What probing cost. ``packets`` we sent, as far as we can count."""

    packets: int = 0
    connections: int = 0
    seconds: float = 0.0


class LossSeen(Value, frozen=True, kw_only=True):
    """Signs of loss that has nothing to do with size."""

    attempts: int = 0
    disturbed: int = 0  # attempts at sizes that pass, with something missing first
    unanswered_syns: int = 0


class Uneven(Value, frozen=True, kw_only=True):
    """Flows of one size that fare differently. ``ports_bad`` always failed, ``small_ok`` small ones never did."""

    size: int
    good: int
    bad: int
    ports_good: tuple[int, ...] = ()
    ports_bad: tuple[int, ...] = ()
    tests: Direction = "reverse"


class DirectionResult(Value, frozen=True, kw_only=True):
    """The verdict of measurement for one direction: the best bracket, and all that was tried."""

    direction: Direction
    best: Bracket
    tried: tuple[Bracket, ...] = ()
