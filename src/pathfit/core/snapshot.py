"""The state of one host: what observe/ reads and model/ walks.

The unit of reading, change, cache and difference is the :class:`NetnsSnapshot`, identified by the host's boot id
and the namespace's (device, inode). ``missing`` holds what could not be read, and why.
"""

from pathfit.core.base import Value
from pathfit.core.engine import Engine
from pathfit.core.evidence_base import Missing
from pathfit.core.filters import Table
from pathfit.core.net import Family
from pathfit.core.node import NodeFacts

SCHEMA = "pathfit.snapshot/1"


class Vxlan(Value, frozen=True, kw_only=True):
    """A VXLAN device (drivers/net/vxlan). ``df``: 0 unset, 1 set, 2 inherit (IFLA_VXLAN_DF)."""

    vni: int
    local: str | None = None
    remote: str | None = None  # default destination; a multicast group when it is one
    lower: int = 0  # ifindex of IFLA_VXLAN_LINK, 0 = none
    port: int = 4789
    ttl: int = 0
    df: int = 0
    learning: bool = True
    collect_metadata: bool = False  # external / OVS mode: the flow is set by somebody else
    udp_csum: bool = True
    gbp: bool = False
    gpe: bool = False  # carries packets and no frames (IFLA_VXLAN_GPE)


class WireguardPeer(Value, frozen=True, kw_only=True):
    """One peer (WGPEER_A_*). ``public_key`` in base64: a name, no secret. ``endpoint`` None: it has not called yet."""

    public_key: str
    endpoint: str | None = None  # address its outer packets go to
    port: int = 0
    allowed: tuple[str, ...] = ()  # "198.18.0.0/16": inner addresses that belong to it


class Wireguard(Value, frozen=True, kw_only=True):
    """A WireGuard device (generic netlink "wireguard", WGDEVICE_A_*), without its private key."""

    public_key: str = ""
    port: int = 0  # it listens on
    mark: int = 0  # of its outer packets (fwmark)
    peers: tuple[WireguardPeer, ...] = ()


class BridgePort(Value, frozen=True, kw_only=True):
    """What the bridge knows of one port: ``state`` 3 = forwarding (BR_STATE_*)."""

    state: int = 3
    hairpin: bool = False
    learning: bool = True
    flood: bool = True
    isolated: bool = False
    pvid: int | None = None
    vlans: tuple[int, ...] = ()


class Link(Value, frozen=True, kw_only=True):
    """One network device. ``kind`` is IFLA_INFO_KIND ("veth", "bridge", "vxlan", …; "" = physical or loopback)."""

    index: int
    name: str
    mtu: int
    kind: str = ""
    mac: str = ""  # "02:42:ac:11:00:02"
    up: bool = True  # IFF_UP
    carrier: bool = True  # IFF_LOWER_UP
    loopback: bool = False
    arp: bool = True  # not IFF_NOARP
    pointopoint: bool = False
    arphrd: int = 1
    peer: int = 0  # IFLA_LINK: the veth's other half or the lower device; in ``peer_netns`` when that is set
    peer_nsid: int | None = None  # IFLA_LINK_NETNSID as this namespace numbers it
    peer_ns: str | None = (
        None  # NetnsSnapshot.id of the peer's namespace; None = this one when peer_nsid is None, else unknown
    )
    master: int = 0  # bridge, bond or vrf this is a port of
    bridge_port: BridgePort | None = None
    vlan_filtering: bool = False  # of a bridge
    nf_call_iptables: bool = False  # of a bridge (IFLA_BR_NF_CALL_IPTABLES), besides the sysctl
    vxlan: Vxlan | None = None
    wireguard: Wireguard | None = None  # None: no such device, or its peers could not be read
    info: dict[str, str | int | bool] = {}  # other kinds: typed facts by name, e.g. {"vlan_id": 7, "local": …}
    features: dict[str, bool] | None = None  # "tso", "gso", "gro", "lro", "tx-checksum", "ufo"; None = not read
    driver: str | None = None
    holder: str | None = None  # process that holds a tun/tap, "openvpn[812]"
    holder_config: str | None = None  # file or socket it was configured by, where that is certain
    qdisc: str = ""
    group: int = 0
    gso_max_size: int | None = None
    xdp: bool = False


