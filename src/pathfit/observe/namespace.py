"""Read one network namespace while standing in it. A light read and a full one are the same code.

Each part is read on its own: what is refused or not there becomes a Missing and the rest goes on.
"""

import errno
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Literal, TypeVar

from msgspec.structs import replace

from pathfit.core.evidence_base import AS_ROOT, Missing
from pathfit.core.filters import Table
from pathfit.core.snapshot import (
    FdbEntry,
    Link,
    NetnsSnapshot,
    PmtuException,
    PolicyRule,
    Route,
    XfrmPolicy,
    XfrmState,
)
from pathfit.host import netns, procfs
from pathfit.host.nlsocket import NETLINK_ROUTE, NetlinkSocket
from pathfit.observe import apart
from pathfit.observe.features import Features
from pathfit.wire import rtnl, rtnl_conf, rtnl_link, rtnl_near, rtnl_route
from pathfit.wire.netlink import Malformed

if TYPE_CHECKING:
    from pathfit.wire import ovs

T = TypeVar("T")
Detail = Literal["light", "survey", "full"]
Decoded = Route | rtnl_route.Indirect | PmtuException

ROUTES = 300_000  # kept of one namespace: a full Internet table fits, with both families and a spare
NEIGHBOURS = 65_536

# Not there is not missing: this kernel was built without, or has it switched off.
_ABSENT = frozenset((errno.EOPNOTSUPP, errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT))

SYSCTLS = (
    "ipv4.tcp_mtu_probing",
    "ipv4.route.min_adv_mss",
    "ipv6.route.min_adv_mss",
    "ipv4.conf.all.accept_local",
    "ipv4.conf.all.arp_ignore",
)
"""Those the model or a rule asks for. Each costs up to 20 microseconds, more where there are a thousand namespaces:
files of one name stand in one row, whoever they belong to (proc_sys_compare). Per device they come with the link dump,
and forwarding, rp_filter and proxy_arp of all devices by one message (:func:`of_all`)."""
FORWARDING_SYSCTLS = ("ipv4.ip_forward_use_pmtu",)
MARK_SYSCTLS = ("ipv4.conf.all.src_valid_mark",)
BRIDGE_SYSCTLS = ("bridge.bridge-nf-call-iptables", "bridge.bridge-nf-call-ip6tables")


Meet = Callable[[NetlinkSocket, str, Iterable[Link]], None]


def alone(_sock: NetlinkSocket, _identity: str, _links: Iterable[Link]) -> None:
    """Nobody asks who is joined with it."""


class Reader:
    """Reads the namespace the thread stands in through one NETLINK_ROUTE socket, and collects what is missing."""

    def __init__(self, where: str, sock: NetlinkSocket) -> None:
        self.where = where
        self.missing: list[Missing] = []
        self.sock = sock

    def dump(
        self, what: str, request: bytes, decode: Callable[[bytes, int, int], T | None], limit: int = ROUTES
    ) -> list[T]:
        """Everything one dump says; nothing, with the reason noted, when it is refused or malformed."""
        sock = self.sock
        try:
            found = sock.dump(request, decode, limit)
        except (OSError, Malformed) as e:
            self._failed(what, e)
            return []
        if sock.limited or sock.interrupted:
            self._note(
                f"all {what}", "too many; the first ones are here" if sock.limited else "they keep changing", "limit"
            )
            sock.limited = sock.interrupted = 0
        return found

    def part(self, what: str, read: Callable[[], T], default: T) -> T:
        """``read()``, or ``default`` with the reason noted."""
        try:
            return read()
        except (OSError, Malformed) as e:
            self._failed(what, e)
        return default

    def ask(self, what: str, request: bytes, decode: Callable[[bytes, int, int], T | None]) -> T | None:
        """The answer to one question; None, with the reason noted, when it is refused or malformed."""
        try:
            return self.sock.ask(request, decode)
        except (OSError, Malformed) as e:
            self._failed(what, e)
            return None

    def _failed(self, what: str, e: OSError | Malformed) -> None:
        if isinstance(e, Malformed):
            self._note(what, str(e), "malformed")
        elif e.errno not in _ABSENT:
            self.missing.append(refused(f"{what} of {self.where}", e))

    def _note(self, what: str, why: str, code: str) -> None:
        self.missing.append(Missing(what=f"{what} of {self.where}", why=why, code=code))


def refused(what: str, e: OSError) -> Missing:
    """An errno as a Missing."""
    code = "permission" if e.errno in (errno.EPERM, errno.EACCES) else "absent"
    if e.errno in (errno.ENOENT, errno.ESRCH, errno.ENODEV):
        code = "vanished"
    if e.errno in (errno.EAGAIN, errno.ETIMEDOUT):
        code = "timeout"
    name = errno.errorcode.get(e.errno or 0, "error")
    how = AS_ROOT if code == "permission" else ""
    return Missing(what=what, why=f"{e.strerror or e} ({name})", how=how, code=code)


