"""Repairs of an engine in a container: how it is reached, whose setting lasts, and that a runner is never guessed."""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import msgspec
import pytest
from cases import BLIND, case
from test_remedies_docker import FRONT, HOLE, LIMIT, container, engine, lines
from topo import host

from pathfit import diagnose
from pathfit.core.case import Case
from pathfit.core.change import RecreateNetwork, RestartEngine, WriteFile
from pathfit.core.engine import Container, Engine
from pathfit.core.finding import Fix
from pathfit.model import runners
from pathfit.words.render import by_hand, title

DIND = "d1" * 32
OPTION = "com.docker.network.driver.mtu"
KNOWN = {
    "image plugins/docker": "drone-mtu",
    "process drone-docker": "drone-mtu",
    "process drone-runner-docker": "drone-mtu",
    "label com.gitlab.gitlab-runner.": "gitlab-mtu",
    "variable GITLAB_CI": "gitlab-mtu",
    "label actions.github.com/": "github-mtu",
    "variable DOCKERD_IN_RUNNER": "github-mtu",
}


def home(kind: str = "docker", **more: Any) -> Container:
    return Container(**{"id": DIND, "name": "dind", "engine": kind, "pid": 650, **more})


def around(*containers: Container, **more: Any) -> Engine:
    usual: dict[str, Any] = {"kind": "docker", "socket": "/run/docker.sock", "netns": "4:9", "pid": 600}
    return Engine(**{**usual, "containers": containers or (home(),), **more})


def inside(**more: Any) -> Engine:
    usual: dict[str, Any] = {
        "depth": 1,
        "inside": DIND,
        "inside_name": "dind",
        "root": "/proc/812/root",
        "inner": True,
        "restart": "argv",
        "unit": "",
        "flags": ("/usr/bin/dockerd", "-H", "unix:///var/run/docker.sock"),
    }
    return engine(**{**usual, **more})


def run(inner: Engine, outer: Engine | None = None) -> Case:
    engines = (*([outer] if outer is not None else []), inner)
    return case(msgspec.structs.replace(host(BLIND), engines=engines), HOLE)


def fixes(inner: Engine, outer: Engine | None = None) -> list[Fix]:
    return [x for f in diagnose.report(run(inner, outer)).findings if f.code == "MTU101" for x in f.fixes]


def one(inner: Engine, id_: str, outer: Engine | None = None) -> Fix:
    (found,) = [f for f in fixes(inner, outer) if f.id == id_]
    return found


def added(fix: Fix) -> str:
    """The lines of its file, without the plus signs."""
    return "".join(f"{x[1:]}\n" for e in fix.files for x in e.diff.splitlines())


# --- its own file, its own restart -----------------------------------------------------------------------------------


def test_a_daemon_started_beside_its_container_is_restarted_by_the_engine_around_it() -> None:
    fix = one(inside(), "docker-daemon-mtu", around())
    assert (fix.value, fix.effective, fix.applicability, fix.lasts) == (LIMIT, LIMIT, "disruptive", "recreate")
    write, restart = fix.changes
    assert write == WriteFile(path="/proc/650/root/etc/docker/daemon.json", old=None, new='{\n  "mtu": 1420\n}\n')
    assert restart == RestartEngine(
        engine="docker",
        socket="/var/run/docker.sock",
        how="exec",
        pid=812,
        argv=inside().flags,
        running=("c1", "c7"),
        within=DIND,
        through="/run/docker.sock",
    )
    assert lines(fix) == [
        "kill 812",
        "docker exec -d dind /usr/bin/dockerd -H unix:///var/run/docker.sock",
        "docker exec dind docker start db",
    ]
    assert fix.files[0].path == "dind:/etc/docker/daemon.json"
    assert fix.interrupts == ("container:ci", "container:db")
    assert title(fix) == '"mtu": 1420 in /etc/docker/daemon.json of the Docker inside dind'


def test_a_daemon_that_its_container_ends_with_is_left_to_people() -> None:
    fix = one(inside(inner=False, main=True), "docker-daemon-mtu", around())
    assert (fix.applicability, fix.changes, fix.lasts) == ("manual", (), "recreate")
    assert (by_hand(fix) or "").startswith("the daemon is what the container dind runs")
    assert fix.interrupts[0] == "container:dind"
    assert lines(fix) == ["docker restart dind", "docker exec dind docker start db"]


def test_of_any_other_it_is_not_known() -> None:
    fix = one(inside(inner=False), "docker-daemon-mtu", around())
    assert (fix.applicability, fix.changes, fix.interrupts[0]) == ("manual", (), "container:dind")
    assert (by_hand(fix) or "").startswith("whether the container dind would end")


def test_a_service_manager_in_the_container_restarts_it() -> None:
    fix = one(inside(inner=False, unit="docker.service"), "docker-daemon-mtu", around())
    assert (fix.applicability, fix.interrupts) == ("manual", ("container:ci", "container:db"))
    assert lines(fix)[0] == "docker exec dind systemctl restart docker.service"
    assert one(inside(unit="docker.service"), "docker-daemon-mtu", around()).applicability == "manual"


