"""A stand-in for Weave Net 2.8.1: `weave launch`, `weave reset`, `weave attach`, and the process ``weaver`` they start.

There is no package of Weave, and its fast datapath wants the kernel module openvswitch, which not every kernel has.
What stands for what:

* ``datapath`` is a Linux bridge instead of an Open vSwitch datapath, and ``vxlan-6784`` an ordinary VXLAN device with
  the name, port, size and DF that Weave's vport has. All other devices are as net/bridge.go lays them: ``weave``,
  ``vethwe-bridge``, ``vethwe-datapath``, ``vethwepl...`` for containers.
* The heartbeat is Weave's own (router/fastdp.go, sendHeartbeat): a frame of MTU + 14 bytes without addresses, the
  connection's uid and the frame's size in it. It is given to ``vxlan-6784``, so the kernel encapsulates and sends it,
  or does not. It goes more often than every 0.5 s, and is given up after :data:`TRIES` instead of 60 s.
* An acknowledgement of a heartbeat comes over the control connection (TCP 6783), as in Weave; the connection is
  ``fastdp`` when both directions are acknowledged, else ``sleeve``: frames in UDP 6783, through this process. Weave's
  own sleeve searches for a path MTU and cuts packets by itself; here the kernel cuts them (no DF).
* /status, /status/connections and /report say what prog/weaver/http.go and mesh's status.go say, as far as it is read.

Two peers, no encryption, no IP allocation. argv: launch [PEER] | reset | attach NETNS CIDR; state in :data:`FOLDER`.
"""

import http.server
import json
import os
import secrets
import select
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

FOLDER = Path("/run/weave")
CONTROL, VXLAN = 6783, 6784
DEVICE = f"vxlan-{VXLAN}"
DEFAULT_MTU = 1376  # net/bridge.go
ETHERNET = 14
HEAD = struct.Struct(">QH")  # uid of the connection, size of the frame
INTERVAL, TRIES = 0.05, 30
ETH_P_ALL, OUTGOING = 3, 4
SO_RCVBUFFORCE, ROOM = 33, 8 << 20  # a busy machine lets this process wait: nothing shall be lost by that


def ip(*lines: str, check: bool = True) -> None:
    subprocess.run(["ip", *([] if check else ["-force"]), "-batch", "-"], input="\n".join(lines) + "\n", text=True,
                   check=check, stderr=None if check else subprocess.DEVNULL)  # fmt: skip


# --- the script `weave` -----------------------------------------------------------------------------------------------


def launch(peers: list[str]) -> None:
    """Make what is not there yet, give it the MTU, start ``weaver``. Peers are remembered (--resume)."""
    FOLDER.mkdir(exist_ok=True)
    known = FOLDER / "peers"
    if peers:
        known.write_text(" ".join(peers))
    peers = known.read_text().split()
    mtu = int(os.environ.get("WEAVE_MTU") or DEFAULT_MTU)
    remote = f"remote {peers[0]}" if peers else ""
    ip(
        f"link add datapath mtu {mtu} type bridge",
        f"link add weave mtu {mtu} type bridge",
        f"link add vethwe-bridge mtu {mtu} type veth peer name vethwe-datapath mtu {mtu}",
        "link set vethwe-bridge master weave up",
        "link set vethwe-datapath master datapath up",
        f"link add {DEVICE} mtu 65485 type vxlan id 1 {remote} dstport {VXLAN} ttl 64 df set noudpcsum nolearning",
        f"link set {DEVICE} up",
        "link set datapath up",
        "link set weave up",
    )
    with (FOLDER / "log").open("ab") as log:
        subprocess.Popen(
            [sys.executable, __file__, "router", *peers],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip


def reset() -> None:
    """End ``weaver`` and take all devices away; containers are detached by that."""
    pid = FOLDER / "pid"
    if pid.exists():
        number = int(pid.read_text())
        ending = os.pidfd_open(number)
        os.kill(number, 15)
        select.select([ending], [], [])  # a pidfd can be read when its process has ended
        os.close(ending)
        pid.unlink()
    (FOLDER / "log").unlink(missing_ok=True)
    names = [x for x in os.listdir("/sys/class/net") if x.startswith("vethwe")]
    ip(*(f"link del {x}" for x in (*names, DEVICE, "weave", "datapath")), check=False)


def attach(netns: str, cidr: str) -> None:
    """A cable from Weave's bridge into a container's namespace, with Weave's MTU and without checksum offload."""
    mtu = int(Path("/sys/class/net/datapath/mtu").read_text())
    ip(
        f"link add vethwepl{netns} mtu {mtu} type veth peer name ethwe mtu {mtu} netns {netns}",
        f"link set vethwepl{netns} master weave up",
    )
    inside = ["ip", "netns", "exec", netns]
    offloads = ["tx", "off", "tso", "off", "gso", "off", "gro", "off"]
    subprocess.run([*inside, "ethtool", "-K", "ethwe", *offloads], check=True, stdout=subprocess.DEVNULL)
    lines = f"addr add {cidr} dev ethwe\nlink set ethwe up\nlink set lo up\n"
    subprocess.run([*inside, "ip", "-batch", "-"], input=lines, text=True, check=True)


# --- the process `weaver` ---------------------------------------------------------------------------------------------


def packets(device: str) -> socket.socket:
    """Frames of a device, as they are."""
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, ROOM)
    sock.bind((device, ETH_P_ALL))
    return sock


