"""How long the prober takes, in process, beside what DESIGN asks for. As root: bench/probe_time.py [RUNS]

A lab of plain namespaces per round-trip time (0, 20, 100 ms through a forwarder of pathfit.lab) and per hole: *told*
(both ways, a "too big" comes back on the way out), *silent* (both ways, nobody says anything), *inwards* (only there,
silent); a limit of 1420 (a common size) and of 1337 (nobody's); nginx (pathfit's own Python server where there is
none), http and https. Prints the medians of RUNS (default 10) until the way in is known as a bracket (its first round
was judged) and to the exact byte, each beside its bound (2 RTT and 6 RTT, + S + 30 ms, S = max(2 RTT, 50 ms)), and the
processor time of this process. A shared machine disturbs single figures; medians count, and where they do not,
processor time does: it is what other load stretches.
"""

import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from pathfit.core.evidence import ProbeResult
from pathfit.core.request import Measure
from pathfit.lab import lab as labs
from pathfit.lab import reader
from pathfit.measure import reverse
from pathfit.probe.engine import measure

SCENARIO = """
name: bench-probe
about: One router between, a hole behind it.
ask: {{from: c, to: "https://s:8443/20000"}}
hosts: [h, r, s]
containers:
  c: {{in: h}}
cables:
{cables}
services:
  - {{host: s}}
truth:
  - {{from: c, get: "http://s:8080/5"}}
expect: {{verdict: [broken]}}
"""
HOLES = {
    "told": "  - {{ends: [h, r], mtu: {limit}}}\n  - {{ends: [r, s]{rtt}}}\nfaults:\n  - too_big_lost_at: s",
    "silent": "  - {{ends: [h, r]}}\n  - {{ends: [r, s], carries: {limit}{rtt}}}",
    "inwards": "  - {{ends: [h, r]}}\n  - {{ends: [s, r], carries: {limit}, carries_b: 1500{rtt}}}",
}
NGINX = """daemon off; worker_processes 2; pid {d}/pid; error_log /dev/null; events {{ worker_connections 512; }}
http {{ access_log off; client_body_temp_path {d}/b; proxy_temp_path {d}/p; fastcgi_temp_path {d}/f;
 uwsgi_temp_path {d}/u; scgi_temp_path {d}/s; root {d};
 server {{ listen 9080; listen 9443 ssl; ssl_certificate {c}/chain.pem; ssl_certificate_key {c}/chain.key; }} }}
"""
CERTS = Path(labs.__file__).parent / "certs"


def web_server(lab: labs.Lab, folder: str) -> subprocess.Popen[bytes]:
    """nginx in the server's namespace, in the foreground, with a configuration of its own."""
    Path(folder, "20000").write_bytes(b"x" * 20000)
    Path(folder, "conf").write_text(NGINX.format(d=folder, c=CERTS))
    os.chmod(folder, 0o755)
    name = lab.where("s").removeprefix("netns:")
    return subprocess.Popen(["ip", "netns", "exec", name, "nginx", "-p", folder, "-c", f"{folder}/conf"])


brackets: list[float] = []  # when the second round of the way in began
new_round = reverse.Reverse._new_round


def noted(search: reverse.Reverse, plan: list[tuple[int, str]], now: float) -> None:
    if search.round == 1:
        brackets.append(time.monotonic())
    new_round(search, plan, now)


def once(fd: int, address: str, port: int, protocol: str) -> tuple[float, float, ProbeResult]:
    """(seconds to the bracket, seconds in all, the result)"""
    brackets.clear()
    request = Measure(ref="m", source="x", address=address, port=port, protocol=protocol, host=address, path="/20000")  # type: ignore[arg-type]
    start = time.monotonic()
    result = measure(fd, request)
    took = time.monotonic() - start
    assert isinstance(result, ProbeResult), result
    return (brackets[0] if brackets else start + took) - start, took, result


def processor() -> float:
    """Seconds this process has used."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def row(fd: int, address: str, port: int, protocol: str, hole: str, limit: int, rtt: float, runs: int) -> None:
    once(fd, address, port, protocol)  # imports, neighbours
    times, soon, busy, wrong, unsaid, used = [], [], [], 0, 0, 0
    outwards = (1500, None) if hole == "inwards" else (limit, limit + 1)
    for _ in range(runs):
        before = processor()
        bracket, took, r = once(fd, address, port, protocol)
        busy.append(processor() - before)
        soon.append(bracket)
        times.append(took)
        used = r.used.connections
        for found, truth in ((r.reverse[0], (limit, limit + 1)), (r.forward[0] if r.forward else None, outwards)):
            if found is not None and (found.passes, found.fails) != truth:
                unsaid += found.fails is None
                wrong += found.fails is not None
    quiet = max(2 * rtt, 0.05) + 0.03
    first, middle, worst = statistics.median(soon) * 1e3, statistics.median(times) * 1e3, max(times) * 1e3
    print(
        f"{hole:7s} {protocol:6s} rtt {rtt * 1e3:4.0f} ms  limit {limit}"
        f"  bracket {first:4.0f} (bound {(2 * rtt + quiet) * 1e3:4.0f})"
        f"  exact byte {middle:4.0f}, worst {worst:4.0f} (bound {(6 * rtt + quiet) * 1e3:4.0f})"
        f"  processor {statistics.median(busy) * 1e3:3.0f} ms"
        f"  of {2 * runs} wrong {wrong}, not said {unsaid}  connections {used}",
        flush=True,
    )


def rows(hole: str, rtt: int, limit: int, runs: int) -> None:
    """Both protocols through one lab."""
    cables = HOLES[hole].format(limit=limit, rtt=f", rtt: {rtt}" if rtt else "")
    scenario = reader.parse(SCENARIO.format(cables=cables).encode())
    with labs.Lab.up(scenario) as lab, tempfile.TemporaryDirectory() as folder:
        fd = os.open(f"/run/netns/{lab.where('c').removeprefix('netns:')}", os.O_RDONLY)
        address = lab.target().split("/")[2].rpartition(":")[0]
        server = web_server(lab, folder) if shutil.which("nginx") else None
        try:
            for protocol, port in (("http", 8080), ("https", 8443)):
                row(fd, address, port + (1000 if server else 0), protocol, hole, limit, rtt / 1e3, runs)
        finally:
            os.close(fd)
            if server is not None:
                server.terminate()
                server.wait()


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    reverse.Reverse._new_round = noted  # type: ignore[method-assign]
    for hole in HOLES:
        for rtt in (0, 20, 100):
            for limit in (1420, 1337):
                rows(hole, rtt, limit, runs)


if __name__ == "__main__":
    main()
