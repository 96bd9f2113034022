"""Taps at every point of a way at once, and the kernel's own word on drops, while something else sends.

One thread reads all rings every few milliseconds; nothing is decoded before the watch is over, for each packet that is
looked at too early costs one that is not seen. What could not be kept is counted, for each tap.
"""

import errno
import select
import threading
import time
from collections import Counter
from collections.abc import Mapping

from pathfit.capture.counters import Counters
from pathfit.capture.drops import Drop, Drops
from pathfit.core.evidence import Missing, TraceFact
from pathfit.core.request import EndWatch, Watch
from pathfit.core.tracing import Dropped, Lost, Seen, Tap
from pathfit.host import bpf
from pathfit.host.ring import Ring
from pathfit.wire import cbpf, dissect
from pathfit.wire.tpacket import Seen as Frame

MOST = 100_000  # packets of all taps together; a measurement has a few thousand
PATIENCE = 2.0  # seconds to wait for what the kernel still has
TICK = 5  # milliseconds between two looks at a quiet ring
AS_ROOT = "run as root (sudo pathfit …)"


class Watcher:
    """Watches from :meth:`begin` to :meth:`end`. What cannot be watched (no rights, a device that is gone, no BTF) is
    in the answer's ``missing``; it raises nothing for that."""

    def __init__(self, request: Watch, namespaces: Mapping[str, int | None]) -> None:
        """``namespaces``: descriptors by NetnsSnapshot.id, None for where we are."""
        self._request, self._namespaces = request, namespaces
        self._rings: dict[int, Ring] = {}
        self._frames: list[tuple[int, Frame]] = []
        self._missing: list[Missing] = []
        self._kept: Counter[int] = Counter()  # packets read, by tap
        self._cut = False
        self._drops: Drops | None = None
        self._counters = Counters(namespaces)
        self._behind: set[int] = set()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._read_all, daemon=True)

    def begin(self) -> int:
        """Open everything; returns how many taps there are."""
        hosts = [dissect.packed(h) for h in self._request.hosts]
        self._began, self._began_mono = time.time_ns(), time.monotonic_ns()
        for number, tap in enumerate(self._request.taps):
            self._open(number, tap, hosts)
        self._armed = time.time_ns() - self._began
        try:
            self._drops = Drops(hosts, self._request.ports, self._request.tunnels)
        except (bpf.Unable, ValueError) as e:
            self._lacks("why the kernel drops packets", e)
        self._counters.begin()
        self._thread.start()
        return len(self._rings)

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
            program = cbpf.flow(hosts, self._request.ports, link=0 if tap.raw else 14, vxlan=self._request.tunnels)
            self._rings[number] = Ring(self._namespaces[tap.netns], tap.link, program)
        except KeyError:
            self._lacks(f"packets at {tap.at.netns}/{tap.at.link}", ValueError("the namespace is gone"))
        except (OSError, ValueError) as e:
            self._lacks(f"packets at {tap.at.netns}/{tap.at.link}", e)

    def end(self, request: EndWatch) -> TraceFact:
        """Stop watching, and say what was seen."""
        self._done.wait(request.linger)  # nobody sets it meanwhile: what is on its way arrives
        ended = time.time_ns() - self._began
        self._done.set()
        self._thread.join()
        self._flush()
        fact = self._conclude(request.ref, ended)
        self.close()
        return fact

    def _flush(self) -> None:
        """Read until there is as much as the kernel says that it has put into each ring: on a busy machine it hands a
        block over later than it should, and not at every tap alike."""
        wanted = {n: c.seen - c.lost for n, ring in self._rings.items() for c in [ring.counts()]}
        until = time.monotonic() + PATIENCE
        while True:
            self._read()
            if all(self._kept[n] >= count for n, count in wanted.items()) or time.monotonic() > until:
                break
            select.select([ring.fd for ring in self._rings.values()], [], [], TICK / 1000)
        self._behind = {n for n, count in wanted.items() if self._kept[n] < count}

    def close(self) -> None:
        """Take everything away. A second call is harmless."""
        self._done.set()
        if self._thread.is_alive():
            self._thread.join()
        while self._rings:
            self._rings.popitem()[1].close()
        if self._drops is not None:
            self._drops.close()

    def _read_all(self) -> None:
        poll = select.poll()
        for ring in self._rings.values():
            poll.register(ring.fd, select.POLLIN)
        while not self._done.is_set():
            poll.poll(TICK)
            self._read()

    def _read(self) -> None:
        for number, ring in self._rings.items():
            for frame in ring.read():
                self._kept[number] += 1
                if len(self._frames) < MOST:
                    self._frames.append((number, frame))
                else:
                    self._cut = True
        if self._drops is not None:
            self._drops.gather()

    def _conclude(self, ref: str, ended: int) -> TraceFact:
        dropped, unheard = (self._drops.read(), self._drops.lost) if self._drops is not None else ([], 0)
        counts = {number: ring.counts() for number, ring in self._rings.items()}
        return TraceFact(
            ref=ref,
            taps=self._request.taps,
            opened=tuple(self._rings),
            seen=tuple(self._seen(number, frame) for number, frame in self._frames),
            dropped=tuple(map(self._told, dropped)),
            lost=tuple(
                Lost(tap=n, kept=self._kept[n], lost=max(c.lost, c.seen - self._kept[n]))
                for n, c in counts.items()
                if c.lost or n in self._behind
            ),
            began=self._began,
            armed=self._armed,
            ended=ended,
            watched=self._drops is not None,
            unheard=unheard,
            moved=self._counters.end(),
            cut=self._cut,
            missing=tuple(self._missing),
        )

    def _seen(self, number: int, frame: Frame) -> Seen:
        raw = self._request.taps[number].raw
        found = (dissect.packet if raw else dissect.frame)(frame.data, self._request.tunnels or dissect.VXLAN_PORTS)
        return Seen(
            tap=number,
            time=frame.time - self._began,
            length=frame.length,
            out=frame.outgoing,
            data=dissect.without_payload(frame.data, found),
            vlan=frame.vlan,
        )

    def _told(self, drop: Drop) -> Dropped:
        at = drop.at
        return Dropped(
            time=at.time - self._began_mono,
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
