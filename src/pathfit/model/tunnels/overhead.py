"""What encapsulations cost: the one table of headers, default MTUs and what happens to packets that do not fit.

Measured on kernels 5.10 to 7.2 (identical there), layer by layer, those of :data:`MEASURED`; the others are what the
kernel's code says. docs/overhead.md is made from it. Everything is a pure function of frozen values.

Sizes are bytes of IP packet, its header included. A :class:`Layer` is one encapsulation; a stack is written innermost
first. ``room`` is the largest packet (or payload of a frame) that the layer underneath carries.

What happens to an IP packet with DF (or of IPv6) that is larger than what fits, where the device's MTU lets it in
(made on the host of the tunnel; :mod:`~pathfit.model.tunnels.tunnel` knows about forwarded and bridged ones):

=============== ====================================================================================================
error           the send fails at once (EMSGSIZE); where there is a device its MTU cannot be raised
learned         the first one is lost, the path MTU is learned from it, and the next send fails
fragmented      the outer packet is sent in fragments, and nothing is learned
both            it arrives in fragments, and the path MTU is learned (skb_tunnel_check_pmtu)
silent          it is lost, and nobody is told
stream          there is no such packet: all of them go into one stream of bytes
unknown         not measured
=============== ====================================================================================================
"""

from collections.abc import Mapping
from typing import Literal, NamedTuple

import msgspec

from pathfit.core.net import IP_HEADER, Family

TooBig = Literal["error", "learned", "fragmented", "both", "silent", "stream", "unknown"]
Default = Literal["below", "usual", "fixed", "none"]
Part = tuple[str, int]  # a header's name, its bytes

USUAL_MTU = 1500  # ETH_DATA_LEN: what a device gets that looks at nothing underneath
SMALLEST_MTU = {4: 68, 6: 1280}  # IPV4_MIN_MTU, IPV6_MIN_MTU
LARGEST_MTU = 65535  # IP_MAX_MTU
ETHERNET, UDP = ("Ethernet", 14), ("UDP", 8)
ENCAP_LIMIT = 8  # destination options header with the tunnel encapsulation limit (RFC 2473 section 4.1.1)
TAG = 4  # 802.1Q


class Kind(NamedTuple):
    """One row. ``families``: outer IP headers there are, () = none (it adds to the frame, not to a packet).

    ``default``: the MTU a new device gets - "below": what is underneath less the headers, at least ``floor``;
    "usual": 1500 whatever is underneath; "fixed": ``fixed`` whatever is underneath; "none": there is no device.
    ``align``: data and a trailer of two bytes are padded to a multiple of it (ESP). ``pads``: data is padded to a
    multiple of it, but not above the device's MTU (WireGuard). ``cap``: never more than this, whatever the room.
    ``ethernet``: carries frames, so that what is in them (a VLAN tag) takes room.
    """

    headers: tuple[Part, ...]
    families: tuple[Family, ...] = (4, 6)
    default: Default = "below"
    too_big: TooBig = "learned"
    too_big_v6: TooBig | None = None
    options: tuple[str, ...] = ()
    fixed: int = 0
    floor: int = SMALLEST_MTU[4]
    align: int = 0
    pads: int = 0
    cap: int = LARGEST_MTU
    user: bool = False  # a program moves the packets: the kernel shows a tun or tap device and nothing of this
    source: str = ""

    @property
    def ethernet(self) -> bool:
        return ETHERNET in self.headers


_GRE = ("key", "csum", "seq", "fou", "gue", "ignore-df", "nopmtudisc", "noencaplimit")
_IP = ("fou", "gue", "nopmtudisc")
_IV8, _TAG16 = ("IV", 8), ("ICV", 16)
_TRAILER = ("ESP trailer", 2)  # pad length and next header (RFC 4303 section 2); padding comes on top
_ESP = ("ESP", 8)
_SUITE = ("transport", "natt", "if")

