"""What a watch costs whoever sends beside it, and what it misses itself. `make bench-trace`.

    python -m bench.trace_overhead [--rounds 30] [--peers 10] [--out FILE.md]      (root; under tools/isolated)

On a way of six taps (bench/trace_way.py), nothing but senders on it:

* *others*: datagrams of 64 bytes as fast as one processor sends them, or bulk TCP, not of the flow that is watched;
* *the flow itself*: bulk TCP that is watched, until the watch has what it keeps and ends by itself, and on;
* *parts*: sockets and programs alone, and fewer taps: what of it costs what (bench/trace_parts.py);
* *kept*: a flow of 5000 datagrams a second beside 200 000 others a second: at each tap, kept + lost must be what the
  kernel counts there (nft, ingress and egress), to the packet.

Each round is a pair, with and without, in turns first: what is said is the median of the pairs' ratios and their
quartiles. *rate*: datagrams or bytes a second, by the clock; *per CPU*: a second of the sender's processor time, in
which the whole way is walked here (veth hands a packet on within the sender's own call): of a busy machine it says
more. Beside it tcpdump at the same six devices with the same filter, and bpftrace, where they are installed.
Exit status 1 when a count was wrong, never because it was slow.
"""

import argparse
import os
import select
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import NamedTuple

from bench.prober import commit, machine
from bench.trace_parts import parts, tracing
from bench.trace_way import CLIENT, CLOSED, DEVICES, FLOW, HOSTS, OTHER, PORT, SERVER, Sender, Way

from pathfit.capture.watch import Watcher
from pathfit.core.evidence import TraceFact
from pathfit.core.request import EndWatch, Watch
from pathfit.host.ring import Ring

MS = 250  # of one half of a pair
OFFLOADS = {"on": "as devices are made (TSO, GSO, GRO)", "off": "segment by segment"}
IPV4 = [(0x28, 0, 0, 12), (0x15, 0, 1, 0x0800), (6, 0, 0, 64), (6, 0, 0, 0)]
CABLES = ((0, 1), (2, 3), (4, 5))  # of DEVICES
OWN, BESIDE, SECONDS = 5000, 200_000, 2.0
BPFTRACE = """
tracepoint:net:net_dev_start_xmit, tracepoint:net:netif_receive_skb, tracepoint:skb:kfree_skb {
  $skb = (struct sk_buff *)args->skbaddr;
  $ip = (struct iphdr *)($skb->head + $skb->network_header);
  if ($ip->saddr == (uint32)%d && $ip->daddr == (uint32)%d) { @[probe] = count(); }
}
interval:s:9999 { exit(); }
"""

Watching = Callable[[], AbstractContextManager[object]]


class Ratio(NamedTuple):
    """With / without: the median of the pairs, and their quartiles."""

    low: float
    median: float
    high: float

    @staticmethod
    def of(pairs: Sequence[float]) -> "Ratio":
        low, median, high = statistics.quantiles(pairs, n=4, method="inclusive")
        return Ratio(low, median, high)

    def __str__(self) -> str:
        return f"**{self.median:.2f}** ({self.low:.2f}-{self.high:.2f})"


class Watched:
    """A watch of one flow over the whole way. ``only``: numbers of the taps it has; ``foretold``: state foretells a
    loss, so that rules of packet filters are asked at once and each tap hears both what comes in and what leaves;
    ``fact``: what it saw, when it is over; ``cpu``: seconds it took."""

    def __init__(
        self, way: Way, port: int, only: Collection[int] = range(len(DEVICES)), *, foretold: bool = False
    ) -> None:
        self._request = Watch(
            ref="watch",
            address=SERVER,
            taps=tuple(way.taps[n] for n in only),
            hosts=(CLIENT, SERVER),
            ports=(port,),
            namespaces=tuple((host, host) for host in HOSTS),
            patient=not foretold,
            cables=() if foretold else tuple(c for c in CABLES if {*c} <= {*only}),
        )
        self._files, self._tables = way.files, way.tables()
        self.fact: TraceFact | None = None
        self.cpu = self.wall = 0.0

    @property
    def share(self) -> float:
        """Percent of one processor that it took."""
        return self.cpu / self.wall * 100

    @contextmanager
    def __call__(self) -> Iterator[None]:
        watcher = Watcher(self._request, self._files, self._tables)
        opened = watcher.begin()
        assert opened == len(self._request.taps), "every tap can be had"
        began, cpu = time.monotonic(), time.process_time()
        yield
        self.cpu, self.wall = time.process_time() - cpu, time.monotonic() - began
        self.fact = watcher.end(EndWatch(ref="end", linger=0.0))


@contextmanager
def tcpdump(way: Way) -> Iterator[None]:
    flow = f"host {CLIENT} and host {SERVER} and port {FLOW} or icmp and host {CLIENT}"
    with ExitStack() as stack:
        for host, link in DEVICES:
            words = ("ip", "netns", "exec", way(host), "tcpdump", "-i", link, "-nn", "-s", "256", "-w", "/dev/null")
            one = stack.enter_context(subprocess.Popen([*words, flow], stderr=subprocess.PIPE, text=True))
            stack.callback(one.terminate)
            assert one.stderr is not None
            assert any("listening" in line for line in iter(one.stderr.readline, "")), "tcpdump does not run here"
        yield


