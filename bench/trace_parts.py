"""What looking at packets costs by its parts: each alone, on the way of bench/trace_way.py.

Sockets that say no to everything show what the kernel takes before any filter runs; those that do not hear what leaves
(PACKET_IGNORE_OUTGOING), what the copy of each packet that leaves takes (dev_queue_xmit_nit()); the tracing program at
its three hooks and no socket, what another way of seeing packets would take (it knows no device that a packet comes in
by behind the first one: VLAN, bridge, macvlan).
"""

import socket
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from functools import partial

from bench.trace_way import CLIENT, DEVICES, FLOW, SERVER, Way

from pathfit.capture.drops import OBJECT
from pathfit.host import bpf, netns, rawsock
from pathfit.host.ring import ETH_P_ALL, SOL_PACKET
from pathfit.wire import cbpf, dissect, traced

PACKET_IGNORE_OUTGOING = 23  # linux/if_packet.h, since 4.20
ETH_P_IP = 0x0800
NO: Sequence[rawsock.Instruction] = [(6, 0, 0, 0)]
HOSTS = (dissect.packed(CLIENT), dissect.packed(SERVER))


@contextmanager
def sockets(
    way: Way, program: Sequence[rawsock.Instruction], only: str = "du", *, deaf: bool = False, kind: int = ETH_P_ALL
) -> Iterator[None]:
    """Packet sockets without a ring; nothing is ever read. ``only``: first letters of devices; ``deaf``: to what
    leaves."""
    with ExitStack() as stack:
        for host, link in DEVICES:
            if link[0] in only:
                with netns.inside(way.files[host]):
                    one = stack.enter_context(socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0))
                    rawsock.attach(one, list(program))
                    one.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, deaf)
                    one.bind((link, kind))
        yield


@contextmanager
def tracing(*hooks: str) -> Iterator[None]:
    settings = traced.flow(HOSTS, (FLOW,), dissect.VXLAN_PORTS)
    with closing(bpf.Program(str(OBJECT), settings, hooks)):
        yield


def parts(way: Way) -> dict[str, "partial[AbstractContextManager[None]]"]:
    """Each by its name."""
    flow = cbpf.flow(HOSTS, (FLOW,))
    return {
        "six sockets, whose filter is: no": partial(sockets, way, NO),
        "six sockets with the flow's filter": partial(sockets, way, flow),
        "the same, deaf to what leaves": partial(sockets, way, flow, deaf=True),
        "three for what leaves: no": partial(sockets, way, NO, "d"),
        "three for what comes in: no, deaf to what leaves": partial(sockets, way, NO, "u", deaf=True),
        "the same, bound to IPv4 alone": partial(sockets, way, NO, "u", deaf=True, kind=ETH_P_IP),
        "the tracing program, dropped packets alone": partial(tracing, "dropped"),
        "the tracing program: dropped, queued, received": partial(tracing, "dropped", "queued", "received"),
    }
