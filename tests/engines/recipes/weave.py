"""Weave Net between two hosts, with a container on each: a stand-in (standins/weaver.py says what stands for what).

    n1 ---- f ==== g ---- n2

``near`` is the MTU of the hosts' own uplinks, ``far`` that of what lies between ``f`` and ``g``, of which no host is
told: their "too big" is dropped where it is made. Containers: ``app`` on each host, 198.19.64.1 and .2.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

from article import DEAF, HERE, PATHFIT, serve
from labhost import COMES, Lab, LabHost, Room, cable, tied, until

SCRIPT = HERE / "standins" / "weaver.py"
COMMAND = "/run/bin/weave"
OVERLAY = "198.19.64.{}"
ADDRESS = "198.18.{}.2"
REPORT = ("curl", "-sf", "-m", str(COMES), "-H", "Accept: application/json", "http://127.0.0.1:6784/report")
MUTE = DEAF.replace("hook input", "hook output")
SNIFF = """
import json, socket, struct, sys
s = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3))
s.bind((sys.argv[1], 3))
print("ready", flush=True)
while True:
    data, at = s.recvfrom(65536)
    if at[2] == 4 or len(data) < 50 or at[1] != 0x0800 or data[9] != 17 or data[22:24] != struct.pack(">H", 6784):
        continue
    if any(data[36:50]):
        continue  # whatever speaks on a new device; a heartbeat's frame has no addresses
    total, flags = struct.unpack(">H2xH", data[2:8])
    print(json.dumps({"size": total, "df": bool(flags & 0x4000), "more": bool(flags & 0x2000), "ttl": data[8],
                      "vxlan": data[28] == 8, "frame": total - 36}), flush=True)
    break
"""


class Weave:
    """The stage. Nothing is launched yet."""

    def __init__(self, lab: Lab, near: int = 1500, far: int = 1500) -> None:
        self.lab = lab
        self.hosts: tuple[LabHost, LabHost] = (lab.host("n1"), lab.host("n2"))
        self.rooms: tuple[Room, Room] = (lab.room("f"), lab.room("g"))
        cable(self.rooms[0], "mid", self.rooms[1], "mid", far)
        for n, (host, room) in enumerate(zip(self.hosts, self.rooms, strict=True), 1):
            cable(host, "eth0", room, "edge", near)
            host.ip(f"addr add {ADDRESS.format(n)}/24 dev eth0\nroute add default via 198.18.{n}.1\nnetns add app")
            room.ip(f"addr add 198.18.{n}.1/24 dev edge\naddr add 198.18.9.{n}/24 dev mid")
            room.ip(f"route add 198.18.{3 - n}.0/24 via 198.18.9.{3 - n}")
            room.sysctl(ipv4__ip_forward=1)
            room.run("nft", "-f", "-", stdin=MUTE)
            host.run("mkdir", "-p", "/run/bin")
            script = host.path(COMMAND)
            script.write_text(f'#!/bin/sh\nexec {sys.executable} {SCRIPT} "$@"\n')
            script.chmod(0o755)

    def run(self, host: LabHost, *words: str) -> None:
        """A command of the host's own, as somebody would type it there."""
        done = host.call(*words, env=self.env(host))
        assert done.returncode == 0, (words, done.stdout, done.stderr)

    def launch(self, mtu: int | None = None) -> None:
        """`weave launch PEER` on both hosts."""
        told = ("env", f"WEAVE_MTU={mtu}") if mtu else ()
        self.typed(*((*told, "weave", "launch", ADDRESS.format(2)), (*told, "weave", "launch", ADDRESS.format(1))))

    def typed(self, *commands: tuple[str, ...]) -> None:
        """One command for each host, which launches; containers are attached, and both routers have chosen a way."""
        for n, (host, words) in enumerate(zip(self.hosts, commands, strict=True), 1):
            self.run(host, *words)
            self.run(host, "weave", "attach", "app", f"{OVERLAY.format(n)}/24")
        for host in self.hosts:
            until(lambda h=host: self.chosen(h), f"weave's choice on {host.name}",  # type: ignore[misc]
                  detail=lambda h=host: self.log(h))  # type: ignore[misc]  # fmt: skip

    def reset(self) -> None:
        for host in self.hosts:
            self.run(host, "weave", "reset")

    def chosen(self, host: LabHost) -> bool:
        return "using fastdp" in self.log(host) or "timed out waiting for vxlan heartbeat" in self.log(host)

    def log(self, host: LabHost) -> str:
        path = host.path("/run/weave/log")
        return path.read_text() if path.exists() else ""

    def modes(self) -> list[str]:
        """What each router says of its connection."""
        found = [json.loads(host.run(*REPORT)) for host in self.hosts]
        return [c["Attrs"]["name"] for r in found for c in r["Router"]["Connections"]]

    def becomes(self, modes: list[str]) -> None:
        """Wait until each router says so: what it hears after it gave up counts as well."""
        until(lambda: self.modes() == modes, f"weave {modes}", detail=lambda: str(self.modes()))

    def serve(self) -> None:
        """A web server on the second host, and one in its container."""
        for inside in ((), ("ip", "netns", "exec", "app")):
            serve(self.hosts[1], self.lab.folder / "server.log", *inside)

    def env(self, host: LabHost) -> dict[str, str]:
        path = f"/run/bin:{os.environ['PATH']}"
        return {**os.environ, "PATHFIT_STATE": str(host.folder / "state"), "LANG": "C.UTF-8", "COLUMNS": "120",
                "PATH": path}  # fmt: skip

    def pathfit(self, host: LabHost, *words: str) -> "CompletedProcess[str]":
        return host.call(str(PATHFIT), *words, env=self.env(host))

    def json(self, host: LabHost, *words: str) -> dict[str, Any]:
        """pathfit's report of a host, as JSON."""
        done = self.pathfit(host, *words, "--json")
        assert done.stdout, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def snapshot(self, host: LabHost) -> Path:
        path = self.lab.folder / f"{host.name}.json"
        done = self.pathfit(host, "snapshot", "-o", str(path))
        assert done.returncode == 0, done.stderr
        return path

    def sniffing(self, room: Room, link: str) -> Any:
        """A process that prints what the next heartbeat on a link is like, and ends."""
        words = tied(*room.enter, sys.executable, "-c", SNIFF, link)
        found = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        assert found.stdout is not None
        assert found.stdout.readline() == "ready\n"
        return found


def counters(host: LabHost, device: str) -> dict[str, int]:
    """A device's own, by name."""
    folder = f"/sys/class/net/{device}/statistics"
    words = host.run("sh", "-c", f"cd {folder} && grep . tx_packets tx_dropped rx_packets").split()
    return {name: int(value) for name, _, value in (w.partition(":") for w in words)}


def frag_fails(host: LabHost) -> int:
    """IpFragFails of its namespace."""
    names, values = (x.split() for x in host.run("cat", "/proc/net/snmp").splitlines() if x.startswith("Ip:"))
    return int(values[names.index("FragFails")])
