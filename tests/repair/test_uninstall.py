"""`make uninstall` and `fix --undo all`: the machine as before, and nothing of ours left."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import kit
import pytest
from netlab import Net, nets

from pathfit.apply.store import Store
from pathfit.core.journal import Journal

pytestmark = pytest.mark.lab
ROOT = Path(__file__).parents[2]


def repaired(net: Net, etc: Path, state: Path) -> None:
    """Three repairs, the third on top of the first, the second one killed half way."""
    changed = kit.files(etc)
    kit.repair(Store(state), (kit.route(net, 4, 1400), *changed))
    assert kit.killed(lambda: kit.repair(Store(state, kit.Killer(9)), (kit.table(net), *kit.links(net, 1200))))
    kit.repair(Store(state), (kit.route(net, 4, 1300), kit.route(net, 6, 1290)))


def copied(folder: Path) -> Path:
    """A tree to uninstall that is not this one, with this one's command."""
    for name in ("Makefile", "src/pathfit/__init__.py", "tests/x.py", "tools/x", "bench/x"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, path) if (ROOT / name).is_file() else path.touch()
    (folder / ".venv" / "bin").mkdir(parents=True)
    command = folder / ".venv" / "bin" / "pathfit"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m pathfit "$@"\n')
    command.chmod(0o755)
    return folder


@pytest.mark.parametrize("how", ["undo all", "uninstall"])
def test_nothing_is_left(how: str, tmp_path: Path) -> None:
    etc, home, state = tmp_path / "etc", tmp_path / "home", tmp_path / "home" / "state"
    tree = copied(tmp_path / "tree")
    etc.mkdir()
    home.mkdir()
    kit.files(etc)
    with nets() as net:
        kit.build(net)
        before = (kit.state(net), kit.tree(etc), kit.tree(home))
        repaired(net, etc, state)
        assert (kit.state(net), kit.tree(etc)) != before[:2]
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("XDG_", "MAKE", "MFLAGS"))}
        environment = {**kept, "HOME": str(home), "PATHFIT_STATE": str(state)}
        words = ["make", "-C", str(tree), "uninstall", f"STATES={state}"]
        if how == "undo all":
            words = [str(tree / ".venv/bin/pathfit"), "fix", "--undo", "all"]
        done = subprocess.run(words, capture_output=True, text=True, timeout=60, env=environment, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert (kit.state(net), kit.tree(etc)) == before[:2]
    if how == "undo all":
        assert [j.state for j in Store(state).all() if isinstance(j, Journal)] == ["undone"] * 3
        return
    assert kit.tree(home) == before[2]
    assert not (tree / ".venv").exists() and (tree / "Makefile").exists()


def test_what_cannot_be_undone_keeps_its_journal(tmp_path: Path) -> None:
    etc, state = tmp_path / "etc", tmp_path / "state"
    tree = copied(tmp_path / "tree")
    etc.mkdir()
    changed = kit.files(etc)[:1]
    kit.repair(Store(state), changed)
    Path(changed[0].path).write_text("by hand")
    words = ["make", "-C", str(tree), "uninstall", f"STATES={state}"]
    environment = {**os.environ, "PATHFIT_STATE": str(state)}
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, env=environment, check=False)
    assert done.returncode != 0 and "the journals say how it was" in done.stdout
    assert Store(state).ids() and (tree / ".venv").exists()
