"""What is said to a UDP port, and what counts as an answer: by the name of the method ("udp-dns", "udp-quic", …)."""

from __future__ import annotations

from pathfit.wire import askdns, quic

DNS_ROOM = 512  # bytes: the answer is to be small


def number(ident: bytes) -> int:
    """The id of a DNS message."""
    return int.from_bytes(ident[-2:], "big")


def hello(tongue: str, ident: bytes) -> bytes:
    """The greeting in "dns" or "quic"."""
    if tongue == "dns":
        return askdns.plain(number(ident), ".", "SOA")
    return quic.probe(ident, quic.LEAST)


def payload_of(method: str, ident: bytes, length: int) -> bytes:
    """What is sent by that method: ``length`` bytes, known again by ``ident``."""
    if method == "udp-dns":
        return askdns.question(number(ident), ".", "SOA", DNS_ROOM, length=length)
    if method == "udp-quic":
        return quic.probe(ident, length)
    return ident + bytes(max(0, length - len(ident)))


def answers(method: str, ident: bytes, data: bytes) -> bool:
    """Does ``data`` answer what was sent with that ``ident``?"""
    if method == "udp-dns":
        reply = askdns.parse(data)
        return reply is not None and reply.ident == number(ident)
    return method == "udp-quic" and quic.negotiates(data, ident)
