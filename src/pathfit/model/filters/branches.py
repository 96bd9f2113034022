"""One packet through the base chains of a hook, following every branch that is possible.

At any place the walk knows of the packets that get there: ``unsure`` - whether ours does is not known; ``share`` -
which part of packets does, 1.0 = all, NaN = some. A rule that may match sends the packet both ways. What ends a
packet is collected; only when all ends agree is the answer certain.

State (marks, the MSS option, addresses) is one for all branches: a write is certain only while no branch is
elsewhere (``sole``), otherwise the fact becomes unknown. That loses knowledge, never truth.
"""

from collections.abc import Callable
from math import isnan
from typing import Literal

from pathfit.core.filters import Clamp, FilterRule, Nat, Opaque, Rewrite, SetMark, Verdict
from pathfit.core.net import IP_HEADER, TCP_HEADER, Family
from pathfit.model.filters.conditions import ABSENT, SLOT, Answer, Facts, Test, address
from pathfit.model.filters.index import (
    CHOICE,
    CLAMP,
    MARK,
    NAT,
    REWRITE,
    TEST,
    UNTRACK,
    VERDICT,
    Base,
    Branches,
    Compiled,
    FilterIndex,
    Op,
)
from pathfit.model.filters.sieve import Memo
from pathfit.model.filters.values import Clamping, End, NatWay, Ruling, ruling

DEEPEST = 16  # NFT_JUMP_STACK_SIZE
MARK_SLOT, CTMARK_SLOT, MSS_SLOT, CTSTATE_SLOT = SLOT["mark"], SLOT["ctmark"], SLOT["tcpmss"], SLOT["ctstate"]
Reach = tuple[bool, float]  # unsure, share
Verdict3 = Literal["accept", "drop", "reject", "sometimes", "unknown"]