KINDS: dict[str, Kind] = {
    "vxlan": Kind((UDP, ("VXLAN", 8), ETHERNET), too_big="error", options=("nodev", "gpe", "df"),
                  source="vxlan_config_apply, skb_tunnel_check_pmtu"),
    "geneve": Kind((UDP, ("Geneve", 8), ETHERNET), too_big="both", too_big_v6="learned", options=("opt", "df"),
                   source="geneve_link_config, skb_tunnel_check_pmtu"),
    "gre": Kind((("GRE", 4),), options=_GRE, source="ip_tunnel_bind_dev, tnl_update_pmtu; v6: ip6_tnl_xmit"),
    "gretap": Kind((("GRE", 4), ETHERNET), options=_GRE, source="ip_tunnel_bind_dev, tnl_update_pmtu"),
    "erspan": Kind((("GRE", 8), ("ERSPAN", 8), ETHERNET), too_big_v6="silent", options=("v2", "noencaplimit"),
                   source="erspan_tunnel_init, erspan_hdr_len; v6: the path MTU learned forgets ERSPAN's header"),
    "ipip": Kind((), (4,), options=_IP, source="ip_tunnel_bind_dev, tnl_update_pmtu"),
    "sit": Kind((), (4,), options=_IP, floor=SMALLEST_MTU[6], source="ipip6_tunnel_bind_dev, ipip6_tunnel_xmit"),
    "ip6tnl": Kind((), (6,), options=("fou", "gue", "noencaplimit"), floor=SMALLEST_MTU[6],
                   source="ip6_tnl_link_config, ip6_tnl_xmit"),
    "wireguard": Kind((UDP, ("WireGuard", 16), ("tag", 16)), default="fixed", fixed=1420, too_big="fragmented", pads=16,
                      source="wg_setup, calculate_skb_padding"),
    "vlan": Kind((("802.1Q", TAG),), (), too_big="error", source="vlan_dev_change_mtu"),
    "qinq": Kind((("802.1ad", TAG), ("802.1Q", TAG)), (), too_big="error", source="vlan_dev_change_mtu"),
    "macvlan": Kind((), (), too_big="error", source="macvlan_change_mtu"),
    "ipvlan": Kind((), (), too_big="silent", source="ipvlan_adjust_mtu"),
    "macsec": Kind((("SecTAG", 16), _TAG16), (), too_big="error", source="macsec_newlink, macsec_extra_len"),
    "esp-gcm": Kind((_ESP, _IV8, _TRAILER, _TAG16), default="none", too_big="error", options=_SUITE, align=4,
                    source="xfrm_state_mtu, xfrm4_tunnel_check_size; if: xfrmi_xmit2"),
    "esp-cbc": Kind((_ESP, ("IV", 16), _TRAILER, _TAG16), default="none", too_big="error", options=("sha1", *_SUITE),
                    align=16, source="xfrm_state_mtu, xfrm4_tunnel_check_size; if: xfrmi_xmit2"),
    "mpls": Kind((), (), default="none", too_big="error", options=("labels",), source="mpls_build_state, mpls_xmit"),
    "l2tp": Kind((UDP, ("L2TPv3", 12), ETHERNET), too_big="fragmented", options=("cookie", "nol2spec"),
                 source="l2tp_eth_adjust_mtu, l2tp_xmit_skb"),
    "l2tp-ip": Kind((("L2TPv3", 8), ETHERNET), too_big="fragmented", options=("cookie", "nol2spec"),
                    source="l2tp_eth_adjust_mtu, l2tp_xmit_skb"),
    "pppoe": Kind((("PPPoE", 6), ("PPP", 2)), (), too_big="unknown", source="RFC 2516 section 7"),
    "ovs-vxlan": Kind((UDP, ("VXLAN", 8), ETHERNET), default="usual", options=("netdev",),
                      source="skb_tunnel_check_pmtu"),
    "ovs-geneve": Kind((UDP, ("Geneve", 8), ETHERNET), default="usual", options=("opt", "netdev"),
                       source="skb_tunnel_check_pmtu"),
    "ovs-gre": Kind((("GRE", 4), ETHERNET), default="usual", too_big_v6="silent", options=("key", "netdev"),
                    source="tnl_update_pmtu; v6: the path MTU learned is 4 too high with a key"),
    "wireguard-go": Kind((UDP, ("WireGuard", 16), ("tag", 16)), default="fixed", fixed=1420, too_big="fragmented",
                         pads=16, user=True, source="wireguard-go, calculatePaddingSize"),
    "openvpn": Kind((UDP, ("OpenVPN", 8), ("tag", 16)), default="usual", too_big="fragmented", user=True,
                    source="OpenVPN 2.6, UDP, AES-256-GCM"),
    "openvpn-tcp": Kind((), default="usual", too_big="stream", user=True, source="OpenVPN 2.6, TCP"),
    "libipsec": Kind((UDP, _ESP, _IV8, _TRAILER, _TAG16), default="fixed", fixed=1400, too_big="silent", align=4,
                     cap=1400, user=True, source="strongSwan kernel-libipsec"),
}  # fmt: skip

