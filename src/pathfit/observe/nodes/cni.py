"""CNI configurations of a node: what its container runtime hands to the plugins.

Files ``*.conf``, ``*.json`` (one plugin) and ``*.conflist`` (``plugins``: several, run in order), JSON. The runtime
takes the first by name that it understands; so do we. Source: the CNI specification (SPEC.md, "Network configuration
format"), libcni ``ConfFiles``; the folders are those of containerd, CRI-O, k3s and OpenShift.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from pathfit.observe.nodes import files
from pathfit.observe.nodes.files import Root

FOLDERS = (
    "/etc/cni/net.d",
    "/var/lib/rancher/k3s/agent/etc/cni/net.d",
    "/etc/kubernetes/cni/net.d",
    "/run/multus/cni/net.d",
    "/var/snap/microk8s/current/args/cni-network",
)
ENDINGS = (".conf", ".conflist", ".json")


class Plugin(NamedTuple):
    """One plugin of one network. ``path`` is its file, ``name`` the network's."""

    path: str
    name: str
    type: str
    options: dict[str, Any]

    @property
    def mtu(self) -> int | None:
        """What it is told as "mtu"; None when nothing (0 means that as well) or no number."""
        return files.mtu(self.options.get("mtu"))


def plugins(root: Root) -> tuple[Plugin, ...]:
    """Every plugin of every configuration, in the order in which a runtime would look at them."""
    return tuple(_plugins(root))


def _plugins(root: Root) -> Iterator[Plugin]:
    for folder in FOLDERS:
        for name in root.names(folder):
            if name.endswith(ENDINGS) and (found := root.json(f"{folder}/{name}")):
                yield from _of(f"{folder}/{name}", found)


def _of(path: str, found: dict[str, Any], inner: bool = False) -> Iterator[Plugin]:
    several = files.rows(found.get("plugins")) if "plugins" in found else [found]
    for one in several:
        if kind := files.word(one.get("type")):
            yield Plugin(path, files.word(found.get("name")), kind, one)
        for delegate in () if inner else files.rows(one.get("delegates")):  # multus; they have none themselves
            yield from _of(path, delegate, inner=True)
