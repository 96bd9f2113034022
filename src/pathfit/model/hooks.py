"""The filters and translations a walk passes, and what the namespaces on its way remember of the conversation."""

import msgspec

from pathfit.core.filters import Hook, Nat
from pathfit.core.net import TCP
from pathfit.core.path import Clamped, Fate, Step, Translated
from pathfit.core.snapshot import Link
from pathfit.model import _policy, nat
from pathfit.model._policy import PASSED, Outcome, Where
from pathfit.model.filters.evaluate import Memo
from pathfit.model.frame import Note
from pathfit.model.lookup import Found
from pathfit.model.network import Net
from pathfit.model.packet import Bound, Packet, Tuple5
from pathfit.model.state import End


class Hooks:
    """What a walk has noted so far. ``memory``: conversations known from the other direction."""

    def __init__(self, memory: nat.Memory) -> None:
        self.memory = memory
        self.notes: list[Note] = []
        self.talks: dict[str, nat.Talk] = {}
        self.clamps: list[Clamped] = []
        self.later = False
        self.gso: bool | None = False  # may the packet be a super-packet where the walk stands?
        self.picks: tuple[int, ...] | None = None  # which translation, each time that one is drawn; None: it ends there
        self.draws: list[int] = []  # of how many, each time
        self._memo: Memo = {}
        self._talk: tuple[Packet | None, Tuple5 | None] = (None, None)  # the last packet, and who talks in it

    # -- filters -------------------------------------------------------------------------------------------------

    def _hook(
        self,
        net: Net,
        hook: Hook,
        p: Packet,
        talk: nat.Talk | None,
        *,
        iif: Link | None = None,
        oif: Link | None = None,
        turned: Packet | None = None,
        found: Found | None = None,
    ) -> Outcome:
        """What hangs on this hook of the IP layer. ``iif`` or ``oif`` None: there is none, the packet is made or
        received here. ``found``: the route it goes by, where that is known."""
        if not _policy.hangs(net, hook, p):
            return PASSED
        local = hook in ("output", "input") or (hook == "postrouting" and iif is None)
        state, reply, came, left = self._tracked(net, p, talk)
        where = Where(iif, oif, None, None, state, reply, came, left, turned, local, found)
        out = _policy.hook(net, "ip", hook, p, where, self._memo)
        if self.picks is not None:
            out = self._drawn(out, self.picks)
        if p.big and out.verdict == "accept" and self.gso is not False and p.proto == TCP:
            out = self._as_super(net, "ip", hook, p, where, out)
        self.notes += out.steps
        self.clamps += out.clamps
        self.later = self.later or (out.later and net.takes)
        return out

    def _drawn(self, out: Outcome, picks: tuple[int, ...]) -> Outcome:
        """One of several translations, where dice, a hash or what is not known choose: the caller tries them all."""
        several = out.choices or nat.each(out.nat)
        if not several:
            return out
        turn = len(self.draws)
        self.draws.append(len(several))
        return out._replace(verdict="accept", why="", nat=several[picks[turn] if turn < len(picks) else 0])

    def _l2_hook(self, net: Net, family: _policy.Family, hook: Hook, p: Packet, where: Where) -> Outcome:
        """The same for the hooks that a frame passes."""
        if not _policy.hangs(net, hook, p, family):
            return PASSED
        talk = nat.known(self.memory, net, p) if self.memory else None
        state, reply, came, left = self._tracked(net, p, talk)
        where = where._replace(state=state, reply=reply, came=came, left=left)
        out = _policy.hook(net, family, hook, p, where, self._memo)
        if p.big and out.verdict == "accept" and self.gso is not False and p.proto == TCP:
            out = self._as_super(net, family, hook, p, where, out)
        self.later = self.later or (out.later and net.takes)
        return out

    def _as_super(self, net: Net, family: _policy.Family, hook: Hook, p: Packet, where: Where, out: Outcome) -> Outcome:
        """A filter that lets a segment pass may see many of them as one packet (nft_meta_get_eval NFT_META_LEN,
        skb->len of a GSO packet), of any size up to 64 kB: where it would take one of those, nothing is certain."""
        for size in net.lengths:
            if size > p.size:
                whole = msgspec.structs.replace(p, size=size, piece=0)
                if _policy.hook(net, family, hook, whole, where, {}).verdict != "accept":
                    return out._replace(
                        verdict="unknown", why="a rule on length may see several segments as one packet"
                    )
        return out

    def _tracked(
        self, net: Net, p: Packet, talk: nat.Talk | None
    ) -> tuple[_policy.Ct, bool, Tuple5 | None, Tuple5 | None]:
        """The state conntrack gives the packet here, is it an answer, and the conversation it sees."""
        if p.kind == "request":
            mine = talk or self.talks.get(net.key)
            return ("new", False, mine.came, mine.left) if mine else ("new", False, p.talk, p.talk)
        if talk is None:
            return "invalid", False, None, None
        return "related" if p.kind == "error" else "established", p.kind == "reply", talk.came, talk.left

    def _after_hook(self, p: Packet, out: Outcome) -> Packet:
        if out is PASSED or (out.mark == p.mark and out.mss == p.mss):
            return p
        return msgspec.structs.replace(p, mark=out.mark, mss=out.mss)

    def _ended(self, out: Outcome, net: Net) -> End | None:
        if out.verdict == "accept":
            return None
        culprit = out.steps[-1] if out.steps else None
        if out.verdict == "unknown":
            return End(Fate.UNKNOWN, out.why or "a filter that is not understood", net.point(), culprit)
        return End(Fate.FILTERED, out.why, None, culprit)

    # -- NAT -----------------------------------------------------------------------------------------------------

    def _translate(
        self, net: Net, rule: Nat, p: Packet, iif: Link | None, oif: Link | None, near: str
    ) -> Packet | None:
        """NAT is decided by a conversation's first packet only (nf_nat_inet_fn)."""
        if p.kind != "request":
            return p
        changed = nat.apply(net, rule, p, iif=iif, oif=oif, near=near)
        if changed is not None:
            self._note_nat(net, rule.kind, p, changed)
        return changed

    def _note_nat(self, net: Net, kind: str, before: Packet, after: Packet) -> None:
        if before.talk != after.talk:
            self.notes.append(Translated(at=net.point(), kind=kind, before=before.flow(), after=after.flow()))

    def _remember(self, net: Net, p: Packet) -> None:
        """The first packet of the conversation, as it came here."""
        if p.kind == "request" and net.key not in self.talks:
            tuple5 = self._tuple(p)
            self.talks[net.key] = nat.Talk(net.key, tuple5, tuple5)

    def _left(self, net: Net, p: Packet) -> None:
        """And as it left."""
        if p.kind == "request":
            talk, tuple5 = self.talks.get(net.key), self._tuple(p)
            if talk and talk.left is not tuple5 and talk.left != tuple5:
                self.talks[net.key] = nat.Talk(net.key, talk.came, tuple5)

    def _tuple(self, p: Packet) -> Tuple5:
        """One value for as long as the packet stays as it is: it passes many namespaces so."""
        last, tuple5 = self._talk
        if last is not p or tuple5 is None:
            tuple5 = p.talk
            self._talk = (p, tuple5)
        return tuple5

    def _last(self) -> Step | None:
        last = self.notes[-1] if self.notes else None
        return None if isinstance(last, Bound) else last
