"""Podman's networks as their files have them (netavark; containers/common, libnetwork/netavark).

One JSON file a network: /etc/containers/networks/NAME.json for root, GRAPHROOT/networks for others. The default
network "podman" has a file only when somebody changed it.
"""

from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import msgspec
from msgspec.structs import replace

from pathfit.core.engine import EngineNetwork
from pathfit.host import within
from pathfit.observe.engines.daemons import Daemon
from pathfit.observe.engines.parse import MOST, kept, number, rows, table, text

FOLDERS = ("/etc/containers/networks", "/run/containers/networks")
DEFAULT = "podman"
BRIDGE = "podman0"
FILE = 256 * 1024  # bytes of one file
FILES = 256


def networks(daemon: Daemon, folders: Iterable[str] = FOLDERS) -> tuple[EngineNetwork, ...]:
    """Networks that have a file, and the default one. Never raises."""
    found: dict[str, EngineNetwork] = {}
    for folder in folders:
        names: list[str] = []
        with suppress(OSError, ValueError):
            names = [n for n in within.listed(daemon.root, folder) if n.endswith(".json")]
        for name in names[:FILES]:
            path = f"{folder}/{name}"
            with suppress(OSError, ValueError, RecursionError, msgspec.DecodeError):
                raw = within.read(daemon.root, path, FILE + 1)
                one = network(table(msgspec.json.decode(raw)), path)
                if len(raw) <= FILE and one.name:
                    found.setdefault(one.name, replace(one, config=kept(raw)))
    found.setdefault(DEFAULT, EngineNetwork(id=DEFAULT, name=DEFAULT, driver="bridge", bridge=BRIDGE, default=True))
    return tuple(found.values())


def network(raw: dict[str, Any], path: str = "") -> EngineNetwork:
    """One network, of a file or of GET /libpod/networks/json (pure): both have the same shape."""
    options, labels = table(raw.get("options")), table(raw.get("labels"))
    name = text(raw.get("name"))
    subnets = (text(x.get("subnet")) for x in rows(raw.get("subnets")))
    return EngineNetwork(
        id=text(raw.get("id")) or name,
        name=name,
        driver=text(raw.get("driver")),
        mtu=number(options.get("mtu"), MOST) or None,
        bridge=text(raw.get("network_interface"), 15),
        subnets=tuple(s for s in subnets if s),
        internal=raw.get("internal") is True,
        default=name == DEFAULT,
        file=path,
        compose_project=text(labels.get("com.docker.compose.project")),
        compose_network=text(labels.get("com.docker.compose.network")),
    )
