"""What the tracing program in the kernel says: its settings as it wants them, its events as values.

The layouts are those of ``struct event`` and ``flow`` in capture/bpf/trace.bpf.c, in the kernel's byte order; a test
compares the sizes with the object's own BTF. Pure.
"""

import struct
from collections.abc import Collection
from typing import NamedTuple

HOSTS, PORTS, DEPTH, HEADERS = 16, 8, 20, 160
HOOKS = {1: "dropped", 2: "queued", 3: "received"}
_EVENT = struct.Struct(f"=3Q{DEPTH}Q8I3H2B16s16s{HEADERS}s")
_PORTS = struct.Struct(f"!{PORTS}H")
EVENT_SIZE, FLOW_SIZE = _EVENT.size, 16 + 4 * HOSTS + 16 * HOSTS + 4 * PORTS


class Traced(NamedTuple):
    """One packet at one moment in the kernel.

    ``time``: nanoseconds of CLOCK_MONOTONIC; ``skb``: its address, used again as soon as it is free; ``location``: the
    address of the function that dropped it, ``stack``: who called, innermost first; ``reason``: a number of this
    kernel's ``enum skb_drop_reason``. ``netns``: inode of the namespace that ``link``, ``device`` are in, 0 when it has
    no device; ``egress...``: the device that the route chose (0: none), with its MTU; ``entered``: index of the device
    it came in by. ``length``: bytes from the layer where it was; ``headers``: from its IP header on.
    """

    hook: str
    time: int
    skb: int
    location: int
    stack: tuple[int, ...]
    reason: int
    netns: int
    link: int
    device: str
    length: int
    egress: int
    egress_mtu: int
    egress_netns: int
    egress_device: str
    entered: int
    gso_size: int
    gso_segs: int
    protocol: int
    headers: bytes


def event(data: bytes) -> Traced | None:
    """One event; None when it is not one of this layout."""
    if len(data) < EVENT_SIZE:
        return None
    time, skb, location, *rest = _EVENT.unpack_from(data)
    stack, rest = rest[:DEPTH], rest[DEPTH:]
    reason, netns, link, length, egress, egress_mtu, egress_netns, entered = rest[:8]
    gso_size, gso_segs, protocol, hook, kept, device, egress_device, headers = rest[8:]
    if hook not in HOOKS:
        return None
    called = tuple(x for n, x in enumerate(stack) if all(stack[: n + 1]))  # a zero ends it
    return Traced(
        HOOKS[hook], time, skb, location, called, reason, netns, link, _text(device), length, egress, egress_mtu,
        egress_netns, _text(egress_device), entered, gso_size, gso_segs, protocol, headers[:kept],
    )  # fmt: skip


def flow(hosts: Collection[bytes], ports: Collection[int], tunnels: Collection[int]) -> bytes:
    """The program's settings: which packets it looks at. ``hosts``: addresses of 4 or 16 bytes, in every form that NAT
    gives them; ``ports``: none for any; ``tunnels``: UDP ports that carry VXLAN. Raises ValueError when there are none
    or too many: a program that looks at everything is nobody's wish."""
    four = sorted({h for h in hosts if len(h) == 4})
    six = sorted({h for h in hosts if len(h) == 16})
    if not four and not six:
        raise ValueError("a flow without addresses")
    for what, given, most in (("addresses", four, HOSTS), ("addresses", six, HOSTS), ("ports", ports, PORTS)):
        if len(set(given)) > most:
            raise ValueError(f"{len(set(given))} {what}, at most {most} can be looked for")
    if len(set(tunnels)) > PORTS:
        raise ValueError(f"{len(set(tunnels))} tunnel ports, at most {PORTS} can be looked for")
    head = struct.pack("=4I", len(four), len(six), len(set(ports)), len(set(tunnels)))
    addresses = b"".join(four).ljust(4 * HOSTS, b"\0") + b"".join(six).ljust(16 * HOSTS, b"\0")
    return head + addresses + _padded(ports) + _padded(tunnels)


def _padded(ports: Collection[int]) -> bytes:
    numbers = sorted(set(ports))
    return _PORTS.pack(*numbers, *[0] * (PORTS - len(numbers)))


def _text(raw: bytes) -> str:
    return raw.split(b"\0", 1)[0].decode("utf-8", "replace")