class Walk:
    """The state of one evaluation."""

    reach: Reach = (False, 1.0)
    untracked: bool | None = False
    past_nat = False
    nat_done = False
    sole = True
    accepts = 0
    alive = True
    wrote = False  # a mark, a header field, or conntrack's eye was changed
    later = False  # a rule was looked at that may treat later packets of the conversation otherwise
    ends: list[End]  # of the base chain it is in
    current: Base

    def __init__(self, index: FilterIndex, facts: Facts, rt_mtu: int | None, family: Family, memo: Memo) -> None:
        self.index = index
        self.facts = facts
        self.memo = memo
        self.rt_mtu = rt_mtu
        self.family = family
        self.losses: list[End] = []
        self.passed: list[End] = []
        self.nats: list[NatWay] = []
        self.clamps: list[Clamping] = []

    # --- base chains ---------------------------------------------------------------------------------------------

    def base(self, base: Base, ctstate: str | None) -> bool:
        """One base chain; False when no packet gets past it."""
        unsure, share = self.reach
        if base.is_nat:
            state = self.facts[CTSTATE_SLOT]
            if self.nat_done or (state is not None and state != "new"):
                return True  # only the first packet of a connection (nf_nat_inet_fn)
            unsure = unsure or state is None
        self.current, self.ends, self.sole, self.accepts = base, [], not (base.is_nat and unsure), 0
        left = self._run(base.compiled, unsure, share, 0)
        if left is not None:
            kind = "accept" if base.chain.policy == "accept" else "drop"
            if not self.ends and kind == "accept" and not base.is_nat:  # nothing in it is about this packet
                self.alive = True
                self.passed.append(End(kind, left[0], left[1], None, base.chain.name, base))
                return True
            self.ends.append(End(kind, *left, None, base.chain.name, base))
        if base.is_nat:
            self._nat_ends()
        skipped = base.is_nat and self.facts[CTSTATE_SLOT] is None
        return self._after(base, skipped)

    def _after(self, base: Base, skipped: bool) -> bool:
        """Sort the ends of one base chain into losses and what goes on."""
        losses = [e for e in self.ends if e.kind != "accept"]
        going = [e for e in self.ends if e.kind == "accept"]
        self.alive = bool(going) or skipped
        if losses:
            self.losses += losses
            if not going and not skipped:
                return False
            unsure = self.reach[0] or skipped or any(e.unsure for e in self.ends)
            self.reach = (unsure, sum(e.share for e in going))
        if going:
            decided = next((e for e in going if not e.unsure), going[0])
            self.passed.append(decided)
        return True

    def _nat_ends(self) -> None:
        """Which NAT may have been chosen by this chain."""
        chosen = [e for e in self.ends if e.nat is not None]
        if not chosen:
            return
        certain = (
            len(chosen) == 1
            and not self.nats
            and not chosen[0].unsure
            and all(e is chosen[0] or e.kind != "accept" for e in self.ends)
        )
        for e in chosen:
            part = None if isnan(e.share) else e.share
            self.nats.append(NatWay(nat=e.nat, by=ruling(e), certain=certain and part == 1.0, share=part))
        rest = [e for e in self.ends if e.nat is None and e.kind == "accept"]
        self.nat_done = not rest and not any(e.unsure for e in chosen)
        if rest:
            self.nats.append(NatWay(nat=None, by=ruling(rest[0]), certain=False))

    def after_nat(self, *, source: bool) -> None:
        """The facts behind the NAT place: the chosen addresses, or unknown."""
        only = self.nats[0] if len(self.nats) == 1 and self.nats[0].certain else None
        nat = only.nat if only else None
        names = ("saddr", "sport") if source else ("daddr", "dport")
        sure = nat is not None and nat.lo is not None and nat.lo == nat.hi and nat.kind in ("snat", "dnat")
        facts = self.facts
        facts[SLOT[names[0]]] = address(nat.lo) if sure and nat and nat.lo else None
        port = facts[SLOT[names[1]]]
        if port is not ABSENT:
            if nat is not None and nat.port_lo and nat.port_lo == nat.port_hi:
                facts[SLOT[names[1]]] = nat.port_lo
            elif source or nat is None or nat.port_lo:
                facts[SLOT[names[1]]] = None  # a source port may be changed to keep the tuple unique
        kinds = SLOT["srctype" if source else "dsttype"]
        facts[kinds] = None

    # --- chains --------------------------------------------------------------------------------------------------

    def _run(self, chain: Compiled, unsure: bool, share: float, depth: int) -> Reach | None:
        """The rules of a chain; what falls out of its end, None when nothing does."""
        if depth > DEEPEST:
            self._end("unknown", unsure, share, None, chain, why="jumps too deep")
            return None
        facts, before, entry = self.facts, len(self.ends), (unsure, share)
        left: Reach | None = None
        for tests, body, rule, later in chain.about(facts, self.memo):
            maybe, part = False, 1.0
            if later:
                self.later = True
            for test in tests:
                answer = test(facts)
                if answer is True:
                    continue
                if answer is False:
                    break
                if answer is None:
                    maybe = True
                else:
                    part *= answer
            else:
                going, leave = self._act(chain, rule, body, tests, (unsure, share), maybe, part, depth)
                left = _join(left, leave)
                if going is None:
                    unsure, share = True, 0.0
                    break
                unsure, share = going
        else:
            left = _join(left, (unsure, share))
        if left is not None and len(self.ends) == before:
            return entry  # nothing ended on the way: everybody who came in goes out
        return left

    def _act(
        self,
        chain: Compiled,
        rule: FilterRule,
        body: tuple[Op, ...],
        tests: tuple[Test, ...],
        reach: Reach,
        maybe: bool,
        part: float,
        depth: int,
    ) -> tuple[Reach | None, Reach | None]:
        """The body of a rule that matches, or may: (what goes on to the next rule, what leaves the chain)."""
        leave: Reach | None = None
        for kind, e, prepared in body:
            if kind == TEST:
                answer: Answer = prepared(self.facts)
                if answer is False:
                    return reach, leave
                if answer is None:
                    maybe = True
                elif answer is not True:
                    part *= answer
            elif kind == CHOICE:
                return self._choose(chain, rule, prepared, reach, maybe, part, depth)
            else:
                going, gone = self._do(chain, rule, (kind, e, prepared), reach, maybe, part, depth)
                leave = _join(leave, gone)
                if kind in (VERDICT, NAT) or going is None:
                    return going, leave
                reach = going
        return reach, leave

    def _do(
        self, chain: Compiled, rule: FilterRule, operation: Op, reach: Reach, maybe: bool, part: float, depth: int
    ) -> tuple[Reach | None, Reach | None]:
        kind, e, _ = operation
        certain = not maybe and part == 1.0
        if kind == VERDICT:
            return self._verdict(chain, rule, e, reach, maybe, part, depth)
        if kind == NAT:
            self._end("accept", reach[0] or maybe, reach[1] * part, rule, chain, nat=e)
            return self._rest(reach, maybe, part)
        self.wrote = True
        if kind in _WRITES:
            _WRITES[kind](self, chain, rule, e, certain and self.sole)
            return reach, None
        if kind == REWRITE and self._rewrite(e, certain and self.sole):
            return reach, None
        why = f"[{e.what}]" if isinstance(e, Opaque) else f"{e.field} is rewritten" if isinstance(e, Rewrite) else "?"
        self._end("unknown", True, reach[1], rule, chain, why=why)
        return (True, reach[1]), None

    def _verdict(
        self, chain: Compiled, rule: FilterRule, e: Verdict, reach: Reach, maybe: bool, part: float, depth: int
    ) -> tuple[Reach | None, Reach | None]:
        unsure, share = reach
        if e.kind == "continue":
            return reach, None
        if e.kind == "return":
            rest = self._rest(reach, maybe, part)[0]
            return rest, (unsure or maybe, share * part)
        if e.kind in ("jump", "goto"):
            return self._jump(chain, rule, e, reach, maybe, part, depth)
        ends = {"accept": "accept", "drop": "drop", "reject": "reject"}.get(e.kind, "unknown")
        why = "" if ends != "unknown" else f"{e.kind}: decided elsewhere"
        self._end(ends, unsure or maybe, share * part, rule, chain, why=why, reject_with=e.reject_with)
        sole = self.sole
        remaining = self._rest(reach, maybe, part)
        if ends in ("drop", "reject"):
            self.sole = sole  # what is gone is nowhere else
        return remaining

    def _rest(self, reach: Reach, maybe: bool, part: float) -> tuple[Reach | None, None]:
        """What a rule that may match leaves for the next rule."""
        if not maybe and part == 1.0:
            return None, None
        self.sole = False
        return (reach[0] or maybe, reach[1] * (1.0 - part) if part != 1.0 else reach[1]), None

    def _jump(
        self, chain: Compiled, rule: FilterRule, e: Verdict, reach: Reach, maybe: bool, part: float, depth: int
    ) -> tuple[Reach | None, Reach | None]:
        target = self.current.owner.chains.get(e.target or "")
        if target is None:
            self._end("unknown", True, reach[1], rule, chain, why=f"chain {e.target} is not known")
            return (True, reach[1]), None
        certain = not maybe and part == 1.0
        sole, accepts, ends = self.sole, self.accepts, len(self.ends)
        self.sole = sole and certain
        back = self._run(target, reach[0] or maybe, reach[1] * part, depth + 1)
        if e.kind == "goto":
            self.sole = sole and certain and self.accepts == accepts
            if certain:
                return None, back
            self.sole = False
            return self._rest(reach, maybe, part)[0], back
        self.sole = sole and self.accepts == accepts
        if certain:
            return back, None
        if len(self.ends) == ends:
            return reach, None
        rest: Reach = (True if maybe else reach[0], reach[1] * (1.0 - part) if part != 1.0 else reach[1])
        return _join(rest, back), None

    def _choose(
        self,
        chain: Compiled,
        rule: FilterRule,
        branches: Branches | None,
        reach: Reach,
        maybe: bool,
        part: float,
        depth: int,
    ) -> tuple[Reach | None, Reach | None]:
        """A map: the row that matches, those that may, and the way past all of them."""
        if branches is None:
            self._end("unknown", True, reach[1], rule, chain, why="a map that is not understood")
            return (True, reach[1]), None
        options, past = _options(branches, self.facts)
        all_here = not maybe and part == 1.0
        sole, accepts = self.sole, self.accepts
        self.sole = sole and all_here and len(options) == 1 and past is False
        going: Reach | None = None
        leave: Reach | None = None
        for operation, unsure, share in options:  # each in its own world, in which the rule matches
            world = (reach[0] or maybe or unsure, reach[1] * part * share)
            on: Reach | None = world
            if operation is not None:
                on, gone = self._do(chain, rule, operation, world, False, 1.0, depth)
                leave = _join(leave, gone)
            going = _join(going, on)
        if past is not False or not all_here:
            drawn = min(sum(share for _, _, share in options), 1.0) if branches.shares is not None else 0.0
            past_share = reach[1] * (1.0 - part * drawn) if branches.shares is not None else reach[1] * _not(part)
            going = _join(going, (reach[0] or maybe or past is None or bool(options and maybe), past_share))
        self.sole = sole and self.accepts == accepts and leave is None
        return going, leave

    # --- writes --------------------------------------------------------------------------------------------------

    def _clamp(self, chain: Compiled, rule: FilterRule, e: Clamp, certain: bool) -> None:
        before = self.facts[MSS_SLOT]
        if before is ABSENT:
            return
        size = e.size
        if size is None and self.rt_mtu is not None:
            size = max(self.rt_mtu - IP_HEADER[self.family] - TCP_HEADER, 0)
        if before is not None and size is not None and size >= before:
            return
        after = size if certain and before is not None else None
        by = ruling(End("accept", False, 1.0, rule, chain.chain.name, self.current))
        self.clamps.append(Clamping(size=e.size, before=before, after=after, certain=certain, by=by))
        self.facts[MSS_SLOT] = after

    def _mark(self, chain: Compiled, rule: FilterRule, e: SetMark, certain: bool) -> None:
        slot = MARK_SLOT if e.into == "mark" else CTMARK_SLOT
        old = self.facts[slot]
        if old is ABSENT:
            return
        value: int | None = e.value
        if e.source == "unknown":
            value = None
        elif e.source != "value":
            value = self.facts[MARK_SLOT if e.source == "mark" else CTMARK_SLOT]
            if value is ABSENT:
                return  # no connection: nothing is copied (NFT_BREAK; connmark_tg: XT_CONTINUE)
        new: int | None = None
        if value is not None and (old is not None or e.mask == 0xFFFFFFFF):
            new = ((old or 0) & ~e.mask) ^ value
        self.facts[slot] = new if certain or new == old else None

    def _untrack(self, chain: Compiled, rule: FilterRule, e: object, certain: bool) -> None:
        """Only before conntrack has seen it: later it has a connection already (nft_notrack_eval)."""
        if self.facts[CTSTATE_SLOT] not in ("invalid", None) and self.current.priority >= -200:
            return
        self.facts[CTSTATE_SLOT] = "untracked" if certain else None
        self.untracked = True if certain else None

    def _rewrite(self, e: Rewrite, certain: bool) -> bool:
        """A header field is written; False for those that change the packet's way."""
        if e.field in ("dscp", "ttl"):
            self.facts[SLOT[e.field]] = int(e.value) if certain and e.value and e.value.isdigit() else None
        elif e.field == "df":
            self.facts[SLOT["df"]] = None
        elif e.field == "ctstate":
            for name in ("ctstate", "ctmark", "ctstatus", "ctdir"):
                self.facts[SLOT[name]] = None
        elif e.field == "tcp option 2":
            self.facts[MSS_SLOT] = None
        else:
            return e.field.startswith(("tcp option", "tcp window"))
        return True

    # --- ends ----------------------------------------------------------------------------------------------------

    def _end(
        self,
        kind: str,
        unsure: bool,
        share: float,
        rule: FilterRule | None,
        chain: Compiled,
        *,
        why: str = "",
        reject_with: str | None = None,
        nat: Nat | None = None,
    ) -> None:
        if kind == "accept":
            self.accepts += 1
        self.ends.append(End(kind, unsure, share, rule, chain.chain.name, self.current, why, reject_with, nat))

    def summary(self) -> tuple[Verdict3, Ruling | None, float | None, str]:
        """Verdict, deciding rule, lost share, why."""
        losses, by = self.losses, ruling(self.passed[-1]) if self.passed else None
        if not losses:
            return "accept", by, None, ""
        odd = next((e for e in losses if e.kind == "unknown"), None)
        if not self.alive and odd is None:
            first = next((e for e in losses if not e.unsure), losses[0])
            kinds = {e.kind for e in losses}
            return "reject" if kinds == {"reject"} else "drop", ruling(first), None, ""
        doubtful = odd or next((e for e in losses if e.unsure), None)
        if doubtful is not None:
            return "unknown", ruling(doubtful), None, doubtful.why or _doubt(doubtful)
        lost = sum(e.share for e in losses)
        return "sometimes", ruling(losses[0]), None if isnan(lost) else lost, ""


