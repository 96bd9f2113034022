"""Every way a daemon may be set up: what is read of it, and how it is started again."""

import json
from typing import Any

import pytest
from article import NARROW, Article, article
from engine import CONFIG, required
from test_reading import snapshot
from test_repair import fix, undo

pytestmark = [pytest.mark.slow, pytest.mark.lab]


def engine(a: Article) -> dict[str, Any]:
    (found,) = snapshot(a.h.enter)["engines"]
    assert isinstance(found, dict)
    return found


def repair(a: Article, where: str) -> dict[str, Any]:
    """The repair for good that the report offers."""
    (first, *_) = a.diagnose(where)["findings"]
    found: dict[str, Any] = next(x for x in first["fixes"] if x["platform"] == "docker")
    return found


@pytest.mark.parametrize(
    ("manager", "unit", "typed"),
    [
        ("service", "docker", ["service", "docker", "restart"]),
        ("systemctl", "docker.service", ["systemctl", "restart", "docker.service"]),
    ],
)
def test_started_by_its_manager(manager: str, unit: str, typed: list[str]) -> None:
    required()
    with article(manager=manager) as a:
        a.docker.run("ci")
        told = engine(a)
        assert (told["restart"], told["unit"]) == (manager, unit)
        assert typed in repair(a, "container:ci")["commands"]
        pid = a.docker.pid
        fix(a, "container:ci", "--use", "docker-daemon-mtu", "--yes", "--interrupt")
        assert a.docker.pid != pid
        assert engine(a)["restart"] == manager, "it is its manager's as before"
        assert a.works("ci")
        undo(a)
        assert not a.h.path(CONFIG).exists()
        assert a.hangs("ci")

        a.h.path(CONFIG).write_text('{"bogus": 1}')  # the daemon has not read it, and would not start again
        pid = a.docker.pid
        fix(a, "container:ci", "--use", "docker-daemon-mtu", "--yes", "--interrupt", status=3)
        assert (a.docker.pid, a.h.path(CONFIG).read_text()) == (pid, '{"bogus": 1}')


def test_an_mtu_on_its_command_line() -> None:
    required()
    with article("--mtu", "1480") as a:
        a.docker.run("ci")
        told = engine(a)
        assert (told["mtu"], told["mtu_from"]) == (1480, "flag")
        offered = repair(a, "container:ci")
        assert (offered["id"], offered["applicability"]) == ("docker-daemon-mtu", "manual")


def test_a_configuration_that_is_not_in_force_and_one_that_is_broken() -> None:
    required()
    with article(config='{"live-restore": true}') as a:
        a.docker.run("ci")
        told = engine(a)
        assert (told["live_restore"], told["mtu"], told.get("mtu_from", "default")) == (True, 1500, "default")
        assert repair(a, "container:ci")["applicability"] == "manual", "a restart would change nothing while it runs"

        file = a.h.path(CONFIG)
        file.write_text(json.dumps({"live-restore": True, "mtu": NARROW}))
        report = a.diagnose("container:ci")
        (cause,) = [f for f in report["findings"] if f["code"] == "CFG603"]
        assert (cause["facts"]["case"], cause["facts"]["wanted"], cause["facts"]["live"]) == ("kept", NARROW, 1500)
        assert "CFG603" in report["findings"][0]["because"]
        a.docker.stop()
        a.docker.start()  # with live-restore the container runs on, and the daemon keeps the network as it is
        assert [f["code"] for f in a.diagnose("container:ci")["findings"] if f["code"] == "CFG603"] == ["CFG603"]

        file.write_text('{"mtu": 1400,}')
        told = engine(a)
        assert "trailing comma" in told["config_error"]
        assert told["config"] == '{"mtu": 1400,}'
        offered = repair(a, "container:ci")
        assert (offered["id"], offered["applicability"]) == ("docker-daemon-mtu", "manual")


def test_a_container_older_than_the_setting() -> None:
    """Restarted alone it is well: the daemon has what the file says."""
    required()
    with article(config='{"live-restore": true}') as a:
        a.docker.run("ci")
        a.docker("stop", "ci")  # none runs: the daemon may make its network again
        a.h.path(CONFIG).write_text(json.dumps({"live-restore": True, "mtu": NARROW}))
        a.docker.stop()
        a.docker.start()
        assert engine(a)["mtu"] == NARROW
        a.docker("start", "ci")
        assert a.works("ci")
        assert a.diagnose("container:ci")["verdict"] == "healthy"
