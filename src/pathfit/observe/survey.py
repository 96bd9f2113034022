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
from functools import partial

from msgspec.structs import replace

from pathfit.core.snapshot import Link, NetnsSnapshot, Route
from pathfit.host.nlsocket import NETLINK_NETFILTER, NETLINK_ROUTE, NetlinkSocket
from pathfit.model.lookup import PERMANENT_RULES
from pathfit.observe import apart
from pathfit.observe.features import Features
from pathfit.observe.filters import nf_tables_present
from pathfit.observe.namespace import Decoded, Meet, Reader, alone, full, links_of, of_all
from pathfit.wire import rtnl, rtnl_near, rtnl_route
from pathfit.wire.netlink import Malformed
from pathfit.wire.nft import messages as nft

_USUAL = ({*PERMANENT_RULES[4], *PERMANENT_RULES[6]}, {*PERMANENT_RULES[4]})  # the latter without IPv6
_FOLDER = "/proc/thread-self/net"
_LEGACY = ("ip_tables_names", "ip6_tables_names")

# Devices that end in a namespace: what they are joined with lies in another one.
_ENDS = frozenset({"veth", "macvlan", "macvtap", "ipvlan", "ipvtap", "vlan", "netkit"})
# Every new namespace gets one of each when the module is there (net.core.fb_tunnels_only_for_init_net).
_FALLBACK = frozenset({"ipip", "sit", "gre", "gretap", "erspan", "ip6tnl", "ip6gre", "vti", "vti6"})


class Ground:
    """What holds for the whole kernel, found out once in a run."""

    def __init__(self) -> None:
        self.nft = nf_tables_present()
        self.ipsec = apart.has_ipsec()
        self.legacy = tuple(name for name in _LEGACY if os.path.exists(f"{_FOLDER}/{name}"))


def read(
    identity: str, where: str, names: tuple[str, ...], features: Features, ground: Ground, meet: Meet = alone
) -> NetnsSnapshot:
    """The namespace this thread stands in. Raises OSError only when no netlink socket can be opened at all."""
    with NetlinkSocket(NETLINK_ROUTE) as sock:
        reader = Reader(where, sock)
        links, sysctls = links_of(reader)
        meet(sock, identity, links)
        if not reader.missing and not hub(links, sysctls):
            if leaf := _leaf(reader, identity, names, links, sysctls, features, ground):
                return leaf
            reader.missing.clear()  # all but the links is read again
        return full(reader, identity, names, links, sysctls, features)


def _leaf(
    reader: Reader,
    identity: str,
    names: tuple[str, ...],
    links: list[Link],
    sysctls: dict[str, str],
    features: Features,
    ground: Ground,
) -> NetnsSnapshot | None:
    """None when it turns out to be more than that, or when something could not be read."""
    addresses = reader.dump("addresses", rtnl.addresses(), rtnl_near.address)
    routes = reader.dump("routes", rtnl.routes(0, table=rtnl.TABLE_MAIN), rtnl_route.route)
    doors = sum(link.up and not link.loopback for link in links)
    # with one door nothing is forwarded, whatever IPv6 says
    sysctls.update(of_all(reader) if doors > 1 else of_all(reader, (rtnl.AF_INET,)))
    if _forwards(links, sysctls) or _decided(reader) or _filtered(ground) or _wrapped(ground):
        return None
    known = reader.part("offload features", features.read, dict[int, dict[str, bool]]())
    plain = tuple(r for r in routes if isinstance(r, Route))
    if reader.missing or len(plain) < len(routes):
        return None
    return NetnsSnapshot(
        id=identity,
        where=reader.where,
        names=names,
        links=tuple([replace(link, features=known.get(link.index)) for link in links]),
        addresses=tuple(addresses),
        routes=plain,
        sysctls=sysctls,
        plain=True,
    )


def hub(links: Iterable[Link], sysctls: dict[str, str]) -> bool:
    """Whether packets of others may pass: a device that is no mere end, or forwarding between two of them."""
    for link in links:
        if link.loopback or (link.kind in _FALLBACK and not link.up):
            continue
        if link.kind not in _ENDS or link.master or link.peer_nsid is None:
            return True
    return _forwards(links, sysctls)


def _forwards(links: Iterable[Link], sysctls: dict[str, str]) -> bool:
    doors = sum(link.up and not link.loopback for link in links)
    return doors > 1 and any(v == "1" and k.endswith((".forwarding", ".ip_forward")) for k, v in sysctls.items())


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
    return bool(ground.legacy) and _listed(ground.legacy)


def _wrapped(ground: Ground) -> bool:
    """Whether there are, or may be, IPsec policies: they need no device."""
    try:
        return ground.ipsec and apart.policies() > 0
    except (OSError, Malformed):
        return True


def _listed(names: Iterable[str]) -> bool:
    """Whether one of these lists of tables has any, or cannot be read."""
    try:
        folder = os.open(_FOLDER, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return True
    try:
        return any(map(partial(_filled, folder), names))
    except OSError:
        return True
    finally:
        os.close(folder)


def _filled(folder: int, name: str) -> bool:
    fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder)
    try:
        return bool(os.read(fd, 64))
    finally:
        os.close(fd)
