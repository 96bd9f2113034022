"""Ctrl-C at every single line of building and removing a lab leaves nothing, or what `lab down` removes."""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from pathfit.lab import Lab, down, list_up, parse, registry
from pathfit.lab import build as building
from pathfit.lab import lab as labs

TEXT = """
name: x
about: x
ask: {from: c, to: "http://s:8080/5"}
hosts: [h, s]
containers: {c: {in: h}}
cables: [{ends: [h, s]}]
sees: [c]
truth: [{from: c, get: "http://s:8080/5", gives: ok}]
expect: {}
"""
FILES = (registry.__file__, labs.__file__)
MOST = 2000  # lines; an end to a test that would never end


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A registry of our own, and labs without namespaces: the registry is what this is about."""
    monkeypatch.setenv("PATHFIT_STATE", str(tmp_path))
    monkeypatch.setattr(building, "build", lambda *_: None)
    yield tmp_path / "labs"


def interrupted_at(line: int, what: Callable[[], object]) -> bool:
    """Calls ``what`` and raises KeyboardInterrupt before the ``line``-th line of lab.py and registry.py; whether it
    came so far."""
    passed = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal passed
        if frame.f_code.co_filename not in FILES:
            return None
        if event == "line":
            passed += 1
            if passed == line:
                raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        what()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False


def left(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*")) if folder.is_dir() else []


def test_building(state: Path) -> None:
    scenario = parse(TEXT.encode())
    for line in range(1, MOST):
        if not interrupted_at(line, lambda: Lab.up(scenario, "pfi", services=False)):
            break
        assert left(state) == [], f"at line {line}"
    assert 20 < line < MOST - 1
    assert [e.prefix for e in list_up()] == ["pfi"]
    assert down("pfi")
    assert left(state) == []


def test_removing(state: Path) -> None:
    scenario = parse(TEXT.encode())
    for line in range(1, MOST):
        Lab.up(scenario, "pfi", services=False)
        (registry.helpers("pfi") / "serve-s.log").write_text("said")
        came = interrupted_at(line, lambda: down("pfi"))
        for entry in list_up():  # what `pathfit lab down all` does
            down(entry.prefix)
        assert left(state) == [], f"at line {line}"
        if not came:
            break
    assert 20 < line < MOST - 1


def test_anothers_lab_is_not_removed(state: Path) -> None:
    """A prefix that is taken is an error of the one who comes second, and nothing happens to the first."""
    scenario = parse(TEXT.encode())
    Lab.up(scenario, "pfi", services=False)
    before = left(state)
    for line in range(1, MOST):
        try:
            assert interrupted_at(line, lambda: Lab.up(scenario, "pfi", services=False))
        except FileExistsError:
            break
        assert left(state) == before, f"at line {line}"
    assert 10 < line < MOST - 1
    assert left(state) == before


def test_a_helper_that_is_late_leaves_nothing(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It enters itself while the folder is emptied: it finds no folder, and the folder does not stay."""
    from pathfit.lab import helper

    Lab.up(parse(TEXT.encode()), "pfi", services=False)
    folder, real, came = registry.helpers("pfi"), registry._remove, []

    def late(path: Path) -> None:
        came.append(helper.enter(folder, "serve-s"))
        real(path)

    monkeypatch.setattr(registry, "_remove", late)
    assert down("pfi")
    assert came and not any(came)
    assert left(state) == []


def test_a_folder_that_no_entry_tells_of_is_swept_away(state: Path) -> None:
    """What builders left that were killed long ago."""
    Lab.up(parse(TEXT.encode()), "pfi", services=False)
    gone = next(pid for pid in range(4_000_000, 5_000_000) if not os.path.exists(f"/proc/{pid}"))
    for name in ("old.d/serve-s.pid", f".old.d.{gone}/serve-s.log"):
        (state / name).parent.mkdir()
        (state / name).write_text("1 1")
    assert [e.prefix for e in list_up()] == ["pfi"]
    assert left(state) == ["pfi.d", "pfi.json"]
    down("pfi")
