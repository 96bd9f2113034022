"""What the packet filters of one namespace do with one packet at one hook: the model's packet, translated for
:mod:`~pathfit.model.filters.evaluate`, and its answer, translated back.

A namespace without tables answers at once. A rule that drops only some packets (dice, limits) does not end the walk:
that is loss, not a block.
"""

from typing import Literal, NamedTuple

from pathfit.core.filters import Hook, Nat
from pathfit.core.net import TCP
from pathfit.core.path import Clamped, Filtered
from pathfit.core.snapshot import Link
from pathfit.model.addr import is_loopback, is_multicast
from pathfit.model.filters import evaluate as pf
from pathfit.model.lookup import Found
from pathfit.model.mtu import comes_back_by, path_mtu
from pathfit.model.network import Net
from pathfit.model.packet import Packet, Tuple5

Ct = Literal["new", "established", "related", "invalid", "untracked"]
Family = Literal["ip", "bridge", "netdev"]
SMALL = {4: 60, 6: 80}  # bytes of a SYN with its options: the packet whose fate is walked
ERROR_SIZE = {4: 576, 6: 1280}  # icmp_send quotes up to 576 bytes in all, icmpv6_send up to 1280
REFUSED = ("rst", "ack")  # what answers a SYN where nobody listens (RFC 9293 section 3.10.7.1)
FLAGS = {"request": ("syn",), "reply": ("syn", "ack")}


class Outcome(NamedTuple):
    """``verdict``: accept, drop, reject, unknown. ``steps``: the rule that mattered. ``mss`` after clamps. ``choices``:
    where it is unknown for that alone, what NAT may be chosen (None: none)."""

    verdict: str = "accept"
    steps: tuple[Filtered, ...] = ()
    nat: Nat | None = None
    mark: int = 0
    mss: int | None = None
    clamps: tuple[Clamped, ...] = ()
    why: str = ""
    tracked: bool = True
    later: bool = False  # some rule was looked at that may treat later packets of the conversation otherwise
    choices: tuple[Nat | None, ...] = ()


class Where(NamedTuple):
    """Beside the packet: devices, the ports of a bridge, what conntrack says, and what only the walk can look up.

    ``turned``: the packet after the NAT conntrack remembers. ``found``: the route it goes by.
    """

    iif: Link | None = None
    oif: Link | None = None
    bridge_in: Link | None = None
    bridge_out: Link | None = None
    state: Ct = "new"
    reply: bool = False
    came: Tuple5 | None = None
    left: Tuple5 | None = None
    turned: Packet | None = None
    local: bool = False
    found: Found | None = None


PASSED = Outcome()  # no filter there: nothing changes, whatever its mark and MSS


def index_of(net: Net) -> pf.FilterIndex:
    """The namespace's tables, prepared once."""
    found = net.filters
    if not isinstance(found, pf.FilterIndex):
        found = net.filters = pf.tables_index(net.snap.tables)
    return found


def hangs(net: Net, name: Hook, p: Packet, family: Family = "ip") -> bool:
    """Does anything hang on this hook?"""
    if not net.filtered:
        return False
    layer = family if family != "ip" else "ip6" if ":" in p.dst else "ip"
    return (layer, name) in index_of(net).hooks


def hook(net: Net, family: Family, name: Hook, p: Packet, where: Where, memo: pf.Memo) -> Outcome:
    """Everything that hangs on a hook, by priority. ``family`` "ip" means iptables, ip, ip6 and inet.

    PASSED: nothing hangs there.
    """
    index = index_of(net)
    layer: Literal["ip", "bridge"] = "bridge" if family == "bridge" else "ip"
    device = ""
    if family == "netdev":
        link = where.iif if name == "ingress" else where.oif
        device = link.name if link else ""
    bases = index.bases(name, p.family, layer, device)
    if not bases:
        return PASSED
    asked = Asked(net, family, p, where)
    walk = pf.judge(index, bases, name, asked, layer, memo)
    if not (walk.losses or walk.nats or walk.clamps or walk.wrote):
        return Outcome("accept", (), None, p.mark, p.mss, (), "", True, walk.later)
    got = pf.outcome(walk, asked, name)
    if got.verdict == "unknown" or (got.mss is None and p.mss is not None):
        dear = _dear(asked, name)
        if dear is not asked:
            walk = pf.judge(index, bases, name, dear, layer, memo)
            got = pf.outcome(walk, dear, name)
    return _answer(net, p, got, walk.later)


