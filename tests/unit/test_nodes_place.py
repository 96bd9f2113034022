"""Where nodes are found: processes of makers and kubelets in namespaces and roots of their own, as the kernel shows
them."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from netlab import Net, nets
from nodetree import tree

from pathfit.core.node import NodeFacts
from pathfit.core.snapshot import HostSnapshot
from pathfit.host import netns
from pathfit.observe.kernel import Observer

SUBNET = "FLANNEL_MTU={}\n"


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


def test_a_container_without_any_of_them_is_none(tmp_path: Path) -> None:
    tree(tmp_path / "c", {"run/flannel/subnet.env": SUBNET.format(1400)})
    with nets() as net, _spaces(net, "c"), living("nginx", net("c"), tmp_path / "c"):
        host = look()
    assert said(host, f"netns:{net('c')}") is None


@contextmanager
def _spaces(net: Net, *names: str) -> Iterator[None]:
    net.add(*names)
    yield
