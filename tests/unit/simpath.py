"""A path, a server and its TCP, simulated: what the reverse search is tried on by the thousand, without a socket.

The sender is a modern Linux one as far as it matters: ten segments at once, a lost one is sent again when a later
one was acknowledged (RACK, RFC 8985), a lost tail is probed, and timeouts double from 0.2 s on. Every transmission
is lost by chance or because it is larger than the limit of its flow's path.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from random import Random

from pathfit.core.measured import Bracket
from pathfit.measure.reverse import Close, Limits, Open, Reverse
from pathfit.measure.track import ESTABLISHED, Reading, Track

HEAD, STAMPS = 40, 12
TIMEOUTS = (0.2, 0.6, 1.4, 3.0)


@dataclass
class Path:
    """``limit``: largest packet that gets in. ``told``: the sender learns it. ``loss``: each way, 0..1."""

    limit: int = 9999
    promised: int = 1500
    told: bool = False
    loss: float = 0.0
    rtt: float = 0.0005
    answer: int = 4700  # bytes of the server's answer
    clamp: int = 9999  # largest packet the server is allowed to send (MSS clamp, its own MTU)
    cookies: bool = False  # SYN cookies: MSS rounded down to one of four
    think: Callable[[Random], float] = lambda r: 0.0005  # seconds until the answer
    backends: tuple[int, ...] = ()  # limits of equal backends, one per flow by turn
    drawn: bool = False  # not by turn: each flow draws its own (a hash of its ports)
    silent: bool = False
    serial: bool = False  # serves one connection at a time
    holds: bool = False  # and, if serial, until its whole answer has arrived or the connection is closed
    room: int = 0  # connections it serves at once, if not all; others wait until one of them is over or closed
    apart: int = 0  # bytes written and sent apart, in front (a header)


@dataclass
class Flow:
    """One connection: when what arrives."""

    track: Track
    opened: float
    connected: float
    limit: int
    mss: int
    arrivals: list[tuple[float, int, int, int]] = field(default_factory=list)  # time, index, payload bytes, of
    sizes: list[int] = field(default_factory=list)
    retrans: int = 0
    closed: bool = False
    invited: int = 1500  # by the sender's SYN-ACK: what it knows of the way to us, when it was asked

    def reading(self, now: float, path: Path) -> Reading:
        if now < self.connected:
            return Reading(2, False, 536, 536, path.promised - HEAD, 0, 0, 0, 0, int(now - self.opened > 1.0), 0.0)
        got, ooo, largest, seen = 0, 0, 536, set()
        for at, index, size, _ in self.arrivals:
            if at > now:
                break
            if index in seen:
                continue
            if any(i not in seen for i in range(index)):
                ooo += 1
            seen.add(index)
            largest = max(largest, size)
        for i, size in enumerate(self.sizes):
            if i not in seen:
                break
            got += size
        if largest == 536:  # two of one size in a row lower the kernel's estimate (tcp_measure_rcv_mss)
            here = [size for i, size in enumerate(self.sizes) if i in seen]
            twins = [a for a, b in pairwise(here) if a == b]
            largest = twins[0] if twins else min(536, self.mss)
        acked = 1 + (500 if now >= self.connected + path.rtt else 0)
        ours = min(self.invited, self.track.size) - HEAD - STAMPS
        advmss = self.mss - STAMPS
        return Reading(ESTABLISHED, True, largest, ours, advmss, acked, got, len(seen), ooo, self.retrans, path.rtt)

    def whole(self, now: float) -> bool:
        return bool(self.sizes) and len({i for at, i, _, _ in self.arrivals if at <= now}) == len(self.sizes)


class Sim:
    """One search on one path. ``run`` returns its bracket; ``search`` stays for questions."""

    def __init__(self, path: Path, seed: int, **limits: int | float) -> None:
        self.path, self.random = path, Random(seed)
        self.search = Reverse(limits=Limits(family=4, **limits), promised=path.promised, start=0.0)  # type: ignore[arg-type]
        self.flows: dict[int, Flow] = {}
        self.turn = self.random.randrange(8)
        self.now = 0.0
        self.learned = 9999
        self.learned_at = 9e9
        self.busy_until = 0.0
        self.line: list[Flow] = []
        self.served: Flow | None = None
        self.serving: list[Flow] = []

    def lost(self) -> bool:
        return self.random.random() < self.path.loss

    def open(self, track: Track) -> None:
        p = self.path
        connected = self.now + p.rtt
        if p.loss and (self.lost() or self.lost()):
            connected += 1.0
        self.turn += 1
        turn = self.random.randrange(len(p.backends) or 1) if p.drawn else self.turn
        limit = p.backends[turn % len(p.backends)] if p.backends else p.limit
        mss = min(track.size - HEAD, p.clamp - HEAD)
        if p.cookies:
            mss = max(m for m in (536, 1300, 1440, 1460) if m <= max(mss, 536))
        flow = Flow(track, self.now, connected, limit, mss)
        flow.invited = min(p.promised, self.learned if self.now > self.learned_at else 9999)
        self.flows[track.n] = flow
        track.port = 40000 + track.n
        if p.holds or p.room:
            self.line.append(flow)
        elif not p.silent:
            self.answer(flow)

    def serve(self) -> None:
        """A server that holds on to a connection, or to some, takes the next one."""
        self.serving = [f for f in self.serving if not f.closed and not f.whole(self.now)]
        self.line = [f for f in self.line if not f.closed]
        while len(self.serving) < self.path.room and self.line:
            self.serving.append(self.line.pop(0))
            self.answer(self.serving[-1])
        if self.path.room:
            return
        if self.served is None or self.served.closed or self.served.whole(self.now):
            self.served = next((f for f in self.line if not f.closed), None)
            if self.served is not None:
                del self.line[: self.line.index(self.served) + 1]
                self.busy_until = self.now
                self.answer(self.served)

    def answer(self, flow: Flow) -> None:
        p, r = self.path, self.random
        start = flow.connected + p.rtt / 2 + p.think(r)
        if p.loss and self.lost():  # our request is sent again
            start += 0.2
        if p.room:
            start = max(start, self.now)
        if p.serial:
            start = max(start, self.busy_until)
            self.busy_until = start + 0.001
        knows = self.learned if start > self.learned_at else 9999  # what it is told later does not cut this answer
        full = min(flow.mss, knows - HEAD) - STAMPS
        sizes = [p.apart] if p.apart else []
        left = p.answer
        while left > 0:
            sizes.append(min(full, left))
            left -= sizes[-1]
        too_big = [s + HEAD + STAMPS > flow.limit for s in sizes]
        if p.told and any(too_big):
            self.tell(flow, start, sizes, too_big)
            return
        flow.sizes = sizes
        self.transmit(flow, start, too_big)

    def transmit(self, flow: Flow, start: float, too_big: list[bool]) -> None:
        p, sizes = self.path, flow.sizes
        first = [not (b or self.lost()) for b in too_big]
        for i, ok in enumerate(first):
            if ok:
                flow.arrivals.append((start + p.rtt / 2 + i * 1e-6, i, sizes[i], 0))
                continue
            tries = [start + t for t in TIMEOUTS]
            if any(first[i + 1 :]):
                tries.insert(0, start + 1.25 * p.rtt + 0.001)
            elif i == len(first) - 1:
                tries.insert(0, start + 2 * p.rtt + 0.002)
            for t in tries:
                if not too_big[i] and not self.lost():
                    flow.arrivals.append((t + p.rtt / 2, i, sizes[i], 0))
                    break
        flow.arrivals.sort()

    def tell(self, flow: Flow, start: float, sizes: list[int], too_big: list[bool]) -> None:
        """The first flight's large segments come back as "too big"; the whole is cut anew. Smaller ones arrived."""
        full = flow.limit - HEAD - STAMPS
        again: list[int] = []
        left = sum(sizes)
        while left > 0:
            again.append(min(full, left))
            left -= again[-1]
        flow.sizes = again
        late = start + self.path.rtt * 1.5
        tail = len(again) - 1
        flow.arrivals.append((start + self.path.rtt / 2, tail, again[-1], 0))
        flow.arrivals += [(late + i * 1e-6, i, s, 0) for i, s in enumerate(again[:-1])]
        flow.arrivals.sort()
        self.learned, self.learned_at = min(self.learned, flow.limit), min(self.learned_at, start)

    def run(self, most: float = 6.0) -> Bracket:
        s = self.search
        s.begin(0.0)
        while not s.done and self.now < most:
            for command in s.step(self.now):
                if isinstance(command, Open):
                    self.open(command.track)
                elif isinstance(command, Close):
                    self.close(command.track)
            self.serve()
            self.now += max(s.pause(self.now), 0.002 if self.now < 0.3 else 0.008)
            for flow in list(self.flows.values()):
                if not flow.closed:
                    self.look(flow)
        return s.result(self.now)

    def look(self, flow: Flow) -> None:
        track = flow.track
        track.see(self.now, flow.reading(self.now, self.path))
        if track.connected is not None and track.asked is None:
            track.asked, track.asked_bytes = flow.connected, 500
        if flow.whole(self.now) and not track.passed:
            track.complete = True
        if track.purpose == "plain" and (track.passed or track.complete):
            self.close(track)

    def close(self, track: Track) -> None:
        flow = self.flows[track.n]
        flow.closed = True
        track.closed = self.now
        self.search.closed(track)
