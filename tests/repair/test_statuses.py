"""Every exit status of `pathfit fix` (CONTRACT), and what it says, on labs whose faults are known.

Whatever the way it ends, the configuration is as before, except after "repaired", and there after the undo.
"""

import json
import os
import pty
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from netlab import settled

from pathfit.lab import Lab, load

pytestmark = pytest.mark.lab
RUNNER = Path(__file__).with_name("runner.py")
PATIENCE = 30


class Bench:
    """A lab, a state folder of its own, and pathfit asked about that lab."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab, self.folder = lab, folder
        self.asked = ["--from", lab.where(lab.scenario.ask.source), "--to", lab.target()]

    def environment(self) -> dict[str, str]:
        return {**os.environ, "PATHFIT_STATE": str(self.folder), "LANG": "C.UTF-8", "PYTHONPATH": ""}

    def start(self, *words: str, plant: str = "none", stdin: int = subprocess.DEVNULL) -> "subprocess.Popen[str]":
        pipe = subprocess.PIPE
        command = [sys.executable, str(RUNNER), plant, *words]
        return subprocess.Popen(command, stdin=stdin, stdout=pipe, stderr=pipe, text=True, env=self.environment())

    def run(self, *words: str, plant: str = "none") -> "subprocess.CompletedProcess[str]":
        process = self.start(*words, plant=plant)
        out, err = process.communicate(timeout=PATIENCE)
        return subprocess.CompletedProcess(words, process.returncode, out, err)

    def fix(self, *words: str, plant: str = "none") -> "subprocess.CompletedProcess[str]":
        self.lab.fresh()
        return self.run("fix", *words, *self.asked, plant=plant)

    def repairs(self) -> list[dict[str, Any]]:
        listed = self.run("fix", "--list", "--json")
        assert listed.returncode == 0, listed.stderr
        return list(json.loads(listed.stdout)["repairs"])

    def state(self) -> str:
        return settled(f"{self.lab.prefix}-")


def flat(text: str) -> str:
    """Without line breaks: where a sentence is broken is the page's business."""
    return " ".join(text.split())


@pytest.fixture(scope="module")
def hole() -> Iterator[Lab]:
    if os.geteuid():
        pytest.skip("needs root, or a user namespace of one's own")
    with Lab.up(load("uplink-1420-untold")) as lab:
        yield lab


@pytest.fixture
def bench(hole: Lab, tmp_path: Path) -> Iterator[Bench]:
    """Everything is equal before and after each test."""
    made = Bench(hole, tmp_path / "state")
    before = made.state()
    yield made
    left = made.state()
    made.run("fix", "--undo", "all")  # a test that fails must not fail the next one
    assert left == before


def undone(bench: Bench) -> None:
    done = bench.run("fix", "--undo", "last")
    assert done.returncode == 0, done.stdout + done.stderr