def test_the_same_from_within_the_container() -> None:
    fix = one(inside(root=None, inner=False, inside_name="d1d1d1d1d1d1"), "docker-daemon-mtu")
    assert fix.applicability == "manual"
    assert lines(fix)[0] == "docker restart d1d1d1d1d1d1"
    assert fix.files[0].path == "/etc/docker/daemon.json"
    mine = one(inside(root=None), "docker-daemon-mtu")
    assert [type(c) for c in mine.changes] == [WriteFile, RestartEngine]
    assert mine.changes[1].how == "argv"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("inner", "outer"),
    [
        (inside(), None),
        (inside(), around(kind="podman", socket="/run/podman/podman.sock")),
        (inside(), around(root="/proc/5/root", depth=1)),
        (inside(), around(home(pid=0))),
        (inside(), around(home(pid=812))),
        (inside(rootless=1000), around()),
    ],
    ids=["nobody around", "podman around", "two levels", "no first process", "it is the first process", "rootless"],
)
def test_where_the_engine_around_is_not_ours_to_ask(inner: Engine, outer: Engine | None) -> None:
    fix = one(inner, "docker-daemon-mtu", outer)
    assert (fix.applicability, fix.changes) == ("manual", ())
    assert by_hand(fix)


@pytest.mark.parametrize(
    ("outer", "words"),
    [
        (around(kind="podman", socket="/run/podman/podman.sock"), "podman exec dind docker start db"),
        (around(socket="/srv/d.sock"), "docker -H unix:///srv/d.sock exec dind docker start db"),
        (None, "nsenter -t 812 -m -u -i -n -p -- docker start db"),
        (around(kind="containerd", socket=""), "nsenter -t 812 -m -u -i -n -p -- docker start db"),
    ],
)
def test_how_the_inner_client_is_reached(outer: Engine | None, words: str) -> None:
    assert lines(one(inside(), "docker-daemon-mtu", outer))[-1] == words


def test_deeper_it_goes_through_all_of_them() -> None:
    deep = inside(depth=2, inside_name="dind/deeper")
    outer = around(depth=1, root="/proc/5/root", inside="e" * 64, inside_name="dind")
    assert lines(one(deep, "docker-daemon-mtu", outer))[-1] == "docker exec dind docker exec deeper docker start db"


def test_a_network_of_the_inner_engine_is_made_again_through_its_socket() -> None:
    fix = one(inside(network=FRONT), "docker-network-mtu", around())
    (change,) = fix.changes
    assert change == RecreateNetwork(
        engine="docker", socket="/var/run/docker.sock", network="n1", name="front", mtu=LIMIT, within=DIND
    )
    assert lines(fix)[0] == "docker exec dind docker network disconnect front ci"


def test_a_flag_of_a_container_is_changed_where_it_is_made() -> None:
    flagged = inside(inner=False, flags=("/usr/bin/dockerd", "--mtu=1500"), mtu_from="flag")
    assert [f.id for f in fixes(flagged, around()) if f.lasts == "permanent"] == ["dind-mtu"]
    assert "docker-daemon-mtu" not in [f.id for f in fixes(flagged, around())]


# --- where its container is made -------------------------------------------------------------------------------------


def test_nobody_is_guessed() -> None:
    found = fixes(inside(inner=False), around())
    assert [f.id for f in found if f.platform not in ("linux",)] == ["docker-daemon-mtu", "dind-mtu"]
    fix = found[[f.id for f in found].index("dind-mtu")]
    assert (fix.value, fix.effective, fix.applicability, fix.untried) == (LIMIT, LIMIT, "manual", True)
    assert "dockerd-entrypoint.sh" in fix.source
    assert title(fix) == "--mtu=1420 for the dockerd inside dind, where that container is made"
    assert lines(fix) == ["docker inspect --format {{.Path}} {{.Args}} dind"]


def test_in_compose() -> None:
    outer = around(home(compose_project="ci", compose_service="docker", compose_files=("/srv/ci/compose.yaml",)))
    fix = one(inside(), "dind-mtu", outer)
    assert added(fix) == 'services:\n  docker:\n    command: ["--mtu=1420"]\n'
    assert lines(fix) == ["docker compose -p ci -f /srv/ci/compose.yaml up -d docker"]


def test_in_a_pod_a_file_of_the_container_is_no_repair() -> None:
    outer = around(home("containerd", name="dind", pod="ci/build-1"), kind="containerd", socket="")
    found = {f.id: f for f in fixes(inside(inner=False, version="29.0.1"), outer)}
    assert "docker-daemon-mtu" not in found
    fix = found["dind-mtu"]
    args = f'"--mtu=1420", "--default-network-opt=bridge={OPTION}=1420"'
    assert added(fix) == f"containers:\n- name: dind\n  args: [{args}]\n"
    assert lines(fix) == ["kubectl -n ci get pod build-1 -o yaml"]


