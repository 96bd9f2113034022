"""The repair of an engine's network: every way a daemon can be set up, and the plan that is expected of it."""

import json
from typing import Any

import msgspec
import pytest
from cases import BLIND, case, hole, probe
from topo import host

from pathfit import diagnose
from pathfit.core.case import Case
from pathfit.core.change import RecreateNetwork, RestartEngine, WriteFile
from pathfit.core.engine import Container, Endpoint, Engine, EngineNetwork
from pathfit.core.finding import Fix
from pathfit.remedies.moby import OPTION
from pathfit.rules.engines import member
from pathfit.rules.view import View
from pathfit.words.render import by_hand, title

LIMIT = 1420
HOLE = probe(reverse=(hole(LIMIT),))
DEFAULT = EngineNetwork(id="n0", name="bridge", driver="bridge", mtu=1500, bridge="br0", default=True, members=("c1",))
FRONT = EngineNetwork(id="n1", name="front", driver="bridge", bridge="br0", subnets=("198.18.1.0/24",), members=("c1",))


def container(name: str = "ci", number: int = 1, network: EngineNetwork = DEFAULT, **more: Any) -> Container:
    end = Endpoint(network=network.id, name=network.name, addresses=("198.18.1.2/24",) if number == 1 else ())
    usual = {"engine": "docker", "netns": f"4:{number}", "endpoints": (end,), "restart_policy": "always"}
    return Container(**{"id": f"c{number}", "name": name, **usual, **more})


def engine(network: EngineNetwork = DEFAULT, **more: Any) -> Engine:
    usual: dict[str, Any] = {
        "kind": "docker",
        "socket": "/var/run/docker.sock",
        "version": "20.10.24",
        "pid": 812,
        "netns": "4:2",
        "config_path": "/etc/docker/daemon.json",
        "flags": ("/usr/sbin/dockerd", "-H", "fd://"),
        "mtu": 1500,
        "restart": "systemctl",
        "unit": "docker.service",
        "networks": (network,),
        "containers": (container(network=network), container("db", 7, network, restart_policy="no")),
    }
    return Engine(**{**usual, **more})


def run(e: Engine, text: str = BLIND, **more: Any) -> Case:
    return case(msgspec.structs.replace(host(text), engines=(e,)), HOLE, **more)


def fixes(e: Engine, **more: Any) -> dict[str, Fix]:
    return {x.id: x for f in diagnose.report(run(e, **more)).findings if f.code == "MTU101" for x in f.fixes}


def lines(fix: Fix) -> list[str]:
    return [" ".join(c) for c in fix.commands]


def test_daemon_json_is_made_and_the_daemon_restarted() -> None:
    fix = fixes(engine())["docker-daemon-mtu"]
    assert (fix.value, fix.effective, fix.applicability, fix.lasts) == (LIMIT, LIMIT, "disruptive", "permanent")
    assert fix.interrupts == ("container:ci", "container:db")
    write, restart = fix.changes
    assert write == WriteFile(path="/etc/docker/daemon.json", old=None, new='{\n  "mtu": 1420\n}\n')
    assert restart == RestartEngine(
        engine="docker",
        socket="/var/run/docker.sock",
        how="systemctl",
        unit="docker.service",
        pid=812,
        running=("c1", "c7"),
    )
    assert lines(fix) == ["systemctl restart docker.service", "docker start db"]
    assert fix.files[0].diff.startswith("--- /dev/null\n+++ /etc/docker/daemon.json\n")
    assert (fix.verify, fix.undo) == ("measured", (("pathfit", "fix", "--undo", "last"),))


def test_now_comes_first_and_for_good_second() -> None:
    assert list(fixes(engine()))[:2] == ["route-mtu", "docker-daemon-mtu"]
    assert fixes(engine())["route-mtu"].facts["contained"] is True


def test_everything_else_in_daemon_json_stays() -> None:
    old = '{\n\t"log-driver": "local",\n\t"mtu" : 1500,\n\t"dns": ["198.18.1.1"]\n}'
    write = fixes(engine(config=old, mtu_from="config"))["docker-daemon-mtu"].changes[0]
    assert write == WriteFile(path="/etc/docker/daemon.json", old=old, new=old.replace("1500", "1420"))


@pytest.mark.parametrize(
    ("version", "flags", "known"),
    [
        ("20.10.24", (), False),
        ("23.0.6", (), False),
        ("24.0.0", (), True),
        ("27.1.1-rc.1", (), True),
        ("", (), False),
        ("28.0.1", ("dockerd", "--default-network-opt=bridge=x=y"), False),  # dockerd refuses to hear it twice
    ],
)
def test_networks_made_from_now_on_where_the_version_knows_it(version: str, flags: Any, known: bool) -> None:
    write = fixes(engine(version=version, flags=flags))["docker-daemon-mtu"].changes[0]
    assert isinstance(write, WriteFile)
    wanted: dict[str, Any] = {"mtu": 1420}
    if known:
        wanted["default-network-opts"] = {"bridge": {OPTION: "1420"}}
    assert json.loads(write.new) == wanted