class Address(Value, frozen=True, kw_only=True):
    """An address on a link."""

    link: int
    address: str
    prefix: int
    scope: int = 0  # RT_SCOPE_*: 0 global, 253 link, 254 host
    peer: str | None = None  # IFA_ADDRESS where it differs (point-to-point)
    flags: int = 0  # IFA_F_*
    tentative: bool = False


class NextHop(Value, frozen=True, kw_only=True):
    """One way of a route."""

    link: int
    via: str | None = None
    weight: int = 1
    onlink: bool = False
    dead: bool = False
    encap: str | None = (
        None  # lightweight tunnel (RTA_ENCAP_TYPE): mpls ip ip6 seg6 bpf …; what it adds is known of mpls alone
    )
    labels: int = 0  # MPLS labels it puts on, four bytes each


class Route(Value, frozen=True, kw_only=True):
    """One route. ``dst`` "" with ``prefix`` 0 = default. ``hops`` empty for blackhole and friends."""

    family: Family
    table: int
    dst: str
    prefix: int
    hops: tuple[NextHop, ...] = ()
    type: str = "unicast"  # RTN_*: unicast local broadcast multicast anycast blackhole unreachable prohibit throw nat
    scope: int = 0
    prefsrc: str | None = None
    metric: int = 0
    tos: int = 0
    mtu: int | None = None
    mtu_lock: bool = False
    advmss: int | None = None
    initcwnd: int | None = None
    protocol: int = 0  # RTPROT_*
    src: str = ""  # source-specific (IPv6 subtrees)
    src_prefix: int = 0
    object: int = 0  # id of the next hop object (`ip nexthop`) that ``hops`` were taken from


class PolicyRule(Value, frozen=True, kw_only=True):
    """One entry of `ip rule`. ``action``: lookup, blackhole, unreachable, prohibit, goto, nop."""

    family: Family
    priority: int
    table: int = 0
    action: str = "lookup"
    src: str = ""
    src_prefix: int = 0
    dst: str = ""
    dst_prefix: int = 0
    iif: str | None = None
    oif: str | None = None
    mark: int = 0
    mark_mask: int = 0
    tos: int = 0
    proto: int = 0
    sport: tuple[int, int] | None = None
    dport: tuple[int, int] | None = None
    uid: tuple[int, int] | None = None
    invert: bool = False
    suppress_prefix: int | None = None
    goto: int = 0
    l3mdev: bool = False  # the table is that of the packet's VRF
    opaque: tuple[str, ...] = ()  # selectors we do not understand: whether it matches is unknown


class PmtuException(Value, frozen=True, kw_only=True):
    """A cached path MTU (`ip route show cache`; struct fib_nh_exception, rt6_exception)."""

    family: Family
    dst: str
    mtu: int
    link: int = 0
    via: str | None = None
    expires: float | None = None  # seconds left; None = does not expire or unknown
    locked: bool = False
    src: str = ""


class Neighbour(Value, frozen=True, kw_only=True):
    """An ARP or NDP entry. ``state`` one of NUD_*: reachable stale delay probe failed incomplete permanent noarp."""

    link: int
    address: str
    mac: str | None = None
    state: str = "reachable"
    proxy: bool = False


class FdbEntry(Value, frozen=True, kw_only=True):
    """A forwarding entry of a bridge (``port`` set) or VXLAN device (``remote`` set)."""

    link: int  # the device the entry belongs to (bridge port, or the vxlan device itself)
    mac: str
    remote: str | None = None  # VXLAN destination
    remote_port: int = 0
    remote_vni: int | None = None
    vlan: int | None = None
    state: str = "reachable"  # permanent, reachable (learned), stale, static
    own: bool = False  # NTF_SELF: in the device's own table; otherwise the master bridge's


class XfrmState(Value, frozen=True, kw_only=True):
    """An IPsec security association (`ip xfrm state`), without its keys. ``cipher``: of ESP, by the kernel's name."""

    family: Family
    src: str
    dst: str
    spi: int
    protocol: str = "esp"  # esp, ah, comp
    mode: str = "tunnel"  # tunnel, transport, beet, …
    cipher: str = ""  # "rfc4106(gcm(aes))", "cbc(aes)"
    auth: str = ""  # "hmac(sha256)"; "" with a cipher that authenticates
    icv_bits: int | None = None  # of the check value; None = as the algorithm's default
    inner: Family | None = None  # of the packets it takes (its selector); None = ``family``
    any_family: bool = False  # carries inner packets of the other family as well (XFRM_STATE_AF_UNSPEC)
    pmtudisc: bool = True  # the outer packet has DF when the inner one has (not XFRM_STATE_NOPMTUDISC)
    encap: str = ""  # "udp": NAT traversal
    encap_sport: int = 0
    encap_dport: int = 0
    reqid: int = 0
    if_id: int = 0
    mark: int = 0


