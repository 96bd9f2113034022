"""Article 002 with real engines: a dockerd in a container of dockerd, whose containers invite more than that one has.

    s (web server) 1500 ---- r ---- h (dockerd; "dind" 1450: dockerd; "ci" 1500)

"Too big" is said to ``s`` and lost there (article.py). What is asked: who is named, with which number, from the host,
from within the container, and without any rights from the innermost one; and that what repairs it is taken back.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from article import PATHFIT, SIZE, URL, Article, article
from engine import CLIENT, required
from labhost import COMES, PATIENCE
from recipes.nested import NAME, Nested
from settings import HANDED_OUT, VOLATILE, differences, without

from pathfit.core.change import Change, RestartEngine, WriteFile

pytestmark = [pytest.mark.slow, pytest.mark.lab]

REPO = Path(__file__).parents[2]
OUTER = 1450  # bytes: what the container around has, and all that it carries
CONFIG = "/etc/docker/daemon.json"
SCRIPT = str(Path(__file__).with_name("killed.py"))
KILLED = 137  # 128 + SIGKILL, as nsenter passes it on
PYTHON = "/usr/bin/python3"  # of this machine: what a container sees of it
CI = f"container:{NAME}/ci"
UNSORTED = {"ExecIDs", "Mounts"}  # of the container around: who looks into it, and in an order that changes


def mounts() -> tuple[str, ...]:
    """This checkout and its Python, where they are not below /usr anyway."""
    folders = (str(REPO), sys.base_prefix)
    return tuple(w for f in folders if not f.startswith("/usr") for w in ("-v", f"{f}:{f}:ro"))


class Stage:
    """The article's stage with an inner engine. ``narrow``: MTU of the container around."""

    def __init__(self, a: Article, inner: Nested) -> None:
        self.a, self.inner = a, inner

    def curl(self, name: str, patience: float, *words: str) -> str:
        """What curl in a container of the innermost engine says: "200 200000", or "000 0" when it hung."""
        asked = f"curl -sk -m {patience} -o /dev/null -w %{{http_code}}_%{{size_download}} {URL}{SIZE}"
        return self.inner("exec", *words, name, *asked.split(), check=False).replace("_", " ")

    def works(self, name: str = "ci") -> bool:
        return self.curl(name, COMES) == f"200 {SIZE}"

    def hangs(self, name: str = "ci") -> bool:
        return not self.curl(name, 2.0).startswith("200")

    def diagnose(self, where: str = CI) -> dict[str, Any]:
        return self.a.diagnose(where)

    def fix(self, *words: str, where: str = CI, status: int = 0) -> str:
        done = self.a.pathfit("fix", *words, "--from", where, "--to", URL)
        assert done.returncode == status, f"{done.returncode}: {done.stdout}{done.stderr}"
        return done.stdout

    def undo(self) -> None:
        done = self.a.pathfit("fix", "--undo", "last")
        assert done.returncode == 0, done.stdout + done.stderr

    def settings(self) -> Any:
        """All that both engines say of their containers and networks, without what nobody chose."""
        found = []
        for docker in (self.a.docker, self.inner):
            names = docker("ps", "-aq", "--no-trunc").split()
            networks = docker("network", "ls", "-q", "--no-trunc").split()
            found += [json.loads(docker("inspect", *sorted(names)))] if names else []
            found.append(sorted(json.loads(docker("network", "inspect", *networks)), key=lambda n: str(n["Name"])))
        return without(found, VOLATILE | HANDED_OUT | UNSORTED)

    def routes(self) -> str:
        return self.inner("exec", "ci", "ip", "-d", "route")


@contextmanager
def stage(narrow: int = OUTER, uplink: int = 1500, **more: Any) -> Iterator[Stage]:
    required()
    with article("--mtu", str(narrow), narrow=uplink) as a:
        inner = Nested(a.lab, a.h, outer=a.docker, options=mounts(), **more)
        inner.run("ci")
        yield Stage(a, inner)


def because(report: dict[str, Any], code: str = "CFG602") -> dict[str, Any]:
    """The cause of that code, which the first finding (an inbound hole) must name."""
    first = report["findings"][0]
    assert (first["code"], first["confidence"]) == ("MTU101", "confirmed")
    assert code in first["because"]
    (found,) = [f for f in report["findings"] if f["code"] == code]
    return dict(found)


def measured(report: dict[str, Any], way: str) -> tuple[int | None, int | None]:
    """(passes, fails) in bytes."""
    one = report["measured"][way]
    return one["pass"], one["fail"]