MEASURED = frozenset((  # layers whose every figure was seen, on kernels or with programs
    "vxlan", "vxlan,nodev", "vxlan,df=set", "vxlan,df=inherit", "geneve", "geneve,df=set", "gre", "gre,nopmtudisc",
    "gre,nopmtudisc,ignore-df", "gre,key,csum,seq", "gretap", "erspan", "ipip", "sit", "ipip,fou", "ipip,gue",
    "vxlan6", "vxlan6,nodev", "geneve6", "gre6", "gre6,key,csum,seq", "gre6,noencaplimit", "gretap6", "ip6tnl",
    "ip6tnl,noencaplimit", "vlan", "qinq", "macvlan", "ipvlan", "macsec", "wireguard", "wireguard6", "esp-gcm",
    "esp-gcm6", "esp-gcm,transport", "esp-gcm6,transport", "esp-cbc", "esp-gcm,natt", "esp-gcm,if", "mpls",
    "mpls,labels=2", "l2tp", "l2tp-ip", "l2tp6", "ovs-vxlan", "ovs-vxlan6", "ovs-geneve", "ovs-geneve6",
    "ovs-gre,key", "ovs-gre6,key", "ovs-vxlan,netdev", "ovs-vxlan6,netdev", "ovs-geneve,netdev", "ovs-geneve6,netdev",
    "ovs-gre,key,netdev", "ovs-gre6,key,netdev", "wireguard-go", "wireguard-go6", "openvpn", "openvpn6",
    "openvpn-tcp", "libipsec",
))  # fmt: skip

ALIASES: dict[str, str] = {
    "wg": "wireguard", "ip6gre": "gre6", "ip6gretap": "gretap6", "ip6erspan": "erspan6",
    "ip6ip6": "ip6tnl", "ipip6": "ip6tnl", "6in4": "sit", "xfrm": "esp-gcm,if",
    "802.1q": "vlan", "802.1ad": "vlan", "ovs-ip6gre": "ovs-gre6", "esp": "esp-gcm",
    "esp-chacha": "esp-gcm", "esp-cbc-sha256": "esp-cbc", "esp-cbc-sha1": "esp-cbc,sha1",
    "macvtap": "macvlan", "ipvtap": "ipvlan",
}  # fmt: skip
NUMBERS: dict[str, tuple[int, int, int]] = {  # options with a number: smallest, largest, step
    "opt": (0, 252, 4),  # Geneve options, in words of four bytes (RFC 8926)
    "labels": (1, 16, 1),
    "cookie": (0, 8, 4),
    "mtu": (68, 65535, 1),
}
DF = ("unset", "set", "inherit")
BESIDE = frozenset({"vlan", "qinq", "macvlan", "ipvlan"})  # frames stay frames of what is underneath
V6_ONLY = frozenset({"noencaplimit"})
PER_WORD = {"key": ("key", 4), "csum": ("checksum", 4), "seq": ("sequence", 4), "fou": UDP, "gue": ("UDP, GUE", 12)}


