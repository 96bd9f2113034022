"""What a cloud told this machine about its devices, from what cloud-init kept and from a config drive.

* network_data.json (OpenStack metadata; nova, doc/api_schemas/network_data.json): ``links`` with ``type``, ``mtu``
  (null: not known) and ``ethernet_mac_address``. It lies on a config drive (openstack/latest/), and cloud-init keeps it
  inside /run/cloud-init/instance-data.json as ``ds.network_json`` (cloudinit/sources, persist_instance_data());
* /run/cloud-init/network-config.json: what cloud-init made of it, version 1 (``config``: a list) or 2 (netplan's form).

User data, keys and addresses are not kept.
"""

import re
from collections.abc import Iterator
from typing import Any

from pathfit.core.node import InstanceNetwork, Source
from pathfit.observe.nodes import files
from pathfit.observe.nodes.place import Node

INSTANCE = "/run/cloud-init/instance-data.json"
APPLIED = "/run/cloud-init/network-config.json"
DRIVES = ("/media/configdrive", "/mnt/config", "/mnt/configdrive", "/config-2")
DATA = "openstack/latest/network_data.json"
_MAC = re.compile(r"(?:[0-9a-f]{2}:){5}[0-9a-f]{2}\Z")


def read(node: Node) -> tuple[InstanceNetwork, ...]:
    """One element for each device that the cloud spoke of; the metadata's own word before what was made of it."""
    found: list[InstanceNetwork] = []
    for drive in DRIVES:
        path = f"{drive}/{DATA}"
        if raw := node.root.json(path):
            found += _links(raw, path, "metadata")
    if raw := node.root.json(INSTANCE):
        ds = files.table(raw.get("ds"))
        for key in ("network_json", "networkdata"):
            found += _links(files.table(ds.get(key)), INSTANCE, "metadata")
    if raw := node.root.json(APPLIED):
        found += _applied(raw)
    return tuple(found)


def _links(raw: dict[str, Any], path: str, source: Source) -> Iterator[InstanceNetwork]:
    for one in files.rows(raw.get("links")):
        mac = _mac(one.get("ethernet_mac_address"))
        kind = files.word(one.get("type"), 32)
        if mac:
            yield InstanceNetwork(source=source, file=path, mac=mac, mtu=files.mtu(one.get("mtu")), kind=kind)


def _applied(raw: dict[str, Any]) -> Iterator[InstanceNetwork]:
    for one in files.rows(raw.get("config")):  # version 1
        if one.get("type") == "physical":
            yield _device(files.word(one.get("name"), 15), _mac(one.get("mac_address")), one.get("mtu"))
    for name, value in list(files.table(raw.get("ethernets")).items())[: files.MANY]:  # version 2
        one = files.table(value)
        match = files.table(one.get("match"))
        link = files.word(one.get("set-name"), 15) or ("" if match else files.word(name, 15))
        yield _device(link, _mac(match.get("macaddress")), one.get("mtu"))


def _device(link: str, mac: str, mtu: object) -> InstanceNetwork:
    return InstanceNetwork(source="cloud-init", file=APPLIED, link=link, mac=mac, mtu=files.mtu(mtu))


def _mac(value: object) -> str:
    text = files.word(value, 17).lower().replace("-", ":")
    return text if _MAC.match(text) else ""
