"""What the evaluation of filters says: the rule that decided, possible NATs, clamps."""

from typing import NamedTuple

from pathfit.core.base import Value
from pathfit.core.filters import FilterRule, Nat
from pathfit.core.net import Point
from pathfit.core.path import Filtered
from pathfit.model.filters.index import Base


class Ruling(Value, frozen=True, kw_only=True):
    """The rule (or policy) of a base chain or a chain it jumps to."""

    hook: str
    tool: str
    table: str
    chain: str
    rule: str = ""
    handle: int = 0
    comment: str | None = None
    packets: int | None = None
    reject_with: str | None = None

    def step(self, at: Point, verdict: str) -> Filtered:
        """As a step of a path."""
        return Filtered(
            at=at,
            hook=self.hook,
            tool=self.tool,
            table=self.table,
            chain=self.chain,
            verdict=verdict,
            rule=self.rule,
            handle=self.handle,
            comment=self.comment,
            packets=self.packets,
            reject_with=self.reject_with,
        )


class NatWay(Value, frozen=True, kw_only=True):
    """A NAT that is, or may be, chosen. ``nat`` None: none. ``share`` of connections, None = not known."""

    nat: Nat | None
    by: Ruling
    certain: bool = True
    share: float | None = None


class Clamping(Value, frozen=True, kw_only=True):
    """A rule that lowers the MSS option. ``size`` None: to path MTU. ``after`` None: not known."""

    size: int | None
    before: int | None
    after: int | None
    certain: bool
    by: Ruling


class End(NamedTuple):
    """One way it can end in a base chain."""

    kind: str  # "accept", "drop", "reject", "unknown"
    unsure: bool
    share: float
    rule: FilterRule | None
    chain: str
    base: Base
    why: str = ""
    reject_with: str | None = None
    nat: Nat | None = None


def ruling(end: End) -> Ruling:
    """An end as something to show."""
    table, rule = end.base.owner.table, end.rule
    return Ruling(
        hook=end.base.chain.hook or "",
        tool=table.tool,
        table=f"{table.family} {table.name}",
        chain=end.chain,
        rule=rule.text if rule else f"policy {end.base.chain.policy}",
        handle=rule.handle if rule else 0,
        comment=rule.comment if rule else None,
        packets=rule.packets if rule else end.base.chain.policy_packets,
        reject_with=end.reject_with,
    )
