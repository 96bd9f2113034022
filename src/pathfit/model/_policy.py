"""What the packet filters of one namespace do with one packet at one hook: the model's packet, translated for
:mod:`~pathfit.model.filter`, and its answer, translated back.

A namespace without tables answers at once. A rule that drops only some packets (dice, limits) does not end the walk:
that is loss, not a block.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

from msgspec.structs import replace

from pathfit.core.filters import Hook, Nat
from pathfit.core.net import TCP, Flow
from pathfit.core.path import Clamped, Filtered
from pathfit.core.snapshot import Link
from pathfit.model import filter as pf
from pathfit.model.addr import is_loopback, is_multicast
from pathfit.model.mtu import comes_back_by
from pathfit.model.network import Net
from pathfit.model.packet import Packet, Tuple5

Ct = Literal["new", "established", "related", "invalid", "untracked"]
Family = Literal["ip", "bridge", "netdev"]
SMALL = {4: 60, 6: 80}  # bytes of a SYN with its options: the packet whose fate is walked
ERROR_SIZE = {4: 576, 6: 1280}  # icmp_send quotes up to 576 bytes in all, icmpv6_send up to 1280
FLAGS = {"request": ("syn",), "reply": ("syn", "ack")}


class Outcome(NamedTuple):
    """``verdict``: accept, drop, reject, unknown. ``steps``: the rule that mattered. ``mss`` after clamps."""

    verdict: str = "accept"
    steps: tuple[Filtered, ...] = ()
    nat: Nat | None = None
    mark: int = 0
    mss: int | None = None
    clamps: tuple[Clamped, ...] = ()
    why: str = ""
    tracked: bool = True
    judged: bool = False  # some chain hangs there


class Where(NamedTuple):
    """Beside the packet: devices, the ports of a bridge, what conntrack says, and what only the walk can look up.

    ``turned``: the packet after the NAT conntrack remembers. ``path_mtu``: smaller MTU of the way on and the way back.
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
    path_mtu: Callable[[], int | None] | None = None


def pass_on(p: Packet) -> Outcome:
    """No filter there: nothing changes."""
    return Outcome(mark=p.mark, mss=p.mss)


def index_of(net: Net) -> pf.FilterIndex:
    """The namespace's tables, prepared once."""
    found = net.filters
    if not isinstance(found, pf.FilterIndex):
        found = net.filters = pf.tables_index(net.snap.tables)
    return found


def hook(net: Net, family: Family, name: Hook, p: Packet, where: Where) -> Outcome:
    """Everything that hangs on a hook, by priority. ``family`` "ip" means iptables, ip, ip6 and inet."""
    index = index_of(net)
    layer: Literal["ip", "bridge"] = "bridge" if family == "bridge" else "ip"
    device = ""
    if family == "netdev":
        link = where.iif if name == "ingress" else where.oif
        device = link.name if link else ""
    if not index.bases(name, p.family, layer, device):
        return pass_on(p)
    asked = _packet(net, family, p, where)
    got = pf.evaluate(index, name, asked, layer=layer, device=device)
    if got.verdict == "unknown" or (got.mss is None and p.mss is not None):
        dear = _dear(net, name, asked, p, where)
        if dear is not asked:
            got = pf.evaluate(index, name, dear, layer=layer, device=device)
    return _answer(net, name, p, got)


def _packet(net: Net, family: Family, p: Packet, where: Where) -> pf.Packet:
    iif, oif = where.iif, where.oif
    if family == "bridge":
        iif, oif = where.bridge_in or iif, where.bridge_out or oif
    size = ERROR_SIZE[p.family] if p.kind == "error" else p.size if p.big else SMALL[p.family]
    kind, code = p.error_type or (None, None)
    tcp = p.proto == TCP
    changed = where.came != where.left
    return pf.Packet(
        flow=Flow(src=p.src, dst=p.dst, proto=p.proto, sport=p.sport, dport=p.dport, size=size, df=p.df, mark=p.mark),
        iifname=iif.name if iif else "",
        oifname=oif.name if oif else "",
        iif=iif.index if iif else 0,
        oif=oif.index if oif else 0,
        iiftype=iif.arphrd if iif else None,
        oiftype=oif.arphrd if oif else None,
        bridge_in=where.bridge_in.name if where.bridge_in else "",
        bridge_out=where.bridge_out.name if where.bridge_out else "",
        ctstate="established" if p.big and where.state == "new" else where.state,
        ctdir="reply" if where.reply else "original",
        ctstatus=None if changed else () if where.state == "new" else ("confirmed", "seen-reply"),
        tcp_flags=(("ack",) if p.big else FLAGS.get(p.kind, ())) if tcp else None,
        mss=(0 if p.big else p.mss) if tcp else None,
        frag="later" if p.later else "no",
        icmp_type=kind,
        icmp_code=code,
        ttl=None,
        pkttype="host",
        src_type=_address_type(net, p.src),
        dst_type=_address_type(net, p.dst),
        local=where.local,
        original=_as_flow(where.came),
        reply=_as_flow(where.left.turned() if where.left else None),
        translated=where.turned.flow() if where.turned is not None else None,
    )


def _as_flow(t: Tuple5 | None) -> Flow | None:
    return Flow(src=t.src, dst=t.dst, proto=t.proto, sport=t.sport, dport=t.dport) if t else None


def _address_type(net: Net, address: str) -> str:
    """RTN_* of an address here, as `addrtype` and `fib type` see it."""
    if address in net.addresses or is_loopback(address):
        return "local"
    if address == "255.255.255.255":
        return "broadcast"
    return "multicast" if address and is_multicast(address) else "unicast"


def _dear(net: Net, name: str, asked: pf.Packet, p: Packet, where: Where) -> pf.Packet:
    """The same packet with what costs a lookup: the reverse path, the path's MTU."""
    if where.path_mtu is not None:
        asked = replace(asked, rt_mtu=where.path_mtu())
    if name == "prerouting" and where.iif is not None:
        asked = replace(asked, rpfilter=comes_back_by(net, where.iif, p.src, p.dst, p.mark))
    return asked


def _answer(net: Net, name: str, p: Packet, got: pf.Outcome) -> Outcome:
    at = net.point()
    step = got.step(at) if got.verdict != "accept" else None
    steps = (step,) if step else ()
    verdict, why = got.verdict, got.why
    if verdict == "sometimes":
        verdict = "accept"
    nat = got.nat
    if verdict == "accept" and p.kind == "request" and not p.big and got.nats and nat is None:
        verdict, why = "unknown", "a NAT rule that may or may not apply"
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
    return Outcome(verdict, steps, nat, got.mark or 0, mss, clamps, why, not got.untracked, True)
