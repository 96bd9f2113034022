"""Prediction against truth, one question at a time. Pure: a snapshot, what was asked, what was seen.

Nothing is forgiven: fate of a small packet, fate of each size that was tried, the largest whole packet to the byte,
who said "too big" and with which size, whether it came home, the MSS that arrived, whether a TCP transfer stands still.
Where the model says "unknown" that is no mistake; it is counted, and there is a budget.
"""

from dataclasses import dataclass, field

from oracle.generate import Lab
from oracle.truth import SMALLEST, Seen, Stream, Truth, Way
from pathfit.core.net import TCP, UDP, Flow
from pathfit.core.path import Clamped, Encap, Enter, Exit, Fate, Limit, Predicted, Translated
from pathfit.core.snapshot import HostSnapshot
from pathfit.model import Network, predict, predict_both

FATES = (("filter", Fate.FILTERED), ("rp_filter", Fate.RP_FILTER))
LOSSES = ("lost", "errno")
LESSONS = 8  # sizes learned one after the other; each is smaller than the one before, so it ends


@dataclass
class Verdict:
    """``wrong``: sentences; ``unknown``: why, by question; ``deciding``: mechanisms that decided a direction."""

    wrong: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    deciding: set[str] = field(default_factory=set)
    asked: int = 0


class Asking:
    """The questions of one lab, put to the model about one snapshot."""

    def __init__(self, lab: Lab, host: HostSnapshot) -> None:
        self.lab, self.network = lab, Network.of(host)
        self.cached: dict[tuple[str, int], Predicted] = {}

    def udp(self, which: str, size: int) -> Predicted:
        """``which``: forward, forward_may, reverse, back_asked, back_asked_may (the names in Truth)."""
        key = (which, size)
        if key not in self.cached:
            self.cached[key] = self._udp(which, size)
        return self.cached[key]

    def _udp(self, which: str, size: int) -> Predicted:
        lab, df = self.lab, not which.endswith("may")
        if which == "reverse":
            return predict_both(
                self.network, f"netns:{lab.a}", lab.to, proto=UDP, sport=lab.sport, dport=lab.dport,
                size_forward=SMALLEST, size_reverse=size,
            )[1]  # fmt: skip
        here, to = (lab.b, lab.home) if which.startswith("back") else (lab.a, lab.to)
        flow = Flow(src="", dst=to, proto=UDP, sport=lab.sport, dport=lab.dport, size=size, df=df)
        return predict(self.network, f"netns:{here}", flow)

    def tcp(self, reverse: bool, size: int | None = None) -> Predicted:
        """A full segment of ``size`` bytes; None: as large as the two ends agree on."""
        if size is None and not reverse:
            return self._tcp(None, None, self._tcp(None, None)[1].mss)[0]
        return self._tcp(None, size)[1] if reverse else self._tcp(size, None)[0]

    def _tcp(self, forward: int | None, reverse: int | None, mss: int | None = None) -> tuple[Predicted, Predicted]:
        lab = self.lab
        return predict_both(
            self.network, f"netns:{lab.a}", lab.to, proto=TCP, dport=lab.dport,
            size_forward=forward, size_reverse=reverse, peer_mss=mss,
        )  # fmt: skip


def bites(p: Predicted) -> Limit | None:
    """The limit that stops a packet of the asked size, nearest first."""
    wanted = ("icmp", "error") if p.large is Fate.TOO_BIG_TOLD else ("silent",)
    return next((x for x in p.limits if x.then in wanted), None)


def expected(p: Predicted) -> Seen | None:
    """What should be seen of a packet of the asked size; None: not known."""
    if p.large is Fate.UNKNOWN:
        return None
    if p.large is Fate.DELIVERED:
        return Seen("whole")
    if p.large is Fate.FRAGMENTED:
        return Seen("pieces")
    if p.large is Fate.TOO_BIG_TOLD:
        limit = bites(p)
        if limit is None or limit.told_home is None:
            return None
        if limit.then == "error":
            return Seen("error", limit.mtu)
        return Seen("told", limit.mtu) if limit.told_home else Seen("lost")
    return Seen("lost")


