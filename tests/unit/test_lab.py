"""Labs come and go without a trace: two at once, half built, killed, and without root."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pathfit.lab import BuildError, Lab, down, list_up, load, parse
from pathfit.lab import build as building
from pathfit.lab.helper import started

pytestmark = pytest.mark.lab

TEXT = """
name: x
about: x
ask: {from: c, to: "http://s:8080/5"}
hosts: [h, r, s]
containers: {c: {in: h}}
cables: [{ends: [h, r], mtu: 1400, receives: 1450, mtu_b: 1500}, {ends: [r, s], rtt: 1}]
faults: [{too_big_lost_at: s}]
services: [{host: s}]
sees: [c, h]
truth: [{from: c, get: "http://s:8080/5", gives: ok}]
expect: {}
"""


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A registry of our own; whatever a failing test leaves is removed."""
    monkeypatch.setenv("PATHFIT_STATE", str(tmp_path))
    yield
    for entry in list_up():
        down(entry.prefix)


def _outside() -> str:
    """The configuration of the namespace we run in, without counters."""
    shown = [
        subprocess.run(["ip", "-j", *w], capture_output=True, text=True, check=True).stdout
        for w in (
            ["link"],
            ["addr"],
            ["route", "show", "table", "all"],
            ["-6", "route", "show", "table", "all"],
            ["rule"],
        )
    ]
    shown.append(subprocess.run(["nft", "-s", "list", "ruleset"], capture_output=True, text=True, check=True).stdout)
    return "\n".join(shown)


def _namespaces(prefix: str) -> list[str]:
    folder = Path("/run/netns")
    return sorted(p.name for p in folder.glob(f"{prefix}-*")) if folder.is_dir() else []


def _pids(prefix: str) -> list[int]:
    """Processes with the lab's prefix as an argument of their own."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if prefix.encode() in words and any(w.startswith(b"pathfit.lab.") for w in words):
            found.append(int(path.parent.name))
    return found


def test_up_and_down_leave_no_trace() -> None:
    before = _outside()
    with Lab.up(parse(TEXT.encode())) as lab:
        assert _outside() == before
        assert _namespaces(lab.prefix) == sorted(f"{lab.prefix}-{h}" for h in ("c", "h", "r", "s", "wire1"))
        assert [e.prefix for e in list_up()] == [lab.prefix]
        assert lab.truth() == []
        assert lab.where("c") == f"netns:{lab.prefix}-c"
        assert lab.target() == "http://198.18.2.2:8080/5"
        assert len(_pids(lab.prefix)) == 2  # the forwarder and the server
    assert _namespaces(lab.prefix) == []
    assert list_up() == []
    assert _pids(lab.prefix) == []
    assert _outside() == before
    assert not list(Path(os.environ["PATHFIT_STATE"]).rglob("*.*"))
    lab.down()  # twice does no harm


def test_no_link_leads_outside() -> None:
    """Whatever a link of the lab is joined to in another namespace, that namespace is the lab's."""
    joined = 0
    with Lab.up(parse(TEXT.encode()), services=False) as lab:
        for name in _namespaces(lab.prefix):
            assert os.stat(f"/run/netns/{name}").st_ino != os.stat("/proc/self/ns/net").st_ino
            ip = ["ip", "-n", name, "-j"]
            shown = subprocess.run([*ip, "link"], capture_output=True, check=True).stdout
            ids = subprocess.run([*ip, "netns", "list-id"], capture_output=True, check=True).stdout
            known = {x["nsid"]: x.get("name", "?") for x in json.loads(ids or b"[]")}
            for link in json.loads(shown):
                if "link_netnsid" in link:
                    assert known[link["link_netnsid"]].startswith(f"{lab.prefix}-"), (name, link)
                    joined += 1
    assert joined == 4  # both halves of the container's veth, two NICs on the hidden wire


def test_two_labs_side_by_side() -> None:
    scenario = parse(TEXT.encode())
    with Lab.up(scenario) as one, Lab.up(scenario) as two:
        assert one.prefix != two.prefix
        assert one.truth() == [] == two.truth()
        one.down()
        assert two.truth() == []
        assert [e.prefix for e in list_up()] == [two.prefix]


def test_a_prefix_is_taken_once() -> None:
    scenario = parse(TEXT.encode())
    prefix = f"pft{os.getpid()}"
    with Lab.up(scenario, prefix, services=False):
        with pytest.raises(FileExistsError):
            Lab.up(scenario, prefix)
        assert len(_namespaces(prefix)) == 5
    with pytest.raises(ValueError, match="prefix"):
        Lab.up(scenario, "../x")


