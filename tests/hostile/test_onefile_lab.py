"""The one file measures what `pathfit probe` measures, to the byte, whoever runs it in a container without pip."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rig import COMMAND, run
from test_onefile import pythons
from test_places import NO_RIGHTS, ordinary

from pathfit.lab import Lab, load

TOOL = Path(__file__).parents[2] / "tools" / "onefile"
SIDES = ("forward", "reverse")
SAME = ("pass", "fail", "method", "evidence", "note")
NEEDS_STATE = ("MTU103", "MTU104")  # causes on the machine itself: what the one file does not look at
LABS = ("healthy", "article-000", "v6-upload-hole")


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The file where everybody may read it."""
    folder = tmp_path_factory.mktemp("one")
    made = folder / "pathfit-probe.py"
    subprocess.run([sys.executable, str(TOOL), "-o", str(made)], check=True, capture_output=True)
    shared = Path("/tmp") / f"{folder.parent.name}-{os.getpid()}-pathfit-probe.py"
    shutil.copy(made, shared)
    shared.chmod(0o644)
    yield str(shared)
    shared.unlink()


def python(rights: list[str]) -> str:
    """An interpreter that whoever has these rights may run: the system's, where ours is somebody's own."""
    for found in (sys.executable, "/usr/bin/python3"):
        if subprocess.run([*rights, found, "-S", "-I", "-c", "pass"], capture_output=True, check=False).returncode == 0:
            return found
    raise AssertionError("no Python to run it with")


def asked(words: list[str]) -> tuple[int, dict[str, Any]]:
    ended = run([*words, "--json"], None, 20)
    assert "Traceback" not in ended.err
    report: dict[str, Any] = json.loads(ended.out)
    return ended.status, report


@pytest.mark.lab
@pytest.mark.parametrize("who", ["root", "ordinary"])
@pytest.mark.parametrize("scenario", LABS)
def test_the_same_numbers(one: str, scenario: str, who: str) -> None:
    rights = [] if who == "root" else ordinary()
    with Lab.up(load(scenario)) as lab:
        enter = ["ip", "netns", "exec", lab.where("c").removeprefix("netns:"), *rights]
        status, whole = asked([*enter, *COMMAND, "probe", lab.target()])
        alone_status, alone = asked([*enter, python(rights), "-S", "-I", one, lab.target()])
        assert lab.truth(after=True) == [], "the asked traffic fares as before"
    assert (alone_status, alone["verdict"]) == (status, whole["verdict"])
    for side in SIDES:
        for name in SAME:
            assert alone["measured"][side][name] == whole["measured"][side][name], (side, name)
    assert alone["measured"].keys() == whole["measured"].keys()
    assert alone.keys() == whole.keys()
    assert alone["measured"]["side_effects"] == whole["measured"]["side_effects"]
    ours, theirs = alone["measured"]["target"], whole["measured"]["target"]
    assert {k: v for k, v in ours.items() if k not in ("rtt_ms", "ends_at")} == {
        k: v for k, v in theirs.items() if k not in ("rtt_ms", "ends_at")
    }
    assert [f["code"] for f in alone["findings"]] == [
        f["code"] for f in whole["findings"] if f["code"] not in NEEDS_STATE
    ]
    assert not any(f["fixes"] for f in alone["findings"])


@pytest.mark.lab
def test_both_holes_to_the_byte(one: str) -> None:
    """What the scenario says, not only what the other way to run it says; by every Python there is."""
    every: list[tuple[list[str], str]] = [([], p) for p in pythons()]
    for rights, interpreter in (*every, (NO_RIGHTS, python(NO_RIGHTS))):
        with Lab.up(load("article-000")) as lab:
            enter = ["ip", "netns", "exec", lab.where("c").removeprefix("netns:")]
            _, report = asked([*enter, *rights, interpreter, "-S", "-I", one, lab.target()])
        back, out = report["measured"]["reverse"], report["measured"]["forward"]
        assert (back["pass"], back["fail"]) == (1450, 1451), interpreter
        assert (out["pass"], out["fail"]) == ((None, None) if rights else (1400, 1401)), interpreter
        assert report["findings"][0]["code"] == "MTU101"
