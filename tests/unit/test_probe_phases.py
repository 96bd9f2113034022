"""How far TLS came, by what arrived; and what ended it there, whatever certificate the server has."""

import ssl
from pathlib import Path

import pytest

from pathfit import lab
from pathfit.probe.speech.talk import Script, Talk

CERTS = Path(lab.__file__).with_name("certs")
FATAL = b"\x15\x03\x03\x00\x02\x02"
PHASES = ("hello-sent", "server-hello", "certificates", "finished")


class Server:
    """OpenSSL's side, in memory."""

    def __init__(self, certificate: str, version: ssl.TLSVersion, client: bool = False) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(CERTS / f"{certificate}.pem", CERTS / f"{certificate}.key")
        context.maximum_version = version
        if client:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(CERTS / "root.pem")
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_side=True)

    def hear(self, data: bytes) -> bytes:
        self.incoming.write(data)
        try:
            self.tls.do_handshake()
            self.tls.read()
        except (ssl.SSLWantReadError, ssl.SSLError):
            pass
        return self.outgoing.read()


def opened(certificate: str, version: ssl.TLSVersion, client: bool = False) -> tuple[Talk, Server, bytes]:
    """(client, server, the server's first flight)"""
    talk, server = Talk(Script(protocol="https", host="server.test"), 1500), Server(certificate, version, client)
    return talk, server, server.hear(talk.start())


VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


@pytest.mark.parametrize("version", VERSIONS, ids=lambda v: v.name)
@pytest.mark.parametrize("certificate", ["chain", "ec"])
def test_each_phase_is_reached_in_turn(certificate: str, version: ssl.TLSVersion) -> None:
    talk, server, flight = opened(certificate, version)
    seen = [talk.phase]
    for at in range(len(flight)):
        said = talk.feed(flight[at : at + 1])
        seen.append(talk.phase)
    talk.feed(server.hear(said))
    seen.append(talk.phase)
    assert list(dict.fromkeys(seen)) == list(PHASES)
    assert (talk.tls, talk.alert_kind) == ("ok", None)


def cut(flight: bytes, phase: str) -> bytes:
    """As many records as bring a client to that phase."""
    at, kept = 0, 0
    talk = Talk(Script(protocol="https", host="server.test"), 1500)
    talk.start()
    while at < len(flight):
        at += 5 + int.from_bytes(flight[at + 3 : at + 5], "big")
        talk.records.feed(flight[kept:at])
        if talk.records.phase != phase:
            break
        kept = at
    return flight[:kept]


@pytest.mark.parametrize("certificate", ["chain", "ec"])
@pytest.mark.parametrize(
    ("phase", "alert", "said"),
    [
        ("hello-sent", b"\x70", "unrecognized name"),
        ("hello-sent", b"\x28", "handshake failure"),
        ("hello-sent", b"\x46", "protocol version"),
        ("server-hello", b"\x50", "internal error"),
        ("certificates", b"\x50", "internal error"),
    ],
)
def test_an_alert_is_named_with_the_phase_it_came_in(phase: str, alert: bytes, said: str, certificate: str) -> None:
    """In the clear, as TLS 1.2 says them in each phase."""
    talk, _, flight = opened(certificate, ssl.TLSVersion.TLSv1_2)
    if phase == "server-hello":
        talk.feed(cut(flight, phase))
    elif phase == "certificates":
        talk.feed(flight[: len(flight) - 9])  # all but ServerHelloDone
    assert talk.phase == phase
    talk.feed(FATAL + alert)
    assert (talk.phase, talk.tls, talk.alert_kind) == (phase, "failed", "alert")
    assert said in (talk.alert or "")


def test_a_client_certificate_that_is_wanted_is_an_alert_behind_the_handshake() -> None:
    """TLS 1.3: what the server thinks of our Finished comes after its own."""
    talk, server, flight = opened("ec", ssl.TLSVersion.TLSv1_3, client=True)
    said = talk.feed(flight)
    assert talk.phase == "finished"
    talk.feed(server.hear(said + talk.more()))
    assert (talk.phase, talk.tls, talk.alert_kind) == ("finished", "failed", "alert")


@pytest.mark.parametrize("phase", PHASES[:3])
def test_who_hangs_up_says_where(phase: str) -> None:
    talk, _, flight = opened("chain", ssl.TLSVersion.TLSv1_2)
    if phase == "certificates":
        talk.feed(flight[: len(flight) - 9])
    elif phase == "server-hello":
        talk.feed(cut(flight, phase))
    talk.eof()
    assert (talk.phase, talk.tls, talk.alert_kind) == (phase, "failed", "closed")
