"""The JSON of Docker's API as values (pure). Reference: Docker Engine API v1.41, docs.docker.com/engine/api.

What has the wrong shape is left out, field by field: an answer is a stranger's word. Go says null for an empty list.
"""

import ipaddress
from collections.abc import Iterable
from typing import Any

import msgspec

from pathfit.core.engine import Container, Endpoint, EngineNetwork, Node
from pathfit.model.runners import of_container
from pathfit.observe.engines.daemons import option

MTU = "com.docker.network.driver.mtu"
BRIDGE = "com.docker.network.bridge.name"
DEFAULT = "com.docker.network.bridge.default_bridge"
TEXT = 256  # characters kept of a name; Docker's own are shorter
MOST = 65_535  # bytes an MTU may say
EDITED = 64 << 10  # bytes of a network's configuration that are kept as text; they have one thousand
MANY = 10_000  # containers or networks kept of one engine
_ENCRYPTED = "encrypted"  # its presence counts, whatever it says (overlay driver, parseOptions)
_VNIS = "com.docker.network.driver.overlay.vxlanid_list"
_PROJECT = "com.docker.compose.project"


def text(value: object, limit: int = TEXT) -> str:
    """A string of at most ``limit`` characters; "" for anything else. What no terminal should be shown is escaped."""
    if not isinstance(value, str):
        return ""
    value = value[:limit]
    return value if value.isprintable() else value.encode("unicode_escape").decode("ascii")[:limit]


def kept(raw: bytes) -> str | None:
    """The text of a configuration that a repair may edit; None for one that is too large, or no text."""
    try:
        return raw.decode() if len(raw) <= EDITED else None
    except UnicodeDecodeError:
        return None


def table(value: object) -> dict[str, Any]:
    """A JSON object; an empty one for anything else."""
    return value if isinstance(value, dict) else {}


def rows(value: object) -> list[dict[str, Any]]:
    """The objects in a JSON list, at most MANY."""
    return [x for x in value[:MANY] if isinstance(x, dict)] if isinstance(value, list) else []


