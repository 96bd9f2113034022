"""The two directions in one line each: ``jenkins 1500 > docker0 1500 > [eth0 1400] > ... > 198.51.100.2``.

Brackets stand around the place whose limit was measured; ``...`` is what lies beyond what we can see, and has the
bracket when no visible place explains the measurement.
"""

from typing import NamedTuple

import msgspec

from pathfit.core.net import Direction, Point
from pathfit.core.path import Encap, Enter, Exit, Fate, Hop, Predicted, Step
from pathfit.core.report import MeasuredAddress, Report

BEYOND = "..."
MOST = 7  # places in one line; more than that and the middle is left out


def line(report: Report, direction: Direction, limit: int | None = None) -> str:
    """The way in the order its packets take it; the two ends alone when nothing is known of it. ``limit``: the size
    (bytes) to bracket where nothing was measured."""
    way = report.forward if direction == "forward" else report.reverse
    measured = report.measured[0] if report.measured else None
    address = measured.contact.address if measured else report.target_label or report.ask.target.text
    source = report.source_label or report.ask.source
    limit = limit_of(measured, direction) if measured else limit
    if direction == "forward":
        inner = _places(way, limit, forward=True, ends=_crosses(report, way))
        first = _sized(source, _own(report))
        return _join([first, *_shorten(inner), address])
    if way is not None and way.hops:
        inner = _places(way, limit, forward=False, ends=_crosses(report, way))
    else:  # the forward way read backwards, for names only: its limits bound the other direction
        known = _places(_without_sizes(report.forward), None, forward=True)
        unseen = f"[{_sized(BEYOND, limit)}]" if limit is not None else BEYOND
        inner = [unseen, *(p for p in reversed(known) if p != BEYOND)]
    return _join([address, *_shorten(inner), _sized(source, _promised(measured) or _own(report))])


def limit_of(measured: MeasuredAddress | None, direction: Direction) -> int | None:
    """The measured limit of a direction (bytes), None when everything passed or nothing is known."""
    if measured is None:
        return None
    bracket = measured.forward if direction == "forward" else measured.reverse
    return bracket.passes if bracket.fails is not None else None


class Station(NamedTuple):
    """A device on the way: ``mtu`` bounds what leaves by it (bytes), None where the packet enters."""

    at: Point
    mtu: int | None


def uplink(report: Report) -> Station | None:
    """The device by which the traffic leaves the host of the source: the last one in the first other namespace.

    None where a tunnel begins there: what leaves by that device is larger than the traffic itself.
    """
    hops = report.forward.hops if report.forward else ()
    others = [h for h in hops if h.where.netns != hops[0].where.netns]
    host = [h for h in others if h.where.netns == others[0].where.netns]
    if any(isinstance(s, Encap) for h in host for s in h.steps):
        return None
    last = _stations(host[-1])[-1] if host else None
    return last if last and last.at.link and last.mtu else None


def _stations(hop: Hop) -> list[Station]:
    """The device a packet enters a namespace by and the one it leaves by; the namespace itself when it tells none."""
    enter = next((s.at for s in hop.steps if isinstance(s, Enter) and s.at.link), None)
    leave = next((s for s in reversed(hop.steps) if isinstance(s, Exit) and not s.local), None)
    found = []
    if enter is not None and (leave is None or leave.at.link != enter.link):
        found.append(Station(enter, hop.mtu if enter == hop.where and leave is None else None))
    if leave is not None:
        found.append(Station(leave.at, leave.mtu))
    return found or [Station(hop.where, hop.mtu)]


def _places(way: Predicted | None, limit: int | None, *, forward: bool, ends: bool = False) -> list[str]:
    """Every place between the ends, which the caller names: both devices of the source's host, one of each other.

    ``ends``: the far end is among the hops, although not all between was seen.
    """
    hops = list(way.hops) if way else []
    hops = hops[1:] if forward else hops[:-1]
    whole = way is not None and (way.complete or ends)
    if whole:  # then the other end is the other last hop
        hops = hops[:-1] if forward else hops[1:]
    near = (hops[0] if forward else hops[-1]) if hops else None
    stations = [s for h in hops for s in (_stations(h) if near and _same(h, near) else _stations(h)[-1:])]
    guilty = _guilty(way, limit)
    stations = _with(stations, guilty)
    shown = []
    for station, name in zip(stations, _names(stations, near), strict=True):
        here = guilty is not None and station.at == guilty
        text = _sized(name, limit if here else station.mtu) if forward or here else name
        shown.append(f"[{text}]" if here else text)
    shown = _with_wires(shown, stations, way)
    if not whole:
        lost = limit is not None and guilty is None
        unseen = f"[{_sized(BEYOND, limit)}]" if lost else BEYOND
        shown = [*shown, unseen] if forward else [unseen, *shown]
    return shown


