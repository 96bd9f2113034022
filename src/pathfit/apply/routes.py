"""The MTU of one route, and the cached path MTUs: by netlink, with the route's own dumped message.

`ip route change` replaces all attributes of a route, and loses those it was not given. So the kernel's own message is
taken, RTAX_MTU written into it (and RTAX_ADVMSS lowered, where it would invite more), and sent back with
NLM_F_REPLACE; undo sends the old one.

What NLM_F_REPLACE replaces is the *first* route of that prefix, TOS and metric (fib_table_insert()), and in IPv6 the
first of that metric which is, or is not, a gateway route as well (fib6_add_rt2node()). A route that is not the first
of its like cannot be changed without changing another, and is refused.
"""

import errno
import socket
from contextlib import suppress

from pathfit.apply import places
from pathfit.apply.step import Foreign, Gone, Impossible
from pathfit.core.change import FlushRouteCache, SetRouteMtu
from pathfit.core.journal import CacheBefore, Place, RouteBefore
from pathfit.core.snapshot import Route
from pathfit.host.nlsocket import NetlinkSocket
from pathfit.wire import rtnl, rtnl_write
from pathfit.wire.rtnl_route import route as decode
from pathfit.wire.rtnl_write import REPLACE, RouteKey

FLUSH = "/proc/sys/net/ipv4/route/flush"
_NUMBER = {4: socket.AF_INET, 6: socket.AF_INET6}


class RouteMtu:
    """Step of :class:`~pathfit.core.change.SetRouteMtu`."""

    lasting = False

    def late(self, prepared: object) -> bool:
        return False

    def prepare(self, change: SetRouteMtu, tag: str) -> RouteBefore:
        place = places.place(change.netns, change.where)
        with places.entered(place) as sock:
            body = _chosen(change, dumped(sock, change.family))
        return RouteBefore(place=place, before=body, after=rtnl_write.bounded(body, change.mtu))

    def perform(self, change: SetRouteMtu, prepared: RouteBefore, tag: str) -> None:
        with places.entered(prepared.place) as sock:
            now = _now(sock, prepared)
            if rtnl_write.same_route(now, prepared.after):
                return
            if not rtnl_write.same_route(now, prepared.before):
                raise Foreign("the route was changed by somebody else meanwhile")
            _replace(sock, prepared, prepared.after)

    def undo(self, change: SetRouteMtu, prepared: RouteBefore, tag: str) -> None:
        with places.entered(prepared.place) as sock:
            now = _now(sock, prepared)
            if rtnl_write.same_route(now, prepared.before):
                return
            if not rtnl_write.same_route(now, prepared.after):
                raise Foreign("the route was changed by somebody else since")
            _replace(sock, prepared, rtnl_write.route(prepared.before))

    def holds(self, change: SetRouteMtu, prepared: RouteBefore) -> bool:
        with places.entered(prepared.place) as sock:
            return rtnl_write.route_mtu(_now(sock, prepared)) == change.mtu


class RouteCache:
    """Step of :class:`~pathfit.core.change.FlushRouteCache`."""

    lasting = False

    def late(self, prepared: object) -> bool:
        return False

    def prepare(self, change: FlushRouteCache, tag: str) -> CacheBefore:
        return CacheBefore(place=places.place(change.netns, change.where))

    def perform(self, change: FlushRouteCache, prepared: CacheBefore, tag: str) -> None:
        flush(prepared.place)

    def undo(self, change: FlushRouteCache, prepared: CacheBefore, tag: str) -> None:
        """Nothing: the kernel learns again what is true."""

    def holds(self, change: FlushRouteCache, prepared: CacheBefore) -> bool:
        return True


def flush(place: Place) -> None:
    """Forget every cached path MTU of a namespace, both families, as `ip route flush cache` does. Raises Gone, OSError.

    IPv4: writing to route/flush (ipv4_sysctl_rtcache_flush()); IPv6: each exception is deleted by itself.
    """
    with places.entered(place) as sock:
        with suppress(FileNotFoundError), open(FLUSH, "w") as f:
            f.write("-1\n")
        for body in dumped(sock, 6, cached=True):
            with suppress(OSError):  # it ran out meanwhile
                sock.change(rtnl_write.DELROUTE, body)


def dumped(sock: NetlinkSocket, family: int, *, cached: bool = False) -> list[bytes]:
    """Bodies of the routes of one family, in the kernel's order. Raises OSError."""
    found = sock.dump(rtnl.routes(_NUMBER[family], cached=cached), rtnl_write.body)
    return [b for b in found if rtnl_write.cached(b) == cached]


def _chosen(change: SetRouteMtu, bodies: list[bytes]) -> bytes:
    """The dumped message of the route a change names. Raises Gone, Impossible."""
    matching = [b for b in bodies if _is(change, decode(b, 0, len(b)))]
    name = f"{change.dst}/{change.prefix}" if change.prefix else "default"
    if not matching:
        raise Gone(f"the route {name} is not there any more")
    if len(matching) > 1 or rtnl_write.multipath(matching[0]):
        raise Impossible(f"the route {name} exists several times: which one is meant cannot be said to the kernel")
    body = matching[0]
    if rtnl_write.of_object(body):  # without metrics the kernel takes the old ones again (fib_find_info_nh())
        raise Impossible(f"the route {name} stands on a next hop object, where an MTU cannot be taken off again")
    if rtnl_write.expires(body) is not None:
        raise Impossible(f"the route {name} is kept by router advertisements and would lose its end")
    first = next(b for b in bodies if _alike(rtnl_write.route_key(b), rtnl_write.route_key(body)))
    if first is not body:
        raise Impossible(f"another route {name} stands before it: a change would reach that one")
    return body


def _is(change: SetRouteMtu, route: object) -> bool:
    if not isinstance(route, Route) or len(route.hops) != 1 or route.src:
        return False
    hop = route.hops[0]
    mine = (change.family, change.table, change.dst, change.prefix, change.metric, change.tos)
    theirs = (route.family, route.table, route.dst, route.prefix, route.metric, route.tos)
    return mine == theirs and route.type == "unicast" and hop.link == change.link and hop.via == change.via


def _alike(a: RouteKey, b: RouteKey) -> bool:
    """Could NLM_F_REPLACE take one for the other?"""
    same = a[:8] == b[:8]
    return same and (a.family == socket.AF_INET or bool(a.gateway) == bool(b.gateway))


def _replace(sock: NetlinkSocket, prepared: RouteBefore, body: bytes) -> None:
    """Write the route, and look whether the kernel did what it acknowledged. Raises OSError."""
    sock.change(rtnl_write.NEWROUTE, body, REPLACE)
    if not rtnl_write.same_route(_now(sock, prepared), body):
        raise OSError(errno.EIO, "the kernel accepted the route and did not write it")


def _now(sock: NetlinkSocket, prepared: RouteBefore) -> bytes:
    """The route as it is now. Raises Gone."""
    key = rtnl_write.route_key(prepared.before)
    bodies = dumped(sock, 6 if key.family == socket.AF_INET6 else 4)
    found = next((b for b in bodies if rtnl_write.route_key(b) == key), None)
    if found is None:
        raise Gone("the route does not exist any more")
    return found
