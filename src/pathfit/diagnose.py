"""From a case to a report (pure): run the rules, tie causes to what they explain, order, decide the verdict.

The verdict is about the asked traffic: TCP to the target's port with any segment size the two ends promise each
other, both ways. docs/rules.md says in words what is decided here:

* broken - at least one finding of severity error;
* unknown - no error, but a direction that could not be measured (with the reason as a message id);
* degraded - it works, but slowly, late, or only while something fragile holds (:data:`DEGRADING`);
* healthy - both directions carry what the ends promise each other.
"""

import shlex
from collections.abc import Iterable, Sequence

import msgspec

from pathfit.core.case import Case
from pathfit.core.evidence import Missing, PlaceFact, ProbeResult
from pathfit.core.evidence_base import AS_ROOT
from pathfit.core.finding import Facts, Finding
from pathfit.core.followed import Followed
from pathfit.core.measured import Bracket, SideEffect, Used
from pathfit.core.net import Direction, bracketed
from pathfit.core.path import Fate
from pathfit.core.report import MeasuredAddress, Report, VerdictWord
from pathfit.measure.flight import bracket as bracket_of
from pathfit.model import proxies
from pathfit.rules import datagrams, remembered
from pathfit.rules.addresses import left_out
from pathfit.rules.base import Rule
from pathfit.rules.ends import Ends, ends_at
from pathfit.rules.system import rule_crashed
from pathfit.rules.view import LOOK_AGAIN, MODEL, NOTHING, View
from pathfit.words import render as words

ORDER = (
    *("MTU101", "MTU102", "MTU109", "MTU115", "MTU118", "MTU119", "RST", "FLT", "RTE", "NET", "DNS"),
    *("MTU106", "MTU110", "APP", "MTU"),
)
"""What fails for the asker stands before its causes, those before remarks (CONTRACT, "Order")."""

SEVERITIES = ("error", "warning", "info")

SETTINGS = ("CFG601", "CFG602", "CFG603", "CFG604", "CFG605", "CFG606")
OF_HOLES = (
    *("MTU104", "MTU105", "MTU107", "MTU111", "MTU112", "MTU113", "MTU114", "MTU116", "FLT401", "MTU103"),
    *SETTINGS,
)
TRACED = ("FLT401", "FLT405", "NET154")
OF_OVERLAYS = ("OVL301", "OVL302", "OVL303", "OVL304", "OVL305")
CAUSES: dict[str, tuple[str, ...]] = {
    "MTU101": (*OF_HOLES, *TRACED[1:]),
    "MTU102": (*OF_HOLES, *TRACED[1:]),
    "MTU103": SETTINGS,
    "MTU104": ("CFG604", "CFG606", "KRN702"),
    "NET151": TRACED,
    "NET152": ("FLT401", "FLT404", "FLT405", "NET154", "RST205", *OF_OVERLAYS, "RTE504", "KRN701"),
    "RTE502": ("RTE503", *OF_OVERLAYS, "RTE504", "KRN701", *TRACED),
    "OVL306": ("KRN702",),
    "MTU106": ("MTU104", "MTU103", *SETTINGS),
    "MTU118": ("MTU103", *TRACED),
    "DNS251": ("DNS252", "KRN701"),
    "DNS252": ("MTU109", "MTU104", "MTU107", "FLT401"),
    "RST201": ("OVL302", *TRACED),
    "RST202": TRACED,
    "RST203": ("OVL301", "OVL302"),
    "FLT401": ("NET154",),
    "RTE501": ("RTE503",),
}
"""Which findings explain which, nearest cause first. Only a warning or info can be a cause."""

WITHOUT_REPAIR = frozenset(("NET152", "RTE502", "RST201", "RST202", "RST203"))
"""Symptoms of what is wrong elsewhere."""

DEGRADING = frozenset(
    ("MTU101", "MTU102", "MTU106", "MTU109", "MTU110", "MTU118", "MTU119", "MTU120", "NET151", "NET153", "DNS252")
)
PHASES = {
    "hello-sent": "tls-hello-sent",
    "server-hello": "tls-server-hello",
    "certificates": "tls-certificates",
    "finished": "tls-finished",
}
EXIT = {"healthy": 0, "degraded": 0, "broken": 1, "unknown": 3}


