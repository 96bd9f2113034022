"""Resets by their looks: one sign each, for and against the host whose address they bear; and words for all of them."""

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from cases import failed
from swarms import asked, node
from test_together import REFUSED

from pathfit import diagnose
from pathfit.core.followed import Origin, Sign
from pathfit.core.net import Point
from pathfit.core.report import Report
from pathfit.follow.prints import Known, round_trip, signs, verdict
from pathfit.follow.seen import Packet
from pathfit.follow.settled import settled as settle
from pathfit.model.ladder import Sighting
from pathfit.render.answered import answer_text, proof_texts, sign_text
from pathfit.wire import dissect
from pathfit.wire.packets import ACK, IP4, RST, SYN, TCPH
from pathfit.words.render import templates

MS = 1_000_000
SERVER, CLIENT = bytes((198, 51, 100, 2)), bytes((192, 0, 2, 2))
AT = Point(host="h", netns="netns:a", link="eth0")
PLACE = Point(host="h", netns="netns:r")


def segment(
    at: float, *, seq: int = 1000, ack: int = 500, flags: int = ACK, size: int = 0, ttl: int = 60, ident: int = 0,
    df: bool = True, ts: int | None = None, window: int = 501, ours: bool = False,
) -> Packet:  # fmt: skip
    """One of the server's (``ours``: of the client's) at ``at`` milliseconds, with ``size`` bytes of payload."""
    options = b"" if ts is None else b"\x01\x01\x08\x0a" + ts.to_bytes(4, "big") + bytes(4)
    ports = (40000, 443) if ours else (443, 40000)
    head = TCPH.pack(*ports, seq, ack, (20 + len(options)) << 2, flags, window, 0, 0) + options
    src, dst = (CLIENT, SERVER) if ours else (SERVER, CLIENT)
    length = 20 + len(head) + size
    data = IP4.pack(0x45, 0, length, ident, 0x4000 if df else 0, ttl, 6, 0, src, dst) + head
    layer = dissect.packet(data).inner
    assert layer is not None
    return Packet(Sighting(0, round(at * MS), 0, ()), layer, length, 0)


OPENED = (segment(0, seq=499, ack=0, flags=SYN, ours=True), segment(11, seq=1100, ack=1200, ours=True))
ANSWERED = (
    segment(10, seq=1000, ack=500, flags=SYN | ACK, ident=0, ts=7000),
    segment(12, seq=1001, ack=1100, size=99, ident=300, ts=7002),
    segment(14, seq=1100, ack=1100, size=100, ident=301, ts=7004),
)
RESET = {"seq": 1200, "ack": 1100, "flags": RST | ACK, "window": 0}


def said(more: dict[str, Any], *, at: float = 30, later: Sequence[Packet] = (), asked: float | None = None,
         opened: Sequence[Packet] = OPENED) -> dict[str, str]:  # fmt: skip
    known = Known((*ANSWERED, *later), opened, None if asked is None else round(asked * MS))
    return {x.name: x.says for x in signs(segment(at, **{**RESET, **more}), known)}


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, {"ttl": "end"}),
        ({"ttl": 61}, {"ttl": "other"}),
        ({"ident": 302}, {"ttl": "end", "ident": "end"}),
        ({"ident": 9000}, {"ttl": "end", "ident": "other"}),
        ({"ident": 400}, {"ttl": "end"}),
        ({"df": False}, {"ttl": "end", "df": "other"}),
        ({"ts": 7020}, {"ttl": "end", "clock": "end"}),
        ({"ts": 6000}, {"ttl": "end", "clock": "other"}),
        ({"ts": 3_000_000_000}, {"ttl": "end", "clock": "other"}),
        ({"window": 501}, {"ttl": "end", "window": "end"}),
        ({"window": 77}, {"ttl": "end"}),
        ({"seq": 1100}, {"ttl": "end", "sequence": "other"}),
        ({"seq": 1300}, {"ttl": "end"}),
        ({"seq": 900_000_000}, {"ttl": "end", "sequence": "other"}),
    ],
)
def test_one_sign_each(more: dict[str, Any], expected: dict[str, str]) -> None:
    """1200 was acknowledged and comes next; 1300 is ahead by what may have been lost before this point."""
    assert said(more) == expected


def test_sooner_than_it_can_be() -> None:
    """The server needs 10 ms; of what is far quicker it has not heard. Below two milliseconds time tells nothing."""
    assert round_trip(Known(ANSWERED, OPENED, None)) == 10 * MS
    assert said({}, at=30, asked=28)["timing"] == "other"
    assert "timing" not in said({}, at=30, asked=24)
    near = (segment(9.5, seq=499, ack=0, flags=SYN, ours=True),)
    assert "timing" not in said({}, at=30, asked=29.9, opened=near)


