"""How long the prober takes, in process, beside what DESIGN asks for. As root:

    python -m bench.probe_time [--runs 5] [--ranges 1280-1500,576-9001,public] [--rtts 0,20,100] [--out FILE]

A lab of plain namespaces per round-trip time (through a forwarder of pathfit.lab) and per hole: *told* (both ways, a
"too big" comes back on the way out), *silent* (both ways, nobody says anything), *inwards* (only there, silent); nginx
(pathfit's own Python server where there is none), http and https. Three ranges: both ends at 1500 and a limit of 1420
(a common size) or 1337 (nobody's); both ends at 9001 and a limit of 8951, 3333, 1500 or 600; and the first again as
politely as a public address is asked (4 connections at once, 24 in all, one direction after the other).

With S = max(2 RTT, 50 ms), and 30 ms for each: the way in is known as a bracket (its first round was judged) after
2 RTT + S, both ways to the exact byte after 6 RTT + S (576-9001: 8, public: 10; *whole* has the first
flights of TLS besides), and the trial of the first fix has its
first answer 3 RTT after it began. Medians of the runs count. A shared machine disturbs single figures; processor time
is what other load stretches least. Exit status 1 when a number is wrong, never because it was slow.
"""

import argparse
import os
import resource
import select
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from pathfit.core.evidence import ProbeResult, TrialFact
from pathfit.core.request import Measure, TryFix
from pathfit.host.netns import inside
from pathfit.lab import lab as labs
from pathfit.lab import reader
from pathfit.measure import reverse
from pathfit.probe.target import measure
from pathfit.probe.tcp import after
from pathfit.probe.tcp.engine import Engine
from pathfit.probe.tcp.trial import try_fix

SCENARIO = """
name: bench-probe
about: One router between, a hole behind it.
ask: {{from: c, to: "https://s:8443/5"}}
hosts: [h, r, s]
containers:
  c: {{in: h, mtu: {mtu}}}
cables:
{cables}
services:
  - {{host: s}}
truth:
  - {{from: c, get: "http://s:8080/5"}}
expect: {{verdict: [broken]}}
"""
HOLES = {
    "told": "  - {{ends: [h, r], mtu: {limit}}}\n  - {{ends: [r, s], mtu: {mtu}{rtt}}}\n"
    "faults:\n  - too_big_lost_at: s",
    "silent": "  - {{ends: [h, r], mtu: {mtu}}}\n  - {{ends: [r, s], mtu: {mtu}, carries: {limit}{rtt}}}",
    "inwards": "  - {{ends: [h, r], mtu: {mtu}}}\n"
    "  - {{ends: [s, r], mtu: {mtu}, carries: {limit}, carries_b: {mtu}{rtt}}}",
}
NGINX = """daemon off; worker_processes 2; pid {d}/pid; error_log /dev/null; events {{ worker_connections 512; }}
http {{ access_log off; client_body_temp_path {d}/b; proxy_temp_path {d}/p; fastcgi_temp_path {d}/f;
 uwsgi_temp_path {d}/u; scgi_temp_path {d}/s; root {d};
 ssl_protocols TLSv1.2 TLSv1.3;
 server {{ listen 9080; listen 9443 ssl; ssl_certificate {c}/chain.pem; ssl_certificate_key {c}/chain.key; }} }}
"""
CERTS = Path(labs.__file__).parent / "certs"
PAGE = 60_000  # bytes: six full segments of 9001, and a tail


class Range(NamedTuple):
    """``mtu`` of both ends, limits to find, round trips to the exact byte; ``polite``: as a public address is asked."""

    mtu: int
    limits: tuple[int, ...]
    trips: int
    polite: bool = False


RANGES = {
    "1280-1500": Range(1500, (1420, 1337), 6),
    "576-9001": Range(9001, (8951, 3333, 1500, 600), 8),
    "public": Range(1500, (1420, 1337), 10, polite=True),
}
POLITE = {"connections_per_round": 4, "connections_total": 24, "parallel": 4}  # plan.py: addresses that are global


