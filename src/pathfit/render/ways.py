"""The two directions in one line each: ``jenkins 1500 > docker0 1500 > [eth0 1400] > ... > 198.51.100.2``.

Brackets stand around the place whose limit was measured; ``...`` is what lies beyond what we can see, and has the
bracket when no visible place explains the measurement.
"""

from collections import Counter

from pathfit.core.net import Direction, Point
from pathfit.core.path import Hop, Predicted
from pathfit.core.report import MeasuredAddress, Report

BEYOND = "..."
MOST = 7  # places in one line; more than that and the middle is left out


def line(report: Report, direction: Direction) -> str:
    """The way in the order its packets take it; the two ends alone when nothing is known of it."""
    way = report.forward if direction == "forward" else report.reverse
    measured = report.measured[0] if report.measured else None
    address = measured.contact.address if measured else report.target_label or report.ask.target.text
    source = report.source_label or report.ask.source
    if direction == "forward":
        inner = _places(way, limit_of(measured, direction), drop_first=True)
        first = _sized(source, _own(report))
        return _join([first, *_shorten(inner), address])
    seen = way if way is not None and way.hops else _turned(report.forward)
    inner = _places(seen, limit_of(measured, direction), drop_last=True, sized=False)
    return _join([address, *_shorten(inner), _sized(source, _promised(measured) or _own(report))])


def limit_of(measured: MeasuredAddress | None, direction: Direction) -> int | None:
    """The measured limit of a direction (bytes), None when everything passed or nothing is known."""
    if measured is None:
        return None
    bracket = measured.forward if direction == "forward" else measured.reverse
    return bracket.passes if bracket.fails is not None else None


def uplink(report: Report) -> Hop | None:
    """The place by which the traffic leaves the host of the source: the last one in the first other namespace."""
    if report.forward is None or not report.forward.hops:
        return None
    own = report.forward.hops[0].where.netns
    others = [h for h in report.forward.hops if h.where.netns != own]
    if not others:
        return None
    last = [h for h in others if h.where.netns == others[0].where.netns][-1]
    return last if last.where.link and last.mtu else None


def _places(
    way: Predicted | None, limit: int | None, *, drop_first: bool = False, drop_last: bool = False, sized: bool = True
) -> list[str]:
    """Every place between the ends. The first (or last) hop is the source itself, which the caller names."""
    hops = list(way.hops) if way else []
    if drop_first:
        hops = hops[1:]
    if drop_last:
        hops = hops[:-1]
    if way is not None and way.complete:
        hops = hops[:-1] if drop_first else hops[1:]  # the other end is named by its address
    guilty = _guilty(way, limit)
    names = _names(hops)
    shown = []
    for hop, name in zip(hops, names, strict=True):
        here = guilty is not None and hop.where == guilty
        text = _sized(name, limit if here else hop.mtu) if sized or here else name
        shown.append(f"[{text}]" if here else text)
    if way is None or not way.complete:
        unseen = _sized(BEYOND, limit) if limit is not None and guilty is None else BEYOND
        unseen = f"[{unseen}]" if limit is not None and guilty is None else unseen
        shown = [*shown, unseen] if drop_first else [unseen, *shown]
    return shown


def _guilty(way: Predicted | None, limit: int | None) -> Point | None:
    """The visible place whose limit is exactly what was measured."""
    if way is None or limit is None:
        return None
    return next((x.at for x in way.limits if x.mtu == limit), None)


def _names(hops: list[Hop]) -> list[str]:
    """Link names; with the namespace in front where one name occurs twice."""
    links = [h.where.link or bare(h.where.netns) for h in hops]
    often = Counter(links)
    return [n if often[n] == 1 else f"{bare(h.where.netns)}/{n}" for n, h in zip(links, hops, strict=True)]


def _shorten(places: list[str]) -> list[str]:
    if len(places) <= MOST:
        return places
    keep = MOST // 2
    guilty = [p for p in places[keep:-keep] if p.startswith("[")]
    return [*places[:keep], "..", *([*guilty, ".."] if guilty else []), *places[-keep:]]


def _turned(way: Predicted | None) -> Predicted | None:
    """The forward way read backwards, for names only: its limits bound the other direction."""
    if way is None:
        return None
    return Predicted(flow=way.flow, fate=way.fate, large=way.large, hops=way.hops[::-1], complete=way.complete)


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
