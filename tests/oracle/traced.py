"""Random labs with one fault (:mod:`oracle.faults`): built, proved with curl, asked with `pathfit trace`, judged by
what the seed says.

Labs are built in worker processes, each with mounts and processes of its own: what is visible to pathfit there is one
lab and nothing else, and whatever a worker started ends with it.
"""

import contextlib
import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NamedTuple

from oracle.build import BuildError, Built, own_mounts
from oracle.faults import ALL, FORWARD, NONE, OTHER, SIZED, Device, Place, TraceLab, datagrams, generate
from pathfit.host.netns import inside
from pathfit.lab.services.listen import listeners

PATHFIT = str(Path(sys.executable).with_name("pathfit"))
SERVICE = {
    "behave": "answer", "cert": "chain", "alpn": (), "status": 200, "version": "1.1", "ranges": True, "writes": 1,
    "after": 0.0, "backlog": 128,
}  # fmt: skip
LARGE = 60_000  # bytes: many full segments
HANGS = 1.2  # seconds after which curl has got nothing
WARM = 0.3  # seconds for one connection; the next one asks again
ENOUGH = 5.0  # seconds in which curl gets everything where nothing is wrong
# What counters and answers on the wire say where the kernel tells nothing: it is less exact, and true.
LESS = {
    "no-route": ("refused-by-route",),
    "device": ("traffic-control", "queue-full"),
    "traffic-control": ("queue-full",),
    "answered-by-router": ("too-big", "outer-too-big"),
    "unreachable": ("no-neighbour", "link-down", "refused-by-route"),
}  # fmt: skip
OWN = ("too-big", "peer-too-small", "port-too-small", "answered")  # words of which the MTU is that of lost packets
ROOM = 4  # bytes that layer 2 lets pass above it
ENDS, ASKED = 30, 50.0  # seconds for one trace: it ends, or is taken for one that does not
ISOLATED = ("unshare", "--pid", "--fork", "--kill-child", "--mount", "--mount-proc")
# as a container sees it: no names of namespaces, no processes but its own
ALONE = (*ISOLATED, "sh", "-c", 'umount -l /run/netns; mount -t tmpfs tmpfs /run; exec "$@"', "sh")
# where the kernel tells of no drop: without its types (BTF) no program can be loaded
UNTOLD = ("unshare", "--mount", "sh", "-c", 'mount -t tmpfs tmpfs /sys/kernel/btf && exec "$@"', "sh")
HERE = Path(__file__).parent
WORK = "import sys; sys.path[:0] = sys.argv[1:3]; from oracle.traced import work; work()"


@dataclass
class Result:
    """``verdict``: "right", "wrong", "unknown" (something that must be said was not), or "unproved" (the lab did not
    fail as meant). ``why``: each disagreement. ``pairs``, ``behind``: faults of which both devices were named, and
    those behind which the way ends; ``took``, ``asked``, ``cpu``: seconds for all of it, for pathfit, of processors.
    """

    seed: int
    verdict: str
    why: list[str] = field(default_factory=list)
    pairs: int = 0
    behind: int = 0
    took: float = 0.0
    asked: float = 0.0
    cpu: float = 0.0
    twice: str = ""  # what came out at first, where it was built once more
    said: dict[str, Any] | None = None


class EndlessError(RuntimeError):
    """`pathfit trace` does not end in the time that it was given."""


class Asked(NamedTuple):
    """A lab, and how: ``blind``: from the container's side alone; ``untold``: the kernel tells of no drop; ``udp``:
    of a port where nothing listens."""

    seed: int
    blind: bool = False
    untold: bool = False
    udp: bool = False

    @property
    def lab(self) -> TraceLab:
        return datagrams(generate(self.seed)) if self.udp else generate(self.seed)


