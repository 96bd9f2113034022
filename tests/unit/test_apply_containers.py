"""Podman's containers started again, ended at every call: undone or done again, it is as it must be.

Podman here is a model in memory, asked as its command would be; tests/engines does the same with a real one.
"""

import json
from collections.abc import Callable, Sequence
from typing import Any, get_args

import pytest

from pathfit.apply import containers
from pathfit.apply.containers import ContainersAgain
from pathfit.apply.step import Foreign, Impossible
from pathfit.apply.steps import STEPS
from pathfit.core.change import Change, RestartContainers
from pathfit.core.engined import ContainersBefore
from pathfit.host import process
from pathfit.host.run import Done
from pathfit.observe import processes
from pathfit.render.fixing import STEP_WORDS

Json = dict[str, Any]
CLIENT = ("/usr/bin/podman", "--root", "/srv/c")
IDS = {name: f"{n:064x}" for n, name in enumerate(("w1", "w2", "side", "still"), 1)}
CHANGE = RestartContainers(engine="podman", client=CLIENT, network="web", mtu=1400, containers=tuple(IDS.values()))


class Killed(BaseException):
    """kill -9: nothing of ours runs after it."""


class Podman:
    """Three with a namespace of their own (one of them stands still), and one that lives with the first."""

    def __init__(self) -> None:
        self.file: Json = {"name": "web", "driver": "bridge", "created": 1}
        self.next = 100
        self.running: dict[str, Json] = {}  # name -> pid, mtu
        self.frozen: set[str] = set()
        self.removes: set[str] = set()
        self.labels: dict[str, Json] = {}
        self.there = set(IDS)
        self.calls = self.dies = 0
        self.early = True
        for name in IDS:
            self.start(name)
        self.frozen = {"still"}

    def start(self, name: str) -> None:
        owner = self.running["w1"] if name == "side" else None
        mtu = owner["mtu"] if owner else int(self.file.get("options", {}).get("mtu", 1500))
        self.next += 1
        self.running[name] = {"pid": self.next, "mtu": mtu, "space": owner["space"] if owner else f"4:{self.next}"}

    def run(self, words: Sequence[str], **_: Any) -> Done:
        assert tuple(words[: len(CLIENT)]) == CLIENT
        command, *rest = words[len(CLIENT) :]
        if command == "ps":
            return Done(0, json.dumps([self.shown(n) for n in IDS if n in self.there]), "")
        if command == "network":
            return Done(0, json.dumps([self.file]), "")
        self.calls += 1
        if self.calls == self.dies and self.early:
            raise Killed
        names = [n for i in rest for n in IDS if IDS[n] == i]
        said = self.act(command, names)
        if self.calls == self.dies:
            raise Killed
        return Done(1 if said else 0, "", said)

    def act(self, command: str, names: Sequence[str]) -> str:
        for name in names:
            if command == "stop":
                if name in self.frozen:
                    return "container state improper"
                self.running.pop(name, None)
            elif command == "start" and name not in self.running:
                if name == "side" and "w1" not in self.running:
                    return "its owner does not run"
                self.start(name)
            elif command == "pause":
                self.frozen.add(name)
            elif command == "unpause":
                self.frozen.discard(name)
        return ""

    def shown(self, name: str) -> Json:
        state = "paused" if name in self.frozen else "running" if name in self.running else "exited"
        whole = {"Id": IDS[name], "Names": [name], "State": state, "Labels": self.labels.get(name)}
        return {**whole, "Pid": self.running.get(name, {}).get("pid", 0), "AutoRemove": name in self.removes}

    def of(self, pid: int) -> Json:
        return next((x for x in self.running.values() if x["pid"] == pid), {})

    def state(self) -> Any:
        return {n: x["mtu"] for n, x in self.running.items()}, self.frozen, self.file

    def write(self, mtu: int) -> None:
        self.file = {**self.file, "options": {"mtu": str(mtu)}, "created": 2}

    def restore(self) -> None:
        self.file = {k: v for k, v in self.file.items() if k != "options"} | {"created": 1}


