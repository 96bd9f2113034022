"""Cells of the prober's cover: what can be wrong with a path x what is asked x how far, how lossy, with which rights.

A cell and a seed make a lab: limits, link sizes, addresses, pages and how the fault comes about (layer 2 in silence, or
a router whose "too big" is lost) are drawn from the seed. What must be said is worked out from the same draw, never by
asking pathfit's model. Used by bench/cover.py (every cell) and tests/cover (every pair of values).
"""

import dataclasses
import ipaddress
import itertools
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any

import msgspec

from pathfit.lab.scenario import Scenario

FAMILIES = (4, 6)
RTTS = (0, 20, 100)  # ms
LOSSES = (0, 1, 3)  # percent, each way
RIGHTS = ("root", "unprivileged")
TARGETS = ("https", "http", "tcp", "namespace")
HEAD = {4: 40, 6: 60}  # IP and TCP header without options
LEAST = 1280
FIRST_FLIGHT = 1600  # bytes: an IP packet in which the large ClientHello does not fit
LONG_RECORD = 1400  # bytes of a TLS record: the small ClientHello is far below, the large one above
TCP_PORT = 9000
PORTS = {"https": 8443, "http": 8080, "tcp": TCP_PORT, "namespace": 8080}
COOKIES = {4: (536, 1300, 1440, 1460), 6: (1220, 1420, 1440, 8940)}  # msstab[], tcp_ipv4.c and syncookies.c


@dataclass(frozen=True, kw_only=True, order=True)
class Cell:
    """One combination of values."""

    fault: str
    target: str
    family: int
    rtt: int
    loss: int
    rights: str

    def __str__(self) -> str:
        name = self.fault.replace(" ", "-")
        return f"{name}/{self.target}/v{self.family}/{self.rtt}ms/{self.loss}%/{self.rights}"

    @property
    def root(self) -> bool:
        return self.rights == "root"

    @property
    def asked(self) -> bool:
        """Can the target be made to send full segments?"""
        return self.target != "tcp"

    @property
    def ours(self) -> bool:
        """Are both ends ours?"""
        return self.target == "namespace"


@dataclass(frozen=True, kw_only=True)
class Way:
    """The truth of one direction. ``passes``/``fails``: what must be reported, to the byte; with ``least`` anything
    from there to ``passes`` is right as well, with ``masked`` that nobody sends what fails; ``loose``: any true
    bracket, or none; ``mute``: not measurable here, so nothing may be said but a note."""

    passes: int | None = None
    fails: int | None = None
    least: int | None = None
    masked: bool = False
    mute: bool = False
    loose: bool = False

    def judge(self, said: dict[str, Any]) -> str:
        """right, inexact or wrong."""
        passes, fails = said.get("pass"), said.get("fail")
        if self.mute:
            return "right" if passes is None and fails is None and said.get("note") else "wrong"
        if passes is not None and self.passes is not None and passes > self.passes:
            return "wrong"
        if fails is not None and (self.fails is None or fails < self.fails):
            return "wrong"
        if self.loose or (passes is not None and fails == self.fails and passes >= (self.least or passes + 1)):
            return "right"
        exact = passes == self.passes and (fails == self.fails or (self.masked and fails is None))
        return "right" if exact else "inexact"

    def __str__(self) -> str:
        return "not measurable" if self.mute else f"{'<= ' if self.loose else ''}{self.passes}/{self.fails}"


@dataclass(frozen=True, kw_only=True)
class Want:
    """What must be said: one of ``verdicts``, exactly these ``errors`` (the first of them first), both ways."""

    verdicts: tuple[str, ...]
    errors: tuple[str, ...] = ()
    may: tuple[str, ...] = ()  # errors that are no mistake
    also: tuple[str, ...] = ()  # findings that must be there, errors or not
    reverse: Way
    forward: Way


