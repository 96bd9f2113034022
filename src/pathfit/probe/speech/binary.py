"""The preludes of protocols that count bytes: PostgreSQL, MySQL and MariaDB, LDAP, DNS over TCP. Pure."""

from __future__ import annotations

from pathfit.probe.speech.answer import Answer
from pathfit.probe.speech.prelude import Prelude

CLIENT_PROTOCOL_41, CLIENT_SSL, CLIENT_SECURE_CONNECTION = 0x200, 0x800, 0x8000
MYSQL_VERSION = 10  # of the handshake; all servers since 3.21
MYSQL_ERROR = 0xFF
EXTENDED_RESPONSE, SEARCH_DONE = 0x78, 0x65  # LDAP, RFC 4511 4.12 and 4.5.2


class Postgresql(Prelude):
    """SSLRequest; one byte answers it (PostgreSQL 55.2.11). What stands behind that byte was put there by somebody else
    (CVE-2021-23222)."""

    name = "postgresql"

    def start(self) -> bytes:
        return (8).to_bytes(4, "big") + (80877103).to_bytes(4, "big")

    def heard(self) -> bytes:
        first = self.buffer[:1]
        if first == b"S" and len(self.buffer) == 1:
            self.state = "tls"
        else:
            self.state = "plain" if first in (b"N", b"E") else "wrong"
        return b""


def is_mysql(banner: bytes) -> bool:
    """Is this how a MySQL server greets, or turns a stranger away?"""
    if len(banner) < 7 or banner[3] != 0:
        return False
    length = int.from_bytes(banner[:3], "little")
    if not 6 <= length <= 1024:
        return False
    if banner[4] == MYSQL_ERROR:
        return 1000 <= int.from_bytes(banner[5:7], "little") < 4000
    return banner[4] == MYSQL_VERSION and banner[5:6].isdigit()


class Mysql(Prelude):
    """The greeting, then an SSL request: the first 32 bytes of a login that has no name in it yet."""

    name = "mysql"
    greets = True

    def heard(self) -> bytes:
        length = int.from_bytes(self.buffer[:3], "little") if len(self.buffer) >= 4 else 0
        if len(self.buffer) >= 7 and not is_mysql(self.buffer):
            self.state = "wrong"
        if not length or len(self.buffer) < 4 + length or self.state != "talking":
            return b""
        said = self.buffer[4 : 4 + length]
        # Version and its end, thread, eight bytes of salt and one that is empty; then what it can do.
        at = said.find(b"\0", 1) + 1 + 4 + 8 + 1
        able = int.from_bytes(said[at : at + 2], "little")
        if said[0] == MYSQL_ERROR or not able & CLIENT_SSL:
            self.state = "plain"
            return b""
        self.state = "tls"
        flags = CLIENT_PROTOCOL_41 | CLIENT_SSL | CLIENT_SECURE_CONNECTION
        body = flags.to_bytes(4, "little") + (1 << 24).to_bytes(4, "little") + b"\x21" + bytes(23)
        return len(body).to_bytes(3, "little") + b"\x01" + body


class Ldap(Prelude):
    """StartTLS (RFC 4511 4.14); without it the server's own entry, which everybody may read (RFC 4512 5.1)."""

    name = "ldap"
    START_TLS = b"1.3.6.1.4.1.1466.20037"

    def __init__(self, host: str = "") -> None:
        super().__init__(host)
        self.unit = self.units(1)

    def units(self, count: int) -> bytes:
        everything = _ber(0x30, b"\x04\x01*\x04\x01+")
        # Base "", that entry alone, aliases as they are, no limits, with values; (objectClass=*).
        search = _ber(4, b"") + b"\x0a\x01\0\x0a\x01\0\x02\x01\0\x02\x01\0\x01\x01\0" + _ber(0x87, b"objectClass")
        asked = _ber(0x63, search + everything)
        return b"".join(_ber(0x30, b"\x02\x02" + (n + 256).to_bytes(2, "big") + asked) for n in range(count))

    def start(self) -> bytes:
        return _ber(0x30, b"\x02\x01\x01" + _ber(0x77, _ber(0x80, self.START_TLS)))

    def heard(self) -> bytes:
        if self.buffer[:1] != b"\x30":
            self.state = "wrong"
            return b""
        body = ber(self.buffer)
        if body is None:
            return b""
        kind, what = ldap_message(self.buffer[body[0] : body[1]])
        if kind != EXTENDED_RESPONSE or what[:2] != b"\x0a\x01":
            self.state = "wrong"
        else:
            self.state = "tls" if what[2:3] == b"\0" and len(self.buffer) == body[1] else "plain"
            self.buffer = self.buffer[body[1] :]
        return b""

    def row(self, count: int) -> Answer:
        return LdapRow(expected=count)