def report(case: Case, rules: Sequence[Rule] | None = None, seen: Followed | None = None) -> Report:
    """The whole answer to ``case``. Never raises on what a case may hold; a rule that does becomes SYS902.

    ``rules``: these alone, without what state shows beside them and without repairs (there was no state to read).
    ``seen``: what taps saw when the loss was shown once more (:func:`pathfit.follow.explained`).
    """
    view = _predicted(View(case, seen=seen))
    findings = (
        arrange(_with_fixes(link(_witnessed(_with_causes(run(view, _every()), view), view)), view))
        if rules is None
        else (arrange(link(run(view, rules))))
    )
    verdict, why = judge(view, findings)
    first = view.probe
    probes = sorted(view.probes, key=lambda p: 0 if first is not None and p.ref == first.ref else 1)
    return Report(
        version=case.version,
        ask=case.ask,
        verdict=verdict,
        findings=findings,
        forward=view.predicted_forward,
        reverse=view.predicted_reverse,
        measured=tuple(_measured(p, view, ends_at(view)[0] if p is first else "unknown") for p in probes),
        side_effects=_side_effects(case, probes),
        used=_used((*probes, *(p for p in case.all(ProbeResult) if p.ref == LOOK_AGAIN and p not in probes))),
        hops=view.hops.hops if view.hops else (),
        hop_sizes=(view.hops.small, view.hops.large) if view.hops else (0, 0),
        missing=(*view.missing, *left_out(view), *_way_on(view, why)),
        took=case.took,
        source_label=view.source_label,
        target_label=view.target_label,
        why_unknown=why,
        host=view.host,
    )


def _every() -> Sequence[Rule]:
    from pathfit.rules import RULES

    return RULES


def _predicted(view: View) -> View:
    """The view with its prediction made. The model is treated as a rule: its own error is a finding, not the end."""
    try:
        _ = view.predicted
    except Exception as e:
        return view.crashed(MODEL, e)
    return view


def exit_status(report: Report) -> int:
    """0 no fault of severity error, 1 at least one, 3 verdict unknown; 3 wins over 1."""
    if report.verdict == "unknown":
        return EXIT["unknown"]
    return 1 if any(f.severity == "error" for f in report.findings) else 0


def run(view: View, rules: Sequence[Rule]) -> tuple[Finding, ...]:
    """All rules on one view. This is the second of the two borders where exceptions are caught: around each rule."""
    found: list[Finding] = []
    for rule in rules:
        try:
            found += tuple(rule.check(view))
        except Exception as e:
            view = view.crashed(rule.code, e)
    return _once(_settled(found))


def _settled(found: Iterable[Finding]) -> Iterable[Finding]:
    """Who answered is known: then nobody else did."""
    found = tuple(found)
    known = any(f.code == "RST203" for f in found)
    return tuple(f for f in found if not known or f.code not in ("RST201", "RST202"))


def _witnessed(findings: Sequence[Finding], view: View) -> tuple[Finding, ...]:
    """With what taps saw as evidence, where they were asked for."""
    if view.seen is None:
        return tuple(findings)
    from pathfit.rules import traced

    return traced.told(findings, view)


def _with_causes(findings: tuple[Finding, ...], view: View) -> tuple[Finding, ...]:
    """With what state alone shows beside a path that fails, or one that works slowly, or about a place where nothing
    was asked for. A rule of state that raises is said, like any."""
    slow = view.state is not None and any(n.weave for n in view.state.nodes)
    if view.address and not slow and not any(f.severity == "error" for f in findings):
        return findings
    from pathfit.rules.state.beside import causes  # a path that works needs none of it

    try:
        return _once((*findings, *causes(view, findings)))
    except Exception as e:
        return (*findings, *rule_crashed(View(view.case).crashed("state", e)))


