"""Snapshots that no kernel would give: everything is drawn, nothing raises, nothing hangs."""

import random

import pytest
from maps import LAB, VXLAN, ZOO, crowd
from msgspec.structs import replace
from topo import host

from pathfit.core.evidence_base import Missing
from pathfit.core.snapshot import Address, FdbEntry, HostSnapshot, Link, Vxlan, Wireguard, WireguardPeer
from pathfit.model import Network
from pathfit.render.map import document, page, text
from pathfit.render.map.build import build
from pathfit.render.map.graph import Map

KINDS = ("", "veth", "bridge", "vxlan", "vlan", "macvlan", "gre", "wireguard", "bond", "odd\u202e")


def drawn(*hosts: HostSnapshot) -> Map:
    """The map, written in every way."""
    m = build(Network.of(*hosts), hosts)
    for lang in ("en", "zh"):
        page.render(m, lang=lang).encode()
        text.render(m, lang=lang).encode()
    document.dump(m)
    return m


def shaken(seed: int) -> HostSnapshot:
    """A machine whose links say what they like: of themselves, of each other, of what is not there."""
    dice = random.Random(seed)
    snapshot = host(dice.choice((LAB, VXLAN, ZOO, crowd(8, 2))))
    ids = [n.id for n in snapshot.namespaces]

    def link(x: Link) -> Link:
        if dice.random() < 0.5:
            return x
        return replace(
            x,
            index=dice.choice((x.index, 0, 2, 3, -1, 1 << 40)),
            name=dice.choice((x.name, "", "eth0", "\u202ex", "x" * 4000)),
            mtu=dice.choice((x.mtu, 0, -5, 1 << 62)),
            kind=dice.choice((x.kind, *KINDS)),
            master=dice.choice((0, x.index, 2, 3, 99)),
            peer=dice.choice((0, x.index, 2, 3, 99)),
            peer_nsid=dice.choice((None, 0, 7)),
            peer_ns=dice.choice((None, "gone", *ids)),
            loopback=dice.random() < 0.2,
            vxlan=dice.choice((x.vxlan, Vxlan(vni=dice.randint(0, 2), remote="198.18.9.1", lower=dice.randint(0, 4)))),
            wireguard=dice.choice((None, Wireguard(public_key="k", peers=(WireguardPeer(public_key="k"),)))),
            info=dice.choice((x.info, {"remote": 7, "lower": "x"}, {"remote": "no address", "id": True})),
        )

    spaces = []
    for n in snapshot.namespaces:
        more = (Address(link=dice.randint(0, 5), address="not an address", prefix=-1),)
        entry = FdbEntry(link=dice.randint(0, 5), mac="?", remote=dice.choice(("", "x", "198.18.9.2", "::")), own=True)
        links = tuple(link(x) for x in n.links)
        spaces.append(replace(n, links=links, addresses=(*n.addresses, *more), fdb=(*n.fdb, entry)))
    return replace(snapshot, namespaces=tuple(spaces))


@pytest.mark.parametrize("seed", range(80))
def test_links_that_lie(seed: int) -> None:
    snapshot = shaken(seed)
    m = drawn(snapshot)
    assert [s.where for s in m.spaces()] == [n.where for n in snapshot.namespaces]


def test_a_host_of_which_nothing_was_seen() -> None:
    empty = replace(host(""), host="dark", boot_id="d", missing=(Missing(what="namespaces", why="not permitted"),))
    m = drawn(host(LAB), empty)
    assert [(h.name, len(h.spaces), len(h.missing)) for h in m.hosts] == [("h", 4, 0), ("dark", 0, 1)]
    assert drawn(empty).hosts[0].name == "dark"


def test_two_machines_of_one_name() -> None:
    m = drawn(host(LAB), replace(host(VXLAN), boot_id="other"))
    assert len(m.hosts) == 2 and len({h.name for h in m.hosts}) == 2


def test_one_machine_twice() -> None:
    m = drawn(host(LAB), host(LAB))
    assert len(m.hosts) == 1 and len(m.spaces()) == 4


def test_outlines_are_out_of_sight() -> None:
    snapshot = host(LAB)
    spaces = (*snapshot.namespaces[:1], *(replace(n, outline=True) for n in snapshot.namespaces[1:]))
    assert len(drawn(replace(snapshot, namespaces=spaces)).spaces()) == 1


def test_a_long_row_of_bridges() -> None:
    """Each a port of the next: deeper than any tree a reader would follow, and no recursion."""
    links = [f"h b{i} bridge 1500 @b{i + 1}" for i in range(3000)]
    assert len(drawn(host("\n".join([*links, "h b3000 bridge 1500"]))).devices()) == 3002