def number(value: object, most: int = 2**31) -> int | None:
    """A whole number from 0 to ``most``, written as one or in digits; None for anything else."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 12:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
        return None
    return value


def address(value: object) -> str:
    """A canonical address without its prefix, "" when it is none."""
    try:
        return str(ipaddress.ip_address(text(value).partition("/")[0]))
    except ValueError:
        return ""


def network(raw: dict[str, Any], members: Iterable[str] = ()) -> EngineNetwork:
    """One element of GET /networks. ``members``: ids of the containers in it that run, or are paused."""
    options = table(raw.get("Options"))
    labels = table(raw.get("Labels"))
    name = text(raw.get("Name"))
    driver = text(raw.get("Driver"))
    default = options.get(DEFAULT) == "true"
    subnets = (text(x.get("Subnet")) for x in rows(table(raw.get("IPAM")).get("Config")))
    return EngineNetwork(
        id=text(raw.get("Id")),
        name=name,
        driver=driver,
        mtu=number(options.get(MTU), MOST) or None,
        bridge=_bridge(driver, text(raw.get("Id")), text(options.get(BRIDGE), 15)),
        scope=text(raw.get("Scope")) or "local",
        subnets=tuple(s for s in subnets if s),
        internal=raw.get("Internal") is True,
        ingress=raw.get("Ingress") is True,
        default=default,
        members=tuple(members),
        compose_project=text(labels.get(_PROJECT)),
        compose_network=text(labels.get("com.docker.compose.network")),
        vnis=_vnis(options),
        encrypted=_ENCRYPTED in options,
        nodes=_nodes(raw),
    )


def _vnis(options: dict[str, Any]) -> tuple[int, ...]:
    """One VXLAN id for each subnet of an overlay, separated by commas."""
    told = (number(x.strip(), 2**24 - 1) for x in text(options.get(_VNIS), 4096).split(","))
    return tuple(x for x in told if x is not None)


def _nodes(raw: dict[str, Any]) -> tuple[Node, ...]:
    """Hosts with a member: "Peers", which this host has learned by gossip."""
    peers = ((text(x.get("Name")), address(x.get("IP"))) for x in rows(raw.get("Peers")))
    return tuple(Node(name=name, address=at) for name, at in peers if at)


def configured(config: str | None, key: str) -> str:
    """A string in the text of a daemon.json, "" when it is none or there is no sense in it."""
    return text(_object(config).get(key), 4096)


def network_mtu(config: str | None, argv: tuple[str, ...]) -> dict[str, int]:
    """MTU of networks made from now on, by driver: ``default-network-opts`` of daemon.json, or its flag
    `--default-network-opt DRIVER=com.docker.network.driver.mtu=N`. Given in both places the daemon does not start."""
    found: dict[str, int] = {}
    for driver, options in table(_object(config).get("default-network-opts")).items():
        value = table(options).get(MTU)
        if isinstance(value, str) and (mtu := number(value, MOST)):
            found[text(driver)] = mtu
    for word in option(argv, "--default-network-opt"):
        driver, _, pair = word.partition("=")
        key, _, value = pair.partition("=")
        if key == MTU and (mtu := number(value, MOST)):
            found[driver] = mtu
    return found


def _object(config: str | None) -> dict[str, Any]:
    try:
        return table(msgspec.json.decode(config or "{}"))
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return {}


def _bridge(driver: str, network_id: str, told: str) -> str:
    """The device of a bridge network: as its option says, else "br-" and 12 digits (libnetwork, bridge driver)."""
    return told or (f"br-{network_id[:12]}" if driver == "bridge" and network_id else "")


def container(raw: dict[str, Any], engine: str) -> Container:
    """One element of GET /containers/json."""
    labels = table(raw.get("Labels"))
    names = raw.get("Names")
    name = text(names[0]) if isinstance(names, list) and names else ""
    networks = table(table(raw.get("NetworkSettings")).get("Networks"))
    return Container(
        id=text(raw.get("Id")),
        name=name.removeprefix("/"),
        engine=engine,
        state=text(raw.get("State")),
        network_mode=text(table(raw.get("HostConfig")).get("NetworkMode")),
        endpoints=endpoints(networks),
        compose_project=text(labels.get(_PROJECT)),
        compose_service=text(labels.get("com.docker.compose.service")),
        compose_files=_files(labels),
        pod=pod(labels),
        sandbox=labels.get("io.kubernetes.docker.type") == "podsandbox",
        signs=of_container(text(raw.get("Image")), labels),
    )


def pod(labels: dict[str, Any]) -> str:
    """The pod of a container that a kubelet asked for: labels of dockershim and cri-dockerd, annotations of cri-o."""
    space, name = text(labels.get("io.kubernetes.pod.namespace")), text(labels.get("io.kubernetes.pod.name"))
    return f"{space}/{name}" if space and name else ""


def endpoints(networks: dict[str, Any]) -> tuple[Endpoint, ...]:
    """NetworkSettings.Networks of a container, which is an object by network name."""
    found = []
    for name, raw in list(networks.items())[:MANY]:
        one = table(raw)
        addresses = (address(one.get(key)) for key in ("IPAddress", "GlobalIPv6Address"))
        found.append(
            Endpoint(
                network=text(one.get("NetworkID")),
                name=text(name),
                addresses=tuple(a for a in addresses if a),
                mac=text(one.get("MacAddress"), 17).lower(),
            )
        )
    return tuple(found)


def _files(labels: dict[str, Any]) -> tuple[str, ...]:
    """Compose files as `docker compose` wrote them: separated by commas, relative ones in the project's folder."""
    folder = text(labels.get("com.docker.compose.project.working_dir"), 4096)
    told = text(labels.get("com.docker.compose.project.config_files"), 4096)
    return tuple(p if p.startswith("/") or not folder else f"{folder}/{p}" for p in told.split(",") if p)