def link(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The same findings with ``because`` and ``explains`` filled in."""
    all_ = tuple(findings)
    because: dict[int, list[str]] = {i: list(f.because) for i, f in enumerate(all_)}
    explains: dict[int, list[str]] = {i: list(f.explains) for i, f in enumerate(all_)}
    for i, symptom in enumerate(all_):
        for code in CAUSES.get(symptom.code, ()):
            for j, cause in enumerate(all_):
                if cause.code == code and cause.severity != "error" and _same_way(symptom.facts, cause.facts):
                    because[i] += [] if code in because[i] else [code]
                    explains[j] += [] if symptom.code in explains[j] else [symptom.code]
    return tuple(
        msgspec.structs.replace(f, because=tuple(because[i]), explains=tuple(explains[i])) for i, f in enumerate(all_)
    )


def arrange(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Errors, warnings, infos; within each what fails, then its causes; stable."""
    return tuple(sorted(findings, key=lambda f: (SEVERITIES.index(f.severity), _rank(f), f.code)))


def judge(view: View, findings: Sequence[Finding]) -> tuple[VerdictWord, str | None]:
    """(verdict, message id of the reason when it is unknown)."""
    if any(f.severity == "error" for f in findings):
        return "broken", None
    why = _why_unknown(view, findings)
    if why is not None:
        return "unknown", why
    if any(f.severity == "warning" and (f.code in DEGRADING or f.facts.get("slows")) for f in findings):
        return "degraded", None
    return "healthy", None


def _why_unknown(view: View, findings: Sequence[Finding]) -> str | None:
    if view.place is None:
        refused = any(m.ref == "source" and m.code == "permission" for m in view.missing)
        return "why.source-refused" if refused else "why.no-source"
    if view.probe is None:
        return _why_unmeasured(view)
    if any(m.code == "disturbed" for m in view.missing):
        return "why.disturbed"
    if (why := _why_unreached(view)) is not None:
        return why
    if any(f.code == "APP801" for f in findings):
        return "why.target-silent"
    if proxies.unfollowed(view.ask, view.place) and view.carries("reverse") is None:
        return "why.proxy-not-followed"
    passes = view.carries("reverse") and view.carries("forward")
    if view.contact is not None and view.contact.tls == "stalled":
        return "why.stalled" if passes else "why.tls-stalled"
    if _undecided(view.bracket("reverse"), view.carries("reverse")) or _undecided(
        view.bracket("forward"), view.carries("forward")
    ):
        return "why.not-proven"
    if view.carries("reverse") is None and not datagrams.answers_come(view) and not _predicted_well(view, "reverse"):
        return datagrams.way_in(view)
    if view.carries("forward") is None and not _predicted_well(view, "forward"):
        return "why.out-not-measured"
    return None


def _why_unreached(view: View) -> str | None:
    well = _predicted_well(view, "forward") and _predicted_well(view, "reverse")
    if (why := datagrams.why_unknown(view, well)) is not None:
        return why
    if view.torn_down or _hung_up(view):
        return "why.torn-down"
    return "why.no-connection" if view.fails_to_connect and view.measured_tcp else None


def _why_unmeasured(view: View) -> str:
    there = next((m for m in view.missing if m.ref == "target"), None)
    if there is not None:
        return "why.target-refused" if there.code == "permission" else "why.no-target"
    return "why.not-measured" if view.names or view.address else "why.no-address"


def _hung_up(view: View) -> bool:
    """Did the other end close each connection before it had said a word of TLS?"""
    c = view.contact
    return c is not None and c.alert_kind == "closed" and (c.phase == "hello-sent" or not c.answered)


def _undecided(b: Bracket, carries: bool | None) -> bool:
    """Something was measured, larger sizes did not come, and it could not be repeated to a proof."""
    return carries is None and (b.fails is not None or b.note == "unproven")


def _predicted_well(view: View, direction: str) -> bool:
    """State sees all of the way, and a packet of the promised size arrives."""
    way = view.predicted_forward if direction == "forward" else view.predicted_reverse
    return way is not None and way.complete and way.fate == Fate.DELIVERED and way.large == Fate.DELIVERED


AGAIN = {
    "why.target-silent": "curl -kv --max-time 20 TARGET   where the target runs: does it answer there?",
    "why.tls-stalled": "pathfit probe TARGET   where the target runs   or   --timeout 60",
    "why.stalled": "openssl s_client -connect {at}   where the target runs",
    "why.torn-down": "pathfit probe TARGET   from another place: is it torn down there too?",
    "why.proxy-not-followed": "--proxy none",
    "why.no-port": "--to {host}:443",
    "why.udp-silent": "--to {host}:443   or   ss -lun   where the target runs",
    "why.udp-in": "--to https://{at}/   or   --to udp://{at}/NAME/TXT",
    "why.in-not-measured": "--to {protocol}://{at}/A-PAGE-OF-5-KB",
    "why.in-says-little": "--to https://{host}/A-PAGE-OF-5-KB   or any other port there that says as much",
    "why.out-not-measured": AS_ROOT,
}
"""What to type next when nothing more is known, by the reason of an unknown verdict; otherwise: once more. TARGET is
filled in, quoted, where the line is shown (pathfit.render.command)."""


def _way_on(view: View, why: str | None) -> tuple[Missing, ...]:
    """An unknown verdict never ends without a line that can be typed (CONTRACT, exit status 3)."""
    if why is None or any(m.how for m in view.missing):
        return ()
    host = bracketed(view.address)
    there = view.case.one("target", PlaceFact)
    if why == "why.no-address" and there is not None:
        kind, _, name = there.where.partition(":")
        look = (
            "ip"
            if kind == "host"
            else f"ip -n {name}"
            if kind == "netns" and "/" not in name
            else f"nsenter -t {there.pid or 'PID'} -n ip"
        )
        said = words.say(why, {}, "en")
        return (Missing(ref=there.ref, what=view.target_label, why=said, how=f"{look} address", code="undecided"),)
    how = AGAIN.get(why, "--timeout 60") if view.ask.target.text else "--to https://example.org/"
    how = how.format(host=host, at=shlex.quote(f"{host}:{view.port}"), protocol=view.ask.target.protocol)
    return (Missing(what="a verdict", why=words.say(why, {}, "en"), how=how, code="undecided"),)


def _with_fixes(findings: tuple[Finding, ...], view: View) -> tuple[Finding, ...]:
    """Each finding with its repairs. A remedy that raises costs its fixes and is said, like a rule."""
    from pathfit import remedies

    done: list[Finding] = []
    crashes = View(view.case)
    for f in findings:
        try:
            f = msgspec.structs.replace(f, fixes=(*f.fixes, *remedies.propose(f, view)))
        except Exception as e:
            crashes = crashes.crashed(f"fix {f.code}", e)
        done.append(f)
    return (*map(lambda f: _inheriting(f, done), done), *rule_crashed(crashes))


def _inheriting(f: Finding, every: Sequence[Finding]) -> Finding:
    """A symptom that has no repair of its own has those of its causes, nearest cause first."""
    if f.code not in WITHOUT_REPAIR or f.fixes:
        return f
    fixes = {(x.id, x.where): x for code in f.because for c in every if c.code == code for x in c.fixes}
    return msgspec.structs.replace(f, fixes=tuple(fixes.values()))


def _rank(finding: Finding) -> int:
    return next((i for i, start in enumerate(ORDER) if finding.code.startswith(start)), len(ORDER))


def _same_way(symptom: Facts, cause: Facts) -> bool:
    a, b = symptom.get("direction"), cause.get("direction")
    return a is None or b is None or "both" in (a, b) or a == b


def _once(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """One finding for each id (code, place, direction): the first."""
    kept: dict[tuple[str, str], Finding] = {}
    for f in findings:
        kept.setdefault((f.code, f.id), f)
    return tuple(kept.values())


def _measured(probe: ProbeResult, view: View, ends: Ends) -> MeasuredAddress:
    forward = probe.forward[0] if probe.forward else NOTHING
    if probe is view.probe and view.hole_out is not None and forward.grade == "told":
        forward = msgspec.structs.replace(forward, note="deaf")
    reverse = probe.reverse[0] if probe.reverse else NOTHING
    if probe is view.probe and view.hole_in is not None and reverse.grade == "told":
        reverse = msgspec.structs.replace(reverse, note="deaf")
    if probe.uneven is not None and probe.uneven.bad:
        if probe.uneven.tests == "forward" and forward.fails is None:
            forward = msgspec.structs.replace(forward, note="uneven")
        elif probe.uneven.tests == "reverse" and reverse.fails is None:
            reverse = msgspec.structs.replace(reverse, note="uneven")
    return MeasuredAddress(
        contact=probe.contact,
        forward=forward,
        reverse=reverse,
        forward_tried=(*probe.forward, *probe.both, *_pieces(probe, "forward"), *_tls(probe), *_flight(probe)),
        reverse_tried=(
            *(b for b in probe.reverse if b.method != "none"),
            *probe.both,
            *_pieces(probe, "reverse"),
            *_tls(probe),
        ),
        ends_at=ends,
        here=remembered.here(view.case, probe.contact.address),
        there=remembered.there(view.case),
        dns=probe.dns,
        too_big=probe.too_big,
    )


def _pieces(probe: ProbeResult, direction: Direction) -> Iterable[Bracket]:
    """Packets that may be in pieces, as things that were tried."""
    for s in probe.splits:
        if s.direction == direction and s.sure:
            passes, fails = (s.size, None) if s.arrived else (None, s.size)
            method = "udp-fragments" if s.kind == "fragments" else "udp-whole"
            yield Bracket(method=method, tests=direction, passes=passes, fails=fails)


def _tls(probe: ProbeResult) -> tuple[Bracket, ...]:
    """How far TLS came: it takes both directions, and says nothing of sizes."""
    phase = probe.contact.phase
    return (Bracket(method="tls-phases", tests="both", note=PHASES[phase]),) if phase in PHASES else ()


def _flight(probe: ProbeResult) -> tuple[Bracket, ...]:
    return (bracket_of(probe.flight),) if probe.flight is not None else ()


def _side_effects(case: Case, probes: Sequence[ProbeResult]) -> tuple[SideEffect, ...]:
    guessed = tuple(s for p in probes for s in p.side_effects)
    return remembered.side_effects(case, guessed, tuple(p.contact.address for p in probes))


def _used(probes: Iterable[ProbeResult]) -> Used:
    used = [p.used for p in probes]
    return Used(
        packets=sum(u.packets for u in used),
        connections=sum(u.connections for u in used),
        seconds=sum(u.seconds for u in used),
    )
