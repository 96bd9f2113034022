"""Where something is, and what travels."""

from typing import Literal

from pathfit.core.base import Value

Family = Literal[4, 6]
Direction = Literal["forward", "reverse"]

TCP, UDP, ICMP, ICMPV6 = 6, 17, 1, 58  # IANA protocol numbers
IP_HEADER = {4: 20, 6: 40}  # bytes without options (RFC 791, RFC 8200)
TCP_HEADER = 20  # bytes without options (RFC 9293)
TIMESTAMPS = 12  # bytes the timestamp option takes of every segment (RFC 7323, padded)
FIRST_TTLS = (64, 128, 255)  # what stacks start from: Linux and BSD, Windows, routers
SMALLEST_PROMISE = {4: 576, 6: 1280}  # bytes every host must accept (RFC 791, RFC 8200)


class Point(Value, frozen=True, kw_only=True):
    """A place: ``netns`` is a WHERE that can be pasted into ``--from``; ``link`` an interface name in it."""

    host: str
    netns: str
    link: str | None = None


class Flow(Value, frozen=True, kw_only=True):
    """One packet of one conversation, as it stands in its IP header. ``size`` in bytes, header included."""

    src: str
    dst: str
    proto: int
    sport: int = 0
    dport: int = 0
    size: int = 0
    df: bool = True
    mark: int = 0

    @property
    def family(self) -> Family:
        return 6 if ":" in self.dst else 4


def bracketed(host: str) -> str:
    """A host as it stands in front of a port: an IPv6 address in brackets (RFC 3986 section 3.2.2)."""
    return f"[{host}]" if ":" in host else host


def endpoint(host: str, port: int | str) -> str:
    """``host:port``, an IPv6 address in brackets."""
    return f"{bracketed(host)}:{port}"


def mss_of(family: Family, mtu: int) -> int:
    """TCP payload bytes of an IP packet of ``mtu`` bytes without options (RFC 6691: options do not count)."""
    return mtu - IP_HEADER[family] - TCP_HEADER


def packet_of(family: Family, mss: int) -> int:
    """IP packet bytes that a maximum segment size of ``mss`` invites; the inverse of :func:`mss_of`."""
    return mss + IP_HEADER[family] + TCP_HEADER


def hops_away(ttl: int) -> int:
    """Routers between the sender of a packet that arrived with ``ttl`` and us, guessing what it started from."""
    return next(first for first in FIRST_TTLS if ttl <= first) - ttl if ttl <= 255 else 0