def test_repaired_0(bench: Bench) -> None:
    done = bench.fix("--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"REPAIRED +route mtu 1420", done.stdout)
    assert "1421 vanish" in done.stdout and "SYN invites packets of 1420 now" in done.stdout
    [repair] = bench.repairs()
    assert (repair["state"], repair["code"], repair["fix"]) == ("kept", "MTU101", "route-mtu")
    assert f"pathfit fix --undo {repair['id']}" in done.stdout
    undone(bench)
    assert bench.repairs()[0]["state"] == "undone"
    again = bench.run("fix", "--undo", repair["id"])
    assert again.returncode == 0 and "Undone before" in again.stdout
    assert bench.run("fix", "--undo", "last").stdout == "Nothing to undo.\n"


def test_a_second_fix_finds_nothing_to_repair_0(bench: Bench) -> None:
    assert bench.fix("--yes").returncode == 0
    second = bench.fix("--yes")
    assert (second.returncode, len(bench.repairs())) == (0, 1)
    assert second.stdout.startswith("Nothing to repair")
    undone(bench)


def test_json_is_one_document(bench: Bench) -> None:
    done = bench.fix("--yes", "--json")
    said = json.loads(done.stdout)
    assert (said["schema"], said["outcome"], done.returncode) == ("pathfit.fix/1", "repaired", 0)
    assert said["before"]["verdict"] == "broken" and said["after"]["verdict"] == "healthy"
    assert said["after"]["measured"]["reverse"]["pass"] == 1420
    assert said["fix"]["id"] == "route-mtu" and said["finding"]["code"] == "MTU101"
    assert said["repair"] == bench.repairs()[0]["id"]
    undone(bench)


@pytest.mark.parametrize("words", [(), ("--dry-run",), ("--dry-run", "--yes"), ("--json",)])
def test_plan_only_1(bench: Bench, words: tuple[str, ...]) -> None:
    done = bench.fix(*words)
    assert done.returncode == 1
    assert "route change" in done.stdout or '"outcome": "planned"' in done.stdout
    assert bench.repairs() == [] and not bench.folder.exists()


def test_chosen_by_id_and_code(bench: Bench) -> None:
    for words in (("MTU101", "--use", "mss-clamp"), ("MTU103", "--use", "link-mtu")):
        done = bench.fix(*words, "--yes")
        assert done.returncode == 0, done.stdout + done.stderr
        assert bench.repairs()[-1]["fix"] == words[-1]
        undone(bench)


def test_usage_2(bench: Bench) -> None:
    done = bench.fix("--use", "magic", "--yes")
    assert done.returncode == 2
    assert "--use route-mtu" in done.stderr and "magic" in done.stderr
    for words in (
        ("fix",),
        ("fix", "MTU101"),
        ("fix", "--from", "host"),
        ("fix", "--undo", "nonsense"),
        ("fix", "--confirm", "20260101-000000-abcd"),
    ):
        done = bench.run(*words)
        assert done.returncode == 2, (words, done.stderr)
        assert "try: pathfit" in done.stderr


def test_a_code_that_is_not_there_is_nothing_to_repair(bench: Bench) -> None:
    done = bench.fix("MTU110", "--yes")
    assert (done.returncode, done.stdout) == (0, "Nothing to repair: MTU110 was not found.\n")


def test_state_alone(bench: Bench) -> None:
    """Without --to, state is looked at for one named fault; nothing of it is confirmed by measurement."""
    done = bench.run("fix", "CFG601", "--from", bench.asked[1], "--yes")
    assert (done.returncode, done.stdout) == (0, "Nothing to repair: CFG601 was not found.\n")
    assert bench.run("fix", "CFG601", "--from", "netns:not-there", "--yes").returncode == 3
    path = bench.run("fix", "MTU101", "--from", bench.asked[1], "--yes")
    assert path.returncode == 3 and path.stdout == "", "a fault of a path is not absent because no path was looked at"
    assert path.stderr.splitlines()[-1].startswith(f"try: pathfit fix MTU101 --from {bench.asked[1]} --to ")


def test_no_journal_no_repair_3(bench: Bench) -> None:
    bench.folder.write_text("no folder")
    done = bench.fix("--yes")
    assert done.returncode == 3
    assert "cannot keep a journal" in done.stderr and "try: PATHFIT_STATE=" in done.stderr


def test_another_one_holds_the_lock_3(bench: Bench) -> None:
    from pathfit.apply.store import Store

    with Store(bench.folder).locked("pathfit fix, MTU104, by somebody"):
        done = bench.fix("--yes")
    assert done.returncode == 3
    assert "another repair is under way" in done.stderr and f"process {os.getpid()}" in done.stderr


def test_two_at_once_one_repairs_and_the_other_does_not(bench: Bench) -> None:
    bench.lab.fresh()
    both = [bench.start("fix", *bench.asked, "--yes") for _ in range(2)]
    ends = [(p.communicate(timeout=PATIENCE), p.returncode) for p in both]
    repairs = bench.repairs()
    assert sorted(code for _, code in ends)[0] == 0, ends
    assert {code for _, code in ends} <= {0, 3}, ends
    assert sum("REPAIRED" in out for (out, _), _ in ends) == len([r for r in repairs if r["state"] == "kept"]) == 1
    undone(bench)


def test_one_that_does_not_help_is_undone_4(bench: Bench) -> None:
    done = bench.fix("--yes", plant="helpless")
    assert done.returncode == 4
    assert "UNDONE" in done.stdout and "MTU101 is still there" in flat(done.stdout)
    assert "packets of 1490 are still invited, 1420 were meant" in flat(done.stdout)
    [repair] = bench.repairs()
    assert repair["state"] == "undone" and "MTU101 is still there" in repair["why"]


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
@pytest.mark.parametrize("point", ["perform", "performed", "journal applied"])
def test_interrupted_130(bench: Bench, name: str, point: str) -> None:
    done = bench.fix("--yes", plant=f"signal:{name}:{point}")
    assert done.returncode == 130, done.stdout + done.stderr
    assert "Interrupted, and undone" in flat(done.stdout)
    assert [r["state"] for r in bench.repairs()] == ["undone"]


@pytest.mark.parametrize("point", ["marked", "journal planned", "perform", "performed", "journal applied"])
def test_killed_and_the_next_one_says_so(bench: Bench, point: str) -> None:
    assert bench.fix("--yes", plant=f"die:{point}").returncode == -9
    next_one = bench.run("diagnose", *bench.asked, "--fast")
    if point == "marked":
        assert "interrupted" not in next_one.stderr  # nothing was written, nothing was changed
        return
    [repair] = bench.repairs()
    line = f"try: pathfit fix --undo {repair['id']}"
    assert "a repair was interrupted (MTU101, route-mtu" in next_one.stderr and line in next_one.stderr
    refused = bench.fix("--yes")
    assert refused.returncode == 3 and line in refused.stderr
    assert bench.run("fix", "--undo", repair["id"]).returncode == 0
    assert "interrupted" not in bench.run("explain", "MTU101").stderr


def test_changed_by_somebody_else_is_left_alone_4(bench: Bench) -> None:
    assert bench.fix("--yes").returncode == 0
    namespace = bench.lab.where("c").removeprefix("netns:")
    default = subprocess.check_output(["ip", "-n", namespace, "route", "show", "default"], text=True).split()
    words = default[: default.index("mtu")]
    subprocess.run(["ip", "-n", namespace, "route", "change", *words, "mtu", "1333"], check=True)
    done = bench.run("fix", "--undo", "last")
    assert done.returncode == 4
    assert f"left as it is: route default in netns:{namespace}" in flat(done.stdout)
    assert "NOT WHOLLY UNDONE" in done.stdout and "changed by somebody else" in flat(done.stdout)
    assert f"$ ip -n {namespace} -4 route change default" in done.stdout
    subprocess.run(["ip", "-n", namespace, "route", "change", *words], check=True)
    assert bench.run("fix", "--undo", "last").returncode == 0


def test_what_was_found_can_be_saved(bench: Bench, tmp_path: Path) -> None:
    assert bench.fix("--yes", "--save", str(tmp_path / "case")).returncode == 0
    undone(bench)
    replayed = bench.run("replay", str(tmp_path / "case"), "--json")
    assert (json.loads(replayed.stdout)["verdict"], replayed.returncode, replayed.stderr) == ("broken", 1, "")


@pytest.mark.parametrize(("answer", "status"), [("y\n", 0), ("n\n", 1), ("\n", 1), ("\x04", 1)])
def test_on_a_terminal_it_asks(bench: Bench, answer: str, status: int) -> None:
    bench.lab.fresh()
    ours, theirs = pty.openpty()
    command = [sys.executable, str(RUNNER), "none", "fix", *bench.asked]
    ends = {"stdin": theirs, "stdout": subprocess.PIPE, "stderr": theirs}
    process = subprocess.Popen(command, text=True, env=bench.environment(), **ends)  # type: ignore[call-overload]
    os.close(theirs)
    said = b""
    while b"[y/N]" not in said:
        said += os.read(ours, 4096)
    assert b"route change" in said
    os.write(ours, answer.encode())
    out, _ = process.communicate(timeout=PATIENCE)
    os.close(ours)
    assert process.returncode == status, out
    assert ("REPAIRED" in out) == (status == 0)
    if status == 0:
        undone(bench)


def test_without_the_right_to_change_3(bench: Bench) -> None:
    """Root without CAP_NET_ADMIN: measured, and not changed."""
    caps = "-net_admin"
    bench.lab.fresh()
    words = ["setpriv", f"--bounding-set={caps}", f"--inh-caps={caps}", sys.executable, str(RUNNER), "none"]
    command = [*words, "fix", *bench.asked, "--yes"]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=bench.environment(), check=False
    )
    assert done.returncode in (3, 4), done.stdout + done.stderr
    assert "not permitted" in done.stdout + done.stderr
    assert [r["state"] for r in bench.repairs()] in ([], ["undone"])


