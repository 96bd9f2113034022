"""kill -9 at every call of an engine's repair, with a real dockerd: the next pathfit says so, and takes it back."""

import json
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
import pytest
from article import Article, Stage, article
from engine import CONFIG, SOCKET, required
from settings import HANDED_OUT, VOLATILE, differences, settings

from pathfit.core.change import Change, RecreateNetwork, RestartEngine, WriteFile

pytestmark = [pytest.mark.slow, pytest.mark.lab]

SCRIPT = str(Path(__file__).with_name("killed.py"))
KILLED = 137  # 128 + SIGKILL, as nsenter passes it on


@pytest.fixture
def stage() -> Iterator[Article]:
    required()
    with article() as a:
        yield a


def repaired(a: Stage, changes: tuple[Change, ...], die: int, *, during: str = "-") -> bool:
    """Perform changes and die after a call; whether it came to that."""
    orders = json.dumps({"changes": msgspec.to_builtins(changes), "die": die, "during": during})
    done = a.h.call(sys.executable, SCRIPT, orders, env=a.env)
    assert done.returncode in (0, KILLED, -9), f"call {die}: {done.returncode} {done.stdout}{done.stderr}"
    return done.returncode != 0


def taken_back(a: Stage, die: int, *, killed: bool, told: bool = True) -> None:
    """Undone by the next pathfit. ``told``: another command says that it was interrupted."""
    if told:
        said = a.pathfit("explain", "MTU101")
        assert ("a repair was interrupted" in said.stderr) == killed, f"call {die}: {said.stderr}"
    done = a.pathfit("fix", "--undo", "last")
    assert done.returncode == 0, f"call {die}: {done.stdout}{done.stderr}"


def test_a_network_made_again(stage: Article) -> None:
    docker = stage.docker
    docker("network", "create", "--label", "team=shop", "web")
    docker.run("w1", "--network", "web", "--network-alias", "shop")
    docker.run("w2", "--network", "web")
    docker.run("down", "--network", "web")
    docker("stop", "down")
    before = settings(stage)
    for die in count(1):
        network = docker.inspect("network", "web")["Id"]
        change = RecreateNetwork(engine="docker", socket=SOCKET, network=network, name="web", mtu=1400)
        killed = repaired(stage, (change,), die)
        taken_back(stage, die, killed=killed)
        assert "\n".join(differences(before, settings(stage))) == "", f"call {die}"
        if not killed:
            break
    assert die > 8, "members off, the network away and made, members back, and the step as the journal sees it"


def test_the_daemon_started_again(stage: Article) -> None:
    docker = stage.docker
    docker.run("ci")
    docker.run("db", "--restart", "always")
    before = settings(stage, VOLATILE | HANDED_OUT)
    file = stage.h.path(CONFIG)
    for die in count(1):
        running = tuple(docker("ps", "-q", "--no-trunc").split())
        restart = RestartEngine(engine="docker", socket=SOCKET, how="argv", pid=docker.pid, running=running)
        killed = repaired(stage, (WriteFile(path=CONFIG, new='{"mtu": 1400}\n'), restart), die)
        assert killed or mtu(stage) == "1400"
        taken_back(stage, die, killed=killed)
        assert not file.exists()
        assert mtu(stage) == "1500", f"call {die}"
        assert "\n".join(differences(before, settings(stage, VOLATILE | HANDED_OUT))) == "", f"call {die}"
        if not killed:
            break
    assert die > 6, "two steps, twice each; the daemon's end and start; a container"


def test_a_daemon_that_does_not_start_with_the_new_file(stage: Article) -> None:
    """It is not waited for until the end of patience, and what is undone starts it as it was."""
    docker = stage.docker
    docker.run("ci")
    before = settings(stage, VOLATILE | HANDED_OUT)
    restart = RestartEngine(engine="docker", socket=SOCKET, how="argv", pid=docker.pid)
    twice = '{"bip": "198.19.0.1/24"}'  # it stands on the command line as well: dockerd refuses
    orders = {"changes": msgspec.to_builtins((WriteFile(path=CONFIG, new=twice), restart)), "die": 0}
    done = stage.h.call(sys.executable, SCRIPT, json.dumps(orders), env=stage.env)
    assert "docker does not run after its restart" in done.stderr, done.stdout + done.stderr
    assert not stage.h.path("/run/docker.pid").exists(), "it runs after all"
    taken_back(stage, 0, killed=True)
    assert not stage.h.path(CONFIG).exists()
    assert "\n".join(differences(before, settings(stage, VOLATILE | HANDED_OUT))) == ""


def mtu(a: Article) -> Any:
    return a.docker.inspect("network", "bridge")["Options"]["com.docker.network.driver.mtu"]
