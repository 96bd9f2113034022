"""What every remedy needs: the place a command runs in, and the device and route the asked flow uses."""

import re

from pathfit.core.engine import Container, Engine
from pathfit.core.net import SMALLEST_PROMISE, TCP, Point
from pathfit.core.snapshot import NetnsSnapshot, NextHop, Route
from pathfit.model.lookup import Query, lookup
from pathfit.rules import forecast
from pathfit.rules.view import View

Argv = tuple[str, ...]
MAIN_TABLE = 254  # RT_TABLE_MAIN
SAFE_FLOOR = SMALLEST_PROMISE  # below these the protocol itself suffers
UNDO: tuple[Argv, ...] = (("pathfit", "fix", "--undo", "last"),)  # what no line of a person's would put back exactly


def ip(ns: NetnsSnapshot) -> Argv:
    """`ip`, standing in ``ns``: by name where it has one, else by path or process."""
    name = _name(ns)
    return ("ip", "-n", name) if name else (*enter(ns), "ip")


def enter(ns: NetnsSnapshot) -> Argv:
    """The words before a command that make it run in ``ns``; empty for the host's own namespace."""
    name = _name(ns)
    if name:
        return ("ip", "netns", "exec", name)
    wheres = (ns.where, *ns.names)
    if "host" in wheres:
        return ()
    path = next((w.partition(":")[2] for w in wheres if w.startswith("netns:/")), None)
    if path:
        return ("nsenter", f"--net={path}")
    pid = next((w.partition(":")[2] for w in wheres if w.startswith("pid:")), None)
    if pid is None and ns.processes:
        pid = str(ns.processes[0].pid)
    return ("nsenter", "-t", pid, "-n") if pid else ()


def nft_takes(*names: str) -> bool:
    """Are they names of tables and chains as nft reads them (STRING of its scanner.l)? It reads all its words as one
    text, whatever a shell made of the quotes: the kernel, and a stranger's file, may hold a name that is a command."""
    return all(re.fullmatch(r"[A-Za-z_.][A-Za-z0-9/_.-]*", name) for name in names)


def reachable(ns: NetnsSnapshot) -> bool:
    """Can a command be made to run there?"""
    return bool(enter(ns)) or "host" in (ns.where, *ns.names)


def carrying(view: View) -> tuple[Route, NextHop] | None:
    """The route of the source that carries the asked flow, and the way of it that is used; None when not certain.

    None as well for a route with several ways: each would need the same change, and it is not ours to guess.
    """
    if view.state is None or view.source is None:
        return None
    net = forecast.network(view.state).find(view.source.id)
    if net is None:
        return None
    found = lookup(net, Query(dst=view.address, proto=TCP, dport=view.port))
    if found.kind != "unicast" or found.route is None or len(found.hops) != 1 or len(found.route.hops) > 1:
        return None
    return found.route, found.hops[0]


def verified(view: View) -> str:
    """How a repair is proven afterwards (``Fix.verify``): by measuring again, or by state where nothing was asked."""
    return "measured" if view.probe is not None else "state"


def contained(view: View, ns: NetnsSnapshot) -> bool:
    """Is it an engine's container? Then its namespace is made anew whenever it starts."""
    engines = view.state.engines if view.state is not None else ()
    return any(c.netns == ns.id and c.network_mode != "host" for e in engines for c in e.containers)


def running(engine: Engine) -> tuple[Container, ...]:
    """Its containers that have processes: those that a repair interrupts."""
    return tuple(c for c in engine.containers if c.state in ("running", "paused"))


def link_name(ns: NetnsSnapshot, index: int) -> str | None:
    return next((x.name for x in ns.links if x.index == index), None)


def at(view: View, ns: NetnsSnapshot, link: str | None = None) -> Point:
    return Point(host=view.host, netns=ns.where, link=link)


def _name(ns: NetnsSnapshot) -> str | None:
    """The name under /run/netns, when it has one."""
    wheres = (ns.where, *ns.names)
    names = (w.partition(":")[2] for w in wheres if w.startswith("netns:"))
    return next((n for n in names if n and "/" not in n), None)
