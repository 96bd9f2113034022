"""IPv6 of a device, as it was: what the kernel forgets of it while its MTU is below 1280.

Order: sysctls first (they decide what the kernel makes by itself), then addresses, then neighbours, then routes, those
without a gateway first. Addresses come back past duplicate address detection, for they were past it (IFA_F_NODAD; the
flag is taken off again when it was not there). What the kernel made by itself on the way and what had not been there is
removed; what somebody else has done since is left alone.
"""

import os
import socket
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import NamedTuple

from pathfit.apply.step import Impossible
from pathfit.core.journal import LinkBefore
from pathfit.host import procfs
from pathfit.host.clock import now, since_boot, wait
from pathfit.host.nlsocket import NetlinkSocket
from pathfit.wire import rtnl, rtnl_write
from pathfit.wire.rtnl_write import APPEND, CREATE, EXCL, NODAD, REPLACE, TEMPORARY, TENTATIVE

MINIMUM = 1280  # bytes: IPV6_MIN_MTU, RFC 8200 section 5
MOST_ROUTES = 20_000  # of one device; a table of that size belongs to a router, and to nobody's repair
DAD_ENDS = 3.0  # seconds; with IFA_F_NODAD the kernel needs a turn of its work queue
ROOT = "/proc/sys/net/"
LAST = "disable_ipv6"  # written after the others: it takes all addresses away


class Ipv6(NamedTuple):
    """What was read of some devices: bodies of dumped messages, sysctls by path below /proc/sys/net."""

    addresses: tuple[bytes, ...]
    routes: tuple[bytes, ...]
    neighbours: tuple[bytes, ...]
    sysctls: dict[str, str]
    temporary: bool


def read(sock: NetlinkSocket, links: Mapping[int, str]) -> Ipv6:
    """IPv6 of ``links`` (names by ifindex), in the namespace this thread stands in. Raises OSError, Impossible."""
    addresses = [
        b for b in sock.dump(rtnl.addresses(), rtnl_write.body) if b[0] == socket.AF_INET6 and _link(b) in links
    ]
    routes = [b for b in _routes(sock) if rtnl_write.links_of(b) & links.keys()]
    if len(routes) > MOST_ROUTES:
        raise Impossible(f"{len(routes)} routes lead through {', '.join(links.values())}")
    neighbours = [b for b in _neighbours(sock) if rtnl_write.neighbour_key(b)[1] in links]
    sysctls: dict[str, str] = {}
    for name in links.values():
        for folder in (f"ipv6/conf/{name}", f"ipv6/neigh/{name}"):
            for entry in procfs.names(ROOT + folder):
                with suppress(OSError):  # stable_secret that was never set
                    sysctls[f"{folder}/{entry}"] = procfs.text(f"{ROOT}{folder}/{entry}")
    temporary = any(rtnl_write.address_flags(b) & TEMPORARY for b in addresses)
    return Ipv6(tuple(addresses), tuple(routes), tuple(neighbours), sysctls, temporary)


def restore(sock: NetlinkSocket, before: LinkBefore, standing: Ipv6, links: Mapping[int, str]) -> None:
    """Put back what ``before`` held of ``links`` and the kernel took. ``standing``: what was there before the device
    got its MTU back. Raises OSError for what could not be put back."""
    fallen = {i: n for i, n in links.items() if before.after < MINIMUM <= dict(before.mtus)[i]}
    _sysctls(before, fallen, links)
    if fallen:
        _addresses(sock, before, standing, fallen)
        for body in before.neighbours:
            if rtnl_write.neighbour_key(body)[1] in fallen:
                sock.change(rtnl_write.NEWNEIGH, rtnl_write.neighbour(body), CREATE | REPLACE)
        _add_routes(sock, before, fallen)
        _remove_routes(sock, before, standing, fallen)
    _route_mtus(sock, before, links)


# --- sysctls ---------------------------------------------------------------------------------------------------------


def _sysctls(before: LinkBefore, fallen: Mapping[int, str], links: Mapping[int, str]) -> None:
    """All of a device that had fallen; of another one only the MTU of IPv6 (addrconf_notify() sets it as well)."""
    names = {f"ipv6/conf/{n}/mtu" for n in links.values()}
    for n in fallen.values():
        names |= {p for p in before.sysctls if p.startswith((f"ipv6/conf/{n}/", f"ipv6/neigh/{n}/"))}
    for path in sorted(names & before.sysctls.keys(), key=lambda p: (p.endswith(LAST), p)):
        wanted = before.sysctls[path]
        if procfs.maybe(ROOT + path) != wanted:
            with suppress(PermissionError):  # mc_forwarding is the routing daemon's
                _write(ROOT + path, wanted)


def _write(path: str, value: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, value.encode() + b"\n")
    finally:
        os.close(fd)


# --- addresses -------------------------------------------------------------------------------------------------------


