"""Where a daemon lives: whether its container ends with it, and whose CI runner it works for."""

from collections.abc import Callable
from typing import NamedTuple

import pytest

from pathfit.observe.engines import surroundings

MACHINE, OURS, THEIRS = "pid:[4026531836]", "pid:[5]", "pid:[6]"


class P(NamedTuple):
    """A process: ``numbers`` in every pid namespace from ours inwards, ``sessions`` likewise."""

    comm: str
    parent: int
    numbers: tuple[int, ...]
    sessions: tuple[int, ...]
    pids: str = THEIRS
    argv: str = ""
    environ: str = ""


@pytest.fixture
def proc(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def put(*processes: P) -> None:
        by_pid = {p.numbers[0]: p for p in processes}

        def maybe(path: str, limit: int = 0) -> str:
            _, _, number, what = path.split("/", 3)
            one = by_pid.get(int(number))
            if one is None:
                return ""
            numbers, sessions = ("\t".join(map(str, x)) for x in (one.numbers, one.sessions))
            status = f"Name:\t{one.comm}\nPPid:\t{one.parent}\nNSpid:\t{numbers}\nNSsid:\t{sessions}"
            return {"comm": one.comm, "status": status, "cmdline": one.argv or one.comm, "environ": one.environ}[what]

        def link(path: str) -> str:
            number = path.split("/")[2]
            if number == "self":
                return OURS
            one = by_pid.get(int(number))
            return one.pids if one is not None else ""

        monkeypatch.setattr(surroundings.procfs, "maybe", maybe)
        monkeypatch.setattr(surroundings.procfs, "link", link)

    return put


SHIM = P("containerd-shim", 1, (100,), (100,), OURS)
TINI = P("tini", 100, (110, 1), (110, 1))
CASES = [
    ("the container's own", (SHIM, P("dockerd", 100, (120, 1), (120, 1))), False),
    ("docker:dind: tini waits for it", (SHIM, P("docker-init", 100, (110, 1), (110, 1)),
                                        P("dockerd", 110, (120, 7), (110, 1))), False),
    ("docker exec", (SHIM, TINI, P("dockerd", 100, (120, 7), (120, 7))), True),
    ("taken in by tini", (SHIM, TINI, P("dockerd", 110, (120, 7), (119, 6))), True),
    ("a lab host: the first one's session is outside", (P("tini", 100, (110, 1), (90, 0)),
                                                         P("dockerd", 110, (120, 7), (119, 6))), True),
    ("started by that one, from outside", (P("tini", 100, (110, 1), (90, 0)),
                                            P("dockerd", 110, (120, 7), (90, 0))), False),
    ("dumb-init begins a session for its own", (SHIM, P("dumb-init", 100, (110, 1), (110, 1)),
                                                 P("dockerd", 110, (120, 7), (120, 7))), False),
    ("a shell may wait for it", (SHIM, P("sh", 100, (110, 1), (110, 1)), P("dockerd", 110, (120, 7), (120, 7))), False),
    ("a manager starts it again by itself", (SHIM, P("systemd", 100, (110, 1), (110, 1)),
                                              P("dockerd", 110, (120, 7), (120, 7))), False),
    ("a script started it", (SHIM, TINI, P("sh", 110, (115, 5), (110, 1)),
                             P("dockerd", 115, (120, 7), (110, 1))), False),
    ("the machine's own", (P("dockerd", 1, (120,), (120,), MACHINE),), False),
    ("from within: exec'ed", (P("tini", 0, (1,), (1,), OURS), P("dockerd", 0, (120,), (120,), OURS)), True),
    ("from within: the first itself", (P("dockerd", 0, (1,), (1,), OURS),), False),
    ("not to be looked at", (P("dockerd", 0, (120,), (120,), ""),), False),
    ("a parent that may not be seen", (P("dockerd", 0, (120, 7), (120, 7)),), False),
]  # fmt: skip


@pytest.mark.parametrize(("processes", "expected"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_whether_the_container_ends_with_it(
    processes: tuple[P, ...], expected: bool, proc: Callable[..., None]
) -> None:
    proc(*processes)
    daemon = processes[-1].numbers[0]
    assert surroundings.outlived(daemon) is expected
    assert not (expected and surroundings.taken_along(daemon))


ENDS = ("the container's own", "docker:dind: tini waits for it", "from within: the first itself")


@pytest.mark.parametrize(("name", "processes", "_"), CASES, ids=[c[0] for c in CASES])
def test_whether_it_certainly_ends(name: str, processes: tuple[P, ...], _: bool, proc: Callable[..., None]) -> None:
    proc(*processes)
    assert surroundings.taken_along(processes[-1].numbers[0]) is (name in ENDS)


ID = "d1" * 32


@pytest.mark.parametrize(
    ("cgroup", "unit"),
    [
        (f"0::/docker/{ID}/system.slice/docker.service\n", "docker.service"),
        (f"0::/system.slice/docker-{ID}.scope/init.scope/system.slice/docker.service/x\n", "docker.service"),
        (f"0::/system.slice/docker-{ID}.scope\n", ""),
        ("0::/system.slice/docker.service\n", ""),
        (f"0::/system.slice/containerd.service/{ID}\n", ""),
    ],
)
def test_the_unit_within(cgroup: str, unit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(surroundings.procfs, "maybe", lambda path, limit=0: cgroup)
    assert surroundings.unit(7) == unit


def test_a_process_that_went(proc: Callable[..., None]) -> None:
    proc()
    assert not surroundings.outlived(7)
    assert not surroundings.outlived(0)


def test_signs_are_names_alone(proc: Callable[..., None]) -> None:
    proc(
        SHIM,
        P("drone-docker", 100, (110, 1), (110, 1), argv="/bin/drone-docker", environ="PLUGIN_PASSWORD=x\0HOME=/"),
        P("dockerd", 110, (120, 9), (110, 1), environ="GITLAB_CI=true\0NOT_ONE"),
        P("Runner.Listener", 1, (200,), (200,), environ="ACTIONS_RUNNER_INPUT_JITCONFIG=secret"),
        P("drone-runner-do", 1, (201,), (201,), argv="/bin/drone-runner-docker\0daemon"),
        P("sh", 1, (202,), (202,), environ="DOCKERD_IN_RUNNER=true"),
    )
    assert surroundings.signs(120, (120, 200, 201, 202)) == (
        "variable GITLAB_CI",
        "process drone-docker",
        "variable ACTIONS_RUNNER_INPUT_JITCONFIG",
        "process drone-runner-docker",
    )
    assert surroundings.signs(120, ()) == ("variable GITLAB_CI", "process drone-docker"), "the shim is outside"
