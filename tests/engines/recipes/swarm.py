"""A swarm of three nodes: lab hosts on one switch, each with a dockerd, and networks that span them.

    n1 (manager) 198.18.4.1 --+
    n2 (worker)  198.18.4.2 --+-- switch
    n3 (worker)  198.18.4.3 --+

An overlay is a VXLAN (UDP 4789): its containers invite 50 bytes less than the nodes' own links carry. It is
*attachable*, so that `docker run --network` puts a container on it as on any network. Services with a virtual
address (VIP), the routing mesh and encrypted overlays need ip_vs and ESP in the kernel, and are not used here.
"""

from pathlib import Path

from engine import Docker, image
from labhost import Lab, Room, cable, until

NODES = 3
POOL = "198.19.64.0/18"  # of overlays; below the daemons' own (engine.Docker)


class Swarm:
    """The nodes, joined and ready; ``nodes[0]`` is the manager. ``mtu``: bytes the switch and its cables carry."""

    def __init__(self, lab: Lab, mtu: int = 1500) -> None:
        self.switch: Room = lab.room("switch")
        self.switch.ip(f"link add lan mtu {mtu} type bridge\nlink set lan up")
        tar = lab.folder / "small.tar"
        tar.write_bytes(image(()))
        self.nodes = [self._node(lab, number, mtu, tar) for number in range(1, NODES + 1)]
        manager, *workers = self.nodes
        manager("swarm", "init", "--advertise-addr", address(1), "--default-addr-pool", POOL)
        token = manager("swarm", "join-token", "-q", "worker")
        for number, worker in enumerate(workers, 2):
            worker("swarm", "join", "--advertise-addr", address(number), "--token", token, f"{address(1)}:2377")
        until(lambda: self._states() == ["Ready"] * NODES, "every node ready")

    def _states(self) -> list[str]:
        return self.nodes[0]("node", "ls", "--format", "{{.Status}}").split()

    def _node(self, lab: Lab, number: int, mtu: int, tar: Path) -> Docker:
        host = lab.host(f"n{number}")
        cable(host, "eth0", self.switch, f"p{number}", mtu)
        self.switch.ip(f"link set p{number} master lan")
        host.ip(f"addr add {address(number)}/24 dev eth0")
        docker = Docker(host)
        docker.load(tar)
        return docker

    def overlay(self, name: str) -> None:
        """A network of the whole swarm; a node learns of it with its first container there."""
        self.nodes[0]("network", "create", "--driver", "overlay", "--attachable", name)


def address(number: int) -> str:
    """Of node ``number``, from 1."""
    return f"198.18.4.{number}"