# -- a lab's own proof -------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def serving(built: Built, lab: TraceLab) -> Iterator[None]:
    """A web server in the lab's last host: a process of its own."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        try:
            with inside(built.spaces[lab.b].fd):
                (loop,) = listeners({**SERVICE, "kind": lab.scheme, "port": lab.port})
                os.write(write, b"1")
                loop()
        finally:
            os._exit(1)
    os.close(write)
    try:
        with open(read, "rb") as ready:
            if not ready.read(1):
                raise BuildError("the server does not start")
        yield
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def url(lab: TraceLab, size: int = LARGE) -> str:
    host = f"[{lab.to}]" if lab.family == 6 else lab.to
    return f"{lab.scheme}://{host}:{lab.port}/{size}"


def curl(built: Built, lab: TraceLab, *wants: tuple[str, int], seconds: float) -> list[bool]:
    """Are requests ("get" or "post", bytes) answered? All at once."""
    running = []
    for what, size in wants:
        words = ["curl", "-gsk", "-o", "/dev/null", "-m", str(seconds), "-w", "%{http_code}"]
        words += ["--noproxy", "*", url(lab, size if what == "get" else 5)]
        if what == "post":
            words += ["-H", "Expect:", "--data-binary", "@-"]
        with built.at("a"):
            one = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        running.append((one, b"x" * size if what == "post" else b""))
    found = []
    with ThreadPoolExecutor(len(running)) as pool:
        for (one, _), (said, _) in zip(running, pool.map(lambda x: x[0].communicate(x[1]), running), strict=True):
            found.append(one.returncode == 0 and said == b"200")
    return found


def connects(built: Built, lab: TraceLab) -> bool:
    """Is a connection made? Then everybody has asked for everybody's hardware address as well: what is lost afterwards
    is not lost for that."""
    end = time.monotonic() + ENOUGH
    while time.monotonic() < end:
        with built.socket("a", socket.AF_INET6 if lab.family == 6 else socket.AF_INET, socket.SOCK_STREAM) as one:
            one.settimeout(WARM)
            with contextlib.suppress(OSError):
                one.connect((lab.to, lab.port))
                return True
    return False


def proved(built: Built, lab: TraceLab) -> str:
    """Does it fail as meant? What does not."""
    if lab.passes != NONE and not connects(built, lab):
        return "no connection"
    large = ("post" if lab.direction == FORWARD else "get", LARGE)
    if lab.passes == ALL or lab.clamped:
        got = curl(built, lab, ("get", LARGE), ("post", LARGE), seconds=ENOUGH)
        built.forget()
        return "" if all(got) else f"a whole lab: {got}"
    if lab.passes == NONE:
        (got,) = curl(built, lab, ("get", 5), seconds=HANGS)
        return "it works" if got else ""
    if lab.passes == SIZED:
        wants = [large] if lab.scheme == "https" else [large, ("get", 5)]
        first, *small = curl(built, lab, *wants, seconds=HANGS)
        built.forget()
        fine = not first and all(small)
        return "" if fine else f"large {first}, small {small}"
    curl(built, lab, ("get", 5 * LARGE), ("post", 5 * LARGE), seconds=HANGS)
    with built.at(lab.counted):
        rules = subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True, check=True).stdout
    return "" if re.search(r"numgen .* counter packets [1-9]", rules) else "nothing was lost"


# -- what pathfit says -------------------------------------------------------------------------------------------------


def ask(built: Built, lab: TraceLab, how: Asked) -> dict[str, Any]:
    to = url(lab) if not how.udp else f"udp://{url(lab).split('/')[2]}"
    words = [PATHFIT, "trace", "--to", to, "--json", "--timeout", str(ENDS)]
    words = [*ALONE, *words] if how.blind else [*words, "--from", "netns:a"]
    words = [*UNTOLD, *words] if how.untold else words
    environment = {**os.environ, "PYTHONFAULTHANDLER": "1"}
    with built.at("a") if how.blind else contextlib.nullcontext():
        one = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)
    try:
        out, err = one.communicate(timeout=ASKED)
    except subprocess.TimeoutExpired:
        one.send_signal(signal.SIGABRT)  # then it says where it is
        out, err = one.communicate()
        raise EndlessError(f"not done after {ASKED} s: {err.decode(errors='replace')}") from None
    if not out:
        raise BuildError(f"pathfit: status {one.returncode}: {err.decode(errors='replace')}")
    document: dict[str, Any] = json.loads(out)
    return document


class Said(NamedTuple):
    """One loss of the report."""

    direction: str
    after: Device | None
    before: Device | None
    words: tuple[str, ...]
    mtus: tuple[int | None, ...]
    places: tuple[str, ...]
    smallest: int
    passed: int
    error: bool  # what was lost is an ICMP error about packets of the other direction
    untold: tuple[tuple[str, str], ...]  # what took the ICMP error about it, and in which namespace

    @staticmethod
    def of(loss: dict[str, Any], names: dict[str, str]) -> "Said":
        causes = [c for c in loss["causes"] if not c["why"].startswith("untold")]
        took = [c for c in loss["causes"] if c["why"].startswith("untold")]
        return Said(
            loss["direction"],
            _device(loss["after"], names),
            _device(loss["before"], names),
            tuple(c["why"] for c in causes),
            tuple(c["mtu"] for c in causes),
            tuple(names.get(c["at"]["netns"], c["at"]["netns"]) for c in causes),
            loss["smallest"],
            loss["passed"],
            loss["error"] is not None,
            tuple((c["why"], names.get(c["at"]["netns"], c["at"]["netns"])) for c in took),
        )


def _device(at: dict[str, str] | None, names: dict[str, str]) -> Device | None:
    return (names.get(at["netns"], at["netns"]), at["link"]) if at else None


def names_of(built: Built) -> dict[str, str]:
    """What pathfit may call the namespaces of the lab, and what the lab calls them."""
    found = {f"netns:{name}": name for name in built.spaces}
    return found | {f"netns inode {os.fstat(x.fd).st_ino}": name for name, x in built.spaces.items()}


def judge(lab: TraceLab, document: dict[str, Any], names: dict[str, str]) -> Result:
    """Everything visible: each loss that is said must be one that the seed knows, with its word and its MTU, and each
    one that must be said is."""
    result = Result(lab.seed, "right")
    said = [Said.of(x, names) for x in document["losses"]]
    found: set[Place] = set()
    for one in said:
        result.why += _silenced(lab, one)
        if one.error:
            continue
        place = next((p for p in lab.truth if _there(p, one)), None)
        if place is None:
            result.why.append(f"said, but not so: {one}")
            continue
        bad = [w for w in one.words if w not in place.words]
        bad += [f"MTU {x}" for x in one.mtus if x != place.mtu]
        homes = {x[0] for x in (place.after, place.before) if x is not None}
        if cut(lab, place) and not one.passed - ROOM <= (place.mtu or 0) < one.smallest:
            bad.append(f"{one.passed} bytes passed, {one.smallest} did not")
        bad += [f"in {x}" for x in one.places if x not in homes]
        if bad:
            result.why.append(f"right place, but {', '.join(bad)}: {one} for {place}")
        elif one.words:
            found.add(place)
            result.pairs += one.before == place.before
            result.behind += one.before != place.before
    if result.why:
        result.verdict = "wrong"
    result.why += [f"not said: {p}" for p in lab.truth if p.sure and p not in found]
    fine = ("arrives", "unknown") if lab.udp else ("arrives",)  # an error is all that comes back of a closed port
    if document["verdict"] not in (("lost",) if said else fine):
        result.why.append(f"verdict {document['verdict']}")
    if result.why and result.verdict == "right":
        result.verdict = "unknown"
        result.why += [f"missing: {m['what']}: {m['why']}" for m in document.get("missing", ())]
        result.why += [f"a tap lost {p['lost']}" for d in OTHER for p in document[d]["points"] if p["lost"]]
    return result


def judge_untold(lab: TraceLab, document: dict[str, Any], names: dict[str, str]) -> Result:
    """Everything visible but why: each loss that is said is at a place that the seed knows, whatever counters and rules
    add is true, and each one that has a device on both sides is said. Where the way ends with the fault, only a counter
    or a rule can tell of it: then the verdict is not that all arrives."""
    result = Result(lab.seed, "right")
    said = [Said.of(x, names) for x in document["losses"]]
    found: set[Place] = set()
    if document["drops"]["watched"]:
        return Result(lab.seed, "unproved", ["the kernel told of drops"])
    for one in said:
        result.why += _silenced(lab, one, told=False)
        if one.error:
            continue
        place = next((p for p in lab.truth if _near(p, one)), None)
        if place is None:
            result.why.append(f"said, but not so: {one}")
            continue
        found.add(place)
        homes = {x[0] for x in (place.after, place.before) if x is not None}
        bad = [w for w in one.words if not {w, *LESS.get(w, ())}.intersection(place.words)]
        inner = (place.mtu or 0) - 50, (place.mtu or 0) - 70  # what who answers for a tunnel says fits into it
        told = inner if "outer-too-big" in place.words and "answered-by-router" in one.words else ()
        bad += [f"MTU {x}" for x in one.mtus if x not in (None, place.mtu, *told)]
        bad += [f"in {x}" for x in one.places if x not in homes]
        if bad:
            result.why.append(f"right place, but {', '.join(bad)}: {one} for {place}")
        result.pairs += one.before == place.before
        result.behind += one.before != place.before
    if result.why:
        result.verdict = "wrong"
    ends = {d: [_device(p["at"], names) for p in document[d]["points"]][-1:] for d in OTHER}
    missed = [p for p in lab.truth if p.sure and p not in found]
    open_ = [p for p in missed if p.after is not None and ends[p.direction] != [p.after] and p.before is not None]
    if open_ and not result.why:
        result.verdict, result.why = "unknown", [f"not said: {p}" for p in open_]
    if (lab.passes != ALL and not said and document["verdict"] == "arrives") or (
        said and document["verdict"] != "lost"
    ):
        result.verdict, result.why = "wrong", [*result.why, f"verdict {document['verdict']}"]
    return result


def _near(place: Place, one: Said) -> bool:
    """Is it the same place? Where nothing is watched behind it, no device is named there."""
    return (one.direction, one.after) == (place.direction, place.after) and one.before in (place.before, None)


def cut(lab: TraceLab, place: Place) -> bool:
    """Is it certain that what passes is smaller, and what does not larger? Not where somebody learns the size only from
    what was lost (a tunnel), nor where an end sends super-packets (by a bridge of its own; others have them off)."""
    ends = [lab.points[0][1], lab.points[-1][1]]
    own = place.mtu is not None and place.words[0] in OWN and place.sure
    return own and lab.fault != "tunnel outer" and not any(device.startswith("br-") for device in ends)


def _silenced(lab: TraceLab, one: Said, *, told: bool = True) -> list[str]:
    """What is said of ICMP errors that got lost, and is not so: they do where the seed drops them, and where everything
    of their direction is dropped. ``told``: by the kernel; else it may be that nobody knows why."""
    every = [p for p in (*lab.errors, *lab.truth) if (p.direction == one.direction) is one.error]
    why = [(p, w) for p in every for w in (*p.words, *(() if told else ("vanished",)))]
    known = {(w, x[0]) for p, w in why for x in (p.after, p.before) if x is not None}
    bad = [f"{word} in {home}: {one}" for word, home in one.untold if (word.removeprefix("untold-"), home) not in known]
    if not one.error:
        return bad
    # a tap stands behind it, or none, or it passed none at all
    there = any(one.after in (p.after, None) and one.before in (p.before, None) for p in every)
    wrong = [x for x in zip(one.words, one.places, strict=True) if x not in known]
    return bad if there and not wrong else [*bad, f"an error is said to be lost, but not so: {one}"]


def _there(place: Place, one: Said) -> bool:
    """Is it the same place? Where the kernel's word is known, no device behind it needs to be named."""
    if (one.direction, one.after) != (place.direction, place.after):
        return False
    return one.before == place.before or (one.before is None and bool(one.words))