def _behind(p: Predicted) -> Limit | None:
    """A tunnel's end without outer DF passes the first packet on, in pieces, and only then knows: what is behind it may
    speak first. So does a router's that is no bridge's port: it answers nobody itself, but learns (vxlan_xmit_one(),
    skb_tunnel_check_pmtu())."""
    first = bites(p)
    if first is None or first.kind != "tunnel" or first.then not in ("error", "icmp"):
        return None
    encaps = [x for hop in p.hops for x in hop.steps if isinstance(x, Encap) and x.at == first.at and not x.df]
    rest = p.limits[p.limits.index(first) + 1 :]
    return next((x for x in rest if x.then == "icmp" and x.told_home), None) if encaps else None


def judge(lab: Lab, host: HostSnapshot, truth: Truth) -> Verdict:
    """Everything that was seen, against what the model says about the same snapshot."""
    said, asking = Verdict(), Asking(lab, host)
    for which in ("forward", "reverse", "forward_may", "back_asked", "back_asked_may"):
        seen = getattr(truth, which)
        if seen is not None:
            _way(said, asking, which, seen)
    if truth.stream is not None:
        _stream(said, asking, truth.stream)
    said.deciding = deciding(asking, truth)
    return said


def _way(said: Verdict, asking: Asking, which: str, seen: Way) -> None:
    small = asking.udp(which, SMALLEST)
    said.asked += 1
    if small.fate is Fate.UNKNOWN:
        said.unknown.append(f"{which}: fate: {small.why}")
        return
    if (small.fate is Fate.DELIVERED) is not (seen.small.how == "whole"):
        said.wrong.append(f"{which}: a small packet: predicted {small.fate} ({small.why}), seen {seen.small}")
        return
    for size, fact in sorted(seen.seen.items()):
        _size(said, asking, which, size, fact)
    if seen.limit is not None:
        _limit(said, asking, which, seen.limit)


def _size(said: Verdict, asking: Asking, which: str, size: int, fact: Seen) -> None:
    p = asking.udp(which, size)
    want = expected(p)
    said.asked += 1
    if want is None:
        said.unknown.append(f"{which}: {size} bytes: {p.why or bites(p)}")
        return
    fact_how = "lost" if fact.how in LOSSES else fact.how
    limit = bites(p)
    behind = _behind(p)
    if fact.how == "told" and behind is not None and (want.how == "error" or fact.value == behind.mtu):
        limit = behind
        want = Seen("told", limit.mtu)
    if want.how != fact_how or (want.value is not None and want.value != fact.value):
        said.wrong.append(f"{which}: {size} bytes: predicted {want} ({p.large}; {limit}), seen {fact}")
    elif want.how == "told" and limit is not None:
        _teller(said, asking, f"{which}: {size} bytes", p, limit, fact)


def _teller(said: Verdict, asking: Asking, what: str, p: Predicted, limit: Limit, fact: Seen) -> None:
    """It was said by the namespace that the limit stands in; what lies on the way of a tunnel, by the tunnel's end,
    which a bridged tunnel does in the destination's name."""
    if any(isinstance(x, Translated) for hop in p.hops for x in hop.steps):
        return  # who speaks may wear another's address
    ends = [x.at for hop in p.hops for x in hop.steps if isinstance(x, Encap)] if limit.kind == "tunnel" else []
    nets = [asking.network.at(at) for at in (limit.at, *ends)]
    own = any(net is not None and fact.by in net.addresses for net in nets)
    if not own and fact.by != (p.final or p.flow).dst:
        said.wrong.append(f"{what}: {limit.at} should say so, {fact.by} did")


