"""Makers of cluster networks: what each *deducts* for its encapsulation, and what that *really takes*.

The real sizes come from the one table of :mod:`pathfit.model.tunnels.overhead`: a maker's backend is a stack of its
layers (:func:`stack`: OVN's Geneve option, a GRE key, ESP). What a maker deducts is its own arithmetic, which has
changed over its versions: so there may be several numbers, the newest first. Sources, all read in the makers'
repositories:

* flannel: backend/vxlan/device.go and vxlan_network.go (``encapOverhead`` 50, for IPv6 as well), backend/wireguard
  (``overhead`` 80), backend/ipip (20), backend/udp (28), backend/ipsec (``ipsecOverhead`` 77); host-gw nothing;
* Calico: felix/dataplane/linux/int_dataplane.go ConfigureDefaultMTUs (IPIP 20, VXLAN 50 / 70, WireGuard 60 / 80);
* Cilium: pkg/mtu/mtu.go (``TunnelOverhead`` 50, ``EncryptionIPsecOverhead`` 77, ``WireguardOverhead`` 80, 95 since
  1.19.5; before 1.14 WireGuard was deducted *instead of* the tunnel, not besides it);
* Antrea: pkg/agent/config/node_config.go (VXLAN 50, Geneve 50, GRE 42, before 38; 20 more with IPv6 outside;
  WireGuard 80 and no tunnel, ESP 38 besides it);
* ovn-kubernetes: 100 by its installers, and no less than 58 (IPv6 78) by its own check (``GeneveHeaderLengthIPv4``);
* Weave: net/bridge.go, a fixed 1376 = 1460 - 50 - 34, whatever the network below;
* kindnet: images/kindnetd/cmd/kindnetd/cni.go, the MTU of eth0 itself;
* neutron: neutron_lib/constants.py (VXLAN 30, GRE 22, Geneve ``max_header_size``, each plus the IP header), and the
  ``get_mtu()`` of plugins/ml2/drivers/type_tunnel.py, type_flat.py, type_vlan.py, held against by its own unit tests.

Bytes everywhere. Pure.
"""

from typing import NamedTuple

from pathfit.core.net import IP_HEADER, Family
from pathfit.core.node import Backend, Encryption, Maker, Meaning
from pathfit.model.tunnels import overhead
from pathfit.model.tunnels.overhead import Layer

ESP_ANTREA = 38  # ``IPSecESPOverhead``: the most that ESP can add there, padding included
OVN_OPTION = 8  # one Geneve option with a datapath and two ports, header included (ovn-architecture(7))
UDP_HEADERS = 28  # IPv4 and UDP: flannel's oldest backend puts packets into them as they are
WEAVE_MTU = 1376  # WEAVE_MTU without a word from anybody, with the fast datapath
WEAVE_BRIDGE_MTU = 65535  # without the fast datapath: sleeve cuts packets itself
CALICO_FALLBACK = 1460  # findHostMTU(): what no device matches is taken for this
CALICO_PATTERN = r"^((en|wl|ww|sl|ib)[Popsx].*|(eth|wlan|wwan).*)"  # MTUIfacePattern's default
ANTREA_MOST = 65000  # an OVS tunnel port takes no more
NEUTRON_MTU = 1500  # global_physnet_mtu's default; path_mtu 0 means that one
MEANINGS: dict[Maker, Meaning] = {
    "flannel": "underlay",
    "cilium": "underlay",
    "neutron": "underlay",
    "calico": "inner",
    "weave": "inner",
    "antrea": "inner",
    "ovn-kubernetes": "inner",
    "kindnet": "inner",
}
"""Whose size each maker's MTU option means: the network's below, or the containers'."""
_NEUTRON = {"vxlan": 30, "gre": 22, "geneve": 30}


class Taken(NamedTuple):
    """One backend of one maker: ``deducts`` (newest version first) and what is ``real``; None: not known."""

    deducts: tuple[int, ...]
    real: int | None


class Setting(NamedTuple):
    """What to write (``value``) so that containers get ``effective``, the IP MTU of what they send; ``below``: what the
    network underneath carries, as far as the limit says. Bytes."""

    value: int
    effective: int
    below: int


def taken(
    maker: Maker,
    backend: Backend | None,
    family: Family = 4,
    encryption: Encryption = "",
    header: int = 0,
    ovn: bool = False,
) -> Taken:
    """What this maker takes off with this backend, and what the encapsulation really needs.

    ``family`` is that of the outer packets. ``header``: neutron's max_header_size for Geneve (30, 38 with OVN);
    ``ovn``: its Geneve is OVN's, whatever that says.
    """
    if backend is None:
        return Taken((), None)
    if maker == "neutron":
        own = header if backend == "geneve" and header else _NEUTRON.get(backend, 0)
        return Taken((own + IP_HEADER[family],) if own else (0,), real(maker, backend, family, encryption, ovn))
    return Taken(_DEDUCTS[maker](backend, family, encryption), real(maker, backend, family, encryption))