def test_namespaces_of_others_are_left_alone() -> None:
    prefix = f"pft{os.getpid()}"
    subprocess.run(["ip", "netns", "add", f"{prefix}-s"], check=True)
    try:
        with pytest.raises(FileExistsError, match=f"{prefix}-s"):
            Lab.up(parse(TEXT.encode()), prefix)
        assert _namespaces(prefix) == [f"{prefix}-s"]
    finally:
        subprocess.run(["ip", "netns", "del", f"{prefix}-s"], check=True)


@pytest.mark.parametrize("step", ["_bridge", "_routes", "run_tools"])
def test_half_built_is_removed(step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise BuildError("on purpose")

    monkeypatch.setattr(building, step, broken)
    prefix = f"pft{os.getpid()}"
    with pytest.raises(BuildError, match="on purpose"):
        Lab.up(parse(TEXT.encode()), prefix)
    assert _namespaces(prefix) == []
    assert list_up() == []
    assert _pids(prefix) == []


def test_a_wrong_rule_says_which_host() -> None:
    text = TEXT.replace("faults: [", "faults: [{nft: {host: r, lines: [nonsense]}}, ")
    with pytest.raises(BuildError, match=r"nft on r: .*nonsense"):
        Lab.up(parse(text.encode()))
    assert list_up() == []


def test_a_port_in_use_says_so() -> None:
    text = TEXT.replace("[{host: s}]", "[{host: s}, {host: s, kind: http, port: 8080}]")
    with pytest.raises(BuildError, match=r"serve-s: .*in use"):
        Lab.up(parse(text.encode()))
    assert list_up() == []


BUILDER = """
import sys
from pathfit.lab import Lab, parse
import pathfit.lab.build as b
where = {"netns": "_prepare", "links": "_addresses", "filters": "run_tools", "none": ""}[sys.argv[2]]
if where:
    def stop(*a):
        print("here", flush=True)
        sys.stdin.read()
    setattr(b, where, stop)
lab = Lab.up(parse(sys.stdin.buffer.readline().decode().replace("|", "\\n").encode()), sys.argv[1])
print("here", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("when", ["netns", "links", "filters", "none"])
def test_down_after_kill_9_of_up(when: str) -> None:
    before = _outside()
    prefix = f"pfk{os.getpid()}"
    argv = [sys.executable, "-c", BUILDER, prefix, when]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True) as up:
        assert up.stdin is not None and up.stdout is not None
        up.stdin.write(TEXT.strip().replace("\n", "|").encode() + b"\n")
        up.stdin.flush()
        assert up.stdout.readline() == b"here\n"
        assert _namespaces(prefix)
        os.kill(up.pid, signal.SIGKILL)
    assert [e.prefix for e in list_up()] == [prefix]
    assert down(prefix)
    assert (_namespaces(prefix), list_up(), _pids(prefix)) == ([], [], [])
    assert not down(prefix)
    assert _outside() == before


def test_down_after_a_down_that_was_interrupted() -> None:
    lab = Lab.up(parse(TEXT.encode()))
    folder = Path(os.environ["PATHFIT_STATE"]) / "labs"
    os.rename(folder / f"{lab.prefix}.json", folder / f"{lab.prefix}.json.closing")
    assert down(lab.prefix)
    assert (_namespaces(lab.prefix), list_up(), _pids(lab.prefix)) == ([], [], [])


def test_a_reused_pid_is_never_killed() -> None:
    with subprocess.Popen(["sleep", "60"]) as innocent:
        try:
            lab = Lab.up(parse(TEXT.encode()), services=False)
            helpers = Path(os.environ["PATHFIT_STATE"]) / "labs" / f"{lab.prefix}.d"
            (helpers / "serve-s.pid").write_text(f"{innocent.pid} 1")  # the pid lives, its start time is another
            lab.down()
            assert started(innocent.pid) is not None
        finally:
            innocent.kill()


def test_helpers_end_when_their_lab_is_forgotten() -> None:
    """A helper that starts after the lab was removed ends by itself."""
    orders = {"folder": f"{os.environ['PATHFIT_STATE']}/labs/gone.d", "name": "serve-s", "ready": 1, "services": []}
    argv = [sys.executable, "-m", "pathfit.lab.services", "gone"]
    done = subprocess.run(argv, input=json.dumps(orders).encode(), capture_output=True, timeout=10)
    assert (done.returncode, done.stdout) == (0, b"")


def test_what_runs_in_a_lab_ends_with_it() -> None:
    """An interrupted start of a thread is waited for by no pool: what it goes on to start is refused, or killed."""
    with Lab.up(load("healthy"), services=False) as lab, ThreadPoolExecutor() as pool:
        command = pool.submit(lab.run, "c", ["sleep", "1000"])
        while not lab._commands and not command.done():
            time.sleep(0.01)
        lab.down()
        assert command.result(30).returncode == -signal.SIGKILL
        with pytest.raises(FileNotFoundError):
            lab.run("c", ["true"])


def test_blind_shows_only_what_is_seen() -> None:
    with Lab.up(parse(TEXT.encode()), services=False) as lab:
        assert lab.visible() == (f"{lab.prefix}-c", f"{lab.prefix}-h")
        script = f"ls /run/netns; ls -d /proc/[0-9]* | wc -l; ip netns exec {lab.prefix}-c ip -br link show eth0"
        done = subprocess.run(lab.blind_command(["sh", "-c", script]), capture_output=True, text=True, check=True)
        lines = done.stdout.splitlines()
        assert lines[:2] == sorted(lab.visible())
        assert int(lines[2]) <= 4  # its own shell and what it starts
        assert lines[3].startswith("eth0@")
        assert _namespaces(lab.prefix) != sorted(lab.visible())  # the others still exist outside


def test_article_000_is_what_its_author_saw() -> None:
    with Lab.up(load("article-000")) as lab:
        assert lab.truth() == []
        [eth0] = json.loads(lab.run("h", ["ip", "-j", "link", "show", "eth0"]).stdout)
        assert eth0["mtu"] == 1400
        ping = ["ping", "-n", "-q", "-c1", "-W0.3", "-M", "do", lab.plan.address("h.eth0"), "-s"]
        # the way in carries 1450; the answer is as large, but 1422 + 28 without DF may be fragmented on the way out
        assert lab.run("s", [*ping, str(1450 - 28)]).returncode == 0
        assert lab.run("s", [*ping, str(1451 - 28)]).returncode == 1
        # 1420 and 1440 work in the container, although eth0 has 1400; 1460 does not
        for mtu, gives in ((1420, "ok"), (1440, "ok"), (1450, "ok"), (1460, "hang")):
            lab.run("c", ["ip", "link", "set", "eth0", "mtu", str(mtu)])
            lab.fresh()
            assert lab.fetch("c", "https://s:8443/", 1.0 if gives == "hang" else 5.0)[0] == gives, mtu


ORDINARY = """
set -e
mount -t tmpfs tmpfs /run
unset PATHFIT_STATE
exec "$@"
"""


def test_without_root() -> None:
    """In a user namespace with a tmpfs on /run and nothing but lo: the whole life of a lab."""
    text = TEXT.replace(", rtt: 1", "")  # a TAP needs /dev/net/tun
    code = (
        "import sys, json, subprocess, os; from pathfit.lab import Lab, parse, list_up\n"
        "with Lab.up(parse(sys.stdin.buffer.read())) as lab:\n"
        "    assert lab.truth() == [], lab.truth()\n"
        "    lab.fresh()\n"
        "    seen = subprocess.run(lab.blind_command(['ls', '/run/netns']), capture_output=True, text=True).stdout\n"
        "    assert seen.split() == sorted(lab.visible()), seen\n"
        "links = [x['ifname'] for x in json.loads(subprocess.run(['ip', '-j', 'link'], capture_output=True).stdout)]\n"
        "assert links == ['lo'], links\n"
        "assert list_up() == [] and os.listdir('/run/netns') == []\n"
        "print('fine')"
    )
    unshare = ["unshare", "--user", "--map-root-user", "--net", "--mount", "--pid", "--fork", "--mount-proc"]
    argv = [*unshare, "sh", "-c", ORDINARY, "sh", sys.executable, "-c", code]
    done = subprocess.run(argv, input=text.encode(), capture_output=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"fine\n", b"")


NAMES = """
name: x
about: x
ask: {from: c, to: "http://www.lab.test:8080/5"}
hosts: {c: {resolv: [s], names: {hosts.lab.test: s}}, s: null}
cables: [{ends: [c, s]}]
services: [{host: s}, {host: s, kind: dns, records: {www.lab.test: s}}]
expect: {}
truth:
  - {from: c, get: "http://www.lab.test:8080/5", gives: ok}
  - {from: c, get: "http://hosts.lab.test:8080/5", gives: ok}
  - {from: c, get: "http://other.lab.test:8080/5", gives: name}
"""


@pytest.mark.skipif(not os.access("/etc", os.W_OK), reason="names of a lab need a writable /etc/netns")
def test_names_are_those_of_the_lab_and_leave_no_trace() -> None:
    etc = Path("/etc/netns")
    before = sorted(etc.iterdir()) if etc.exists() else None
    with Lab.up(parse(NAMES.encode())) as lab:
        assert lab.truth() == []
        assert (etc / f"{lab.prefix}-c" / "resolv.conf").read_text() == "nameserver 198.18.1.2\n"
        prefix = lab.prefix
    assert not (etc / f"{prefix}-c").exists()
    assert before is not None or not etc.exists() or any(etc.glob("*-*"))  # another lab may be using it


def test_up_waits_for_no_clock() -> None:
    """Ready is told by the helpers, not guessed: the first request after up is answered."""
    for _ in range(3):
        with Lab.up(parse(TEXT.encode())) as lab:
            assert lab.curl("c", "http://s:8080/5") == "200"
