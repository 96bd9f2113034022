"""The tracing program knows the flow by the same marks as the taps: in every form, and in none that is another's.

Frames come in by a device whose filter drops all of them before the stack has seen one (netdev, ingress): each is an
event, or is none, by the program's own look alone.
"""

import os
import time
from collections.abc import Iterator
from contextlib import closing
from itertools import product

import pytest
from netlab import nets
from test_wire_cbpf import ENDS, PORT, Cable, cables, run
from test_wire_dissect import A4, B4, EVERY, OUTER, WRAPPED, ether, inside, udp, wrapped

from pathfit.capture.drops import Drops
from pathfit.wire import cbpf, packets
from pathfit.wire.dissect import GENEVE_PORT, VXLAN_PORTS
from pathfit.wire.packets import ICMP, ICMPV6, TCP, UDP

pytestmark = [pytest.mark.lab, pytest.mark.real_root]

NOTHING = 'table netdev nothing { chain i { type filter hook ingress device "eth0" priority 0; policy drop\n }\n}\n'
IPIP, SIXINFOUR, GRE, ESP = 4, 41, 47, 50
OTHER = bytes((203, 0, 113, 77))


@pytest.fixture
def cable() -> Iterator[Cable]:
    with nets() as net, cables(net) as made:
        net.inside("b", "nft", "-f", "-", stdin=NOTHING)
        yield made


def told(cable: Cable, frames: list[bytes], port: int) -> list[bytes]:
    """Headers of those that the program tells of, in order. The last of ``frames`` is the flow's: when it is there, so
    are all."""
    found: list[bytes] = []
    here = (os.fstat(cable.fd).st_ino, cable.link)  # other labs have these addresses too
    with closing(Drops(ENDS, (port,))) as drops:
        for frame in frames:
            cable.out.send(frame)
        end = time.monotonic() + 10
        while (not found or found[-1] != frames[-1][14:]) and time.monotonic() < end:
            found += [d.at.headers[: d.at.length] for d in drops.read() if (d.at.netns, d.at.link) == here]
        assert not drops.lost
    return found


def expected(frames: list[bytes], port: int) -> list[bytes]:
    """By the taps' filter, which is tried against the decoder elsewhere."""
    program = cbpf.flow(ENDS, (port,))
    return [f[14 : 14 + 160] for f in frames if run(program, f)]


def mine(number: int) -> bytes:
    """A packet of the flow that says which it is."""
    return ether(packets.tcp_data(A4, B4, 40000, PORT, number, 2000, b"x", number))


def test_every_form_and_the_same_of_others(cable: Cable) -> None:
    """Each form with its own packet inside, with one of another port, with one of another's addresses."""
    strange = {4: (A4, OTHER), 6: (ENDS[2], OUTER[6][1])}
    frames = []
    for number, (name, outer, inner) in enumerate(EVERY):
        src, dst = strange[inner]
        for packet in (
            inside(inner),
            packets.tcp_data(*ENDS[:2] if inner == 4 else ENDS[2:], 40000, PORT + 1, number, 2000, b"x", number),
            packets.tcp_data(src, dst, 40000, PORT, number, 2000, b"x", number),
        ):
            frames.append(wrapped(name, outer, inner, packet)[0])
            frames.append(ether(packet))
    frames.append(mine(1))
    wanted = expected(frames, PORT)
    assert len(wanted) == 2 * len(EVERY) + 1
    assert told(cable, frames, PORT) == wanted


def test_the_first_look_says_what_the_thorough_one_says(cable: Cable) -> None:
    """Everything it looks at, in all combinations: addresses, protocol, port, later fragments, options."""
    within = {kind: WRAPPED[kind](inside(4))[1] for kind in ("vxlan", "geneve", "gre")}

    def payload(protocol: int, port: int, number: int) -> bytes:
        if protocol in (IPIP, SIXINFOUR):
            return inside(4 if protocol == IPIP else 6)
        if protocol == GRE:
            return within["gre"]
        if protocol == UDP:
            return udp(within["geneve" if port == GENEVE_PORT else "vxlan"][8:], port)
        return number.to_bytes(2, "big") + port.to_bytes(2, "big") + bytes(24)

    frames = []
    protocols = (ICMP, IPIP, TCP, UDP, SIXINFOUR, GRE, ESP, ICMPV6)
    ports = (*VXLAN_PORTS, GENEVE_PORT, PORT, 99)
    every = product((A4, OTHER), (B4, OTHER), protocols, ports, (0, 100), (b"", bytes((1, 1, 1, 0))))
    for number, (src, dst, protocol, port, part, options) in enumerate(every):
        said = payload(protocol, port, number)
        head = bytearray(packets.ip_header(src, dst, protocol, len(options) + len(said)))
        head[0] += len(options) // 4
        head[4:8] = number.to_bytes(2, "big") + part.to_bytes(2, "big")
        frames.append(ether(bytes(head) + options + said))
    frames.append(mine(2))
    wanted = expected(frames, PORT)
    assert len(frames) // 4 < len(wanted) < len(frames) * 3 // 4, "some of both"
    assert told(cable, frames, PORT) == wanted
