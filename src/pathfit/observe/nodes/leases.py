"""The interface MTU that a DHCP server gave (option 26, RFC 2132 section 5.1), from what clients keep of their leases.

* dhclient: dhclient.leases(5), blocks ``lease { interface "eth0"; option interface-mtu 1450; … }``; the last of a
  device is the one in force;
* systemd-networkd: /run/systemd/netif/leases/INDEX, ``MTU=1450`` (sd-dhcp-lease.c, dhcp_lease_save());
* NetworkManager: /var/lib/NetworkManager/internal-UUID-DEVICE.lease in networkd's form (its client of today writes no
  MTU there), dhclient-UUID-DEVICE.lease in dhclient's;
* dhcpcd: /var/lib/dhcpcd/DEVICE.lease, the server's message itself (dhcpcd(8)).

A lease without the option is a fact as well: the device then keeps what it had (a virtio device what its host gave).
Leases in /var outlive their client: one that has ended says nothing (dhclient writes when; a message of dhcpcd's holds
for option 51, IP address lease time, from when its file was written).
"""

import re
from collections.abc import Iterator
from datetime import UTC, datetime

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
_EXPIRE = re.compile(r"\s*expire\s+(?:epoch\s+(\d{1,12})|\d\s+(\d{4}/\d\d?/\d\d?\s+\d\d:\d\d:\d\d))\s*;")
_MANAGED = re.compile(r"(?:internal|dhclient|dhcp6?)-[0-9a-f-]{36}-(.{1,15})\.lease\Z")


def read(node: Node) -> tuple[InstanceNetwork, ...]:
    """One element for each device that has a lease in one of those places."""
    return (*_dhclient(node), *_networkd(node), *_networkmanager(node), *_dhcpcd(node))


def _dhclient(node: Node) -> Iterator[InstanceNetwork]:
    for folder in DHCLIENT:
        for name in node.root.names(folder):
            if name.startswith("dhclient") and name.endswith((".leases", ".lease")):
                path = f"{folder}/{name}"
                yield from _blocks(node.root.text(path) or "", path, "dhclient", node.now)


def _blocks(text: str, path: str, source: Source, now: float) -> Iterator[InstanceNetwork]:
    last: dict[str, tuple[int | None, float]] = {}
    link, told, ends = "", None, now
    for line in text.splitlines():
        if line.startswith("lease"):
            link, told, ends = "", None, now
        elif (found := _INTERFACE.match(line)) is not None:
            link = found[1]
        elif (found := _OPTION.match(line)) is not None:
            told = files.mtu(found[1])
        elif (found := _EXPIRE.match(line)) is not None:
            ends = _seconds(found)
        elif line.startswith("}") and link:
            last[link] = told, ends
            link = ""
    for name, (mtu, ends) in last.items():
        if ends >= now:
            yield InstanceNetwork(source=source, file=path, link=name, mtu=mtu)


def _seconds(found: re.Match[str]) -> float:
    """When a lease ends: "expire epoch N", or a weekday and a time in UTC (dhclient.leases(5); "never" is no match)."""
    if found[1]:
        return float(found[1])
    try:
        return datetime.strptime(" ".join(found[2].split()), "%Y/%m/%d %H:%M:%S").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return 0.0  # no such day: what says so is not believed


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
            if "lease {" in text:
                yield from _blocks(text, f"{folder}/{name}", "NetworkManager", node.now)
            else:
                mtu = files.mtu(files.pairs(text).get("MTU"))
                yield InstanceNetwork(source="NetworkManager", file=f"{folder}/{name}", link=kind[1], mtu=mtu)


def _dhcpcd(node: Node) -> Iterator[InstanceNetwork]:
    for folder in DHCPCD:
        for name in node.root.names(folder):
            if not name.endswith(".lease") or name.startswith("."):
                continue
            message = node.root.data(f"{folder}/{name}")
            if message and dhcp.options(message) and not _over(node, f"{folder}/{name}", message):
                link = name.removesuffix(".lease").removeprefix("dhcpcd-").partition("-")[0]
                mac = ":".join(f"{b:02x}" for b in message[dhcp.HARDWARE]) if message[2] == 6 else ""
                yield InstanceNetwork(
                    source="dhcpcd", file=f"{folder}/{name}", link=link[:15], mac=mac, mtu=dhcp.interface_mtu(message)
                )


def _over(node: Node, path: str, message: bytes) -> bool:
    lasts, written = dhcp.lease_time(message), node.root.changed(path)
    return lasts is not None and written is not None and written + lasts < node.now