@contextmanager
def bpftrace() -> Iterator[None]:
    text = BPFTRACE % tuple(int.from_bytes(bytes(map(int, a.split("."))), sys.byteorder) for a in (CLIENT, SERVER))
    if not Path("/sys/kernel/tracing/events").exists():  # in the mount namespace of tools/isolated alone
        subprocess.run(["mount", "-t", "tracefs", "tracefs", "/sys/kernel/tracing"], check=True)
    words = ["bpftrace", "-e", 'BEGIN { printf("on\\n"); }' + text]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as one:
        assert one.stdout is not None
        assert any(line == "on\n" for line in iter(one.stdout.readline, "")), "bpftrace does not run here"
        yield
        one.terminate()


class Row(NamedTuple):
    """``rate``: datagrams a second that are sent, 0 as many as go; ``kind``: "udp" or "tcp"; ``ms``: of one half of a
    pair."""

    what: str
    watching: Watching
    sender: Sender
    rounds: int
    who: str = "pathfit"
    kind: str = "udp"
    rate: int = 0
    ms: int = MS


def half(way: Way, row: Row) -> tuple[float, float]:
    """What arrives a second: of the clock; of the sender's processor time."""
    before = way.arrived()
    sent = row.sender.send(row.ms, row.rate)
    count = way.arrived() - before if row.kind == "udp" else sent.count
    return count / sent.wall * 1e9, count / max(1, sent.cpu) * 1e9


def line(way: Way, row: Row) -> str:
    """Pairs, with and without, and what they say."""
    row.sender.send(row.ms, row.rate)  # what is only slow the first time
    rates, cpus, without = [], [], []
    for n in range(row.rounds):
        found = {}
        for on in (False, True) if n % 2 else (True, False):
            with row.watching() if on else nullcontext():
                found[on] = half(way, row)
        rates.append(found[True][0] / found[False][0])
        cpus.append(found[True][1] / found[False][1])
        without.append(found[False][0])
    cpu = Ratio.of(cpus) if row.kind == "udp" else "-"  # TCP walks its way on every processor
    shown = f"| {row.what} | {row.who} | {Ratio.of(rates)} | {cpu} | {statistics.median(without):,.0f} |"
    print(shown, flush=True)
    return shown


def others(way: Way, rounds: int, peers: int) -> list[str]:
    """The table of those that only pass by."""
    watched = Watched(way, FLOW)
    ours, bulk = way.sender("udp", OTHER), way.sender("tcp", OTHER)
    blast = "datagrams of 64 bytes"
    rows = [
        Row(f"{blast}, as many as go", watched, ours, rounds),
        Row(f"{blast}, as many as go", Watched(way, FLOW, foretold=True), ours, rounds, "pathfit, a loss foretold"),
        Row(f"{blast}, between the flow's addresses", watched, way.sender("udp", SERVER), rounds),
        Row(f"{blast}, dropped at the end by a rule", watched, way.sender("udp", OTHER, CLOSED), rounds),
        Row(f"{blast}, {BESIDE:,} a second offered", watched, ours, rounds, rate=BESIDE),
    ]
    for name, watching in {"tcpdump": lambda: tcpdump(way), "bpftrace": bpftrace}.items():
        if peers and shutil.which(name):
            rows.append(Row(f"{blast}, as many as go", watching, ours, peers, name))
    lines = [line(way, row) for row in rows]
    for word, what in OFFLOADS.items():
        way.offloads(word)
        lines.append(line(way, Row(f"bulk TCP, bytes, {what}", watched, bulk, rounds, kind="tcp")))
    return lines


def of_what(way: Way, rounds: int) -> list[str]:
    """The table of its parts."""
    ours, dropped = way.sender("udp", OTHER), way.sender("udp", OTHER, CLOSED)
    rows = [
        Row("as many as go", Watched(way, FLOW, (0, 5)), ours, rounds, "pathfit, two taps: the first, the last"),
        Row("as many as go", Watched(way, FLOW, (0, 1, 4, 5)), ours, rounds, "pathfit, four taps: the outer cables'"),
        *(Row("as many as go", one, ours, rounds, name) for name, one in parts(way).items()),
        Row(
            "dropped at the end",
            lambda: tracing("dropped"),
            dropped,
            rounds,
            "the tracing program, dropped packets alone",
        ),
    ]
    return [line(way, row) for row in rows]


