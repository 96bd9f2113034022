"""What is said before TLS: each protocol's dialogue, cut anywhere; what a stranger or an enemy says instead."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pathfit.probe.speech import known, prelude
from pathfit.probe.speech.binary import Dns, DnsRow, LdapRow, is_mysql
from pathfit.probe.speech.talk import Script, Talk

GREETING = b"\x0a5.5.5-10.11.6-MariaDB\0" + b"\x07\0\0\0" + b"saltsalt\0" + b"\xfe\xff" + bytes(40)
MYSQL = len(GREETING).to_bytes(3, "little") + b"\0" + GREETING
NO_TLS = MYSQL.replace(b"\xfe\xff", b"\xfe\xf7")
STRANGER = b"\x48\0\0\0\xff\x6a\x04Host '198.18.1.1' is not allowed to connect to this MariaDB server".ljust(76, b"!")
FEATURES = (
    b"<?xml version='1.0'?><stream:stream id='1'><stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"
)
LDAP_OK = bytes.fromhex("300c02010178070a010004000400")
LDAP_NO = bytes.fromhex("300c02010178070a013404000400")

# protocol, [(what the other end says, what is said to it)], the state at the end
DIALOGUES = [
    ("smtp", [(b"220 a\r\n", b"EHLO"), (b"250-STARTTLS\r\n250 X\r\n", b"STARTTLS"), (b"220 go\r\n", b"")], "tls"),
    ("smtp", [(b"220-a\r\n220 b\r\n", b"EHLO"), (b"250-a\r\n250 X\r\n", b"")], "plain"),
    ("smtp", [(b"220 a\r\n", b"EHLO"), (b"250-STARTTLS\r\n250 X\r\n", b"STARTTLS"), (b"454 no\r\n", b"")], "plain"),
    ("smtp", [(b"220 a FTP server\r\n", b"EHLO"), (b"500 what\r\n", b"")], "wrong"),
    ("smtp", [(b"554 go away\r\n", b"")], "plain"),
    ("ftp", [(b"220 a\r\n", b"AUTH TLS"), (b"234 go\r\n", b"")], "tls"),
    ("ftp", [(b"220 a\r\n", b"AUTH TLS"), (b"530 log in first\r\n", b"")], "plain"),
    ("imap", [(b"* OK [CAPABILITY X] ready\r\n", b"p STARTTLS"), (b"p OK go\r\n", b"")], "tls"),
    ("imap", [(b"* OK ready\r\n", b"p STARTTLS"), (b"* X\r\np BAD no\r\n", b"")], "plain"),
    ("pop3", [(b"+OK ready\r\n", b"STLS"), (b"+OK go\r\n", b"")], "tls"),
    ("pop3", [(b"+OK ready\r\n", b"STLS"), (b"-ERR no\r\n", b"")], "plain"),
    ("xmpp", [(FEATURES + b"</stream:features>", b"<starttls"), (b"<proceed xmlns='x'/>", b"")], "tls"),
    ("xmpp", [(b"<stream:stream><stream:features></stream:features>", b"")], "plain"),
    ("postgresql", [(b"S", b"")], "tls"),
    ("postgresql", [(b"N", b"")], "plain"),
    ("mysql", [(MYSQL, b"\x20\0\0\x01\0\x8a\0\0")], "tls"),
    ("mysql", [(NO_TLS, b"")], "plain"),
    ("mysql", [(STRANGER, b"")], "plain"),
    ("ldap", [(LDAP_OK, b"")], "tls"),
    ("ldap", [(LDAP_NO, b"")], "plain"),
    ("dns", [(b"\0\x20\x70\x66\x81\x85" + bytes(28), b"")], "plain"),
]  # fmt: skip


def spoken(protocol: str) -> prelude.Prelude:
    found = known.of(protocol, "server.test")
    assert found is not None
    return found


@pytest.mark.parametrize("step", [1, 5, 1 << 20])
@pytest.mark.parametrize(("protocol", "turns", "state"), DIALOGUES, ids=lambda x: x if isinstance(x, str) else "")
def test_dialogue(protocol: str, turns: list[tuple[bytes, bytes]], state: str, step: int) -> None:
    talk = spoken(protocol)
    assert bool(talk.start()) != talk.greets
    for heard, wanted in turns:
        assert talk.state == "talking"
        said = b"".join(talk.feed(heard[at : at + step]) for at in range(0, len(heard), step))
        assert said.startswith(wanted) and bool(said) == bool(wanted)
    assert talk.state == state


def test_bytes_behind_the_answer_of_postgresql_are_not_its_own() -> None:
    talk = spoken("postgresql")
    talk.feed(b"S\x16\x03\x03")
    assert talk.state == "wrong"


@pytest.mark.parametrize("protocol", ["postgresql", "ldap", "dns", "xmpp", "smtp", "mysql"])
def test_an_echo_is_none_of_them(protocol: str) -> None:
    talk = spoken(protocol)
    talk.feed(talk.start() or b"EHLO pathfit.invalid\r\n")
    assert talk.state in ("wrong", "talking")


def test_nobody_logs_in() -> None:
    """Nothing that is ever said names a user or a secret."""
    for protocol, turns, _ in DIALOGUES:
        talk = spoken(protocol)
        said = talk.start() + b"".join(talk.feed(heard) for heard, _ in turns) + talk.units(40)
        for word in (b"USER", b"PASS", b"AUTH PLAIN", b"LOGIN", b"user", b"root"):
            assert word not in said, (protocol, word)


@pytest.mark.parametrize(
    ("banner", "protocol"),
    [
        (b"220 mail ESMTP\r\n", "smtp"),
        (b"220 (vsFTPd 3.0.5)\r\n", "ftp"),
        (b"220 ready\r\n", "smtp"),
        (b"* OK ready\r\n", "imap"),
        (b"+OK ready\r\n", "pop3"),
        (MYSQL, "mysql"),
        (STRANGER, "mysql"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "tcp"),
        (b"200 news\r\n", "tcp"),
        (b"", "tcp"),
        (bytes(80), "tcp"),
    ],
)
def test_greetings(banner: bytes, protocol: str) -> None:
    assert known.greeted(banner) == protocol


@given(st.sampled_from([d[0] for d in DIALOGUES]), st.lists(st.binary(max_size=300), max_size=30))
def test_anything(protocol: str, parts: list[bytes]) -> None:
    """Never raises and keeps little, whatever the other end says; nor do the rows."""
    talk = spoken(protocol)
    talk.start()
    row = talk.row(40)
    for part in parts:
        said = talk.feed(part)
        assert len(said) < 400
        row.feed(part)
    assert talk.state in ("talking", "tls", "plain", "wrong")
    assert len(talk.buffer) <= prelude.KEEP + 300
    is_mysql(b"".join(parts))


def test_an_endless_reply_is_wrong() -> None:
    talk = spoken("smtp")
    for _ in range(200):
        talk.feed(b"220-" + b"x" * 500 + b"\r\n")
    assert talk.state == "wrong"


@pytest.mark.parametrize("step", [1, 3, 1000])
def test_rows_of_dns_are_counted_by_their_lengths(step: int) -> None:
    row = DnsRow(expected=3)
    said = (b"\0\x0c" + bytes(12)) * 3
    for at in range(0, len(said), step):
        assert not row.whole
        row.feed(said[at : at + step])
    assert row.heads == 3 and row.whole


@pytest.mark.parametrize("step", [1, 3, 1000])
def test_rows_of_ldap_are_counted_by_the_ends_of_searches(step: int) -> None:
    entry = b"\x30\x81\x90" + b"\x02\x02\x01\x00\x64\x81\x89" + bytes(137)
    end = bytes.fromhex("300d0202010065070a010004000400")
    row = LdapRow(expected=2)
    said = entry + end + entry + end
    for at in range(0, len(said), step):
        row.feed(said[at : at + step])
    assert (row.heads, row.bad, row.whole) == (2, False, True)


def test_a_row_of_dns_is_under_way_before_it_is_answered() -> None:
    """No more than eight pieces, and no more than dnsmasq answers on one connection."""
    talk = Talk(Script(protocol="dns", host="s"), 1500)
    said = talk.start()
    assert talk.stage == "many" and len(said) <= 8 * talk.piece
    assert said.count(b"authors") == talk.asked_units <= Dns.most < 100
    talk.answer.feed((b"\0\x0c" + bytes(12)) * talk.asked_units)
    talk.whole = True
    assert talk.more() == b"" and talk.done


def test_tls_begins_behind_the_prelude() -> None:
    talk = Talk(Script(protocol="postgresql", host="s"), 1500)
    assert talk.start() == bytes.fromhex("0000000804d2162f")
    hello = talk.feed(b"S")
    assert (talk.stage, hello[:2]) == ("hello", b"\x16\x03") and b"http/1.1" not in hello
    assert talk.phase == "hello-sent"


def test_without_tls_a_row_is_asked_where_there_is_one() -> None:
    mail, database = (Talk(Script(protocol=p, host="s"), 1500) for p in ("imap", "postgresql"))
    mail.start(), database.start()
    mail.feed(b"* OK ready\r\n")
    assert mail.feed(b"p BAD no\r\n").count(b"CAPABILITY") >= 40
    assert database.feed(b"N") == b"" and database.done