@dataclass(kw_only=True)
class Draw:
    """One lab in the making; ``random`` is the cell's own."""

    cell: Cell
    random: Random
    mtu: int = 1500
    limit: int = 0
    parts: dict[str, Any] = field(default_factory=dict)
    want: Want | None = None
    lossy: str = "r"  # the host that loses packets
    to: str = "s"  # the host that is asked
    behave: dict[str, Any] = field(default_factory=dict)  # of the service
    servers: tuple[str, ...] = ("s",)
    jumbo: bool = True  # may be one

    def below(self, least: int = LEAST, most: int | None = None) -> int:
        """A limit; on a jumbo path it may lie anywhere."""
        return self.random.randint(least, min(most or self.mtu - 1, self.mtu - 1))

    def cable(self, a: str, b: str, *, rtt: bool = False, out: int | None = None, back: int | None = None,
              **more: Any) -> None:  # fmt: skip
        """``out``/``back``: what it carries each way in silence; ``rtt``: this one is the long one."""
        c: dict[str, Any] = {"ends": [a, b], "mtu": self.mtu, **more}
        if rtt and self.cell.rtt:
            c["rtt"] = self.cell.rtt
        if out is not None or back is not None:
            c["carries"], c["carries_b"] = out or self.mtu, back or self.mtu
        if "rtt" in c or "carries" in c:
            c.pop("receives", None)
            c.pop("receives_b", None)  # such a cable receives anything
        self.parts.setdefault("cables", []).append(c)

    def fault(self, **more: Any) -> None:
        self.parts.setdefault("faults", []).append(more)

    def clamp(self, size: int, **more: Any) -> None:
        self.parts.setdefault("clamps", []).append({"host": "h", "size": size - HEAD[self.cell.family], **more})

    def narrow_out(self, limit: int) -> None:
        """Packets above ``limit`` do not get out, and nobody hears of it."""
        self.cable("h", "r")
        if limit > self.mtu - 4 or self.random.random() < 0.5:
            self.cable("r", "s", rtt=True, out=limit)
            return
        self.cable("r", "s", rtt=True, mtu_b=self.mtu, receives=self.mtu, mtu=limit)
        where = self.random.choice((("h", "forward"), ("r", "output")))
        self.fault(too_big_lost_at={"host": where[0], "where": where[1]})

    def narrow_in(self, limit: int) -> None:
        """The same for what comes back. The router's "too big" dies at the server, or on its way there."""
        if limit > self.mtu - 4 or self.random.random() < 0.5:
            self.cable("h", "r")
            self.cable("r", "s", rtt=True, back=limit)
            return
        self.cable("h", "r", mtu_b=limit, receives_b=self.mtu)
        self.cable("r", "s", rtt=True)
        self.fault(too_big_lost_at=self.random.choice(({"host": "s"}, {"host": "r", "where": "output"})))


Maker = Callable[[Draw], None]


def _full(d: Draw) -> tuple[Way, Way]:
    """Both ways carry all that is promised, as far as it can be measured."""
    return _seen(d, d.mtu, None), _sent(d, d.mtu, None)


def _seen(d: Draw, passes: int, fails: int | None, **more: Any) -> Way:
    return Way(passes=passes, fails=fails, **more) if d.cell.asked else Way(mute=True)


def _sent(d: Draw, passes: int, fails: int | None, *, hole_in: bool = False, **more: Any) -> Way:
    """Without rights only HTTP and TLS can be made use of, and where something was missing inwards nothing is sent."""
    measurable = d.cell.root or (d.cell.asked and not hole_in)
    return Way(passes=passes, fails=fails, **more) if measurable else Way(mute=True)


def _holes(d: Draw, reverse: Way, forward: Way) -> Want:
    """A hole is broken; what cannot be measured gives no error."""
    errors = []
    if reverse.fails is not None and not reverse.mute and not reverse.masked:
        errors.append("MTU101")
    if (
        forward.fails is not None
        and not forward.mute
        and not forward.masked
        and not (errors and forward.fails == reverse.fails)
    ):
        errors.append("MTU102")
    verdicts = ("broken",) if errors else ("healthy", "degraded", "unknown")
    # The same limit both ways is one error; where only the way out could be proven, that one.
    may = ("MTU102",) if forward.fails is not None and not forward.mute and not forward.masked else ()
    return Want(verdicts=verdicts, errors=tuple(errors), may=may, reverse=reverse, forward=forward)


