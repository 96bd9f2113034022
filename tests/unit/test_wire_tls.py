"""ClientHellos that a real TLS stack takes, and records read as they come, cut anywhere."""

import random
import ssl
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pathfit import lab
from pathfit.wire import tls

CERTS = Path(lab.__file__).with_name("certs")
RANDOM = random.Random(7)
SHARE = tls.mlkem_share(RANDOM.randbytes(tls.MLKEM_RANDOM))
HELLOS = {
    "small": tls.client_hello(RANDOM.randbytes(96), "server.test"),
    "large": tls.client_hello(RANDOM.randbytes(96), "server.test", SHARE, tls.LARGE_HELLO),
    "padded": tls.client_hello(RANDOM.randbytes(96), "server.test", size=tls.LARGE_HELLO),
    "no name": tls.client_hello(RANDOM.randbytes(96), None, http=False),
}


def answer(hello: bytes, name: str, version: ssl.TLSVersion) -> bytes:
    """What OpenSSL answers to a ClientHello. Raises ssl.SSLError when it does not take it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTS / f"{name}.pem", CERTS / f"{name}.key")
    context.maximum_version = version
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = context.wrap_bio(incoming, outgoing, server_side=True)
    incoming.write(hello)
    with pytest.raises(ssl.SSLWantReadError):
        server.do_handshake()
    return outgoing.read()


def read(data: bytes, step: int = 1 << 20) -> tls.Records:
    records = tls.Records()
    for at in range(0, len(data), step):
        records.feed(data[at : at + step])
    return records


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=lambda v: v.name)
@pytest.mark.parametrize("certificate", ["chain", "ec"])
@pytest.mark.parametrize("hello", HELLOS)
def test_a_server_answers(hello: str, certificate: str, version: ssl.TLSVersion) -> None:
    said = answer(HELLOS[hello], certificate, version)
    for step in (1, 7, 1400, len(said)):
        assert read(said, step).phase == "certificates"


def test_their_sizes() -> None:
    assert {k: len(v) for k, v in HELLOS.items()} == {"small": 280, "large": 1720, "padded": 1720, "no name": 280}


def test_the_share_of_the_new_group_is_one() -> None:
    """FIPS 203 7.2: each of 768 twelve-bit coefficients below 3329; 32 bytes behind them. Then 32 of X25519."""
    at = HELLOS["large"].index(b"\x11\xec\x04\xc0") + 4
    share = HELLOS["large"][at : at + 0x4C0]
    assert share[:1184] == SHARE
    whole = int.from_bytes(share[:1152], "little")
    assert max((whole >> 12 * i) & 0xFFF for i in range(768)) < 3329
    assert HELLOS["large"][at + 0x4C0 :][:4] == b"\x00\x1d\x00\x20"  # the X25519 share of its own, behind it


def test_phases() -> None:
    said = answer(HELLOS["small"], "chain", ssl.TLSVersion.TLSv1_3)
    first = 5 + int.from_bytes(said[3:5], "big")
    assert read(said[:5]).phase == ""
    assert read(said[:first]).phase == "server-hello"
    assert read(said[: first + 6]).phase == "server-hello"  # ChangeCipherSpec
    assert read(said[: first + 11]).phase == "certificates"


@pytest.mark.parametrize(("said", "alert"), [(b"\x02\x28", "handshake failure"), (b"\x02\xff", "alert 255")])
def test_alerts(said: bytes, alert: str) -> None:
    assert read(b"\x15\x03\x03\x00\x02" + said, 1).alert == alert


@pytest.mark.parametrize(
    "said", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x16\x03\x01\xff\xff", b"\x16\x02\x01\0\x01\0"]
)
def test_garbage(said: bytes) -> None:
    assert read(said).garbage


@given(st.lists(st.binary(max_size=200), max_size=20))
def test_anything(parts: list[bytes]) -> None:
    """Never raises, keeps little, and does not depend on how it was cut."""
    records = tls.Records()
    for part in parts:
        records.feed(part)
    whole = read(b"".join(parts))
    assert (records.phase, records.alert, records.garbage) == (whole.phase, whole.alert, whole.garbage)
    assert len(records._said) <= 4
