"""Scenario files: found, read, checked; every complaint says where in the document and what is allowed."""

import re
import stat
from pathlib import Path

import msgspec

from pathfit.lab import strictyaml
from pathfit.lab.check import problems
from pathfit.lab.scenario import Scenario

SUFFIX = ".yaml"
SCENARIOS = Path(__file__).parent / "scenarios"


class ScenarioError(ValueError):
    """A scenario that cannot be used: ``FILE:LINE: PLACE: what is wrong, what is allowed``."""


def scenarios() -> list[str]:
    """Names of the embedded scenarios, sorted."""
    return sorted(p.name.removesuffix(SUFFIX) for p in SCENARIOS.glob("*" + SUFFIX))


def load(name_or_path: str) -> Scenario:
    """An embedded scenario by name, or a file by path (anything with a "/" or ending in .yaml).

    Raises ScenarioError for an unknown name, an unreadable file, or a document that is not a scenario.
    """
    path = Path(name_or_path)
    if "/" not in name_or_path and path.suffix != SUFFIX:
        path = SCENARIOS / (name_or_path + SUFFIX)
        if not path.is_file():
            raise ScenarioError(f"no scenario {name_or_path!r}; known: {', '.join(scenarios())}")
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise ScenarioError(f"{path}: not a regular file")
        with open(path, "rb") as f:
            data = f.read(strictyaml.MAX_BYTES + 1)
    except OSError as e:
        raise ScenarioError(f"{path}: {e.strerror}") from None
    return parse(data, path.name)


def parse(data: bytes, file: str = "scenario") -> Scenario:
    """A scenario from YAML. Raises ScenarioError."""
    try:
        document, lines = strictyaml.parse(data)
    except strictyaml.YamlError as e:
        raise ScenarioError(f"{file}: {e}") from None
    if not isinstance(document, dict):
        raise ScenarioError(f"{file}:1: a scenario is a mapping with name, about, hosts, ask, expect, …")
    try:
        scenario = msgspec.convert(document, Scenario)
    except msgspec.ValidationError as e:
        raise ScenarioError(_explain(str(e), file, lines)) from None
    for place, what in problems(scenario):
        raise ScenarioError(f"{file}:{_line(place, lines)}: {place}: {what}")
    return scenario


def _explain(message: str, file: str, lines: dict[str, int]) -> str:
    """msgspec's sentence with the line: "Expected `int` >= 68 - at `$.cables[1].mtu`"."""
    what, _, where = message.partition(" - at `")
    place = where.rstrip("`").removeprefix("$").removeprefix(".").replace("`", "")
    # a mapping with free keys is reported as `[...]`; the nearest place above it is the best we know
    place = re.sub(r"(\.|)\[\.\.\.\].*$", "", place)
    return f"{file}:{_line(place, lines)}: {place or 'document'}: {what}"


def _line(place: str, lines: dict[str, int]) -> int:
    while place and place not in lines:
        place = re.sub(r"(\.[^.\[]*|\[[0-9]+\]|^[^.\[]*)$", "", place)
    return lines.get(place, 1)