def read(
    identity: str, where: str, names: tuple[str, ...], detail: Detail, features: Features, meet: Meet = alone
) -> NetnsSnapshot:
    """The namespace this thread stands in. ``meet`` gets its links while a socket is open there (Peers.meet).

    Raises OSError only when no netlink socket can be opened at all.
    """
    with NetlinkSocket(NETLINK_ROUTE) as sock:
        reader = Reader(where, sock)
        if detail == "light":
            made = _light(reader, identity, where, names)
            meet(sock, identity, made.links)
            return made
        links, sysctls = links_of(reader)
        meet(sock, identity, links)
        return full(reader, identity, names, links, sysctls, features)


def full(
    reader: Reader,
    identity: str,
    names: tuple[str, ...],
    links: list[Link],
    sysctls: dict[str, str],
    features: Features,
) -> NetnsSnapshot:
    """Everything, of the namespace this thread stands in and whose ``links`` were read (:func:`links_of`)."""
    where = reader.where
    sysctls.update(of_all(reader))
    routes, exceptions = _routes(reader)
    addresses = reader.dump("addresses", rtnl.addresses(), rtnl_near.address)
    rules = _rules(reader)
    neighbours = reader.dump("neighbours", rtnl.neighbours(), rtnl_near.neighbour, NEIGHBOURS)
    fdb = _fdb(reader, links)
    links = _vlans(reader, links)
    sysctls.update(procfs.sysctls(_asked(links, rules, sysctls)))
    known = reader.part("offload features", features.read, dict[int, dict[str, bool]]())
    links = _apart(reader, links, features)
    states, policies = _ipsec(reader, features)
    filters, lacking = tables(where)
    return NetnsSnapshot(
        id=identity,
        where=where,
        names=names,
        cookie=reader.sock.cookie(),
        links=tuple(replace(link, features=known.get(link.index), driver=features.driver(link)) for link in links),
        addresses=tuple(addresses),
        routes=routes,
        rules=rules,
        exceptions=exceptions,
        neighbours=tuple(neighbours),
        fdb=fdb,
        tables=filters,
        xfrm_states=states,
        xfrm_policies=policies,
        sysctls=sysctls,
        missing=(*reader.missing, *lacking),
    )


def _asked(links: Iterable[Link], rules: Iterable[PolicyRule], known: Mapping[str, str]) -> list[str]:
    """The sysctls that can matter here."""
    names = list(SYSCTLS)
    if any(link.kind == "bridge" for link in links):
        names += BRIDGE_SYSCTLS
    if any(rule.mark or rule.mark_mask for rule in rules):
        names += MARK_SYSCTLS
    if any(value == "1" and key.endswith((".ip_forward", ".forwarding")) for key, value in known.items()):
        names += FORWARDING_SYSCTLS
    return names


def _apart(reader: Reader, links: list[Link], features: Features) -> list[Link]:
    """With what generic netlink knows of WireGuard, L2TP and Open vSwitch."""
    made: list[Link] = []
    if any(not link.kind and not link.loopback for link in links):
        unsaid: dict[str, apart.Facts] = {}
        wires = reader.part("sessions of L2TP", partial(apart.of_l2tp, features.families), unsaid)
        links = [replace(x, kind="l2tp", info=wires[x.name]) if x.name in wires else x for x in links]
    ports: dict[str, ovs.Vport] = {}
    for link in links:
        if link.kind == "wireguard":
            ask = partial(apart.of_wireguard, features.families, link.index)
            link = replace(link, wireguard=reader.part(f"peers of {link.name}", ask, None))
        elif link.kind == "openvswitch" and link.name == DATAPATH:
            ask_ports = partial(apart.of_switch, features.families, link.index)
            none: dict[str, ovs.Vport] = {}
            ports |= reader.part("ports of Open vSwitch", ask_ports, none)
        made.append(link)
    return apart.with_ports(made, ports) if ports else made


def _ipsec(reader: Reader, features: Features) -> tuple[tuple[XfrmState, ...], tuple[XfrmPolicy, ...]]:
    if features.ipsec is None:
        features.ipsec = apart.has_ipsec()
    return reader.part("IPsec", apart.ipsec, _NO_IPSEC) if features.ipsec else _NO_IPSEC


_NO_IPSEC: tuple[tuple[XfrmState, ...], tuple[XfrmPolicy, ...]] = ((), ())
DATAPATH = "ovs-system"  # the device of the kernel's datapath, whatever the bridges on it are called (dpif-netlink.c)