class Layer(msgspec.Struct, frozen=True):
    """One encapsulation: a row of :data:`KINDS`, the family of its outer header, options. ``mtu``: set by hand.

    ``options`` holds flags as 1, numbers as they are, ``df`` as 0 unset, 1 set, 2 inherit.
    """

    kind: str
    family: Family = 4
    options: Mapping[str, int] = {}
    mtu: int | None = None

    @property
    def row(self) -> Kind:
        return KINDS[self.kind]

    def has(self, option: str) -> bool:
        return bool(self.options.get(option))

    @property
    def measured(self) -> bool:
        """Were these figures seen, or are they what the code says?"""
        return msgspec.structs.replace(self, mtu=None).name in MEASURED

    @property
    def name(self) -> str:
        """As it is written in a stack."""
        words = [k if v == 1 and k not in NUMBERS and k != "df" else f"{k}={_shown(k, v)}"
                 for k, v in self.options.items() if v]  # fmt: skip
        six = "6" if self.family == 6 and self.kind != "ip6tnl" and self.row.families else ""
        own = [f"mtu={self.mtu}"] if self.mtu else []
        return ",".join([self.kind + six, *words, *own])


def _shown(option: str, value: int) -> str:
    return DF[value] if option == "df" else str(value)


def parts(layer: Layer) -> tuple[Part, ...]:
    """The headers between the inner IP packet and what is underneath, outermost first; padding is not among them."""
    row, family = layer.row, layer.family
    found = list(row.headers)
    if layer.has("gpe"):
        found.remove(ETHERNET)
    if layer.has("nol2spec"):
        found = [(name, size - 4) if name == "L2TPv3" else (name, size) for name, size in found]
    at = 1 if found and found[0][0] == "GRE" else 0
    more = [PER_WORD[x] for x in ("key", "csum", "seq") if layer.has(x)]
    found[at:at] = more
    under = [PER_WORD[x] for x in ("fou", "gue") if layer.has(x)]
    if layer.has("natt"):
        under.append(UDP)
    found = under + found
    if layer.has("opt"):
        found.insert(2, ("options", layer.options["opt"]))
    if layer.has("cookie"):
        found.insert(len(found) - 1, ("cookie", layer.options["cookie"]))
    if layer.has("sha1"):  # HMAC-SHA1-96 (RFC 2404) in place of HMAC-SHA256-128
        found = [(name, 12) if name == "ICV" else (name, size) for name, size in found]
    if layer.has("v2"):
        found = [(name, size + 4) if name == "ERSPAN" else (name, size) for name, size in found]
    if layer.kind == "mpls":
        found = [("MPLS", 4)] * layer.options.get("labels", 1)
    limit = family == 6 and (layer.kind in ("gre", "gretap", "erspan", "ip6tnl")) and not layer.has("noencaplimit")
    if limit:
        found.insert(0, ("encapsulation limit", ENCAP_LIMIT))
    if row.families and not layer.has("transport") and row.too_big != "stream":
        found.insert(0, (f"IPv{family}", IP_HEADER[family]))
    return tuple(found)


def header(layer: Layer, below: "Layer | None" = None) -> int:
    """Bytes a layer takes of each packet, at least (padding comes on top).

    A VLAN tag takes none of a packet on a cable (every device has room for it), but 4 bytes inside a tunnel that
    carries frames: ``below`` is the layer underneath.
    """
    if layer.kind in ("vlan", "qinq") and (below is None or not below.row.ethernet):
        return 0
    return sum(size for _, size in parts(layer))


