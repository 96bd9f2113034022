"""Networks made by CNI plugins: their configuration, and what libcni remembers of each container.

* /etc/cni/net.d/*.conflist (a list of plugins) and *.conf, *.json (one): containernetworking/cni, SPEC.md section 1;
* /var/lib/cni/results, /var/lib/cni/cache/results (cri-o): one file for each device of each container, written after
  ADD ("cniCacheV1", libcni/api.go). Versions before that wrote the bare result, which names no container.

Results of containers that ended badly stay behind: what a file says of a namespace holds only if it is there.
"""

import base64
import binascii
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any, NamedTuple

import msgspec
from msgspec.structs import replace

from pathfit.core.engine import Endpoint, EngineNetwork
from pathfit.host import within
from pathfit.observe.engines.daemons import Daemon
from pathfit.observe.engines.parse import MOST, address, kept, number, rows, table, text

CONFIGS = "/etc/cni/net.d"
RESULTS = ("/var/lib/cni/results", "/var/lib/cni/cache/results")
FILE = 256 * 1024  # bytes of one file
FILES = 4096  # of either kind
BYTES = 16 << 20  # of all files of a kind; a result has two thousand
ENDS = (".conflist", ".conf", ".json")
BRIDGES = {
    "bridge": "cni0",
    "flannel": "cni0",
}  # the device where none is named (plugins: bridge.go, flannel delegates)

EDITED = ("bridge", "ptp")  # whose MTU stands in this file alone: others are told by a maker's own program


class Attachment(NamedTuple):
    """A device that plugins gave to a container. ``container``: as the runtime called it. ``netns``: the path of the
    namespace, ``pod`` "NAMESPACE/NAME" where a kubelet asked for it. ``config``: the network's configuration then."""

    container: str
    endpoint: Endpoint
    netns: str = ""
    pod: str = ""
    config: EngineNetwork | None = None


def networks(daemon: Daemon, folder: str = CONFIGS) -> tuple[EngineNetwork, ...]:
    """Networks that are configured, in the order of their files. Never raises."""
    found = []
    for path, raw in _files(daemon, (folder,), ENDS):
        with suppress(ValueError):
            one = network(raw, path)
            found.append(replace(one, config=kept(raw)) if one.driver in EDITED else one)
    return tuple(found)


def attachments(daemon: Daemon) -> tuple[Attachment, ...]:
    """What libcni remembers. Never raises."""
    found = []
    for _, raw in _files(daemon, RESULTS, ("",)):
        with suppress(ValueError):
            if one := attachment(raw):
                found.append(one)
    return tuple(found)


def _files(daemon: Daemon, folders: Iterable[str], ends: tuple[str, ...]) -> Iterator[tuple[str, bytes]]:
    left, room = FILES, BYTES
    for folder in folders:
        names: list[str] = []
        with suppress(OSError, ValueError):
            names = [n for n in within.listed(daemon.root, folder) if n.endswith(ends)]
        for name in names[:left]:
            path, raw = f"{folder}/{name}", b""
            with suppress(OSError, ValueError):
                raw = within.read(daemon.root, path, FILE + 1)
            room -= len(raw)
            if room < 0:
                return
            if 0 < len(raw) <= FILE:
                yield path, raw
        left -= len(names[:left])


# --- pure ------------------------------------------------------------------------------------------------------------


def network(raw: bytes, path: str = "") -> EngineNetwork:
    """A configuration: of its plugins the first one makes the device, the others act on it. Raises ValueError."""
    told = _object(raw)
    plugins = rows(told.get("plugins")) or [told]
    first = plugins[0]
    driver = text(first.get("type"))
    name = text(told.get("name")) or text(first.get("name"))
    if not name or not driver:
        raise ValueError("it names no network or no plugin")
    delegate = table(first.get("delegate"))  # flannel's: what it hands on to the bridge plugin
    bridge = text(first.get("bridge"), 15) or text(delegate.get("bridge"), 15) or BRIDGES.get(driver, "")
    labels = table(table(told.get("args")).get("podman_labels"))
    return EngineNetwork(
        id=name,
        name=name,
        driver=driver,
        mtu=number(first.get("mtu"), MOST) or number(delegate.get("mtu"), MOST) or None,
        bridge=bridge,
        subnets=tuple(dict.fromkeys(_subnets(table(first.get("ipam"))))),
        file=path,
        compose_project=text(labels.get("com.docker.compose.project")),
        compose_network=text(labels.get("com.docker.compose.network")),
    )


def _subnets(ipam: dict[str, Any]) -> Iterator[str]:
    if one := text(ipam.get("subnet")):
        yield one
    ranges = ipam.get("ranges")
    for group in ranges[:64] if isinstance(ranges, list) else ():
        yield from (s for x in rows(group) if (s := text(x.get("subnet"))))


def attachment(raw: bytes) -> Attachment | None:
    """One cached result; None for one that names no container. Raises ValueError."""
    told = _object(raw)
    container, name = text(told.get("containerId")), text(told.get("networkName"))
    if told.get("kind") != "cniCacheV1" or not container or not name:
        return None
    link, result = text(told.get("ifName"), 15), table(told.get("result"))
    devices = rows(result.get("interfaces"))
    own = next((x for x in devices if text(x.get("name")) == link and text(x.get("sandbox"), 4096)), {})
    addresses = (address(x.get("address")) for x in rows(result.get("ips")))
    args = _arguments(told.get("cniArgs"))
    space, pod = args.get("K8S_POD_NAMESPACE", ""), args.get("K8S_POD_NAME", "")
    return Attachment(
        container=container,
        endpoint=Endpoint(
            network=name,
            name=name,
            addresses=tuple(a for a in addresses if a),
            mac=text(own.get("mac"), 17).lower(),
            link=link,
        ),
        netns=text(own.get("sandbox"), 4096),
        pod=f"{space}/{pod}" if space and pod else "",
        config=_config(told.get("config")),
    )


def _arguments(raw: object) -> dict[str, str]:
    """CNI_ARGS as libcni keeps them: pairs of words."""
    pairs = raw[:64] if isinstance(raw, list) else []
    return {text(p[0]): text(p[1]) for p in pairs if isinstance(p, list) and len(p) == 2}


def _config(raw: object) -> EngineNetwork | None:
    """The configuration that the cache keeps beside the result, base64 as Go writes bytes into JSON."""
    try:
        return network(base64.b64decode(raw, validate=True)) if isinstance(raw, str) else None
    except (ValueError, binascii.Error):
        return None


def _object(raw: bytes) -> dict[str, Any]:
    """A JSON object. Raises ValueError."""
    try:
        told = msgspec.json.decode(raw)
    except (msgspec.DecodeError, RecursionError, UnicodeError) as e:
        raise ValueError(f"it is no JSON ({e})") from None
    if not isinstance(told, dict):
        raise ValueError("it is no JSON object")
    return told


def joined(configured: Iterable[EngineNetwork], attached: Iterable[Attachment]) -> tuple[EngineNetwork, ...]:
    """The networks that are configured, and those whose configuration went but which containers are still in."""
    found = {n.name: n for n in configured}
    for one in attached:
        if one.config is not None and one.config.name == one.endpoint.network:
            found.setdefault(one.config.name, one.config)
    return tuple(found.values())