LEFT = '{"mtu": 1500,\n}'


@pytest.mark.parametrize(
    ("changed", "reason", "said"),
    [
        ({"config": LEFT}, "by-hand.broken", "/etc/docker/daemon.json cannot be understood: line 2, column 1"),
        ({"config": "[]"}, "by-hand.broken", "not an object"),
        ({"config": "{}", "config_error": "permission denied"}, "by-hand.broken", "permission denied"),
        (
            {"flags": ("dockerd", "--mtu", "1500"), "mtu_from": "flag"},
            "by-hand.flag",
            "--mtu 1500 stands on its command line",
        ),
        ({"flags": ("dockerd", "--mtu=1500"), "mtu_from": "flag"}, "by-hand.flag", "--mtu=1500 stands on its"),
        ({"live_restore": True}, "by-hand.live-restore", "all have to stop first"),
        ({"containers": (container(auto_remove=True),)}, "by-hand.ending", "but remove ci"),
        ({"root": "/proc/812/root"}, "by-hand.elsewhere", "another mount namespace"),
        ({"restart": "argv", "unit": ""}, "by-hand.no-manager", "started by hand"),
    ],
)
def test_what_somebody_must_do_by_hand(changed: dict[str, Any], reason: str, said: str) -> None:
    fix = fixes(engine(**changed))["docker-daemon-mtu"]
    assert (fix.applicability, fix.changes, fix.verify) == ("manual", (), "")
    assert fix.facts["by_hand"] == reason
    assert said in (by_hand(fix, strict=True) or "")
    assert by_hand(fix, "zh", strict=True) and title(fix, "zh", strict=True)
    assert fix.interrupts and fix.commands


def test_a_broken_file_is_not_written_and_one_beside_a_flag_neither() -> None:
    assert fixes(engine(config=LEFT))["docker-daemon-mtu"].files == ()
    fix = fixes(engine(flags=("dockerd", "--mtu=1500")))["docker-daemon-mtu"]
    assert fix.files == ()
    assert title(fix) == "--mtu=1420 instead of --mtu=1500 on the daemon's command line"
    assert lines(fix)[:2] == ["systemctl edit --full docker.service", "systemctl restart docker.service"]


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (("dockerd", "--mtu=1500", "-D"), "dockerd --mtu=1420 -D"),
        (("dockerd", "-D", "--mtu", "1500"), "dockerd -D --mtu 1420"),
    ],
)
def test_the_command_line_is_shown_as_it_should_be(flags: tuple[str, ...], line: str) -> None:
    fix = fixes(engine(flags=flags, restart="argv", unit="", inner=True))["docker-daemon-mtu"]
    assert lines(fix)[:2] == ["kill 812", line]
    assert fix.changes == ()


def test_live_restore_keeps_old_networks_until_all_have_stopped() -> None:
    fix = fixes(engine(live_restore=True))["docker-daemon-mtu"]
    assert lines(fix) == ["docker stop ci db", "systemctl restart docker.service", "docker start ci db"]
    assert fix.files and fix.interrupts == ("container:ci", "container:db")


def test_live_restore_with_nothing_running_is_an_ordinary_restart() -> None:
    ended = engine(live_restore=True, containers=(container(state="exited"),))
    fix = fixes(ended)["docker-daemon-mtu"]
    assert (fix.applicability, fix.interrupts, lines(fix)) == ("safe", (), ["systemctl restart docker.service"])


@pytest.mark.parametrize(
    ("how", "unit", "first"),
    [
        ("service", "docker", ["service docker restart"]),
        ("argv", "", ["kill 812", "/usr/sbin/dockerd -H fd://"]),
    ],
)
def test_how_the_daemon_is_restarted(how: str, unit: str, first: list[str]) -> None:
    fix = fixes(engine(restart=how, unit=unit, inner=True))["docker-daemon-mtu"]
    assert lines(fix)[:-1] == first
    assert fix.applicability == "disruptive"
    restart = fix.changes[-1]
    assert isinstance(restart, RestartEngine)
    assert (restart.how, restart.argv) == (how, ("/usr/sbin/dockerd", "-H", "fd://") if how == "argv" else ())


