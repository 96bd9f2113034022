"""Rules: one function per fault, one module per family.

A rule looks at the :class:`~pathfit.rules.view.View` of one case and yields findings: a code, places, typed facts
and evidence (never a sentence; those live in words/). It never raises on missing knowledge: it stays silent, or
says less. Three words carry its confidence:

* *confirmed* - measured, or certain from state **and** in agreement with what the asked traffic met;
* *likely* - the pattern fits and nothing contradicts it;
* *possible* - worth a look.

State alone gives no error unless every hop of the failing path is seen and the drop is certain. Causes are
warnings or infos, so that one fault gives one error; diagnose.py links them to what they explain.

Families: ``mtu_holes``, ``mtu_path``, ``mtu_pieces``, ``mtu_causes``, ``flights``; ``resets``, ``wronghost``;
``datagrams``; ``filters``; ``routes``; ``reach`` (loss, silence, names); ``addresses`` (the target's others);
``configs`` (engines); ``apps``; ``system`` (ourselves); ``lasting`` (what ends with the next start); ``traced`` (what
taps saw, where ``unsettled`` found the rest open). They stand on
``base`` (codes, findings), ``held`` and ``view`` (the evidence: what there is, what it means), ``forecast`` (the
model) and on
``ends``, ``engines``, ``hints``, ``places``, ``promises``, ``remembered``, ``tables``, which answer one question each.

The docstring of a rule is its manual page (``pathfit explain CODE``, docs/rules.md): a first line that names the
fault, then the fields of :data:`FIELDS`. ``RULES`` is the whole registry of what is said of one path (what is said of
whole machines stands in :mod:`pathfit.rules.state`); ``rule_crashed`` stands last because it
reports on the others.
"""

from typing import NamedTuple

from pathfit.rules import (
    addresses,
    apps,
    configs,
    datagrams,
    filters,
    flights,
    lasting,
    mtu_causes,
    mtu_holes,
    mtu_path,
    mtu_pieces,
    reach,
    resets,
    routes,
    system,
    traced,
    wronghost,
)
from pathfit.rules.base import NAMES, Rule

__all__ = ["FIELDS", "NAMES", "RULES", "Page", "Rule", "codes", "manual"]

RULES: tuple[Rule, ...] = (
    Rule("MTU101", mtu_holes.inbound),
    Rule("MTU102", mtu_holes.outbound),
    Rule("MTU103", mtu_causes.overpromise),
    Rule("MTU104", mtu_causes.overlay),
    Rule("MTU106", mtu_path.pmtud_dependent),
    Rule("MTU107", mtu_causes.too_big_lost),
    Rule("MTU108", mtu_pieces.cut_on_the_way),
    Rule("MTU109", mtu_pieces.fragments_dropped),
    Rule("MTU110", mtu_path.stale),
    Rule("MTU111", mtu_path.clamp_one_sided),
    Rule("MTU112", mtu_path.clamp_wrong),
    Rule("MTU114", mtu_causes.below_minimum),
    Rule("MTU115", flights.too_big),
    Rule("MTU116", mtu_causes.hidden),
    Rule("MTU118", mtu_path.uneven),
    Rule("MTU119", mtu_path.rescued),
    Rule("MTU120", mtu_holes.masked),
    Rule("RST201", resets.by_target),
    Rule("RST202", resets.by_middlebox),
    Rule("RST203", wronghost.by_wrong_host),
    Rule("RST204", resets.by_conntrack),
    Rule("RST205", resets.hidden_by_filter),
    Rule("FLT401", filters.dropped),
    Rule("FLT402", filters.reverse_path),
    Rule("FLT403", filters.not_forwarding),
    Rule("FLT405", traced.by_program),
    Rule("RTE501", routes.no_route),
    Rule("RTE502", routes.neighbour),
    Rule("RTE503", routes.link_down),
    Rule("NET151", reach.random_loss),
    Rule("NET152", reach.no_answer),
    Rule("NET153", addresses.uneven_addresses),
    Rule("NET154", traced.on_this_machine),
    Rule("NET155", reach.answers_untranslated),
    Rule("DNS251", reach.name_not_resolved),
    Rule("DNS252", datagrams.large_answers_lost),
    Rule("CFG601", configs.not_inherited),
    Rule("CFG603", configs.not_live),
    Rule("CFG607", lasting.short_lived),
    Rule("APP801", apps.target_silent),
    Rule("APP802", apps.tls_alert),
    Rule("APP803", apps.http_error),
    Rule("APP804", apps.proxy_in_path),
    Rule("SYS901", system.not_permitted),
    Rule("SYS903", system.model_disagrees),
    Rule("SYS902", system.rule_crashed),
)

FIELDS = ("Why it hurts", "Example", "Repair", "Severity", "Possible", "Likely", "Confirmed", "References")


class Page(NamedTuple):
    """The manual page of one code: ``fields`` by the names of FIELDS, each one paragraph."""

    code: str
    name: str
    title: str
    fields: dict[str, str]

    @property
    def text(self) -> str:
        """The page as plain text, one paragraph a field."""
        head = f"{self.code} {self.name}\n\n{self.title}\n"
        return head + "".join(f"\n{name}: {text}\n" for name, text in self.fields.items())


def manual(code: str) -> Page | None:
    """The manual page of a code (case does not matter), None when there is no such code."""
    from pathfit.rules.state import FLEET_RULES, STATE_RULES  # they stand on this package

    every: tuple[tuple[str, object], ...] = (*RULES, *STATE_RULES, *FLEET_RULES)
    check = next((check for known, check in every if known == code.upper()), None)
    if check is None:
        return None
    title, fields = _fields(check.__doc__ or "")
    return Page(code.upper(), NAMES[code.upper()], title, fields)


def codes() -> tuple[str, ...]:
    """Every code this version can say, in the order of the list in CONTRACT's families."""
    return tuple(NAMES)


def _fields(doc: str) -> tuple[str, dict[str, str]]:
    lines = [x.strip() for x in doc.strip().splitlines()]
    title: list[str] = []
    fields: dict[str, str] = {}
    current: str | None = None
    for text in lines:
        name, sep, rest = text.partition(":")
        if sep and name in FIELDS:
            current = name
            fields[name] = rest.strip()
        elif current is not None:
            fields[current] = f"{fields[current]} {text}".strip()
        else:
            title.append(text)
    return " ".join(t for t in title if t), fields
