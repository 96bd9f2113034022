"""Is a redacted trace the same trace, and is nothing of the old names and addresses left in it?"""

import ipaddress
import re
from collections.abc import Iterator
from typing import Any

import msgspec

from pathfit.core import codec
from pathfit.core.case import Case
from pathfit.core.evidence import NameFact, StateFact, TraceFact
from pathfit.core.pseudonyms import Pseudonyms, given
from pathfit.follow import followed
from pathfit.follow.redacted import redacted
from pathfit.render import followed_files as files

# Text of a document that says what happened, and not to whom.
WORDS = """verdict direction limit reason function counter tool family reject what confidence phase code because says
    sign kind fate then method evidence note name severity seen schema tcp tls http ends_at applicability"""
SAYS = frozenset(re.findall("[a-z_]+", WORDS))
OF_TRACES = frozenset(("why", "by"))  # in a report they name somebody
OTHERWISE = frozenset(("id", "missing", "text"))


def bones(value: Any, key: str = "", says: frozenset[str] = SAYS | OF_TRACES) -> Any:
    """A document without names: its numbers, its shape, and the words that say what happened."""
    if isinstance(value, dict):
        return {k: bones(v, k, SAYS if k == "report" else says) for k, v in value.items() if k not in OTHERWISE}
    if isinstance(value, list):
        return [bones(v, key, says) for v in value]
    return value if not isinstance(value, str) or key in says else "..."


def documents(case: Case) -> tuple[dict[str, Any], bytes, bytes]:
    """The document, as bytes as well, and the capture."""
    seen = followed(case)
    said = files.document(seen)
    facts = case.all(TraceFact)
    return msgspec.json.decode(said), said, files.packets(seen, facts[0]) if facts else b""


def named(case: Case) -> tuple[set[str], set[str], set[str]]:
    """(addresses, hardware addresses, names) of a case, but for those that are the same everywhere."""
    addresses, macs, names = set(), set(), set()
    for host in (x.host for x in case.all(StateFact)):
        names |= {host.host, host.boot_id}
        for n in host.namespaces:
            addresses |= {a.address for a in n.addresses} | {x.address for x in n.neighbours}
            macs |= {x.mac for x in n.links if x.mac} | {x.mac for x in n.neighbours if x.mac}
            names |= {x.name for x in n.links if not given(x.name)} | {n.where.partition(":")[2].rpartition("/")[2]}
    addresses |= {a for x in case.all(NameFact) for a in x.addresses}
    keys = (Pseudonyms(b"one of two keys ....."), Pseudonyms(b"the other of two keys"))
    moved = {a for a in addresses if a and any(k.address(a) != a for k in keys)}
    return (
        moved,
        {m for m in macs if any(k.mac(m) != m for k in keys)},
        {x for x in names if len(x) > 3 and not x.isdigit()},
    )


def left(case: Case, key: bytes) -> Iterator[str]:
    """What of the old is still there. A pseudonym may happen to be another's old name: that says nothing."""
    yield from among(case, key, redacted(case, key))


def among(case: Case, key: bytes, made: Case) -> Iterator[str]:
    _, said, capture = documents(made)
    text = codec.dump(made) + said
    raw = b"\n".join([capture, *(x.data for t in made.all(TraceFact) for x in (*t.seen, *t.dropped, *t.filters.ruled))])
    pseudonyms = Pseudonyms(key)
    addresses, macs, names = named(case)
    for name in names:
        if re.search(rb"(?<![a-z0-9])" + re.escape(name.encode()) + rb"(?![a-z0-9])", text) or (
            len(name) > 5 and name.encode() in raw
        ):
            at = text.find(name.encode())
            yield f"{name}: {text[max(at - 120, 0) : at + 40]!r}"
    for mac in macs - {pseudonyms.mac(m) for m in macs}:
        if mac.encode() in text or bytes.fromhex(mac.replace(":", "")) in raw:
            yield mac
    for address in addresses - {pseudonyms.address(a) for a in addresses}:
        packed = ipaddress.ip_address(address).packed
        if re.search(rb"(?<![0-9a-f.:])" + re.escape(address.encode()) + rb"(?![0-9a-f.:])", text) or packed in raw:
            yield address


def check(case: Case, key: bytes) -> None:
    """Raises AssertionError where the redacted case says something else, or too much."""
    old, made = documents(case)[0], redacted(case, key)
    new = documents(made)[0]
    assert bones(new) == bones(old)
    assert [f["code"] for f in (new["report"] or {}).get("findings", [])] == [
        f["code"] for f in (old["report"] or {}).get("findings", [])
    ]
    assert len(new["missing"]) == len(old["missing"])
    found = list(among(case, key, made))
    assert found == [], found
    opened = codec.load(codec.dump(made), Case, schema=made.schema, version=made.version)
    assert opened == made and opened.redacted
