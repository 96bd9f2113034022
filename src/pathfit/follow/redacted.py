"""A trace that strangers may see: a case with pseudonyms where addresses, names and what was said stood (pure).

The same as of a snapshot (:mod:`pathfit.core.redact`), and its packets with it (:mod:`pathfit.wire.redacted`); one key,
so that what was the same is the same wherever it stands. Requests are part of it: a redacted case is not asked again,
it says what it says. What is new here and nobody has classified is replaced as well.
"""

import re
from collections.abc import Callable
from functools import cache
from typing import Any, Literal, get_origin, get_type_hints

from msgspec.structs import replace

from pathfit.core.ask import Ask, Target
from pathfit.core.case import Case
from pathfit.core.evidence import CounterFact, FleetFact, PlaceFact, StateFact, TraceFact
from pathfit.core.evidence_base import Missing
from pathfit.core.filters import FilterRule
from pathfit.core.net import Point, bracketed
from pathfit.core.redact import FIELDS, Meaning, Redactor
from pathfit.core.request import Watch
from pathfit.core.snapshot import HostSnapshot
from pathfit.core.tracing import DROPS, Jump, Rule
from pathfit.model.ruled import TEXT
from pathfit.wire.dissect import VXLAN_PORTS
from pathfit.wire.redacted import Frames

KEEP, GONE, ADDRESS, NAME = (FIELDS[x] for x in ("schema", "text", "address", "name"))
WHERE, SPACE, DEVICE, PATH = (FIELDS[x] for x in ("where", "NetnsSnapshot.id", "link", "file"))
CHAIN, PROCESS = FIELDS["Chain.name"], FIELDS["holder"]
HERE = ("here", "")  # SideEffect.where, where it is no address
LATE = re.compile(r"the time was up\Z|not done after [0-9.]+ s\Z")
SCHEMES = re.compile(r"[a-z][a-z0-9+]{0,9}://")


def redacted(case: Case, key: bytes) -> Case:
    """``case`` with pseudonyms made from ``key``; what it means is the same. The same case and key give the same."""
    hosts = [x.host for x in case.all(StateFact)] + [o.host for x in case.all(FleetFact) for o in x.hosts]
    watches = [x.request for x in case.exchanges if isinstance(x.request, Watch)]
    ports = {p for w in watches for p in w.tunnels or VXLAN_PORTS}
    return _Redactor(hosts, key, tuple(sorted(ports)) or VXLAN_PORTS).case(case)


