"""python tools/onefile [-o FILE] [--modules DIR]: `pathfit probe` as one file on the standard library alone.

It follows the imports of pathfit.cli.alone, rewrites each module for Python 3.8 (rewrite.py) and puts them into one
file, with an importer (boot.py) and a stand-in for msgspec (shim.py). The same sources give the same bytes.
``--modules`` also writes each rewritten module as a file of its own, for tools that check them.
"""

import argparse
import ast
import sys
from collections.abc import Iterator
from pathlib import Path

from rewrite import NotRewritable, rewrite

HERE = Path(__file__).parent
SOURCES = HERE.parents[1] / "src"
START = "pathfit.cli.alone"
FILE = "pathfit-probe.py"
MARK = "pathfit-probe.py:"  # what tracebacks call its modules
# What is imported only when there is state to look at, or a terminal with colours: alone.py has none of them.
LEFT_OUT = (
    *("pathfit.model", "pathfit.remedies", "pathfit.rules.state", "pathfit.rules.traced", "pathfit.rules.unsettled"),
    "rich",
)
NEEDED = ("pathfit.remedies.value",)  # of these: the plan asks what is to be tried
SHIM = "msgspec"
WORDS = ("en.toml", "zh.toml", "ui_en.toml", "ui_zh.toml")
INSTEAD = {"next": "next-alone", "next-plain": "next-alone"}  # sentences that differ where pathfit is one file
UNSAID = ("fix", "by-hand", "proof")  # sections of words that are never said here
HEAD = '''"""pathfit-probe: how large packets may be on the way to TARGET and back, and what vanishes.

    python3 pathfit-probe.py https://example.org/
    docker exec -i CONTAINER python3 - https://example.org/ < pathfit-probe.py

One file for Python 3.8 and newer on Linux; nothing to install, no privileges needed (with CAP_NET_RAW the way out is
measured packet by packet). It writes no file, changes no setting, and talks to TARGET and its resolver alone; what
probing may leave behind is in the report. Made from pathfit {version} by `make onefile`; licence: Apache-2.0. Do not
edit it: edit the modules. Their comments are left out here.
"""

'''


def path_of(module: str) -> Path | None:
    """The file of a module of ours, None when it is none."""
    base = SOURCES.joinpath(*module.split("."))
    return next((p for p in (base / "__init__.py", base.with_suffix(".py")) if p.is_file()), None)


def left_out(module: str) -> bool:
    """Is it one that is never asked for here?"""
    return module not in NEEDED and any(module == x or module.startswith(f"{x}.") for x in LEFT_OUT)


def imports(tree: ast.AST, top: bool = True) -> Iterator[tuple[str, bool]]:
    """(module, is it loaded with the module itself) of every import that runs."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.ImportFrom) and node.module:
            for a in node.names:
                inner = f"{node.module}.{a.name}"
                yield (inner if path_of(inner) else node.module), top
        elif isinstance(node, ast.Import):
            for a in node.names:
                yield a.name, top
        yield from imports(node, top and not isinstance(node, ast.FunctionDef))


def modules() -> dict[str, str]:
    """Every module that is needed, rewritten, by name. Packages are what they say of themselves, and no more.

    What a module imports as it is loaded is always needed. Raises NotRewritable.
    """
    found: dict[str, str] = {}
    todo = [START]
    while todo:
        name = todo.pop()
        path = path_of(name)
        if name in found or path is None:
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
        if path.name == "__init__.py":
            found[name] = package(tree)
        else:
            found[name] = rewrite(path.read_text(encoding="utf-8"), name)
            for wanted, top in imports(tree):
                if top or not left_out(wanted):
                    outside(name, wanted)
                    todo.append(wanted)
        while "." in name:
            name = name.rpartition(".")[0]
            todo.append(name)
    return dict(sorted(found.items()))


def package(tree: ast.Module) -> str:
    """What stands for a package: its docstring and its version; not what it imports."""
    doc = ast.get_docstring(tree, clean=False) or ""
    kept = [x for x in tree.body if isinstance(x, ast.Assign) and ast.unparse(x.targets[0]) == "__version__"]
    return ast.unparse(ast.Module([ast.Expr(ast.Constant(doc)), *kept], [])) + "\n"


def outside(name: str, wanted: str) -> None:
    """Raises NotRewritable when ``wanted`` is neither ours nor of the standard library, nor what shim.py is for."""
    first = wanted.partition(".")[0]
    if first not in ("pathfit", SHIM) and first not in sys.stdlib_module_names:
        raise NotRewritable(f"{name} needs {wanted}")


def words() -> dict[str, str]:
    """The sentences it may say, by the path its importer gives them; what only repairs say is left out."""
    return {f"{MARK}/pathfit/words/{n}": _said((SOURCES / "pathfit/words" / n).read_text("utf-8")) for n in WORDS}


def _said(text: str) -> str:
    kept, section = [], ""
    values = dict(x.split(" = ", 1) for x in text.splitlines() if " = " in x and not x.startswith("#"))
    for line in text.splitlines():
        if line.startswith("["):
            section = line.strip("[] ")
        if not line or line.startswith("#") or section in UNSAID:
            continue
        key, equals, value = line.partition(" = ")
        kept.append(f"{key}{equals}{values[INSTEAD[key]] if key in INSTEAD else value}")
    return "\n".join(kept) + "\n"


def literal(text: str) -> str:
    """``text`` as it stands, where a raw string can hold it, for those who read before they run."""
    if "'''" in text or text.endswith(("'", "\\")) or "\r" in text:
        return repr(text)
    return f"r'''{text}'''"


def whole() -> str:
    """The file."""
    every = {SHIM: (HERE / "shim.py").read_text("utf-8"), **modules()}
    packages = tuple(sorted(n for n in every if (p := path_of(n)) is not None and p.name == "__init__.py"))
    parts = [
        "#!/usr/bin/env python3\n",
        HEAD.format(version=version()),
        "import importlib.machinery\nimport select\nimport sys\n\n",
        f"HERE = {MARK!r}\n",
        f"PACKAGES = {packages!r}\n",
        "MODULES = {}\nWORDS = {}\n\n",
    ]
    parts += [f"MODULES[{name!r}] = {literal(source)}\n\n" for name, source in every.items()]
    parts += [f"WORDS[{name!r}] = {literal(text)}\n\n" for name, text in words().items()]
    parts.append("\n" + (HERE / "boot.py").read_text("utf-8"))
    return "".join(parts)


def version() -> str:
    text = (SOURCES / "pathfit/__init__.py").read_text("utf-8")
    return next(x.split('"')[1] for x in text.splitlines() if x.startswith("__version__"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", type=Path, default=Path("dist") / FILE)
    parser.add_argument("--modules", type=Path)
    args = parser.parse_args()
    try:
        text = whole()
    except NotRewritable as e:
        print(f"onefile: {e}", file=sys.stderr)
        return 1
    if args.modules:
        for name, source in {SHIM: (HERE / "shim.py").read_text("utf-8"), **modules()}.items():
            (args.modules / f"{name}.py").write_text(source, "utf-8")
    args.o.parent.mkdir(parents=True, exist_ok=True)
    args.o.write_text(text, "utf-8")
    print(f"{args.o}: {len(text.encode())} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
