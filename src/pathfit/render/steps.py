"""One line of English for one step of a predicted way (``path.*.hops[].steps`` of the report)."""

from pathfit.core.net import Flow, endpoint
from pathfit.core.path import (
    Bridged,
    Clamped,
    Decap,
    Encap,
    Enter,
    Exit,
    Filtered,
    Lookup,
    Resolve,
    Step,
    Translated,
)


def line(step: Step) -> str:
    """``step`` in one line, for people and for `jq`; the typed values stay in the case folder."""
    match step:
        case Enter():
            return f"enter {step.at.link}" if step.at.link else "made here"
        case Lookup():
            mtu = f" mtu {step.mtu}" if step.mtu and "mtu" not in step.route else ""
            return f"route {step.route}{mtu} (table {step.table})"
        case Resolve():
            return f"neighbour {step.address} {step.mac or '-'} {step.state}"
        case Filtered():
            return _filtered(step)
        case Translated():
            b, a = step.before, step.after
            return f"{step.kind} {_ends(b)} to {_ends(a)}"
        case Clamped():
            return f"mss {step.mss_before} to {step.mss_after}" + (f" by {step.rule}" if step.rule else "")
        case Encap():
            df = "DF" if step.df else "may fragment"
            return f"into {step.kind} +{step.overhead} bytes to {step.outer.dst} ({df})"
        case Decap():
            return f"out of {step.kind}"
        case Bridged():
            return f"bridged to {step.out}" + (" (flooded)" if step.flooded else "")
        case Exit():
            return "arrived" if step.local else f"leave by {step.at.link} mtu {step.mtu}"


def _ends(flow: Flow) -> str:
    return f"{endpoint(flow.src, flow.sport)}>{endpoint(flow.dst, flow.dport)}"


def _filtered(step: Filtered) -> str:
    rule = f" rule {step.rule}" if step.rule else " policy" if step.verdict in ("drop", "reject") else ""
    comment = f' "{step.comment}"' if step.comment else ""
    count = f" ({step.packets} packets)" if step.packets is not None else ""
    return f"{step.tool} {step.table} {step.chain} ({step.hook}): {step.verdict}{rule}{comment}{count}"