def judge_blind(lab: TraceLab, document: dict[str, Any], names: dict[str, str]) -> Result:
    """From the container's side alone: the way ends at its own device, and nothing is said of devices that are not
    seen; what is said of its own ones is true."""
    result = Result(lab.seed, "right")
    names = {**names, "host": "a", "netns:self": "a"}
    mine = {p for p in lab.points if p[0] == "a"}
    for one in (Said.of(x, names) for x in document["losses"]):
        devices = [x for x in (one.after, one.before) if x is not None]
        if any(x not in mine for x in devices):
            result.why.append(f"a device that is not seen: {one}")
        elif not any(_true_blind(p, one, mine) for p in (*lab.truth, *(lab.errors if one.error else ()))):
            result.why.append(f"said, but not so: {one}")
    if result.why:
        result.verdict = "wrong"
    refused = "counter reject" in lab.text  # from here a reset is an answer
    if lab.passes == NONE and not refused and document["verdict"] == "arrives":
        result.verdict, result.why = "wrong", [*result.why, "it is said to arrive"]
    for way in ("forward", "reverse"):
        end = _device(document[way]["ends"], names)
        if document[way]["points"] and (end is None or end not in mine):
            result.why.append(f"{way}: ends at {end}")
            result.verdict = "wrong"
    if not document["losses"] and lab.passes in (SIZED, NONE) and result.verdict == "right":
        result.verdict, result.why = "unknown", ["nothing is said"]
    return result


