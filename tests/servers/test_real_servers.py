"""Servers that people run, on a path that is whole and on paths with a known fault: server x path x what is asked.

Every cell has a lab and a server of its own. What is right for a path stands in ``PATHS``; what today's prober cannot
do with a server that others serve as well stands in ``LIMITS``, each with its reason, and in docs/probing.md. A cell
with a limit is asked like all others: it may say less, never something else.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest
from realservers import Server, data, lacking, running, web

from pathfit.lab import Lab, load

pytestmark = [pytest.mark.slow, pytest.mark.lab]

COMMAND = str(Path(sys.executable).with_name("pathfit"))
SECONDS = 60.0  # for one command; its own --timeout ends it long before
BESIDE = 3  # cells at a time: most of them wait
Size = tuple[int | None, int | None]  # largest that passes, smallest that does not


class Truth(NamedTuple):
    """What is right for a path: ``first``: code of the one error, "" for none."""

    verdict: str
    first: str
    forward: Size
    reverse: Size


PATHS = {
    "healthy": Truth("healthy", "", (1500, None), (1500, None)),
    "inbound-only": Truth("broken", "MTU101", (1500, None), (1400, 1401)),
    "v6-upload-hole": Truth("broken", "MTU102", (1420, 1421), (1500, None)),
    "pmtud-works": Truth("degraded", "", (1412, 1413), (1412, 1413)),
}
SPOKEN = {"postgresql": "postgresql", "mariadb": "mysql", "mariadb-stranger": "mysql", "dnsmasq": "dns"}
IN, OUT, TOLD = "inbound-only", "v6-upload-hole", "pmtud-works"


class Limit(NamedTuple):
    """What a cell may say instead. ``verdicts``: instead of the right one (empty: only the right one), then without an
    error. ``forward``, ``reverse``: "" exact; "none" not measured, with a note; "?" that or exact; "~" that, exact, or
    a wider bracket that is true; "pass" the largest that passes is right, the byte above it is not known."""

    verdicts: tuple[str, ...] = ()
    forward: str = ""
    reverse: str = ""


class Case(NamedTuple):
    server: Server
    path: str
    kind: str  # a key of the server's ports
    page: str

    def __str__(self) -> str:
        return "-".join(x for x in (self.server.name, self.path, self.kind, self.page) if x)


# A long certificate chain fills packets by itself, so the page does not matter; a short one leaves it to the page.
ASKS = {
    "https": ("small",),
    "https-ec": ("large", "small"),
    "http": ("large", "small"),
    "tcp": ("",),
}
CASES = [
    Case(server, path, kind, page)
    for server in (*web.SERVERS, *data.SERVERS)
    for path in PATHS
    for kind in server.ports
    for page in ASKS[kind]
]
SHORT = {("s_server-https-ec", "https-ec"), ("http.server", "http"), ("http.server-tls", "https-ec")}
ONE_BY_ONE = ("s_server-https-ec", "http.server", "http.server-tls")


def limit(case: Case) -> Limit:
    """What is known not to work today; docs/probing.md, "Real servers"."""
    name, path = case.server.name, case.path
    if name == "mariadb-stranger":
        # Greets strangers with an error and hangs up, mostly before anything can be sent beside the connection. What
        # comes in is not measured, and called healthy only where all of the way is visible.
        return Limit(("healthy", "unknown") if path == TOLD else ("unknown",), "?", "none")
    if (name, case.kind) in SHORT and case.page == "small":
        # HTTP/1.0, closed after three bytes: nothing can be asked that fills a packet, so nothing is known inwards. A
        # connection that overflows a backlog of five may be the one by which the way out was to be measured.
        return Limit(() if path == "healthy" else ("unknown",), forward="?", reverse="none")
    if case.page == "small" and case.kind != "https":
        # Rows of answers of three bytes: a busy machine may send them one by one, and never a full packet.
        return Limit(
            {IN: ("unknown",), TOLD: ("unknown",)}.get(path, ()), forward="pass" if path == TOLD else "", reverse="~"
        )
    if path == IN and name in ONE_BY_ONE:
        # A burst of fourteen is more than a backlog of five holds (SYN cookies round the MSS down, the rest waits for a
        # second), or one connection after the other waits for a page without a tail that would show its gap. Where the
        # machine is busy as well, the one for the way out may be among those that are ended, and the bracket be wide.
        return Limit(("unknown",), forward="?", reverse="~")
    if path == OUT and name in ONE_BY_ONE:
        # The same backlog: the connection beside which the way out was to be measured may be one that is ended.
        return Limit(("unknown",), forward="?")
    if path == TOLD:
        # Who has learned the limit invites no more than that from new connections: nothing above it can be asked. Who
        # did so before the first answer was seen to be cut anew looks like a clamp.
        return Limit(("unknown",), forward="pass", reverse="pass")
    return Limit()


def ask(case: Case) -> dict:
    with Lab.up(load(case.path), services=False) as lab:
        netns = f"/run/netns/{lab.prefix}-s"
        address = lab.target().partition("//")[2].rpartition(":")[0]
        to = f"{case.kind.partition('-')[0]}://{address}:{case.server.ports[case.kind]}"
        words = ["diagnose", "--from", lab.where("c"), "--to", f"{to}/{case.page}" if case.page else to, "--json"]
        env = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")} | {"LANG": "C.UTF-8"}
        with running(case.server, netns):
            done = subprocess.run(
                [COMMAND, *words], stdin=subprocess.DEVNULL, capture_output=True, timeout=SECONDS, env=env, check=False
            )
    try:
        return json.loads(done.stdout)
    except ValueError:
        raise AssertionError(f"no report: {done.stdout!r} {done.stderr!r}") from None


@pytest.fixture(scope="module")
def reports(request: pytest.FixtureRequest) -> Iterator[Callable[[Case], dict]]:
    """The report of a cell; those that were chosen are worked out several at a time."""
    calls = [getattr(item, "callspec", None) for item in request.session.items if item.path == request.path]
    chosen = [call.params["case"] for call in calls if call is not None and "case" in call.params]
    with ThreadPoolExecutor(BESIDE) as pool:
        under_way: dict[str, Future[dict]] = {
            str(case): pool.submit(ask, case) for case in chosen if not lacking(case.server)
        }
        try:
            yield lambda case: under_way[str(case)].result()
        finally:
            pool.shutdown(cancel_futures=True)
            data.forget()


def required(server: Server) -> None:
    """Skip where the server is not installed; fail where it must be (CI)."""
    if why := lacking(server):
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"{server.name}: {why}")


@pytest.mark.parametrize("case", CASES, ids=str)
def test_cell(case: Case, reports: Callable[[Case], dict]) -> None:
    required(case.server)
    report = reports(case)
    measured = report["measured"]
    findings = [(f["severity"], f["code"]) for f in report["findings"]]
    said = f"{case}: {report['verdict']} {findings} {measured['forward']} {measured['reverse']}"
    print(said)
    truth, may = PATHS[case.path], limit(case)
    assert measured["target"]["protocol"] == SPOKEN.get(case.server.name, case.kind.partition("-")[0]), said
    large = [t for t in measured["forward"]["tried"] if t["method"] == "tls-first-flight" and case.path == OUT]
    unsent = measured["forward"]["evidence"] == "none"  # of a way out that is not known no large one is sent
    assert all(t["pass"] is None and t["fail"] in ((None,) if unsent else (1500,)) for t in large), said
    # None in front of these: as far as we know, they bear everything.
    assert not any(f["code"] == "MTU115" for f in report["findings"]) or case.path == OUT, said
    errors = [code for severity, code in findings if severity == "error"]
    if report["verdict"] == truth.verdict:
        assert errors == ([truth.first] if truth.first else []), said
    else:
        assert report["verdict"] in may.verdicts and not errors, said
    assert fits(measured["forward"], truth.forward, may.forward), said
    assert fits(measured["reverse"], truth.reverse, may.reverse), said


def fits(bracket: dict, right: Size, allowed: str) -> bool:
    """Is this what is right, or what ``allowed`` (:class:`Limit`) lets it say?"""
    here = (bracket["pass"], bracket["fail"])
    nothing = bracket["evidence"] == "none" and bool(bracket["note"]) and here[1] is None
    if allowed == "none":
        return nothing
    if allowed == "pass" and here[0] == right[0]:
        return here[1] in (None, right[1])
    wider = right[1] is not None and None not in here and here[0] <= right[0] < right[1] <= here[1] and here != right
    if nothing or wider:
        return allowed == "~" or (allowed == "?" and nothing)
    return here == right and bracket["evidence"] != "none"


UDP = {
    "healthy": ("healthy", [], (1500, None)),
    "inbound-only": ("broken", ["DNS252"], (1500, None)),  # cut by UDP, and by TCP it does not come
    "v6-upload-hole": ("broken", ["MTU102"], (1420, 1421)),
    "pmtud-works": ("degraded", [], (1412, 1413)),
}


@pytest.mark.parametrize("path", UDP)
def test_dnsmasq_by_udp(path: str) -> None:
    server = next(s for s in data.SERVERS if s.name == "dnsmasq")
    required(server)
    verdict, errors, forward = UDP[path]
    dns = server._replace(ports={"udp": server.ports["tcp"]})
    report = ask(Case(dns, path, "udp", "large.test/TXT"))
    found = [f["code"] for f in report["findings"] if f["severity"] == "error"]
    measured = report["measured"]
    said = f"{path}: {report['verdict']} {report['findings']} {measured}"
    assert (report["verdict"], found) == (verdict, errors), said
    assert (measured["forward"]["pass"], measured["forward"]["fail"]) == forward, said
    assert measured["forward"]["method"] == "udp-closed"  # it takes no questions above 1232 bytes itself
    assert any(b["method"] == "udp-dns" and b["pass"] <= 1280 for b in measured["forward"]["tried"]), said


def test_limits_are_few() -> None:
    """Every server that keeps connections and serves them side by side is right to the byte wherever nobody learns and
    the answers are not tiny."""
    asked = [c for c in CASES if c.path != TOLD and (c.page == "large" or c.kind in ("https", "tcp"))]
    assert {c.server.name for c in asked if limit(c) != Limit()} == {*ONE_BY_ONE, "mariadb-stranger"}