# --- --confirm-within ------------------------------------------------------------------------------------------------


def waiting(bench: Bench) -> dict[str, Any]:
    """The repair that waits for its confirmation."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        for repair in bench.repairs():
            if repair["state"] == "waiting":
                return repair
    raise AssertionError("it never waited")


def ended(bench: Bench) -> str:
    """The state in which the only repair ends."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        [repair] = bench.repairs()
        if repair["state"] in ("undone", "kept", "failed"):
            return str(repair["state"])
    raise AssertionError("it never ended")


def test_unconfirmed_is_undone_4(bench: Bench) -> None:
    done = bench.fix("--yes", "--confirm-within", "0.5")
    assert done.returncode == 4
    assert "UNDONE" in done.stdout and "\nNobody confirmed it within 0.5 s: undone.\n" in done.stdout
    assert [r["state"] for r in bench.repairs()] == ["undone"]


def test_confirmed_from_elsewhere_0(bench: Bench) -> None:
    bench.lab.fresh()
    process = bench.start("fix", *bench.asked, "--yes", "--confirm-within", "60")
    repair = waiting(bench)
    second = bench.fix("--yes")
    assert second.returncode == 3 and f"pathfit fix --confirm {repair['id']}" in second.stderr
    said = bench.run("fix", "--confirm", repair["id"])
    assert (said.returncode, said.stdout) == (0, f"Kept: {repair['id']}.\n")
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0 and "REPAIRED" in out, err
    undone(bench)


