"""Places: how people call them, and the devices a way leaves by."""

from collections.abc import Iterator

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
