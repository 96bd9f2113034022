"""The hands of :mod:`pathfit.measure.largedns`: the questions, and one over TCP when answers were cut or lost."""

from __future__ import annotations

import socket
import struct
import time
from typing import TYPE_CHECKING, Literal

from pathfit.core.measured import Bracket, DnsAnswers, DnsSize
from pathfit.core.request import Measure
from pathfit.host import netns
from pathfit.host.udpsock import Came, Pair, Said
from pathfit.measure.largedns import LargeDns, lost
from pathfit.wire import askdns

if TYPE_CHECKING:
    from pathfit.probe.udp.hands import Hands

clock = time.monotonic
TCP_WAIT = 2.0  # seconds: a SYN may be lost once
METHOD = "udp-dns"
TcpWord = Literal["ok", "refused", "timeout", "failed", "n/a"]


def candidates(request: Measure) -> tuple[tuple[str, str], ...]:
    """Questions whose answer may be long: the one that was asked for; else what every resolver and every root or signed
    server knows, and all there is about the server's own name."""
    asked = request.path.strip("/")
    if asked:
        name, _, kind = asked.partition("/")
        return ((name, kind.upper() if kind.upper() in askdns.TYPES else "ANY"), (name, "TXT"))
    own = ((request.sni, "ANY"),) if request.sni else ()
    return ((".", "DNSKEY"), (".", "NS"), *own)


def large_answers(hands: Hands) -> tuple[DnsAnswers | None, Bracket]:
    """Ask; the facts, and what they say of the way in."""
    search = LargeDns(candidates=candidates(hands.request), start=clock(), budget=hands.request.budget)
    asked: dict[Pair, tuple[int, int]] = {}

    def hear(pair: Pair, what: Said | Came, now: float) -> None:
        known = asked.get(pair)
        if known is None or not isinstance(what, Came):
            return
        reply = askdns.parse(what.data)
        if reply is not None and reply.ident == known[1]:
            search.answered(now, known[0], len(what.data), what.piece, reply.cut, reply.rcode)

    hands.hear = hear
    while not search.done:
        for query in search.step(clock()):
            pair = hands.open(hands.request.port)
            if pair is None:
                search.done = True
                break
            ident = hands.random.randrange(1, 65536)
            asked[pair] = (query.n, ident)
            hands.send(pair, askdns.question(ident, query.name, query.kind, query.room, dnssec=True))
        hands.listen()
    hands.drop()
    if search.chosen is None:
        return None, Bracket(method=METHOD, tests="reverse", note="answers-too-short")
    sizes = search.sizes()
    name, kind = search.chosen
    tcp: tuple[TcpWord, int] = ("n/a", 0)
    if lost(sizes) is not None or all(s.cut for s in sizes if s.answered):
        tcp = _by_tcp(hands, askdns.question(hands.random.randrange(1, 65536), name, kind, 4096, dnssec=True))
    facts = DnsAnswers(name=name, kind=kind, sizes=sizes, tcp=tcp[0], tcp_size=tcp[1])
    return facts, bracket(sizes, hands.header)


def bracket(sizes: tuple[DnsSize, ...], header: int) -> Bracket:
    """The way in, as far as answers tell: the largest that came in one packet. Notes: "large-answers-come",
    "large-answers-lost", "answers-cut" (the server sends none that large by UDP)."""
    whole = [s.piece or s.size + header for s in sizes if s.answered]
    passes = max(whole, default=None)
    if lost(sizes) is not None:
        return Bracket(method=METHOD, tests="reverse", passes=passes, note="large-answers-lost")
    came = any(s.answered and not s.cut for s in sizes)
    note = "large-answers-come" if came else "answers-cut"
    return Bracket(method=METHOD, tests="reverse", passes=passes, note=note)


def _by_tcp(hands: Hands, query: bytes) -> tuple[TcpWord, int]:
    """How the question fares by TCP, and the bytes of its answer."""
    request = hands.request
    until = clock() + TCP_WAIT
    hands.connections += 1
    with netns.inside(hands.fd):
        sock = socket.socket(socket.AF_INET6 if hands.family == 6 else socket.AF_INET, socket.SOCK_STREAM)
    with sock:
        try:
            sock.settimeout(TCP_WAIT)
            sock.connect((request.address, request.port))
            sock.sendall(struct.pack("!H", len(query)) + query)
            wanted = struct.unpack("!H", _exactly(sock, 2, until))[0]
            _exactly(sock, wanted, until)
        except ConnectionRefusedError:
            return "refused", 0
        except (OSError, EOFError):  # before Python 3.10 socket.timeout is no TimeoutError
            return "timeout" if clock() >= until else "failed", 0
    return "ok", wanted


def _exactly(sock: socket.socket, size: int, until: float) -> bytes:
    """Raises TimeoutError, OSError, EOFError."""
    data = b""
    while len(data) < size:
        left = until - clock()
        if left <= 0:
            raise TimeoutError
        sock.settimeout(left)
        part = sock.recv(size - len(data))
        if not part:
            raise EOFError
        data += part
    return data
