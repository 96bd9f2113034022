"""The forward search, played by a simulated peer that keeps segments aside and answers with SACKs."""

from dataclasses import dataclass
from random import Random

import pytest

from pathfit.core.measured import Bracket
from pathfit.measure.forward import DATA, Forward, Inject, OpenLane


@dataclass
class Peer:
    """``limit``: largest packet that gets out; ``loss`` each way; ``told``: a router says so; ``forged``: somebody
    says nonsense; ``mute``: nothing injected is ever answered; ``link``: our own MTU."""

    limit: int = 9999
    loss: float = 0.0
    rtt: float = 0.001
    told: bool = False
    mute: bool = False
    sack: bool = True
    link: int = 9999
    offered: int = 1500
    window: int = 64000
    told_most: int = 9999  # the largest size that is answered "too big"
    tokens: float = 6.0  # "too big"s that may be sent at once; one a second more (icmp_ratelimit)
    filled: float = 0.0
    batched: bool = False  # what is sent at once ends at the first packet too large: a sendmmsg(2) that forwards
    compress: bool = False  # acknowledgements after the third are not sent (tcp_comp_sack_nr)
    late: frozenset[int] = frozenset()  # lanes whose SYN gets lost, and its repetitions
    ending: frozenset[int] = frozenset()  # lanes that are ended at once

    def run(self, seed: int = 1) -> tuple[Bracket, Forward, float]:
        random = Random(seed)
        search = Forward(family=4, start=0.0)
        now, right, arriving = 0.0, dict.fromkeys(range(9), 0), []
        while not search.finished and now < 6.0:
            answered, refused = 0, False
            for command in search.step(now):
                if isinstance(command, OpenLane):
                    if command.lane in self.ending:
                        search.failed(command.lane, "connection-ended")
                    elif command.lane not in self.late:
                        arriving.append((now + self.rtt, "ready", command.lane, ()))
                elif not (refused := refused or (self.batched and command.size > self.limit)):
                    answered += self.inject(search, command, now, random, right, arriving, answered)
            now += max(search.pause(now), 0.001)
            due = sorted((a for a in arriving if a[0] <= now), key=lambda a: a[0])
            arriving = [a for a in arriving if a[0] > now]
            for _, kind, lane, blocks in due:
                self.deliver(search, now, kind, lane, blocks)
        return search.bracket(), search, now

    def token(self, now: float) -> bool:
        """inet_peer_xrlim_allow()"""
        self.tokens, self.filled = min(6.0, self.tokens + now - self.filled), now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True

    def inject(
        self, search: Forward, c: Inject, now: float, random: Random, right: dict, arriving: list, n: int
    ) -> int:
        if c.size > self.link:
            search.local(c.lane, c.size)
            return 0
        if self.mute or c.size > self.limit:
            if self.told and self.limit < c.size <= self.told_most and self.token(now):
                search.told(c.lane, c.size, self.limit, "192.0.2.1")
            return 0
        if random.random() < self.loss:
            return 0
        blocks = [(c.offset, c.offset + c.size - 52)]
        if c.offset == DATA:
            right[c.lane] = max(right[c.lane], DATA + c.size - 52)
            blocks.append((DATA, right[c.lane]))
        elif right[c.lane]:
            blocks.append((DATA, right[c.lane]))
        if random.random() < self.loss or (self.compress and n >= 3 and n % 7):
            return 1
        arriving.append((now + self.rtt, "ack", c.lane, tuple(blocks)))
        return 1

    def deliver(self, search: Forward, now: float, kind: str, lane: int, blocks: tuple) -> None:
        if kind == "ack":
            search.acked(now, lane, blocks)
        else:
            search.ready(
                now,
                lane,
                timestamps=True,
                sack=self.sack,
                offered=self.offered,
                sendable=1500,
                rtt=self.rtt,
                window=self.window,
                port=1000 + lane,
            )


@pytest.mark.parametrize("limit", [300, 576, 1000, 1159, 1280, 1396, 1400, 1411, 1437, 1450, 1499])
@pytest.mark.parametrize("compress", [False, True])
def test_hole_to_the_byte(limit: int, compress: bool) -> None:
    b, search, _ = Peer(limit=limit, compress=compress).run()
    assert (b.passes, b.fails, b.grade, b.exact) == (limit, limit + 1, "proof", True)
    assert all(len(lane.lost(limit + 1)) >= 2 for lane in search.lanes)  # on both connections, repeatedly


@pytest.mark.parametrize("limit", [300, 576, 1280, 1400, 1430, 1450, 1458, 1499])
def test_to_the_byte_where_a_packet_too_large_takes_others_with_it(limit: int) -> None:
    """The client's own size goes first, and nothing of the first round arrives (Open vSwitch in userspace)."""
    b, _, now = Peer(limit=limit, batched=True).run()
    assert (b.passes, b.fails, b.grade, b.exact) == (limit, limit + 1, "proof", True)
    assert now < 0.5


def test_an_answer_without_room_for_it_does_not_say_that_something_is_missing() -> None:
    """Three newer blocks hide the one of DATA (RFC 2018 section 4), and the answers before were lost on their way."""
    search = Forward(family=4, start=0.0)
    search.step(0.0)
    for lane in (0, 1):
        search.ready(0.0, lane, timestamps=True, sack=True, offered=1500, sendable=1500, rtt=0.001, window=64000,
                     port=lane)  # fmt: skip
    search.step(0.001)
    it = search.lanes[0]
    sent = [s for s in it.sent if s.size == 1500]
    last = it.controls - 1
    newest = [(2 * n + 2, 2 * n + 3) for n in range(last + 3, last, -1)]
    search.acked(0.01, 0, newest)
    assert sent and it.answered_since(sent[0].control) and it.lost(1500) == []
    search.acked(0.02, 0, [*newest[:2], (2, 3)])  # the first control is older than all of it, and would stand behind it
    assert it.lost(1500) == sent