def _fine(d: Draw, reverse: Way, forward: Way) -> Want:
    verdicts: tuple[str, ...] = ("healthy", "degraded")
    if reverse.mute:  # a service that says little: well as far as it was measured, or not known
        verdicts = ("healthy", "degraded", "unknown")
    return Want(verdicts=verdicts, reverse=reverse, forward=forward)


def healthy(d: Draw) -> None:
    d.cable("h", "r")
    d.cable("r", "s", rtt=True)
    d.want = _fine(d, *_full(d))


def hole_in(d: Draw) -> None:
    d.limit = d.below()
    d.narrow_in(d.limit)
    d.want = _holes(d, _seen(d, d.limit, d.limit + 1), _sent(d, d.mtu, None, hole_in=True))


def hole_out(d: Draw) -> None:
    d.limit = d.below()
    d.narrow_out(d.limit)
    d.want = _holes(d, _seen(d, d.mtu, None), _sent(d, d.limit, d.limit + 1))


def both_different(d: Draw) -> None:
    d.limit = d.below()
    out = d.below()
    while out == d.limit:
        out = d.below()
    d.cable("h", "r")
    d.cable("r", "s", rtt=True, out=out, back=d.limit)
    d.want = _holes(d, _seen(d, d.limit, d.limit + 1), _sent(d, out, out + 1, hole_in=True))


def way_back_silent(d: Draw) -> None:
    """Answers take another way, and only there is the place that drops."""
    d.limit = d.below()
    d.parts["hosts"] = ["h", "r", "q", "s"]
    d.cable("h", "r")
    d.cable("r", "s", rtt=True)
    d.cable("q", "s")
    d.cable("h", "q", rtt=True, back=d.limit)
    d.parts["routes"] = [{"host": "s", "to": "h.eth0/net", "via": "q"}]
    d.lossy = "h"
    d.want = _holes(d, _seen(d, d.limit, d.limit + 1), _sent(d, d.mtu, None, hole_in=True))


def clamp_one_sided(d: Draw) -> None:
    d.limit = d.below()
    d.cable("h", "r")
    d.cable("r", "s", rtt=True, out=d.limit, back=d.limit)
    hole = (d.limit, d.limit + 1)
    kept = hole if d.cell.ours else (d.limit, None)  # packets of our own are under no clamp
    masked = d.cell.ours
    if d.random.random() < 0.5:  # our SYN: what comes in is kept small
        d.clamp(d.limit, out="eth0")
        d.want = _holes(d, _seen(d, *kept, masked=masked), _sent(d, *hole))
    else:
        d.clamp(d.limit, **{"in": "eth0"})
        d.want = _holes(d, _seen(d, *hole), _sent(d, *kept, hole_in=True, masked=masked))


def clamp_masking(d: Draw) -> None:
    d.limit = d.below()
    d.cable("h", "r")
    d.cable("r", "s", rtt=True, out=d.limit, back=d.limit)
    d.clamp(d.limit)
    fails = d.limit + 1 if d.cell.ours else None  # packets of our own are under no clamp
    d.want = _fine(d, _seen(d, d.limit, fails, masked=True), _sent(d, d.limit, fails, masked=True))


