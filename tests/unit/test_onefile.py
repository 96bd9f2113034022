"""`probe` as one file: the same bytes from the same sources, for every Python from 3.8 on, with nothing installed."""

import glob
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest

ROOT = Path(__file__).parents[2]
TOOL = ROOT / "tools" / "onefile"
CLOSED = "http://127.0.0.1:1/"  # nobody listens there


def loaded(name: str) -> ModuleType:
    """A module of tools/onefile, without touching the modules it stands for."""
    spec = importlib.util.spec_from_file_location(f"onefile_{name}", TOOL / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    before = {n: sys.modules.get(n) for n in ("msgspec.structs", "msgspec.json")}
    spec.loader.exec_module(module)
    for n, old in before.items():
        if old is None:
            sys.modules.pop(n, None)
        else:
            sys.modules[n] = old
    return module


shim = loaded("shim")
rewrite = loaded("rewrite")


def make(to: Path, *more: str, seed: str = "0") -> Path:
    environment = {**os.environ, "PYTHONHASHSEED": seed}
    subprocess.run([sys.executable, str(TOOL), "-o", str(to), *more], check=True, capture_output=True, env=environment)
    return to


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file alone in an empty folder, and beside that its modules."""
    folder = tmp_path_factory.mktemp("onefile")
    (folder / "modules").mkdir()
    return make(folder / "alone" / "pathfit-probe.py", "--modules", str(folder / "modules"))


def pythons() -> list[str]:
    """Every interpreter there is: on PATH, and those pyenv keeps."""
    kept = glob.glob(os.path.expanduser("~/.pyenv/versions/3.*/bin/python3"))
    named = [shutil.which(f"python3.{n}") for n in range(8, 15)]
    found = {os.path.realpath(p): p for p in [sys.executable, *kept, *named, shutil.which("pypy3")] if p}
    return sorted({p for p in found.values() if _works(p)})


def _works(python: str) -> bool:
    ask = "import sys; sys.exit(sys.version_info < (3, 8))"
    return subprocess.run([python, "-S", "-I", "-c", ask], capture_output=True, check=False).returncode == 0


# -- the file ---------------------------------------------------------------------------------------------------------


def test_the_same_sources_give_the_same_bytes(made: Path, tmp_path: Path) -> None:
    assert make(tmp_path / "again.py", seed="4711").read_bytes() == made.read_bytes()


def test_it_holds_no_more_than_it_needs(made: Path) -> None:
    """A module that imports the model as it is loaded would double its 700 kB: let it import that where there is
    state."""
    names = {p.stem for p in (made.parents[1] / "modules").iterdir()}
    assert names.isdisjoint({"pathfit.model.walk", "pathfit.model.network", "pathfit.rules.state", "pathfit.observe"})
    assert made.stat().st_size < 800_000


def test_its_end_is_its_last_line(made: Path) -> None:
    """What a pipe that stays open is cut at (observe/beside.py)."""
    lines = made.read_text("utf-8").splitlines()
    assert [n for n, x in enumerate(lines) if x.startswith("# end of")] == [len(lines) - 1]


@pytest.mark.parametrize("python", pythons())
def test_it_runs_with_nothing_installed(made: Path, python: str) -> None:
    run = subprocess.run(
        [python, "-S", "-I", made.name, CLOSED, "--json"], cwd=made.parent, capture_output=True, check=False, timeout=60
    )
    assert run.stderr == b""
    assert run.returncode == 1
    report = json.loads(run.stdout)
    assert (report["schema"], report["verdict"]) == ("pathfit.report/1", "broken")
    assert report["findings"][0]["code"] == "RST201"
    assert report["measured"]["target"]["tcp"] == "refused"


@pytest.mark.parametrize("python", pythons())
def test_every_module_is_understood(made: Path, python: str) -> None:
    """Also those a refused connection never loads."""
    code = "import sys; [compile(open(p, encoding='utf-8').read(), p, 'exec') for p in sys.argv[1:]]"
    files = sorted(map(str, (made.parents[1] / "modules").glob("*.py")))
    subprocess.run([python, "-S", "-I", "-W", "error", "-c", code, *files], check=True)


def test_it_runs_from_stdin(made: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-S", "-I", "-", CLOSED], stdin=made.open(), capture_output=True, text=True, check=False
    )
    assert run.returncode == 1
    assert "RST201" in run.stdout


def test_what_is_installed_is_not_used(made: Path, tmp_path: Path) -> None:
    """Modules of the same names, of any version, stay untouched."""
    for name in ("msgspec", "pathfit"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the installed one was used')\n")
    run = subprocess.run(
        [sys.executable, "-S", str(made), CLOSED],
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode, run.stderr) == (1, "")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "required"),
        (("--nonsense", "x"), "--nonsense"),
        (("container:x:80",), "is a place"),
        (("htps://x",), "no protocol"),
        (("https://x/", "-4", "-6"), "exclude each other"),
        (("https://x/", "--timeout", "nan"), "makes no sense"),
        (("https://[::1/",), "bracket"),
    ],
)
def test_what_makes_no_sense(made: Path, words: tuple[str, ...], says: str) -> None:
    run = subprocess.run(
        [sys.executable, "-S", "-I", str(made), *words], capture_output=True, text=True, check=False, timeout=30
    )
    assert run.returncode == 2
    assert says in run.stderr
    assert [x for x in run.stderr.splitlines() if x.startswith("try: ")]
    assert "Traceback" not in run.stderr


def test_vermin_agrees(made: Path) -> None:
    """Nothing newer than 3.8, besides os.setns (3.12), which host/netns.py asks for with hasattr()."""
    modules = made.parents[1] / "modules"
    assert len(list(modules.iterdir())) > 50
    vermin = [str(Path(sys.executable).with_name("vermin")), "--no-tips", "-t=3.8-", "--violations"]
    run = subprocess.run(
        [*vermin, "--exclude", "os.setns", str(modules), str(made)], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout
    (modules / "newer.py").write_text("match 1:\n    case 1:\n        pass\n")
    newer = subprocess.run([*vermin, str(modules / "newer.py")], capture_output=True, check=False)
    (modules / "newer.py").unlink()
    assert newer.returncode != 0


# -- the rewriting ----------------------------------------------------------------------------------------------------

ALIKE = {
    "unions": ("from typing import Literal\nName = Literal['a'] | None\nx: Name | int = 1", "x"),
    "generics": ("from collections.abc import Callable\nDone = Callable[[int], dict[str, int]]\nx = 2", "x"),
    "bases": ("class D(dict[str, int]):\n    'a page'\nx = D(a=1)", "x['a']"),
    "sets": ("x = {1} | {2}\nx |= {3}", "x"),
    "dictionaries": ("x = {'a': 1} | {'a': 2, 'b': 3}", "x"),
    "flags": ("x = 1 | 4 | 2", "x"),
    "isinstance": ("x = isinstance(1, str | int)", "x"),
    "ends": ("x = 'abc'.removeprefix('a').removesuffix('c'), 'abc'.removesuffix('')", "x"),
    "zip": ("x = list(zip([1], [2], strict=True))", "x"),
    "cache": (
        "from functools import cache, reduce\nn = []\n@cache\ndef f(a):\n    n.append(a)\n    return a\nf(1), f(1)",
        "n",
    ),
    "strenum": ("from enum import StrEnum\nclass E(StrEnum):\n    A = 'a'\nx = f'{E.A}', E.A == 'a', str(E.A)", "x"),
    "self": ("from typing import Self\nclass A:\n    def me(self) -> Self:\n        return self\nx = 3", "x"),
    "match": (
        "def f(a):\n    match a:\n        case int() | str(): return 1\n        case None: return 2\n"
        "        case list() if a: return 3\n        case _: return 4\nx = [f(v) for v in (0, '', None, [1], [])]",
        "x",
    ),
    "later only": ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import nothing\nelse:\n    x = 5", "x"),
    "bare": ("class A:\n    'only words'\ndef f():\n    'only words'\nx = f()", "x"),
    "with": ("import contextlib as c\nwith (c.suppress(KeyError), c.suppress(ValueError)):\n    x = 6", "x"),
}


@pytest.mark.parametrize("what", ALIKE)
def test_rewritten_it_does_the_same(what: str) -> None:
    source, asked = ALIKE[what]
    text = rewrite.rewrite(source, what)
    values = []
    for code in (source, text.replace("import msgspec as", "import shim as").replace("from msgspec", "from shim")):
        space: dict[str, Any] = {"__name__": "m"}
        sys.modules["shim"] = shim
        exec(compile(code, what, "exec"), space)
        values.append(eval(asked, space))
    del sys.modules["shim"]
    assert values[0] == values[1]


@pytest.mark.parametrize(
    "source",
    [
        "match f():\n    case 1: pass",
        "def f(a):\n    match a:\n        case [x, y]: pass",
        "x = {}\nx |= {'a': 1}",
        "try:\n    pass\nexcept* OSError:\n    pass",
        "x = a[*b]",
    ],
)
def test_what_cannot_be_rewritten_is_said(source: str) -> None:
    with pytest.raises(rewrite.NotRewritable):
        rewrite.rewrite(source, "m")


# -- the stand-in -----------------------------------------------------------------------------------------------------


def kinds(m: Any) -> dict[str, Any]:
    """The ways pathfit makes values, of msgspec and of what stands in for it."""

    class Base(m.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
        pass

    class Value(Base, frozen=True, kw_only=True):
        a: int
        b: tuple[int, ...] = ()
        c: dict[str, int] = {}

        @property
        def double(self) -> int:
            return 2 * self.a

    class Plain(m.Struct):
        a: int
        b: list[int] = m.field(default_factory=list)
        c: int = 7
        _d: float = 0.5

    class Frozen(m.Struct, frozen=True, dict=True):
        a: int
        b: int = 1

    class Checked(Base, frozen=True, kw_only=True):
        a: int = 1

        def __post_init__(self) -> None:
            if self.a < 0:
                raise ValueError("below")

    return {"Value": Value, "Plain": Plain, "Frozen": Frozen, "Checked": Checked}


SAME = {
    "repr": lambda m, k: repr(k["Value"](a=1, b=(2,))),
    "positional repr": lambda m, k: repr(k["Plain"](1, [2])),
    "equal": lambda m, k: (k["Value"](a=1) == k["Value"](a=1), k["Value"](a=1) == k["Value"](a=2)),
    "other class": lambda m, k: k["Frozen"](1) == k["Plain"](1),
    "property": lambda m, k: k["Value"](a=4).double,
    "hash": lambda m, k: len({k["Frozen"](1), k["Frozen"](1), k["Frozen"](2)}),
    "no hash": lambda m, k: hash(k["Plain"](1)),
    "frozen": lambda m, k: setattr(k["Value"](a=1), "a", 2),
    "not frozen": lambda m, k: [setattr(p := k["Plain"](1), "c", 8), p.c],
    "no such attribute": lambda m, k: setattr(k["Plain"](1), "e", 8),
    "by keyword only": lambda m, k: k["Value"](1),
    "too many": lambda m, k: k["Plain"](1, [], 2, 0.1, 5),
    "missing": lambda m, k: k["Value"](b=()),
    "unknown": lambda m, k: k["Value"](a=1, z=2),
    "lists are each their own": lambda m, k: k["Plain"](1).b is k["Plain"](1).b,
    "dictionaries are each their own": lambda m, k: k["Value"](a=1).c is k["Value"](a=1).c,
    "replace": lambda m, k: repr(m.structs.replace(k["Value"](a=1, b=(5,)), a=2)),
    "replace by position": lambda m, k: repr(m.structs.replace(k["Plain"](1, [3]), c=2)),
    "replace unknown": lambda m, k: m.structs.replace(k["Value"](a=1), z=2),
    "private": lambda m, k: k["Plain"](1)._d,
    "checked": lambda m, k: k["Checked"](a=-1),
    "checked again": lambda m, k: m.structs.replace(k["Checked"](a=1), a=-1),
    "fields": lambda m, k: (k["Value"].__struct_fields__, k["Plain"].__struct_fields__),
    "dict": lambda m, k: [setattr_dict(k["Frozen"](1))],
    "json": lambda m, k: m.json.format(m.json.encode({"a": [], "b": (1, None, True), "c": {"d": "é\x00"}}), indent=2),
    "read": lambda m, k: m.json.decode('"a\\n"', type=str),
}


def setattr_dict(value: Any) -> Any:
    value.__dict__["kept"] = 1  # what functools.cached_property does
    return value.kept


@pytest.mark.parametrize("what", SAME)
def test_the_stand_in_is_as_msgspec(what: str) -> None:
    def outcome(m: Any) -> Any:
        try:
            return SAME[what](m, kinds(m))
        except (TypeError, AttributeError, ValueError) as e:
            return type(e)

    assert outcome(shim) == outcome(msgspec)
