"""Where there are many namespaces, only those that hang together with the asked one are read in full."""

import netlab
import pytest

from pathfit.core.evidence import Missing
from pathfit.core.snapshot import HostSnapshot, Link, NetnsSnapshot
from pathfit.model import Network
from pathfit.observe import kernel, peers, places
from pathfit.observe.kernel import Observer


def space(ident: str, *leads: str | None) -> NetnsSnapshot:
    links = tuple(Link(index=i, name=f"e{i}", mtu=1500, peer_nsid=i, peer_ns=to) for i, to in enumerate(leads, 2))
    return NetnsSnapshot(id=ident, where=f"netns:{ident}", links=links)


TOGETHER = {
    "alone": ((space("a"), space("b")), {"a"}),
    "a chain, seen from its end": ((space("a", "b"), space("b", "a", "c"), space("c"), space("d", "e")), set("abc")),
    "told by the other end only": ((space("a", None), space("b", "a")), set("ab")),
    "a ring": ((space("a", "b"), space("b", "c"), space("c", "a")), set("abc")),
    "leads where nobody was": ((space("a", "x"), space("b")), set("ax")),
}


@pytest.mark.parametrize("name", TOGETHER)
def test_what_hangs_together(name: str) -> None:
    snapshots, expected = TOGETHER[name]
    assert peers.together(snapshots, "a") == expected


def test_the_model_does_not_see_outlines() -> None:
    seen = NetnsSnapshot(id="1:1", where="netns:a")
    outline = NetnsSnapshot(id="1:2", where="netns:b", outline=True)
    network = Network.of(HostSnapshot(schema="pathfit.snapshot/1", host="h", namespaces=(seen, outline)))
    assert network.find("netns:a") is not None
    assert network.find("netns:b") is None


@pytest.mark.lab
def test_only_what_hangs_together_is_read_in_full(monkeypatch: pytest.MonkeyPatch) -> None:
    """The asked namespace and those behind its links are the same as in a full read; the others are outlines."""
    monkeypatch.setattr(kernel, "FEW", 0)
    with netlab.nets() as net:
        net.add("a", "b", "c", "z")
        for left, right in (("a", "b"), ("b", "c")):
            net.ip(left, f"link add to-{right} type veth peer name to-{left} netns {net(right)}")
        net.ip("b", "link add br0 type bridge")
        net.ip("c", "addr add 10.9.0.1/24 dev to-b")
        net.ip("z", "link add br1 type bridge")
        found = places.locate(f"netns:{net('a')}")
        assert not isinstance(found, Missing)
        with found[0] as handle:
            around = {n.where: n for n in Observer(handle).state("state", "all").host.namespaces}
            whole = {n.where: n for n in kernel.read_host(handle, "all").namespaces}
        for name in "abc":
            where = f"netns:{net(name)}"
            assert around[where] == whole[where]
            assert around[where].sysctls
        far = around[f"netns:{net('z')}"]
        assert far.outline
        assert [x.name for x in far.links] == [x.name for x in whole[far.where].links]
        assert next(iter(around)) == next(iter(whole))