class Once(NamedTuple):
    """Seconds to the bracket, until both directions are known, to the end (the certificate and first flights of TLS
    come last), of the trial's first answer; processor time; what was found."""

    bracket: float
    exact: float
    whole: float
    trial: float
    processor: float
    result: ProbeResult


class Server(NamedTuple):
    """Where a web server is to be reached from namespace ``fd``."""

    fd: int
    address: str
    port: int
    protocol: str


class Row(NamedTuple):
    """One line of the table. ``late``: which of its medians are above their bounds."""

    text: str
    late: tuple[str, ...]
    wrong: int
    inexact: int


def web_server(lab: labs.Lab, folder: str) -> subprocess.Popen[bytes]:
    """nginx in the server's namespace, in the foreground, with a configuration of its own."""
    for size in (5, PAGE):
        Path(folder, str(size)).write_bytes(b"x" * size)
    Path(folder, "conf").write_text(NGINX.format(d=folder, c=CERTS))
    os.chmod(folder, 0o755)
    name = lab.where("s").removeprefix("netns:")
    return subprocess.Popen(["ip", "netns", "exec", name, "nginx", "-p", folder, "-c", f"{folder}/conf"])


def listens(server: Server) -> None:
    """Until it does. Raises OSError after ten seconds."""
    until = time.monotonic() + 10
    while True:
        with inside(server.fd), socket.socket() as sock:
            if not sock.connect_ex((server.address, server.port)):
                return
        if time.monotonic() > until:
            raise OSError(f"nobody listens on {server.address}:{server.port}")
        select.select([], [], [], 0.01)


brackets: list[float] = []  # when the second round of the way in began
new_round = reverse.Reverse._new_round


def noted(search: reverse.Reverse, plan: list[tuple[int, str]], now: float) -> None:
    if search.round == 1:
        brackets.append(time.monotonic())
    new_round(search, plan, now)


known: list[float] = []  # when both directions were known
afterwards = after.afterwards


def last(engine: Engine) -> None:
    known.append(time.monotonic())
    afterwards(engine)


def once(server: Server, kind: Range, limit: int) -> Once:
    brackets.clear()
    known.clear()
    fd, address, port, protocol = server
    more = POLITE if kind.polite else {}
    request = Measure(ref="m", source="x", address=address, port=port, protocol=protocol, host=address, path=f"/{PAGE}", **more)  # type: ignore[arg-type] # fmt: skip # noqa: E501
    start, used = time.monotonic(), processor()
    result = measure(fd, request)
    took, used = time.monotonic() - start, processor() - used
    assert isinstance(result, ProbeResult), result
    trial = try_fix(fd, TryFix(ref="t", source="x", address=address, port=port, protocol=protocol, mss=limit - 40, path="/5"))  # type: ignore[arg-type] # fmt: skip # noqa: E501
    assert isinstance(trial, TrialFact) and trial.ok, trial
    first, both = (brackets[0] if brackets else start + took) - start, (known[0] if known else start + took) - start
    return Once(first, both, took, trial.took, used, result)