@pytest.fixture
def podman(monkeypatch: pytest.MonkeyPatch) -> Podman:
    return model(monkeypatch)


def model(monkeypatch: pytest.MonkeyPatch) -> Podman:
    made = Podman()
    monkeypatch.setattr(containers, "run", made.run)
    monkeypatch.setattr(containers, "_refuse", lambda change: None)
    monkeypatch.setattr(containers, "_mtus", lambda pid: {"eth0": made.of(pid)["mtu"]} if made.of(pid) else {})
    monkeypatch.setattr(containers, "boot_id", lambda: "boot")
    monkeypatch.setattr(process, "started", lambda pid: pid if made.of(pid) else 0)
    monkeypatch.setattr(processes, "namespace_of", lambda pid: made.of(pid).get("space", ""))
    monkeypatch.setattr(processes, "of_name", lambda name: ())
    return made


def until_not_killed(podman: Podman, act: Callable[[], None], die: int, early: bool) -> bool:
    podman.calls, podman.dies, podman.early = 0, die, early
    try:
        act()
    except Killed:
        return True
    finally:
        podman.dies = 0
    return False


STEP = ContainersAgain()


def test_every_kind_of_change_can_be_made_and_named() -> None:
    assert set(get_args(Change)) == set(STEPS) == set(STEP_WORDS)


def test_done_and_undone(podman: Podman) -> None:
    before = podman.state()
    pids = {n: x["pid"] for n, x in podman.running.items()}
    prepared = STEP.prepare(CHANGE, "t")
    assert [b.owner for b in prepared.containers] == [IDS["w1"], IDS["w2"], IDS["w1"], IDS["still"]]
    podman.write(1400)
    STEP.perform(CHANGE, prepared, "t")
    assert podman.state()[:2] == (dict.fromkeys(IDS, 1400), {"still"})
    assert STEP.holds(CHANGE, prepared)
    again = {n: x["pid"] for n, x in podman.running.items()}
    assert not set(pids.values()) & set(again.values())
    STEP.perform(CHANGE, prepared, "t")
    assert {n: x["pid"] for n, x in podman.running.items()} == again, "done is done"
    podman.restore()
    STEP.undo(CHANGE, prepared, "t")
    assert podman.state() == before
    again = {n: x["pid"] for n, x in podman.running.items()}
    STEP.undo(CHANGE, prepared, "t")
    assert {n: x["pid"] for n, x in podman.running.items()} == again, "undone is undone"


def test_where_the_file_was_right_before_undoing_interrupts_nobody(podman: Podman) -> None:
    podman.write(1400)
    prepared = STEP.prepare(CHANGE, "t")
    STEP.perform(CHANGE, prepared, "t")
    after = podman.state()
    assert after[0] == dict.fromkeys(IDS, 1400)
    podman.calls = 0
    STEP.undo(CHANGE, prepared, "t")
    assert (podman.state(), podman.calls) == (after, 0)


@pytest.mark.parametrize("early", [True, False])
def test_killed_at_every_call(monkeypatch: pytest.MonkeyPatch, early: bool) -> None:
    die, killed = 0, True
    while killed:
        die += 1
        podman = model(monkeypatch)
        before = podman.state()
        prepared = STEP.prepare(CHANGE, "t")
        podman.write(1400)
        killed = until_not_killed(podman, lambda p=prepared: STEP.perform(CHANGE, p, "t"), die, early)  # type: ignore[misc]
        podman.restore()
        again, undoing = 0, True
        while undoing:  # and the undoing itself at every call, on top of what the one before has left
            again += 1
            undoing = until_not_killed(podman, lambda p=prepared: STEP.undo(CHANGE, p, "t"), again, early)  # type: ignore[misc]
        assert podman.state() == before, f"call {die}"
    assert die == 5, "unpause, stop, start, pause"


