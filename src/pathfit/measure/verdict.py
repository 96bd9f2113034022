"""What a set of connections says about the reverse direction. Pure; used while searching and once at the end.

The rules, with the traps of docs/probing.md they answer:

* P, the largest size that passes, is the largest segment that *arrived* on any connection (3).
* F fails when every connection of that size has a gap, or silence, that stays (4), with a smaller size passing in
  the same round (6), on two connections at least, on more under signs of loss (7).
* A connection whose whole long answer came in smaller segments (FLAT) is no hole at its size and no proof of it;
  one whose answer was short (SHORT) says nothing.
* A gap at a size that passes elsewhere is loss, or an uneven path: never a limit (7). Nor is one on a connection
  whose sender was seen to make no larger segments than the largest that passes: it lost one of those.
* One whole answer in smaller segments does not outvote gaps that stay on several connections of the same sizes.
"""

from collections.abc import Iterable, Sequence

import msgspec

from pathfit.core.measured import Bracket, LossSeen, Uneven
from pathfit.measure.track import Status, Track

SETTLE = 0.050  # seconds a gap must stand at least: ten times the jitter of an idle host
SETTLE_LOSS = 0.7  # under signs of loss: the sender's second retransmission (0.2 + 0.4 s, RFC 6298 as Linux has it)
UNEVEN_AGE = 1.4  # three retransmission timeouts (0.2 + 0.4 + 0.8): what does not come now was not lost by chance
SILENCE = 0.7  # seconds of silence a verdict from silence alone needs: two retransmissions without a trace
TENTATIVE = 0.005  # seconds after which a search goes on as if a gap stays: packets overtake each other by less
HUSH = 0.020  # seconds of silence after which the search goes on as if nothing came (it may still come)
HEAL_TOLD = 0.19  # a gap mended faster than any retransmission timeout (0.2 s) was mended because somebody told
PROOF_LOSSLESS, PROOF_LOSSY, PROOF_LEAST = 3, 6, 2
ODD_SHARE = 2  # every second flow, at least, is on a path that carries less than the others
PROOF_POLITE = 2
STOPPED, SMALLER = 3, 5  # answers that began and stopped, and smaller ones that did not, that say something of size
ALL_LATE = 4  # connections: that as many were all hit by loss, one in five of them, happens once in 600 times
PROOF_PASSES = 2
EVEN = 12  # connections at the promised size before a path is called even


class Timing(msgspec.Struct, frozen=True):
    """How long things may take on this path, from what was seen so far. Seconds."""

    rtt: float
    settle: float
    silence: float
    tentative: float
    hush: float


class Weighed(msgspec.Struct, frozen=True):
    """``ok``: largest asked size without a hole; ``arrived``: largest segment that came; ``fails``: smallest size
    above ``ok`` that fails; ``failing``: the connections that show it; ``mute``: it is shown by silence alone."""

    ok: int
    arrived: int
    fails: int | None
    failing: tuple[Track, ...]
    mute: bool
    below: tuple[Track, ...]
    lossy: bool


