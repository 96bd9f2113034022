"""One lab from seed to verdict; many in worker processes."""

import hashlib
import multiprocessing
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from oracle import truth as facts
from oracle.build import Built, own_mounts
from oracle.compare import Asking, Verdict, judge
from oracle.generate import Lab, generate
from oracle.truth import SMALLEST, Ends, Stream, Streams, Talk, Truth, way
from pathfit.core.codec import dump
from pathfit.core.snapshot import HostSnapshot

PATIENCE, LONG = 0.2, 1.0  # seconds until a packet counts as lost: at first, and where that was a surprise


@dataclass
class Run:
    """A lab that was built and looked at."""

    lab: Lab
    host: HostSnapshot
    truth: Truth
    verdict: Verdict
    took: float
    hasty: tuple[str, ...] = ()  # what was wrong at first, before it was measured again with patience

    def report(self) -> str:
        """Everything that is needed to have the same lab again."""
        lab = self.lab
        path = Path(tempfile.mkdtemp(prefix="pathfit-oracle-")) / f"{lab.seed}.json"
        path.write_bytes(dump(self.host))
        return "\n".join(
            [
                f"lab {lab.seed} ({lab.main}; with {', '.join(lab.inside)}): python bench/oracle.py --lab {lab.seed}",
                f"  asked: {lab.a} -> {lab.to} (lives in {lab.b} as {lab.at}), ports {lab.sport} > {lab.dport}",
                f"  snapshot ({'warm' if lab.warm else 'cold'}): {path}",
                *(f"  WRONG {x}" for x in self.verdict.wrong),
                *(f"  unknown {x}" for x in self.verdict.unknown),
                *(f"  | {x}" for x in lab.text.splitlines()),
                *(f"  | then: {ns}: ip {line}" for ns, line in lab.later),
            ]
        )


def run(lab: Lab) -> Run:
    """Build it, look, compare; once more with patience when they disagree."""
    begun = time.perf_counter()
    host, truth = look(lab, PATIENCE)
    verdict = judge(lab, host, truth)
    hasty = tuple(verdict.wrong)
    if hasty:
        host, truth = look(lab, LONG)
        verdict = judge(lab, host, truth)
    return Run(lab, host, truth, verdict, time.perf_counter() - begun, hasty)


def run_seed(seed: int) -> Run:
    return run(generate(seed))


def look(lab: Lab, patience: float) -> tuple[HostSnapshot, Truth]:
    """The snapshot pathfit reads of the lab, and what passes in it."""
    with Built(lab.text, lab.offload) as built:
        return _looked(built, lab, patience)


def _looked(built: Built, lab: Lab, patience: float) -> tuple[HostSnapshot, Truth]:
    there = Ends(lab.a, lab.b, lab.to, lab.at, lab.sport, lab.dport)
    keep = lab.a if lab.later else ""
    host = None if lab.warm or keep else built.snapshot()
    talk = Talk(built, lab.family, there, patience, keep)
    try:
        small = talk.open()
        answer = talk.small(True) if small.how == "whole" else None
        if keep:
            talk.probe(False, talk.own_mtu(), True)
            for ns, line in lab.later:
                built.ip(ns, line)
        host = host or built.snapshot()
        asking = Asking(lab, host)
        seen = Truth(way(talk, small, False, True, lab.top, sizes(asking, "forward")))
        if answer is not None:
            seen.reverse = way(talk, answer, True, True, lab.top, sizes(asking, "reverse"))
        if lab.family == 4 and not keep:
            seen.forward_may = way(talk, small, False, False, lab.top, sizes(asking, "forward_may"))
    finally:
        talk.close()
    if not keep:
        _back(built, lab, patience, asking, seen)
        seen.stream = _stream(built, lab, there, patience, seen)
    return host, seen


def sizes(asking: Asking, which: str) -> list[int]:
    """Sizes worth a look: around what is predicted, and a few that nobody chose."""
    p = asking.udp(which, asking.lab.top)
    drawn = int.from_bytes(hashlib.sha256(f"{asking.lab.seed} {which}".encode()).digest()[:6], "big")
    some = [SMALLEST + 1 + (drawn >> shift) % (asking.lab.top - SMALLEST - 1) for shift in (0, 16, 32)]
    return some + [x + d for x in ([p.mtu] if p.mtu else []) + [x.mtu for x in p.limits] for d in (0, 1)]


def _back(built: Built, lab: Lab, patience: float, asking: Asking, seen: Truth) -> None:
    """The other end asks: without DF always, with DF where its answers could not be looked at."""
    talk = Talk(built, lab.family, Ends(lab.b, lab.a, lab.home, lab.home, lab.sport, lab.dport), patience)
    try:
        small = talk.open()
        if seen.reverse is None or small.how != "whole":
            seen.back_asked = way(talk, small, False, True, lab.top, sizes(asking, "back_asked"))
        if lab.family == 4 and small.how == "whole":
            seen.back_asked_may = way(talk, small, False, False, lab.top, sizes(asking, "back_asked_may"))
    finally:
        talk.close()


def _stream(built: Built, lab: Lab, there: Ends, patience: float, seen: Truth) -> Stream:
    streams = Streams(built, lab.family, there, patience)
    try:
        said = streams.first()
        if not (said.syn and said.synack):
            return said
        said.forward = streams.bulk(False).how in ("whole", "told")
        said.reverse = streams.bulk(True).how in ("whole", "told")
        for reverse, direction in ((False, seen.forward), (True, seen.reverse)):
            if direction is None or direction.limit is None:
                continue
            for size in (direction.limit, direction.limit + 1):
                mss = size - facts.TCP_OVER[lab.family]
                if 88 <= mss <= 32767:
                    got = streams.bulk(reverse, mss)
                    if got.value == size or got.how == "told":  # else the peers agreed on less
                        said.sized[reverse, size] = got
        return said
    finally:
        streams.close()


def many(seeds: Sequence[int], jobs: int) -> Iterator[Run]:
    """Labs in worker processes, in whatever order they finish."""
    context = multiprocessing.get_context("forkserver")
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=own_mounts) as pool:
        yield from pool.map(run_seed, seeds, chunksize=1)