def _addresses(sock: NetlinkSocket, before: LinkBefore, standing: Ipv6, links: Mapping[int, str]) -> None:
    wanted = {rtnl_write.address_key(b): b for b in before.addresses if _link(b) in links}
    there = {rtnl_write.address_key(b) for b in standing.addresses}
    elapsed = max(0.0, since_boot() - before.at)
    for body in _of(sock, links):
        key = rtnl_write.address_key(body)
        unsure = bool(rtnl_write.address_flags(body) & TENTATIVE)
        was_sure = key in wanted and not rtnl_write.address_flags(wanted[key]) & TENTATIVE
        if (key not in wanted and key not in there) or (unsure and was_sure):
            with suppress(OSError):  # made by the kernel a moment ago, and gone as fast
                sock.change(rtnl_write.DELADDR, body)
    present = {rtnl_write.address_key(b) for b in _of(sock, links)}
    for key, body in reversed(wanted.items()):  # ipv6_link_dev_addr() puts a new one in front of its scope
        if key not in present:
            sock.change(rtnl_write.NEWADDR, rtnl_write.address(body, extra=NODAD, elapsed=elapsed), CREATE | EXCL)
    _settled(sock, links, {k for k, b in wanted.items() if not rtnl_write.address_flags(b) & TENTATIVE})
    now_ = {rtnl_write.address_key(b): b for b in _of(sock, links)}
    for key, body in wanted.items():
        if key in now_ and rtnl_write.address_settings(now_[key]) != rtnl_write.address_settings(body):
            sock.change(rtnl_write.NEWADDR, rtnl_write.address(body, elapsed=elapsed), REPLACE)


def _settled(sock: NetlinkSocket, links: Mapping[int, str], keys: set[rtnl_write.AddressKey]) -> None:
    """Wait until none of these is tentative. A device that is down leaves them so, as it did before."""
    until = now() + DAD_ENDS
    while now() < until:
        unsure = [b for b in _of(sock, links) if rtnl_write.address_flags(b) & TENTATIVE]
        if not any(rtnl_write.address_key(b) in keys for b in unsure):
            return
        wait(0.005)


def _of(sock: NetlinkSocket, links: Iterable[int]) -> list[bytes]:
    found = sock.dump(rtnl.addresses(), rtnl_write.body)
    return [b for b in found if b[0] == socket.AF_INET6 and _link(b) in links]


def _link(body: bytes) -> int:
    return rtnl_write.address_key(body).link


# --- routes ----------------------------------------------------------------------------------------------------------


def _routes(sock: NetlinkSocket) -> list[bytes]:
    found = sock.dump(rtnl.routes(socket.AF_INET6), rtnl_write.body)
    return [b for b in found if b[0] == socket.AF_INET6 and not rtnl_write.cached(b)]


def _add_routes(sock: NetlinkSocket, before: LinkBefore, links: Mapping[int, str]) -> None:
    """What is missing comes back, in rounds: a gateway is known once the route to it is."""
    present = {rtnl_write.route_key(b): b for b in _routes(sock)}
    missing = [b for b in before.routes if rtnl_write.links_of(b) & links.keys() and _lost(b, present)]
    missing.sort(key=lambda b: (bool(rtnl_write.route_key(b).gateway), -rtnl_write.route_key(b).dst_len))
    trouble: OSError | None = None
    while missing:
        left = []
        for body in missing:
            flags = CREATE | REPLACE if rtnl_write.multipath(body) else CREATE | APPEND
            try:
                sock.change(rtnl_write.NEWROUTE, rtnl_write.route(body), flags)
            except FileExistsError:
                continue
            except OSError as e:
                trouble = e
                left.append(body)
        if len(left) == len(missing):
            raise trouble or OSError("a route could not be put back")
        missing = left


def _lost(body: bytes, present: Mapping[rtnl_write.RouteKey, bytes]) -> bool:
    """Is this route, or one of its ways, missing?"""
    found = present.get(rtnl_write.route_key(body))
    return found is None or (rtnl_write.multipath(body) and not rtnl_write.same_route(found, body))


def _remove_routes(sock: NetlinkSocket, before: LinkBefore, standing: Ipv6, links: Mapping[int, str]) -> None:
    """What the kernel made by itself on the way up, and what had not been there."""
    known = {rtnl_write.route_key(b) for b in (*before.routes, *standing.routes)}
    for body in _routes(sock):
        if rtnl_write.links_of(body) & links.keys() and rtnl_write.route_key(body) not in known:
            with suppress(ProcessLookupError, FileNotFoundError):
                sock.change(rtnl_write.DELROUTE, body)


def _route_mtus(sock: NetlinkSocket, before: LinkBefore, links: Mapping[int, str]) -> None:
    """Routes with an MTU of their own that followed the device's."""
    old = {rtnl_write.route_key(b): b for b in before.routes if rtnl_write.route_mtu(b)}
    followed = {before.after, *dict(before.mtus).values()}
    for body in _routes(sock):
        was = old.get(rtnl_write.route_key(body))
        if was is None or not rtnl_write.links_of(body) <= links.keys() or rtnl_write.same_route(was, body):
            continue
        if rtnl_write.same_but_mtu(was, body) and rtnl_write.route_mtu(body) in followed:
            sock.change(rtnl_write.NEWROUTE, rtnl_write.route(was), REPLACE)


# --- neighbours ------------------------------------------------------------------------------------------------------


def _neighbours(sock: NetlinkSocket) -> list[bytes]:
    """Entries of IPv6 that somebody made: permanent ones, and proxies (a dump of their own)."""
    found: dict[tuple[int, int, bool, bytes], bytes] = {}
    for proxies in (False, True):
        request = rtnl_write.neighbours(proxies=proxies)
        for body in sock.dump(request, rtnl_write.body):
            if body[0] == socket.AF_INET6 and rtnl_write.by_hand(body):
                found.setdefault(rtnl_write.neighbour_key(body), body)
    return list(found.values())
