"""How long one prediction takes: `python bench/model.py`.

*Cold*: the Network is joined and every index made for this one flow. Six hops (client, five routers, server), 40 filter
rules on each, IPv4. What is kept between rounds is what a process keeps of texts (addresses and ports as numbers);
"nothing kept" empties that too. Beside it: warm, both ways, 1000 namespaces as `scan` has them, and tables of 100 000
routes. Times are the process's own (it does nothing but compute). `--profile` says
where the time of the row with 40 rules goes.
"""

import cProfile
import pstats
import statistics
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

from msgspec.structs import replace

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "unit"))

from topo import host

from pathfit.core.filters import Chain, FilterRule, Match, Table, Verdict
from pathfit.core.net import TCP, Flow
from pathfit.core.snapshot import HostSnapshot, NextHop, Route
from pathfit.model import Network, addr, predict, predict_both
from pathfit.model.filters import conditions, sieve

ROUTERS = 5
RULES = 40
ROUNDS = 300
MANY = 100_000


def text() -> str:
    """A chain: c - r0 - r1 - … - s."""
    lines = []
    names = ["c", *(f"r{i}" for i in range(ROUTERS)), "s"]
    for i, (a, b) in enumerate(pairwise(names)):
        left = "eth0" if i == 0 else "right"
        right = "eth0" if b == "s" else "left"
        lines.append(f"{a} {left} 1500 10.0.{i}.1/24 -- {b} {right} 1500 10.0.{i}.2/24")
    for i, name in enumerate(names[:-1]):
        lines.append(f"{name} route default via 10.0.{i}.2")
    for i, name in enumerate(names[2:], 1):
        lines.append(f"{name} route 10.0.0.0/24 via 10.0.{i}.1")
    lines += [f"{name} forward" for name in names[1:-1]]
    return "\n".join(lines)


def rules() -> tuple[Table, ...]:
    def rule(n: int) -> FilterRule:
        tests = (
            Match(field="l4proto", values=("6",)),
            Match(field="saddr", values=(f"192.0.2.{n}/32",)),
            Match(field="dport", values=(str(8000 + n),)),
        )
        return FilterRule(exprs=(*tests, Verdict(kind="drop")), handle=n)

    chain = Chain(name="forward", hook="forward", rules=tuple(rule(n) for n in range(RULES)))
    return (Table(family="inet", name="corp", chains=(chain,)),)


def timed(what: str, work: Callable[[], object], rounds: int = ROUNDS) -> None:
    took = []
    for _ in range(rounds):
        start = time.process_time()
        work()
        took.append((time.process_time() - start) * 1e6)
    print(f"{what:56} median {statistics.median(took):8.0f} us   best {min(took):8.0f} us", flush=True)


def crowded(snapshot: HostSnapshot, table: int) -> HostSnapshot:
    """100 000 more routes on the second router, in this table."""
    more = tuple(
        Route(family=4, table=table, dst=f"20.{i >> 16}.{i >> 8 & 255}.{i & 255}", prefix=32, hops=(NextHop(link=2),))
        for i in range(MANY)
    )
    spaces = list(snapshot.namespaces)
    spaces[2] = replace(spaces[2], routes=spaces[2].routes + more)
    return replace(snapshot, namespaces=tuple(spaces))


def engine(containers: int) -> HostSnapshot:
    """A host with bridges of 100 containers each, its way out, and 40 rules that are about somebody else."""
    lines = ["h forward", "h eth0 phys 1500 203.0.113.1/24", "h route default via 203.0.113.254"]
    for i in range(containers):
        n, k = divmod(i, 100)
        if k == 0:
            lines.append(f"h br{n} bridge 1500 172.{16 + n}.0.1/16")
        lines.append(f"c{i} eth0 1500 172.{16 + n}.1.{k + 1}/16 -- h v{i} 1500 @br{n}")
        lines.append(f"c{i} route default via 172.{16 + n}.0.1")
    return host("\n".join(lines), tables={"h": rules()})


def kept() -> None:
    """Forget what was kept of texts."""
    for cache in (addr.number, sieve._addresses, sieve._numbers, sieve._name):
        cache.cache_clear()
    conditions._remembered.cache_clear()


def forgetful(snapshot: HostSnapshot, flow: Flow) -> None:
    took = []
    for _ in range(ROUNDS):
        kept()
        start = time.process_time()
        predict(Network.of(snapshot), "netns:c", flow)
        took.append((time.process_time() - start) * 1e6)
    what = "one flow, cold, 40 rules a hop, nothing kept"
    print(f"{what:56} median {statistics.median(took):8.0f} us   best {min(took):8.0f} us", flush=True)


def many() -> None:
    """1000 namespaces."""
    snapshot = engine(1000)
    timed("Network.of 1001 namespaces", lambda: Network.of(snapshot), 50)
    target = Flow(src="", dst="198.51.100.7", proto=TCP, sport=40000, dport=443, size=1500)
    timed("the first container of 1000, cold", lambda: predict(Network.of(snapshot), "netns:c0", target), 20)
    warm, seen = Network.of(snapshot), iter(range(1000))
    predict(warm, "netns:c0", target)
    timed("each further container of 1000", lambda: predict(warm, f"netns:c{next(seen)}", target), 1000)
    seen = iter(range(1000))
    timed(
        "each container of 1000, both ways",
        lambda: predict_both(warm, f"netns:c{next(seen)}", target.dst, dport=443),
        1000,
    )


def profile(snapshot: HostSnapshot, flow: Flow) -> None:
    with cProfile.Profile() as seen:
        for _ in range(ROUNDS):
            predict(Network.of(snapshot), "netns:c", flow)
    pstats.Stats(seen).sort_stats("tottime").print_stats(30)


def main() -> None:
    names = ["c", *(f"r{i}" for i in range(ROUTERS)), "s"]
    plain, filtered = host(text()), host(text(), tables={name: rules() for name in names})
    flow = Flow(src="", dst=f"10.0.{ROUTERS}.2", proto=TCP, sport=40000, dport=443, size=1500)
    assert predict(Network.of(filtered), "netns:c", flow).fate == "delivered"
    if "--profile" in sys.argv:
        profile(filtered, flow)
        return
    timed("one flow, cold, no filters", lambda: predict(Network.of(plain), "netns:c", flow))
    timed("one flow, cold, 40 rules a hop", lambda: predict(Network.of(filtered), "netns:c", flow))
    forgetful(filtered, flow)
    timed("both ways, cold, 40 rules a hop", lambda: predict_both(Network.of(filtered), "netns:c", flow.dst, dport=443))
    warm = Network.of(filtered)
    timed("one flow, warm, 40 rules a hop", lambda: predict(warm, "netns:c", flow))
    timed("both ways, warm, 40 rules a hop", lambda: predict_both(warm, "netns:c", flow.dst, dport=443))
    many()
    for what, table in (("another table", 100), ("the table that is asked", 254)):
        large = crowded(plain, table)
        timed(f"cold, 100 000 routes in {what}", lambda large=large: predict(Network.of(large), "netns:c", flow), 10)


if __name__ == "__main__":
    main()
