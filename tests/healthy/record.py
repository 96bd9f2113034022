"""Records the machines of data/ again: real engines and real rule sets, each in lab hosts of its own (tests/engines).

    tools/isolated .venv/bin/python tests/healthy/record.py [NAME…] [--to FOLDER] [--show]

Nobody's machine is in them: a lab host has its own links, processes, files and daemons, and what it has is written with
pseudonyms, as `pathfit snapshot --redact` writes them (one key for all, so that hosts of a fleet agree). names.json
says what the containers were called, for the tests.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent / "engines")]

from article import PATHFIT  # noqa: E402
from engine import CONFIG, Docker, image  # noqa: E402
from labhost import Lab, LabHost, Room, cable, until  # noqa: E402
from recipes.containerds import Containerd  # noqa: E402
from recipes.nested import Nested  # noqa: E402
from recipes.podmans import Podman  # noqa: E402
from recipes.swarm import Swarm  # noqa: E402

from pathfit.core.redact import redact  # noqa: E402
from pathfit.host import whole  # noqa: E402
from pathfit.observe import recorded  # noqa: E402

KEY = b"healthy machines of the tests, no secret"
MTU = "com.docker.network.driver.mtu"
Recorded = Iterator[tuple[str, LabHost]]


def wired(lab: Lab, mtu: int = 1500) -> LabHost:
    """A host whose eth0 leads to a router that is not part of what is recorded."""
    host, router = lab.host("h"), lab.room("r")
    cable(host, "eth0", router, "rh", mtu)
    router.ip("addr add 198.18.2.1/24 dev rh\naddr add 2001:db8:2::1/64 dev rh nodad")
    host.ip("addr add 198.18.2.2/24 dev eth0\naddr add 2001:db8:2::2/64 dev eth0 nodad")
    host.ip("route add default via 198.18.2.1\nroute add ::/0 via 2001:db8:2::1")
    host.run("ping", "-c", "1", "-W", "5", "198.18.2.1")
    return host


def docker(lab: Lab, host: LabHost, *args: str, config: str | None = None) -> Docker:
    """A daemon with an image to run."""
    made = Docker(host, *args, config=config)
    tar = lab.folder / f"{host.name}.tar"
    tar.write_bytes(image(()))
    made.load(tar)
    return made


# --- Docker ----------------------------------------------------------------------------------------------------------


def docker_default(lab: Lab) -> Recorded:
    """The default bridge, and every way a container may have its network."""
    host = wired(lab)
    engine = docker(lab, host)
    for n in (1, 2, 10):
        engine.run(f"c{n}", "-p", f"{8000 + n}:80")
    engine.run("side", "--network", "container:c1")
    engine.run("hosty", "--network", "host")
    engine.run("lonely", "--network", "none")
    engine.run("gone")
    engine("stop", "-t", "0", "gone")
    yield "docker-default", host


def docker_empty(lab: Lab) -> Recorded:
    """The daemon was given 1400; nobody is on docker0, which shows 1500 (Docker sets a bridge's MTU by its ports)."""
    host = wired(lab, 1400)
    engine = docker(lab, host, config='{"mtu": 1400}')
    engine("network", "create", "--opt", f"{MTU}=1400", "app")
    engine.run("web", "--network", "app")
    yield "docker-mtu-1400-empty", host


def docker_mtu(lab: Lab) -> Recorded:
    """The daemon was given 1400, for an uplink of 1400."""
    host = wired(lab, 1400)
    engine = docker(lab, host, config='{"mtu": 1400}')
    for n in (1, 2):
        engine.run(f"c{n}")
    yield "docker-mtu-1400", host


def docker_compose(lab: Lab) -> Recorded:
    """Two projects, networks of their own with their own MTU; one container is in two of them."""
    host = wired(lab, 1400)
    engine = docker(lab, host, config='{"mtu": 1400}')
    for name in ("shop_front", "shop_back", "wiki_default"):
        label = f"com.docker.compose.project={name.partition('_')[0]}"
        engine("network", "create", "--opt", f"{MTU}=1400", "--label", label, name)
    for name, net in (("web", "front"), ("db", "back"), ("cache", "back")):
        labels = ("--label", "com.docker.compose.project=shop", "--label", f"com.docker.compose.service={name}")
        engine.run(f"shop_{name}_1", "--network", f"shop_{net}", *labels)
    engine("network", "connect", "shop_back", "shop_web_1")
    engine.run("wiki_app_1", "--network", "wiki_default", "--label", "com.docker.compose.project=wiki")
    yield "docker-compose", host


def docker_closed(lab: Lab) -> Recorded:
    """icc=false, an internal network, and one whose members may not talk to each other: all of it on purpose."""
    host = wired(lab)
    engine = docker(lab, host, "--icc=false")
    engine("network", "create", "--internal", "vault")
    engine("network", "create", "--opt", "com.docker.network.bridge.enable_icc=false", "cells")
    for name, net in (("c", "bridge"), ("v", "vault"), ("e", "cells")):
        for n in (1, 2):
            engine.run(f"{name}{n}", "--network", net)
    yield "docker-internal-icc-off", host


def docker_macvlan(lab: Lab) -> Recorded:
    """Containers with devices of their own on the host's wire, and one on a bridge beside them."""
    host = wired(lab)
    engine = docker(lab, host)
    engine("network", "create", "-d", "macvlan", "--subnet", "198.18.2.0/24", "--gateway", "198.18.2.1",
           "--ip-range", "198.18.2.64/28", "-o", "parent=eth0", "wire")  # fmt: skip
    for n in (1, 2):
        engine.run(f"m{n}", "--network", "wire")
    engine.run("c1")
    yield "docker-macvlan", host


def docker_v6(lab: Lab) -> Recorded:
    """A network with both families, without the proxy for published ports; the host routes IPv6."""
    host = wired(lab)
    host.sysctl(ipv6__conf__all__forwarding=1)
    engine = docker(lab, host, "--userland-proxy=false", "--ipv6", "--fixed-cidr-v6", "2001:db8:5::/64")
    engine("network", "create", "--ipv6", "--subnet", "2001:db8:6::/64", "both")
    engine.run("c1", "-p", "8001:80")
    for n in (2, 3):
        engine.run(f"c{n}", "--network", "both")
    yield "docker-ipv6", host


def docker_jumbo(lab: Lab) -> Recorded:
    """A jumbo network card, containers of 1500 behind it, and one network that has all of it."""
    host = wired(lab, 9000)
    engine = docker(lab, host)
    engine("network", "create", "--opt", f"{MTU}=9000", "large")
    engine.run("c1")
    engine.run("big", "--network", "large")
    yield "docker-jumbo-uplink", host


def swarm(lab: Lab) -> Recorded:
    """An overlay over three hosts, sized by the engine; one given the MTU of its underlay."""
    made = Swarm(lab)
    made.overlay("wide")
    made.nodes[0]("network", "create", "-d", "overlay", "--attachable", "--opt", f"{MTU}=1400", "narrow")
    for number, node in enumerate(made.nodes, 1):
        node.run(f"c{number}", "--network", "wide")
        node.run(f"d{number}", "--network", "narrow")
    for one, other in ((0, 2), (1, 3), (2, 1)):
        for name in "cd":
            words = ("exec", f"{name}{one + 1}", "ping", "-c", "1", "-W", "1", f"{name}{other}")
            until(lambda w=words, n=one: "1 packets received" in made.nodes[n](*w, check=False), "a ping")  # type: ignore[misc]
    for number, node in enumerate(made.nodes, 1):
        yield f"swarm-{number}", node.host


def nested(lab: Lab) -> Recorded:
    """Docker in Docker: both daemons were given the uplink's MTU."""
    host = wired(lab, 1400)
    host.path(CONFIG).write_text('{"mtu": 1400}')
    inner = Nested(lab, host, config='{"mtu": 1400}')
    for name in ("one", "two"):
        inner.run(name)
    inner.outer.run("web", "-v", "/usr:/usr:ro")
    yield "docker-in-docker", host


# --- other engines ---------------------------------------------------------------------------------------------------


def _pods(lab: Lab, backend: str) -> LabHost:
    host = wired(lab)
    podman = Podman(lab, host, backend)
    podman("network", "create", "--opt", "mtu=1400", "web")
    podman.run("one", "--network", "web")
    podman.run("two", "--network", "web")
    podman.run("three")
    podman.run("hosty", "--network", "host")
    podman.run("aside", "--network", "container:one")
    return host


def podman_netavark(lab: Lab) -> Recorded:
    """Podman's own networks."""
    yield "podman-netavark", _pods(lab, "netavark")


def podman_cni(lab: Lab) -> Recorded:
    """The same by CNI plugins."""
    yield "podman-cni", _pods(lab, "cni")


def containerd(lab: Lab) -> Recorded:
    """Containers and pods of containerd behind the bridge plugin, sized for the uplink."""
    host = wired(lab, 1450)
    made = Containerd(lab, host, mtu=1450)
    for name in ("one", "two"):
        made.run(name)
    made.pod("shop/web-1", "app")
    yield "containerd-cni", host


# --- firewalls beside an engine --------------------------------------------------------------------------------------


UFW = """*filter
:ufw-before-input - [0:0]
:ufw-before-forward - [0:0]
:ufw-user-input - [0:0]
:ufw-user-forward - [0:0]
:ufw-reject-forward - [0:0]
-P INPUT DROP
-A INPUT -j ufw-before-input
-A INPUT -j ufw-user-input
-A FORWARD -j ufw-before-forward
-A FORWARD -j ufw-user-forward
-A FORWARD -j ufw-reject-forward
-A ufw-before-input -i lo -j ACCEPT
-A ufw-before-input -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A ufw-before-input -m conntrack --ctstate INVALID -j DROP
-A ufw-before-input -p icmp -m icmp --icmp-type 3 -j ACCEPT
-A ufw-before-input -p icmp -m icmp --icmp-type 8 -j ACCEPT
-A ufw-before-forward -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A ufw-before-forward -p icmp -m icmp --icmp-type 3 -j ACCEPT
-A ufw-user-input -p tcp -m tcp --dport 22 -j ACCEPT
COMMIT
"""
FIREWALLD = """
table inet firewalld {
  chain filter_INPUT { type filter hook input priority 10; policy accept;
    ct state { established, related } accept
    iifname "lo" accept
    ct state invalid drop
    tcp dport 22 accept
    reject with icmpx admin-prohibited
  }
  chain filter_FORWARD { type filter hook forward priority 10; policy accept;
    ct state { established, related } accept
    ct status dnat accept
    iifname "lo" accept
    ct state invalid drop
    jump filter_FORWARD_ZONES
    reject with icmpx admin-prohibited
  }
  chain filter_FORWARD_ZONES {
    iifname "docker0" goto docker
    goto public
  }
  chain docker {
    accept
  }
  chain public {
    oifname "docker0" ct state new accept
  }
}
"""
LIBVIRT = """*filter
:LIBVIRT_FWI - [0:0]
:LIBVIRT_FWO - [0:0]
:LIBVIRT_FWX - [0:0]
-I FORWARD -j LIBVIRT_FWO
-I FORWARD -j LIBVIRT_FWI
-I FORWARD -j LIBVIRT_FWX
-A LIBVIRT_FWI -d 198.18.122.0/24 -o virbr0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A LIBVIRT_FWI -o virbr0 -j REJECT --reject-with icmp-port-unreachable
-A LIBVIRT_FWO -s 198.18.122.0/24 -i virbr0 -j ACCEPT
-A LIBVIRT_FWO -i virbr0 -j REJECT --reject-with icmp-port-unreachable
-A LIBVIRT_FWX -i virbr0 -o virbr0 -j ACCEPT
COMMIT
"""


def firewall_ufw(lab: Lab) -> Recorded:
    """ufw beside Docker: every policy drops, both have chains of their own that accept."""
    host = wired(lab)
    engine = docker(lab, host)
    engine.run("c1", "-p", "8001:80")
    engine.run("c2")
    host.run("iptables-restore", "--noflush", stdin=UFW)
    yield "docker-ufw", host


def firewall_firewalld(lab: Lab) -> Recorded:
    """firewalld's table beside Docker's chains: docker0 is in a zone that accepts, the rest is refused by name."""
    host = wired(lab)
    engine = docker(lab, host)
    engine.run("c1")
    host.run("nft", "-f", "-", stdin=FIREWALLD)
    yield "docker-firewalld", host


def libvirt(lab: Lab) -> Recorded:
    """A bridge of libvirt with a guest's tap, and its rules above those of Docker."""
    host = wired(lab)
    docker(lab, host).run("c1")
    host.ip("link add virbr0 type bridge\naddr add 198.18.122.1/24 dev virbr0\nlink set virbr0 up")
    host.ip("tuntap add vnet0 mode tap\nlink set vnet0 address fe:54:00:12:34:56 master virbr0 up")
    host.run("iptables-restore", "--noflush", stdin=LIBVIRT)
    yield "docker-libvirt", host


def guest(lab: Lab, host: LabHost, name: str, bridge: str, address: str, gateway: str, mtu: int = 1500) -> Room:
    """A container of an engine that nobody can ask: a namespace on a bridge of the host."""
    room = lab.room(name)
    cable(host, f"v{name}", room, "eth0", mtu)
    host.ip(f"link set v{name} master {bridge}")
    room.ip(f"addr add {address} dev eth0\nroute add default via {gateway}")
    return room


def lxd(lab: Lab) -> Recorded:
    """LXD beside Docker, whose policy drops what it does not know: lxdbr0 is let through in DOCKER-USER."""
    host = wired(lab)
    docker(lab, host).run("c1", "-p", "8001:80")
    host.ip("link add lxdbr0 type bridge\naddr add 198.18.111.1/24 dev lxdbr0\nlink set lxdbr0 up")
    host.run("sh", "-c", _GUEST.format(n=1))
    host.run("sh", "-c", _GUEST.format(n=2))
    for way in ("-i", "-o"):
        host.run("iptables", "-I", "DOCKER-USER", way, "lxdbr0", "-j", "ACCEPT")
    yield "docker-lxd", host


_GUEST = """
ip netns add u{n}
ip link add vu{n} type veth peer name eth0 netns u{n}
ip link set vu{n} master lxdbr0 up
ip -n u{n} link set lo up
ip -n u{n} link set eth0 up
ip -n u{n} addr add 198.18.111.1{n}/24 dev eth0
ip -n u{n} route add default via 198.18.111.1
"""

# --- nodes of Kubernetes: what a network plugin builds, and the files it writes ---------------------------------------


FLANNEL_ENV = "FLANNEL_NETWORK=198.19.0.0/16\nFLANNEL_SUBNET=198.19.1.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n"
FLANNEL_CNI = {
    "name": "cbr0", "cniVersion": "0.3.1",
    "plugins": [{"type": "flannel", "delegate": {"hairpinMode": True, "isDefaultGateway": True}}],
}  # fmt: skip
FLANNEL_RULES = """*filter
:FLANNEL-FWD - [0:0]
-P FORWARD DROP
-A FORWARD -j FLANNEL-FWD
-A FLANNEL-FWD -s 198.19.0.0/16 -j ACCEPT
-A FLANNEL-FWD -d 198.19.0.0/16 -j ACCEPT
COMMIT
*nat
:FLANNEL-POSTRTG - [0:0]
-A POSTROUTING -j FLANNEL-POSTRTG
-A FLANNEL-POSTRTG -s 198.19.0.0/16 ! -d 224.0.0.0/4 -j MASQUERADE
COMMIT
"""
CALICO_CNI = {
    "name": "k8s-pod-network", "cniVersion": "0.3.1",
    "plugins": [{"type": "calico", "mtu": 0, "nodename": "h", "ipam": {"type": "calico-ipam"}}],
}  # fmt: skip


def _pod(host: LabHost, name: str, far: str, address: str, mtu: int, gateway: str) -> None:
    """A pod's namespace with its cable, as a plugin makes it."""
    host.run("ip", "netns", "add", name)
    host.ip(f"link add {far} mtu {mtu} type veth peer name eth0 mtu {mtu} netns {name}\nlink set {far} up")
    words = f"addr add {address} dev eth0\nlink set lo up\nlink set eth0 up\nroute add {gateway} dev eth0 scope link\n"
    host.run("ip", "-n", name, "-batch", "-", stdin=words + f"route add default via {gateway} dev eth0\n")


def _tunnel(host: LabHost, name: str, vni: int, own: str, far: tuple[str, str, str]) -> None:
    """The plugin's VXLAN device, and what its daemon wrote into tables about one other node."""
    subnet, gateway, node = far
    host.ip(f"""link add {name} mtu 1450 type vxlan id {vni} dev eth0 local 198.18.2.2 dstport 8472 nolearning
        addr add {own}/32 dev {name}
        link set {name} up
        route add {subnet} via {gateway} dev {name} onlink
        neigh add {gateway} lladdr 0a:00:00:00:00:02 dev {name} nud permanent""")
    host.run("bridge", "fdb", "append", "0a:00:00:00:00:02", "dev", name, "dst", node)


def k8s_flannel(lab: Lab) -> Recorded:
    """A node of flannel: cni0, flannel.1, another node's pods behind it."""
    host = wired(lab)
    host.sysctl(ipv4__ip_forward=1)
    _tunnel(host, "flannel.1", 1, "198.19.1.0", ("198.19.2.0/24", "198.19.2.0", "198.18.2.3"))
    host.ip("link add cni0 mtu 1450 type bridge\naddr add 198.19.1.1/24 dev cni0\nlink set cni0 up")
    for n in (2, 3):
        _pod(host, f"cni-{n}", f"veth{n}", f"198.19.1.{n}/24", 1450, "198.19.1.1")
        host.ip(f"link set veth{n} master cni0")
    host.run("iptables-restore", "--noflush", stdin=FLANNEL_RULES)
    host.run("mkdir", "-p", "/run/flannel", "/etc/cni/net.d")
    host.path("/run/flannel/subnet.env").write_text(FLANNEL_ENV)
    host.path("/etc/cni/net.d/10-flannel.conflist").write_text(json.dumps(FLANNEL_CNI))
    yield "k8s-flannel", host


def k8s_calico(lab: Lab) -> Recorded:
    """A node of Calico: pods of /32 behind a gateway that nobody has, strict reverse path check, vxlan.calico."""
    host = wired(lab)
    host.sysctl(ipv4__ip_forward=1, ipv4__conf__all__rp_filter=1)
    _tunnel(host, "vxlan.calico", 4096, "198.19.1.0", ("198.19.2.0/26", "198.19.2.0", "198.18.2.3"))
    host.ip("route add blackhole 198.19.1.0/26 proto 80")
    for n in (2, 3):
        _pod(host, f"cni-{n}", f"cali{n}", f"198.19.1.{n}/32", 1450, "169.254.1.1")
        host.ip(f"link set cali{n} address ee:ee:ee:ee:ee:ee\nroute add 198.19.1.{n} dev cali{n} scope link")
        host.sysctl(**{f"ipv4__conf__cali{n}__proxy_arp": 1})
    host.run("mkdir", "-p", "/etc/cni/net.d")
    host.path("/etc/cni/net.d/10-calico.conflist").write_text(json.dumps(CALICO_CNI))
    yield "k8s-calico", host


RECIPES: dict[str, Callable[[Lab], Recorded]] = {
    f.__name__: f
    for f in (docker_default, docker_empty, docker_mtu, docker_compose, docker_closed, docker_macvlan, docker_v6,
              docker_jumbo, swarm, nested, podman_netavark, podman_cni, containerd, firewall_ufw, firewall_firewalld,
              libvirt, lxd, k8s_flannel, k8s_calico)
}  # fmt: skip


def record(host: LabHost, label: str, folder: Path, names: dict[str, dict[str, str]]) -> None:
    """`pathfit snapshot` on the host, as its root would type it; then with pseudonyms, as `--redact` makes them."""
    inside = host.folder / "snapshot.json.gz"
    done = host.call(str(PATHFIT), "snapshot", "-o", str(inside))
    assert done.returncode == 0, done.stderr
    plain = recorded.load_snapshot(inside)
    hidden = redact(plain, KEY)
    for engine, twin in zip(plain.engines, hidden.engines, strict=True):
        pairs = zip(engine.containers, twin.containers, strict=True)
        names.setdefault(label, {}).update({b.name or b.id[:12]: a.name for a, b in pairs if not a.sandbox})
    for space, other in zip(plain.namespaces, hidden.namespaces, strict=True):
        if space.where.startswith(("netns:", "pod:")) and "/run/" not in space.where:
            names.setdefault(label, {})[other.where.partition(":")[2]] = space.where.partition(":")[2]
    path = folder / f"{label}.json.gz"
    whole.write(path, recorded.pack(hidden, compress=True))
    path.chmod(0o644)
    print(path.name, path.stat().st_size, done.stderr.strip())


def scanned(host: LabHost, lang: str) -> str:
    """What `pathfit scan -v` prints there."""
    env = {"COLUMNS": "80", "LANG": "C.UTF-8", "PATH": os.environ["PATH"]}
    return host.call(str(PATHFIT), "scan", "-v", "--lang", lang, env=env).stdout


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("names", nargs="*", choices=[*RECIPES, []])
    options.add_argument("--to", type=Path, default=HERE / "data")
    options.add_argument("--show", action="store_true", help="print what a scan says of each")
    asked = options.parse_args()
    known = asked.to / "names.json"
    names = json.loads(known.read_text()) if known.exists() else {}
    for name in asked.names or RECIPES:
        with Lab() as lab:
            for label, host in RECIPES[name](lab):
                record(host, label, asked.to, names)
                if asked.show:
                    print(scanned(host, "en") + scanned(host, "zh"))
    known.write_text(json.dumps(names, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