def test_nothing_stops_when_podman_does_not_see_the_edit(podman: Podman) -> None:
    prepared = STEP.prepare(CHANGE, "t")
    with pytest.raises(Foreign, match="sees mtu None"):
        STEP.perform(CHANGE, prepared, "t")
    podman.write(1400)
    podman.file["containers"] = {"whoever": "came"}
    podman.file["subnets"] = ["198.18.1.0/24"]
    with pytest.raises(Foreign, match="another network web in that file: subnets"):
        STEP.perform(CHANGE, prepared, "t")
    assert podman.calls == 0


@pytest.mark.parametrize(
    ("plant", "why"),
    [
        (lambda p: p.removes.add("w2"), "--rm"),
        (lambda p: p.labels.update(w2={"PODMAN_SYSTEMD_UNIT": "web.service"}), "web.service"),
        (lambda p: p.running.pop("w2"), "does not run"),
        (lambda p: p.there.discard("w2"), "went meanwhile"),
    ],
    ids=["--rm", "a unit's", "ended", "gone"],
)
def test_what_is_refused_before_anything_is_touched(podman: Podman, plant: Callable[[Podman], None], why: str) -> None:
    plant(podman)
    with pytest.raises(Impossible, match=why):
        STEP.prepare(CHANGE, "t")
    assert podman.calls == 0


def test_one_that_was_removed_since_is_nobody_s_loss(podman: Podman) -> None:
    prepared = STEP.prepare(CHANGE, "t")
    podman.write(1400)
    STEP.perform(CHANGE, prepared, "t")
    podman.there.discard("w2")
    podman.restore()
    STEP.undo(CHANGE, prepared, "t")
    assert podman.running["w1"]["mtu"] == 1500


def test_after_a_boot_only_what_runs_is_started_again(podman: Podman, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared: ContainersBefore = STEP.prepare(CHANGE, "t")
    podman.write(1400)
    STEP.perform(CHANGE, prepared, "t")
    podman.running.pop("w2")
    podman.restore()
    monkeypatch.setattr(containers, "boot_id", lambda: "another")
    STEP.undo(CHANGE, prepared, "t")
    assert "w2" not in podman.running
    assert podman.running["w1"]["mtu"] == 1500


def test_an_answer_that_is_none_is_an_error(podman: Podman, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(containers, "run", lambda *_, **__: Done(0, "{not json", ""))
    with pytest.raises(OSError, match="podman ps"):
        STEP.prepare(CHANGE, "t")
    monkeypatch.setattr(containers, "run", lambda *_, **__: Done(125, "", "Error: locked\nlast line"))
    with pytest.raises(OSError, match="last line"):
        STEP.prepare(CHANGE, "t")


def test_any_monitor_that_is_not_root_s_own_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    argv = ("conmon", "-c", IDS["w1"], "-n", "w1", "--exit-command", "/usr/bin/podman", "--exit-command-arg", "--root")
    argv += ("--exit-command-arg", "/srv/c", "--exit-command-arg", "container", "--exit-command-arg", "cleanup")
    one = RestartContainers(engine="podman", client=CLIENT, network="web", mtu=1400, containers=(IDS["w1"],))
    monkeypatch.setattr(processes, "of_name", lambda name: (7,))
    monkeypatch.setattr(processes, "argv_of", lambda pid: argv)
    monkeypatch.setattr(process, "foreign", lambda pid: "")
    containers._refuse(one)
    monkeypatch.setattr(process, "foreign", lambda pid: "it runs as another user")
    with pytest.raises(Impossible, match="another user"):
        containers._refuse(one)
    monkeypatch.setattr(process, "foreign", lambda pid: "")
    for changed, why in (
        ((*argv[:5], "--exit-command", "/tmp/evil", *argv[7:]), "another podman"),
        ((*argv, "--exit-command-arg", "--rm"), "--rm"),
        (("conmon", "-c", IDS["w2"]), "no monitor"),
    ):
        monkeypatch.setattr(processes, "argv_of", lambda pid, words=changed: words)
        with pytest.raises(Impossible, match=why):
            containers._refuse(one)
