"""Article 001: a virtual machine on a VXLAN tenant network, whose containers are larger than what reaches it.

    s 1500 --- border ==(VXLAN, 1600)== rack ==(1500)== kvm --[tap]-- guest --- containers 1500
                                                        kvm --[tap]-- guest (management, 1500)

``border`` and ``kvm`` have a bridge and a VXLAN device of 1500 on each side; the network below carries NARROW bytes
towards ``kvm``, so that OVERHEAD less arrive inside. Behind that limit waits the next one: the machine's tap has 1450,
and a bridge's port takes four bytes more (is_skb_forwardable()). Neither tells anybody. What the machine sends is
bounded by its own NIC, which says so.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import guests
import vm
from article import PATHFIT, SIZE, serve
from guests import Plugged, Port
from labhost import OFFLOADS_OFF, Lab, LabHost, Room, cable
from recipes.nested import skeleton

NARROW, OVERHEAD = 1500, 50
NIC, MANAGEMENT = 1450, 1500
VLAN_ROOM = 4  # bytes that a bridge's port takes above its MTU
FIRST, SECOND = NARROW - OVERHEAD, NIC + VLAN_ROOM  # the limits, inside
WIDE = 1600
SERVER, URL = "198.18.3.2", "https://198.18.3.2:8443/"
SMALL, LARGE = f"http://{SERVER}:8080/310", f"{URL}{SIZE}"
GUEST = "198.18.2.10"
TUNNEL = "link add vx0 mtu 1500 type vxlan id 77 dstport 4789 local {0} remote {1}\nlink set vx0 master {2} up"

DOCKERD = """
set -e
mkdir -p /run/data /etc/docker; rm -f /etc/docker/*
sysctl -qw net.ipv4.ip_forward=1
nft -f - <<END
table ip masq {
  chain post { type nat hook postrouting priority 100; ip saddr 198.19.0.0/24 oifname eth0 masquerade; }
}
END
cat >/run/serve <<'END'
until GOGC=off dockerd --data-root /run/data --pidfile /run/docker.pid -H unix:///run/docker.sock \\
  --bip 198.19.0.1/24 --iptables=false --ip6tables=false --userland-proxy=false MORE; do sleep 1; done
END
setsid --fork sh /run/serve </dev/null >$OUT/dockerd.log 2>&1
"""
# It gives up where its containerd is not up after fifteen seconds (moby/moby#42747): it is started again, as by a
# manager of services.
# dockerd's calls of iptables take twenty seconds in a guest; masquerading, all that is needed of them, is one rule.
API = "curl -sS -f -m 300 --unix-socket /run/docker.sock"
JSON, TAR = (f"-H 'Content-Type: application/{kind}'" for kind in ("json", "x-tar"))


class Tenant:
    """The stage; ``guest`` runs dockerd and a container "ci"."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.kvm = machine(lab, "kvm")
        self.rack, self.border, self.s = (lab.room(name) for name in ("rack", "border", "s"))
        self._network_below()
        self._tenants_network()
        serve(self.s, lab.folder / "server.log")
        ports = (Port("tap0", "brq", NIC), Port("tap1", "brm", MANAGEMENT))
        self.guest: Plugged = guests.plug(lab, self.kvm, *ports)

    def _network_below(self) -> None:
        """The network that tunnels go through: a rack's switch. A port of it takes its MTU and four bytes."""
        cable(self.kvm, "eth0", self.rack, "kvm0", NARROW)
        cable(self.rack, "border0", self.border, "eth0", WIDE)
        self.rack.ip(f"link add br0 mtu {WIDE} type bridge\nlink set kvm0 mtu {NARROW - VLAN_ROOM} master br0\n"
                     "link set border0 master br0\nlink set br0 up")  # fmt: skip
        self.kvm.ip("addr add 198.18.1.2/24 dev eth0")
        self.border.ip("addr add 198.18.1.1/24 dev eth0")

    def _tenants_network(self) -> None:
        for room, bridge, ends in (
            (self.kvm, "brq", ("198.18.1.2", "198.18.1.1")),
            (self.border, "brint", ("198.18.1.1", "198.18.1.2")),
        ):
            room.ip(f"link add {bridge} type bridge\nlink set {bridge} up\n{TUNNEL.format(*ends, bridge)}")
            room.run("ethtool", "-K", "vx0", "gro", "off")  # what was put together again would pass any port
        self.kvm.ip("link add brm type bridge\nlink set brm up\naddr add 198.18.9.1/24 dev brm")
        for room in (self.kvm, self.rack):  # where br_netfilter is loaded, ports take exactly their MTU, or fragment
            room.run("sh", "-c", "[ ! -e /proc/sys/net/bridge ] || sysctl -qw net.bridge.bridge-nf-call-iptables=0")
        cable(self.border, "eth1", self.s, "eth0", 1500)
        self.border.ip("addr add 198.18.2.1/24 dev brint\naddr add 198.18.3.1/24 dev eth1")
        self.s.ip(f"addr add {SERVER}/24 dev eth0\nroute add default via 198.18.3.1")
        self.border.sysctl(ipv4__ip_forward=1)

    def start(self) -> None:
        """The guest's network, as its DHCP client would make it, and dockerd with a container."""
        self.well(f"""
            ip link set eth0 mtu {NIC} up; ip addr add {GUEST}/24 dev eth0; ip route add default via 198.18.2.1
            ip link set eth1 mtu {MANAGEMENT} up; ip addr add 198.18.9.10/24 dev eth1""")
        (self.guest.folder / "image.tar").write_bytes(skeleton())
        self.well(DOCKERD.replace("MORE", self.guest.dockerd))
        self.guest.bring()
        try:
            self.well(f"until {API} http://d/_ping 2>/dev/null; do sleep 0.1; done")
        except vm.GuestError as e:
            raise vm.GuestError(f"{e}\n{(self.guest.folder / 'dockerd.log').read_text()[-3000:]}") from None
        self.well(f"{API} {TAR} --data-binary @$OUT/image.tar 'http://d/images/create?fromSrc=-&repo=lab'")
        self._container("ci")

    def _container(self, name: str) -> None:
        """One that does nothing until it is told to end."""
        stay = ["sh", "-c", "trap 'exit 0' TERM; sleep infinity & wait"]
        made = {"Image": "lab", "Cmd": stay, "HostConfig": {"Binds": ["/usr:/usr:ro"]}}
        (self.guest.folder / "made.json").write_text(json.dumps(made))
        self.well(f"{API} {JSON} -d @$OUT/made.json 'http://d/containers/create?name={name}'\n"
                  f"{API} -X POST http://d/containers/{name}/start")  # fmt: skip

    @contextmanager
    def lifted(self) -> Iterator[None]:
        """The network below carries the tunnel's packets whole: the first limit is gone."""
        self._below_carries(WIDE, WIDE)
        try:
            yield
        finally:
            self._below_carries(NARROW, NARROW - VLAN_ROOM)

    def _below_carries(self, host: int, port: int) -> None:
        self.kvm.run("ip", "link", "set", "eth0", "mtu", str(host))
        self.rack.run("ip", "link", "set", "kvm0", "mtu", str(port))

    @contextmanager
    def cable_of(self, mtu: int) -> Iterator[None]:
        """Both ends of the machine's cable have ``mtu``: the second limit is another."""
        self._cable(mtu)
        try:
            yield
        finally:
            self._cable(NIC)

    def _cable(self, mtu: int) -> None:
        self.kvm.run("ip", "link", "set", "tap0", "mtu", str(mtu))
        self.well(f"ip link set eth0 mtu {mtu}")

    @contextmanager
    def neutron(self, main: str, ml2: str, port: int) -> Iterator[None]:
        """The hypervisor is a compute node of neutron's, whose files say so; the machine's port has ``port``."""
        files = {
            "neutron.conf": f"[DEFAULT]\n{main}\n",
            "plugins/ml2/ml2_conf.ini": f"[ml2]\ntenant_network_types = vxlan\n{ml2}\n",
            "plugins/ml2/openvswitch_agent.ini": "[ovs]\nlocal_ip = 198.18.1.2\n",
        }
        for name, text in files.items():
            path = self.kvm.path(f"/etc/neutron/{name}")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        self.kvm.run("ip", "link", "set", "tap0", "mtu", str(port))
        try:
            yield
        finally:
            self.kvm.run("ip", "link", "set", "tap0", "mtu", str(NIC))
            self.kvm.run("rm", "-r", "/etc/neutron")

    @contextmanager
    def router(self, name: str) -> Iterator[str]:
        """A namespace of the hypervisor on the tenant's network with 1500, as neutron makes them, and a server in the
        machine; its WHERE."""
        self.kvm.ip(f"netns add {name}\nlink add qr0 master brq type veth peer name eth0 netns {name}\nlink set qr0 up")
        inside = ("ip", "netns", "exec", name)
        there = ("ip addr add 198.18.2.3/24 dev eth0", "ip link set eth0 up", "ip route add default via 198.18.2.1")
        for words in (*there, f"ethtool -K eth0 {OFFLOADS_OFF}"):
            self.kvm.run(*inside, *words.split())
        self.well("setsid --fork busybox nc -ll -p 8080 -e sleep 60 </dev/null >/dev/null 2>&1")
        self.kvm.run(*inside, "ping", "-c", "1", "-w", "300", GUEST)  # neighbours know each other, as in operation
        try:
            yield f"netns:{name}"
        finally:
            self.kvm.ip(f"link del qr0\nnetns del {name}")  # a cable would go with the namespace, but later

    def snapshots(self) -> tuple[str, str]:
        """Files with what the machine and its hypervisor say of themselves."""
        self.well_said("snapshot -o $OUT/guest.json")
        there = str(self.kvm.folder / "kvm.json")
        self.kvm.run(str(PATHFIT), "snapshot", "-o", there)
        return str(self.guest.folder / "guest.json"), there

    def well_said(self, words: str) -> None:
        """pathfit in the guest; it must succeed."""
        done = self.guest.pathfit(words)
        assert done.status == 0, done.out + done.err

    def well(self, script: str) -> str:
        """Run it in the guest; it must succeed."""
        done = self.guest.sh(script)
        assert done.status == 0, f"{self.guest.kind}: {script}\n{done.out}{done.err}"
        return done.out

    def curl(self, patience: dict[str, float]) -> list[str]:
        """What curl in the container's network says of each URL, waiting so long: "200 200000", "000 0" if it hung."""
        pid = f"$({API} http://d/containers/ci/json | sed 's/.*\"Pid\":\\([0-9]*\\).*/\\1/')"
        what = [
            f"curl -sk -m {n} -o /dev/null -w '%{{http_code}} %{{size_download}}\\n' {u}" for u, n in patience.items()
        ]
        return self.guest.sh(f'nsenter -t {pid} -n sh -c "{"; ".join(what)}"').out.splitlines()

    def works(self) -> bool:
        return self.curl({LARGE: 60.0}) == [f"200 {SIZE}"]

    def hangs(self) -> bool:
        """A small answer comes at once, a large one does not."""
        small, large = self.curl({SMALL: 60.0, LARGE: 4.0})
        return small == "200 310" and not large.startswith("200")

    def said(self, words: str) -> dict[str, Any]:
        """What pathfit in the guest says in JSON."""
        done = self.guest.pathfit(f"{words} --json")
        assert done.out, done.err
        found: dict[str, Any] = json.loads(done.out)
        return found


def machine(lab: Lab, name: str) -> LabHost:
    """A host that is no other's in a snapshot either: each boot of a machine has an id of its own."""
    host = lab.host(name)
    boot = "/proc/sys/kernel/random/boot_id"
    host.run("sh", "-ec", f"cat /proc/sys/kernel/random/uuid >/run/boot_id; mount --bind /run/boot_id {boot}")
    return host


def on(host: Room, *words: str) -> dict[str, Any]:
    """What pathfit on a host of the lab says in JSON."""
    done = host.call(str(PATHFIT), *words, "--json")
    assert done.stdout, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@contextmanager
def tenant() -> Iterator[Tenant]:
    """The stage for some tests; nothing is left of it afterwards."""
    with Lab() as lab:
        stage = Tenant(lab)
        try:
            stage.start()
            yield stage
        finally:
            stage.guest.end()
