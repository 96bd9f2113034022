"""Snapshots that no kernel wrote: the model answers each of them, in bounded time, and never with an exception."""

import time

import msgspec
import pytest
import topo
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from test_model_walk import HOST
from test_redact import said
from wild import ADDRESSES, ANY, HOSTS, of

from pathfit.core.ask import Ask, Target
from pathfit.core.codec import pack
from pathfit.core.filters import Table
from pathfit.core.path import Fate
from pathfit.core.redact import Redactor, redact
from pathfit.core.snapshot import HostSnapshot
from pathfit.foresight import Question, foresee
from pathfit.model import Network, predict_both
from pathfit.model.place import places

LONG = 2.0  # seconds of this thread's own time that any of them may take; most take a millisecond
pytestmark = pytest.mark.filterwarnings("ignore:Generating overly large repr")
WILD = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


@given(HOSTS, st.sampled_from(ADDRESSES), st.sampled_from((6, 17, 1)))
@WILD
def test_any_snapshot_gets_an_answer(hosts: list[HostSnapshot], target: str, proto: int) -> None:
    network = Network.of(*hosts)
    begun = time.thread_time()
    for key in list(network.nets)[:3]:
        for way in predict_both(network, key, target, proto=proto, dport=443):
            assert way.fate in Fate
    assert time.thread_time() - begun < LONG


@given(HOSTS, st.sampled_from(ADDRESSES))
@WILD
def test_any_snapshot_gets_a_forecast(hosts: list[HostSnapshot], target: str) -> None:
    network = Network.of(*hosts)
    ask = Ask(command="predict", source="host", target=Target(text=target, protocol="tcp", host=target, port=443))
    for key, net in list(network.nets.items())[:2]:
        seen = foresee(hosts, network, Question(ask=ask, address=target, source=key))
        assert [f.facts for f in seen.report.findings if f.code == "SYS902"] == []
        places(network, hosts, net.snap.where)


@given(st.lists(of(Table), min_size=1, max_size=3).map(tuple), st.sampled_from(("h", "r", "s")), st.booleans())
@WILD
def test_any_filter_gets_an_answer(tables: tuple[Table, ...], where: str, big: bool) -> None:
    """On a way that is understood otherwise, so that the rules are really asked."""
    network = Network.of(topo.host(HOST, tables={where: tables}))
    for way in predict_both(network, "netns:c", "198.18.3.2", dport=443, size_forward=1500 if big else 200):
        assert way.fate in Fate


@given(st.lists(ANY, min_size=1, max_size=2))
@WILD
def test_any_snapshot_can_be_redacted(hosts: list[HostSnapshot]) -> None:
    for host in hosts:
        made = redact(host, b"key")
        assert msgspec.json.decode(pack(made), type=HostSnapshot) == made


@given(HOSTS, st.sampled_from(ADDRESSES), st.sampled_from((6, 17)))
@settings(WILD, max_examples=100)
def test_a_redacted_snapshot_gets_the_same_answer(hosts: list[HostSnapshot], target: str, proto: int) -> None:
    hosts = [replace(h, boot_id=f"boot-{n}") for n, h in enumerate(hosts)]
    made = [Redactor(h, b"key") for h in hosts]
    before, after = Network.of(*hosts), Network.of(*(m.host() for m in made))
    assert len(before.nets) == len(after.nets)
    hidden = made[0].names.address(target)
    for old, new in list(zip(before.nets, after.nets, strict=True))[:3]:
        was, now = (
            predict_both(n, k, t, proto=proto, dport=443) for n, k, t in ((before, old, target), (after, new, hidden))
        )
        assert [said(w) for w in was] == [said(w) for w in now]
