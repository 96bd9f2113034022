"""Who keeps a device of the host, read from what its managers leave behind, and the repair that outlives a restart."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from cases import ADDRESS, BLIND, PORT, case, hole, probe
from topo import host

from pathfit import diagnose, plan
from pathfit.core.ask import Ask, Target
from pathfit.core.case import Case
from pathfit.core.change import SetLinkMtu, WriteFile
from pathfit.core.evidence import ClockFact, Missing, PlaceFact, PlatformFact
from pathfit.core.evidence import StateFact as State
from pathfit.core.finding import Fix
from pathfit.core.platform import LinkOwner, own_file
from pathfit.core.request import Locate, Measure, ReadClock, ReadPlatform, ReadState
from pathfit.observe.platform import read
from pathfit.words.render import by_hand, title

UUID = "6c5e9a8e-3b5c-4f0e-9f0a-2f6f8f4f0c11"
NETWORKD = "ADMIN_STATE=configured\nOPER_STATE=routable\nNETWORK_FILE={}\n"
MANAGED = f"[device]\nmanaged=true\nconnection-uuid={UUID}\nnm-owned=0\n"
PROFILE = f"[connection]\nid=lan\nuuid={UUID}\ntype=ethernet\n\n[ipv4]\nmethod=auto\n"
LINKS2, NM2 = "run/systemd/netif/links/2", "run/NetworkManager/devices/2"
STATE, INTERFACES = "run/network/ifstate", "etc/network/interfaces"
STATIC = "auto eth0\niface eth0 inet static\n\taddress 198.18.2.2/24\n\tgateway 198.18.2.1\n\niface eth0 inet6 auto\n"


def owners(folder: Path, files: dict[str, str]) -> PlatformFact:
    ns = folder / "proc/1/ns/net"
    for name, text in {"proc/1/ns/net": "", **files}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    st = ns.stat()
    return read(
        ReadPlatform(ref="platform", source="host", netns=f"{st.st_dev}:{st.st_ino}", link="eth0", index=2), str(folder)
    )


@pytest.mark.parametrize(
    ("files", "owner"),
    [
        (
            {LINKS2: NETWORKD.format("/etc/systemd/network/20-lan.network")},
            LinkOwner(
                manager="networkd",
                name="/etc/systemd/network/20-lan.network",
                path="/etc/systemd/network/20-lan.network.d/99-pathfit-mtu.conf",
            ),
        ),
        (
            {
                LINKS2: NETWORKD.format("/run/systemd/network/10-netplan-nic0.network"),
                "etc/netplan/50-cloud-init.yaml": "network: {}\n",
                "etc/netplan/99-pathfit-nic0.yaml": "ours\n",
            },
            LinkOwner(manager="netplan", name="nic0", path="/etc/netplan/99-pathfit-nic0.yaml", text="ours\n"),
        ),
        (
            {NM2: MANAGED, "etc/NetworkManager/system-connections/lan.nmconnection": PROFILE},
            LinkOwner(
                manager="networkmanager", name=UUID, path="/etc/NetworkManager/conf.d/99-pathfit-eth0.conf", mtu=0
            ),
        ),
        (
            {NM2: MANAGED, "etc/NetworkManager/system-connections/lan": PROFILE + "[ethernet]\nmtu=1500\n"},
            LinkOwner(
                manager="networkmanager", name=UUID, path="/etc/NetworkManager/conf.d/99-pathfit-eth0.conf", mtu=1500
            ),
        ),
        (
            {NM2: MANAGED},  # an ifcfg file, or one in memory
            LinkOwner(manager="networkmanager", name=UUID, path="/etc/NetworkManager/conf.d/99-pathfit-eth0.conf"),
        ),
        (
            {NM2: MANAGED, "run/NetworkManager/system-connections/netplan-nic0.nmconnection": PROFILE},
            LinkOwner(manager="netplan", name="nic0", path="/etc/netplan/99-pathfit-nic0.yaml"),
        ),
        (
            {STATE: "lo=lo\neth0=eth0\n", INTERFACES: STATIC},
            LinkOwner(manager="ifupdown", name="eth0", path="/etc/network/interfaces", text=STATIC),
        ),
        (
            {
                STATE: "eth0=home\n",
                INTERFACES: "source interfaces.d/*\niface home inet6 auto\n",
                "etc/network/interfaces.d/lan": STATIC.replace("iface eth0", "iface home"),
            },
            LinkOwner(
                manager="ifupdown",
                name="home",
                path="/etc/network/interfaces.d/lan",
                text=STATIC.replace("iface eth0", "iface home"),
            ),
        ),
    ],
)
def test_one_owner(tmp_path: Path, files: dict[str, str], owner: LinkOwner) -> None:
    fact = owners(tmp_path, files)
    assert fact.owners == (owner,) and not fact.missing


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"run/systemd/netif/links/3": NETWORKD.format("/etc/systemd/network/20-lan.network")},
        {LINKS2: "ADMIN_STATE=unmanaged\nNETWORK_FILE=/etc/systemd/network/20-lan.network\n"},
        {LINKS2: "ADMIN_STATE=configured\n"},
        {NM2: MANAGED.replace("true", "false")},
        {STATE: "lo=lo\n", INTERFACES: STATIC},
        {STATE: "eth0=eth0\n", INTERFACES: "iface eth1 inet dhcp\n"},
    ],
)
def test_no_owner(tmp_path: Path, files: dict[str, str]) -> None:
    fact = owners(tmp_path, files)
    assert fact.owners == () and not fact.missing


def test_two_owners_are_said(tmp_path: Path) -> None:
    fact = owners(tmp_path, {LINKS2: NETWORKD.format("/etc/systemd/network/20-lan.network"), NM2: MANAGED})
    assert [o.manager for o in fact.owners] == ["networkd", "networkmanager"]
    assert fact.missing[0].why == "networkd and networkmanager both say that they do"


def test_files_that_are_read_after_ours_are_named(tmp_path: Path) -> None:
    dropped = "usr/lib/systemd/network/20-lan.network.d"
    files = {f"{dropped}/{n}": "" for n in ("10-a.conf", "99-z.conf", "99-z.txt")}
    fact = owners(tmp_path, {LINKS2: NETWORKD.format("/etc/systemd/network/20-lan.network"), **files})
    assert [x.removeprefix(f"{tmp_path}/") for x in fact.owners[0].later] == [f"{dropped}/99-z.conf"]


def test_a_file_with_passwords_is_not_kept(tmp_path: Path) -> None:
    fact = owners(tmp_path, {STATE: "eth0=eth0\n", INTERFACES: STATIC + "\twpa-psk hunter2\n"})
    assert fact.owners == () and "passwords" in fact.missing[0].why
    assert b"hunter2" not in msgspec.json.encode(fact)


def test_files_that_include_each_other_end(tmp_path: Path) -> None:
    text = "source /etc/network/interfaces\nsource interfaces.d/*\n" + STATIC
    assert owners(tmp_path, {STATE: "eth0=eth0\n", INTERFACES: text}).owners[0].text == text


def test_of_another_network_namespace_nothing_is_said(tmp_path: Path) -> None:
    owners(tmp_path, {LINKS2: NETWORKD.format("/etc/systemd/network/20-lan.network")})
    fact = read(ReadPlatform(ref="platform", source="host", netns="4:1", link="eth0", index=2), str(tmp_path))
    assert fact.owners == () and "another network namespace" in fact.missing[0].why


# -- the repair -----------------------------------------------------------------------------------------------------

VM = "h eth0 phys 1500 198.18.2.2/24\nh route default via 198.18.2.1\n"


def asked_from_host(*evidence: Any, driver: str = "virtio_net", own: str = "4:1", text: str = VM) -> Case:
    state = host(text)
    links = tuple(msgspec.structs.replace(x, driver=driver) for x in state.namespaces[0].links)
    ns = msgspec.structs.replace(state.namespaces[0], where="host", links=links)
    state = msgspec.structs.replace(state, namespaces=(ns,), own=own)
    target = Target(text=f"https://{ADDRESS}:{PORT}/", protocol="https", host=ADDRESS, port=PORT)
    run = Case(schema="pathfit.case/1", version="0.1.0", ask=Ask(command="diagnose", source="host", target=target))
    run = run.add(Locate(ref="source", where="host"), (PlaceFact(ref="source", where="host", netns="4:1", label="h"),))
    run = run.add(ReadState(ref="state", source="host"), (State(ref="state", host=state),))
    measured = probe(reverse=(hole(1450),))
    run = run.add(Measure(ref="probe:1", source="host", address=ADDRESS, port=PORT, protocol="https"), (measured,))
    run = run.add(ReadClock(ref="clock:measured"), (ClockFact(ref="clock:measured", took=0.1),))
    for one in evidence:
        run = run.add(ReadPlatform(ref="platform", source="host", netns="4:1", link="eth0", index=2), (one,))
    return run


def fact(manager: Any, name: str = "eth0", **more: Any) -> PlatformFact:
    path = "/etc/network/interfaces" if manager == "ifupdown" else own_file(manager, name, "eth0")
    owner = LinkOwner(**{"manager": manager, "name": name, "path": path, **more})
    return PlatformFact(ref="platform", netns="4:1", link="eth0", owners=(owner,))


def fixes(*evidence: Any, **more: Any) -> dict[str, Fix]:
    report = diagnose.report(asked_from_host(*evidence, **more))
    return {x.id: x for f in report.findings if f.code == "MTU101" for x in f.fixes}


@pytest.mark.parametrize(
    ("found", "id_", "path", "text"),
    [
        (
            fact("networkd", "/run/systemd/network/20-lan.network"),
            "networkd-link-mtu",
            "/etc/systemd/network/20-lan.network.d/99-pathfit-mtu.conf",
            "[Link]\nMTUBytes=1450\n",
        ),
        (
            fact("netplan", "nic0"),
            "netplan-link-mtu",
            "/etc/netplan/99-pathfit-nic0.yaml",
            "network:\n  version: 2\n  ethernets:\n    nic0:\n      mtu: 1450\n",
        ),
        (
            fact("networkmanager", UUID, mtu=0),
            "networkmanager-link-mtu",
            "/etc/NetworkManager/conf.d/99-pathfit-eth0.conf",
            "[connection-pathfit-eth0]\nmatch-device=interface-name:eth0\nethernet.mtu=1450\n",
        ),
        (
            fact("ifupdown", text=STATIC),
            "ifupdown-link-mtu",
            "/etc/network/interfaces",
            STATIC.replace("inet static\n", "inet static\n\tmtu 1450\n"),
        ),
    ],
)
def test_for_good(found: PlatformFact, id_: str, path: str, text: str) -> None:
    every = fixes(found)
    fix = every[id_]
    assert list(every)[:2] == ["route-mtu", id_]
    assert (fix.value, fix.effective, fix.applicability, fix.lasts) == (1450, 1450, "safe", "permanent")
    old = found.owners[0].text
    mode = 0o600 if id_.startswith("netplan") else 0o644
    assert fix.changes == (
        WriteFile(path=path, old=old, new=text, mode=mode),
        SetLinkMtu(netns="4:1", where="host", link="eth0", index=2, mtu=1450),
    )
    assert fix.files[0].path == path and "1450" in fix.files[0].diff
    assert fix.commands[0] == ("ip", "link", "set", "dev", "eth0", "mtu", "1450")
    assert title(fix, strict=True) == f"mtu 1450 for eth0 in {path}" and title(fix, "zh", strict=True)


def test_now_is_the_route_and_for_good_the_device() -> None:
    report = diagnose.report(asked_from_host(fact("networkd", "/etc/systemd/network/20-lan.network")))
    assert [x.lasts for x in report.findings[0].fixes][:2] == ["reboot", "permanent"]


def test_a_driver_that_starts_anew_interrupts() -> None:
    fix = fixes(fact("networkd", "/x/20-lan.network"), driver="ixgbe")["networkd-link-mtu"]
    assert (fix.applicability, fix.interrupts) == ("disruptive", ("host/eth0",))


@pytest.mark.parametrize(
    ("method", "line"),
    [("static", "mtu 1450"), ("manual", "mtu 1450"), ("dhcp", "post-up ip link set dev $IFACE mtu 1450")],
)
def test_ifupdown_methods(method: str, line: str) -> None:
    text = f"auto lo\niface lo inet loopback\n\nauto eth0\niface eth0 inet {method}\n    hwaddress random\nauto eth1\n"
    write = fixes(fact("ifupdown", text=text))["ifupdown-link-mtu"].changes[0]
    assert isinstance(write, WriteFile)
    assert write.new == text.replace(f"inet {method}\n", f"inet {method}\n    {line}\n")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("iface eth0 inet static\n  mtu 9000 \n", "iface eth0 inet static\n  mtu 1450\n"),
        ("iface eth0 inet dhcp", "iface eth0 inet dhcp\n    post-up ip link set dev $IFACE mtu 1450\n"),
        (
            "iface eth0 inet6 static\n address ::1\niface eth0 inet static\n address 198.18.2.2\n",
            "iface eth0 inet6 static\n address ::1\niface eth0 inet static\n mtu 1450\n address 198.18.2.2\n",
        ),
        (
            "iface eth01 inet static\n  mtu 9000\niface eth0 inet static\n# mtu 9000\nauto x\n",
            "iface eth01 inet static\n  mtu 9000\niface eth0 inet static\n    mtu 1450\n# mtu 9000\nauto x\n",
        ),
    ],
)
def test_one_line_of_the_interfaces_file_changes(old: str, new: str) -> None:
    write = fixes(fact("ifupdown", text=old))["ifupdown-link-mtu"].changes[0]
    assert isinstance(write, WriteFile) and write.new == new


@pytest.mark.parametrize("mtu", [None, 1500])
def test_a_profile_with_a_word_of_its_own_is_changed_by_its_tool(mtu: int | None) -> None:
    fix = fixes(fact("networkmanager", UUID, mtu=mtu))["networkmanager-link-mtu"]
    assert (fix.applicability, fix.changes, fix.files) == ("manual", (), ())
    assert fix.commands[0] == ("nmcli", "connection", "modify", "uuid", UUID, "802-3-ethernet.mtu", "1450")
    assert by_hand(fix, strict=True) and by_hand(fix, "zh", strict=True)


TWO = msgspec.structs.replace(
    fact("networkd", "/x/20-lan.network"), owners=(*fact("networkd").owners, *fact("netplan").owners)
)


@pytest.mark.parametrize(
    ("found", "more"),
    [
        ((), {}),
        ((TWO,), {}),
        ((msgspec.structs.replace(fact("netplan"), missing=(Missing(what="x", why="y", how=""),)),), {}),
        ((fact("netplan", later=("/etc/netplan/99-zz.yaml",)),), {}),
        ((fact("netplan"),), {"own": "4:9"}),
        ((msgspec.structs.replace(fact("netplan"), link="eth1"),), {}),
        ((fact("netplan", text="network:\n  version: 2\n  ethernets:\n    eth0:\n      mtu: 1450\n"),), {}),
        ((fact("ifupdown", text="iface eth0 inet \\\n static\n"),), {}),
        ((fact("networkmanager", UUID, mtu=0),), {"text": VM.replace("phys", "bridge")}),
    ],
)
def test_where_it_is_not_certain_nothing_is_offered(found: tuple[PlatformFact, ...], more: dict[str, Any]) -> None:
    assert not [x for x in fixes(*found, **more) if x.endswith("-link-mtu")]


# -- when it is asked -----------------------------------------------------------------------------------------------


def asked(run: Case) -> list[ReadPlatform]:
    """What the plan asks of the platform, whatever else it asks before."""
    for _ in range(9):
        requests = plan.next_requests(run)
        found = [r for r in requests if isinstance(r, ReadPlatform)]
        if found or not requests:
            return found
        for r in requests:
            run = run.add(r, (Missing(ref=r.ref, what="", why="", how=""),))
    return []


def test_the_plan_asks_for_the_hosts_own_device() -> None:
    assert asked(asked_from_host()) == [ReadPlatform(ref="platform", source="host", netns="4:1", link="eth0", index=2)]


def test_the_plan_does_not_ask_where_no_repair_could_use_it() -> None:
    assert asked(asked_from_host(own="4:9")) == []
    assert asked(asked_from_host(text=VM.replace("1500", "1450"))) == []
    assert asked(case(BLIND, probe(reverse=(hole(1420),)))) == []


def test_an_old_case_without_the_answer_has_the_repair_for_now() -> None:
    assert list(fixes(Missing(ref="platform", what="ReadPlatform platform", why="not asked", how=""))) == ["route-mtu"]
