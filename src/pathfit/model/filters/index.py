"""Filter tables prepared for questions: base chains by hook in order of priority, rules compiled on first use."""

from typing import Any, NamedTuple

from pathfit.core.filters import (
    Action,
    Chain,
    Choice,
    Clamp,
    Concat,
    Expr,
    FilterRule,
    Match,
    Nat,
    Opaque,
    Passive,
    Rewrite,
    SetMark,
    Table,
    Untrack,
    Verdict,
)
from pathfit.core.net import Family
from pathfit.model.filters.conditions import Facts, Rows, Test, compiled, share_of
from pathfit.model.filters.sieve import Keys, Memo, sift

# how the body of a compiled rule is written: (operation, expression, what it needs)
TEST, VERDICT, NAT, CLAMP, MARK, UNTRACK, REWRITE, CHOICE, UNKNOWN = range(9)
Op = tuple[int, Any, Any]

NAT_FIRST, NAT_LAST = -100, 100  # NF_IP_PRI_NAT_DST, NF_IP_PRI_NAT_SRC
SHARES = frozenset({"nth", "random", "hash"})


class Entry(NamedTuple):
    """A rule compiled. ``later``: it looks at what differs between a conversation's first packet and later ones."""

    tests: tuple[Test, ...]  # at the head
    body: tuple[Op, ...]
    rule: FilterRule
    later: bool


class Compiled:
    """One chain. Its rules are compiled one by one, when a packet comes by that they may be about."""

    __slots__ = ("_asked", "_entries", "_keys", "chain")

    def __init__(self, chain: Chain) -> None:
        self.chain = chain
        self._entries: dict[int, Entry | None] = {}
        self._keys: Keys | None = None
        self._asked = 0

    def about(self, facts: Facts, memo: Memo) -> list[Entry]:
        """The rules this packet must be shown to, in order; those without any effect are left out."""
        rules = self.chain.rules
        if self._keys is not None:
            places = self._keys.find(facts)
        else:
            self._asked += 1
            if self._asked > OFTEN and len(rules) > SHORT:
                self._keys = Keys(rules)
            places = sift(rules, facts, memo)
        if not places:
            return []
        entries, found = self._entries, []
        for i in places:
            if i not in entries:
                entries[i] = _entry(rules[i])
            entry = entries[i]
            if entry is not None:
                found.append(entry)
        return found


OFTEN = 2  # a conversation asks a chain that often: both ways
SHORT = 4  # rules: looked through as fast as looked up


class Owner:
    """A table and its chains by name."""

    __slots__ = ("_chains", "table")

    def __init__(self, table: Table) -> None:
        self.table = table
        self._chains: dict[str, Compiled] | None = None

    @property
    def chains(self) -> dict[str, Compiled]:
        """Those that can be jumped to."""
        if self._chains is None:
            self._chains = {c.name: Compiled(c) for c in self.table.chains}
        return self._chains


class Base:
    """A base chain at its hook."""

    __slots__ = ("chain", "compiled", "is_nat", "nfproto", "owner", "priority")

    def __init__(self, owner: Owner, chain: Chain) -> None:
        self.owner = owner
        self.compiled = Compiled(chain)
        self.chain = chain
        self.is_nat = chain.type == "nat" and owner.table.family in ("ip", "ip6", "inet")
        self.priority = chain.priority
        self.nfproto = owner.table.family if owner.table.family in ("netdev", "bridge") else None  # `meta nfproto`
        if self.is_nat:  # all nat chains are called where nf_nat_register_fn hooks in
            self.priority = NAT_FIRST if chain.hook in ("prerouting", "output") else NAT_LAST


class Traits:
    """What the rules of a namespace use, as :class:`FilterIndex` says."""

    __slots__ = ("nat", "offload", "tracks")

    def __init__(self, tables: tuple[Table, ...]) -> None:
        self.tracks: dict[Family, bool] = {4: False, 6: False}
        self.nat: dict[Family, bool] = {4: False, 6: False}
        self.offload = False
        for table in tables:
            families = _families(table)
            for chain in table.chains:
                self._learn(chain, families)

    def _learn(self, chain: Chain, families: tuple[Family, ...]) -> None:
        for rule in chain.rules:
            for e in rule.exprs:
                if isinstance(e, Passive):
                    self.offload = self.offload or e.what.startswith("flow add")
                    continue
                nat = isinstance(e, Nat) or (isinstance(e, Choice) and any(isinstance(a, Nat) for a in e.then))
                if nat or _uses_conntrack(e):
                    for family in families:
                        self.tracks[family] = True
                        self.nat[family] = self.nat[family] or nat