def test_undone_from_elsewhere_while_it_waits_4(bench: Bench) -> None:
    bench.lab.fresh()
    process = bench.start("fix", *bench.asked, "--yes", "--confirm-within", "60")
    waiting(bench)
    undone(bench)
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 4 and "It was undone: asked for." in out, err


def test_confirmed_by_enter_0(bench: Bench) -> None:
    bench.lab.fresh()
    process = bench.start("fix", *bench.asked, "--yes", "--confirm-within", "60", stdin=subprocess.PIPE)
    waiting(bench)
    out, err = process.communicate("\n", timeout=PATIENCE)
    assert process.returncode == 0 and "REPAIRED" in out, err
    undone(bench)


def test_undone_though_whoever_repaired_was_killed_while_it_waited(bench: Bench) -> None:
    bench.lab.fresh()
    process = bench.start("fix", *bench.asked, "--yes", "--confirm-within", "2")
    waiting(bench)
    process.kill()
    process.communicate()
    assert ended(bench) == "undone"


def test_undone_though_whoever_repaired_was_killed_on_the_way(bench: Bench) -> None:
    assert bench.fix("--yes", "--confirm-within", "60", plant="die:performed").returncode == -9
    assert ended(bench) == "undone"


# --- other faults ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scenario", "words", "status", "says"),
    [
        ("healthy", (), 0, "Nothing to repair"),
        ("pmtud-works", (), 0, "it can be repaired when it is named: MTU106"),
        ("firewall-drop", (), 1, "nft delete rule"),
        ("closed-port", (), 1, "No repair is known for RST201"),
        ("v6-below-minimum", ("--use", "link-mtu"), 1, "Not applied without --interrupt"),
        ("silent-switch-far-away", ("--timeout", "0.05"), 3, ""),
    ],
)
def test_other_faults(scenario: str, words: tuple[str, ...], status: int, says: str, tmp_path: Path) -> None:
    with Lab.up(load(scenario)) as lab:
        bench = Bench(lab, tmp_path / "state")
        before = bench.state()
        done = bench.fix("--yes", *words)
        assert done.returncode == status, done.stdout + done.stderr
        assert says in flat(done.stdout)
        assert bench.repairs() == []
        assert bench.state() == before


def test_what_cannot_be_opened_is_not_called_undone_3(bench: Bench) -> None:
    assert bench.fix("--yes").returncode == 0
    [repair] = bench.repairs()
    path = bench.folder / "journal" / f"{repair['id']}.json"
    whole = path.read_bytes()
    path.write_bytes(whole[:300])
    for words in (("--undo", "all"), ("--undo", "all", "--json"), ("--undo", "last"), ("--undo", repair["id"])):
        done = bench.run("fix", *words)
        assert done.returncode == 3 and "Nothing to undo" not in done.stdout
        assert repair["id"] in done.stderr and done.stderr.splitlines()[-1] == "try: pathfit fix --list"
        if "--json" in words:
            assert [u["id"] for u in json.loads(done.stdout)["unreadable"]] == [repair["id"]]
    path.write_bytes(whole)
    assert bench.run("fix", "--undo", "all").returncode == 0


def test_a_state_folder_that_cannot_be_read_does_not_hold_nothing_3(bench: Bench) -> None:
    bench.folder.write_text("")
    for words in (("--list",), ("--undo", "last"), ("--undo", "all")):
        done = bench.run("fix", *words)
        assert done.returncode == 3 and done.stdout == ""
        assert "cannot read the repairs in" in done.stderr and done.stderr.splitlines()[-1].startswith("try: ")
    bench.folder.unlink()
