"""Places: how people call them, and the devices a way leaves by."""

from collections.abc import Iterable, Iterator

from pathfit.core.evidence_base import Missing
from pathfit.core.net import Point
from pathfit.core.path import Exit, Predicted


def place_text(point: Point) -> str:
    """A place as people say it: "h/eth0", "pid:812/eth0", "host/docker0"."""
    name = bare(point.netns)
    return f"{name}/{point.link}" if point.link else name


def exits(way: Predicted | None) -> Iterator[Point]:
    for hop in way.hops if way else ():
        for step in hop.steps:
            if isinstance(step, Exit) and step.at.link:
                yield step.at


def bare(where: str) -> str:
    kind, sep, name = where.partition(":")
    return name if sep and kind in ("netns", "container", "docker", "podman", "pod", "network") else where


def each_once(said: Iterable[Missing]) -> tuple[Missing, ...]:
    """The same without what is lacking in the same words again, by another question (of another address, later)."""
    once: dict[tuple[str, str, str], Missing] = {}
    for m in said:
        once.setdefault((m.what, m.why, m.how), m)
    return tuple(once.values())