def fragments_dropped(d: Draw) -> None:
    """An overlay as large as what its ends are joined to. Between two routers of the underlay the link is smaller: they
    cut outer packets up, as they may (IPv4 without DF), and drop the pieces that come."""
    under = d.random.randint(LEAST + 50, d.mtu + 49)
    d.limit = under - 50  # Ethernet, VXLAN, UDP, IPv4
    d.parts["hosts"] = ["h", "u", "w", "g", "s"]
    d.parts["family"] = "both"
    for a, b, mtu in (("h", "u", d.mtu + 50), ("u", "w", under), ("w", "g", d.mtu + 50)):
        d.cable(a, b, rtt=a == "u", mtu=mtu)
    d.cable("g", "s")
    d.parts["tunnels"] = [{"ends": ["h", "g"], "name": "vx0", "mtu": d.mtu}]
    d.parts["routes"] = [
        {"host": "g", "to": "h.eth0/net", "via": "w"},  # not through the tunnel itself
        {"host": "h", "to": "g.eth0/net", "via": "u"},
    ]
    for host, link in (("u", "eth1"), ("w", "eth0")):
        d.fault(fragments_dropped_at={"host": host, "link": link})
    d.lossy = "g"
    reverse = _seen(d, d.limit, d.limit + 1)
    d.want = _holes(d, reverse, _sent(d, d.limit, d.limit + 1, hole_in=True))


def mtu_probing(d: Draw) -> None:
    """tcp_mtu_probing of the server: 1 rescues late, 2 begins small and never meets the hole."""
    d.limit = d.below()
    d.narrow_in(d.limit)
    mode = d.random.choice((1, 2))
    d.fault(sysctl={"host": "s", "set": {"net.ipv4.tcp_mtu_probing": mode}})
    forward = _sent(d, d.mtu, None, hole_in=mode == 1)
    if mode == 1:
        d.want = _holes(d, _seen(d, d.limit, d.limit + 1), forward)
        return
    # Whether its first flight is full-sized depends on what it said before (tcp_current_mss()): some conversations hang
    # until they are rescued, others never meet the hole. Either is right; no more than the limit may be said to pass.
    # With loss on top the two cannot always be told apart, and to say so is right as well.
    vague = bool(d.cell.loss) or not d.cell.asked
    d.want = Want(
        verdicts=("healthy", "degraded", "broken", *(("unknown",) if vague else ())),
        may=("MTU101",) if d.cell.asked else (),
        reverse=_seen(d, d.limit, d.limit + 1, loose=True),
        forward=forward if d.cell.root else Way(passes=d.mtu, loose=True),
    )


def silent_application(d: Draw) -> None:
    d.cable("h", "r")
    d.cable("r", "s", rtt=True)
    d.behave["behave"] = "silent"
    asked = d.cell.asked
    forward = _sent(d, d.mtu, None)
    if d.cell.ours:  # nobody said what it should speak, and the way in is measured without it
        d.want = _fine(d, _seen(d, d.mtu, None), forward)
        return
    verdicts = ("unknown",) if asked else ("healthy", "degraded", "unknown")
    d.want = Want(verdicts=verdicts, reverse=Way(mute=True), forward=forward)


def syn_cookies(d: Draw) -> None:
    """The server forgets which size was asked and takes one of four: a bracket between two of those is right."""
    d.fault(syn_cookies="s")
    offered = [m + HEAD[d.cell.family] for m in COOKIES[d.cell.family] if m + HEAD[d.cell.family] <= d.mtu]
    if d.random.random() < 0.3:
        healthy(d)
        reverse = _seen(d, d.mtu if d.cell.ours else max(offered), None, least=max(offered))
        d.want = _fine(d, reverse, _sent(d, d.mtu, None))
        return
    d.limit = d.below()
    d.narrow_in(d.limit)
    below, above = [s for s in offered if s <= d.limit], [s for s in offered if s > d.limit]
    if not above:  # the server never sends that much
        reverse = Way(passes=d.limit, fails=d.limit + 1, loose=True) if d.cell.ours else _seen(d, max(below), None)
        d.want = _fine(d, reverse, _sent(d, d.mtu, None))
        return
    # The end of an answer may be larger than the size below; and what is ours at both ends measures to the byte.
    reverse = Way(passes=d.limit, fails=d.limit + 1, loose=True)
    if not d.cell.ours:
        reverse = _seen(d, d.limit, min(above), least=max(below))
    d.want = _holes(d, reverse, _sent(d, d.mtu, None, hole_in=True))


