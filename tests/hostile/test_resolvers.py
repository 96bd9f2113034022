"""Names that do not resolve, and name servers that lie: a verdict that says so, in bounded time.

The asking side is a process with a mount namespace of its own, so that its resolv.conf is its own (as a container's).
"""

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import nameservers
import pytest
from netlab import Net
from rig import Ended, pathfit, side_by_side
from stage import SERVER, pair, running

BOUND = 6.0  # seconds for --timeout 4 and what starting and ending take; an answer may be waited for 3 s
BESIDE = 4
CONNECTIONS = 140  # of one run, however many addresses there are
NAME = "www.example.org"


class Case(NamedTuple):
    """``status`` and the leading code ("" none) of a diagnosis of a name this server answers for."""

    kind: str
    statuses: frozenset[int]
    code: str
    resolv: str = f"nameserver {SERVER[0]}\noptions attempts:1\n"
    name: str = NAME
    routed: bool = False  # there is a way to every address, and at its end nobody

    def __str__(self) -> str:
        return self.kind if self.name == NAME else self.name[:20]


def named(kind: str, status: int | set[int], code: str = "", **more: Any) -> Case:
    return Case(kind, frozenset(status if isinstance(status, set) else {status}), code, **more)


DNS = "DNS251"
BAD = "nameserver \x1b[31m\nnameserver 999.1.1.1\nsearch " + "a." * 5000
MANY = f"nameserver {SERVER[0]}\nsearch {'x.example ' * 300}\noptions ndots:99"
CASES = [
    named("nxdomain", 1, DNS),
    named("servfail", 1, DNS),
    named("refused", 1, DNS),
    named("code-of-nonsense", 1, DNS),
    named("no-data", 1, DNS),
    named("silent", 1, DNS),
    named("nobody", 1, DNS),
    named("junk", 1, DNS),
    named("junk-with-our-id", 1, DNS),
    named("short", 1, DNS),
    named("empty", 1, DNS),
    named("echo", 1, DNS),
    named("wrong-id", 1, DNS),
    named("other-question", 1, DNS),
    named("many", {1, 3}),
    named("many-of-both", {1, 3}, routed=True),
    named("alias-of-itself", 1, DNS),
    named("aliases-for-ever", 1, DNS),
    named("cut-for-ever", 1, DNS),
    named("loop", 1, DNS),
    named("chain", 1, DNS),
    named("others", 1, DNS),
    named("pointer-loop", 1, DNS),
    named("wrong-length", 1, DNS),
    named("counts-lie", 1, DNS),
    named("odd-addresses", {1, 3}),
    named("cut-and-nobody-at-tcp", 1, DNS),
    named("cut-and-junk-at-tcp", 1, DNS),
    named("cut-and-drip-at-tcp", 1, DNS),
    named("cut-and-long-at-tcp", 1, DNS),
    named("nxdomain", 1, DNS, resolv="", name="no-server.example"),
    named("nxdomain", 1, DNS, resolv=BAD, name="bad-conf.example"),
    named("nxdomain", 1, DNS, resolv="nameserver 192.0.2.77\n" * 500, name="many-servers.example"),
    named("nxdomain", 1, DNS, resolv=MANY, name="many-suffixes"),
    named("nxdomain", 1, DNS, resolv="# " + "x" * 3_000_000 + f"\nnameserver {SERVER[0]}\n", name="long-conf.example"),
]


@contextmanager
def asker(net: Net, resolv: str, folder: Path) -> Iterator[int]:
    """A process in namespace "c" that sees ``resolv`` as its /etc/resolv.conf."""
    conf = folder / f"{net('resolv')}.conf"
    conf.write_text(resolv)
    script = 'mount --bind "$1" /etc/resolv.conf && echo ready && exec cat'
    words = ["ip", "netns", "exec", net("c"), "unshare", "--mount", "sh", "-c", script, "asker", str(conf)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        yield process.pid


def ask(one: Case, folder: Path) -> Ended:
    with pair() as net, running(net("s"), "nameservers.py", one.kind), asker(net, one.resolv, folder) as pid:
        if one.routed:
            for way in SERVER:
                net.ip("c", f"route add default via {way}")
        words = ("diagnose", "--from", f"pid:{pid}", "--to", f"http://{one.name}:81/", "--json", "--timeout", "4")
        return pathfit(*words, seconds=BOUND)


@pytest.fixture(scope="module")
def judgements(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[Case], Ended]]:
    folder = tmp_path_factory.mktemp("resolv")
    with side_by_side(request, lambda case: ask(case, folder), BESIDE) as result:
        yield result


@pytest.mark.lab
@pytest.mark.parametrize("case", CASES, ids=str)
def test_names(case: Case, judgements: Callable[[Case], Ended]) -> None:
    ended = judgements(case)
    report = json.loads(ended.out)
    codes = [f["code"] for f in report["findings"]]
    said = f"{case} {report['verdict']} {codes} {ended.seconds} s {ended.megabytes} MB"
    print(said)
    assert ended.status in case.statuses, said
    assert "SYS902" not in codes, said
    assert not case.code or codes[0] == case.code, said
    assert len(ended.out) < 200_000
    assert report["measured"]["used"] is None or report["measured"]["used"]["connections"] <= CONNECTIONS, said
    assert report["measured"]["target"] is None or "bank" not in ended.out


def test_every_lie_is_tried() -> None:
    assert {c.kind for c in CASES} == {*nameservers.KINDS, "nobody"}
