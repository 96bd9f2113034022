"""Detail "survey": a namespace read lightly, with cheap checks whether a full read would find more.

Of a thousand namespaces most are leaves: loopback and a cable or two that end there, no filters, the kernel's own
policy rules, no path MTU learned. For them links, addresses, main routes and what sysctls say of forwarding are all
the model looks at (it makes the local table from the addresses, as the kernel did), so they are ``plain``: complete
though only their outline was read. Whatever has a device that other namespaces may use, forwards between devices, or
where a check finds something, is read in full. What a check cannot say counts as found.
"""

import errno
import os
from collections.abc import Iterable
from typing import NamedTuple

from msgspec.structs import replace

from pathfit.core.snapshot import Link, NetnsSnapshot, Route
from pathfit.host import procfs
from pathfit.host.nlsocket import NETLINK_NETFILTER, NETLINK_ROUTE, NetlinkSocket
from pathfit.model.lookup import PERMANENT_RULES
from pathfit.observe import apart
from pathfit.observe.features import Features
from pathfit.observe.filters import nf_tables_present
from pathfit.observe.namespace import Decoded, Meet, Reader, alone, of_all
from pathfit.wire import rtnl, rtnl_link, rtnl_near, rtnl_route
from pathfit.wire.netlink import Malformed
from pathfit.wire.nft import messages as nft

_USUAL = ({*PERMANENT_RULES[4], *PERMANENT_RULES[6]}, {*PERMANENT_RULES[4]})  # the latter without IPv6
_LEGACY = ("ip_tables_names", "ip6_tables_names")

# Devices that end in a namespace: what they are joined with lies in another one.
_ENDS = frozenset({"veth", "macvlan", "macvtap", "ipvlan", "ipvtap", "vlan", "netkit"})
# Every new namespace gets one of each when the module is there (net.core.fb_tunnels_only_for_init_net).
_FALLBACK = frozenset({"ipip", "sit", "gre", "gretap", "erspan", "ip6tnl", "ip6gre", "vti", "vti6"})


class Seen(NamedTuple):
    """What a survey saw. ``more``: a full read would find more."""

    snapshot: NetnsSnapshot
    more: bool


class Ground:
    """What holds for the whole kernel, found out once in a run."""

    def __init__(self) -> None:
        self.nft = nf_tables_present()
        self.ipsec = apart.has_ipsec()
        folder = "/proc/thread-self/net"
        self.legacy = tuple(f"{folder}/{name}" for name in _LEGACY if os.path.exists(f"{folder}/{name}"))


def read(
    identity: str, where: str, names: tuple[str, ...], features: Features, ground: Ground, meet: Meet = alone
) -> Seen:
    """The namespace this thread stands in. Raises OSError only when no netlink socket can be opened at all."""
    with NetlinkSocket(NETLINK_ROUTE) as sock:
        reader = Reader(where, sock)
        read = reader.dump("links", rtnl.links(), rtnl_link.read)
        links = [one.link for one in read]
        meet(sock, identity, links)
        addresses = reader.dump("addresses", rtnl.addresses(), rtnl_near.address)
        routes = reader.dump("routes", rtnl.routes(0, table=rtnl.TABLE_MAIN), rtnl_route.route)
        sysctls: dict[str, str] = {}
        for one in read:
            sysctls.update(one.sysctls)
        sysctls.update(of_all(reader))
        more = hub(links, sysctls) or bool(reader.missing) or not all(isinstance(r, Route) for r in routes)
        more = more or _decided(reader) or _filtered(ground) or _wrapped(ground)
    known: dict[int, dict[str, bool]] = {}
    if not more:
        known = reader.part("offload features", features.read, known)
        links = [replace(link, features=known.get(link.index)) for link in links]
    snapshot = NetnsSnapshot(
        id=identity,
        where=where,
        names=names,
        links=tuple(links),
        addresses=tuple(addresses),
        routes=tuple(r for r in routes if isinstance(r, Route)),
        sysctls=sysctls,
        missing=tuple(reader.missing),
        plain=not more,
    )
    return Seen(snapshot, more)


def hub(links: Iterable[Link], sysctls: dict[str, str]) -> bool:
    """Whether packets of others may pass: a device that is no mere end, or forwarding between two of them."""
    doors = 0
    for link in links:
        if link.loopback or (link.kind in _FALLBACK and not link.up):
            continue
        if link.kind not in _ENDS or link.master or link.peer_nsid is None:
            return True
        doors += link.up
    return doors > 1 and any(v == "1" and (k.endswith((".forwarding", ".ip_forward"))) for k, v in sysctls.items())


def _decided(reader: Reader) -> bool:
    """Policy rules that are not the kernel's own, or a path MTU that was learned."""
    rules = reader.dump("routing rules", rtnl.rules(rtnl.AF_UNSPEC), rtnl_route.rule)
    if set(rules) not in _USUAL:
        return True
    read: list[Decoded] = reader.dump("path MTU exceptions", rtnl.routes(0, cached=True), rtnl_route.route)
    return bool(read)


def _filtered(ground: Ground) -> bool:
    """Whether there are, or may be, filters."""
    if ground.nft:
        try:
            with NetlinkSocket(NETLINK_NETFILTER) as sock:
                if sock.ask(nft.getgen(), nft.gen_id) != nft.FIRST_GENERATION:
                    return True
        except OSError as e:
            if e.errno not in (errno.EPROTONOSUPPORT, errno.EOPNOTSUPP):
                return True
        except Malformed:
            return True
    return any(_listed(path) for path in ground.legacy)


def _wrapped(ground: Ground) -> bool:
    """Whether there are, or may be, IPsec policies: they need no device."""
    try:
        return ground.ipsec and apart.policies() > 0
    except (OSError, Malformed):
        return True


def _listed(path: str) -> bool:
    try:
        return bool(procfs.read(path, 4096))
    except OSError:
        return True
