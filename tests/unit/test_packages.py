"""Every package teaches itself: its docstring names each of its modules, and nothing that is not there."""

import ast
import re
from pathlib import Path

import pytest

SOURCES = Path(__file__).resolve().parents[2] / "src" / "pathfit"
PACKAGES = sorted(x.parent for x in SOURCES.rglob("__init__.py"))


def docstring(package: Path) -> str:
    return ast.get_docstring(ast.parse((package / "__init__.py").read_text(encoding="utf-8"))) or ""


@pytest.mark.parametrize("package", PACKAGES, ids=lambda p: str(p.relative_to(SOURCES.parent)))
def test_every_module_is_named(package: Path) -> None:
    said = set(re.findall(r"\w+", docstring(package)))
    own = {x.stem for x in package.glob("*.py")} - {"__init__"}
    assert not own - said


@pytest.mark.parametrize("package", PACKAGES, ids=lambda p: str(p.relative_to(SOURCES.parent)))
def test_every_module_that_is_named_exists(package: Path) -> None:
    named = re.findall(r":mod:`~?pathfit\.([\w.]+)`", docstring(package))
    gone = [n for n in named if not any((SOURCES / n.replace(".", "/")).with_suffix(s).exists() for s in ("", ".py"))]
    assert not gone


def test_there_are_packages() -> None:
    assert SOURCES / "rules" / "state" in PACKAGES