def one_bad_backend(d: Draw) -> None:
    d.limit = d.below()
    backends = ["s", "s2", "s3"][: d.random.choice((2, 3))]
    bad = d.random.choice(backends)
    d.parts["hosts"] = ["h", "r", *backends]
    d.cable("h", "r", rtt=True)
    for b in backends:
        d.cable("r", b, back=d.limit if b == bad else None)
    nat = {"host": "r", "kind": "dnat", "port": PORTS[d.cell.target], "balance": backends}
    d.parts["nat"] = [nat]
    d.to, d.servers = "r", tuple(backends)
    d.lossy = "h"
    some = Way(passes=d.mtu, fails=d.limit + 1, loose=True)
    forward = Way(passes=d.mtu, loose=True)
    if d.cell.asked:
        d.want = Want(verdicts=("broken",), errors=("MTU118",), reverse=some, forward=forward)
    else:
        d.want = _fine(d, Way(mute=True), _sent(d, d.mtu, None))


def told(d: Draw) -> None:
    """A small link in the middle whose routers say so, and are heard."""
    d.limit = d.below()
    d.parts["hosts"] = ["h", "r", "q", "s"]
    d.cable("h", "r")
    d.cable("r", "q", rtt=True, mtu=d.limit)
    d.cable("q", "s")
    d.want = _fine(d, _seen(d, d.limit, d.limit + 1), _sent(d, d.limit, d.limit + 1))


def first_flight(d: Draw) -> None:
    """Small ClientHellos are answered, one with a post-quantum key share is not: it falls into a hole, or somebody on
    the way does not bear TLS records that long (its packets are as small as others). Whoever takes those for granted
    may not bear the long beginning of a request either by which the way out is measured without rights."""
    if d.cell.root and d.random.random() < 0.5:
        healthy(d)
        what = d.random.choice(("drop", "reject with tcp reset"))
        rule = f"tcp dport {PORTS['https']} @ih,0,16 0x1603 @ih,24,16 > {LONG_RECORD} {what}"
        chain = "add chain inet box f { type filter hook forward priority 0; }"
        d.fault(nft={"host": "r", "lines": ["add table inet box", chain, f"add rule inet box f {rule}"]})
        d.want = Want(
            verdicts=("broken",), errors=("MTU115",), reverse=_seen(d, d.mtu, None), forward=_sent(d, d.mtu, None)
        )
        return
    d.limit = d.below(most=FIRST_FLIGHT)
    d.narrow_out(d.limit)
    want = _holes(d, _seen(d, d.mtu, None), _sent(d, d.limit, d.limit + 1))
    d.want = dataclasses.replace(want, also=() if d.cell.loss else ("MTU115",))  # it says what the hole does besides


FAULTS: dict[str, Maker] = {
    "healthy": healthy,
    "hole in": hole_in,
    "hole out": hole_out,
    "both different": both_different,
    "reverse-only silent": way_back_silent,
    "clamp one-sided": clamp_one_sided,
    "clamp masking": clamp_masking,
    "fragments dropped": fragments_dropped,
    "first flight too big": first_flight,
    "MTU probing server": mtu_probing,
    "silent application": silent_application,
    "SYN cookies": syn_cookies,
    "one bad backend": one_bad_backend,
    "too-big told": told,
}
VALUES = (tuple(FAULTS), TARGETS, FAMILIES, RTTS, LOSSES, RIGHTS)


def every() -> Iterator[Cell]:
    """The full matrix. Without rights there is no other end of ours; and behind a balancer it is not known which one
    would be. First flights are those of TLS."""
    for fault, target, family, rtt, loss, rights in itertools.product(*VALUES):
        if fault == "first flight too big" and target != "https":
            continue
        if target != "namespace" or (rights == "root" and fault != "one bad backend"):
            yield Cell(fault=fault, target=target, family=family, rtt=rtt, loss=loss, rights=rights)