def timing(tracks: Iterable[Track], lossy: bool) -> Timing:
    """``settle`` as probing.md 12 has it, longer under loss; ``silence`` follows the slowest answer seen."""
    rtts, slowest = [], 0.0
    for t in tracks:
        if t.rtt:
            rtts.append(t.rtt)
        if t.first is not None and t.asked is not None:
            slowest = max(slowest, t.first - t.asked)
    rtt = sorted(rtts)[len(rtts) // 4] if rtts else 0.1  # not the mean: some waited for a neighbour to be found
    settle = max(2 * rtt, SETTLE)
    if lossy:
        settle = max(settle, SETTLE_LOSS, 4 * rtt)
    return Timing(
        rtt=rtt,
        settle=settle,
        silence=max(SILENCE, 4 * rtt, 3 * slowest),
        tentative=min(max(rtt / 4, 0.002), TENTATIVE),
        hush=max(HUSH + 2 * rtt, 3 * slowest),
    )


def is_lossy(tracks: Iterable[Track], ok: int, now: float) -> bool:
    """Any sign of loss: something missing that came after all, SYNs sent again, gaps at sizes that pass."""
    tracks = list(tracks)
    if lost_syns(tracks):
        return True
    return any(
        t.disturbed or (t.gap_at is not None and (t.size <= ok or t.kept) and t.missing_for(now) > 0) for t in tracks
    )


def lost_syns(tracks: Sequence[Track]) -> int:
    """SYNs sent again. When most of a first round were, a neighbour had to be found or a backlog was full
    (probing.md 6, 11): no random loss."""
    if not any(t.syn_retrans for t in tracks):
        return 0
    rounds: dict[int, list[bool]] = {}
    for t in tracks:
        rounds.setdefault(t.round, []).append(t.syn_retrans > 0)
    return sum(sum(again) for again in rounds.values() if 2 * sum(again) <= len(again))


def has_learned(tracks: Sequence[Track], arrived: int) -> bool:
    """Does the sender know the path's MTU by now? Whole answers come in segments of ``arrived`` bytes on connections
    that invite more, where others of the same size or smaller had something missing before."""
    flat = [t for t in tracks if t.complete and t.size > arrived == t.arrived > 0 and (t.capped or t.cut is not None)]
    if not flat:
        return False
    most = max(t.size for t in flat)
    return any(
        arrived < t.size <= most and (t.cut is not None or (t.gap_at is not None and not t.kept)) for t in tracks
    )


def weigh(tracks: Sequence[Track], now: float, gap: float, silence: float) -> Weighed:
    """Read all connections with these ages of gap and silence."""
    states = [(t, t.status(now, gap, silence)) for t in tracks]
    arrived = max((t.arrived for t in tracks), default=0)
    states = [(t, Status.SHORT if s is Status.FLAT and _mute_about_size(t, states, arrived) else s) for t, s in states]
    passing = (Status.PASS,) if _outvoted(states, arrived) else (Status.PASS, Status.FLAT)
    ok = max((t.size for t, s in states if s in passing), default=0)
    gaps = [t for t, s in states if s is Status.FAIL and t.size > ok and not _no_larger(t, arrived)]
    # Silence after all that the passing ones got as well is the server's: it has no more to say, or not yet.
    most = max((t.got for t, s in states if s in (Status.PASS, Status.FLAT)), default=0)
    # After several requests at once it counts only where such a row was seen to be answered whole: some servers read
    # one request and throw the rest away.
    # A full segment made of such answers shows that as well.
    in_a_row = any(t.many and (t.complete or t.passed) for t in tracks)
    mutes = [t for t, s in states if s is Status.MUTE and t.size > ok and t.got < most and (in_a_row or not t.many)]
    below = tuple(t for t, s in states if s is Status.FAIL and (t.size <= ok or _no_larger(t, arrived)))
    sizes = sorted({t.size for t in gaps + mutes})
    # Silence is weaker than a gap: it names the size only when no gap stands at or below it.
    fails = sizes[0] if sizes else None
    failing = tuple(t for t in gaps + mutes if t.size == fails)
    mute = bool(failing) and all(t in mutes for t in failing)
    return Weighed(
        ok=ok,
        arrived=arrived,
        fails=fails,
        failing=failing,
        mute=mute,
        below=below,
        lossy=is_lossy(tracks, ok, now),
    )


def _no_larger(t: Track, arrived: int) -> bool:
    """Does this connection's sender make no larger segments than the largest that arrives anywhere?"""
    return t.kept and t.arrived >= arrived


def _mute_about_size(t: Track, states: Sequence[tuple[Track, Status]], arrived: int) -> bool:
    """A whole answer in smaller segments that says nothing about sizes of which others lose segments for good: its
    sender feels its way for itself (tcp_mtu_probing). Either its segments stayed below what arrives elsewhere, where a
    clamp or a "too big" would have let them be as large; or it was mended, and connections opened after that show
    gaps: nobody told its host anything."""
    least = max(arrived, t.arrived)
    fails = [u for u, s in states if s is Status.FAIL and least < u.size <= t.size and not _no_larger(u, arrived)]
    if len(fails) < PROOF_LEAST:
        return False
    if t.measured > 0 and t.arrived < arrived:
        return True
    mended = t.mended is not None and t.closed is not None
    return mended and sum(u.opened > (t.closed or 0.0) for u in fails) >= PROOF_LEAST


def _outvoted(states: Sequence[tuple[Track, Status]], arrived: int) -> bool:
    """Is there one connection whose whole answer came smaller beside several as large, or smaller, with a gap that
    stays? Somebody who keeps segments small keeps them small on all; what comes whole once may be chance. Several
    contradict: a sender that probes for its path MTU (tcp_mtu_probing 2) does so on some connections."""
    flat = [t.size for t, s in states if s is Status.FLAT and t.size > arrived]
    if not 0 < len(flat) < PROOF_LEAST:
        return False
    most = max(flat)
    gaps = [t for t, s in states if s is Status.FAIL and arrived < t.size <= most and not _no_larger(t, arrived)]
    return len(gaps) >= PROOF_LEAST


def _healed(tracks: Sequence[Track]) -> list[Track]:
    """Whole answers that had a gap first and came in smaller segments then: the sender was told - unless others came
    small, with nothing missing, before the first of those gaps opened: nobody can have told it by then."""
    healed = [t for t in tracks if t.cut_from is not None and not t.passed and t.complete and t.arrived]
    most = max((t.arrived for t in healed), default=0)
    if any(t.got >= 3 * t.measured > 0 and t.arrived < most and t.size > most for t in healed):
        return []  # who is told a size uses it everywhere: this sender feels its own way, on each connection
    if _unlearned(tracks, healed, most):
        return []
    opened = min((t.cut_from or 0.0 for t in healed), default=0.0)
    before = (t for t in tracks if t.capped and t.mended is None and t.first is not None and t.first < opened)
    return [] if any(before) else healed


def _unlearned(tracks: Sequence[Track], healed: Sequence[Track], most: int) -> bool:
    """Who was told a path MTU invites no more than that afterwards (ipv4_default_advmss(); FreeBSD's tcp_mssopt()): do
    all connections opened after the first answer was mended, and large enough to show it, still invite more? Then those
    lost something by chance, in front of a clamp. One is enough, as loss may take the other's SYN, where it was opened
    after such an answer was here whole: what was too large in that had been cut anew by then, so its sender knew."""
    invited = [t for t in tracks if t.size > most and t.invited]
    if invited and all(t.invited + t.header() <= most for t in invited):
        return True  # nor did it ever invite more than it sends: a clamp of both ways, or its own MTU
    since = min(((t.cut_from or 0.0) + (t.cut or 0.0) for t in healed), default=0.0)
    later = [t for t in invited if t.opened > since]
    whole = min((t.progress for t in healed), default=0.0)
    sure = len(later) >= PROOF_LEAST or any(t.opened >= whole for t in later)
    return sure and all(t.invited + t.header() > most for t in later)


def needed(tracks: Sequence[Track], w: Weighed, now: float, times: Timing) -> int:
    """Connections that prove a hole under signs of loss. Fewer where that many lack the failing size or a larger one
    for long: the hole is certain then, and only its byte is not."""
    lack = [t for t in tracks if t.size >= (w.fails or 0) > 0 and not t.passed and t.missing_for(now) >= times.settle]
    return PROOF_LOSSLESS if len(lack) >= 2 * PROOF_LOSSY else PROOF_LOSSY


def proven(tracks: Sequence[Track], w: Weighed, now: float, times: Timing, need: int) -> bool:
    """Is ``w.fails`` a hole: enough connections, all old enough, and smaller ones passing in the same round?"""
    if w.fails is None or not w.ok or len(w.failing) < need:
        return False
    rounds = {t.round for t in w.failing}
    return passes_beside(tracks, w, rounds, now, times) >= (PROOF_PASSES if need > PROOF_LEAST else 1)


def passes_beside(tracks: Sequence[Track], w: Weighed, rounds: set[int], now: float, times: Timing) -> int:
    """Connections smaller than the failing size that came through in one of these rounds."""
    fails = w.fails or 0
    return sum(
        1
        for t in tracks
        if t.round in rounds
        and t.size < fails
        and t.status(now, times.settle, times.silence) in (Status.PASS, Status.FLAT)
    )


def bracket(tracks: Sequence[Track], now: float, times: Timing, promised: int, need: int | None = None) -> Bracket:
    """The verdict for the reverse direction. ``need``: connections that prove a hole; None: as signs of loss ask.

    Notes: "silent-at-every-size", "no-connection", "closed-without-an-answer" (reset or closed after our request),
    "answers-too-short", "answers-too-slowly", "capped" (segments smaller than promised
    arrived and nothing is missing: a clamp, SYN cookies, the server's own MTU or what it has learned), "capped-below"
    (the same of sizes below one that fails: the limit is somewhere between),
    "taught-while-asking" (a hole at first; then other sizes we asked for made the sender learn the limit),
    "below-floor" (even the smallest size asked does not come), "unproven" (something is missing, not often enough
    to say so), "uneven".
    """
    w = weigh(tracks, now, times.settle, times.silence)
    if not w.ok:
        return _nothing(tracks, w, now, times)
    if w.fails is not None:
        return _hole(tracks, w, now, times, need or (needed(tracks, w, now, times) if w.lossy else PROOF_LEAST))
    healed = _healed(tracks)
    if healed and w.arrived < promised:
        # Told about the very packets the asked client would get: the first connections were mended at once. Mended
        # late: those packets vanished in silence, and something else we asked for taught the sender meanwhile.
        first = [t for t in healed if t.round == 1]
        late = [t for t in first if (t.cut or 0.0) >= max(HEAL_TOLD, times.settle)]
        if len(late) >= PROOF_LEAST and all(t in late for t in first if t.plain):
            if any(t.retrans or t.syn_retrans for t in tracks) and not _all_late(tracks, w, now, times):
                # Our own requests were lost as well: so may have been what was mended late, in front of a clamp.
                return Bracket(method="tcp-maxseg", tests="reverse", passes=w.arrived, note="unproven")
            return Bracket(
                method="tcp-maxseg",
                tests="reverse",
                passes=w.arrived,
                fails=w.arrived + 1,
                grade="proof",
                exact=True,
                note="taught-while-asking",
            )
        return Bracket(
            method="tcp-maxseg",
            tests="reverse",
            passes=w.arrived,
            fails=w.arrived + 1,
            grade="told",
            exact=True,
        )
    missing = [t for t in w.below if t.size > w.arrived and not _no_larger(t, w.arrived)]
    if w.arrived < promised and len(missing) >= PROOF_LEAST:
        # Kept smaller on some connections, and something missing for long on several others: contradictory.
        return Bracket(method="tcp-maxseg", tests="reverse", passes=w.arrived, note="unproven")
    return _open_end(tracks, w, promised)


def by_invitations(found: Bracket, invited: Sequence[int]) -> Bracket | None:
    """The bracket of a target that learned a path MTU from the answers we asked for; None: its invitations do not say
    so. Where that was over before our first look, nothing is seen missing, and it looks like a clamp. But its SYN-ACKs
    then invite just what arrives here, and its first ones invited more: they follow what it knows of the way to us
    (ipv4_default_advmss(), ip6_default_advmss()). ``invited``: bytes of IP packet, in their order."""
    if not found.passes or found.fails is not None or not invited:
        return None
    if not invited[-1] == min(invited) == found.passes < invited[0]:
        return None
    if found.note != "capped":
        return found
    return msgspec.structs.replace(found, grade="told", fails=found.passes + 1, exact=True, note=None)


def _all_late(tracks: Sequence[Track], w: Weighed, now: float, times: Timing) -> bool:
    """Was something missing for long on every connection of the first round that invited more than arrives, and on
    several? Loss picks a few."""
    above = [t for t in tracks if t.round == 1 and t.connected is not None and t.size > w.arrived]
    ages = [max(t.mended or 0.0, t.missing_for(now)) for t in above]
    return len(above) >= ALL_LATE and all(age >= max(HEAL_TOLD, times.settle) for age in ages)


def _nothing(tracks: Sequence[Track], w: Weighed, now: float, times: Timing) -> Bracket:
    if not any(t.connected is not None for t in tracks):
        note = "no-connection"
    elif w.fails is not None and not w.mute:
        note = "below-floor"
    elif all(t.ended is not None or t.connected is None for t in tracks) and not any(t.got for t in tracks):
        note = "closed-without-an-answer"
    elif any(t.status(now, times.settle, times.silence) is Status.SHORT for t in tracks):
        note = "answers-too-short"
    elif any(t.got for t in tracks):
        note = "answers-too-slowly"
    else:
        note = "silent-at-every-size"
    return Bracket(method="tcp-maxseg", tests="reverse", passes=None, fails=None, note=note)


def _hole(tracks: Sequence[Track], w: Weighed, now: float, times: Timing, need: int) -> Bracket:
    assert w.fails is not None
    passes = w.arrived or None
    gap_above = sum(
        1 for t in tracks if t.size >= w.fails and t.status(now, times.settle, times.silence) is Status.FAIL
    )
    if passes is None or not proven(tracks, w, now, times, need):  # what passed must have been seen at its size
        return Bracket(method="tcp-maxseg", tests="reverse", passes=passes, fails=None, note="unproven")
    # Exactly N full segments leave no tail, so no gap at that size: a hole proven above it makes silence a proof.
    grade = "step" if w.mute and gap_above < PROOF_LEAST else "proof"
    return Bracket(
        method="tcp-maxseg",
        tests="reverse",
        passes=passes,
        fails=w.fails,
        grade="proof" if grade == "proof" else "step",
        exact=w.arrived + 1 == w.fails,
        note=None if w.arrived >= w.ok else "capped-below",
    )


def _open_end(tracks: Sequence[Track], w: Weighed, promised: int) -> Bracket:
    """Nothing fails: everything promised passes, or segments stay smaller for another reason."""
    if w.arrived >= promised:
        return Bracket(method="tcp-maxseg", tests="reverse", passes=w.arrived, grade="proof")
    passed = max((t.arrived for t in tracks if t.passed), default=0)
    capped = max(
        (t.arrived for t in tracks if t.capped or (t.mended is not None and t.complete and not t.row)), default=0
    )
    # Nor is anything missing where the sender feels its own way, and every answer comes whole.
    own = [t for t in tracks if t.size >= promised and t.complete and t.long and t.cut is not None and not t.row]
    if capped and (capped >= passed or len(own) >= PROOF_LEAST):
        return Bracket(method="tcp-maxseg", tests="reverse", passes=max(passed, capped), grade="proof", note="capped")
    passed = max(passed, w.arrived)
    return Bracket(method="tcp-maxseg", tests="reverse", passes=passed or None, note="answers-too-short")


def loss(tracks: Sequence[Track], now: float, times: Timing) -> LossSeen:
    """Signs of loss that size does not explain (NET151)."""
    w = weigh(tracks, now, times.settle, times.silence)
    fine = [t for t in tracks if t.size <= w.ok and t.connected is not None]
    disturbed = sum(1 for t in fine if t.mended is not None and t.passed) + len(w.below)
    return LossSeen(
        attempts=len(fine),
        disturbed=disturbed,
        unanswered_syns=lost_syns(tracks),
    )


def always_fail(tracks: Sequence[Track], now: float, promised: int) -> list[Track]:
    """Flows of the promised size whose gap stands for longer than loss makes likely. An answer that has no tail behind
    its large segments leaves no gap: where gaps of other sizes stand as long, silence as old counts as well."""
    bad = [
        t for t in tracks if t.size >= promised and not t.passed and not t.complete and t.missing_for(now) >= UNEVEN_AGE
    ]
    if not any(t.missing_for(now) >= UNEVEN_AGE and not t.kept for t in tracks):
        return bad + _stopped(tracks, now)
    return bad + [t for t in tracks if t.size >= promised and _hushed(t, now)]


def _hushed(t: Track, now: float) -> bool:
    """Asked, acknowledged, and nothing more for that long."""
    return t.status(now, UNEVEN_AGE, UNEVEN_AGE) is Status.MUTE


def begun(tracks: Sequence[Track], now: float, silence: float) -> list[Track]:
    """Flows whose answer began and then stopped with nothing behind it for ``silence`` seconds, of sizes that others
    carry. (The first flight of a large answer has no tail: all of it is lost.)"""
    most = max((t.size for t in tracks if t.passed), default=0)
    mute = (t for t in tracks if t.got and not t.many and t.status(now, silence, silence) is Status.MUTE)
    return [t for t in mute if t.size <= most]


def _stopped(tracks: Sequence[Track], now: float) -> list[Track]:
    """The same for long enough, where that is not the server, who may be busy: several such, and of the flows smaller
    than them many, of which none stopped or waits."""
    bad = begun(tracks, now, UNEVEN_AGE)
    least = min((t.size for t in bad), default=0)
    small = [t for t in tracks if t.size < least and t.connected is not None and (t.heard or t.got)]
    last = max((t.n for t in bad), default=0)
    if len(bad) < STOPPED or sum(t.passed for t in small) < SMALLER or not any(t.passed and t.n > last for t in small):
        return []
    return bad if all(t.passed or t.complete for t in small) else []


def odd(tracks: Sequence[Track], now: float, promised: int, age: float = UNEVEN_AGE) -> list[Track]:
    """Flows of smaller sizes whose gap stands as long, where several as large or larger pass."""
    passed = [t.size for t in tracks if t.passed]
    old = [t for t in tracks if t.size < promised and not t.kept and t.missing_for(now) >= age]
    return [t for t in old if sum(size >= t.size for size in passed) >= PROOF_LEAST]


def _beside_only(tracks: Sequence[Track], odd: Sequence[Track]) -> bool:
    """Nothing of the promised size passes on any flow, which is one limit: was the odd smaller one that failed lost
    beside what is too large, and by no other path?

    sendmmsg(2) leaves the rest of a batch when one packet of it is refused, and senders that were asked together repeat
    together, so that it goes on for seconds (seen with Open vSwitch in userspace). Another path takes its share of the
    flows, in every round.
    """
    least = min((t.size for t in odd), default=0)
    alike = sum(t.passed and t.size >= least for t in tracks)
    return len({t.round for t in odd}) < PROOF_LEAST or ODD_SHARE * len(odd) < alike + len(odd)


def uneven(tracks: Sequence[Track], now: float, promised: int) -> Uneven | None:
    """Flows of the promised size of which some always fail and others always pass (MTU118).

    A flow that fails: its gap has stood for three retransmission timeouts. Loss does not do that; small sizes that
    fail in the same way would make it something else than size.
    """
    # A whole answer in small pieces says nothing about this size.
    good = [t for t in tracks if t.size >= promised and (t.passed or (t.complete and t.capped and t.mended is None))]
    smaller = odd(tracks, now, promised)
    if not good and _beside_only(tracks, smaller):
        return None
    bad = list({t.n: t for t in (*always_fail(tracks, now, promised), *smaller)}.values())
    least = min((t.size for t in bad), default=promised)
    good += [t for t in tracks if least <= t.size < promised and t.passed]
    small_bad = [
        t
        for t in tracks
        if t.purpose == "sentinel" and (t.missing_for(now) >= SETTLE_LOSS or (_hushed(t, now) and not t.many))
    ]
    if len(bad) < 2 or len(good) < 2 or small_bad:
        return None
    return Uneven(
        size=promised,
        good=len(good),
        bad=len(bad),
        ports_good=tuple(sorted(t.port for t in good)),
        ports_bad=tuple(sorted(t.port for t in bad)),
    )
