"""What every rule is made of: its place in the list of codes, and how a finding is built."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple

from pathfit.core.finding import Confidence, EvidenceLine, Facts, Finding, Severity
from pathfit.core.net import Point

if TYPE_CHECKING:
    from pathfit.rules.view import View

NAMES: dict[str, str] = {
    "MTU101": "inbound-black-hole",
    "MTU102": "outbound-black-hole",
    "MTU103": "mss-overpromise",
    "MTU104": "overlay-overhead-ignored",
    "MTU105": "mixed-mtu-segment",
    "MTU106": "pmtud-dependent",
    "MTU107": "too-big-ineffective",
    "MTU108": "fragmented-on-path",
    "MTU109": "fragments-dropped",
    "MTU110": "stale-path-mtu",
    "MTU111": "mss-clamp-one-sided",
    "MTU112": "mss-clamp-wrong",
    "MTU114": "below-ipv6-minimum",
    "MTU115": "first-flight-too-big",
    "MTU116": "offload-hides-limit",
    "MTU117": "uneven-fleet",
    "MTU113": "guest-mtu-mismatch",
    "MTU118": "uneven-paths",
    "MTU119": "rescued-late",
    "MTU120": "limit-masked",
    "RST201": "refused-by-target",
    "RST202": "reset-by-middlebox",
    "RST203": "reset-by-wrong-host",
    "RST204": "conntrack-invalid-reset",
    "RST205": "reset-filter-masks-fault",
    "OVL301": "stale-forwarding-entry",
    "OVL302": "duplicate-address",
    "OVL303": "tunnel-port-blocked",
    "OVL304": "vni-mismatch",
    "OVL305": "vtep-unreachable",
    "OVL306": "slow-path-fallback",
    "FLT401": "dropped-by-rule",
    "FLT402": "reverse-path-filter",
    "FLT403": "forwarding-disabled",
    "FLT404": "engine-forward-policy",
    "FLT405": "dropped-by-tc-or-xdp",
    "RTE501": "no-route",
    "RTE502": "neighbour-failed",
    "RTE503": "link-down",
    "RTE504": "overlapping-subnets",
    "NET151": "random-loss",
    "NET152": "no-answer",
    "NET153": "uneven-addresses",
    "NET154": "lost-on-this-machine",
    "NET155": "answers-untranslated",
    "DNS251": "name-not-resolved",
    "DNS252": "large-answer-lost",
    "CFG601": "engine-mtu-not-inherited",
    "CFG602": "nested-engine-mtu",
    "CFG603": "configured-not-live",
    "CFG604": "wrong-interface-detected",
    "CFG605": "dual-nic-mtu",
    "CFG606": "overlay-option-is-underlay",
    "CFG607": "short-lived-mtu",
    "KRN701": "ufo-raw-socket-stall",
    "KRN702": "tunnel-clears-ignore-df",
    "KRN703": "tunnel-tx-checksum",
    "KRN704": "lro-while-forwarding",
    "APP801": "target-silent",
    "APP802": "tls-alert",
    "APP803": "http-error",
    "APP804": "proxy-in-path",
    "SYS901": "not-permitted",
    "SYS902": "rule-crashed",
    "SYS903": "model-disagrees",
}
"""Every fault code of this version and its name. Codes are stable; names say the fault, never the fix."""


class Rule(NamedTuple):
    """One line of the registry: the code, and the function that looks for it.

    ``check(view)`` yields findings of that code and nothing else. Its docstring is the manual page.
    """

    code: str
    check: "Callable[[View], Iterable[Finding]]"


def line(ref: str, message: str, **facts: str | int | float | bool | None) -> EvidenceLine:
    """A piece of evidence; ``message`` is an id of words/ without its section ("gap-stays")."""
    return EvidenceLine(ref=ref, message=f"evidence.{message}", facts=dict(facts))


def found(
    code: str,
    severity: Severity,
    confidence: Confidence,
    where: Point | tuple[Point, ...],
    facts: Facts,
    *evidence: EvidenceLine,
) -> Finding:
    """A finding of ``code`` with its name. ``facts["case"]`` chooses the sentence when a code has several."""
    return Finding(
        code=code,
        name=NAMES[code],
        severity=severity,
        confidence=confidence,
        where=(where,) if isinstance(where, Point) else where,
        facts=facts,
        evidence=evidence,
    )