def _limit(said: Verdict, asking: Asking, which: str, limit: int) -> None:
    """The largest whole packet, to the byte (unless something that is no bound takes packets of that size)."""
    p = asking.udp(which, asking.lab.top)
    said.asked += 1
    if p.mtu is None or p.fate is Fate.UNKNOWN:
        said.unknown.append(f"{which}: mtu: {p.why}")
        return
    at = expected(asking.udp(which, p.mtu))
    if p.mtu != limit and (at is None or at.how == "whole"):
        said.wrong.append(f"{which}: mtu: predicted {p.mtu}, seen {limit}")


# -- TCP -------------------------------------------------------------------------------------------------------------


def _stream(said: Verdict, asking: Asking, seen: Stream) -> None:
    forward, reverse = asking.tcp(False), asking.tcp(True)
    said.asked += 1
    if forward.fate is Fate.UNKNOWN:
        said.unknown.append(f"tcp: fate: {forward.why}")
        return
    if (forward.fate is Fate.DELIVERED) is not seen.syn:
        said.wrong.append(f"tcp: SYN: predicted {forward.fate} ({forward.why}), seen {seen.syn}")
        return
    if not seen.syn:
        return
    _mss(said, "SYN", forward.mss, seen.mss_syn)
    said.asked += 1
    if reverse.fate is Fate.UNKNOWN:
        said.unknown.append(f"tcp: fate of the answer: {reverse.why}")
        return
    if (reverse.fate is Fate.DELIVERED) is not seen.synack:
        said.wrong.append(f"tcp: SYN-ACK: predicted {reverse.fate} ({reverse.why}), seen {seen.synack}")
        return
    if not seen.synack:
        return
    _mss(said, "SYN-ACK", reverse.mss, seen.mss_synack)
    for name, p, passed in (("forward", forward, seen.forward), ("reverse", reverse, seen.reverse)):
        if passed is not None:
            _transfer(said, asking, name, p, passed)
    for (back, size), fact in sorted(seen.sized.items()):
        _segments(said, asking, back, size, fact)


def _mss(said: Verdict, what: str, predicted: int | None, seen: int | None) -> None:
    said.asked += 1
    if predicted is None:
        said.unknown.append(f"tcp: MSS of the {what}")
    elif predicted != seen:
        said.wrong.append(f"tcp: MSS of the {what}: predicted {predicted}, seen {seen}")


def _transfer(said: Verdict, asking: Asking, name: str, p: Predicted, passed: bool) -> None:
    """A sender that is told sends less, until it fits or meets a limit that says nothing."""
    said.asked += 1
    goes = transfers(asking, name == "reverse", p)
    if goes is None:
        said.unknown.append(f"tcp {name}: transfer: {p.why or bites(p)}")
    elif goes is not passed:
        said.wrong.append(f"tcp {name}: a transfer: predicted {goes} ({p.large}; {bites(p)}), seen {passed}")


def transfers(asking: Asking, reverse: bool, p: Predicted) -> bool | None:
    for _ in range(LESSONS):
        want = expected(p)
        if want is None:
            return None
        if want.how in ("whole", "pieces"):
            return True
        if want.how not in ("told", "error") or want.value is None:
            return False
        p = asking.tcp(reverse, want.value)
    return None


def _segments(said: Verdict, asking: Asking, reverse: bool, size: int, fact: Seen) -> None:
    p = asking.tcp(reverse, size)
    goes = transfers(asking, reverse, p)
    said.asked += 1
    name = "reverse" if reverse else "forward"
    if goes is None:
        said.unknown.append(f"tcp {name}: segments of {size}: {p.why or bites(p)}")
    elif goes is not (fact.how not in LOSSES):
        said.wrong.append(f"tcp {name}: segments of {size}: predicted {goes} ({p.large}; {bites(p)}), seen {fact}")


# -- who decided -------------------------------------------------------------------------------------------------------


def deciding(asking: Asking, truth: Truth) -> set[str]:
    """The mechanisms that determined the fate or the limit of a direction, as prediction and truth agree on it."""
    found: set[str] = set()
    for which in ("forward", "reverse", "forward_may", "back_asked", "back_asked_may"):
        seen = getattr(truth, which)
        if seen is not None:
            found |= _of_way(asking, which, seen)
    if truth.stream is not None:
        found |= _of_stream(asking, truth.stream)
    return found | _of_pair(asking, truth)