class Router:
    """One connection to one peer: control, heartbeats, the slow way, and what the status page says of it."""

    def __init__(self, peers: list[str]) -> None:
        self.peer, self.outbound = peers[0], peers[0] > own_address(peers[0])
        self.mtu = int(Path("/sys/class/net/datapath/mtu").read_text())
        self.name = "8a:" + ":".join(secrets.token_hex(5)[i : i + 2] for i in range(0, 10, 2))
        self.nick = socket.gethostname()
        self.own_uid, self.uid = secrets.randbits(63), 0
        self.theirs, self.mode, self.state = "", "", "connecting"
        self.acked = self.heard = False
        self.control: socket.socket | None = None
        self.lock = threading.Lock()
        self.fast = packets(DEVICE)
        self.bridge = packets("vethwe-datapath")
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.setsockopt(socket.IPPROTO_IP, 10, 0)  # IP_MTU_DISCOVER: IP_PMTUDISC_DONT, as sleeve.go
        self.udp.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, ROOM)
        self.udp.bind(("", CONTROL))

    def run(self) -> None:
        jobs = (self.connect, self.hear, self.out, self.come, Pages(self).serve_forever)
        threads = [threading.Thread(target=job, daemon=True) for job in jobs]
        for t in threads:
            t.start()
        threads[0].join()
        self.beat()
        threads[1].join()

    def connect(self) -> None:
        """The one with the smaller address listens, whoever was told of whom."""
        if self.outbound:
            while self.control is None:
                try:
                    self.control = socket.create_connection((self.peer, CONTROL), 5)
                except OSError:
                    time.sleep(INTERVAL)
            self.control.settimeout(None)
        else:
            with socket.create_server(("", CONTROL)) as listener:
                while self.control is None:
                    found, (address, _) = listener.accept()
                    if address == self.peer:
                        self.control = found
                    else:
                        found.close()  # somebody looks at the port
        lines = self.control.makefile("r")
        self.control.sendall(json.dumps({"name": self.name, "nick": self.nick, "uid": self.own_uid}).encode() + b"\n")
        hello = json.loads(lines.readline())
        self.theirs, self.uid = f"{hello['name']}({hello['nick']})", self.own_uid ^ hello["uid"]
        self.state, self.mode = "established", "sleeve"
        say(f"->[{self.peer}:{CONTROL}|{self.theirs}]: connection fully established")
        threading.Thread(target=self.acknowledged, args=(lines,), daemon=True).start()

    def acknowledged(self, lines: Any) -> None:
        for line in lines:
            if line.strip() == "ack":
                self.acked = True
                self.settle()

    def beat(self) -> None:
        """Heartbeats until one of ours was acknowledged; then the fast way is kept."""
        frame = (bytes(ETHERNET) + HEAD.pack(self.uid, self.mtu + ETHERNET)).ljust(self.mtu + ETHERNET, b"\0")
        for _ in range(TRIES):
            if self.acked and self.heard:
                return
            try:
                self.fast.send(frame)
            except OSError as e:
                say(f"fastdp ->[{self.peer}:{VXLAN}|{self.theirs}]: {e}")
            time.sleep(INTERVAL)
        if self.mode != "fastdp":
            say(f"overlay_switch ->[{self.theirs}] fastdp timed out waiting for vxlan heartbeat")

    def hear(self) -> None:
        while True:
            frame, at = self.fast.recvfrom(65536)
            if at[2] == OUTGOING or len(frame) < ETHERNET + HEAD.size or any(frame[:ETHERNET]):
                continue
            uid, size = HEAD.unpack_from(frame, ETHERNET)
            if not self.heard and uid == self.uid and size == len(frame) and self.control is not None:
                self.heard = True
                self.control.sendall(b"ack\n")
                self.settle()

    def settle(self) -> None:
        with self.lock:
            if self.acked and self.heard and self.mode != "fastdp":
                self.mode = "fastdp"
                ip(f"link set {DEVICE} master datapath")
                say(f"overlay_switch ->[{self.theirs}] using fastdp")

    def out(self) -> None:
        while True:
            frame, at = self.bridge.recvfrom(65536)
            if at[2] != OUTGOING and self.mode == "sleeve":
                self.udp.sendto(frame, (self.peer, CONTROL))

    def come(self) -> None:
        while True:
            frame, (address, _) = self.udp.recvfrom(65536)
            if address == self.peer and self.mode == "sleeve" and len(frame) >= ETHERNET:
                self.bridge.send(frame)

    def report(self) -> dict[str, Any]:
        """As `weave report` has it (router/network_router_status.go, mesh status.go LocalConnectionStatus)."""
        info = f"{self.mode} {self.theirs} mtu={self.mtu}" if self.mode else ""
        attrs = {"name": self.mode, "mtu": self.mtu} if self.mode else None
        one = {"Address": f"{self.peer}:{CONTROL}", "Outbound": self.outbound, "State": self.state, "Info": info}
        router = {
            "Protocol": "weave", "ProtocolMinVersion": 1, "ProtocolMaxVersion": 2, "Encryption": False,
            "PeerDiscovery": True, "Name": self.name, "NickName": self.nick, "Port": CONTROL, "Peers": None,
            "UnicastRoutes": None, "BroadcastRoutes": None, "Connections": [{**one, "Attrs": attrs}],
            "TerminationCount": 0, "Targets": [self.peer], "OverlayDiagnostics": {
                "fastdp": {"Vports": [{"ID": 0, "Name": "datapath", "TypeName": "internal"},
                                      {"ID": 1, "Name": "vethwe-datapath", "TypeName": "netdev"},
                                      {"ID": 2, "Name": DEVICE, "TypeName": "vxlan"}], "Flows": []},
                "sleeve": None,
            },
            "TrustedSubnets": [], "Interface": "datapath (via ODP)", "CaptureStats": {"FlowMods": 0}, "MACs": None,
        }  # fmt: skip
        return {"Ready": True, "Version": "2.8.1", "Router": router, "IPAM": None, "DNS": None}

    def status(self) -> str:
        rows = ("Version: 2.8.1", "Service: router", f"Name: {self.name}({self.nick})", "Connections: 1")
        return "".join(f"        {row}\n" for row in rows)

    def connections(self) -> str:
        return (
            f"{'->' if self.outbound else '<-'} {self.peer}:{CONTROL:<8} {self.state:<11} {self.mode} {self.theirs}\n"
        )


