"""Taps at every point of a way at once, and the kernel's own word on drops, while something else sends.

One thread reads all rings every few milliseconds; nothing is decoded before the watch is over, for each packet that is
looked at too early costs one that is not seen. What could not be kept is counted, for each tap. When there are
:data:`MOST` packets it ends by itself, and nothing is said of what came later. A device that went down or away is no
point any more: what it did not see says nothing.
"""

import errno
import select
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from contextlib import suppress

from pathfit.capture.cables import Cables
from pathfit.capture.counters import Counters
from pathfit.capture.drops import Drop, Drops
from pathfit.capture.filtered import Filtered, Read
from pathfit.capture.times import Look, Reading, Times
from pathfit.core.evidence import Missing, TraceFact
from pathfit.core.evidence_base import AS_ROOT
from pathfit.core.request import EndWatch, Watch
from pathfit.core.tracing import DROPS, Dropped, Lost, Seen, Tap
from pathfit.host import bpf, clock, symbols
from pathfit.host.alarm import Late
from pathfit.host.ring import RETIRE, Block, Ring
from pathfit.host.worker import Worker
from pathfit.wire import cbpf, dissect
from pathfit.wire.nft import mark
from pathfit.wire.tpacket import Seen as Frame

MOST = 100_000  # packets of all taps together; a measurement has a few thousand
PATIENCE = 2.0  # seconds to wait for what the kernel still has
TICK = 10  # milliseconds between two looks at a quiet ring


