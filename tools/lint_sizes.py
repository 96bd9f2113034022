"""lint_sizes.py FOLDER...: fails on a module over 500 lines or a function over 60 (docs/architecture.md).

A function's docstring does not count: that of a rule is its manual page.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

MODULE_LINES, FUNCTION_LINES = 500, 60


def too_long(path: Path) -> Iterator[str]:
    """One line for each module and function of ``path`` that is too long, as a compiler would report it."""
    source = path.read_text(encoding="utf-8")
    lines = source.count("\n")
    if lines > MODULE_LINES:
        yield f"{path}:1: module of {lines} lines, at most {MODULE_LINES}"
    for node in ast.walk(ast.parse(source, str(path))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = _length(node)
            if length > FUNCTION_LINES:
                yield f"{path}:{node.lineno}: {node.name} has {length} lines, at most {FUNCTION_LINES}"


def _length(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    whole = (node.end_lineno or node.lineno) - node.lineno + 1
    if ast.get_docstring(node, clean=False) is None:
        return whole
    first = node.body[0]
    return whole - ((first.end_lineno or first.lineno) - first.lineno + 1)


def main(folders: list[str]) -> int:
    found = [line for f in folders for path in sorted(Path(f).rglob("*.py")) for line in too_long(path)]
    print("\n".join(found) if found else "sizes: all right")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
