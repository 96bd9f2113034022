"""Each kind of change: made, held, taken back, on networks that make it hard; and what is refused instead."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import kit
import pytest
from netlab import Net, nets, settled

from pathfit.apply import routes, sequence
from pathfit.apply.step import Foreign, Gone, Impossible
from pathfit.apply.steps import step_of
from pathfit.apply.store import Store
from pathfit.core.change import Change, SetLinkMtu, SetRouteMtu
from pathfit.core.journal import Journal, Place
from pathfit.lab import Lab, load

pytestmark = pytest.mark.lab


@pytest.fixture
def net() -> Iterator[Net]:
    with nets() as made:
        yield made


def done_and_undone(net: Net, tmp_path: Path, changes: tuple[Change, ...]) -> str:
    """The state in between. Before and after are equal."""
    store, before = Store(tmp_path / "state"), kit.state(net)
    journal = kit.repair(store, changes)
    between = kit.state(net)
    assert sequence.holds(journal)
    end = sequence.undo(store, journal)
    assert (end.state, [s.note for s in end.steps if s.note]) == ("undone", [])
    assert kit.state(net) == before
    return between


# --- routes ----------------------------------------------------------------------------------------------------------


def test_every_attribute_of_a_route_stays(net: Net, tmp_path: Path) -> None:
    kit.build(net)
    between = done_and_undone(net, tmp_path, (kit.route(net, 4, 1400),))
    assert '"mtu": 1400' in between and '"initcwnd": 12' in between
    locked = {mtu: kit.route(net, 4, mtu, dst="198.18.77.0", prefix=24) for mtu in (1400, 1300)}
    assert '"advmss": 1300' in done_and_undone(net, tmp_path / "2", (locked[1400],))
    assert '"advmss": 1260' in done_and_undone(net, tmp_path / "3", (locked[1300],))  # it would still invite 1340


def test_a_route_of_its_own_table_and_tos_and_a_connected_one(net: Net, tmp_path: Path) -> None:
    kit.build(net)
    net.batch(
        "b", "route add default via 198.18.1.1 table 77 metric 9\nroute add 198.18.9.0/24 via 198.18.1.1 tos 0x10"
    )
    for n, more in enumerate(
        (
            {"table": 77, "metric": 9},
            {"dst": "198.18.9.0", "prefix": 24, "tos": 16},
            {"dst": "198.18.1.0", "prefix": 24, "via": None},
        )
    ):
        done_and_undone(net, tmp_path / str(n), (kit.route(net, 4, 1400, **more),))


def test_a_route_of_a_nexthop_object_is_refused(net: Net) -> None:
    """The kernel would not take the MTU off again."""
    kit.build(net)
    net.batch("b", "nexthop add id 9 via 198.18.1.1 dev eth0\nroute add 198.18.33.0/24 nhid 9")
    change = kit.route(net, 4, 1400, dst="198.18.33.0", prefix=24)
    with pytest.raises(Impossible, match="next hop object"):
        step_of(change).prepare(change, "t")


@pytest.mark.parametrize(
    ("lines", "family", "why"),
    [
        ("route append default via 198.18.1.3 proto static", 4, None),  # ours stands first: fine
        ("route prepend default via 198.18.1.3 proto static", 4, "stands before it"),
        ("route append default via fd00::7", 6, "not there any more"),  # it is one of two ways now
        ("route del default", 4, "not there any more"),
    ],
)
def test_only_what_the_kernel_would_change(net: Net, lines: str, family: int, why: str | None) -> None:
    kit.build(net)
    change = kit.route(net, family, 1400)
    net.ip("b", f"-{family} {lines}")
    if why is None:
        step_of(change).prepare(change, "t")
        return
    with pytest.raises((Impossible, Gone), match=why):
        step_of(change).prepare(change, "t")


def test_two_default_routes_in_order(net: Net, tmp_path: Path) -> None:
    """The first of two IPv4 routes of one prefix is changed, and both stand where they stood."""
    kit.build(net)
    net.ip("b", "route append default via 198.18.1.3 proto static")
    order = net.ip("b", "route show default")
    done_and_undone(net, tmp_path, (kit.route(net, 4, 1400),))
    assert net.ip("b", "route show default") == order


def test_a_route_that_somebody_changed_is_theirs(net: Net, tmp_path: Path) -> None:
    kit.build(net)
    change = kit.route(net, 4, 1400)
    store = Store(tmp_path)
    journal = kit.repair(store, (change,))
    net.ip("b", "route change default via 198.18.1.1 proto static mtu 1333")
    end = sequence.undo(store, journal)
    assert end.state == "failed" and "somebody else" in end.steps[0].note
    with pytest.raises(Foreign):
        step_of(change).perform(change, journal.steps[0].prepared, "t")
    assert "mtu 1333" in net.ip("b", "route show default")
    net.ip("b", "route del default")
    assert sequence.undo(store, end).steps[0].state == "gone"


# --- devices ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mtu", [1400, 1281, 1280, 1279, 1100])
@pytest.mark.parametrize("user", [True, False])
def test_both_halves_and_the_bridge(net: Net, tmp_path: Path, mtu: int, user: bool) -> None:
    kit.build(net, user_bridge=user)
    between = done_and_undone(net, tmp_path, kit.links(net, mtu))
    assert between.count(f'"mtu": {mtu}') >= 3


@pytest.mark.parametrize("user", [True, False])
def test_a_bridge_still_follows_its_ports_if_it_did(net: Net, tmp_path: Path, user: bool) -> None:
    """The flag that no message shows (BROPT_MTU_SET_BY_USER), seen by what a new port does to the bridge."""
    kit.build(net, user_bridge=user)
    done_and_undone(net, tmp_path, kit.links(net, 1400))
    net.batch("a", "link add d0 mtu 1380 type veth peer name d1 mtu 1380\nlink set d0 master br0")
    assert f"mtu {1500 if user else 1380} " in net.ip("a", "link show br0")


def test_what_stands_on_a_device_comes_up_again(net: Net, tmp_path: Path) -> None:
    kit.build(net)
    net.batch(
        "b",
        """
        link add link eth0 name mac0 type macvlan mode bridge
        link add link eth0 name small mtu 1200 type macvlan mode bridge
        link set mac0 up
        addr add fd07::2/64 dev mac0
        route add fd71::/48 via fd07::1 dev mac0
        """,
    )
    between = done_and_undone(net, tmp_path, (kit.links(net, 1250)[0],))
    assert between.count('"mtu": 1250') >= 2 and between.count('"mtu": 1200') >= 1


def test_a_device_that_was_renamed_or_removed_is_gone(net: Net, tmp_path: Path) -> None:
    kit.build(net)
    store = Store(tmp_path)
    journal = kit.repair(store, (kit.links(net, 1400)[1],))
    net.ip("a", "link del vb")
    assert [s.state for s in sequence.undo(store, journal).steps] == ["gone"]


def test_temporary_addresses_are_not_thrown_away(net: Net) -> None:
    kit.build(net)
    net.inside("b", "sysctl", "-qw", "net.ipv6.conf.eth0.use_tempaddr=2")
    net.ip("b", "addr add fd55::2/64 dev eth0 mngtmpaddr")
    change = kit.links(net, 1200)[0]
    with pytest.raises(Impossible, match="temporary"):
        step_of(change).prepare(change, "t")
    again = kit.links(net, 1400)[0]
    step_of(again).prepare(again, "t")


def test_a_device_that_does_not_take_it(net: Net, tmp_path: Path) -> None:
    """Nothing done, all told."""
    kit.build(net)
    store, before = Store(tmp_path), kit.state(net)
    changes = (kit.route(net, 4, 1400), SetLinkMtu(**{**_fields(kit.links(net, 1400)[0]), "mtu": 20}))
    with pytest.raises(sequence.NotDone, match="does not take MTU 20") as caught:
        sequence.apply(store, sequence.prepare(store, kit.journal(changes)))
    assert sequence.undo(store, caught.value.journal).state == "undone"
    assert kit.state(net) == before


def _fields(change: SetLinkMtu) -> dict[str, object]:
    return {name: getattr(change, name) for name in change.__struct_fields__}


# --- tables, namespaces, boots ---------------------------------------------------------------------------------------


def test_a_table_of_that_name_is_not_touched(net: Net, tmp_path: Path) -> None:
    kit.build(net)
    change = kit.table(net)
    assert '"table": "pathfit"' in done_and_undone(net, tmp_path, (change,))
    net.inside("a", "nft", 'add table inet pathfit { comment "mine" ; }')
    with pytest.raises(Impossible, match="already"):
        step_of(change).prepare(change, "t")
    broken = type(change)(**{**{n: getattr(change, n) for n in change.__struct_fields__}, "name": "x", "script": "{"})
    with pytest.raises(Impossible, match="nft does not take"):
        step_of(broken).prepare(broken, "t")


def test_another_namespace_of_that_name_is_another_one(net: Net, tmp_path: Path) -> None:
    """The name, and even the number of its file, is given again; the cookie is not."""
    kit.build(net)
    store = Store(tmp_path)
    journal = kit.repair(store, (kit.route(net, 4, 1400), kit.table(net)))
    net.remove()
    net.names.clear()
    kit.build(net)
    before = kit.state(net)
    end = sequence.undo(store, journal)
    assert (end.state, [s.state for s in end.steps]) == ("undone", ["gone", "gone"])
    assert kit.state(net) == before


def test_a_namespace_whose_name_went_is_found_by_its_process(net: Net, tmp_path: Path) -> None:
    kit.build(net)
    sleeper = subprocess.Popen(["ip", "netns", "exec", net("b"), "sleep", "600"])
    try:
        until_inside(sleeper.pid, net("b"))
        store = Store(tmp_path)
        journal = kit.repair(store, (kit.route(net, 4, 1400),))
        subprocess.run(["ip", "netns", "del", net("b")], check=True)
        assert sequence.undo(store, journal).steps[0].state == "undone"
        shown = ["nsenter", "-t", str(sleeper.pid), "-n", "ip", "route", "show", "default"]
        assert "mtu" not in subprocess.check_output(shown, text=True)
    finally:
        sleeper.kill()
        sleeper.wait()


def until_inside(pid: int, name: str) -> None:
    wanted = os.stat(f"/run/netns/{name}")
    while not os.path.samestat(os.stat(f"/proc/{pid}/ns/net"), wanted):
        pass


def test_after_a_reboot_only_files_are_left_to_undo(net: Net, tmp_path: Path) -> None:
    kit.build(net)
    etc = tmp_path / "etc"
    etc.mkdir()
    before = kit.tree(etc)
    changes = kit.files(etc)
    before = kit.tree(etc)
    store = Store(tmp_path / "state")
    journal = kit.repair(store, (*changes, kit.route(net, 4, 1400)))
    later = Journal(
        **{**{n: getattr(journal, n) for n in journal.__struct_fields__}, "runner": type(journal.runner)(boot="x")}
    )
    end = sequence.undo(store, later)
    assert [s.state for s in end.steps] == ["undone", "undone", "gone"]
    assert kit.tree(etc) == before


def test_a_change_of_a_later_version() -> None:
    class Newer(SetRouteMtu, frozen=True, kw_only=True):
        pass

    with pytest.raises(Impossible, match="cannot make"):
        step_of(Newer(netns="", where="", family=4, table=0, dst="", prefix=0, mtu=1))


@pytest.mark.parametrize("scenario", ["pmtud-works", "v6-pmtud-works"])
def test_what_is_remembered_is_forgotten(scenario: str) -> None:
    """A path MTU that the kernel learned from a "too big", of either family, and nothing else."""
    with Lab.up(load(scenario)) as lab:
        before = settled(f"{lab.prefix}-")
        assert lab.fetch("c", lab.target(), 5.0, 50_000)[0] == "ok"
        namespace = lab.where("c").removeprefix("netns:")
        remembered = [
            subprocess.check_output(["ip", "-n", namespace, f, "route", "show", "cache"]) for f in ("-4", "-6")
        ]
        assert any(b"mtu" in shown for shown in remembered)
        st = os.stat(f"/run/netns/{namespace}")
        routes.flush(Place(id=f"{st.st_dev}:{st.st_ino}", where=f"netns:{namespace}"))
        for family in ("-4", "-6"):
            assert b"mtu" not in subprocess.check_output(["ip", "-n", namespace, family, "route", "show", "cache"])
        assert settled(f"{lab.prefix}-") == before


# --- forwarding entries ----------------------------------------------------------------------------------------------


def test_an_entry_keeps_all_but_its_far_end(net: Net, tmp_path: Path) -> None:
    kit.build(net)
    between = done_and_undone(net, tmp_path, (kit.forwarding(net),))
    (line,) = [x for x in between.splitlines() if kit.STATION in x]
    assert f"dst {kit.RIGHT} port 8472 vni 9 self permanent" in line


def test_an_entry_that_leads_elsewhere_by_now_is_not_ours(net: Net, tmp_path: Path) -> None:
    kit.build(net)
    change = kit.forwarding(net)
    step = step_of(change)
    with pytest.raises(Impossible, match="do not go to"):
        step.prepare(kit.forwarding(net, old="198.18.9.9"), "t")
    with pytest.raises(Gone, match="no entry"):
        step.prepare(kit.forwarding(net, mac="02:00:00:00:00:78"), "t")
    prepared = step.prepare(change, "t")
    step.perform(change, prepared, "t")
    step.perform(change, prepared, "t")
    assert step.holds(change, prepared)
    fdb = ("bridge", "fdb", "replace", kit.STATION, "dev", "vx0", "dst", "198.18.9.8", "self", "permanent")
    net.inside("a", *fdb)
    with pytest.raises(Foreign, match="somebody else"):
        step.undo(change, prepared, "t")
    net.ip("a", "link del vx0")
    with pytest.raises(Gone):
        step.undo(change, prepared, "t")