def itself(way: Way, rounds: int) -> list[str]:
    """Bulk TCP that is the flow: watched until there is enough."""
    bulk = way.sender("tcp", SERVER)
    watched = Watched(way, PORT)
    lines = []
    for word, what in OFFLOADS.items():
        way.offloads(word)
        name = f"bulk TCP that is the flow, its first second, {what}"
        shown = line(way, Row(name, watched, bulk, max(2, rounds // 2), kind="tcp", ms=1000))
        fact = watched.fact
        assert fact is not None
        lines.append(f"{shown[:-2]}; {len(fact.seen)} kept, {sum(x.lost for x in fact.lost)} lost |")
    return lines


def kept(way: Way) -> tuple[list[str], bool]:
    """Is every packet of the flow, beside many others, kept or counted as lost?"""
    way.offloads("on")
    own, beside = way.sender("udp", SERVER, FLOW), way.sender("udp", OTHER)
    watched = Watched(way, FLOW)
    ms = int(SECONDS * 1000)
    with way.counted(FLOW) as counts, watched():
        beside.start(ms + 200, BESIDE)
        time.sleep(0.1)  # the others are under way
        sent = own.send(ms, OWN)
        passed = beside.done()
    fact = watched.fact
    assert fact is not None
    lost = {x.tap: x.lost for x in fact.lost}
    here = {n: sum(x.tap == n for x in fact.seen) for n in range(len(DEVICES))}
    right = all(here[n] + lost.get(n, 0) == counts[n] for n in here)
    lines = ["| tap | the kernel counts | kept | lost by us | |", "|---|---|---|---|---|"]
    for n, (host, link) in enumerate(DEVICES):
        word = "right" if here[n] + lost.get(n, 0) == counts[n] else "**wrong**"
        lines.append(f"| {host}/{link} | {counts[n]} | {here[n]} | {lost.get(n, 0)} | {word} |")
    share = sum(lost.values()) / max(1, sum(counts.values())) * 100
    lines += [
        "",
        f"{sent.count} datagrams sent in {sent.wall / 1e9:.1f} s, {passed.count / passed.wall * 1e9:,.0f} others a",
        f"second meanwhile; lost by us: {share:.2f} %. The watch itself took {watched.share:.1f} % of one processor.",
    ]
    return lines, right


def idle(way: Way) -> str:
    """What a watch takes while nothing passes."""
    watched = Watched(way, FLOW)
    with watched():
        time.sleep(2)
    return f"While nothing passes, it takes {watched.share:.1f} % of one processor."


def starting(way: Way, rounds: int) -> str:
    """From exec to the first packet, and how long the watch takes of it."""
    target, source = f"tcp://{SERVER}:{PORT}", f"netns:{way('c')}"
    commands = {
        "probe": ("ip", "netns", "exec", way("c"), sys.executable, "-m", "pathfit", "probe", target),
        "diagnose": (sys.executable, "-m", "pathfit", "diagnose", "--from", source, "--to", target),
        "trace": (sys.executable, "-m", "pathfit", "trace", "--from", source, "--to", target),
    }
    took: dict[str, list[float]] = {name: [] for name in commands}
    begin = []
    for _ in range(rounds):
        for name, words in commands.items():
            took[name].append(first_packet(way, words))
        start = time.monotonic()
        with Watched(way, FLOW)():
            begin.append((time.monotonic() - start) * 1000)
    said = ", ".join(f"`{k}` {statistics.median(v):.0f} ms (best {min(v):.0f})" for k, v in took.items())
    return f"From exec to the first packet: {said}. Opening the watch: {statistics.median(begin):.0f} ms."


def first_packet(way: Way, words: Sequence[str]) -> float:
    """Milliseconds until that command sends its first packet; it is ended then."""
    ring = Ring(way.files["c"], way.taps[0].link, IPV4)
    start = time.time_ns()
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as one:
        select.select([ring.fd], [], [], 20)
        one.terminate()
    first = next(ring.read())
    ring.close()
    return (first.time - start) / 1e6


def load() -> str:
    return " ".join(f"{x:.1f}" for x in os.getloadavg())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--peers", type=int, default=10, help="rounds of tcpdump and bpftrace, 0 for none")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    before, began = load(), time.monotonic()
    heads = ("what is sent", "who watches", "rate, with / without", "per CPU", "a second, without")
    with ExitStack() as stack:
        way = Way(stack)
        rows = [*others(way, given.rounds, given.peers), *itself(way, given.rounds)]
        way.offloads("on")
        pieces = of_what(way, given.rounds)
        counts, right = kept(way)
        rest = ["", starting(way, max(3, given.rounds // 3)), "", idle(way)]
    text = "\n".join(
        [
            f"# {time.strftime('%Y-%m-%d')}, what a watch costs: commit {commit()}",
            "",
            f"`make bench-trace`: {machine()}; {given.rounds} pairs of {MS} ms each ({given.peers} of the peers);",
            f"load before {before}, after {load()}; {time.monotonic() - began:.0f} s. Six taps on {' - '.join(HOSTS)}.",
            "Ratios: the median of the pairs, and their quartiles.",
            "",
            f"| {' | '.join(heads)} |",
            "|---" * len(heads) + "|",
            *rows,
            "",
            "The same 64 bytes, by parts:",
            "",
            f"| {' | '.join(heads)} |",
            "|---" * len(heads) + "|",
            *pieces,
            "",
            f"A watched flow of {OWN} datagrams a second:",
            "",
            *counts,
            *rest,
            "",
        ]
    )
    print(text)
    if given.out:
        given.out.write_text(text, encoding="utf-8")
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