class _Redactor(Redactor):
    def __init__(self, hosts: list[HostSnapshot], key: bytes, tunnels: tuple[int, ...]) -> None:
        super().__init__(hosts[0] if hosts else HostSnapshot(schema="", version="", host=""), key, *hosts[1:])
        self._frames = Frames(self.names, tunnels)

    def case(self, case: Case) -> Case:
        made: Case = self._value(case)
        return replace(made, redacted=True)

    def special(self, kind: type) -> Callable[[Any, Any], Any] | None:
        return SPECIAL.get(kind) or super().special(kind)

    def meaning(self, kind: type, field: str) -> Meaning:
        return (
            MEANINGS.get(f"{kind.__name__}.{field}")
            or FIELDS.get(f"{kind.__name__}.{field}")
            or (KEEP if _is_a_word(kind, field) else None)
            or (MEANINGS.get(field) if kind.__module__ in MODULES else None)
            or super().meaning(kind, field)
        )

    def _any(self, old: Any, what: Meaning) -> Any:
        if isinstance(old, Jump):
            return old._replace(chain=CHAIN(self, old.chain))
        if isinstance(old, tuple) and hasattr(old, "_make"):
            return old._make(self._any(x, what) for x in old)
        return super()._any(old, what)

    # -- structs that are more than their fields ------------------------------------------------------------------

    def _point(self, p: Point) -> Point:
        inode = re.match(r"netns inode \d+\Z", p.netns)
        made = p.netns if inode else WHERE(self, p.netns)
        return Point(host=NAME(self, p.host), netns=made, link=DEVICE(self, p.link) if p.link else p.link)

    def _target(self, t: Target) -> Target:
        made = self._plain(t)
        return replace(made, text=self.asked(t), where=WHERE(self, t.where) if t.where else t.where)

    def asked(self, t: Target) -> str:
        """What the user typed, as one would type the pseudonyms."""
        if t.where is not None:
            return WHERE(self, t.where) + (f":{t.port}" if t.port and t.text.endswith(f":{t.port}") else "")
        scheme = SCHEMES.match(t.text)
        host = _host(self, t.host)
        port = f":{t.port}" if re.search(rf":{t.port}(/|\Z)", t.text) else ""
        name = bracketed(host) if port or scheme else host
        said = t.text[scheme.end() :] if scheme else t.text
        return (scheme[0] if scheme else "") + name + port + (_url_path(self, t.path) if "/" in said else "")

    def _ask(self, a: Ask) -> Ask:
        given = tuple((_host(self, name), ADDRESS(self, address)) for name, address in a.resolve)
        return replace(self._plain(a), resolve=given)

    def _place(self, p: PlaceFact) -> PlaceFact:
        made = self._plain(replace(p, environ={}))
        return replace(made, environ={k: _proxies(self, v) for k, v in p.environ.items()})

    def _counters(self, c: CounterFact) -> CounterFact:
        return c  # the kernel's own names

    def _watch(self, w: Watch) -> Watch:
        named = tuple((SPACE(self, ns), WHERE(self, where)) for ns, where in w.namespaces)
        return replace(self._plain(replace(w, namespaces=())), namespaces=named)

    def _trace(self, t: TraceFact) -> TraceFact:
        raw = [tap.raw for tap in t.taps]
        many = len(raw)
        made = self._plain(replace(t, seen=(), dropped=()))
        frame, packet = self._frames.frame, self._frames.packet
        return replace(
            made,
            seen=tuple(
                replace(x, data=(packet if 0 <= x.tap < many and raw[x.tap] else frame)(x.data)) for x in t.seen
            ),
            dropped=tuple(replace(self._plain(x), data=packet(x.data)) for x in t.dropped),
            filters=replace(
                made.filters,
                ruled=tuple(replace(x, data=packet(y.data)) for x, y in
                            zip(made.filters.ruled, t.filters.ruled, strict=True)),
            ),
        )  # fmt: skip

    def _named(self, rule: Rule) -> Rule:
        return replace(self._plain(rule), text=self._said(rule))

    def _said(self, rule: Rule) -> str:
        """Text that is the same where it was, for rules are told apart by it; its words are gone."""
        if not rule.text or (rule.policy and rule.tool == "nft"):
            return rule.text
        head = f"-P {rule.chain} " if rule.policy else f"-A {rule.chain} "
        if rule.tool == "nft" or not rule.text.startswith(head):
            return _text(self, rule.text)
        rest = rule.text[len(head) :]
        return f"{head[:3]}{CHAIN(self, rule.chain)} {rest if rule.policy else _text(self, rest)}"

    def _filter_rule(self, r: FilterRule) -> FilterRule:
        return replace(self._plain(r), text=_text(self, r.text), comment=None)

    def _lacks(self, m: Missing) -> Missing:
        place = re.match(r"packets at (.+)/([^/]+)\Z", m.what)
        made = self._missing(m)
        if m.ref and re.fullmatch(rf"[A-Z][A-Za-z]+ {re.escape(m.ref)}", m.what):  # a request that was not done
            made = replace(
                made, what=f"{m.what.split()[0]} {_ref(self, m.ref)}", why=m.why if LATE.match(m.why) else made.why
            )
        if m.what == DROPS:
            made = replace(made, what=DROPS)
        elif place:
            made = replace(made, what=f"packets at {WHERE(self, place[1])}/{DEVICE(self, place[2])}")
        return replace(made, ref=_ref(self, m.ref))


@cache
def _is_a_word(kind: type, field: str) -> bool:
    """One of some words of ours?"""
    return get_origin(get_type_hints(kind).get(field)) is Literal


# -- what a piece of text is ------------------------------------------------------------------------------------------


def _ref(r: Redactor, text: str) -> str:
    """What the plan calls a request; of some answers there is one for each place ("probe:1/netns:x")."""
    head, slash, place = text.partition("/")
    return head + slash + (place if place in ("", "target") else WHERE(r, place))


def _text(r: Redactor, text: str) -> str:
    """Of a rule, as far as it is kept where it is shown."""
    return f"redacted {r.names.word(text if len(text) <= TEXT else text[:TEXT] + ' ...')}" if text else text


def _host(r: Redactor, text: str) -> str:
    """A name or an address, with a port or without: each label of a name by itself, so that domains stay together."""
    bare, colon, port = text.rpartition(":")
    if colon and port.isdigit() and (":" not in bare or bare.endswith("]")):
        return f"{_host(r, bare)}:{port}"
    inner = text.removeprefix("[").removesuffix("]")
    try:
        made = r.names.address(inner)
    except ValueError:
        return ".".join(x if x in ("localhost", "*") else r.names.word(x.lower()) for x in text.split("."))
    return f"[{made}]" if text.startswith("[") else made


