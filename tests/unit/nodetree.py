"""A node for tests: files below a folder, devices in a few words, processes of makers."""

from pathlib import Path

from pathfit.core.snapshot import Address, Link, NetnsSnapshot, NextHop, Route, Vxlan
from pathfit.observe.nodes.cni import plugins
from pathfit.observe.nodes.files import Root
from pathfit.observe.nodes.place import Agent, Node


def tree(folder: Path, files: dict[str, str | bytes]) -> Root:
    """``files`` by their path without the first slash; "-> target" makes a symbolic link."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif content.startswith("-> "):
            path.symlink_to(content[3:])
        else:
            path.write_text(content)
    return Root(str(folder))


def link(words: str, index: int) -> Link:
    """ "eth0 1500", "flannel.1 1450 vxlan lower=2", "tunl0 1480 ipip down"."""
    name, mtu, *rest = words.split()
    kind = next((w for w in rest if "=" not in w and w != "down"), "")
    told = dict(w.split("=") for w in rest if "=" in w)
    vxlan = Vxlan(vni=1, lower=int(told.get("lower", 0))) if kind == "vxlan" else None
    return Link(
        index=index, name=name, mtu=int(mtu), kind=kind, up="down" not in rest, carrier="down" not in rest, vxlan=vxlan,
        mac=told.get("mac", "").replace("-", ":"),
    )  # fmt: skip


def namespace(links: tuple[str, ...], addresses: dict[str, str] | None = None, routes: str = "") -> NetnsSnapshot:
    """``links`` are numbered from 1. ``addresses``: device by address. ``routes``: "dst,dev,mtu" and blanks between."""
    made = tuple(link(words, n + 1) for n, words in enumerate(links))
    index = {x.name: x.index for x in made}
    return NetnsSnapshot(
        id="4:1",
        where="host",
        links=made,
        addresses=tuple(Address(link=index[dev], address=a, prefix=24) for a, dev in (addresses or {}).items()),
        routes=tuple(
            Route(
                family=4, table=254, dst=dst, prefix=24, hops=(NextHop(link=index[dev]),), mtu=int(mtu) if mtu else None
            )
            for dst, dev, mtu in (r.split(",") for r in routes.split())
        ),
    )


def node(
    folder: Path,
    files: dict[str, str | bytes],
    *links: str,
    addresses: dict[str, str] | None = None,
    routes: str = "",
    agents: tuple[Agent, ...] = (),
    now: float = 0.0,
) -> Node:
    root = tree(folder / "node", files)
    return Node(root, namespace(links, addresses, routes), agents, plugins(root), now)


def agent(
    folder: Path, name: str, argv: str = "", files: dict[str, str | bytes] | None = None, **environment: str
) -> Agent:
    """A maker's process with files of its own."""
    inside = folder / f"container-{name}"
    inside.mkdir()
    return Agent(name, tree(inside, files or {}), (name, *argv.split()), environment)
