"""TLS records and ClientHellos, as far as the prober looks at them itself (RFC 8446). Pure.

The handshake is OpenSSL's. What it does not tell is how far the other end came before it hung up or fell silent, and
it cannot be made to say a first flight of a given size; both stand here.
"""

CHANGE_CIPHER_SPEC, ALERT, HANDSHAKE, DATA = 20, 21, 22, 23
SERVER_HELLO = 2
MOST_RECORD = 16384 + 2048  # bytes of a record's payload (RFC 5246 6.2.3; RFC 8446 has less)
X25519, X25519MLKEM768 = 0x001D, 0x11EC  # IANA TLS supported groups
MLKEM_Q, MLKEM_COEFFICIENTS = 3329, 768  # FIPS 203: the modulus, and 3 polynomials of 256
MLKEM_RANDOM = 2 * MLKEM_COEFFICIENTS + 32  # random bytes that :func:`mlkem_share` takes
SMALL_HELLO, LARGE_HELLO = 280, 1720  # bytes of record: what OpenSSL 3.0 says unpadded; what browsers say since 2024

ALERTS = {
    0: "close notify",
    10: "unexpected message",
    20: "bad record mac",
    22: "record overflow",
    40: "handshake failure",
    42: "bad certificate",
    47: "illegal parameter",
    48: "unknown ca",
    49: "access denied",
    50: "decode error",
    51: "decrypt error",
    70: "protocol version",
    71: "insufficient security",
    80: "internal error",
    86: "inappropriate fallback",
    109: "missing extension",
    110: "unsupported extension",
    112: "unrecognized name",
    116: "certificate required",
    120: "no application protocol",
}
"""RFC 8446 6, in OpenSSL's words."""


class Records:
    """What the other end said, as records: ``phase`` "" (nothing yet), "server-hello", "certificates" (something of its
    flight behind the ServerHello began to come); ``alert`` once it said one in the clear; ``garbage``: no TLS."""

    def __init__(self) -> None:
        self.phase = ""
        self.alert: str | None = None
        self.garbage = False
        self._head = b""
        self._kind = self._left = 0
        self._said = b""  # of an alert, or the first bytes of a handshake message
        self._skip = 0  # bytes of that message still to come
        self._hidden = False  # what follows is encrypted

    def feed(self, data: bytes) -> None:
        """More bytes, cut anywhere. Keeps at most a header."""
        at = 0
        while at < len(data) and not self.garbage:
            if not self._left:
                part = data[at : at + 5 - len(self._head)]
                self._head += part
                at += len(part)
                if len(self._head) == 5:
                    self._record()
                continue
            part = data[at : at + self._left]
            at += len(part)
            self._left -= len(part)
            if self._kind == HANDSHAKE and not self._hidden:
                self._messages(part)
            elif self._kind == ALERT and not self._hidden and self.alert is None:
                self._said += part[:2]
                if len(self._said) >= 2:
                    self.alert = ALERTS.get(self._said[1], f"alert {self._said[1]}")

    def _record(self) -> None:
        kind, major = self._head[0], self._head[1]
        length = int.from_bytes(self._head[3:5], "big")
        self._head = b""
        if kind not in (CHANGE_CIPHER_SPEC, ALERT, HANDSHAKE, DATA) or major != 3 or length > MOST_RECORD:
            self.garbage = True
            return
        self._kind, self._left = kind, length
        if kind == CHANGE_CIPHER_SPEC:
            self._hidden = True
        elif kind == ALERT:
            self._said = b""
        elif (kind == DATA or self._hidden) and self.phase == "server-hello":
            self.phase = "certificates"

    def _messages(self, part: bytes) -> None:
        """Handshake messages in the clear, which records may join and cut."""
        while part:
            if self._skip:
                skipped = min(self._skip, len(part))
                self._skip -= skipped
                part = part[skipped:]
                continue
            taken = 4 - len(self._said)
            self._said, part = self._said + part[:taken], part[taken:]
            if len(self._said) < 4:
                return
            kind, self._skip = self._said[0], int.from_bytes(self._said[1:4], "big")
            self._said = b""
            if kind == SERVER_HELLO and not self.phase:
                self.phase = "server-hello"
            elif self.phase == "server-hello":
                self.phase = "certificates"


