"""Where nodes are found: processes of makers and kubelets in namespaces and roots of their own, as the kernel shows
them."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from netlab import Net, nets, run
from nodetree import tree

from pathfit import survey
from pathfit.core.node import NodeFacts
from pathfit.core.snapshot import HostSnapshot
from pathfit.host import netns
from pathfit.observe.kernel import Observer

SUBNET = "FLANNEL_MTU={}\n"
CONFIG = '{"Network": "10.244.0.0/16", "Backend": {"Type": "vxlan"}}'


@contextmanager
def living(name: str, namespace: str, root: Path) -> Iterator[int]:
    """A process called ``name`` in that network namespace that sees ``root`` as "/"."""
    ready, tell = os.pipe()
    child = os.fork()
    if child == 0:  # nothing here may return into pytest
        try:
            fd = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
            netns.setns(fd)
            Path("/proc/self/comm").write_text(name)
            os.chroot(root)
            os.chdir("/")
            os.write(tell, b".")
            signal.pause()
        finally:
            os._exit(1)
    os.close(tell)
    try:
        assert os.read(ready, 1) == b"."
        yield child
    finally:
        os.close(ready)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def look() -> HostSnapshot:
    return Observer(None).state("state", "all").host


def said(host: HostSnapshot, where: str) -> NodeFacts | None:
    return next((n for n in host.nodes if n.where == where), None)


@pytest.mark.lab
def test_an_agent_in_a_root_of_its_own_is_a_node(tmp_path: Path) -> None:
    """Its files are read below its root; a link that would lead into ours leads into its own."""
    (tmp_path / "ours.env").write_text(SUBNET.format(1111))
    tree(tmp_path / "a", {"run/flannel/subnet.env": f"-> {tmp_path}/ours.env"})
    tree(tmp_path / "b", {"run/flannel/subnet.env": "-> /etc/real.env", "etc/real.env": SUBNET.format(1450)})
    with (
        nets() as net,
        _spaces(net, "a", "b"),
        living("flanneld", net("a"), tmp_path / "a"),
        living("flanneld", net("b"), tmp_path / "b"),
    ):
        host = look()
    first, second = said(host, f"netns:{net('a')}"), said(host, f"netns:{net('b')}")
    assert first is not None and [(o.maker, o.granted) for o in first.overlays] == [("flannel", None)]
    assert second is not None and [(o.maker, o.granted) for o in second.overlays] == [("flannel", 1450)]


@pytest.mark.lab
def test_a_kubelets_root_is_the_nodes(tmp_path: Path) -> None:
    """An agent in a container sees other files; those of the node are the kubelet's."""
    tree(tmp_path / "node", {"run/flannel/subnet.env": SUBNET.format(1400), "var/lib/calico/mtu": "1390"})
    tree(tmp_path / "pod", {"etc/kube-flannel/net-conf.json": '{"Backend": {"Type": "vxlan", "MTU": 1450}}'})
    with (
        nets() as net,
        _spaces(net, "n"),
        living("flanneld", net("n"), tmp_path / "pod"),
        living("kubelet", net("n"), tmp_path / "node") as kubelet,
    ):
        host = look()
    found = said(host, f"netns:{net('n')}")
    assert found is not None and found.root == f"/proc/{kubelet}/root"
    assert [(o.maker, o.granted, o.mtu) for o in found.overlays] == [("flannel", 1400, 1450), ("calico", 1390, None)]


@pytest.mark.lab
def test_a_container_without_any_of_them_is_none(tmp_path: Path) -> None:
    tree(tmp_path / "c", {"run/flannel/subnet.env": SUBNET.format(1400)})
    with nets() as net, _spaces(net, "c"), living("nginx", net("c"), tmp_path / "c"):
        host = look()
    assert said(host, f"netns:{net('c')}") is None