def _url_path(r: Redactor, text: str) -> str:
    return text if text in ("", "/") else f"/{r.names.word(text)}"


def _proxy(r: Redactor, text: str) -> str:
    """A proxy's URL."""
    scheme = SCHEMES.match(text.strip().lower())
    rest = text.strip()[scheme.end() if scheme else 0 :]
    where, slash, _ = rest.rpartition("@")[2].partition("/")
    return text if text in ("", "none") else (scheme[0] if scheme else "") + _host(r, where) + slash


def _proxies(r: Redactor, text: str) -> str:
    """What a variable of the environment says: a proxy, or names and networks that need none."""
    return ",".join(_exempt(r, x) for x in re.split(r"[,\s]+", text))


def _exempt(r: Redactor, text: str) -> str:
    if "/" in text and not SCHEMES.match(text.lower()):
        try:
            return r.names.prefix(text)
        except ValueError:
            pass
    return _proxy(r, text)


def _message(r: Redactor, text: str) -> str:
    """A sentence of a library: without what it quotes, without numbers and names in it."""
    return " ".join(x for x in re.sub(r"'[^']*'|\"[^\"]*\"", "...", text).split() if re.match(r"[A-Za-z_-]+[,:]?\Z", x))


def _affected(r: Redactor, text: str) -> str:
    if text in HERE:
        return text
    try:
        return r.names.address(text)
    except ValueError:
        return WHERE(r, text)


SPECIAL: dict[type, Callable[[Any, Any], Any]] = {
    Point: _Redactor._point,
    Target: _Redactor._target,
    Ask: _Redactor._ask,
    PlaceFact: _Redactor._place,
    CounterFact: _Redactor._counters,
    Watch: _Redactor._watch,
    TraceFact: _Redactor._trace,
    Rule: _Redactor._named,
    FilterRule: _Redactor._filter_rule,
    Missing: _Redactor._lacks,
}
MODULES = frozenset(
    f"pathfit.core.{x}" for x in ("ask", "case", "evidence", "measured", "platform", "remembered", "request", "tracing")
)
MEANINGS: dict[str, Meaning] = {
    # of whatever struct of these modules
    "ref": _ref,
    **dict.fromkeys(("method", "methods", "note", "tests", "phase", "protocol", "speaks"), KEEP),
    **dict.fromkeys(("reason", "word", "limit", "lang"), KEEP),
    **dict.fromkeys(("source", "far", "witnesses", "where"), WHERE),
    **dict.fromkeys(("host", "sni"), _host),
    **dict.fromkeys(("hosts", "ends", "targets", "address", "addresses", "told_by", "about"), ADDRESS),
    **dict.fromkeys(("device", "egress"), DEVICE),
    **dict.fromkeys(("paths", "snapshots"), PATH),
    **dict.fromkeys(("heard", "namespaces", "netns"), SPACE),
    **dict.fromkeys(("alert", "why"), _message),
    **dict.fromkeys(("table", "chain"), CHAIN),
    "path": _url_path, "proxy": _proxy,
    # of one struct
    "Target.at": ADDRESS, "Locate.where": WHERE, "ResolveName.name": _host, "NameFact.name": _host,
    "NameFact.error": KEEP, "NameFact.server": ADDRESS, "NameFact.source": KEEP, "PlaceFact.label": NAME,
    "Attempt.by": ADDRESS, "HopAnswer.small": ADDRESS, "HopAnswer.large": ADDRESS, "TooBig.by": ADDRESS,
    "Contact.http": KEEP, "Contact.local_address": ADDRESS, "Contact.alert_kind": KEEP, "Contact.error": KEEP,
    "Contact.error_from": ADDRESS, "Contact.rst_phase": KEEP, "Contact.alpn": KEEP, "DnsAnswers.name": _host,
    "DnsAnswers.kind": KEEP, "Flight.how": KEEP, "Flight.split": KEEP, "TrialFact.tls": KEEP, "TrialFact.http": KEEP,
    "SideEffect.where": _affected, "SideEffect.what": KEEP, "LinkOwner.name": PATH, "LinkOwner.path": PATH,
    "LinkOwner.later": PATH, "LinkOwner.text": GONE, "Dropped.function": KEEP, "Dropped.callers": KEEP,
    "Moved.name": KEEP, "Rule.tool": KEEP, "Rule.family": KEEP, "Rule.reject": KEEP, "TcpMetrics.src": ADDRESS,
}  # fmt: skip
"""What text in a field is, by "Struct.field" or, in :data:`MODULES`, by the field's name alone, before what is said of
snapshots' (:data:`pathfit.core.redact.FIELDS`)."""