def _true_blind(place: Place, one: Said, mine: set[Device]) -> bool:
    """Beyond what is seen, or within: as far as the words and the namespaces of drops go."""
    # where the deciding device is not seen, its route's MTU is not known, and that is said
    words = {w.replace("above-path-mtu", "too-big") for w in one.words}
    if one.direction != place.direction or not words <= set(place.words):
        return False
    if any(x != place.mtu for x in one.mtus if x is not None):
        return False
    homes = {x[0] for x in (place.after, place.before) if x is not None}
    if any(x not in homes for x in one.places):
        return False
    if one.after is not None and one.before is not None:  # both are seen: then this is the place
        return (one.after, one.before) == (place.after, place.before)
    # one of them is beyond: so must one of the true ones be, or the drop itself was within
    return not {place.after, place.before} <= mine or place.after is None or place.before is None


# -- one lab, and many -------------------------------------------------------------------------------------------------


def run(asked: Asked) -> Result:
    """One lab from seed to verdict. Where it did not fail as meant, or something was not said, it is built once more: a
    busy machine is slow. What is said wrongly stays wrong."""
    result = _once(asked)
    if result.verdict in ("unproved", "unknown"):
        first = f"{result.verdict}: {'; '.join(result.why)}"
        result = _once(asked)
        result.twice = first
    return result


