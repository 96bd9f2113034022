"""What a run says at the end: built by diagnose.py, drawn by render/."""

from typing import Literal

from pathfit.core.ask import Ask
from pathfit.core.base import Value
from pathfit.core.evidence_base import Missing
from pathfit.core.finding import Finding
from pathfit.core.measured import Bracket, Contact, SideEffect, Used
from pathfit.core.path import Predicted

SCHEMA = "pathfit.report/1"
VerdictWord = Literal["healthy", "degraded", "broken", "unknown"]


class MeasuredAddress(Value, frozen=True, kw_only=True):
    """What was measured towards one address."""

    contact: Contact
    forward: Bracket
    reverse: Bracket
    forward_tried: tuple[Bracket, ...] = ()
    reverse_tried: tuple[Bracket, ...] = ()
    ends_at: Literal["target", "local-proxy", "terminator", "unknown"] = "unknown"


class Report(Value, frozen=True, kw_only=True):
    """The whole answer. ``measured[0]`` is the path the asked client would take."""

    version: str
    ask: Ask
    verdict: VerdictWord
    findings: tuple[Finding, ...] = ()
    forward: Predicted | None = None
    reverse: Predicted | None = None
    measured: tuple[MeasuredAddress, ...] = ()
    side_effects: tuple[SideEffect, ...] = ()
    used: Used = Used()
    missing: tuple[Missing, ...] = ()
    took: float = 0.0  # seconds
    source_label: str = ""
    target_label: str = ""
    why_unknown: str | None = None  # message id when the verdict is unknown
    host: str = ""
    workloads: tuple[dict[str, str], ...] = ()
