"""Who is there: one workload for each network namespace that is somebody's."""

from typing import Any

import pytest

from pathfit.core.engine import Container, Endpoint, Engine, EngineNetwork, Workload
from pathfit.core.evidence_base import Missing
from pathfit.core.snapshot import SCHEMA, HostSnapshot, Link, NetnsSnapshot, Process
from pathfit.model.workloads import titles, workloads

LO = Link(index=1, name="lo", mtu=65536, loopback=True)
ETH = Link(index=2, name="eth0", mtu=1500, kind="veth")


def space(number: int, where: str, *names: str, links: tuple[Link, ...] = (LO, ETH), **more: Any) -> NetnsSnapshot:
    return NetnsSnapshot(id=f"4:{number}", where=where, names=names, links=links, **more)


HOST = space(1, "host", "pid:1")


def container(name: str, netns: int = 0, **more: Any) -> Container:
    given = {"id": f"{name:x<12}{'0' * 52}", "name": name, "engine": "docker", "network_mode": "web", **more}
    return Container(netns=f"4:{netns}" if netns else "", **given)


def engine(*containers: Container, **more: Any) -> Engine:
    return Engine(**{"kind": "docker", "socket": "/s", "netns": "4:1", "containers": containers, **more})


def found(*engines: Engine, spaces: tuple[NetnsSnapshot, ...] = (), own: str = "4:1") -> dict[str, Workload]:
    host = HostSnapshot(schema=SCHEMA, host="h", namespaces=(HOST, *spaces), own=own, engines=engines)
    listed = workloads(host)
    assert len({w.name for w in listed}) == len(listed)
    return {w.name: w for w in listed}


def test_a_container_with_all_that_is_known_of_it() -> None:
    ends = (Endpoint(network="n1", name="web"), Endpoint(network="n2", name="db"))
    one = container("ci", 2, endpoints=ends, compose_project="shop")
    assert found(engine(one), spaces=(space(2, "container:ci"),)) == {
        "ci": Workload(
            name="ci", where="container:ci", netns="4:2", engine="docker", networks=("web", "db"), project="shop"
        )
    }


@pytest.mark.parametrize(
    ("one", "note", "netns"),
    [
        (container("a", 1, network_mode="host"), "host-network", "4:1"),
        (container("a", 1), "host-network", "4:1"),  # Kubernetes' hostNetwork has no mode of its own
        (container("a", network_mode="host"), "host-network", ""),
        (container("a", 9), "not-visible", ""),
        (container("a"), "not-visible", ""),
        (container("a", state="exited"), "exited", ""),
        (container("a", state="created"), "exited", ""),
        (container("a", 2), "no-network", "4:2"),
    ],
)
def test_why_one_cannot_be_judged(one: Container, note: str, netns: str) -> None:
    (told,) = found(engine(one), spaces=(space(2, "container:a", links=(LO,)),)).values()
    assert (told.note, told.netns, told.where) == (note, netns, "container:a")


def test_those_that_share_a_namespace_are_one() -> None:
    side = container("aside", 2, network_mode="container:web")
    told = found(engine(side, container("web", 2)), spaces=(space(2, "container:web"),))
    assert [(w.name, w.members) for w in told.values()] == [("web", ("aside",))]


def test_a_pod_goes_by_its_name() -> None:
    pause = container("pause", 2, pod="shop/web-1", sandbox=True)
    app = container("app", 2, pod="shop/web-1")
    told = found(engine(app, pause, kind="containerd"), spaces=(space(2, "pod:shop/web-1"),))
    assert [(w.name, w.where, w.pod, w.members) for w in told.values()] == [
        ("shop/web-1", "pod:shop/web-1", "shop/web-1", ("app",))
    ]


def test_the_same_name_at_two_depths() -> None:
    outer = engine(container("dind", 2), container("web", 3))
    inner = engine(container("web", 4, id="b" * 64), socket="/t", netns="4:2", depth=1, inside_name="dind")
    deep = engine(container("web", 5, id="c" * 64), socket="/u", netns="4:4", depth=2, inside_name="dind/web")
    words = titles((outer, inner, deep))
    # The outer one has no name that is its alone
    assert [words[(e.kind, e.socket, c.id)] for e in (outer, inner, deep) for c in e.containers] == [
        *("dind", "", "dind/web", "dind/web/web")
    ]
    assert titles((outer,))[("docker", "/s", outer.containers[1].id)] == "web"


def test_a_container_on_the_network_of_the_one_its_engine_is_in() -> None:
    """`--network host` of an inner engine: the outer container's namespace, which is judged as that one's."""
    outer = engine(container("dind", 2))
    inner = engine(container("tool", 2, network_mode="host"), socket="/t", netns="4:2", inside_name="dind")
    told = found(outer, inner, spaces=(space(2, "container:dind"),))
    assert {n: w.note for n, w in told.items()} == {"dind": "", "tool": "host-network"}


@pytest.mark.parametrize(
    ("ns", "name"),
    [
        (space(2, "netns:lab"), "lab"),
        (space(2, "netns:/srv/ns/x"), "/srv/ns/x"),
        (space(2, "pid:812", processes=(Process(pid=812, name="nginx"),)), "nginx[812]"),
        (space(2, "pid:812"), "pid:812"),  # in outline: its processes were not read
        (space(2, "container:0123456789ab", "pid:9"), "0123456789ab"),  # by its cgroup alone
        (space(2, "netns:lab", links=(), missing=(Missing(what="links", why="x"),)), "lab"),
    ],
)
def test_a_guest_without_an_engine(ns: NetnsSnapshot, name: str) -> None:
    (told,) = found(spaces=(ns,)).values()
    assert (told.name, told.where, told.netns, told.engine, told.note) == (name, ns.where, "4:2", "", "")


@pytest.mark.parametrize(
    "ns",
    [
        space(2, "netns:quiet", links=(LO,)),
        space(2, "netns:quiet", links=(LO, Link(index=2, name="tunl0", mtu=1480, kind="ipip", up=False))),
        space(2, "pid:1"),  # the machine itself, seen from one of its guests
        space(2, "netns:x", processes=(Process(pid=1, name="systemd"),)),
        space(2, "netns:/run/docker/netns/1-3k1dmmqoqg"),
        space(2, "netns:/proc/71/root/var/run/docker/netns/2-3k1dmmqoqg"),
        space(2, "netns:/run/docker/netns/lb_3k1dmmqoq"),
        space(2, "netns:/run/docker/netns/ingress_sbox"),
        space(2, "netns:/run/user/1000/containers/networks/rootless-netns/rootless-netns"),
        space(2, "netns:/run/user/1000/netns/rootless-netns-1f2e3d"),
    ],
)
def test_nobody_s_namespace(ns: NetnsSnapshot) -> None:
    assert found(spaces=(ns,)) == {}


def test_what_an_engine_says_is_its_own() -> None:
    overlay = EngineNetwork(id="n", name="wide", driver="overlay", netns="4:2")
    assert found(engine(networks=(overlay,)), spaces=(space(2, "netns:odd"),)) == {}
    assert found(engine(netns="4:2", rootless=1000), spaces=(space(2, "pid:7"),)) == {}


@pytest.mark.parametrize("name", ["", "a b", "-x", "a;rm", "名", "a/b", "a\n"])
def test_a_name_no_engine_gives_is_no_word(name: str) -> None:
    one = container(name, 2, id="f" * 64)
    assert titles((engine(one),))[("docker", "/s", one.id)] == ""
    (told,) = found(engine(container(name, id="f" * 64))).values()
    assert told.where == "container:" + "f" * 12