def _with_wires(shown: list[str], stations: list[Station], way: Predicted | None) -> list[str]:
    """``...`` wherever the way goes from one host to another: nothing of that is visible."""
    hosts = [h.where.host for h in way.hops] if way else []
    if len(set(hosts)) < 2:
        return shown
    first, last = hosts[0], hosts[-1]
    around = [first, *(s.at.host for s in stations), last]
    found: list[str] = []
    for n, text in enumerate([*shown, ""]):
        found += [BEYOND] if around[n] != around[n + 1] else []
        found += [text] if text else []
    return found


def _with(stations: list[Station], guilty: Point | None) -> list[Station]:
    """``guilty`` among the stations: a bridge port is none of them, and stands behind its namespace's last one.

    A place in no namespace on the way (a switch in between) stays out: its position is not known.
    """
    last = max((n for n, s in enumerate(stations) if guilty and s.at.netns == guilty.netns), default=None)
    if guilty is None or last is None or any(s.at == guilty for s in stations):
        return stations
    return [*stations[: last + 1], Station(guilty, None), *stations[last + 1 :]]


def _crosses(report: Report, way: Predicted | None) -> bool:
    """Is it a way from end to end over a wire between two hosts?"""
    arrives = report.forward is not None and report.forward.fate is Fate.DELIVERED
    return arrives and way is not None and len({h.where.host for h in way.hops}) > 1


def _same(a: Hop, b: Hop) -> bool:
    return (a.where.host, a.where.netns) == (b.where.host, b.where.netns)


def _guilty(way: Predicted | None, limit: int | None) -> Point | None:
    """The visible place whose limit is exactly what was measured."""
    if way is None or limit is None:
        return None
    return next((x.at for x in way.limits if x.mtu == limit), None)


def _names(stations: list[Station], near: Hop | None) -> list[str]:
    """Link names; with the namespace in front where it is not that of the source's host."""
    home, host = (near.where.netns, near.where.host) if near else ("", "")
    names = []
    for at, _ in stations:
        space = bare(at.netns)
        if near and at.host != host:
            space = at.host if space == "host" else f"{at.host}!{space}"
        here = (at.host, at.netns) == (host, home)
        names.append(at.link if at.link and here else f"{space}/{at.link}" if at.link else space)
    return names


def _shorten(places: list[str]) -> list[str]:
    if len(places) <= MOST:
        return places
    keep = MOST // 2
    guilty = [p for p in places[keep:-keep] if p.startswith("[")]
    return [*places[:keep], "..", *([*guilty, ".."] if guilty else []), *places[-keep:]]


def _without_sizes(way: Predicted | None) -> Predicted | None:
    """The same way without limits and sizes."""
    if way is None:
        return None
    bare_hops = tuple(msgspec.structs.replace(h, mtu=None, steps=tuple(map(_sizeless, h.steps))) for h in way.hops)
    return msgspec.structs.replace(way, limits=(), hops=bare_hops)


def _sizeless(step: Step) -> Step:
    return msgspec.structs.replace(step, mtu=None) if isinstance(step, Exit) else step


def _own(report: Report) -> int | None:
    return report.forward.hops[0].mtu if report.forward and report.forward.hops else None


def _promised(measured: MeasuredAddress | None) -> int | None:
    return measured.contact.promised if measured else None


def _sized(name: str, mtu: int | None) -> str:
    return f"{name} {mtu}" if mtu else name


def bare(where: str) -> str:
    """The name in a WHERE: "netns:ci" is called ci."""
    kind, colon, name = where.partition(":")
    return name.rpartition("/")[2] if colon and kind != "pid" else where


def _join(places: list[str]) -> str:
    return " > ".join(places)
