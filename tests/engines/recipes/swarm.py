"""A swarm of three nodes: lab hosts on one switch, each with a dockerd, and networks that span them.

    n1 (manager) 198.18.4.1 --+
    n2 (worker)  198.18.4.2 --+-- switch
    n3 (worker)  198.18.4.3 --+

An overlay is a VXLAN (UDP 4789): its containers invite 50 bytes less than the nodes' own links carry. It is
*attachable*, so that `docker run --network` puts a container on it as on any network. Services with a virtual
address (VIP), the routing mesh and encrypted overlays need ip_vs and ESP in the kernel, and are not used here.
"""

import json
import os
import sys
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

from engine import Docker, image
from labhost import COMES, Lab, Room, cable, until

NODES = 3
POOL = "198.19.64.0/18"  # of overlays; below the daemons' own (engine.Docker)
PATHFIT = Path(sys.executable).with_name("pathfit")
VLAN_ROOM = 4  # bytes a bridge port lets through beyond its MTU (is_skb_forwardable)
PORT, SIZE = 8081, 200_000  # of the web server in a container, and of what it has to give


class Swarm:
    """The nodes, joined and ready; ``nodes[0]`` is the manager. ``mtu``: bytes the switch and its cables carry."""

    def __init__(self, lab: Lab, mtu: int = 1500) -> None:
        self.folder = lab.folder
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

    def overlay(self, name: str, *options: str) -> None:
        """A network of the whole swarm; a node learns of it with its first container there."""
        self.nodes[0]("network", "create", "--driver", "overlay", "--attachable", *options, name)

    # -- what is broken --------------------------------------------------------------------------------------------

    def carries(self, mtu: int) -> None:
        """The switch carries that many bytes of IP; what is larger is gone, and nobody says so."""
        ports = [f"p{n}" for n in range(1, NODES + 1)]
        self.switch.ip("\n".join(f"link set {x} mtu {mtu - VLAN_ROOM if mtu < 1500 else mtu}" for x in (*ports, "lan")))

    def node(self, number: int) -> Docker:
        return self.nodes[number - 1]

    def overlay_space(self, number: int, network: str) -> list[str]:
        """Words before a command that shall run where that node hides the overlay's bridge and VXLAN device."""
        ident = self.node(number).inspect("network", network)["Id"]
        return ["nsenter", f"--net=/run/docker/netns/1-{ident[:10]}"]

    def space(self, number: int, container: str) -> list[str]:
        """The same for a container's own namespace."""
        return [
            "nsenter",
            f"--net={self.node(number).inspect('container', container)['NetworkSettings']['SandboxKey']}",
        ]

    def on(self, number: int, *words: str) -> str:
        return self.node(number).host.run(*words)

    # -- containers that serve and ask -----------------------------------------------------------------------------

    def serve(self, number: int, container: str, network: str) -> str:
        """A container that serves on PORT; its address in the overlay."""
        docker = self.node(number)
        docker.run(container, "--network", network)
        web = f"mkdir -p /tmp/w; head -c {SIZE} /dev/zero >/tmp/w/big; busybox httpd -p {PORT} -h /tmp/w"
        docker("exec", container, "sh", "-c", web)
        return self.address(number, container, network)

    def address(self, number: int, container: str, network: str) -> str:
        found = self.node(number).inspect("container", container)["NetworkSettings"]["Networks"][network]
        return str(found["IPAddress"])

    def device(self, number: int, container: str, network: str) -> dict[str, Any]:
        """The container's device in the overlay, as `ip -j link` shows it."""
        links = json.loads(self.on(number, *self.space(number, container), "ip", "-j", "address"))
        mine = self.address(number, container, network)
        return next(x for x in links if any(a["local"] == mine for a in x["addr_info"]))

    def get(self, number: int, container: str, to: str, patience: float = 2.0) -> int:
        """What curl's exit status is when the container asks ``to`` for all of it: 0 it came, 7 refused, 28 hung."""
        url = f"http://{to}:{PORT}/big"
        words = ["curl", "-s", "-m", str(patience), "-o", "/dev/null", url]
        return self.node(number).host.call(*self.space(number, container), *words).returncode

    def works(self, number: int, container: str, to: str) -> bool:
        return self.get(number, container, to, COMES) == 0

    def reached(self, number: int, container: str, to: str) -> None:
        """Wait until it works: what one node makes, the others hear of a moment later."""
        until(lambda: self.get(number, container, to, 5.0) == 0, f"{container} on node {number} reaches {to}")

    def refuses(self, number: int, container: str, to: str) -> bool:
        return self.get(number, container, to, COMES) == 7

    # -- pathfit ---------------------------------------------------------------------------------------------------

    def pathfit(self, number: int, *words: str) -> "CompletedProcess[str]":
        """pathfit on that node, as its root would type it."""
        host = self.node(number).host
        state = str(host.folder / "state")
        env = {**os.environ, "PATHFIT_STATE": state, "LANG": "C.UTF-8", "COLUMNS": "120"}
        return host.call(str(PATHFIT), *words, env=env)

    def snapshots(self, *numbers: int) -> list[str]:
        """`pathfit snapshot -o` on these nodes; the words that give the files to another command."""
        given: list[str] = []
        for number in numbers:
            file = self.folder / f"n{number}.json"
            done = self.pathfit(number, "snapshot", "-o", str(file))
            assert done.returncode == 0, done.stderr
            given += ["--in", str(file)]
        return given

    def diagnose(self, number: int, container: str, to: str, *more: str) -> dict[str, Any]:
        """The report as JSON."""
        done = self.pathfit(number, "diagnose", "--from", f"container:{container}", "--to", to, "--json", *more)
        assert done.stdout, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def type(self, number: int, fix: dict[str, Any], *, undo: bool = False) -> None:
        """The lines of a repair that is for people, each on the host it is said for: node ``number``, where none is."""
        lines = fix["undo" if undo else "commands"]
        hosts = fix["hosts"] if len(fix["hosts"]) == len(lines) else (fix["hosts"][:1] or [""]) * len(lines)
        places = {"": number, "manager": 1, **{f"n{n}": n for n in range(1, NODES + 1)}}
        for host, words in zip(hosts, lines, strict=True):
            self.on(places[host], *words)


def address(number: int) -> str:
    """Of node ``number``, from 1."""
    return f"198.18.4.{number}"