class XfrmTemplate(Value, frozen=True, kw_only=True):
    """What a policy wants packets to be wrapped into."""

    src: str
    dst: str
    protocol: str = "esp"
    mode: str = "tunnel"
    reqid: int = 0
    optional: bool = False


class XfrmPolicy(Value, frozen=True, kw_only=True):
    """An IPsec policy (`ip xfrm policy`): what is wrapped. ``src``/``dst`` "" = any; ports 0 = any."""

    family: Family
    direction: str  # in, out, fwd
    src: str = ""
    src_prefix: int = 0
    dst: str = ""
    dst_prefix: int = 0
    proto: int = 0
    sport: int = 0
    dport: int = 0
    priority: int = 0
    block: bool = False
    templates: tuple[XfrmTemplate, ...] = ()
    if_id: int = 0
    mark: int = 0


class Process(Value, frozen=True, kw_only=True):
    """A process that lives in a namespace; enough to name it."""

    pid: int
    name: str
    inside_pid: int = 0
    container: str | None = None  # id read from its cgroup path, when it has one


class NetnsSnapshot(Value, frozen=True, kw_only=True):
    """One network namespace. ``where`` is a WHERE that can be pasted into --from.

    ``sysctls`` keeps paths below /proc/sys/net with dots for slashes only at our names, e.g. "ipv4.ip_forward",
    "ipv4.conf.all.rp_filter", "ipv4.conf.eth0.forwarding", "ipv4.tcp_mtu_probing", "bridge.bridge-nf-call-iptables".
    A device name with a dot keeps it (split from both ends). Only those the model or a rule reads are collected.
    """

    id: str  # "4:4026532008": device and inode of the nsfs file
    where: str  # "netns:NAME", "pid:N", "netns:/path", "host"
    names: tuple[str, ...] = ()  # other WHEREs of the same namespace
    cookie: int | None = None
    links: tuple[Link, ...] = ()
    addresses: tuple[Address, ...] = ()
    routes: tuple[Route, ...] = ()
    rules: tuple[PolicyRule, ...] = ()
    exceptions: tuple[PmtuException, ...] = ()
    neighbours: tuple[Neighbour, ...] = ()
    fdb: tuple[FdbEntry, ...] = ()
    tables: tuple[Table, ...] = ()
    xfrm_states: tuple[XfrmState, ...] = ()
    xfrm_policies: tuple[XfrmPolicy, ...] = ()
    sysctls: dict[str, str] = {}
    processes: tuple[Process, ...] = ()
    missing: tuple[Missing, ...] = ()
    outline: bool = False  # only links, addresses and main routes were read: no link leads there from the source
    plain: bool = False  # read lightly, and checks showed that nothing else is there: no filters, no rules of its own


class Kernel(Value, frozen=True, kw_only=True):
    """`uname` and what else decides behaviour."""

    release: str
    machine: str = ""
    system: str = "Linux"


class HostSnapshot(Value, frozen=True, kw_only=True):
    """One host as seen by whoever ran pathfit there. ``complete``: all namespaces could be looked for."""

    schema: str  # SCHEMA, always written
    version: str = ""  # of the pathfit that wrote a file of it
    host: str
    boot_id: str = ""
    kernel: Kernel = Kernel(release="")
    namespaces: tuple[NetnsSnapshot, ...] = ()
    own: str = ""  # id of the namespace pathfit ran in
    complete: bool = True
    workloads: tuple[dict[str, str], ...] = ()
    engines: tuple[Engine, ...] = ()
    nodes: tuple[NodeFacts, ...] = ()
    missing: tuple[Missing, ...] = ()
    sysctls: dict[str, str] = {}  # those that are not per namespace
    taken: float | None = None  # seconds since the epoch when a file of it was written; None = not known
