"""An overlay whose own sums are right, over a network that carries less than this host's devices say.

The tunnel's device is as large as the device underneath allows; what is lost is lost on the wire between the hosts, or
at the far one. From one end the two look alike. With a snapshot of the far host they do not.
"""

from collections.abc import Iterator

from pathfit.core.finding import Confidence, Facts, Finding
from pathfit.core.net import Point
from pathfit.core.path import Decap, Encap, Exit, Predicted
from pathfit.model.walk import predict_both
from pathfit.rules.base import found, line
from pathfit.rules.places import place_text
from pathfit.rules.state import together
from pathfit.rules.view import SAID, Hole, View


def beneath(view: View) -> Iterator[Finding]:
    """MTU104 for a hole that was measured and that no visible device explains; its page is that of the path's rule."""
    holes = [h for h in view.holes if not any(x.mtu == h.passes for x in view.limits(h.direction))]
    way = view.predicted_forward
    if not holes or way is None or way.complete:
        return
    hole = holes[0]
    around, out = _leaving(way)
    added = sum(x.overhead for x in around)
    if out is None or out.mtu is None or not around or hole.passes + added >= out.mtu:
        return
    seen = _far_side(view, hole)
    if seen is False:
        return
    inner = around[0].at
    ns = view.namespace(inner.netns)
    link = next((x for x in ns.links if x.name == inner.link), None) if ns is not None else None
    same = [h for h in holes if h.passes == hole.passes]
    facts: Facts = {
        "case": "beneath",
        "direction": "both" if len(same) > 1 else SAID[hole.direction],
        "device": _called(view, inner),
        "kind": around[0].kind,
        "device_mtu": link.mtu if link is not None else hole.promised or hole.fails,
        "overhead": added,
        "limit": hole.passes,
        "underlay": hole.passes + added,
        "out": place_text(out.at),
        "out_mtu": out.mtu,
    }
    lines = [
        line(view.state_ref, "tunnel-leaves", device=_called(view, inner), overhead=added, out=place_text(out.at),
             out_mtu=out.mtu),
        line(hole.ref, "bracket", method=hole.method, passes=hole.passes, fails=hole.fails),
    ]  # fmt: skip
    confidence: Confidence = "likely"
    if seen:
        confidence = "confirmed"
        lines.append(line(together.REF, "far-side-wide", passes=hole.passes))
    yield found("MTU104", "warning", confidence, (inner, out.at), facts, *lines)


def _called(view: View, at: Point) -> str:
    """A tunnel's device; one that an engine hides goes by the network that it belongs to: "app/vxlan0"."""
    ns = view.namespace(at.netns)
    networks = [x for e in (view.state.engines if view.state else ()) for x in e.networks]
    name = next((x.name for x in networks if ns is not None and x.netns == ns.id), None)
    return f"{name}/{at.link}" if name else place_text(at)


def _leaving(way: Predicted) -> tuple[list[Encap], Exit | None]:
    """The tunnels a packet is in where our view of its way ends, outermost last, and the device it leaves by."""
    around: list[Encap] = []
    out: Exit | None = None
    for step in (s for h in way.hops for s in h.steps):
        if isinstance(step, Encap):
            around.append(step)
        elif isinstance(step, Decap):
            around = around[:-1]
        elif isinstance(step, Exit) and not step.local:
            out = step
    return around, out


def _far_side(view: View, hole: Hole) -> bool | None:
    """Do all devices of the far host, as its snapshot has them, carry more than that? None: not seen, or too long ago.

    False: one of them is as small as what was measured, so the network between is not to blame.
    """
    flow = together.asked(view)
    net = (
        flow.all.network.find(f"{flow.all.label(flow.all.here)}!{view.source.where}") if flow and view.source else None
    )
    if flow is None or net is None or not flow.far:
        return None
    ways = predict_both(flow.all.network, net.key, view.address, dport=view.port)
    if any(x.mtu == hole.passes for w in ways for x in w.limits):
        return False
    wide = all(w.mtu is not None and w.mtu > hole.passes for w in ways)
    arrived = flow.arrives is not None and flow.arrives.host in {flow.all.label(d) for d in flow.far}
    return True if wide and arrived and flow.all.fresh(*flow.far) else None