def _light(reader: Reader, identity: str, where: str, names: tuple[str, ...]) -> NetnsSnapshot:
    """Links, addresses and the main tables: what a scan of a thousand namespaces can afford first."""
    links = reader.dump("links", rtnl.links(), rtnl_link.link)
    addresses = reader.dump("addresses", rtnl.addresses(), rtnl_near.address)
    routes = reader.dump("routes", rtnl.routes(0, table=rtnl.TABLE_MAIN), rtnl_route.route)
    return NetnsSnapshot(
        id=identity,
        where=where,
        names=names,
        links=tuple(links),
        addresses=tuple(addresses),
        routes=tuple(r for r in routes if isinstance(r, Route)),
        missing=tuple(reader.missing),
    )


def links_of(reader: Reader) -> tuple[list[Link], dict[str, str]]:
    """All links, and their sysctls."""
    found = reader.dump("links", rtnl.links(), rtnl_link.read)
    sysctls: dict[str, str] = {}
    for one in found:
        sysctls.update(one.sysctls)
    return [one.link for one in found], sysctls


def of_all(reader: Reader, families: Iterable[int] = (rtnl.AF_INET, rtnl.AF_INET6)) -> dict[str, str]:
    """Forwarding and rp_filter of all devices."""
    found: dict[str, str] = {}
    for family in families:
        found.update(reader.ask("settings", rtnl_conf.of_all(family), rtnl_conf.sysctls) or {})
    return found


def _rules(reader: Reader) -> tuple[PolicyRule, ...]:
    """Of both families; others (multicast routing) are dumped with them."""
    found = reader.dump("routing rules", rtnl.rules(rtnl.AF_UNSPEC), rtnl_route.rule)
    return tuple(r for r in found if r.family in (4, 6))


def _fdb(reader: Reader, links: list[Link]) -> tuple[FdbEntry, ...]:
    """Only where something forwards by MAC: without a bridge or a vxlan the table holds multicast filters alone."""
    if not any(link.kind in ("bridge", "vxlan") for link in links):
        return ()
    return tuple(reader.dump("forwarding entries", rtnl.fdb(), rtnl_near.fdb, NEIGHBOURS))


def _routes(reader: Reader) -> tuple[tuple[Route, ...], tuple[PmtuException, ...]]:
    """Routes of all tables and cached path MTUs, of both families."""
    read: list[Decoded] = reader.dump("routes", rtnl.routes(rtnl.AF_UNSPEC), rtnl_route.route)
    routes = [r for r in read if not isinstance(r, PmtuException)]
    read = reader.dump("path MTU exceptions", rtnl.routes(rtnl.AF_UNSPEC, cached=True), rtnl_route.route)
    # one may be dumped once for each way of its route
    exceptions = tuple(dict.fromkeys(e for e in read if isinstance(e, PmtuException)))
    objects: dict[int, rtnl_route.Ways] = {}
    if any(isinstance(r, rtnl_route.Indirect) for r in routes):
        objects = {w.id: w for w in reader.dump("next hop objects", rtnl.nexthops(), rtnl_route.nexthop)}
    resolved = [rtnl_route.resolve(r, objects) if isinstance(r, rtnl_route.Indirect) else r for r in routes]
    return tuple(r for r in resolved if r is not None), exceptions


def _vlans(reader: Reader, links: list[Link]) -> list[Link]:
    """VLANs of bridge ports, asked for only where a bridge looks at them."""
    filtering = {link.index for link in links if link.vlan_filtering}
    if not filtering:
        return links
    request = rtnl.links(rtnl.AF_BRIDGE, rtnl.FILTER_BRVLAN_COMPRESSED)
    found = {v.link: v for v in reader.dump("bridge VLANs", request, rtnl_link.vlans)}
    made: list[Link] = []
    for link in links:
        vlans = found.get(link.index)
        if vlans and link.bridge_port and link.master in filtering:
            link = replace(link, bridge_port=replace(link.bridge_port, pvid=vlans.pvid, vlans=vlans.vids))
        elif vlans and link.index in filtering:  # the bridge's own door to the host
            link = replace(link, info={**link.info, "pvid": vlans.pvid or 0, "vlans": " ".join(map(str, vlans.vids))})
        made.append(link)
    return made


def tables_at(fd: int | None) -> tuple[Table, ...] | None:
    """Packet filters of a namespace (None: ours) as they are now; None: not all of them can be read."""
    try:
        with netns.inside(fd):
            found, missing = tables("")
    except OSError:
        return None
    return None if missing else found


def tables(where: str) -> tuple[tuple[Table, ...], tuple[Missing, ...]]:
    """Packet filters of the namespace this thread stands in, with their counters."""
    try:
        from pathfit.observe.filters import read_tables
    except ImportError as e:
        return (), (Missing(what=f"filters of {where}", why=f"no reader for them: {e}", code="unsupported"),)
    try:
        return read_tables()
    except OSError as e:
        return (), (refused(f"filters of {where}", e),)
    except Malformed as e:
        return (), (Missing(what=f"filters of {where}", why=str(e), code="malformed"),)
