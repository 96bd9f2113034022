"""Fuzz every decoder of `trace` with coverage as the guide (atheris, libFuzzer): `make fuzz SECONDS=60`.

    fuzz.py [--seconds N] [--keep DIR] [TARGET ...]      N seconds for each target, two at a time

What a target may raise is written in it; anything else, an invariant that does not hold, or a second spent on one input
is a finding: the input is printed, and kept in DIR. Seeds are made by the code (the forms of tests/unit), never stored.
tests/unit/test_wire_strangers.py asks the same of the same targets with hypothesis.
"""

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve()
TESTS = HERE.parents[1] / "tests" / "unit"
MOST = 900  # bytes of one input
SLOW = 5  # seconds for one input: a decoder needs microseconds


class Target(NamedTuple):
    """``check`` raises when something is wrong; ``seeds``: what it begins with."""

    check: Callable[[bytes], None]
    seeds: Callable[[], list[bytes]]


def _frames() -> list[bytes]:
    sys.path.insert(0, str(TESTS))
    from test_wire_dissect import EVERY, wrapped
    from test_wire_forms import forms, inside

    found = [wrapped(*case)[0] for case in EVERY]
    return found + [f.frame for n in (4, 6) for f in forms(inside(n)).values()]


def frames(data: bytes) -> None:
    """A tap's frame: layers lie within it, one behind the other; what is kept is its beginning, and says the same."""
    from pathfit.model import same
    from pathfit.wire import dissect
    from pathfit.wire.packets import TCP, Icmp, Tcp

    for read in (dissect.frame, dissect.packet):
        found = read(data)
        assert len(found.layers) <= dissect.MOST_LAYERS and len(found.vlans) <= dissect.MOST_TAGS
        at = -1
        for layer in found.layers:
            assert at < layer.at <= len(data) - 20 and layer.at < layer.payload
            assert layer.payload <= len(data) or found.cut
            at = layer.at
        kept = dissect.without_payload(data, found)
        assert data.startswith(kept)
        inner = found.inner
        if inner is None:
            assert read(kept).layers == ()
            continue
        again = read(kept).inner
        assert again is not None
        if isinstance(inner.transport, Tcp) or inner.ip.fragment:
            assert len(kept) <= inner.payload
        if not isinstance(inner.transport, Icmp):
            assert (again.ip, again.at, again.transport) == (inner.ip, inner.at, inner.transport)
            pieces = same.pieces(kept, again, len(data))
            header = inner.ip.protocol == TCP and inner.transport is None and not inner.ip.fragment
            assert header or pieces == same.pieces(data, inner, len(data))
            assert len(pieces) <= 3
            assert all(p.start < p.end <= 1 << 33 for p in pieces)
        assert dissect.without_payload(kept, read(kept)) == kept, "twice is once"


def filters(data: bytes) -> None:
    """The filter in the kernel lets through what the decoder finds of the flow."""
    sys.path.insert(0, str(TESTS))
    from test_wire_cbpf import ENDS, PORT, expected, run
    from test_wire_forms import knows

    from pathfit.wire import cbpf, dissect
    from pathfit.wire.packets import Tcp

    found = dissect.frame(data)
    kept = run(_program(), data)
    assert 0 <= kept <= cbpf.KEEP
    if 0 < kept < min(cbpf.KEEP, len(data)) and found.layers and isinstance(found.layers[0].transport, Tcp):
        assert kept == found.layers[0].payload, "of plain TCP its headers, all of them"
    if knows(data, found) and any(expected(layer, ENDS, PORT) for layer in found.layers[:2]):
        assert kept


def _program() -> list[tuple[int, int, int, int]]:
    from test_wire_cbpf import ENDS, PORT

    from pathfit.wire import cbpf

    if not _programs:
        _programs.append(cbpf.flow(ENDS, (PORT,)))
    return _programs[0]


_programs: list[list[tuple[int, int, int, int]]] = []


def events(data: bytes) -> None:
    """What the tracing program says: nothing, or an event."""
    from pathfit.wire import dissect, traced

    found = traced.event(data)
    if found is not None:
        assert len(found.headers) <= traced.HEADERS and len(found.stack) <= traced.DEPTH
        assert found.hook in traced.HOOKS.values() and all(found.stack)
        dissect.packet(found.headers)