def deductions(
    maker: Maker, backend: Backend | None, family: Family = 4, encryption: Encryption = ""
) -> tuple[int, ...]:
    """The numbers that versions of this maker take off, newest first; none when it is not known."""
    return taken(maker, backend, family, encryption).deducts


def expected_inner(
    maker: Maker, backend: Backend | None, underlay_mtu: int, family: Family = 4, encryption: Encryption = ""
) -> int | None:
    """The MTU that this maker gives to containers above ``underlay_mtu``; None when that is not known."""
    if maker == "weave":
        return WEAVE_MTU if backend == "vxlan" else WEAVE_BRIDGE_MTU if backend == "udp" else None
    found = deductions(maker, backend, family, encryption)
    if not found:
        return None
    inner = underlay_mtu - found[0]
    return min(inner, ANTREA_MOST) if maker == "antrea" and found[0] else inner


def fitting_inner(
    maker: Maker,
    backend: Backend | None,
    underlay_mtu: int,
    family: Family = 4,
    encryption: Encryption = "",
    ovn: bool = False,
) -> int | None:
    """The largest inner packet that really fits into ``underlay_mtu`` (not cut, not lost); None when not known.

    WireGuard pads data to 16 bytes, but never above its device's MTU: what is said holds for a device of that MTU.
    """
    layers = stack(maker, backend, family, encryption, ovn)
    if layers is None:
        return underlay_mtu - UDP_HEADERS if (maker, backend, family) == ("flannel", "udp", 4) else None
    return overhead.fits(layers, underlay_mtu)[0].best if layers else underlay_mtu


def real(
    maker: Maker, backend: Backend | None, family: Family = 4, encryption: Encryption = "", ovn: bool = False
) -> int | None:
    """Bytes between an inner IP packet and the outer one, padding not counted; None when that is not known."""
    layers = stack(maker, backend, family, encryption, ovn)
    if layers is None:
        return UDP_HEADERS if (maker, backend, family) == ("flannel", "udp", 4) else None
    return sum(overhead.header(x) for x in layers)


def stack(
    maker: Maker, backend: Backend | None, family: Family = 4, encryption: Encryption = "", ovn: bool = False
) -> tuple[Layer, ...] | None:
    """What is put around an inner packet, innermost first, in the terms of :mod:`pathfit.model.tunnels.overhead`; ()
    nothing, None: not known (weave's sleeve and flannel's udp are programs of their own)."""
    around: dict[Backend | None, tuple[Layer, ...]] = {
        "vxlan": (Layer("vxlan", family),),
        "geneve": (Layer("geneve", family, {"opt": OVN_OPTION} if ovn or maker == "ovn-kubernetes" else {}),),
        "gre": (Layer("ovs-gre", family, {"key": 1}),),
        "wireguard": (Layer("wireguard", family),),
        "host-gw": (),
        "none": (),
    }
    if family == 4:
        around |= {"ipip": (Layer("ipip"),), "ipsec": (Layer("esp-cbc"),)}
    layers = around.get(backend)
    if layers is None or not encryption or backend in ("wireguard", "ipsec"):
        return layers
    if encryption == "wireguard":  # instead of the tunnel, but for Cilium, which has both
        return (*(layers if maker == "cilium" else ()), Layer("wireguard", family))
    if family == 6:
        return None
    if maker == "cilium":
        return (Layer("esp-gcm"), *layers)  # tunnel mode
    return (*layers, Layer("esp-gcm", 4, {"transport": 1})) if layers else None


def _flannel(backend: Backend, family: Family, encryption: Encryption) -> tuple[int, ...]:
    return {"vxlan": (50,), "wireguard": (80,), "ipip": (20,), "udp": (28,), "ipsec": (77,)}.get(backend, (0,))


def _calico(backend: Backend, family: Family, encryption: Encryption) -> tuple[int, ...]:
    if encryption == "wireguard" or backend == "wireguard":
        return (60 if family == 4 else 80,)
    return ({"ipip": 20, "vxlan": 50 if family == 4 else 70}.get(backend, 0),)


def _cilium(backend: Backend, family: Family, encryption: Encryption) -> tuple[int, ...]:
    tunnels = ((50,) if family == 4 else (70, 50)) if backend in ("vxlan", "geneve") else (0,)
    if encryption == "wireguard":
        whole = tuple(wg + t for t in tunnels for wg in (95, 80))
        return (*whole, 80) if tunnels != (0,) else whole
    return tuple(t + 77 for t in tunnels) if encryption == "ipsec" else tunnels


def _antrea(backend: Backend, family: Family, encryption: Encryption) -> tuple[int, ...]:
    if encryption == "wireguard":
        return (80, 60) if family == 4 else (80,)
    extra = 20 if family == 6 else 0
    found = {"vxlan": (50,), "geneve": (50,), "gre": (42, 38)}.get(backend)
    if found is None:
        return (0,)
    return tuple(n + extra + (ESP_ANTREA if encryption == "ipsec" else 0) for n in found)