class FilterIndex:
    """Tables of one namespace, prepared. ``tracks``: conntrack (and with it defragmentation) is used for a family.

    ``nat``: some rule rewrites addresses. ``offload``: some rule hands connections to a flow table.
    ``hooks``: where base chains hang, by (layer, hook), those of tables registered later last.
    """

    __slots__ = ("_bases", "_owners", "_tables", "_traits", "hooks")

    def __init__(self, tables: tuple[Table, ...]) -> None:
        self.hooks: dict[tuple[str, str], list[tuple[Table, Chain]]] = {}
        self._tables = tables
        self._traits: Traits | None = None
        self._owners: dict[int, Owner] = {}
        self._bases: dict[tuple[str, str], list[Base]] = {}
        for table in tables:
            if table.dormant:
                continue
            for chain in table.chains:
                if chain.hook is not None and (chain.rules or chain.policy != "accept"):
                    for layer in _layers(table, chain):
                        self.hooks.setdefault((layer, chain.hook), []).append((table, chain))

    def _prepared(self, place: tuple[str, str]) -> list[Base]:
        bases = []
        for table, chain in reversed(self.hooks.get(place, ())):
            owner = self._owners.get(id(table))
            if owner is None:
                owner = self._owners[id(table)] = Owner(table)
            bases.append(Base(owner, chain))
        # a hook registered later comes first among equals (nf_hook_entries_grow); nat chains in their own order
        bases.sort(key=lambda b: (b.priority, b.chain.priority if b.is_nat else 0))
        self._bases[place] = bases
        return bases

    @property
    def traits(self) -> "Traits":
        """What the rules use, looked for when first asked: most packets never need it."""
        if self._traits is None:
            self._traits = Traits(self._tables)
        return self._traits

    @property
    def tracks(self) -> dict[Family, bool]:
        return self.traits.tracks

    @property
    def nat(self) -> dict[Family, bool]:
        return self.traits.nat

    @property
    def offload(self) -> bool:
        return self.traits.offload

    def bases(self, hook: str, family: Family, layer: str, device: str | None) -> list[Base]:
        """Base chains that see a packet, in order. ``device`` None: not known, so all of a device's hook."""
        by_device = hook in ("ingress", "egress")
        place = ("netdev" if by_device else "bridge" if layer == "bridge" else "ip6" if family == 6 else "ip", hook)
        found = self._bases.get(place)
        if found is None:
            found = self._prepared(place)
        if by_device and device:
            return [b for b in found if not b.chain.devices or device in b.chain.devices]
        return found


def tables_index(tables: tuple[Table, ...]) -> FilterIndex:
    """Prepare tables; rules are compiled when a packet first reaches their chain."""
    return FilterIndex(tables)


def _families(table: Table) -> tuple[Family, ...]:
    return {"ip": (4,), "ip6": (6,), "inet": (4, 6)}.get(table.family, ())  # type: ignore[return-value]


def _layers(table: Table, chain: Chain) -> tuple[str, ...]:
    if chain.hook in ("ingress", "egress"):
        return ("netdev",)
    return ("ip", "ip6") if table.family == "inet" else (table.family,)


_CT_FIELDS = ("ct", "orig", "repl")


def _uses_conntrack(e: Expr) -> bool:
    if isinstance(e, Match):
        return e.field.startswith(_CT_FIELDS)
    if isinstance(e, Concat | Choice):
        return any(f.startswith(_CT_FIELDS) for f in e.fields)
    if isinstance(e, SetMark):
        return "ctmark" in (e.into, e.source)
    return isinstance(e, Opaque) and e.what.startswith(("ct ", "-m conn", "-m helper", "-m cluster"))


# --- rules -------------------------------------------------------------------------------------------------------


def _entry(rule: FilterRule) -> Entry | None:
    head: list[Test] = []
    body: list[Op] = []
    later = False
    for e in rule.exprs:
        kind = type(e)
        if kind is Match or kind is Concat or (kind is Opaque and not e.statement):  # type: ignore[union-attr]
            later = later or _about_later(e)
            if body:
                body.append((TEST, e, compiled(e)))  # type: ignore[arg-type]
            else:
                head.append(compiled(e))  # type: ignore[arg-type]
        elif kind is not Passive:
            later = later or _about_later(e)
            body.append(op(e))
    while body and body[-1][0] == TEST:
        body.pop()
    return Entry(tuple(head), tuple(body), rule, later) if body else None


LATER = frozenset({"length", "ctstate", "tcpflags"})  # what differs between the first packet and those after it


def _about_later(e: Expr) -> bool:
    if isinstance(e, Match):
        return e.field in LATER
    return isinstance(e, Concat | Choice) and not LATER.isdisjoint(e.fields)


def op(e: Expr) -> Op:
    """A statement as (operation, expression, what it needs)."""
    return (_OPERATIONS.get(type(e), UNKNOWN), e, _choice(e) if isinstance(e, Choice) else None)


_OPERATIONS: dict[type, int] = {
    Verdict: VERDICT,
    Nat: NAT,
    Clamp: CLAMP,
    SetMark: MARK,
    Untrack: UNTRACK,
    Rewrite: REWRITE,
    Choice: CHOICE,
}


class Branches:
    """A Choice prepared: an operation for each row, and how rows are found.

    ``shares``: rows are drawn (numgen, hash) and each has its share of packets or flows. ``certain``: numgen.
    """

    __slots__ = ("certain", "otherwise", "partial", "rows", "shares", "then")

    def __init__(self, choice: Choice) -> None:
        if len(choice.then) != len(choice.rows):
            raise ValueError("rows and what they do are not pairs")
        self.then = tuple(_action(a) for a in choice.then)
        self.otherwise = _action(choice.otherwise) if choice.otherwise is not None else None
        self.partial = choice.partial
        self.shares: tuple[float, ...] | None = None
        self.certain = choice.fields != ("hash",)
        self.rows: Rows | None = None
        if len(choice.fields) == 1 and choice.fields[0] in SHARES:
            self.shares = tuple(share_of(choice.fields[0], row[0]) for row in choice.rows)
        else:
            self.rows = Rows(choice.fields, choice.rows)


def _action(a: Action) -> Op | None:
    return None if isinstance(a, Passive) else op(a)


def _choice(choice: Choice) -> Branches | None:
    try:
        return Branches(choice)
    except (ValueError, KeyError, TypeError, IndexError):
        return None
