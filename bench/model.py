"""How long one prediction takes, cold: `python bench/model.py`.

Six hops (client, five routers, server), 40 filter rules on each, IPv4; nothing is prepared: the Network is joined
and every index made for this one flow. Beside it: warm, both ways, and beside a table of 100 000 routes.
"""

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
from pathfit.model import Network, predict, predict_both

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
        start = time.perf_counter()
        work()
        took.append((time.perf_counter() - start) * 1e6)
    print(f"{what:48} median {statistics.median(took):8.0f} us   best {min(took):8.0f} us")


def crowded(snapshot: HostSnapshot) -> HostSnapshot:
    """100 000 routes in a table nobody asks for, in every namespace's neighbour: the second router."""
    more = tuple(
        Route(family=4, table=100, dst=f"20.{i >> 16}.{i >> 8 & 255}.{i & 255}", prefix=32, hops=(NextHop(link=2),))
        for i in range(MANY)
    )
    spaces = list(snapshot.namespaces)
    spaces[2] = replace(spaces[2], routes=spaces[2].routes + more)
    return replace(snapshot, namespaces=tuple(spaces))


def main() -> None:
    names = ["c", *(f"r{i}" for i in range(ROUTERS)), "s"]
    plain, filtered = host(text()), host(text(), tables=dict.fromkeys(names, rules()))
    flow = Flow(src="", dst=f"10.0.{ROUTERS}.2", proto=TCP, sport=40000, dport=443, size=1500)
    assert predict(Network.of(filtered), "netns:c", flow).fate == "delivered"
    timed("one flow, cold, no filters", lambda: predict(Network.of(plain), "netns:c", flow))
    timed("one flow, cold, 40 rules a hop", lambda: predict(Network.of(filtered), "netns:c", flow))
    warm = Network.of(filtered)
    timed("one flow, warm, 40 rules a hop", lambda: predict(warm, "netns:c", flow))
    timed("both ways, warm", lambda: predict_both(warm, "netns:c", flow.dst, dport=443))
    large = crowded(plain)
    timed("one flow, cold, beside 100 000 unused routes", lambda: predict(Network.of(large), "netns:c", flow), 10)


if __name__ == "__main__":
    main()
