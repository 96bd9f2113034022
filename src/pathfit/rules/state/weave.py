"""Weave Net's slow way."""

from collections.abc import Iterable, Iterator

from pathfit.core.finding import Facts, Finding
from pathfit.core.node import Overlay, WeaveConnection
from pathfit.model.makers import heartbeat
from pathfit.model.network import Net
from pathfit.rules.base import found, line
from pathfit.rules.places import place_text
from pathfit.rules.state.machine import REF, Machine
from pathfit.rules.state.nodes import leaves_by, nodes


def slow_path(machine: Machine) -> Iterable[Finding]:
    """Weave sends through user space ("sleeve") although its fast datapath could be used.

    Why it hurts: each packet is copied to a program and back: a tenth of the speed, and much processor time. It works,
    so nobody looks.
    Example: WEAVE_MTU 1410 over a network of 1450: the fast datapath's heartbeat is a packet of 1460 and never arrives.
    Repair: a WEAVE_MTU of at most the network's MTU less 50 (84 with a password), then `weave reset`; where the network
    is large enough, let UDP 6784 through.
    Severity: warning; traffic works, slowly.
    Possible: the devices seen here carry the heartbeat; it is lost beyond, or UDP 6784 is, or the peer cannot do it.
    Likely: the heartbeat is larger than the device by which it leaves, or than the path MTU remembered to the peer.
    Confirmed: never, from state alone.
    References: weave router/fastdp.go (sendHeartbeat, SetDf), router/sleeve.go; weave issues 1737, 3037.
    """
    for facts, net in nodes(machine):
        overlay = next((o for o in facts.overlays if o.maker == "weave"), None)
        if overlay is None or not _may_be_fast(overlay):
            continue
        slow = [c for c in facts.weave if c.mode == "sleeve" and c.state == "established"]
        done: set[tuple[str, int | None]] = set()
        for connection, size, room, place in _sized(net, overlay, slow):
            key = (place, room if room is not None and room < size else None)
            if key in done:
                continue  # one finding for all peers that suffer the same
            done.add(key)
            tight = room is not None and room < size
            said: Facts = {
                "case": "small" if tight else "beyond" if room is not None else "unseen",
                "peer": connection.peer or connection.address,
                "count": len(slow),
                "overlay": overlay.granted,
                "heartbeat": size,
                "room": room,
                "short": size - room if tight and room is not None else None,
                "place": place,
            }
            proof = (
                line(REF, "weave-connection", peer=connection.peer or connection.address, mode="sleeve"),
                line(REF, "weave-heartbeat", overlay=overlay.granted, heartbeat=size),
            )
            at = net.point(next((n for n in ("datapath", "weave") if n in net.names), None))
            yield found("OVL306", "warning", "likely" if tight else "possible", at, said, *proof)


def _may_be_fast(overlay: Overlay) -> bool:
    """Is there a datapath in the kernel that Weave was not told to leave alone?"""
    return (
        overlay.backend == "vxlan" and not overlay.facts.get("no_fastdp") and overlay.facts.get("fastdp") is not False
    )


def _sized(
    net: Net, overlay: Overlay, slow: list[WeaveConnection]
) -> Iterator[tuple[WeaveConnection, int, int | None, str]]:
    """(connection, size of its heartbeat's packet, what the way to the peer carries as far as it is seen, where)."""
    for connection in slow:
        if overlay.granted is None:
            continue
        size = heartbeat(overlay.granted, connection.encrypted)
        address = connection.address
        out = leaves_by(net, address) if address else None
        room = out.mtu if out is not None else None
        cached = min((x.mtu for x in net.snap.exceptions if x.dst == address), default=None)
        if cached is not None and (room is None or cached < room):
            room = cached
        yield connection, size, room, place_text(net.point(out.name)) if out is not None else address
