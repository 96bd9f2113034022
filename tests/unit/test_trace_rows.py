"""Rows of the kernel's table that only traffic of a kind shows, by `pathfit trace --follow` as a whole.

What may be cut, a hop limit, who does not listen or is full, super-packets. The table is in test_capture_drops.py.
"""

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from netlab import Net, nets
from test_capture_drops import BIG, CONNECT, DEAF, FLOOD, S4, SEND, V4, V6
from test_trace_follow import asking, followed
from weblab import lost

pytestmark = [pytest.mark.lab, pytest.mark.real_root, pytest.mark.slow]

# As SERVE there, for one connection after the other.
TAKES = """
import socket
s = socket.create_server(("", 7000))
print(flush=True)
while True:
    c, n = s.accept()[0], 0
    while d := c.recv(65536):
        n += len(d)
    c.send(str(n).encode())
    c.close()
"""
PYTHON = (sys.executable, "-c")


@pytest.fixture
def net() -> Iterator[Net]:
    """c - r - s."""
    with nets() as net:
        net.routed(V4, V6, 2)
        yield net


def whole(net: Net) -> None:
    for name, link in (("c", "eth0"), ("r", "vc"), ("r", "vs"), ("s", "eth0")):
        net.inside(name, "ethtool", "-K", link, "tso", "on", "gso", "on", "gro", "on")


def said(net: Net, to: str, *command: str, served: str = "") -> tuple[int, dict[str, Any]]:
    """What is said of a command that runs again and again in c, ``served`` at s."""
    with ExitStack() as stack:
        if served:
            stack.enter_context(net.serving("s", served))
        stack.enter_context(asking(net, *command))
        return followed(net, to, 3.0)


def device(net: Net, at: dict[str, Any]) -> str:
    return f"{at['netns']}/{at['link']}".replace(f"netns:{net.prefix}-", "")


def causes(net: Net, document: dict[str, Any]) -> set[tuple[str, str, int | None]]:
    """(word, device, MTU) of the way out, by the kernel's event."""
    return {
        (c["why"], device(net, c["at"]), c["mtu"])
        for x in document["losses"]
        if x["direction"] == "forward"
        for c in x["causes"]
        if c["by"] == "event"
    }


def test_what_may_be_cut_arrives(net: Net) -> None:
    net.ip("r", "link set vs mtu 1400")
    net.ip("s", "link set eth0 mtu 1400")
    status, document = said(net, S4, "ping", "-c", "3", "-i", "0.1", "-W", "5", "-M", "dont", "-s", str(BIG), S4)
    assert (status, document["losses"]) == (0, []), lost(net, document)
    assert all(p["packets"] for way in ("forward", "reverse") for p in document[way]["points"])


def test_a_hop_limit(net: Net) -> None:
    status, document = said(net, S4, "ping", "-c", "1", "-W", "1", "-t", "1", S4)
    assert (status, causes(net, document)) == (1, {("ttl", "r/vc", None)}), lost(net, document)
    assert {(x[1], x[2]) for x in lost(net, document)} == {("r/vc", "r/vs")}


@pytest.mark.parametrize(("kind", "word", "verdict"), [("1", "reset", 0), ("2", "unreachable", 3)])
def test_nobody_listens(net: Net, kind: str, word: str, verdict: int) -> None:
    """That is an answer, and no loss: its maker is the host itself. Of datagrams nothing comes back but complaints."""
    status, document = said(net, f"{S4}:9", *PYTHON, CONNECT, kind)
    assert (status, lost(net, document)) == (verdict, [])
    assert {(x["what"], x["by"], device(net, x["made"])) for x in document["answers"]} == {(word, "end", "s/None")}


def test_a_receiver_that_is_full(net: Net) -> None:
    status, document = said(net, f"{S4}:7001", *PYTHON, FLOOD, served=DEAF)
    assert (status, causes(net, document)) == (1, {("receiver-full", "s/eth0", None)}), lost(net, document)


def test_super_packets_at_a_router(net: Net) -> None:
    whole(net)
    net.ip("r", "link set vs mtu 1400")
    flush = 'ip route flush cache; exec "$@"'  # what the sender learned is forgotten before each
    status, document = said(net, f"{S4}:7000", "sh", "-c", flush, "sh", *PYTHON, SEND, served=TAKES)
    assert (status, causes(net, document)) == (1, {("too-big", "r/vs", 1400)}), lost(net, document)
    assert {(x[1], x[2]) for x in lost(net, document) if x[0] == "forward"} == {("r/vc", "r/vs")}


def test_super_packets_pass_a_smaller_port(net: Net) -> None:
    """The limit is there, and nothing is lost at it."""
    whole(net)
    net.ip("s", "link set eth0 mtu 1400")
    status, document = said(net, f"{S4}:7000", *PYTHON, SEND, served=TAKES)
    assert not {c for c in causes(net, document) if c[0] in ("peer-too-small", "port-too-small")}, lost(net, document)
    assert (status, document["losses"]) == (0, []), lost(net, document)