_WRITES: dict[int, Callable[[Walk, Compiled, FilterRule, object, bool], None]] = {
    CLAMP: Walk._clamp,  # type: ignore[dict-item]
    MARK: Walk._mark,  # type: ignore[dict-item]
    UNTRACK: Walk._untrack,
}


def _not(part: float) -> float:
    return 1.0 - part if part != 1.0 else 1.0


def _join(a: Reach | None, b: Reach | None) -> Reach | None:
    """Two groups of packets at the same place."""
    if a is None or b is None:
        return b if a is None else a
    return (a[0] or b[0], a[1] + b[1])


def _options(branches: Branches, facts: Facts) -> tuple[list[tuple[Op | None, bool, float]], bool | None]:
    """Rows that match or may: (operation, unsure, share); and whether the packet may get past all of them."""
    if branches.shares is not None:
        total = sum(branches.shares)
        drawn = [(o, not branches.certain, s) for o, s in zip(branches.then, branches.shares, strict=True) if s > 0]
        return drawn, False if total > 0.999999 else True if branches.certain else None
    assert branches.rows is not None
    hit, maybe = branches.rows.find(facts)
    options: list[tuple[Op | None, bool, float]] = []
    for i, answer in maybe:
        options.append((branches.then[i], True, 1.0 if answer is None else float(answer)))
    if hit is not None:
        options.append((branches.then[hit], bool(maybe), 1.0))
        return options, None if maybe else False
    if branches.partial:
        unknown: Op = (8, Opaque(what="a map of which only a part was read", statement=True), None)
        return [*options, (unknown, True, 1.0)], None
    if branches.otherwise is not None:
        return [*options, (branches.otherwise, bool(maybe), 1.0)], None if maybe else False
    return options, None if maybe else True


def _doubt(end: End) -> str:
    """Why it is not known whether this rule is reached or matches."""
    return f"it is not known whether {end.rule.text or 'a rule'} matches" if end.rule else "a rule before the policy"