def test_configured_but_not_in_force_needs_only_a_restart() -> None:
    fix = fixes(engine(config='{"mtu": 1400}', mtu=1500))["docker-daemon-mtu"]
    assert (fix.value, fix.files) == (1400, ())
    assert [type(c) for c in fix.changes] == [RestartEngine]
    assert title(fix) == "restart the daemon, so that the mtu 1400 of /etc/docker/daemon.json takes effect"


@pytest.mark.parametrize("said", [{"config": '{"mtu": 1400}'}, {"flags": ("dockerd", "--mtu", "1400")}])
def test_configured_and_in_force_the_container_is_older(said: dict[str, Any]) -> None:
    found = fixes(engine(**said, mtu=1400))
    fix = found["docker-restart-container"]
    assert "docker-daemon-mtu" not in found
    assert (fix.applicability, fix.interrupts, lines(fix)) == ("manual", ("container:ci",), ["docker restart ci"])


def test_a_network_made_by_hand_is_made_again() -> None:
    fix = fixes(engine(FRONT))["docker-network-mtu"]
    assert (fix.value, fix.effective, fix.applicability, fix.lasts) == (LIMIT, LIMIT, "disruptive", "permanent")
    assert fix.interrupts == ("container:ci",)  # db is in no list of members
    assert fix.changes == (
        RecreateNetwork(engine="docker", socket="/var/run/docker.sock", network="n1", name="front", mtu=LIMIT),
    )
    assert lines(fix) == [
        "docker network disconnect front ci",
        "docker network rm front",
        f"docker network create --subnet 198.18.1.0/24 --opt {OPTION}=1420 front",
        "docker network connect front ci",
    ]
    assert "docker-daemon-mtu" not in fixes(engine(FRONT))


def test_a_network_with_ipv6_keeps_it_when_made_by_hand() -> None:
    network = msgspec.structs.replace(FRONT, subnets=("198.18.1.0/24", "fd00:aa::/64"))
    options = "--subnet 198.18.1.0/24 --subnet fd00:aa::/64 --ipv6"
    assert f"docker network create {options} --opt {OPTION}=1420 front" in lines(
        fixes(engine(network))["docker-network-mtu"]
    )


def test_an_empty_network_interrupts_nothing() -> None:
    alone = msgspec.structs.replace(FRONT, members=())
    assert fixes(engine(alone))["docker-network-mtu"].applicability == "safe"


def test_who_lives_in_a_members_namespace_is_interrupted_as_well() -> None:
    """And who is paused, too: its connections end like all others."""
    network = msgspec.structs.replace(FRONT, members=("c1", "c7"))
    containers = (
        container("side", 8, FRONT, endpoints=(), network_mode="container:c1"),
        container("other", 9, FRONT, endpoints=(), network_mode="container:c5"),
        container(network=FRONT),
        container("wp", 7, FRONT, state="paused"),
    )
    fix = fixes(engine(network, containers=containers))["docker-network-mtu"]
    assert fix.interrupts == ("container:ci", "container:wp", "container:side")
    assert lines(fix)[-2:] == ["docker network connect front ci", "docker network connect front wp"]


def test_containers_are_started_after_those_they_live_with_and_paused_again() -> None:
    containers = (
        container("side", 8, endpoints=(), network_mode="container:c1", restart_policy="no"),
        container("pau", 7, state="paused"),
        container(restart_policy="no"),
    )
    fix = fixes(engine(containers=containers))["docker-daemon-mtu"]
    assert lines(fix) == ["systemctl restart docker.service", "docker start ci side", "docker pause pau"]
    fix = fixes(engine(containers=containers, live_restore=True))["docker-daemon-mtu"]
    assert lines(fix)[-2:] == ["docker start pau ci side", "docker pause pau"]
    fix = fixes(engine(containers=containers, config='{"mtu": 1400}', mtu=1400))["docker-restart-container"]
    assert (fix.interrupts, lines(fix)) == (("container:ci", "container:side"), ["docker restart ci side"])


def test_compose_takes_its_whole_project_down() -> None:
    network = msgspec.structs.replace(FRONT, compose_project="shop", compose_network="default")
    db = container("shop-db-1", 7, DEFAULT, compose_project="shop")
    mine = container("shop-web-1", network=network, compose_project="shop")
    fix = fixes(engine(network, containers=(mine, db, container("ci", 8, DEFAULT))))["docker-compose-mtu"]
    assert fix.interrupts == ("container:shop-web-1", "container:shop-db-1")