def _of_way(asking: Asking, which: str, seen: Way) -> set[str]:
    small = asking.udp(which, SMALLEST)
    if seen.small.how != "whole":
        return {name for name, fate in FATES if small.fate is fate}
    if seen.limit is None:
        return set()
    fact, p = seen.seen.get(seen.limit + 1), asking.udp(which, seen.limit + 1)
    if fact is None:
        return set()
    if p.large is Fate.FILTERED:
        return {"filter"}
    found = {"fragment"} if "pieces" in {x.how for x in seen.seen.values()} else set()
    limit = next((x for x in p.limits if x.mtu == seen.limit), None)
    if limit is None:
        return found
    if fact.how == "told" or (fact.how == "error" and limit.kind == "cached"):
        found.add("told")
        if any(isinstance(x, Translated) for hop in p.hops for x in hop.steps):
            found.add("nat")
    elif fact.how == "lost" and limit.then == "icmp":
        found.add("too-big lost")
    return found | _of_device(limit, p)


def _of_device(limit: Limit, p: Predicted) -> set[str]:
    if limit.kind == "tunnel":
        return {"vxlan outer"}
    inside = any(isinstance(x, Encap) for hop in p.hops for x in hop.steps)
    found = set()
    if inside and (limit.device == "vxlan" or limit.at.link.startswith("vx") if limit.at.link else False):
        found.add("vxlan inner")
    if limit.kind == "l2":
        found.add("port + 4")
    elif limit.kind == "receive":
        found.add("veth half")
    return found


def _of_stream(asking: Asking, seen: Stream) -> set[str]:
    found: set[str] = set()
    for reverse, mss, came in ((False, seen.mss_syn, seen.syn), (True, seen.mss_synack, seen.synack)):
        p = asking.tcp(reverse)
        if not came and (seen.syn or not reverse):
            found |= {name for name, fate in FATES if p.fate is fate}
        if mss is not None and [x for hop in p.hops for x in hop.steps if isinstance(x, Clamped)] + list(p.clamps):
            found.add("half clamp")
        passed = seen.reverse if reverse else seen.forward
        if passed and p.large is Fate.DELIVERED and any(x.then == "pass-gso" for x in p.limits):
            found.add("gso")
    if {len(asking.tcp(x).clamps) > 0 for x in (False, True)} != {True, False}:
        found.discard("half clamp")
    return found


def _of_pair(asking: Asking, truth: Truth) -> set[str]:
    """NAT decides where answers only come home because it is undone; asymmetry where the limit of one direction stands
    on a device that the other does not cross."""
    found: set[str] = set()
    if truth.reverse is None:
        return found
    there, back = asking.udp("forward", asking.lab.top), asking.udp("reverse", asking.lab.top)
    if truth.reverse.small.how == "whole" and any(isinstance(x, Translated) for hop in back.hops for x in hop.steps):
        found.add("nat")
    for p, other, limit in ((there, back, truth.forward.limit), (back, there, truth.reverse.limit)):
        alone = {_link(x) for x in _crossed(p)} - {_link(x) for x in _crossed(other)}
        at = next((x.at for x in p.limits if x.mtu == limit), None)
        if at is not None and ((at.netns, at.link) in alone or at.netns in {ns for ns, _ in alone} - _spaces(other)):
            found.add("asymmetric route")
    return found


def _crossed(p: Predicted) -> list[Enter | Exit]:
    """Where IP came in and went out. Both directions of a symmetric way cross the same devices."""
    return [x for hop in p.hops for x in hop.steps if isinstance(x, Enter | Exit)]


def _spaces(p: Predicted) -> set[str]:
    return {hop.where.netns for hop in p.hops}


def _link(step: object) -> tuple[str, str | None]:
    at = step.at  # type: ignore[attr-defined]
    return at.netns, at.link