def test_healthy() -> None:
    b, _, now = Peer().run()
    assert (b.passes, b.fails, b.grade) == (1500, None, "proof")
    assert now < 0.02


def test_only_what_the_peer_invites_is_sent() -> None:
    b, search, _ = Peer(offered=1400).run()
    assert b.passes == 1400 and max(s.size for s in search.lanes[0].sent) == 1400


def test_our_own_link_is_no_hole() -> None:
    """EMSGSIZE (trap 5)."""
    b, _, _ = Peer(link=1400).run()
    assert b.fails is None and b.passes is not None and b.passes <= 1400


def test_told_names_who_said_it() -> None:
    b, _, _ = Peer(limit=1412, told=True).run()
    assert (b.passes, b.fails, b.grade, b.told_by, b.told_mtu) == (1412, 1413, "told", "192.0.2.1", 1412)


@pytest.mark.parametrize(("limit", "most"), [(1450, 1454), (1396, 1400), (1280, 1300), (1300, 1498)])
@pytest.mark.parametrize("loss", [0.0, 0.02])
def test_what_is_told_of_a_few_sizes_does_not_excuse_the_silence_above(limit: int, most: int, loss: float) -> None:
    """A device of 1450 that is a port of a bridge of 1500: 1451 to 1454 are told, what the client would send is not."""
    b, _, _ = Peer(limit=limit, told=True, told_most=most, loss=loss).run()
    assert (b.passes, b.fails, b.grade, b.exact, b.note) == (limit, limit + 1, "proof", True, "told-in-part")


@pytest.mark.parametrize("limit", [576, 1280, 1400, 1412, 1450, 1492, 1499])
@pytest.mark.parametrize("tokens", [0.0, 0.5, 0.99, 1.0, 1.9, 2.5, 3.0, 4.0, 5.0, 6.0])
@pytest.mark.parametrize("rtt", [0.0001, 0.02, 0.2])
def test_a_router_that_may_tell_only_so_often_is_not_called_silent_in_part(
    limit: int, tokens: float, rtt: float
) -> None:
    b, _, _ = Peer(limit=limit, told=True, tokens=tokens, rtt=rtt).run()
    assert (b.passes, b.fails, b.exact) == (limit, limit + 1, True)
    assert b.note is None


@pytest.mark.parametrize("mtu", [68, 576, 1300, 1499])
def test_a_lie_about_the_size_changes_nothing(mtu: int) -> None:
    """A forged "too big" that quotes our packet: the SACK decides."""
    peer = Peer()
    search_told = Forward.step

    def lying(self: Forward, now: float) -> list:
        out = search_told(self, now)
        for c in out:
            if isinstance(c, Inject) and c.size > mtu:
                self.told(c.lane, c.size, mtu, "203.0.113.66")
        return out

    Forward.step = lying  # type: ignore[method-assign]
    try:
        b, _, _ = peer.run()
    finally:
        Forward.step = search_told  # type: ignore[method-assign]
    assert (b.passes, b.fails, b.grade) == (1500, None, "proof")


@pytest.mark.parametrize(("peer", "note"), [(Peer(mute=True), "no-answer"), (Peer(sack=False), "no-sack")])
def test_what_cannot_be_measured_is_no_hole(peer: Peer, note: str) -> None:
    b, _, _ = peer.run()
    assert (b.passes, b.fails, b.grade, b.note) == (None, None, "none", note)


def test_loss_changes_no_verdict() -> None:
    """3 % each way, forty seeds."""
    unknown = 0
    for seed in range(40):
        limit = (9999, 1400, 1450, 1492)[seed % 4]
        b, _, _ = Peer(limit=limit, loss=0.03).run(seed)
        if b.grade == "none":
            unknown += 1
        elif limit == 9999:
            assert (b.passes, b.fails) == (1500, None), seed
        else:
            assert (b.passes, b.fails) == (limit, limit + 1), seed
    assert unknown <= 1


@pytest.mark.parametrize("lane", [0, 1])
@pytest.mark.parametrize("how", ["late", "ending"])
@pytest.mark.parametrize("rtt", [0.0001, 0.1])
def test_a_connection_that_does_not_come_about_is_replaced(lane: int, how: str, rtt: float) -> None:
    b, search, took = Peer(limit=1400, rtt=rtt, **{how: frozenset({lane})}).run()
    assert (b.passes, b.fails, b.grade) == (1400, 1401, "proof")
    assert len(search.lanes) == 3 and took < 0.3 + 20 * rtt


@pytest.mark.parametrize(("limit", "told"), [(9999, False), (1400, False), (1400, True)])
def test_two_connections_are_enough_where_both_stand(limit: int, told: bool) -> None:
    _, search, _ = Peer(limit=limit, told=told, rtt=0.05).run()
    assert len(search.lanes) == 2


def test_what_fails_on_one_connection_alone_is_not_proved() -> None:
    b, search, _ = Peer(limit=1400, late=frozenset({1, 2})).run()
    assert (b.passes, b.fails, b.grade, b.note) == (1400, None, "none", "one-connection")
    assert len(search.lanes) == 3


def test_a_window_too_small_to_probe_in_ends_the_lane() -> None:
    """A SYN proxy answers with a window of 0 until it has reached the server behind it."""
    search = Forward(family=4, start=0.0)
    search.step(0.0)
    for lane in range(2):
        search.ready(
            0.01, lane, timestamps=True, sack=True, offered=1500, sendable=1500, rtt=0.001, window=0, port=40000
        )
    search.step(0.02)
    assert search.finished
    assert (search.bracket().passes, search.bracket().note) == (None, "small-window")