def test_compose_makes_its_networks_from_its_file() -> None:
    network = msgspec.structs.replace(FRONT, name="shop_default", compose_project="shop", compose_network="default")
    labels = {"compose_project": "shop", "compose_service": "web", "compose_files": ("/srv/shop/compose.yaml",)}
    fix = fixes(engine(network, containers=(container("shop-web-1", network=network, **labels),)))["docker-compose-mtu"]
    assert (fix.applicability, fix.changes, fix.interrupts) == ("manual", (), ("container:shop-web-1",))
    assert fix.files[0].path == "/srv/shop/compose.yaml"
    assert fix.files[0].diff == f'+networks:\n+  default:\n+    driver_opts:\n+      {OPTION}: "1420"\n'
    project = "docker compose -p shop -f /srv/shop/compose.yaml"
    assert lines(fix) == [f"{project} down", f"{project} up -d"]


def test_an_overlay_takes_the_mtu_of_the_network_underneath() -> None:
    text = BLIND.replace("c eth0 1500", "c eth0 1450")
    network = msgspec.structs.replace(FRONT, driver="overlay", scope="swarm", mtu=None)
    fix = {
        x.id: x for f in diagnose.report(run(engine(network), text)).findings if f.code == "MTU101" for x in f.fixes
    }["docker-network-mtu"]
    assert (fix.value, fix.effective, fix.applicability, fix.changes) == (LIMIT + 50, LIMIT, "manual", ())
    assert any(f"{OPTION}=1470" in argv for argv in fix.commands)


@pytest.mark.parametrize(("encrypted", "value"), [(True, 1496), (False, None)])
def test_an_encrypted_overlay_takes_more(encrypted: bool, value: int | None) -> None:
    """1424: what an encrypted one leaves of 1500. Where nobody says that it is encrypted, somebody else made it so."""
    text = BLIND.replace("c eth0 1500", "c eth0 1424")
    network = msgspec.structs.replace(FRONT, driver="overlay", scope="swarm", mtu=None, encrypted=encrypted)
    found = {x.id: x for f in diagnose.report(run(engine(network), text)).findings for x in f.fixes}
    fix = found.get("docker-network-mtu")
    assert (fix.value if fix else None) == value
    assert fix is None or (fix.effective == LIMIT and ("--opt", "encrypted") in zip(
        fix.commands[-2], fix.commands[-2][1:], strict=False))  # fmt: skip


@pytest.mark.parametrize(
    "changed",
    [
        {"driver": "macvlan"},
        {"driver": "host"},
        {"ingress": True},
        {"mtu": 1400},
    ],
)
def test_no_plan_where_none_is_known(changed: dict[str, Any]) -> None:
    network = msgspec.structs.replace(FRONT, **changed)
    assert not [x for x in fixes(engine(network)) if x.startswith("docker")]


@pytest.mark.parametrize(
    "containers",
    [
        (),
        (container(netns="4:99"),),
        (container(endpoints=()),),
        (container(endpoints=(Endpoint(network="n0", name="bridge", addresses=("198.18.7.7/24",)),)),),
        (container(endpoints=(Endpoint(network="gone", name="gone", addresses=("198.18.1.2/24",)),)),),
    ],
)
def test_no_plan_for_a_container_or_network_that_is_not_certain(containers: tuple[Container, ...]) -> None:
    assert not [x for x in fixes(engine(containers=containers)) if x.startswith("docker")]


def test_of_two_that_share_a_namespace_the_one_with_the_network_counts() -> None:
    sidecar = container("sidecar", 1, endpoints=(), network_mode="container:c1")
    found = member(View.of(run(engine(containers=(sidecar, container())))))
    assert found is not None and found.container.name == "ci"


def test_a_socket_of_its_own_is_named() -> None:
    fix = fixes(engine(FRONT, socket="/run/other.sock"))["docker-network-mtu"]
    assert lines(fix)[1] == "docker -H unix:///run/other.sock network rm front"


def test_a_limit_that_would_hurt_is_for_somebody_to_decide() -> None:
    tiny = probe(reverse=(hole(540),))
    report = diagnose.report(case(msgspec.structs.replace(host(BLIND), engines=(engine(),)), tiny))
    fix = next(x for f in report.findings for x in f.fixes if x.id == "docker-daemon-mtu")
    assert (fix.applicability, fix.facts["by_hand"]) == ("manual", "by-hand.tiny")


def test_an_engine_changes_nothing_for_who_is_in_none() -> None:
    assert not [x for x in fixes(engine(kind="podman")) if x.startswith("docker")]


def test_what_holds_until_the_next_start_has_its_repair_for_good() -> None:
    text = BLIND.replace("c route default via 198.18.1.1", "c route default via 198.18.1.1 mtu 1400")
    well = case(msgspec.structs.replace(host(text), engines=(engine(),)), probe())
    report = diagnose.report(well)
    assert report.verdict == "healthy"
    (finding,) = report.findings
    assert (finding.code, [x.id for x in finding.fixes]) == ("CFG607", ["docker-daemon-mtu"])
    assert (finding.fixes[0].value, finding.fixes[0].changes != ()) == (1400, True)