def test_who_is_named_with_which_number_and_what_a_route_does() -> None:
    with stage() as s:
        assert s.hangs()
        seen = s.diagnose()
        assert measured(seen, "reverse") == (OUTER, OUTER + 1)
        cause = because(seen)
        assert cause["confidence"] == "confirmed"
        assert {k: cause["facts"][k] for k in ("case", "engine", "level", "own", "limit", "link", "place")} == {
            "case": "members",
            "engine": NAME,
            "level": 1,
            "own": 1500,
            "limit": OUTER,
            "link": "eth0",
            "place": f"{NAME}/eth0",
        }
        fixes = {f["id"]: f for f in seen["findings"][0]["fixes"]}
        daemon = fixes["docker-daemon-mtu"]
        assert (daemon["applicability"], daemon["interrupts"][0]) == ("manual", f"container:{NAME}")
        assert f"the container {NAME} runs" in daemon["by_hand"], "it would end with its daemon"
        assert (fixes["dind-mtu"]["value"], fixes["dind-mtu"]["untried"]) == (OUTER, True)
        assert {f["platform"] for f in fixes.values()} == {"linux", "docker"}, "no runner is in sight, none is guessed"

        within = from_within(s)
        assert measured(within, "reverse") == (OUTER, OUTER + 1)
        cause = because(within)
        assert (cause["confidence"], cause["facts"]["limit"], cause["facts"]["own"]) == ("confirmed", OUTER, 1500)
        assert s.a.docker("inspect", "-f", "{{.Id}}", NAME).startswith(cause["facts"]["engine"])

        without_rights(s, measured(seen, "reverse"), measured(seen, "forward"))

        before, routes = s.settings(), s.routes()
        s.fix("--yes")
        assert s.works()
        assert s.a.h.call(str(PATHFIT), "diagnose", "--from", CI, "--to", URL, env=s.a.env).returncode == 0
        s.undo()
        assert s.routes() == routes
        assert "\n".join(differences(before, s.settings())) == ""
        assert s.hangs()


def test_an_inner_daemon_restarted_by_the_engine_around_it() -> None:
    """Where the container does not end with it; and whoever kills the repair on its way finds it taken back."""
    with stage(beside=True, config="") as s:
        s.inner("network", "create", "web")
        s.inner.run("w1", "--network", "web", "--restart", "always")
        s.inner.run("still")
        s.inner("pause", "still")
        before, pid = s.settings(), inner_pid(s)
        began = s.a.docker("inspect", "-f", "{{.State.StartedAt}}", NAME)
        assert "MTU101" in s.fix("--use", "docker-daemon-mtu", "--yes", status=1)
        assert inner_pid(s) == pid, "--yes alone interrupts nothing"
        s.fix("--use", "docker-daemon-mtu", "--yes", "--interrupt")
        assert inner_pid(s) != pid
        assert json.loads(s.a.docker("exec", NAME, "cat", CONFIG)) == {"mtu": OUTER}
        assert s.inner("exec", "ci", "cat", "/sys/class/net/eth0/mtu") == str(OUTER), "the device shows it"
        assert s.works()
        well = s.diagnose()
        assert (well["verdict"], [f for f in well["findings"] if f["severity"] != "info"]) == ("healthy", [])
        assert s.a.docker("inspect", "-f", "{{.State.StartedAt}}", NAME) == began, "the container around went on"
        assert "API listen on" in s.a.h.call(CLIENT, "logs", NAME).stderr, "its words are where they were"

        assert s.hangs("w1"), "a network of its own does not inherit it"
        seen = s.diagnose(f"container:{NAME}/w1")
        assert because(seen)["facts"]["network"] == "web"
        assert because(seen, "CFG601")["facts"]["daemon"] == OUTER
        s.fix("CFG601", "--yes", "--interrupt", where=f"container:{NAME}/w1")
        assert s.works("w1")
        s.undo()
        assert s.inner("exec", "w1", "sh", "-c", "cat /sys/class/net/eth*/mtu") == "1500"  # Docker counts on: eth2

        undone = s.a.pathfit("fix", "--undo", "all")
        assert undone.returncode == 0, undone.stdout + undone.stderr
        assert s.a.h.call(CLIENT, "exec", NAME, "ls", CONFIG).returncode != 0
        assert "\n".join(differences(before, s.settings())) == ""
        assert s.hangs()

        s.inner("rm", "-f", "w1", "still")
        before = s.settings()
        assert killed(s, 0) == len(CALLS)
        s.undo()
        for die in (CALLS.index("ended"), CALLS.index("started"), CALLS.index("container")):
            killed(s, die + 1)
            said = s.a.pathfit("explain", "MTU101")
            assert "a repair was interrupted" in said.stderr, f"call {die}: {said.stderr}"
            s.undo()
            assert s.a.h.call(CLIENT, "exec", NAME, "ls", CONFIG).returncode != 0, f"call {die}"
            assert "\n".join(differences(before, s.settings())) == "", f"call {die}"


CALLS = ("file", "written", "restart", "ended", "command", "started", "container", "restarted")
"""What the repair of an inner daemon calls, as killed.py counts. Others of them: test_killed.py."""


def inner_pid(s: Stage) -> int:
    """The inner daemon's number as the host counts."""
    done = s.a.h.run("pgrep", "-x", "dockerd").split()
    (pid,) = [int(p) for p in done if int(p) != s.a.docker.pid]
    return pid