def cost(kind: str, family: Family) -> int | None:
    """Bytes a kind takes of each packet with an outer header of ``family``, without options; None: there is no such."""
    row = KINDS.get(kind)
    return header(Layer(kind, family)) if row is not None and family in row.families else None


def inner(layer: Layer, room: int, mtu: int | None = None, below: Layer | None = None) -> int:
    """The largest inner packet whose outer one is at most ``room``. ``mtu``: of the tunnel's device (None: set right).

    WireGuard pads to 16 bytes but not above its MTU (calculate_skb_padding): with an MTU that fits, all fits; with one
    that is too large only multiples of 16 do. ESP pads data and trailer to its block (xfrm_state_mtu).
    """
    row = layer.row
    if row.too_big == "stream":
        return LARGEST_MTU
    left = room - header(layer, below)
    if row.align:
        own = IP_HEADER[layer.family] if layer.has("transport") else 0  # its own IP header stays outside
        left = own + (left + _TRAILER[1] - own) // row.align * row.align - _TRAILER[1]
    elif row.pads and mtu is not None and mtu > left:
        left = left // row.pads * row.pads
    return max(0, min(left, row.cap))


def outer(layer: Layer, size: int, mtu: int | None = None, below: Layer | None = None) -> int:
    """The outer packet of an inner one of ``size`` bytes, padding included; the inverse of :func:`inner`."""
    row = layer.row
    if row.too_big == "stream":
        return size
    if row.align:
        own = IP_HEADER[layer.family] if layer.has("transport") else 0
        body = size - own + _TRAILER[1]
        size = own - (-body // row.align) * row.align - _TRAILER[1]
    elif row.pads and (mtu is None or size <= mtu):
        padded = -(-size // row.pads) * row.pads
        size = padded if mtu is None else min(mtu, padded)
    return size + header(layer, below)


def has_device(layer: Layer) -> bool:
    return layer.row.default != "none" or layer.has("if")


def default_mtu(layer: Layer, lower: int) -> int | None:
    """The MTU the kernel gives the device when it is made over a device of MTU ``lower``; None: there is no device.

    GRE, IPIP, SIT and IP6TNL without a remote end know no lower device: then it is as over 1500.
    """
    row = layer.row
    if not has_device(layer):
        return None
    if row.default == "usual" or layer.has("nodev") or layer.has("if"):
        return USUAL_MTU
    if row.default == "fixed":
        return row.fixed
    return min(LARGEST_MTU, max(row.floor, lower - (0 if layer.kind in ("vlan", "qinq") else header(layer))))


def mtu_ceiling(layer: Layer, lower: int) -> int | None:
    """The largest MTU the kernel lets this device have over one of MTU ``lower``; None: any."""
    if layer.row.too_big != "error" or not has_device(layer) or layer.has("nodev") or layer.has("if"):
        return None
    return lower - (0 if layer.kind in ("vlan", "qinq") else header(layer))


def too_big(layer: Layer) -> TooBig:
    """What happens to a packet with DF that does not fit, made where the tunnel begins (see the table above)."""
    row = layer.row
    said = row.too_big_v6 if layer.family == 6 and row.too_big_v6 else row.too_big
    if layer.has("netdev"):
        return "silent"
    if layer.has("if"):
        return "learned"
    if layer.kind == "vxlan" and layer.has("nodev"):
        said = "both" if layer.family == 4 else "learned"
    if said == "both" and layer.has("df"):  # set or inherit: the outer packet of one with DF has it as well
        return "learned"
    if layer.kind == "ovs-gre" and not layer.has("key"):
        return "learned"
    return "fragmented" if layer.has("ignore-df") and layer.family == 4 else said


def learned(layer: Layer, room: int, mtu: int) -> int | None:
    """The path MTU the inner sender learns from the first packet that does not fit; None: none.

    It is what fits, except: OVS over IPv6 GRE with a key forgets the key's 4 bytes, so that what is 1 to 4 bytes too
    large stays lost (measured), and ERSPAN over IPv6 those of its own header; with ``ignore-df`` GRE remembers its own
    device's MTU.
    """
    said = too_big(layer)
    if layer.kind == "erspan" and layer.family == 6:
        return inner(layer, room) + dict(parts(layer))["ERSPAN"]
    if layer.kind == "ovs-gre" and layer.family == 6 and layer.has("key") and not layer.has("netdev"):
        return inner(layer, room) + 4
    if layer.has("ignore-df") and layer.family == 4:
        return mtu
    return inner(layer, room) if said in ("learned", "both") else None


class Fit(msgspec.Struct, frozen=True):
    """One layer of a stack over an underlay.

    ``gets`` the largest packet that the layer below carries as it is made; ``header`` bytes of it this layer takes;
    ``mtu`` of its device (None: no device), ``given`` by hand or else the kernel's default; ``fits`` the largest
    packet that is carried whole when this device's MTU allows it; ``largest`` = what is really carried whole, the MTU
    considered; ``best`` = what could be if every MTU in the stack were set right, which is also its right MTU.
    """

    layer: Layer
    headers: tuple[Part, ...]
    header: int
    gets: int
    fits: int
    largest: int
    best: int
    mtu: int | None
    given: bool
    too_big: TooBig
    learned: int | None

    @property
    def too_large(self) -> bool:
        """Does the device accept packets that do not fit?"""
        return self.mtu is not None and self.mtu > self.fits


def fits(stack: tuple[Layer, ...], underlay: int) -> tuple[Fit, ...]:
    """Every layer of ``stack`` (innermost first) over devices of MTU ``underlay``, in the same order.

    Devices have the MTU they are given, or the kernel's default over the *device* underneath - which is what the
    kernel looks at, be it right or not.
    """
    found: list[Fit] = []
    device, carried, best = underlay, underlay, underlay
    below: Layer | None = None
    for layer in reversed(stack):
        mtu = layer.mtu if layer.mtu is not None else default_mtu(layer, device)
        best = inner(layer, best, None, below)
        whole = inner(layer, carried, mtu, below)
        largest = whole if mtu is None else min(whole, mtu)
        row = layer.row
        if row.too_big == "stream":
            whole = best = largest
        heads = parts(layer) if header(layer, below) else ()
        knows = None if mtu is None or mtu <= whole else learned(layer, carried, mtu)
        found.append(Fit(
            layer, heads, header(layer, below), carried, whole, largest, best, mtu, layer.mtu is not None,
            too_big(layer), knows,
        ))  # fmt: skip
        device, carried = mtu if mtu is not None else device, largest
        below = below if layer.kind in BESIDE else layer
    return tuple(reversed(found))


HOLDERS: dict[str, tuple[Layer, ...]] = {  # programs that move packets of a tun or tap device themselves
    "openvpn": (Layer("openvpn"),),
    "wireguard-go": (Layer("wireguard-go"),),
    "boringtun": (Layer("wireguard-go"),),
    "tailscaled": (Layer("wireguard-go", mtu=1280),),
    "charon": (Layer("libipsec"),),
    "ovs-vswitchd": (
        Layer("ovs-vxlan", options={"netdev": 1}),
        Layer("ovs-geneve", options={"netdev": 1}),
        Layer("ovs-gre", options={"key": 1, "netdev": 1}),
    ),
}


def resembling(holder: str) -> str:
    """A hint for people about the device of a program ("openvpn[812]"): what such ones carry; "" = nothing known."""
    layers = HOLDERS.get(holder.partition("[")[0], ())
    if not layers:
        return ""
    said = " or ".join(f"{x.kind} {fits((x,), USUAL_MTU)[0].fits}" for x in layers)
    return f"; over {USUAL_MTU} bytes {said} would fit, which is a hint and no proof"
