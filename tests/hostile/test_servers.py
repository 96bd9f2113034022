"""Targets that misbehave: a verdict or "unknown" in bounded time and memory, and never a hole that is not there.

The path between the two namespaces carries everything, so every MTU finding would be a false alarm. Most cases wait
for something that never comes, so those that were chosen are worked out side by side (:func:`judgements`).
"""

import json
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest
from rig import Ended, pathfit, side_by_side
from stage import PORT, SERVER, opened, pair, running

import peers

BOUND = 6.0  # seconds for --timeout 3 and what starting and ending take on a busy machine
BESIDE = 4  # cases at a time
CONNECTIONS = 140  # of one run: Measure.connections_total, and what finds out the protocol and looks at the certificate
HOLES = {"MTU101", "MTU102", "MTU105", "MTU106", "MTU111", "MTU112", "MTU118", "MTU119", "NET151"}
FIREWALL = "table ip t {{ chain c {{ type filter hook {} priority {}; {}; }}; }}"


class Case(NamedTuple):
    """``statuses``: exits that are true. ``codes``: one of these leads; empty: any but a hole. ``rule``: (hook,
    priority, rule) of an nft filter at the server."""

    script: str
    kind: str
    scheme: str
    statuses: frozenset[int]
    codes: frozenset[str] = frozenset()
    address: str = SERVER[0]
    rule: tuple[str, int, str] | None = None

    def __str__(self) -> str:
        return f"{self.kind}-{self.scheme or 'any'}{'-6' if ':' in self.address else ''}"


FINE, DOWN, UNSURE = 0, 1, 3


def listener(kind: str, scheme: str, statuses: set[int], codes: str = "", address: str = SERVER[0]) -> Case:
    return Case("peers.py", kind, scheme, frozenset(statuses), frozenset(codes.split()), address)


def raw(kind: str, scheme: str, statuses: set[int], codes: str = "") -> Case:
    """The server's own TCP is kept out of it, as a far firewall would do."""
    rule = ("prerouting", -300, f"tcp dport {PORT} drop")
    return Case("rawpeer.py", kind, scheme, frozenset(statuses), frozenset(codes.split()), rule=rule)


def firewall(rule: str, code: str) -> Case:
    answer = ("input", 0, f"tcp dport {PORT} {rule}")
    return Case("peers.py", "silent", "https", frozenset({DOWN}), frozenset({code}), rule=answer)


