"""What is said: findings, their proof and their repair."""

from typing import Literal

from pathfit.core.base import Value
from pathfit.core.change import Change
from pathfit.core.net import Point

Severity = Literal["error", "warning", "info"]
Confidence = Literal["confirmed", "likely", "possible"]
Applicability = Literal["safe", "disruptive", "manual"]
Lasts = Literal["reboot", "recreate", "permanent"]
Scalar = str | int | float | bool | None
Facts = dict[str, Scalar | tuple[str, ...] | tuple[int, ...]]


class EvidenceLine(Value, frozen=True, kw_only=True):
    """A piece of evidence as a finding cites it. ``ref`` = evidence id; ``message`` a message id of words/."""

    ref: str
    message: str = ""
    facts: Facts = {}


class FileEdit(Value, frozen=True, kw_only=True):
    """A change to a file, as a unified diff and as the whole new text."""

    path: str
    diff: str
    new: str = ""


class Fix(Value, frozen=True, kw_only=True):
    """A repair. ``value`` = the number written; ``effective`` = the resulting IP MTU of the container (bytes).

    ``changes`` are what ``apply/`` performs; ``commands`` and ``files`` say the same to a reader. A fix without
    ``changes`` is only shown. ``verify`` says how it is proven afterwards: "measured" (asked traffic, both ways),
    "state" (nothing was asked: only that the values hold), "" (not applied by us).

    ``untried``: no run of that platform has shown that its parser takes the setting and that the device then has the
    MTU; ``source`` is what says so instead, with the version it was read of. Such a repair is always ``manual``.
    """

    id: str
    title: str  # message id
    platform: str
    value: int | None = None
    effective: int | None = None
    applicability: Applicability = "manual"
    lasts: Lasts = "reboot"
    interrupts: tuple[str, ...] = ()
    commands: tuple[tuple[str, ...], ...] = ()
    files: tuple[FileEdit, ...] = ()
    undo: tuple[tuple[str, ...], ...] = ()
    proof: str | None = None
    where: Point | None = None
    facts: Facts = {}
    changes: tuple[Change, ...] = ()
    hosts: tuple[str, ...] = ()  # where each of ``commands`` is to be typed, "" = here; empty: all of them here
    verify: str = ""
    untried: bool = False
    source: str = ""

    def __post_init__(self) -> None:
        if self.untried and (not self.source or self.applicability != "manual"):
            raise ValueError(f"{self.id}: what was never tried is shown with its source, and left to people")


class Finding(Value, frozen=True, kw_only=True):
    """One fault. ``evidence`` is never empty (checked). ``facts`` are typed; sentences live in words/."""

    code: str
    name: str
    severity: Severity
    confidence: Confidence
    where: tuple[Point, ...]
    facts: Facts
    evidence: tuple[EvidenceLine, ...]
    because: tuple[str, ...] = ()
    explains: tuple[str, ...] = ()
    fixes: tuple[Fix, ...] = ()
    workloads: tuple[str, ...] = ()  # of a scan: who is affected, as WHEREs

    def __post_init__(self) -> None:
        if not self.evidence:
            raise ValueError(f"{self.code}: a finding without evidence")

    @property
    def id(self) -> str:
        """Hash of code, place and direction: the same fault has the same id in every run."""
        import hashlib  # loads a library of two megabytes, and a healthy path has no findings

        places = "|".join(f"{p.host}/{p.netns}/{p.link}" for p in self.where)
        key = f"{self.code}|{places}|{self.facts.get('direction', '')}"
        return hashlib.sha256(key.encode()).hexdigest()[:6]