def killed(s: Stage, die: int) -> int:
    """The repair of the inner daemon, killed (SIGKILL) after its call ``die``; 0: not, then how many there were."""
    container = json.loads(s.a.docker("inspect", NAME))[0]
    write = WriteFile(path=f"/proc/{container['State']['Pid']}/root{CONFIG}", new=f'{{"mtu": {OUTER}}}\n')
    running = tuple(s.inner("ps", "-q", "--no-trunc").split())
    restart = RestartEngine(
        engine="docker",
        socket="/run/docker.sock",
        how="exec",
        pid=inner_pid(s),
        running=running,
        within=container["Id"],
        through="/run/docker.sock",
    )
    changes: tuple[Change, ...] = (write, restart)
    orders = json.dumps({"changes": msgspec.to_builtins(changes), "die": die})
    done = s.a.h.call(sys.executable, SCRIPT, orders, env=s.a.env)
    assert done.returncode in ((KILLED, -9) if die else (0,)), f"{die}: {done.returncode} {done.stdout}{done.stderr}"
    return 0 if die else int(json.loads(done.stdout)["calls"])


def test_three_levels_and_a_limit_further_out() -> None:
    """Both containers around have 1500; what carries less is the machine's own device, as a cloud gives it."""
    with stage(1500, uplink=OUTER, beside=True, config="") as s:
        job = ("--label", "com.gitlab.gitlab-runner.type=service", "-e", "GITLAB_CI=true")
        subnets = {"bridge": "198.19.17.1/24", "pool": "198.19.96.0/19"}
        deeper = Nested(s.a.lab, s.a.h, "", outer=s.inner, name="deeper", beside=True, options=job, **subnets)
        deeper.run("build")
        where = f"container:{NAME}/deeper/build"
        seen = s.diagnose(where)
        assert measured(seen, "reverse") == (OUTER, OUTER + 1)
        cause = because(seen)
        assert cause["confidence"] == "confirmed"
        assert {k: cause["facts"][k] for k in ("case", "engine", "level", "limit", "place")} == {
            "case": "beyond",
            "engine": f"{NAME}/deeper",
            "level": 2,
            "limit": OUTER,
            "place": "host/eth0",
        }
        fixes = {f["id"]: f for f in seen["findings"][0]["fixes"]}
        assert fixes["docker-daemon-mtu"]["commands"][-1][:6] == ["docker", "exec", NAME, "docker", "exec", "deeper"]
        assert fixes["docker-daemon-mtu"]["applicability"] == "manual"
        runner = fixes["gitlab-mtu"]
        assert (runner["value"], runner["effective"], runner["untried"]) == (OUTER, OUTER, True)
        assert f'+  command: ["--mtu={OUTER}"]' in runner["files"][0]["diff"]
        assert "com.gitlab.gitlab-runner." in runner["title"], "by which sign"
        assert {f["platform"] for f in fixes.values()} == {"linux", "docker", "gitlab"}


def from_within(s: Stage) -> dict[str, Any]:
    """`pathfit diagnose` as root in the container around."""
    words = ("exec", "-e", "PATHFIT_STATE=/tmp/state", NAME, str(PATHFIT), "diagnose")
    done = s.a.h.call(CLIENT, *words, "--from", "container:ci", "--to", URL, "--json")
    assert done.stdout, done.stderr
    return dict(json.loads(done.stdout))


def without_rights(s: Stage, way_in: tuple[Any, Any], way_out: tuple[Any, Any]) -> None:
    """The one file in containers of the inner engine, as anybody: no capability, with and without Docker's filter of
    system calls. The same number; of the way out, where looking might teach the machine a path MTU, it says that it did
    not look."""
    for name, filtered in (("mine", ()), ("any", ("--security-opt", "seccomp=unconfined"))):
        rights = ("-u", "1000:1000", "--cap-drop", "ALL", "--security-opt", "no-new-privileges")
        s.inner.run(name, "-v", "/usr:/usr:ro", *rights, *filtered)
        state = s.inner("exec", name, "cat", "/proc/self/status")
        fields = dict(line.split(":\t", 1) for line in state.splitlines() if ":\t" in line)
        assert (fields["Uid"].split()[0], int(fields["CapEff"], 16)) == ("1000", 0)
        assert fields["Seccomp"] == ("2" if not filtered else "0")
        words = (CLIENT, "exec", "-i", NAME, CLIENT, "exec", "-i", name, PYTHON, "-", URL, "--json")
        done = subprocess.run(
            [*s.a.h.enter, *words], input=onefile(s.a.lab.folder), capture_output=True, timeout=PATIENCE, check=False
        )
        assert done.stdout, done.stderr.decode()
        found = json.loads(done.stdout)
        assert found["findings"][0]["code"] == "MTU101"
        assert measured(found, "reverse") == way_in
        out = found["measured"]["forward"]
        assert measured(found, "forward") == way_out or (out["pass"], out["note"]) == (None, "not measured")


def onefile(folder: Path) -> bytes:
    """`make onefile`, into the lab's folder."""
    made = folder / "pathfit-probe.py"
    if not made.exists():
        words = (sys.executable, str(REPO / "tools" / "onefile"), "-o", str(made))
        subprocess.run(words, capture_output=True, check=True, timeout=PATIENCE)
    return made.read_bytes()