class Dns(Prelude):
    """Many questions that every server answers, or refuses, by itself: those of class CHAOS are about the server and go
    nowhere else (RFC 4892). Small ones, so that all of them are under way before it has answered the first: our next
    segment would acknowledge an answer, and the ones behind it would not be joined."""

    name = "dns"
    answer = 50
    most = 90  # dnsmasq hangs up after a hundred
    paced = True

    def __init__(self, host: str = "") -> None:
        super().__init__(host)
        self.unit = question(0)

    def units(self, count: int) -> bytes:
        return b"".join(question(n) for n in range(count))

    def start(self) -> bytes:
        return self.unit

    def heard(self) -> bytes:
        if len(self.buffer) >= 5:
            length = int.from_bytes(self.buffer[:2], "big")
            good = length >= 12 and self.buffer[2:4] == self.unit[2:4] and self.buffer[4] & 0x80
            self.state = "plain" if good else "wrong"
        return b""

    def row(self, count: int) -> Answer:
        return DnsRow(expected=count)


def question(number: int) -> bytes:
    """One question with its length in front (RFC 1035 4.2.2): TXT of authors.bind, 32 bytes; what BIND says to it is
    long."""
    asked = (0x7066 + number).to_bytes(2, "big") + bytes.fromhex("01000001000000000000")
    asked += b"\x07authors\x04bind\0\0\x10\0\x03"
    return len(asked).to_bytes(2, "big") + asked


class DnsRow(Answer):
    """Counts answers by their lengths."""

    skip: int = 0
    part: bytes = b""

    def _count(self, data: bytes) -> None:
        self.body += len(data)
        while data:
            if self.skip:
                gone = min(self.skip, len(data))
                self.skip -= gone
                self.heads += self.skip == 0
                data = data[gone:]
                continue
            taken = 2 - len(self.part)
            self.part, data = self.part + data[:taken], data[taken:]
            if len(self.part) == 2:
                self.skip, self.part = int.from_bytes(self.part, "big"), b""


class LdapRow(Answer):
    """Counts the ends of searches."""

    skip: int = 0
    part: bytes = b""

    def _count(self, data: bytes) -> None:
        self.body += len(data)
        while data and not self.bad:
            if self.skip:
                gone = min(self.skip, len(data))
                self.skip, data = self.skip - gone, data[gone:]
                continue
            self.part, data = self.part + data, b""
            if len(self.part) < 16 and ber(self.part) is None:
                return  # an end of a search has 14 bytes at least
            body = ber(self.part, whole=False)
            if body is None:
                self.bad = True
                return
            kind, _ = ldap_message(self.part[body[0] :])
            self.heads += kind == SEARCH_DONE
            if len(self.part) >= body[1]:
                data, self.part = self.part[body[1] :], b""
            else:
                self.skip, self.part = body[1] - len(self.part), b""


def ldap_message(data: bytes) -> tuple[int, bytes]:
    """(tag of the operation, its contents as far as they are there) of a message's contents; tag 0: it is none."""
    number = ber(data)
    if data[:1] != b"\x02" or number is None:
        return 0, b""
    rest = data[number[1] :]
    inner = ber(rest, whole=False)
    return (rest[0], rest[inner[0] : inner[1]]) if inner is not None else (0, b"")


def ber(data: bytes, whole: bool = True) -> tuple[int, int] | None:
    """(begin, end) of the contents of the first element; None when it is not (``whole``: wholly) there."""
    if len(data) < 2:
        return None
    length, begin = data[1], 2
    if length & 0x80:
        begin += length & 0x7F
        if length & 0x7F > 4 or len(data) < begin:
            return None
        length = int.from_bytes(data[2:begin], "big")
    return None if whole and len(data) < begin + length else (begin, begin + length)


def _ber(tag: int, data: bytes) -> bytes:
    assert len(data) < 128  # all of ours are short
    return bytes((tag, len(data))) + data