def processor() -> float:
    """Seconds this process has used."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def judged(result: ProbeResult, hole: str, kind: Range, limit: int) -> tuple[int, int]:
    """(wrong, inexact) of the two directions. Wrong: larger than the truth passes, or what passes in truth fails."""
    outwards = kind.mtu if hole == "inwards" else limit
    wrong = inexact = 0
    for found, truth, most in ((result.reverse[0], limit, kind.mtu), (result.forward[0], outwards, kind.mtu)):
        lies = (found.passes or 0) > truth or (found.fails is not None and found.fails <= truth)
        exact = found.passes == truth and (found.fails == truth + 1 or truth == most)
        wrong += lies
        inexact += not lies and not exact
    return wrong, inexact


def row(name: str, server: Server, hole: str, limit: int, rtt: float, runs: int) -> Row:
    kind = RANGES[name]
    once(server, kind, limit)  # imports, neighbours
    found = [once(server, kind, limit) for _ in range(runs)]
    verdicts = [judged(x.result, hole, kind, limit) for x in found]
    quiet = max(2 * rtt, 0.05) + 0.03
    bounds = {
        "bracket": 9e9 if kind.polite else 2 * rtt + quiet,
        "exact": kind.trips * rtt + quiet,
        "trial": 3 * rtt + 0.03,
    }
    middle = {what: statistics.median(getattr(x, what) for x in found) for what in bounds}
    cells = [f"{middle[w] * 1e3:.0f}" + ("" if b > 1e9 else f" / {b * 1e3:.0f}") for w, b in bounds.items()]
    worst = max(x.exact for x in found) * 1e3
    busy = statistics.median(x.processor for x in found) * 1e3
    wrong, inexact = sum(w for w, _ in verdicts), sum(u for _, u in verdicts)
    text = f"| {hole} | {server.protocol} | {rtt * 1e3:.0f} | {limit} | {cells[0]} | {cells[1]} | {worst:.0f} |"
    whole = statistics.median(x.whole for x in found) * 1e3
    most = max(x.result.used.connections for x in found)
    text += f" {whole:.0f} | {cells[2]} | {busy:.0f} | {most} | {wrong} | {inexact} |"
    return Row(text, tuple(w for w, b in bounds.items() if middle[w] > b), wrong, inexact)


@contextmanager
def servers(hole: str, rtt: int, limit: int, mtu: int) -> Iterator[list[Server]]:
    """Both protocols, in a lab of their own."""
    cables = HOLES[hole].format(limit=limit, mtu=mtu, rtt=f", rtt: {rtt}" if rtt else "")
    scenario = reader.parse(SCENARIO.format(cables=cables, mtu=mtu).encode())
    with labs.Lab.up(scenario) as lab, tempfile.TemporaryDirectory() as folder:
        fd = os.open(f"/run/netns/{lab.where('c').removeprefix('netns:')}", os.O_RDONLY)
        address = lab.target().split("/")[2].rpartition(":")[0]
        server = web_server(lab, folder) if shutil.which("nginx") else None
        more = 1000 if server else 0
        try:
            both = [Server(fd, address, p + more, name) for name, p in (("http", 8080), ("https", 8443))]
            for one in both:
                listens(one)
            yield both
        finally:
            os.close(fd)
            if server is not None:
                server.terminate()
                server.wait()


def table(name: str, rtts: tuple[int, ...], runs: int) -> tuple[list[str], list[Row]]:
    """The lines of one range, as Markdown, and its rows."""
    kind = RANGES[name]
    lines = [
        f"### {name}: the exact byte after {kind.trips} RTT + S",
        "Medians / bounds, milliseconds; S = max(2 RTT, 50 ms), and 30 ms for each.",
        "",
        "| hole | speaks | RTT | limit | bracket | exact byte | worst | whole | trial | processor | connections | wrong | inexact |",  # noqa: E501
        "|" + "---|" * 13,
    ]
    rows = []
    for hole in HOLES:
        for rtt in rtts:
            for limit in kind.limits:
                with servers(hole, rtt, limit, kind.mtu) as asked:
                    for server in asked:
                        rows.append(row(name, server, hole, limit, rtt / 1e3, runs))
                        lines.append(rows[-1].text)
                        late = f"   late: {', '.join(rows[-1].late)}" if rows[-1].late else ""
                        print(rows[-1].text + late, file=sys.stderr, flush=True)
    late = sum(bool(r.late) for r in rows)
    wrong, inexact = sum(r.wrong for r in rows), sum(r.inexact for r in rows)
    lines += ["", f"{len(rows) - late} of {len(rows)} rows within their bounds; of {2 * runs * len(rows)} numbers"]
    lines[-1] += f" {wrong} wrong, {inexact} not to the byte.\n"
    return lines, rows


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--runs", type=int, default=5)
    options.add_argument("--ranges", default=",".join(RANGES))
    options.add_argument("--rtts", default="0,20,100")
    options.add_argument("--out", type=Path)
    args = options.parse_args()
    reverse.Reverse._new_round = noted  # type: ignore[method-assign]
    after.afterwards = last
    text, wrong = "", 0
    for name in args.ranges.split(","):
        lines, rows = table(name, tuple(int(x) for x in args.rtts.split(",")), args.runs)
        text += "\n".join(lines) + "\n"
        wrong += sum(r.wrong for r in rows)
    print(text)
    if args.out:
        args.out.write_text(text)
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