def _events() -> list[bytes]:
    from pathfit.wire import traced

    return [n.to_bytes(1, "little") * traced.EVENT_SIZE for n in range(4)] + [bytes(range(256)) * 2]


def rules(data: bytes) -> None:
    """What nf_tables tells: Malformed, or values."""
    from pathfit.wire import dissect
    from pathfit.wire.netlink import Malformed
    from pathfit.wire.nft import trace

    for read in (trace.messages, trace.touched):
        try:
            found = read(data)
        except Malformed:
            continue
        assert len(found) * 4 <= len(data)
        for one in found:
            if isinstance(one, trace.Trace):
                assert len(one.packet) <= 40 + max(len(one.network), 0) + len(one.transport)
                dissect.packet(one.packet)


def _rules() -> list[bytes]:
    sys.path.insert(0, str(TESTS))
    from test_wire_dissect import A4, A6, B4, B6
    from test_wire_nft_trace import RULE, message

    from pathfit.wire.nft import mark

    return [message(*RULE), message(*RULE) * 3, mark.batch("x", mark.Flow([A4, B4, A6, B6], 6, (443,)))[:MOST]]


def blocks(data: bytes) -> None:
    """A block of a ring: packets that lie in it."""
    from pathfit.wire import tpacket

    if len(data) >= 24:
        tpacket.ready(data, 0)
        found = list(tpacket.packets(data, 0, len(data)))
        assert len(found) * tpacket.LEAST <= len(data)
        assert all(len(x.data) <= len(data) for x in found)
        moved = bytes(8) + data + bytes(64)
        assert list(tpacket.packets(moved, 8, len(data))) == found, "wherever it lies, and nothing of what is behind it"


def _blocks() -> list[bytes]:
    import struct

    head = struct.pack("=IIIIII", 1, 0, 1, 2, 48, 300) + bytes(24)
    one = (
        struct.pack("=IIIIIIHHII", 96, 7, 8, 20, 60, 16, 68, 0, 0, 5)
        + bytes(12)
        + struct.pack("=HHiHBB", 17, 8, 1, 1, 4, 6)
    )
    return [head + one.ljust(96, b"d") + one.ljust(96, b"e"), head]


def captures(data: bytes) -> None:
    """What is written is a capture, whatever is in it, and comes back."""
    sys.path.insert(0, str(TESTS))
    from pcapng_reader import read

    from pathfit.wire import pcapng

    text = data[:40].decode("utf-8", "replace")
    number = int.from_bytes(data[:8].ljust(8, b"\0"), "big")
    whole = pcapng.section(text) + pcapng.link(text, text[:5], linktype=pcapng.RAW)
    whole += pcapng.packet(0, number, data, length=len(data) + number % 7, comment=text, direction=number % 3)
    (link,), (packet,) = read(whole)
    assert (link.name, link.linktype) == (text, pcapng.RAW)
    assert (packet.time, packet.data, packet.length) == (number, data, len(data) + number % 7)


def ways(data: bytes) -> None:
    """What comes by at three points, whatever it is: where it was lost, and the ladder, without end or exception."""
    from pathfit.core.evidence import TraceFact
    from pathfit.core.net import Point
    from pathfit.core.request import Watch
    from pathfit.core.tracing import Seen, Stop, Tap
    from pathfit.follow.rows import rows
    from pathfit.follow.seen import ways as seen_on

    taps = tuple(Tap(at=Point(host="h", netns="n", link=f"l{n}"), netns="4:1", link=n, raw=n == 2) for n in range(3))
    seen = []
    at = 0
    while at < len(data) and len(seen) < 12:  # a byte for the point and the way, one for the length, then the frame
        size, how = data[at + 1 : at + 2], data[at]
        end = at + 2 + (size[0] if size else 0)
        seen.append(
            Seen(tap=how % 3, time=1 + how * 50_000_000, length=how * 9, out=bool(how & 128), data=data[at + 2 : end])
        )
        at = end
    stops = tuple(Stop(n, out) for n in range(3) for out in (False, True))
    hosts = ("192.0.2.1", "198.51.100.2", "2001:db8::1", "2001:db8::2")
    watch = Watch(ref="w", address=hosts[1], taps=taps, hosts=hosts, ports=(443,), forward=stops, reverse=stops[::-1])
    fact = TraceFact(ref="w", taps=taps, opened=(0, 1, 2), seen=tuple(seen), ended=20_000_000_000)
    both = seen_on(fact, watch)
    told = rows(both)
    assert len(told) <= 2 * len(seen)
    for way in both:
        assert all(p.sighting.point < len(way.stops) for p in way.packets)
        assert all(x.start < x.end and x.times > 0 for x in way.result.lost)