def test_networks_of_their_own_since_24() -> None:
    old = [f.id for f in fixes(inside(network=FRONT, version="23.0.6"), around())]
    assert "dind-mtu" not in old
    assert title(one(inside(network=FRONT, version="24.0.0"), "dind-mtu", around())).startswith(
        f"--default-network-opt=bridge={OPTION}=1420 for the dockerd"
    )


# --- the runners -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sign", KNOWN)
def test_a_runner_is_known_by_its_sign(sign: str) -> None:
    at_container = sign.startswith(("image", "label"))
    inner = inside(inner=False, signs=() if at_container else (sign,))
    outer = around(home(signs=(sign,) if at_container else ()))
    good = [f for f in fixes(inner, outer) if f.id != "route-mtu" and f.platform != "linux"]
    assert [f.id for f in good] == [KNOWN[sign], "dind-mtu", "docker-daemon-mtu"], "what lasts stands first"
    fix = good[0]
    assert (fix.value, fix.effective, fix.applicability, fix.untried) == (LIMIT, LIMIT, "manual", True)
    assert fix.source and sign in title(fix) and sign in title(fix, "zh")
    assert str(LIMIT) in added(fix)


WORDS = [
    ("image plugins/docker", False, "steps:\n- image: plugins/docker\n  settings:\n    mtu: 1420\n"),
    ("process drone-runner-docker", False, 'commandArgs: ["--host", "tcp://localhost:2375", "--mtu=1420"]\n'),
    ("process drone-runner-docker", True, f"env:\n  DRONE_RUNNER_NETWORK_OPTS: {OPTION}:1420\n"),
    ("variable GITLAB_CI", False, 'services:\n- name: docker:dind\n  command: ["--mtu=1420"]\n'),
    ("label actions.github.com/", False, "- --group=$(DOCKER_GROUP_GID)\n      - --mtu=1420\n"),
    ("variable DOCKERD_IN_RUNNER", False, "    spec:\n      dockerMTU: 1420\n"),
    ("variable DOCKERD_IN_RUNNER", True, '- name: ARC_DOCKER_MTU_PROPAGATION\n        value: "true"\n'),
]


@pytest.mark.parametrize(("sign", "of_its_own", "words"), WORDS)
def test_in_its_own_words(sign: str, of_its_own: bool, words: str) -> None:
    at_container = sign.startswith(("image", "label"))
    inner = inside(signs=() if at_container else (sign,), **({"network": FRONT} if of_its_own else {}))
    assert added(one(inner, KNOWN[sign], around(home(signs=(sign,) if at_container else ())))).endswith(words)


@pytest.mark.parametrize("depth", [0, 1])
def test_networks_that_gitlab_s_runner_makes(depth: int) -> None:
    job = container(network=FRONT, signs=("label com.gitlab.gitlab-runner.",))
    inner = inside(network=FRONT, containers=(job,))
    mine = inner if depth else engine(FRONT, containers=(job,))
    fix = one(mine, "gitlab-mtu", around())
    assert added(fix) == "[runners.docker]\n  network_mtu = 1420\n"
    assert "3576" in fix.source


def test_a_variable_of_github_alone_says_nothing_outside_of_a_pod() -> None:
    jit = "variable ACTIONS_RUNNER_INPUT_JITCONFIG"
    assert "github-mtu" not in [f.id for f in fixes(inside(signs=(jit,)), around())]
    pod = "variable KUBERNETES_SERVICE_HOST"
    assert "github-mtu" in [f.id for f in fixes(inside(signs=(jit, pod)), around())]


def test_signs_of_who_shares_the_pod() -> None:
    beside = Container(id="e" * 64, name="runner", engine="containerd", pod="ci/p", signs=("image plugins/docker",))
    far = msgspec.structs.replace(beside, pod="ci/q")
    for other, known in ((beside, True), (far, False)):
        outer = around(home("containerd", pod="ci/p"), other, kind="containerd", socket="")
        assert ("drone-mtu" in [f.id for f in fixes(inside(), outer)]) is known


@pytest.mark.parametrize(
    ("image", "labels", "signs"),
    [
        ("plugins/docker", {}, ("image plugins/docker",)),
        ("registry.example:5000/plugins/docker:20.14@sha256:00", {}, ("image plugins/docker",)),
        ("docker.io/plugins/docker-extra:1", {}, ()),
        ("myplugins/docker", {}, ()),
        ("docker:dind", {"com.gitlab.gitlab-runner.type": "service"}, ("label com.gitlab.gitlab-runner.",)),
        ("docker:dind", {"org.example.com.gitlab.gitlab-runner.x": "1"}, ()),
        ("", {}, ()),
    ],
)
def test_signs_of_a_container(image: str, labels: dict[str, str], signs: tuple[str, ...]) -> None:
    assert runners.of_container(image, labels) == signs


def test_a_process_keeps_the_names_of_its_variables_alone() -> None:
    assert runners.of_process("drone-docker", ("HOME", "GITLAB_CI", "SECRET")) == (
        "process drone-docker",
        "variable GITLAB_CI",
    )
    assert runners.of_process("dockerd", ("SECRET",)) == ()
