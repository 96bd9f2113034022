"""Targets that misbehave: a verdict or "unknown" in bounded time and memory, and never a hole that is not there.

The path between the two namespaces carries everything, so every MTU finding would be a false alarm.
"""

import json
from typing import Any, NamedTuple

import pytest
from rig import pathfit
from stage import PORT, SERVER, pair, running

import peers

BOUND = 7.0  # seconds for --timeout 5 and what starting and ending take on a busy machine
HOLES = {"MTU101", "MTU102", "MTU105", "MTU106", "MTU111", "MTU112", "MTU118", "MTU119", "NET151"}


class Case(NamedTuple):
    """``codes``: one of these leads; empty: any but a hole. ``statuses``: exits that are true."""

    kind: str
    scheme: str
    statuses: set[int]
    codes: set[str] = set()


FINE, DOWN, UNSURE = 0, 1, 3
CASES = [
    Case("nothing", "https", {DOWN}, {"RST201"}),
    Case("reset-at-once", "https", {DOWN, UNSURE}, {"RST201", "RST202"}),
    Case("reset-after-request", "https", {DOWN, UNSURE}, {"RST201", "RST202"}),
    Case("reset-after-request", "http", {DOWN, UNSURE}, {"RST201", "RST202"}),
    Case("reset-in-the-answer", "http", {FINE, DOWN, UNSURE}),
    Case("fin-at-once", "https", {FINE, UNSURE}),
    Case("fin-after-request", "http", {FINE, DOWN, UNSURE}),
    Case("half-closed", "https", {FINE, UNSURE}),
    Case("silent", "https", {UNSURE}, {"APP801"}),
    Case("silent", "http", {UNSURE}, {"APP801"}),
    Case("deaf", "https", {UNSURE}),
    Case("urgent", "http", {FINE, UNSURE}),
    Case("full-backlog", "https", {FINE, DOWN, UNSURE}),
    *(
        Case(kind, "https", {FINE, UNSURE})
        for kind in (
            "junk",
            "junk-for-ever",
            "http-instead",
            "ssh-instead",
            "alert",
            "alert-warning-for-ever",
            "alert-unknown",
            "record-too-long",
            "record-empty-for-ever",
            "tls-drip",
            "certificate-for-ever",
            "close-after-tls",
            "reset-after-tls",
            "junk-after-tls",
        )
    ),
    *(
        Case(kind, "http", {FINE, UNSURE})
        for kind in (
            "drip",
            "headers-for-ever",
            "header-of-10-mb",
            "body-for-ever",
            "continue-for-ever",
            "http-0.9",
            "http-2",
            "chunks-of-nonsense",
            "chunks-for-ever",
            "length-of-nonsense",
            "status-of-nonsense",
            "status-cut",
            "nul-bytes",
            "redirect-to-itself",
            "two-answers",
        )
    ),
    *(Case(kind, "", {FINE, UNSURE}) for kind in ("banner-of-escapes", "nul-bytes", "drip", "junk-for-ever")),
]
RAW = [
    Case("window-0", "https", {FINE, UNSURE}),
    Case("window-closes", "http", {FINE, UNSURE}),
    Case("mss-1", "https", {FINE, UNSURE}),
    Case("mss-0", "https", {FINE, UNSURE}),
    Case("mss-65535", "http", {FINE, UNSURE}),
    Case("no-mss", "https", {FINE, UNSURE}),
    Case("options-of-nonsense", "https", {FINE, UNSURE}),
    Case("acknowledges-all-says-nothing", "https", {UNSURE}),
    Case("lying-sack", "https", {FINE, UNSURE}),
    Case("wrong-ack", "https", {DOWN, UNSURE}),
    Case("reset-at-syn", "https", {DOWN}),
    Case("option-lengths-lie", "https", {FINE, UNSURE}),
]


def judged(case: Case, address: str, where: str) -> dict[str, Any]:
    """Ask, and check what holds for all of them."""
    host = f"[{address}]" if ":" in address else address
    to = f"{case.scheme}://{host}:{PORT}/" if case.scheme else f"{host}:{PORT}"
    ended = pathfit("diagnose", "--from", where, "--to", to, "--json", "--timeout", "5", seconds=BOUND)
    report: dict[str, Any] = json.loads(ended.out)
    codes = [f["code"] for f in report["findings"]]
    said = f"{case} {report['verdict']} {codes} {ended.seconds} s {ended.megabytes} MB"
    print(said)
    assert not HOLES & set(codes), said
    assert "SYS902" not in codes, said
    assert ended.status in case.statuses, said
    assert not case.codes or codes[0] in case.codes, said
    return report


@pytest.mark.lab
@pytest.mark.parametrize("case", CASES, ids=[f"{c.kind}-{c.scheme or 'any'}" for c in CASES])
def test_listeners(case: Case) -> None:
    with pair() as net, running(net, "s", "peers.py", case.kind, str(PORT)):
        judged(case, SERVER[0], f"netns:{net('c')}")


@pytest.mark.lab
@pytest.mark.parametrize("kind", ["nothing", "reset-after-request", "junk", "body-for-ever"])
def test_listeners_over_ipv6(kind: str) -> None:
    case = Case(kind, "http" if "body" in kind else "https", {FINE, DOWN, UNSURE})
    with pair() as net, running(net, "s", "peers.py", kind, str(PORT)):
        judged(case, SERVER[1], f"netns:{net('c')}")


@pytest.mark.lab
@pytest.mark.parametrize("case", RAW, ids=[c.kind for c in RAW])
def test_tcp_that_no_kernel_speaks(case: Case) -> None:
    """The server's own TCP is kept out of it; that filter is out of pathfit's sight as a far firewall would be."""
    rules = f"table ip t {{ chain c {{ type filter hook prerouting priority -300; tcp dport {PORT} drop; }}; }}"
    with pair() as net:
        net.inside("s", "nft", "-f", "-", stdin=rules)
        with running(net, "s", "rawpeer.py", case.kind, str(PORT)):
            judged(case, SERVER[0], f"netns:{net('c')}")


@pytest.mark.lab
@pytest.mark.parametrize(
    ("rule", "code", "status"),
    [
        ("tcp dport 4433 drop", "FLT401", 1),
        ("tcp dport 4433 reject with tcp reset", "RST202", 1),
        ("tcp dport 4433 reject with icmp type admin-prohibited", "FLT401", 1),
    ],
)
def test_firewalls(rule: str, code: str, status: int) -> None:
    with pair() as net, running(net, "s", "peers.py", "silent", str(PORT)):
        net.inside("s", "nft", f"add table ip t; add chain ip t c {{ type filter hook input priority 0; }}; add rule ip t c {rule}")  # fmt: skip # noqa: E501
        report = judged(Case("silent", "https", {status}), SERVER[0], f"netns:{net('c')}")
        assert report["findings"][0]["code"] == code


def test_every_bad_manner_is_tried() -> None:
    assert {c.kind for c in CASES} == {*peers.KINDS, "nothing", "full-backlog"}
