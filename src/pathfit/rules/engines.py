"""The container in its engine's network, for rules and remedies: which one is it that the asked flow leaves by?"""

from pathfit.core.base import Value
from pathfit.core.engine import Container, Engine, EngineNetwork
from pathfit.core.net import Point
from pathfit.core.snapshot import Link, NetnsSnapshot
from pathfit.rules.view import View


class Member(Value, frozen=True, kw_only=True):
    """A container in one of its engine's networks; ``link`` is its device there, in its own namespace."""

    engine: Engine
    container: Container
    network: EngineNetwork
    link: Link


def member(view: View) -> Member | None:
    """The container behind the device that the asked flow leaves the source by; None when not certain."""
    ns, link = view.source, view.source_link
    if view.state is None or ns is None or link is None:
        return None
    for engine in view.state.engines:
        for container in engine.containers:
            network = _network(engine, container, ns, link) if container.netns == ns.id else None
            if network is not None:
                return Member(engine=engine, container=container, network=network, link=link)
    return None


def _network(engine: Engine, container: Container, ns: NetnsSnapshot, link: Link) -> EngineNetwork | None:
    here = {a.address for a in ns.addresses if a.link == link.index}
    for end in container.endpoints:
        addresses = {a.partition("/")[0] for a in end.addresses}
        if (end.mac and end.mac == link.mac) or here & addresses:
            return next((n for n in engine.networks if n.id == end.network), None)
    return None


def bridge(view: View, found: Member) -> Point:
    """The network's device on the engine's host."""
    return on_host(view, found.engine, found.network.bridge)


def on_host(view: View, engine: Engine, link: str = "") -> Point:
    """The namespace that an engine works in, or a device there."""
    ns = next((n for n in view.namespaces if n.id == engine.netns), None)
    return Point(host=view.host, netns=ns.where if ns else "host", link=link or None)
