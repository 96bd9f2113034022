"""What works today because of a setting that the next start takes away."""

from collections.abc import Iterable

from pathfit.core.evidence import PlatformFact
from pathfit.core.finding import Facts, Finding
from pathfit.rules import forecast
from pathfit.rules.base import found, line
from pathfit.rules.engines import member
from pathfit.rules.view import DIRECTIONS, View


def short_lived(view: View) -> Iterable[Finding]:
    """Only the `mtu` of a route keeps packets small enough; the device above it has a larger one.

    Why it hurts: a container's routes are made anew when it starts, those of a host when it boots. The fault that the
    `mtu` once cured comes back with the next restart, long after anybody remembers.
    Example: `ip route change default via 172.17.0.1 mtu 1400` in a running container (or `pathfit fix`, which does
    the same first); its network still gives 1500 to whoever starts in it.
    Repair: give the network, or the device of the host, that MTU for good; then the route needs none.
    Severity: info: nothing fails now.
    Possible: the device is the host's own, one manager keeps it, and its routes may be written with that `mtu`.
    Likely: never said.
    Confirmed: the source is an engine's container (engines set no `mtu` on routes), and the connection works.
    References: ip-route(8) "mtu"; moby, libnetwork/osl (routes are programmed without metrics).
    """
    link = view.source_link
    if view.state is None or view.source is None or link is None or not view.connects or view.holes:
        return
    route = forecast.route_of(view.state, view.source.id, view.address)
    if route is None or route.mtu is None or route.mtu >= link.mtu or any(view.told(d) for d in DIRECTIONS):
        return
    at, facts = member(view), _facts(view, link.mtu, route.mtu)
    proof = line(view.state_ref, "route-mtu", mtu=route.mtu, own=link.mtu)
    if at is not None and at.network.driver == "bridge":
        facts = {**facts, "case": "network", "network": at.network.name}
        yield found("CFG607", "info", "confirmed", view.source_point, facts, proof)
        return
    kept = next(iter(view.case.all(PlatformFact)), None)
    if kept is not None and len(kept.owners) == 1 and (kept.netns, kept.link) == (view.source.id, link.name):
        facts = {**facts, "case": "device", "manager": kept.owners[0].manager}
        yield found("CFG607", "info", "possible", view.source_point, facts, proof)


def _facts(view: View, own: int, limit: int) -> Facts:
    return {"source": view.source_label, "own": own, "limit": limit}
