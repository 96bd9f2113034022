"""What a node's own files say about its network: cluster overlays, Weave's connections, what a cloud told an instance.

Three witnesses beside the kernel, kept apart from what the kernel says itself (:mod:`pathfit.core.snapshot`):

* :class:`Overlay` - one maker's cluster network, as its configuration and run-time files describe it;
* :class:`WeaveConnection` - one peer of Weave Net, by its status page;
* :class:`InstanceNetwork` - the MTU that a cloud or a DHCP server gave to one device of this machine.

Only what a rule or a page reads is kept: no keys, no passwords, no user data, for snapshots are shown to others.
"""

from typing import Literal

from pathfit.core.base import Value
from pathfit.core.evidence_base import Missing
from pathfit.core.net import Family

Maker = Literal["flannel", "calico", "cilium", "weave", "antrea", "kindnet", "ovn-kubernetes", "neutron"]
Backend = Literal["vxlan", "geneve", "ipip", "wireguard", "gre", "udp", "ipsec", "host-gw", "none"]
Encryption = Literal["", "ipsec", "wireguard"]
Meaning = Literal["inner", "underlay"]
Distribution = Literal["", "k3s", "rke2", "microk8s", "openshift", "microshift", "kind"]
Source = Literal["metadata", "cloud-init", "dhclient", "networkd", "NetworkManager", "dhcpcd"]


class Overlay(Value, frozen=True, kw_only=True):
    """One maker's network on this node. Everything optional is None or "" when no file said it.

    ``mtu`` is the number somebody wrote into ``option`` (bytes), as written; ``meaning`` says what that option means
    to this maker: the containers' MTU ("inner") or that of the network below ("underlay", the maker deducts).
    ``granted`` is what the maker gives to containers, by its own files (flannel's FLANNEL_MTU, /var/lib/calico/mtu).
    ``deducted`` is what this maker takes off for its encapsulation (:mod:`pathfit.model.tunnels.makers`), None when
    unknown. ``uplink`` is the device it was told to use (``told``) or found itself, ``detected`` the MTU that it found
    there. ``devices`` are those of its names that exist in ``NodeFacts.netns``. ``outer``: family of the outer packets.
    ``text`` is its whole configuration where a repair must write it again whole (flannel's net-conf.json, a key of a
    ConfigMap); "" for any other, and where it holds a key.
    """

    maker: Maker
    source: str = ""  # the file that says most; "" = told from its devices or its process alone
    backend: Backend | None = None
    mtu: int | None = None
    meaning: Meaning = "inner"
    option: str = ""
    granted: int | None = None
    devices: tuple[str, ...] = ()
    uplink: str = ""
    told: bool = False
    detected: int | None = None
    encryption: Encryption = ""
    deducted: int | None = None
    outer: Family | None = None
    facts: dict[str, str | int | bool] = {}  # typed facts by name, e.g. {"vni": 1, "port": 8472}
    text: str = ""


class WeaveConnection(Value, frozen=True, kw_only=True):
    """One connection of Weave Net. ``mode`` "fastdp" (VXLAN in the kernel), "sleeve" (UDP in user space, slow) or ""
    (not up). ``state``: established, pending, connecting, retrying, waiting, failed. ``mtu``: as Weave says (bytes)."""

    peer: str  # "8a:12:…(node2)"
    address: str = ""
    port: int = 0
    mode: Literal["fastdp", "sleeve", ""] = ""
    state: str = ""
    mtu: int | None = None
    encrypted: bool = False


class InstanceNetwork(Value, frozen=True, kw_only=True):
    """What a machine was told about one of its devices. ``mtu`` in bytes; None: it was told nothing about it.

    ``link`` is the device's name, ``index`` its number, ``mac`` its address ("fa:16:3e:…"), whichever the file has.
    """

    source: Source
    file: str
    link: str = ""
    index: int = 0
    mac: str = ""
    mtu: int | None = None
    kind: str = ""  # OpenStack's link type: ovs, bridge, vif, phy, bond, vlan, …


class NodeFacts(Value, frozen=True, kw_only=True):
    """One node: the machine itself, a lab host or a node in a container (kind). ``netns`` is the NetnsSnapshot.id of
    the namespace that its devices live in, ``where`` its WHERE; ``root`` what it sees as "/" (None: what we see).
    ``address``: that of the node in its cluster, as its kubelet was told (--node-ip); "" when it was not.
    ``distribution``: who packed its Kubernetes, by the folders it leaves; "" when it is none of those known."""

    netns: str = ""
    where: str = "host"
    root: str | None = None
    address: str = ""
    distribution: Distribution = ""
    overlays: tuple[Overlay, ...] = ()
    weave: tuple[WeaveConnection, ...] = ()
    instance: tuple[InstanceNetwork, ...] = ()
    missing: tuple[Missing, ...] = ()