def pairs(cell: Cell) -> set[tuple[int, Any, int, Any]]:
    """Which values of which columns meet in a cell."""
    row = (cell.fault, cell.target, cell.family, cell.rtt, cell.loss, cell.rights)
    return {(i, row[i], j, row[j]) for i, j in itertools.combinations(range(len(row)), 2)}


def pairwise(seed: int = 1) -> list[Cell]:
    """A few dozen cells in which any two values of any two columns meet, where they may: always one more that holds
    most of the pairs still missing. (allpairspy 2.5 leaves pairs out where values exclude each other.) Other seeds give
    other cells."""
    left = list(every())
    Random(seed).shuffle(left)
    held = {cell: pairs(cell) for cell in left}
    missing = set().union(*held.values())
    chosen = []
    while missing:
        best = max(left, key=lambda cell: len(held[cell] & missing))
        missing -= held[best]
        chosen.append(best)
    return chosen


@dataclass(frozen=True, kw_only=True)
class Made:
    """A lab to build, and what must be said of it."""

    cell: Cell
    seed: int
    scenario: Scenario
    want: Want
    limit: int
    to: str  # the host that is asked


def make(cell: Cell, seed: int) -> Made:
    """Draws the lab of a cell. The same two give the same lab."""
    random = Random(zlib.crc32(f"{cell}#{seed}".encode()))
    d = Draw(cell=cell, random=random)
    d.parts["hosts"] = ["h", "r", "s"]
    if random.random() < 0.2:
        d.mtu = 9000
    FAULTS[cell.fault](d)
    assert d.want is not None
    _addresses(d)
    _serve(d)
    if cell.loss:
        d.fault(loss={"host": d.lossy, "percent": cell.loss})
    url = f"{'http' if cell.ours else cell.target}://{d.to}:{PORTS[cell.target]}"
    if cell.asked:
        # A page that fills several segments of any size; what tiny ones give is another table (docs/probing.md).
        url += f"/{random.choice((20000, 60000, 200000)) * (5 if d.mtu > 1500 else 1)}"
    scenario = {
        "name": "cover",
        "about": str(cell),
        "family": cell.family,
        **d.parts,
        "containers": {"c": {"in": "h", "mtu": d.mtu}},
        "sees": ["c", "h"],
        "ask": {"from": "c", "to": url, "family": cell.family},
        "expect": {},
    }
    return Made(cell=cell, seed=seed, scenario=msgspec.convert(scenario, Scenario), want=d.want, limit=d.limit, to=d.to)


def _addresses(d: Draw) -> None:
    """Networks nobody routes, drawn."""
    taken: set[Any] = set()
    for cable in d.parts["cables"]:
        for family, key in ((4, "net"), (6, "net6")):
            while (net := _net(d.random, family)) in taken:
                pass
            taken.add(net)
            if d.parts.get("family") == "both" or family == d.cell.family:
                cable[key] = str(net)


def _net(random: Random, family: int) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    if family == 6:
        return ipaddress.IPv6Network((0xFD00 << 112 | random.getrandbits(56) << 64, 64))
    a, b = random.choice(((10, random.randrange(1, 255)), (192, 168), (198, 18), (100, random.randrange(64, 128))))
    return ipaddress.ip_network(f"{a}.{b}.{random.randrange(255)}.0/24")


def _serve(d: Draw) -> None:
    r, cell = d.random, d.cell
    service: dict[str, Any] = {"kind": "http" if cell.ours else cell.target, "port": PORTS[cell.target]}
    if cell.target == "https":
        service["cert"] = r.choice(("chain", "ec"))
    if cell.asked:
        service["writes"] = r.choice((1, 2))
    else:
        service["behave"] = r.choice(("answer", "banner"))
    service |= d.behave
    d.parts["services"] = [{**service, "host": s} for s in d.servers]
