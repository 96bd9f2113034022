"""What `-m set` looks into, put in the place of the numbers that rules have for sets.

Asked for only where a rule looks into a set: then the kernel has ip_set, and asking loads nothing.
"""

import re
from collections.abc import Iterable

from msgspec.structs import replace

from pathfit.core.evidence_base import Missing
from pathfit.core.filters import Expr, Opaque, Table
from pathfit.host.nlsocket import NETLINK_NETFILTER, NetlinkSocket
from pathfit.wire import ipset
from pathfit.wire.netlink import Malformed

ELEMENTS = 65_536  # of all sets together that are looked at: about 3 microseconds each
MESSAGES = 10_000
_NUMBERED = re.compile(r"-m set (! )?#(\d+) ((?:src|dst)(?:,(?:src|dst))*)\Z")


def resolve(tables: tuple[Table, ...]) -> tuple[tuple[Table, ...], tuple[Missing, ...]]:
    """The tables with sets looked up, in the namespace this thread stands in."""
    wanted = {int(m[2]) for e in _expressions(tables) if type(e) is Opaque and (m := _NUMBERED.match(e.what))}
    if not wanted:
        return tables, ()
    try:
        with NetlinkSocket(NETLINK_NETFILTER) as sock:
            names = {index: sock.ask(ipset.by_index(index), ipset.name) for index in sorted(wanted)}
            sets = ipset.joined(sock.dump(ipset.listing(), ipset.part, MESSAGES))
            cut = bool(sock.limited)
    except (OSError, Malformed) as e:
        return tables, (Missing(what="ipsets", why=str(e), code="absent"),)
    size = sum(len(s.elements) for s in sets.values())
    if cut or size > ELEMENTS:
        return tables, (Missing(what="ipsets", why=f"more than {ELEMENTS} elements", code="limit"),)
    found = {index: sets[name] for index, name in names.items() if name in sets}
    return with_sets(tables, found), ()


def with_sets(tables: Iterable[Table], sets: dict[int, ipset.Set]) -> tuple[Table, ...]:
    """The tables with the tests of ``sets``, by their number, in place of the numbers."""

    def looked_up(e: Expr) -> Expr:
        m = _NUMBERED.match(e.what) if type(e) is Opaque else None
        which = sets.get(int(m[2])) if m else None
        return ipset.test(which, m[3].split(","), bool(m[1])) if m and which else e

    return tuple(
        replace(
            table,
            chains=tuple(
                replace(chain, rules=tuple(replace(r, exprs=tuple(looked_up(e) for e in r.exprs)) for r in chain.rules))
                for chain in table.chains
            ),
        )
        for table in tables
    )


def _expressions(tables: Iterable[Table]) -> Iterable[Expr]:
    return (e for t in tables for c in t.chains for r in c.rules for e in r.exprs)