class Pages(http.server.ThreadingHTTPServer):
    """127.0.0.1:6784. /report is JSON for who asks for that, and not found otherwise (prog/weaver/http.go)."""

    daemon_threads = True

    def __init__(self, router: Router) -> None:
        class Page(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                kind, text = "text/plain", {"/status": router.status, "/status/connections": router.connections}
                body = text[self.path]() if self.path in text else ""
                if self.path == "/report" and self.headers.get("Accept") == "application/json":
                    kind, body = "application/json", json.dumps(router.report(), indent=4)
                self.send_response(200 if body else 404)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body.encode())

            def log_request(self, *_: Any) -> None:
                pass

        super().__init__(("127.0.0.1", VXLAN), Page)


def own_address(peer: str) -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((peer, CONTROL))
        return str(probe.getsockname()[0])


def say(text: str) -> None:
    print(f"INFO: {text}", flush=True)


def router(peers: list[str]) -> None:
    Path("/proc/self/comm").write_text("weaver")
    (FOLDER / "pid").write_text(str(os.getpid()))
    Router(peers).run()


if __name__ == "__main__":
    word, *rest = sys.argv[1:]
    if word == "launch":
        launch(rest)
    elif word == "router":
        router(rest)
    elif word == "reset":
        reset()
    else:
        attach(*rest)