class Watcher:
    """Watches from :meth:`begin` to :meth:`end`. What cannot be watched (no rights, a device that is gone, no BTF) is
    in the answer's ``missing``; it raises nothing for that."""

    def __init__(
        self, request: Watch, namespaces: Mapping[str, int | None], tables: Mapping[str, Read] | None = None
    ) -> None:
        """``namespaces``: descriptors by NetnsSnapshot.id, None for where we are; ``tables``: their packet filters as
        they were read just before, None where they could not be."""
        self._request, self._namespaces = request, namespaces
        self._rings: dict[int, Ring] = {}
        self._blocks: deque[tuple[int, Reading, Block]] = deque()  # tap, when it was read, what was
        self._missing: list[Missing] = []
        self._kept: Counter[int] = Counter()  # packets read, by tap
        self._opened: list[int] = []
        self._ended: dict[int, tuple[str, int]] = {}  # taps whose device went: why, when
        self._cut: int | None = None  # since when nothing is kept
        self._lost: dict[int, int] = {}  # packets without room, of rings that are closed already
        self._untimed: Counter[int] = Counter()  # packets of which nobody knows when they came, by tap
        self._read_last = 0  # when the rings were read before
        self._drops: Drops | None = None
        self._counters = Counters(namespaces)
        self._filters = Filtered(request.ref, namespaces, tables or {})
        self._asked_since = 0  # when packet filters were asked, where that was not at once
        self._cables = Cables()
        self._behind: set[int] = set()
        self._done, self._enough = threading.Event(), threading.Event()
        self._opening: list[Worker] = []
        self._thread = Worker(self._read_all)

    def begin(self) -> int:
        """Open everything; returns how many taps there are."""
        hosts = [dissect.packed(h) for h in self._request.hosts]
        first = Look(*clock.both())
        self._times, self._began, self._began_mono = Times(first), first.real, first.monotonic
        for number, tap in enumerate(self._request.taps):
            # Each waits some 10 ms for the kernel: all at the same time, and the tracing program is loaded meanwhile.
            self._opening.append(Worker(self._open, number, tap, hosts))
            self._opening[-1].start()
        try:
            self._drops = Drops(hosts, self._request.ports, self._request.tunnels)
        except (bpf.Unable, ValueError) as e:
            self._lacks(DROPS, e)
        self._flow = mark.Flow(hosts, None, self._request.ports, self._request.tunnels or dissect.VXLAN_PORTS)
        self._places = dict(self._request.namespaces)
        if self._drops is None or not self._request.patient or self._filters.unread(self._places):
            self._filters.begin(self._places, self._flow)
        for one in self._opening:
            one.wait()
        self._rings = dict(sorted(self._rings.items()))
        self._opened.sort()
        if self._drops is not None and symbols.shown():  # who else would tell what a cable took?
            self._cables.halve(self._request.cables, self._rings)
        self._read_last = time.monotonic_ns()
        self._armed = self._since(self._read_last)
        self._counters.begin()
        self._thread.start()
        return len(self._opened)

    def _since(self, monotonic: int) -> int:
        return monotonic - self._began_mono

    def _lacks(self, what: str, e: Exception) -> None:
        code = e.errno if isinstance(e, OSError) else None
        refused = code in (errno.EPERM, errno.EACCES)
        self._missing.append(
            Missing(
                ref=self._request.ref,
                what=what,
                why=(e.strerror if isinstance(e, OSError) else None) or str(e),
                how=AS_ROOT if refused else "",
                code="permission" if refused else "absent",
            )
        )

    def _open(self, number: int, tap: Tap, hosts: list[bytes]) -> None:
        try:
            asked, link = self._request, 0 if tap.raw else 14
            ends = [dissect.packed(h) for h in asked.ends]
            program = cbpf.flow(hosts, asked.ports, link=link, vxlan=asked.tunnels, ends=ends)
            self._rings[number] = Ring(self._namespaces[tap.netns], tap.link, program)
            self._opened.append(number)
        except KeyError:
            self._lacks(f"packets at {tap.at.netns}/{tap.at.link}", ValueError("the namespace is gone"))
        except (OSError, ValueError) as e:
            self._lacks(f"packets at {tap.at.netns}/{tap.at.link}", e)

    def end(self, request: EndWatch) -> TraceFact:
        """Stop watching, and say what was seen: also when the time is up meanwhile, then of as much as was read."""
        try:
            try:
                self._enough.wait(request.linger)  # what is on its way arrives
            except KeyboardInterrupt:
                if not request.until_stopped:
                    raise
            except Late:
                pass
            ended = self._since(time.monotonic_ns())
            self._done.set()
            self._thread.wait()
            self._flushed()
            return self._conclude(request.ref, ended if self._cut is None else self._cut)
        finally:  # however it ends: nobody else knows of it any more
            self.close()

    def _flushed(self) -> None:
        """Read what is there still. When the time is up, of whatever tap is not read to its end nothing is said that
        hangs on what it did not see."""
        wanted = {n: c.seen - c.lost for n, ring in self._rings.items() for c in [ring.counts()]}
        with suppress(Late):
            self._flush(wanted)
        self._behind = {n for n, count in wanted.items() if self._kept[n] < count}

    def _flush(self, wanted: Mapping[int, int]) -> None:
        """Read until there is as much as the kernel says that it has put into each ring: on a busy machine it hands a
        block over later than it should, and not at every tap alike."""
        until = time.monotonic() + PATIENCE
        while True:
            self._read()
            if self._cut is not None:
                return
            if all(self._kept[n] >= count for n, count in wanted.items()) or time.monotonic() > until:
                return
            select.select([ring.fd for ring in self._rings.values()], [], [], TICK / 1000)

    def close(self) -> None:
        """Take everything away. A second call is harmless."""
        self._done.set()
        for one in (*self._opening, self._thread):  # those that open are in namespaces that are closed behind us
            one.wait()
        while self._rings:
            self._rings.popitem()[1].close()
        if self._drops is not None:
            self._drops.close()
        self._filters.close()

    def _read_all(self) -> None:
        try:
            poll = select.poll()
            taps = {ring.fd: number for number, ring in self._rings.items()}
            for fd in (*taps, *self._filters.fds):
                poll.register(fd, select.POLLIN)
            while not self._done.is_set():
                for fd, event in poll.poll(TICK):
                    if fd in taps and event & select.POLLERR and self._cut is None:
                        self._ends(taps[fd])
                self._read()
                if self._drops is not None and not self._filters.asked and self._drops.filtered():
                    self._filters.begin(self._places, self._flow)  # the sender sends again what got lost
                    self._asked_since = self._since(time.monotonic_ns())
                    for fd in self._filters.fds:
                        poll.register(fd, select.POLLIN)
                if self._cut is not None:
                    for fd in taps:
                        poll.unregister(fd)
                    taps.clear()
        except Exception as e:  # a thread has nobody to tell; without it no point says anything
            self._lacks("packets at all points", e)
            self._opened.clear()

    def _ends(self, number: int) -> None:
        """A ring has something to say: its device went down, or is there no more."""
        why = self._rings[number].ended()
        if why:
            self._ended.setdefault(number, (why, self._since(time.monotonic_ns())))

    def _read(self) -> None:
        now = time.monotonic_ns()
        found = list(self._take())
        look = Look(*clock.both())  # behind the reading: whatever was stamped, was so before
        self._times.look(look)
        if found:
            reading = self._times.reading(look.monotonic)
            self._blocks += ((number, reading, block) for number, block in found)
        if self._many > MOST and self._cut is None:
            self._stop()
        self._read_last = now
        if self._drops is not None:
            self._drops.gather()
        self._filters.gather()

    @property
    def _many(self) -> int:
        """Packets read, with those that stand for two."""
        return self._kept.total() + sum(self._kept[n] for n in self._cables.far)

    def _take(self) -> Iterator[tuple[int, Block]]:
        """What the rings have, until there is enough: of what came then nothing is said anyway."""
        for number, ring in self._rings.items():
            for block in ring.take():
                self._kept[number] += block.many
                yield number, block
                if self._many > MOST:
                    return

    def _stop(self) -> None:
        """Enough: what was handed over before the last reading but one is complete at every tap."""
        self._cut = max(self._armed, self._since(self._read_last) - 2 * RETIRE * 1_000_000)
        for number, ring in self._rings.items():
            self._lost[number] = ring.counts().lost
            ring.close()
        self._rings.clear()
        self._enough.set()

    def _conclude(self, ref: str, ended: int) -> TraceFact:
        seen = tuple(self._all_seen())
        dropped, unheard = (self._drops.read(), self._drops.lost) if self._drops is not None else ([], 0)
        lost = dict(self._lost)
        for number, ring in self._rings.items():
            count = ring.counts()
            lost[number] = max(count.lost, count.seen - self._kept[number]) if number in self._behind else count.lost
        for number, many in self._untimed.items():  # as good as not kept: no point is blamed for what it lacks
            lost[number] = lost.get(number, 0) + many
            self._kept[number] -= many
        crossing, unknown = self._cables.in_between(dropped, self._request.taps, self._began_mono)
        lost = self._cables.lost(lost, unheard) + unknown
        kept = Counter(x.tap for x in seen)
        self._missing += map(self._left, self._ended)
        return TraceFact(
            ref=ref,
            taps=self._request.taps,
            opened=tuple(n for n in self._opened if n not in self._ended),
            seen=(*seen, *crossing),
            dropped=tuple(map(self._told, dropped)),
            lost=tuple(Lost(tap=n, kept=kept[n], lost=many) for n, many in lost.items() if many),
            began=self._began,
            armed=self._armed,
            ended=ended,
            watched=self._drops is not None,
            unheard=unheard,
            moved=self._counters.end(),
            filters=self._filters.end(self._began_mono, self._asked_since),
            cut=self._cut is not None,
            missing=tuple(self._missing),
        )

    def _left(self, number: int) -> Missing:
        """A device that was there, and then was not."""
        how, when = self._ended[number]
        tap = self._request.taps[number].at
        why = "the device is down" if how == "down" else "the device was removed, or moved to another namespace"
        what = f"packets at {tap.netns}/{tap.link}"
        return Missing(ref=self._request.ref, what=what, why=f"{why}, since {when / 1e6:.0f} ms", code="vanished")

    def _all_seen(self) -> Iterator[Seen]:
        while self._blocks:
            number, reading, block = self._blocks.popleft()
            for frame in block.packets():
                at = reading.monotonic(frame.time)
                if at is None:
                    self._untimed[number] += 1
                    continue
                seen = self._seen(number, self._since(at), frame)
                if (left := self._cables.left(seen)) is not None:
                    yield left
                yield seen

    def _seen(self, number: int, time: int, frame: Frame) -> Seen:
        raw = self._request.taps[number].raw
        found = (dissect.packet if raw else dissect.frame)(frame.data, self._request.tunnels or dissect.VXLAN_PORTS)
        return Seen(
            tap=number,
            time=time,
            length=frame.length,
            out=frame.outgoing,
            data=dissect.without_payload(frame.data, found),
            vlan=frame.vlan,
        )

    def _told(self, drop: Drop) -> Dropped:
        at = drop.at
        return Dropped(
            time=self._since(at.time),
            word=drop.why.word,
            reason=drop.reason,
            function=drop.function,
            callers=drop.callers,
            limit=drop.why.limit,
            told=drop.why.told,
            netns=at.netns,
            device=at.device,
            egress=at.egress_device,
            egress_mtu=at.egress_mtu,
            egress_netns=at.egress_netns,
            length=at.length,
            data=dissect.without_payload(at.headers, drop.packet),
        )