def _ways() -> list[bytes]:
    sys.path.insert(0, str(TESTS))
    from test_wire_dissect import OUTER, WRAPPED, ether
    from test_wire_forms import inside

    from pathfit.wire.datagram import fragments

    frames = [f for f in _frames() if len(f) < 256]
    cut = [ether(p) for n in (4, 6) for p in fragments(*OUTER[n], WRAPPED["vxlan"](inside(4))[1], 9, 120)]
    found = [b"".join(bytes((n, len(f))) + f for n in (0, 1, 129)) for f in (*frames, *cut)]
    return [*found, b"".join(bytes((1, len(f))) + f for f in cut)]


TARGETS = {
    "ways": Target(ways, _ways),
    "frames": Target(frames, _frames),
    "filters": Target(filters, _frames),
    "events": Target(events, _events),
    "rules": Target(rules, _rules),
    "blocks": Target(blocks, _blocks),
    "captures": Target(captures, lambda: [b"", b"a comment", bytes(range(100))]),
}


def one(name: str, seconds: int, folder: Path) -> int:
    """One target in this process; never returns (libFuzzer ends it)."""
    import atheris

    with atheris.instrument_imports(include=["pathfit"]):
        from pathfit.follow import rows, seen
        from pathfit.model import same
        from pathfit.wire import cbpf, dissect, pcapng, tpacket, traced
        from pathfit.wire.nft import trace
    assert all((rows, seen, same, cbpf, dissect, pcapng, tpacket, traced, trace))
    target = TARGETS[name]
    seeds = folder / name
    seeds.mkdir(exist_ok=True)
    for n, seed in enumerate(target.seeds()):
        (seeds / f"seed-{n}").write_bytes(seed)
    limits = [f"-max_total_time={seconds}", f"-max_len={MOST}", f"-timeout={SLOW}", "-rss_limit_mb=1024"]
    atheris.Setup(
        ["fuzz", *limits, "-print_final_stats=1", f"-artifact_prefix={folder}/{name}-", str(seeds)], target.check
    )
    atheris.Fuzz()
    return 0


class Done(NamedTuple):
    name: str
    runs: int
    found: str


def apart(name: str, seconds: int, folder: Path) -> Done:
    """One target in a process of its own."""
    argv = [sys.executable, str(HERE), "--one", name, "--seconds", str(seconds), "--keep", str(folder)]
    done = subprocess.run(argv, capture_output=True, text=True, errors="replace", timeout=seconds + 120, check=False)
    counted = re.search(r"stat::number_of_executed_units:\s*(\d+)", done.stderr)
    runs = int(counted[1]) if counted else 0
    return Done(name, runs, "" if done.returncode == 0 and runs else (done.stdout + done.stderr)[-4000:])


def all_of(names: list[str], seconds: int, folder: Path) -> Iterator[Done]:
    with ThreadPoolExecutor(2) as two:
        yield from two.map(lambda name: apart(name, seconds, folder), names)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("targets", nargs="*", choices=[*TARGETS, []], metavar="TARGET", help=" ".join(TARGETS))
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--keep", type=Path, help="where inputs that were found out are kept")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        return one(asked.one, asked.seconds, asked.keep)
    with tempfile.TemporaryDirectory() as made:
        folder = asked.keep or Path(made)
        folder.mkdir(exist_ok=True)
        bad = 0
        for done in all_of(asked.targets or list(TARGETS), asked.seconds, folder):
            word = "FOUND" if done.found else "nothing found"
            print(f"{done.name:10} {done.runs:>10} executions in {asked.seconds} s: {word}", flush=True)
            if done.found:
                bad += 1
                print(done.found)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
