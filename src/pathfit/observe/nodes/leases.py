"""The interface MTU that a DHCP server gave (option 26, RFC 2132 section 5.1), from what clients keep of their leases.

* dhclient: dhclient.leases(5), blocks ``lease { interface "eth0"; option interface-mtu 1450; … }``; the last of a
  device is the one in force;
* systemd-networkd: /run/systemd/netif/leases/INDEX, ``MTU=1450`` (sd-dhcp-lease.c, dhcp_lease_save());
* NetworkManager: /var/lib/NetworkManager/internal-UUID-DEVICE.lease in networkd's form (its client of today writes no
  MTU there), dhclient-UUID-DEVICE.lease in dhclient's;
* dhcpcd: /var/lib/dhcpcd/DEVICE.lease, the server's message itself (dhcpcd(8)).

A lease without the option is a fact as well: the device then keeps what it had (a virtio device what its host gave).
"""

import re
from collections.abc import Iterator

from pathfit.core.node import InstanceNetwork, Source
from pathfit.observe.nodes import files
from pathfit.observe.nodes.place import Node
from pathfit.wire import dhcp

DHCLIENT = ("/var/lib/dhcp", "/var/lib/dhclient", "/var/lib/dhcp3")
NETWORKD = "/run/systemd/netif/leases"
MANAGERS = ("/var/lib/NetworkManager", "/run/NetworkManager")
DHCPCD = ("/var/lib/dhcpcd", "/var/lib/dhcpcd5", "/var/db/dhcpcd")
_INTERFACE = re.compile(r'\s*interface\s+"([^"]{1,15})"\s*;')
_OPTION = re.compile(r"\s*option\s+interface-mtu\s+(\d{1,6})\s*;")
_MANAGED = re.compile(r"(?:internal|dhclient|dhcp6?)-[0-9a-f-]{36}-(.{1,15})\.lease\Z")


def read(node: Node) -> tuple[InstanceNetwork, ...]:
    """One element for each device that has a lease in one of those places."""
    return (*_dhclient(node), *_networkd(node), *_networkmanager(node), *_dhcpcd(node))


def _dhclient(node: Node) -> Iterator[InstanceNetwork]:
    for folder in DHCLIENT:
        for name in node.root.names(folder):
            if name.startswith("dhclient") and name.endswith((".leases", ".lease")):
                yield from _blocks(node.root.text(f"{folder}/{name}") or "", f"{folder}/{name}", "dhclient")


def _blocks(text: str, path: str, source: Source) -> Iterator[InstanceNetwork]:
    last: dict[str, int | None] = {}
    link, told = "", None
    for line in text.splitlines():
        if line.startswith("lease"):
            link, told = "", None
        elif (found := _INTERFACE.match(line)) is not None:
            link = found[1]
        elif (found := _OPTION.match(line)) is not None:
            told = files.mtu(found[1])
        elif line.startswith("}") and link:
            last[link] = told
            link = ""
    for name, mtu in last.items():
        yield InstanceNetwork(source=source, file=path, link=name, mtu=mtu)


def _networkd(node: Node) -> Iterator[InstanceNetwork]:
    for name in node.root.names(NETWORKD):
        path = f"{NETWORKD}/{name}"
        if name.isdecimal() and len(name) < 10 and (text := node.root.text(path)):
            link = next((x for x in node.ns.links if x.index == int(name)), None)
            mtu = files.mtu(files.pairs(text).get("MTU"))
            yield InstanceNetwork(
                source="networkd", file=path, link=link.name if link else "", index=int(name), mtu=mtu
            )


def _networkmanager(node: Node) -> Iterator[InstanceNetwork]:
    for folder in MANAGERS:
        for name in node.root.names(folder):
            kind = _MANAGED.match(name)
            text = node.root.text(f"{folder}/{name}") if kind else None
            if kind is None or text is None:
                continue
            blocks = list(_blocks(text, f"{folder}/{name}", "NetworkManager"))
            yield from blocks
            if not blocks:
                mtu = files.mtu(files.pairs(text).get("MTU"))
                yield InstanceNetwork(source="NetworkManager", file=f"{folder}/{name}", link=kind[1], mtu=mtu)


def _dhcpcd(node: Node) -> Iterator[InstanceNetwork]:
    for folder in DHCPCD:
        for name in node.root.names(folder):
            if not name.endswith(".lease") or name.startswith("."):
                continue
            message = node.root.data(f"{folder}/{name}")
            if message and dhcp.options(message):
                link = name.removesuffix(".lease").removeprefix("dhcpcd-").partition("-")[0]
                mac = ":".join(f"{b:02x}" for b in message[dhcp.HARDWARE]) if message[2] == 6 else ""
                yield InstanceNetwork(
                    source="dhcpcd", file=f"{folder}/{name}", link=link[:15], mac=mac, mtu=dhcp.interface_mtu(message)
                )
