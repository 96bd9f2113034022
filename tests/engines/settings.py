"""Everything Docker says of its containers and networks, to be compared before and after."""

import json
from typing import Any

from article import Article

VOLATILE = {  # what nobody chose
    *("Id", "Created", "EndpointID", "NetworkID", "SandboxID", "SandboxKey", "Pid", "StartedAt", "FinishedAt"),
    *("ResolvConfPath", "HostnamePath", "HostsPath", "LogPath", "RestartCount", "Containers", "ExitCode", "DNSNames"),
}
HANDED_OUT = {"IPAddress", "MacAddress"}  # on the default network, by the order in which containers start


def settings(a: Article, but: set[str] = VOLATILE) -> Any:
    """Containers and networks as `docker inspect` shows them, without the keys in ``but``."""
    containers = a.docker("ps", "-aq", "--no-trunc").split()
    networks = a.docker("network", "ls", "-q", "--no-trunc").split()
    found = [
        json.loads(a.docker("inspect", *sorted(containers))),
        json.loads(a.docker("network", "inspect", *networks)),
    ]
    found[1].sort(key=lambda n: n["Name"])
    return without(found, but)


def without(value: Any, names: set[str]) -> Any:
    if isinstance(value, dict):
        return {k: without(v, names) for k, v in value.items() if k not in names}
    return [without(v, names) for v in value] if isinstance(value, list) else value


def differences(then: Any, now: Any, at: str = "") -> list[str]:
    """Places at which two documents differ."""
    if isinstance(then, dict) and isinstance(now, dict):
        keys = then.keys() | now.keys()
        return [d for k in sorted(keys) for d in differences(then.get(k), now.get(k), f"{at}/{k}")]
    if isinstance(then, list) and isinstance(now, list) and len(then) == len(now):
        return [d for n, (a, b) in enumerate(zip(then, now, strict=True)) for d in differences(a, b, f"{at}/{n}")]
    return [] if then == now else [f"{at}: {then!r} became {now!r}"]