CASES = [
    listener("nothing", "https", {DOWN}, "RST201"),
    listener("reset-at-once", "https", {DOWN, UNSURE}, "RST201 RST202"),
    listener("reset-after-request", "https", {DOWN, UNSURE}, "RST201 RST202"),
    listener("reset-after-request", "http", {DOWN, UNSURE}, "RST201 RST202"),
    listener("reset-in-the-answer", "http", {FINE, DOWN, UNSURE}),
    listener("fin-at-once", "https", {DOWN, UNSURE}, "RST201 APP801 APP802"),
    listener("fin-after-request", "http", {FINE, DOWN, UNSURE}),
    listener("half-closed", "https", {FINE, UNSURE}),
    listener("silent", "https", {UNSURE}, "APP801"),
    listener("silent", "http", {UNSURE}, "APP801"),
    listener("deaf", "https", {DOWN, UNSURE}, "APP801"),
    listener("urgent", "http", {FINE, UNSURE}),
    listener("full-backlog", "https", {FINE, DOWN, UNSURE}),
    listener("junk", "https", {FINE}, "APP802"),
    listener("junk-for-ever", "https", {FINE}, "APP802"),
    listener("http-instead", "https", {FINE}, "APP802"),
    listener("ssh-instead", "https", {FINE}, "APP802"),
    listener("alert", "https", {FINE}, "APP802"),
    listener("alert-warning-for-ever", "https", {FINE}, "APP802"),
    listener("alert-unknown", "https", {FINE}, "APP802"),
    listener("record-too-long", "https", {FINE}, "APP802"),
    listener("record-empty-for-ever", "https", {FINE, UNSURE}),
    listener("tls-drip", "https", {FINE, UNSURE}),
    listener("certificate-for-ever", "https", {FINE, UNSURE}),
    listener("close-after-tls", "https", {FINE, UNSURE}),
    listener("reset-after-tls", "https", {FINE, DOWN, UNSURE}),
    listener("junk-after-tls", "https", {FINE, UNSURE}),
    listener("drip", "http", {FINE, UNSURE}),
    listener("headers-for-ever", "http", {FINE}, "APP803"),
    listener("header-of-10-mb", "http", {FINE}, "APP803"),
    listener("body-for-ever", "http", {FINE}),
    listener("continue-for-ever", "http", {FINE}, "APP803"),
    listener("http-0.9", "http", {FINE}, "APP803"),
    listener("http-2", "http", {FINE}, "APP803"),
    listener("chunks-of-nonsense", "http", {FINE, UNSURE}),
    listener("chunks-for-ever", "http", {FINE}),
    listener("length-of-nonsense", "http", {FINE, UNSURE}),
    listener("status-of-nonsense", "http", {FINE, UNSURE}),
    listener("status-cut", "http", {FINE, UNSURE}),
    listener("nul-bytes", "http", {FINE}, "APP803"),
    listener("redirect-to-itself", "http", {FINE, UNSURE}),
    listener("two-answers", "http", {FINE}),
    listener("banner-of-escapes", "", {FINE, UNSURE}),
    listener("nul-bytes", "", {FINE, UNSURE}),
    listener("drip", "", {FINE, UNSURE}),
    listener("junk-for-ever", "", {FINE, UNSURE}),
    listener("nothing", "https", {DOWN}, "RST201", SERVER[1]),
    listener("reset-after-request", "https", {DOWN, UNSURE}, "RST201 RST202", SERVER[1]),
    listener("junk", "https", {FINE}, "APP802", SERVER[1]),
    listener("body-for-ever", "http", {FINE}, "", SERVER[1]),
    raw("window-0", "https", {FINE, UNSURE}),
    raw("window-closes", "http", {FINE, UNSURE}),
    raw("mss-1", "https", {FINE, UNSURE}),
    raw("mss-0", "https", {FINE, UNSURE}),
    raw("mss-65535", "http", {FINE, UNSURE}),
    raw("no-mss", "https", {FINE, UNSURE}),
    raw("options-of-nonsense", "https", {FINE, UNSURE}),
    raw("acknowledges-all-says-nothing", "https", {UNSURE}),
    raw("lying-sack", "https", {DOWN, UNSURE}),
    raw("wrong-ack", "https", {DOWN, UNSURE}),
    raw("reset-at-syn", "https", {DOWN}),
    raw("option-lengths-lie", "https", {DOWN, UNSURE}),
    firewall("drop", "FLT401"),
    firewall("reject with tcp reset", "RST202"),
    firewall("reject with icmp type admin-prohibited", "FLT401"),
]


class Judged(NamedTuple):
    """How a run ended, and how many connections the kernel saw it open."""

    ended: Ended
    opened: int


def ask(case: Case) -> Judged:
    host = f"[{case.address}]" if ":" in case.address else case.address
    to = f"{case.scheme}://{host}:{PORT}/" if case.scheme else f"{host}:{PORT}"
    with pair() as net:
        if case.rule:
            net.inside("s", "nft", "-f", "-", stdin=FIREWALL.format(*case.rule))
        with running(net("s"), case.script, case.kind, str(PORT)):
            words = ("diagnose", "--from", f"netns:{net('c')}", "--to", to, "--json", "--timeout", "3")
            ended = pathfit(*words, seconds=BOUND)
            return Judged(ended, opened(net))


@pytest.fixture(scope="module")
def judgements(request: pytest.FixtureRequest) -> Iterator[Callable[[Case], Judged]]:
    with side_by_side(request, ask, BESIDE) as result:
        yield result


def check(case: Case, judged: Judged) -> None:
    """What every such run promises: true findings alone, and no more connections than it may make and says it made."""
    ended = judged.ended
    report = json.loads(ended.out)
    codes = [f["code"] for f in report["findings"]]
    said = f"{case} {report['verdict']} {codes} {ended.seconds} s {ended.megabytes} MB {judged.opened} connections"
    print(said)
    assert not HOLES & set(codes), said
    assert "SYS902" not in codes, said
    assert ended.status in case.statuses, said
    assert not case.codes or codes[0] in case.codes, said
    assert judged.opened <= CONNECTIONS, said
    if any(m["what"].startswith("Measure ") for m in report["missing"]):
        return  # the time was up in the middle of it: what it had used until then is not known
    assert report["measured"]["used"]["connections"] == judged.opened, said


@pytest.mark.lab
@pytest.mark.parametrize("case", CASES, ids=str)
def test_targets(case: Case, judgements: Callable[[Case], Judged]) -> None:
    check(case, judgements(case))


def test_every_bad_manner_is_tried() -> None:
    assert {c.kind for c in CASES if c.script == "peers.py"} == {*peers.KINDS, "nothing", "full-backlog"}
