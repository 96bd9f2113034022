"""What a run says at the end: built by diagnose.py, drawn by render/."""

from typing import Literal

from pathfit.core.ask import Ask
from pathfit.core.base import Value
from pathfit.core.evidence_base import Missing
from pathfit.core.finding import Finding
from pathfit.core.measured import Bracket, Contact, DnsAnswers, HopAnswer, SideEffect, TooBig, Used
from pathfit.core.path import Predicted
from pathfit.core.remembered import Remembered

SCHEMA = "pathfit.report/1"
VerdictWord = Literal["healthy", "degraded", "broken", "unknown"]


class MeasuredAddress(Value, frozen=True, kw_only=True):
    """What was measured towards one address. ``here``: what the source remembered of it, before and after; ``there``:
    the target's WHERE when it is ours, and what it remembered of each of the source's addresses."""

    contact: Contact
    forward: Bracket
    reverse: Bracket
    forward_tried: tuple[Bracket, ...] = ()
    reverse_tried: tuple[Bracket, ...] = ()
    ends_at: Literal["target", "local-proxy", "terminator", "unknown"] = "unknown"
    here: tuple[Remembered | None, Remembered | None] = (None, None)
    there: tuple[str, tuple[tuple[Remembered | None, Remembered | None], ...]] = ("", ())
    dns: DnsAnswers | None = None
    too_big: tuple[TooBig, ...] = ()


class WorkloadVerdict(Value, frozen=True, kw_only=True):
    """One container, pod or namespace of a scan. ``where`` can be pasted into --from; ``findings`` are ids; ``mtu`` is
    that of the device it leaves by (bytes); ``why``: what stands in the way of judging it, "" when nothing does."""

    name: str
    where: str
    host: str
    verdict: VerdictWord
    engine: str = ""
    networks: tuple[str, ...] = ()
    mtu: int | None = None
    findings: tuple[str, ...] = ()
    why: str = ""


class Hung(Value, frozen=True, kw_only=True):
    """A TCP socket that hangs (model/hung.py): ``kind`` how, ``since`` seconds at least, ``mss`` what it promised."""

    where: str
    workload: str
    kind: Literal["inbound-gap", "outbound-gap", "outbound-stuck", "handshake", "waiting"]
    since: float
    to: str
    process: str = ""
    mss: int = 0


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
    hops: tuple[HopAnswer, ...] = ()  # TTL-limited pairs on the way out, nearest first
    hop_sizes: tuple[int, int] = (0, 0)  # bytes of the small and of the large one
    missing: tuple[Missing, ...] = ()
    took: float = 0.0  # seconds
    source_label: str = ""
    target_label: str = ""
    why_unknown: str | None = None  # message id when the verdict is unknown
    host: str = ""
    hosts: int = 0  # of a scan: how many were looked at
    namespaces: int = 0
    workloads: tuple[WorkloadVerdict, ...] = ()
    hung: tuple[Hung, ...] = ()
