"""Article 000 with a real dockerd, repaired and taken back: what a user types, and what curl then says."""

import json
from collections.abc import Iterator

import pytest
from article import NARROW, URL, Article, article
from engine import CONFIG, required
from settings import HANDED_OUT, VOLATILE, differences, settings

pytestmark = [pytest.mark.slow, pytest.mark.lab]

OPTION = "com.docker.network.driver.mtu"


@pytest.fixture
def stage() -> Iterator[Article]:
    required()
    with article() as a:
        yield a


def fix(a: Article, where: str, *words: str, status: int = 0) -> str:
    return a.fix(where, *words, status=status)


def undo(a: Article, which: str = "last") -> None:
    a.undo(which)


def test_the_route_now(stage: Article) -> None:
    stage.docker.run("ci")
    assert stage.hangs("ci")
    report = stage.diagnose("container:ci")
    first = report["findings"][0]
    assert (first["code"], first["confidence"]) == ("MTU101", "confirmed")
    links = [f"{h['where']['netns']}/{h['where'].get('link')}" for h in report["path"]["forward"]["hops"]]
    assert links[0] == "container:ci/eth0"
    text = stage.pathfit("diagnose", "--from", "container:ci", "--to", URL).stdout
    assert f"ci 1500 > docker0 > [eth0 {NARROW}]" in text
    assert "--from container:ci" in text
    before = settings(stage, set())
    fix(stage, "container:ci", "--yes")
    assert stage.works("ci")
    undo(stage)
    assert stage.hangs("ci")
    assert differences(before, settings(stage, set())) == []


@pytest.mark.parametrize(
    "config",
    [None, '{\n    "log-driver" : "json-file",\n\t"mtu":1500 }'],
    ids=["no file", "a format of its own"],
)
def test_the_daemon_for_good(config: str | None) -> None:
    required()
    with article(config=config) as a:
        docker = a.docker
        docker("network", "create", "web")
        docker.run("ci")
        docker.run("db", "--restart", "always")
        docker.run("side", "--network", "container:ci")
        docker.run("w1", "--network", "web")
        docker.run("old")
        docker("stop", "old")
        docker.run("still", "--network", "web")
        docker("pause", "still")
        assert a.hangs("ci")
        before, pid = settings(a, VOLATILE | HANDED_OUT), docker.pid
        file = a.h.path(CONFIG)
        assert "MTU101" in fix(a, "container:ci", "--use", "docker-daemon-mtu", "--yes", status=1)
        assert (docker.pid, file.exists()) == (pid, config is not None), "--yes alone interrupts nothing"

        fix(a, "container:ci", "--use", "docker-daemon-mtu", "--yes", "--interrupt")
        assert docker.pid != pid
        assert json.loads(file.read_text())["mtu"] == NARROW
        docker.run("new")
        assert [a.works(name) for name in ("ci", "db", "side", "new")] == [True] * 4
        assert docker.inspect("container", "old")["State"]["Status"] == "exited"
        assert docker.inspect("container", "still")["State"]["Status"] == "paused"

        assert a.hangs("w1"), "a network of its own does not inherit the daemon's MTU"
        report = a.diagnose("container:w1")
        (cause,) = [f for f in report["findings"] if f["code"] == "CFG601"]
        assert cause["facts"]["daemon"] == NARROW
        assert "CFG601" in report["findings"][0]["because"]
        fix(a, "container:w1", "CFG601", "--yes", "--interrupt")
        assert a.works("w1")

        undo(a, "all")
        assert file.exists() == (config is not None)
        assert config is None or file.read_bytes() == config.encode()
        running = docker("ps", "--format", "{{.Names}}").split()
        assert sorted(running) == ["ci", "db", "new", "side", "still", "w1"], "what was started since runs as well"
        docker("rm", "-f", "new")
        assert "\n".join(differences(before, settings(a, VOLATILE | HANDED_OUT))) == ""
        assert a.hangs("ci") and a.hangs("w1")


def test_a_network_made_again_and_back(stage: Article) -> None:
    """Addresses, aliases, labels, ranges, members that do not run: all as they were, twice."""
    docker = stage.docker
    ranges = ("--subnet", "198.19.200.0/24", "--ip-range", "198.19.200.128/25", "--gateway", "198.19.200.1")
    docker("network", "create", "--label", "team=shop", "--opt", "com.docker.network.bridge.name=shop0", *ranges, "web")
    docker("network", "create", "other")
    docker.run("w1", "--network", "web", "--network-alias", "shop")
    docker.run("w2", "--network", "web", "--ip", "198.19.200.77", "--link", "w1:first")
    docker.run("w3", "--network", "other")
    docker("network", "connect", "--alias", "third", "web", "w3")
    docker.run("down", "--network", "web")
    docker("stop", "down")
    docker.run("guest", "--network", "container:w1")
    docker.run("still", "--network", "web")
    docker("pause", "still")
    before = settings(stage)
    assert stage.hangs("w1")
    listed = fix(stage, "container:w1", "--use", "docker-network-mtu", "--dry-run", status=1)
    assert all(name in listed for name in ("w1", "w2", "w3", "guest", "still"))
    assert differences(before, settings(stage)) == []

    fix(stage, "container:w1", "--use", "docker-network-mtu", "--yes", "--interrupt")
    made = docker.inspect("network", "web")
    assert made["Options"] == {"com.docker.network.bridge.name": "shop0", OPTION: str(NARROW)}
    assert stage.works("w1") and stage.works("w2") and stage.works("guest")
    assert stage.hangs("w3"), "its way out is by its other network"
    after = settings(stage)
    for then, now in zip(before[0], after[0], strict=True):
        ends = {k: v for k, v in then["NetworkSettings"]["Networks"].items() if k != "web"}
        assert {k: v for k, v in now["NetworkSettings"]["Networks"].items() if k != "web"} == ends
        for key in ("IPAddress", "MacAddress", "Aliases", "Links"):
            assert now["NetworkSettings"]["Networks"].get("web", {}).get(key) == (
                then["NetworkSettings"]["Networks"].get("web", {}).get(key)
            ), (now["Name"], key)
    docker("start", "down")
    assert stage.works("down")
    docker("stop", "down")
    undo(stage)
    assert "\n".join(differences(before, settings(stage))) == ""
    assert stage.hangs("w1")


def test_an_address_that_would_not_come_by_itself(stage: Article) -> None:
    """Where a lower address is free by now, the old one is chosen for the container: it stays, and stays chosen."""
    docker = stage.docker
    docker("network", "create", "web")
    docker.run("gap", "--network", "web")
    docker.run("w1", "--network", "web")
    docker("rm", "-f", "gap")
    address = docker.inspect("container", "w1")["NetworkSettings"]["Networks"]["web"]["IPAddress"]
    fix(stage, "container:w1", "--use", "docker-network-mtu", "--yes", "--interrupt")
    end = docker.inspect("container", "w1")["NetworkSettings"]["Networks"]["web"]
    assert (end["IPAddress"], end["IPAMConfig"]) == (address, {"IPv4Address": address})
    undo(stage)
    assert docker.inspect("container", "w1")["NetworkSettings"]["Networks"]["web"]["IPAddress"] == address