def _ovn(backend: Backend, family: Family, encryption: Encryption) -> tuple[int, ...]:
    if backend != "geneve":
        return (0,)
    own = 58 if family == 4 else 78
    return (146,) if encryption == "ipsec" else (100, own)  # 46 more with IPsec (cluster-network-operator)


def _weave(backend: Backend, family: Family, encryption: Encryption) -> tuple[int, ...]:
    return ()  # a fixed number, see expected_inner()


def _kindnet(backend: Backend, family: Family, encryption: Encryption) -> tuple[int, ...]:
    return (0,)


_DEDUCTS = {
    "flannel": _flannel,
    "calico": _calico,
    "cilium": _cilium,
    "antrea": _antrea,
    "ovn-kubernetes": _ovn,
    "weave": _weave,
    "kindnet": _kindnet,
}


# --- the right setting ------------------------------------------------------------------------------------------------


def setting(
    maker: Maker,
    backend: Backend | None,
    limit: int | None,
    device: int | None,
    family: Family = 4,
    encryption: Encryption = "",
    deducted: int | None = None,
    margin: int = 0,
) -> Setting | None:
    """What to write into this maker's option: the largest value with which nothing of containers is too large.

    ``limit``: largest inner IP packet that is known to pass (measured, or a device on the way); ``device``: MTU of the
    device that the outer packets leave by. At least one of them must be known. ``deducted``: what this installation
    takes off where that shows (versions differ); ``margin``: what a distribution demands between the network and its
    containers, where that is more than the encapsulation needs. None where the encapsulation's size is not known.
    """
    needs = real(maker, backend, family, encryption)
    if needs is None or (limit is None and device is None):
        return None
    fits = fitting_inner(maker, backend, device, family, encryption) if device is not None else None
    inner = min(x for x in (limit, fits) if x is not None)
    below = device if device is not None and inner == fits else inner + needs
    if MEANINGS[maker] == "inner":
        value = min(inner, below - margin) if margin else inner
        return Setting(value, value, below)
    takes = deductions(maker, backend, family, encryption)
    off = deducted if deducted is not None else takes[0] if takes else needs
    value = min(below, inner + off)  # whoever takes off too little is told of less than there is
    return Setting(value, value - off, below)


# --- Weave -----------------------------------------------------------------------------------------------------------


def heartbeat(mtu: int, encrypted: bool = False) -> int:
    """Size of the IP packet that Weave's fast datapath must get through to be used at all (bytes). It has DF set.

    A frame of MTU + 14 in VXLAN is a packet of MTU + 50. Encrypted: 34 more by ESP, and its padding to four bytes
    (Weave's own documentation says 84 to 87).
    """
    size = mtu
    for layer in stack("weave", "vxlan", 4, "ipsec" if encrypted else "") or ():
        size = overhead.outer(layer, size)
    return size


# --- neutron ---------------------------------------------------------------------------------------------------------


def neutron_mtu(
    kind: str, global_physnet_mtu: int = NEUTRON_MTU, path_mtu: int = 0, family: Family = 4,
    header: int = 30, physical_network_mtu: int = 0,
) -> int | None:  # fmt: skip
    """The MTU that neutron gives a network of type ``kind`` ("vxlan", "gre", "geneve", "flat", "vlan", "local").

    All three options are *physical* values: the overhead is taken off by neutron itself, so an operator who writes the
    instances' MTU there has it taken off twice. An overlay network gets min(global_physnet_mtu, path_mtu), a provider
    network min(global_physnet_mtu, its entry in physical_network_mtus), 0 or less meaning "not set"; ``header`` is
    [ml2_type_geneve] max_header_size. None for an unknown type, and where nothing is set: neutron says 0 then, which
    is "no limit known" (get_mtu() in plugins/ml2/drivers/type_*.py; of a "local" network Ml2Plugin._get_network_mtu()
    takes the global value).
    """
    known = [n for n in (global_physnet_mtu, neutron_second(kind, path_mtu, physical_network_mtu)) if n > 0]
    base = min(known, default=0)
    if not base:
        return None
    if kind in ("flat", "vlan", "local"):
        return base
    own = header if kind == "geneve" else _NEUTRON.get(kind)
    return None if own is None else max(0, base - own - IP_HEADER[family])


def neutron_second(kind: str, path_mtu: int, physical_network_mtu: int) -> int:
    """The option that counts beside global_physnet_mtu for networks of this type (bytes; 0: none, or not set)."""
    return {"flat": physical_network_mtu, "vlan": physical_network_mtu, "local": 0}.get(kind, path_mtu)


__all__ = [
    "ANTREA_MOST", "CALICO_FALLBACK", "CALICO_PATTERN", "MEANINGS", "WEAVE_BRIDGE_MTU", "WEAVE_MTU", "Setting", "Taken",
    "deductions", "expected_inner", "fitting_inner", "heartbeat", "neutron_mtu", "real", "setting", "stack", "taken",
]  # fmt: skip
