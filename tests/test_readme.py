"""The README does what it says: its commands run, its transcript is what the demo prints."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from pathfit.lab import Lab, load

ROOT = Path(__file__).parents[1]
LANGUAGES = {"README.md": "en", "README.zh-CN.md": "zh"}
VARIES = (  # what differs from run to run: names, times, and how often something was repeated within them
    (r"^\S+: (?=\d+ (error|个错误))", "HOST: "),
    (r"\d+\.\d\d( s,| 秒，)", r"N\1"),
    (r"(confirmed in|已证实，用时) \d+", r"\1 N"),
    (r"stayed away\n? +for \d+ ms, \d+ times", "stayed away for N ms, N times"),
    (r"在\s*\d+\s*毫秒内一直\s*没到，共\s*\d+\s*次", "在 N 毫秒内一直没到，共 N 次"),
    (r"\s+", " "),  # a longer number may wrap elsewhere
)


def pathfit(*words: str) -> subprocess.CompletedProcess[str]:
    """In a folder of its own: the README writes files and undoes repairs, and those of this machine are not ours."""
    command = [sys.executable, "-m", "pathfit", *words]
    with TemporaryDirectory() as state:
        environment = {**os.environ, "LANG": "C.UTF-8", "NO_COLOR": "1", "PATHFIT_STATE": state}
        return subprocess.run(
            command, capture_output=True, text=True, timeout=120, env=environment, cwd=state, check=False
        )


def blocks(name: str) -> list[str]:
    return re.findall(r"```\n(.*?)```", (ROOT / name).read_text(encoding="utf-8"), re.DOTALL)


def same(text: str) -> str:
    for pattern, what in VARIES:
        text = re.sub(pattern, what, text)
    return text


@pytest.mark.lab
@pytest.mark.real_root  # iptables-legacy's rules are not for others to see, and that is said
@pytest.mark.parametrize("name", LANGUAGES)
def test_transcript(name: str) -> None:
    """PATHFIT_GOLDEN=write puts a new transcript in; it is then read, not believed."""
    done = pathfit("demo", "--lang", LANGUAGES[name])
    assert done.returncode == 0, done.stderr
    shown = blocks(name)[1]
    if os.environ.get("PATHFIT_GOLDEN") == "write":
        (ROOT / name).write_text(
            (ROOT / name).read_text(encoding="utf-8").replace(shown, done.stdout), encoding="utf-8"
        )
        shown = done.stdout
    assert same(done.stdout) == same(shown)


@pytest.mark.lab
@pytest.mark.real_root  # iptables-legacy's rules are not for others to see, and that is said
@pytest.mark.parametrize("name", LANGUAGES)
def test_transcript_of_a_scan(name: str) -> None:
    block = next(b for b in blocks(name) if b.startswith("$ sudo pathfit"))
    with Lab.up(load("vxlan-1500"), prefix="demo"):
        done = pathfit("scan", "--lang", LANGUAGES[name])
    shown = block.partition("\n")[2]
    if os.environ.get("PATHFIT_GOLDEN") == "write":
        text = (ROOT / name).read_text(encoding="utf-8")
        (ROOT / name).write_text(text.replace(shown, done.stdout), encoding="utf-8")
        shown = done.stdout
    assert same(done.stdout) == same(shown)


def commands(name: str) -> list[list[str]]:
    """Every line of the README that calls the installed command."""
    lines = [line for block in blocks(name) for line in block.splitlines() if ".venv/bin/pathfit" in line]
    return [shlex.split(line.partition(".venv/bin/pathfit")[2], comments=True) for line in lines]


@pytest.mark.parametrize(("name", "words"), [(n, c) for n in LANGUAGES for c in commands(n)])
def test_commands_are_understood(name: str, words: list[str]) -> None:
    """Those that need a network of the reader's own may fail to examine (3), never to be understood (2)."""
    done = pathfit(*words)
    alone = words[:1] in (["--help"], ["explain"], ["overhead"], ["lab"])
    assert done.returncode in ((0,) if alone else (0, 1, 3)), done.stderr
    assert "Traceback" not in done.stderr


def test_there_are_commands() -> None:
    assert all(len(commands(name)) >= 4 for name in LANGUAGES)


@pytest.mark.parametrize("name", LANGUAGES)
def test_make_targets_exist(name: str) -> None:
    targets = set(re.findall(r"`?make ([a-z-]+)", (ROOT / name).read_text(encoding="utf-8")))
    assert {"demo", "test", "setup", "uninstall"} <= targets
    for target in targets:
        done = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", [*LANGUAGES, "CONTRIBUTING.md", "docs/architecture.md"])
def test_links_lead_somewhere(name: str) -> None:
    path = ROOT / name
    for link in re.findall(r"\]\(([^)#]+)", path.read_text(encoding="utf-8")):
        assert link.startswith("https://") or (path.parent / link).exists(), link
