"""Setups of real engines beyond one dockerd, each in lab hosts of its own: a small file an engine.

    swarm.py       three dockerd on one switch, joined to a swarm: an overlay (VXLAN) between their containers
    nested.py      dockerd in a container of dockerd
    podmans.py     podman with netavark, without a daemon
    containerds.py containerd, whose containers get their network from CNI plugins
    weave.py       two hosts with a stand-in of Weave (standins/weaver.py)
    clusters.py    a Kubernetes node as a maker of cluster networks lays it out (cluster_makers.py), pods by containerd
    managers.py    what keeps a host's own device: systemd-networkd, netplan, NetworkManager, ifupdown

Each is used the same way: made on a lab (or a host of it), asked for containers, and gone with the lab. All addresses
are of 198.18.0.0/15: what the lab watches for outside of it (tools/outside.py).
"""

from labhost import LabHost


def own(host: LabHost, folder: str) -> None:
    """Give a host its own version of a folder of this machine: what it writes there is gone with it."""
    layers = [host.folder / f"{kind}{folder.replace('/', '-')}" for kind in ("upper", "work")]
    for layer in layers:
        layer.mkdir()
    options = f"lowerdir={folder},upperdir={layers[0]},workdir={layers[1]}"
    host.run("mount", "-t", "overlay", "overlay", "-o", options, folder)