def _once(asked: Asked) -> Result:
    lab = asked.lab
    begun, burnt = time.monotonic(), _cpu()
    spent = 0.0
    try:
        with Built(lab.text, lab.offload) as built, serving(built, lab):
            for ns, words in lab.later:
                _later(built, ns, words)
            wrong = proved(built, lab)
            if wrong:
                return Result(lab.seed, "unproved", [wrong], took=time.monotonic() - begun)
            started = time.monotonic()
            document = ask(built, lab, asked)
            spent = time.monotonic() - started
            judged = judge_untold if asked.untold else judge_blind if asked.blind else judge
            result = judged(lab, document, names_of(built))
            result.said = document if result.verdict != "right" else None
    except BuildError as e:
        result = Result(lab.seed, "unproved", [str(e)])
    except EndlessError as e:
        result = Result(lab.seed, "wrong", [str(e)])
    result.took, result.asked = time.monotonic() - begun, spent
    result.cpu = _cpu() - burnt
    return result


def _cpu() -> float:
    """Seconds of processors, of this process and of all it has waited for."""
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(x.ru_utime + x.ru_stime for x in both)


def _later(built: Built, ns: str, words: str) -> None:
    command = [x.replace('"', "").strip("'") for x in re.findall(r"'[^']*'|\S+", words)]
    with built.at(ns):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BuildError(f"{ns}: {words}: {done.stderr}")


def work() -> None:
    """A worker: lines of JSON in (an Asked), lines of JSON out (a Result)."""
    own_mounts()
    for line in sys.stdin:
        result = run(Asked(*json.loads(line)))
        sys.stdout.write(json.dumps(asdict(result)) + "\n")
        sys.stdout.flush()


def many(asked: Sequence[Asked], jobs: int) -> Iterator[tuple[Asked, Result]]:
    """Labs in worker processes, several at a time, in the order they were asked in."""
    words = [*ISOLATED, sys.executable, "-c", WORK, str(HERE.parent), str(HERE.parent / "unit")]
    workers: SimpleQueue[subprocess.Popen[str]] = SimpleQueue()
    started = [subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(jobs)]
    for one in started:
        workers.put(one)

    def result(one: Asked) -> Result:
        worker = workers.get()
        try:
            assert worker.stdin is not None and worker.stdout is not None
            worker.stdin.write(json.dumps(one) + "\n")
            worker.stdin.flush()
            return Result(**json.loads(worker.stdout.readline()))
        finally:
            workers.put(worker)

    with ThreadPoolExecutor(jobs) as pool:
        try:
            for one, found in zip(asked, pool.map(result, asked), strict=True):
                yield one, found
        finally:
            pool.shutdown(cancel_futures=True)
            for worker in started:
                worker.kill()
                worker.wait()


def report(asked: Asked, result: Result) -> str:
    """Everything that is needed to have the same lab again."""
    lab = asked.lab
    more = " --blind 1" if asked.blind else " --untold 1" if asked.untold else " --udp 1" if asked.udp else ""
    lines = [
        f"lab {lab.seed} ({lab.fault}, {lab.hops} hops, IPv{lab.family}{', ' + lab.nat if lab.nat else ''}): "
        f"{result.verdict}; python bench/trace_labs.py --lab {lab.seed}{more}",
        *(f"  {x}" for x in result.why),
        *(f"  truth: {x}" for x in lab.truth),
        f"  way: {' > '.join('/'.join(p) for p in lab.points)}; {lab.to} port {lab.port}",
        *(f"  | {x}" for x in lab.text.splitlines()),
        *(f"  | then: {ns}: {words}" for ns, words in lab.later),
    ]
    if result.said is not None:
        path = Path(tempfile.mkdtemp(prefix="pathfit-trace-lab-")) / f"{lab.seed}.json"
        path.write_text(json.dumps(result.said))
        lines.append(f"  said: {path}")
    return "\n".join(lines)
