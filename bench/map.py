"""How long the map of a thousand namespaces takes: `python bench/map.py [NAMESPACES]`.

Folded (three networks, containers of one shape), with a path, and at its worst (a bridge for every container, so that
nothing folds). Ours alone: joining, folding, placing, writing; reading the machine is bench/observe.py.
"""

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "unit"))

from maps import crowd, distinct
from topo import host

from pathfit.core.snapshot import HostSnapshot
from pathfit.model import Network, predict_both
from pathfit.render.map import document, page, text
from pathfit.render.map.build import build
from pathfit.render.map.graph import Map

ROUNDS = 5
DRAWN: dict[str, Callable[[Map], str | bytes]] = {"html": page.render, "text": text.render, "json": document.dump}


def drawn(snapshot: HostSnapshot, source: str = "") -> Map:
    network = Network.of(snapshot)
    if not source:
        return build(network, [snapshot])
    ways = predict_both(network, source, "198.51.100.1", dport=443)
    return build(network, [snapshot], asked=(source, "198.51.100.1"), ways=ways)


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    rows = [
        ("three networks", host(crowd(count)), ""),
        ("three networks, with a path", host(crowd(count)), "netns:web.1"),
        ("a bridge for each", host(distinct(count)), ""),
    ]
    for what, snapshot, source in rows:
        for kind, write in DRAWN.items():
            took, size = [], 0
            for _ in range(ROUNDS):
                start = time.perf_counter()
                size = len(write(drawn(snapshot, source)))
                took.append((time.perf_counter() - start) * 1000)
            named = f"{count} namespaces, {what}, {kind}"
            print(
                f"{named:52} median {statistics.median(took):7.1f} ms   best {min(took):7.1f} ms   {size / 1e6:5.2f} MB"
            )


if __name__ == "__main__":
    main()
