"""`matrix`: all pairs of the containers of a network, or of places that are named, each way by itself.

One diagnosis a pair, with a WHERE as its target: both ends are ours, so both directions are judged alone. Pairs are
measured one after the other. Where there are more than ``--pairs`` allows, every place still is in some of them.
"""

import sys
import time
from collections.abc import Iterator
from typing import Any

import msgspec

from pathfit import __version__
from pathfit.cli.stop import CANNOT, OR, Stop, line
from pathfit.cli.talk import Talk, readers_may_leave, style
from pathfit.core.ask import Ask
from pathfit.core.engine import Container, Engine, EngineNetwork
from pathfit.core.evidence import StateFact
from pathfit.core.report import Report
from pathfit.render.matrix import Matrix, Place

PAIRS = 200  # 0.05 to 0.3 s each
MOST_PAIRS = 5000
NETWORK = "network:"
MOST_NAMED = 4


def matrix(words: tuple[str, ...], o: dict[str, Any]) -> int:
    """Measure, print; returns the exit status. Raises Stop."""
    from pathfit.render import json
    from pathfit.render import matrix as drawn

    look = style(o["lang"])
    if not 1 <= o["pairs"] <= MOST_PAIRS:
        raise Stop(f"--pairs {o['pairs']} makes no sense: 1 to {MOST_PAIRS}", f"--pairs {PAIRS}")
    title, places = _places(words, o)
    wanted = list(pairs(len(places), o["pairs"]))
    done: dict[tuple[int, int], Report] = {}
    talk = Talk(quiet=o["as_json"] and not o["verbose"])
    begun = time.monotonic()
    try:
        for n, (a, b) in enumerate(wanted, 1):
            talk.progress(f"{n} of {len(wanted)}: {places[a].name} > {places[b].name}")
            done[a, b] = _measured(places[a], places[b], look.lang, o)
    finally:
        talk.clear()
    every = len(places) * (len(places) - 1) // 2
    m = Matrix(title, places, done, every - len(done), time.monotonic() - begun, __version__)
    with readers_may_leave():
        if o["as_json"]:
            sys.stdout.flush()
            document = msgspec.json.encode(drawn.document(m))
            sys.stdout.buffer.write(json.visible(msgspec.json.format(document, indent=2)) + b"\n")
        else:
            sys.stdout.write(drawn.text(m, lang=look.lang, width=look.width, colour=look.colour, ascii_only=look.ascii))
    from pathfit.cli.examining import exit_status

    return max(exit_status(r) for r in done.values())


def pairs(count: int, most: int) -> Iterator[tuple[int, int]]:
    """Pairs of different numbers below ``count``, each once: neighbours first, then every second one, and so on, so
    that wherever it ends each number has been in about as many as any other."""
    left = most
    for step in range(1, count // 2 + 1):
        for a in range(count // 2 if 2 * step == count else count):
            if not left:
                return
            left -= 1
            yield a, (a + step) % count


def _measured(a: Place, b: Place, lang: str, o: dict[str, Any]) -> Report:
    from pathfit.cli import options
    from pathfit.cli.examining import tried

    usual = {"resolve": (), "sni": None, "proxy": None}
    ask: Ask = options.ask("diagnose", a.where, b.where, lang, {**usual, **o})
    ask = msgspec.structs.replace(ask, target=msgspec.structs.replace(ask.target, at=b.address))
    return tried(ask, verbose=o["verbose"])


def _places(words: tuple[str, ...], o: dict[str, Any]) -> tuple[str, tuple[Place, ...]]:
    """What to call it, and who is in it. Raises Stop."""
    from pathfit.cli import target as grammar

    if len(words) == 1 and words[0].startswith(NETWORK):
        return _of_network(words[0].removeprefix(NETWORK), o)
    if len(words) < 2:
        raise Stop(
            "a matrix needs a network, or at least two places",
            "pathfit matrix network:NAME   or   pathfit matrix container:a container:b",
        )
    wheres = [grammar.where(w, "pathfit matrix") for w in dict.fromkeys(words)]
    if any(w.startswith(NETWORK) for w in wheres):
        raise Stop("a network stands alone", "pathfit matrix network:NAME")
    if len(wheres) < 2:
        raise Stop("all of these are one place", "pathfit matrix container:a container:b")
    return ", ".join(wheres[:MOST_NAMED]) + (", …" if len(wheres) > MOST_NAMED else ""), tuple(
        Place(w.partition(":")[2] or w, w) for w in wheres
    )


def _of_network(name: str, o: dict[str, Any]) -> tuple[str, tuple[Place, ...]]:
    engines = _engines(o)
    found = [(e, n) for e in engines for n in e.networks if name in (n.name, n.id)]
    if not found:
        known = sorted({n.name for e in engines for n in e.networks if n.driver not in ("host", "null")})
        how = OR.join(line("pathfit", "matrix", f"{NETWORK}{n}") for n in known[:MOST_NAMED])
        raise Stop(f"no engine here has a network {name}", how or "pathfit   (which engines are seen here?)", CANNOT)
    if len(found) > 1:
        kinds = ", ".join(sorted({e.kind for e, _ in found}))
        raise Stop(f"several engines have a network {name}: {kinds}", "pathfit matrix container:a container:b")
    engine, network = found[0]
    places = tuple(members(engine, network, o["v6"]))
    if len(places) < 2:
        raise Stop(
            f"{len(places)} running containers in network {name}: a pair needs two",
            "pathfit matrix container:a container:b",
            CANNOT,
        )
    return f"{name} ({engine.kind}, {network.driver})", places


def _engines(o: dict[str, Any]) -> tuple[Engine, ...]:
    from pathfit.cli import options
    from pathfit.cli.examining import live
    from pathfit.cli.scanning import question

    case = live(question("en", options.seconds(o["timeout"])), quiet=True, verbose=o["verbose"])
    return tuple(e for fact in case.all(StateFact) for e in fact.host.engines)


def members(engine: Engine, network: EngineNetwork, v6: bool = False) -> Iterator[Place]:
    """Running containers of a network with a namespace of their own there, by name."""
    seen: set[str] = set()
    for c in sorted(engine.containers, key=lambda c: (c.pod or c.name, c.id)):
        end = next((x for x in c.endpoints if network.id in (x.network, "") or x.name == network.name), None)
        if end is None or not c.netns or c.netns in seen or c.state not in ("running", "paused"):
            continue
        seen.add(c.netns)
        own = [a.partition("/")[0] for a in end.addresses]
        address = next((a for a in own if (":" in a) == v6), own[0] if own else "")
        yield Place(c.pod or c.name or c.id[:12], _where(engine, c), address)


def _where(engine: Engine, c: Container) -> str:
    if "/" in c.pod:
        return f"pod:{c.pod}"
    inside = f"{engine.inside_name}/" if engine.inside_name else ""
    return f"container:{inside}{c.name or c.id}"