FOUND = """
link add flannel.1 mtu 1450 type vxlan id 1 local 198.18.1.2 dstport 8472 nolearning
link set flannel.1 address 02:00:00:00:0f:01
link set flannel.1 up
link set eth0 up
link set eth1 up
addr add 198.18.1.2/24 dev eth0
addr add 198.18.2.2/24 dev eth1
addr add 10.244.1.0/32 dev flannel.1
route add default via 198.18.1.1
route add 10.244.2.0/24 via 10.244.2.0 dev flannel.1 onlink
neigh add 10.244.2.0 lladdr 02:00:00:00:0f:02 dev flannel.1 nud permanent
"""


def far_end(net: Net) -> None:
    """The other node, beyond eth1, which carries 1400."""
    net.batch(
        "m",
        """
        link add flannel.1 mtu 1450 type vxlan id 1 local 198.18.2.9 dstport 8472 nolearning
        link set flannel.1 address 02:00:00:00:0f:02
        link set flannel.1 up
        link set eth1 up
        addr add 198.18.2.9/24 dev eth1
        addr add 10.244.2.1/24 dev flannel.1
        route add 198.18.1.0/24 dev eth1
        route add 10.244.1.0/24 via 10.244.1.0 dev flannel.1 onlink
        neigh add 10.244.1.0 lladdr 02:00:00:00:0f:01 dev flannel.1 nud permanent
        """,
    )
    net.inside("m", *["bridge", "fdb", "append", "02:00:00:00:0f:01", "dev", "flannel.1", "dst", "198.18.2.2"])


def passes(net: Net, size: int) -> bool:
    """Does a packet of ``size`` bytes get to the other node in one piece, outside as well? Filters drop pieces."""
    words = ["ip", "netns", "exec", net("n"), *f"ping -c1 -W1 -M do -s {size - 28} 10.244.2.1".split()]
    return subprocess.run(words, capture_output=True, timeout=20).returncode == 0


@pytest.mark.lab
def test_a_node_sized_by_the_wrong_device(tmp_path: Path) -> None:
    """flannel found eth0 (1500); the other node is reached by eth1 (1400). What the rule says fits is what really
    passes whole, and what flannel grants does not."""
    files = {"run/flannel/subnet.env": SUBNET.format(1450), "etc/kube-flannel/net-conf.json": CONFIG}
    tree(tmp_path / "n", {**files})
    with nets() as net, _spaces(net, "n", "m", "r"):
        run("ip", "link", "add", "eth0", "netns", net("n"), "type", "veth", "peer", "name", "up0", "netns", net("r"))
        cable = ("peer", "name", "eth1", "mtu", "1400", "netns", net("m"))
        run("ip", "link", "add", "eth1", "mtu", "1400", "netns", net("n"), "type", "veth", *cable)
        net.ip("r", "link set up0 up")
        net.batch("n", FOUND)
        net.inside("n", *["bridge", "fdb", "append", "02:00:00:00:0f:02", "dev", "flannel.1", "dst", "198.18.2.9"])
        far_end(net)
        for name in ("n", "m"):  # pieces of outer packets are lost: what arrives fitted
            net.inside(name, "nft", "add table ip whole")
            net.inside(name, "nft", "add chain ip whole in { type filter hook prerouting priority -500; }")
            net.inside(name, "nft", "add rule ip whole in ip frag-off & 0x3fff != 0 drop")
        with living("flanneld", net("n"), tmp_path / "n"):
            host = look()
        (found,) = [f for f in survey.judge(host).findings if f.code == "CFG604"]
        fits, given = found.facts["fits"], found.facts["given"]
        assert (fits, given) == (1350, 1450)
        assert isinstance(fits, int) and passes(net, fits)
        assert not passes(net, fits + 1)
    assert found.where[1].link == "eth1"
    assert (found.severity, found.confidence) == ("warning", "likely")


@contextmanager
def _spaces(net: Net, *names: str) -> Iterator[None]:
    net.add(*names)
    yield