def mlkem_share(random: bytes) -> bytes:
    """An ML-KEM-768 encapsulation key nobody has the other half of: 1184 bytes that pass the check a server makes (each
    coefficient below the modulus, FIPS 203 7.2). ``random``: MLKEM_RANDOM bytes."""
    numbers = [int.from_bytes(random[i : i + 2], "big") % MLKEM_Q for i in range(0, 2 * MLKEM_COEFFICIENTS, 2)]
    key = bytearray()
    for low, high in zip(numbers[::2], numbers[1::2], strict=True):
        key += bytes((low & 0xFF, low >> 8 | (high & 0xF) << 4, high >> 4))
    return bytes(key) + random[2 * MLKEM_COEFFICIENTS :]


def client_hello(
    random: bytes, sni: str | None, mlkem: bytes = b"", size: int = SMALL_HELLO, *, http: bool = True
) -> bytes:
    """A ClientHello as one record of ``size`` bytes, by the padding of RFC 7685, or as many as it takes.

    ``random``: 96 bytes for the random, the session id and the X25519 share (any 32 bytes are one). ``mlkem``: an
    encapsulation key, which comes first as clients send it (draft-ietf-tls-ecdhe-mlkem). ``http``: HTTP/1.1 is what
    follows (ALPN). TLS 1.3 and 1.2.
    """
    share = random[64:96]
    shares = _block(X25519.to_bytes(2, "big"), share)
    groups = [X25519, 0x17, 0x18]
    if mlkem:
        shares = _block(X25519MLKEM768.to_bytes(2, "big"), mlkem + share) + shares
        groups.insert(0, X25519MLKEM768)
    extensions = _name(sni)
    extensions += _extension(0x17, b"")  # extended master secret
    extensions += _extension(0xFF01, b"\0")  # renegotiation info
    extensions += _extension(0x0A, _block(b"", b"".join(g.to_bytes(2, "big") for g in groups)))
    extensions += _extension(0x0B, b"\x01\0")  # points are not compressed
    extensions += _extension(0x23, b"")  # session ticket
    extensions += _extension(0x10, _block(b"", b"\x08http/1.1")) if http else b""
    extensions += _extension(0x0D, _block(b"", bytes.fromhex("040308040401050308050501080606010807080b02030201")))
    extensions += _extension(0x2B, b"\x04\x03\x04\x03\x03")
    extensions += _extension(0x2D, b"\x01\x01")
    extensions += _extension(0x33, _block(b"", shares))
    fixed = b"\x03\x03" + random[:32] + b"\x20" + random[32:64]
    suites = bytes.fromhex("130113021303c02bc02fc02cc030cca9cca8c013c014009c009d002f0035")
    fixed += _block(b"", suites) + b"\x01\0"
    lacking = size - (5 + 4 + len(fixed) + 2 + len(extensions))
    if lacking >= 4:
        extensions += _extension(0x15, bytes(lacking - 4))
    body = fixed + _block(b"", extensions)
    message = b"\x01" + len(body).to_bytes(3, "big") + body
    return b"\x16\x03\x01" + _block(b"", message)


def _name(sni: str | None) -> bytes:
    try:
        name = (sni or "").encode("idna")
    except UnicodeError:
        return b""
    return _extension(0, _block(b"", _block(b"\0", name))) if name else b""


def _extension(kind: int, data: bytes) -> bytes:
    return _block(kind.to_bytes(2, "big"), data)


def _block(head: bytes, data: bytes) -> bytes:
    return head + len(data).to_bytes(2, "big") + data