class Asked:
    """The packet as filters ask about it (:class:`pathfit.model.filters.evaluate.Packet`), each answer found when asked
    for."""

    uid = gid = ttl = dscp = ctmark = mark = None
    pkttype = "host"
    rt_mtu: int | None = None
    rpfilter: bool | None = None

    def __init__(self, net: Net, family: Family, p: Packet, where: Where) -> None:
        self.net, self.family, self.flow, self.where = net, family, p, where
        self.ctstate: Ct | None = "established" if p.big and where.state == "new" else where.state
        self.frag: Literal["no", "first", "later"] = "later" if p.later else "no"
        self.local = where.local
        bridged = family == "bridge"
        self._in = where.bridge_in or where.iif if bridged else where.iif
        self._out = where.bridge_out or where.oif if bridged else where.oif

    @property
    def length(self) -> int | None:
        p = self.flow
        if p.big and p.piece and not (self.family == "ip" and index_of(self.net).tracks[p.family]):
            return min(p.piece, p.size)
        return self.together

    @property
    def together(self) -> int | None:
        p = self.flow
        return ERROR_SIZE[p.family] if p.kind == "error" else (p.size or None) if p.big else SMALL[p.family]

    @property
    def iifname(self) -> str | None:
        return self._in.name if self._in else ""

    @property
    def oifname(self) -> str | None:
        return self._out.name if self._out else ""

    @property
    def iif(self) -> int | None:
        return self._in.index if self._in else 0

    @property
    def oif(self) -> int | None:
        return self._out.index if self._out else 0

    @property
    def iiftype(self) -> int | None:
        return self._in.arphrd if self._in else None

    @property
    def oiftype(self) -> int | None:
        return self._out.arphrd if self._out else None

    @property
    def bridge_in(self) -> str | None:
        return self.where.bridge_in.name if self.where.bridge_in else ""

    @property
    def bridge_out(self) -> str | None:
        return self.where.bridge_out.name if self.where.bridge_out else ""

    @property
    def ctdir(self) -> Literal["original", "reply"] | None:
        return "reply" if self.where.reply else "original"

    @property
    def ctstatus(self) -> tuple[str, ...] | None:
        if self.where.came != self.where.left:
            return None
        return () if self.where.state == "new" else ("confirmed", "seen-reply")

    @property
    def tcp_flags(self) -> tuple[str, ...] | None:
        p = self.flow
        if p.proto != TCP:
            return None
        return REFUSED if p.reset else ("ack",) if p.big else FLAGS.get(p.kind, ())

    @property
    def mss(self) -> int | None:
        p = self.flow
        return None if p.proto != TCP else 0 if p.big else p.mss

    @property
    def icmp_type(self) -> int | None:
        error = self.flow.error_type
        return error[0] if error else None

    @property
    def icmp_code(self) -> int | None:
        error = self.flow.error_type
        return error[1] if error else None

    @property
    def src_type(self) -> str | None:
        return _address_type(self.net, self.flow.src)

    @property
    def dst_type(self) -> str | None:
        return _address_type(self.net, self.flow.dst)

    @property
    def original(self) -> Tuple5 | None:
        return self.where.came

    @property
    def reply(self) -> Tuple5 | None:
        return self.where.left.turned() if self.where.left else None

    @property
    def translated(self) -> Packet | None:
        return self.where.turned


def _address_type(net: Net, address: str) -> str:
    """RTN_* of an address here, as `addrtype` and `fib type` see it."""
    if address in net.addresses or is_loopback(address):
        return "local"
    if address == "255.255.255.255":
        return "broadcast"
    return "multicast" if address and is_multicast(address) else "unicast"


def _dear(asked: Asked, name: str) -> Asked:
    """The same packet with what costs a lookup: the reverse path, the path's MTU."""
    where, p = asked.where, asked.flow
    dear = Asked(asked.net, asked.family, p, where)
    if where.found is not None:
        dear.rt_mtu = path_mtu(asked.net, where.found, p.src, p.dst)
    elif name != "prerouting" or where.iif is None:
        return asked
    if name == "prerouting" and where.iif is not None:
        dear.rpfilter = comes_back_by(asked.net, where.iif, p.src, p.dst, p.mark)
    return dear


def _answer(net: Net, p: Packet, got: pf.Outcome, later: bool) -> Outcome:
    at = net.point()
    step = got.step(at) if got.verdict != "accept" else None
    steps = (step,) if step else ()
    verdict, why = got.verdict, got.why
    if verdict == "sometimes":
        verdict = "accept"
    nat, choices = got.nat, tuple[Nat | None, ...]()
    if verdict == "accept" and p.kind == "request" and not p.big and got.nats and nat is None:
        verdict, why = "unknown", "a NAT rule that may or may not apply"
        choices = tuple(dict.fromkeys(x.nat for x in got.nats)) if got.mark is not None else ()
    if verdict in ("drop", "reject") and step:
        why = f"{step.table} {step.chain}: {step.rule}".rstrip(": ")
    mss = p.mss if got.mss is None or p.big or p.mss is None else got.mss or p.mss
    if verdict == "accept" and got.mark is None:
        verdict, why = "unknown", "a rule sets a mark that is not known"
    clamps = tuple(
        Clamped(at=at, mss_before=c.before or 0, mss_after=c.after or 0, rule=c.by.rule)
        for c in got.clamps
        if c.certain and c.after is not None
    )
    return Outcome(verdict, steps, nat, got.mark or 0, mss, clamps, why, not got.untracked, later, choices)