def test_who_has_reset_a_connection_says_no_more() -> None:
    more = segment(50, seq=1200, ack=1100, size=100)
    assert said({}, later=(more,))["went-on"] == "other"
    again = (*OPENED, segment(40, seq=90_000, ack=0, flags=SYN, ours=True))
    assert "went-on" not in said({}, later=(more,), opened=again), "a new connection on the same ports"
    overtaken = segment(30.5, seq=1100, ack=1100, size=100)
    assert "went-on" not in said({}, later=(overtaken,))


def test_what_signs_together_are_good_for() -> None:
    one, other, neither = Sign(name="ttl", says="end"), Sign(name="clock", says="other"), Sign(name="window")
    assert [verdict(x) for x in ([one, neither], [other], [one, other], [neither], [])] == ["end", "other", "", "", ""]


def test_nothing_to_compare_with_tells_nothing() -> None:
    assert list(signs(segment(1, **RESET), Known((), (), None))) == []


def answer(**more: Any) -> Origin:
    return msgspec.structs.replace(
        Origin(kind="reset", direction="reverse", claims="10.0.0.3", by="other", confidence="confirmed", phase="syn",
               made=PLACE, first=AT, unseen=(AT,), code="RST202", count=2), **more)  # fmt: skip


def refused(**more: Any) -> Report:
    return diagnose.report(asked((node(1), node(2), node(3)), failed("refused", rst_phase="syn", **more)))


def settled(report: Report, answers: tuple[Origin, ...]) -> Report:
    return settle(report, answers, "look:end")


def test_what_taps_prove_the_report_says_too() -> None:
    before = refused(rst_ttl=64, synack_ttl=64)
    assert before.findings[0].code == "RST201"
    after = settled(before, (answer(),))
    assert [(f.code, f.confidence, f.facts["case"]) for f in after.findings[:1]] == [("RST202", "confirmed", "seen")]
    assert "RST201" not in {f.code for f in after.findings} and after.verdict == "broken"
    assert after.findings[0].evidence[0].ref == "look:end", "the watch that saw it"
    for lang in ("en", "zh"):
        from pathfit.words import render as words

        assert words.summary(after.findings[0], lang, strict=True)
        assert all(words.evidence(e, lang, strict=True) for e in after.findings[0].evidence)


def test_looks_alone_replace_nothing_and_what_disagrees_is_less_sure() -> None:
    before = refused(rst_ttl=64, synack_ttl=64)
    assert settled(before, (answer(confidence="likely"),)) is before
    torn = (Sign(name="ttl", says="end"), Sign(name="went-on", says="other"))
    doubted = settled(before, (answer(by="unknown", confidence="possible", code="", signs=torn),))
    assert before.findings[0].confidence == "confirmed" and doubted.findings[0].confidence == "likely"


def test_who_has_the_better_right_is_not_for_taps_to_say() -> None:
    from swarms import stale

    before = diagnose.report(asked(stale(), REFUSED, age=None))
    assert (before.findings[0].code, before.findings[0].confidence) == ("RST203", "likely")
    other = Point(host="two", netns="netns:old")
    stray = answer(by="end", code="RST203", made=other)
    assert settled(before, (stray,)).findings[0].confidence == "confirmed"
    assert settled(before, (answer(),)) == before
    assert settled(before, (msgspec.structs.replace(stray, unseen=()),)) == before
    assert settled(before, (msgspec.structs.replace(stray, made=Point(host="three", netns="netns:e")),)) == before


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_every_sign_and_maker_has_a_sentence(lang: str) -> None:
    known = ("ttl", "usual", "ident", "last", "value", "window", "seq", "next", "ms", "count", "place")
    facts = dict.fromkeys((*known, "at", "as", "others", "bytes", "room"), 7)
    for key in (k for k in templates("en") if k.startswith("sign.")):
        name, _, says = key.removeprefix("sign.").rpartition("-")
        whole = name in ("", "kernel")
        one = Sign(name=key.removeprefix("sign.") if whole else name, says="" if whole else says, facts=facts)  # type: ignore[arg-type]
        text = sign_text(one, lang)
        assert "7" in text or (name == "df" and "?" not in text and "{" not in text), key
    torn = (Sign(name="ttl", says="end", facts=facts), Sign(name="df", says="other"))
    texts = set()
    for more in (
        {"by": "end"}, {"by": "end", "code": "RST203", "because": ("OVL301",)}, {"by": "end", "made": None},
        {"by": "filter"}, {"by": "tunnel"}, {"by": "other"}, {"by": "other", "made": None},
        {"by": "other", "made": None, "unseen": ()}, {"by": "other", "made": None, "confidence": "likely"},
        {"by": "unknown"}, {"by": "unknown", "signs": torn}, {"kind": "too-big", "mtu": 1400},
        {"kind": "unreachable"}, {"kind": "expired"},
    ):  # fmt: skip
        texts.add(text := answer_text(answer(**more), lang))
        assert "?" not in text and "{" not in text and "None" not in text
        assert all("{" not in x for x in proof_texts(answer(**more), lang))
    assert len(texts) == 14
