"""Changes to files as a reader sees them (a unified diff) and as they are made (the whole text)."""

import difflib

from pathfit.core.change import WriteFile
from pathfit.core.finding import FileEdit
from pathfit.core.secrets import masked

NO_NEWLINE = "\\ No newline at end of file"


def edited(path: str, old: str | None, new: str, *, mode: int = 0o644) -> tuple[FileEdit, WriteFile]:
    """One file from ``old`` (None: there is none) to ``new``."""
    return FileEdit(path=path, diff=diff(path, old, new), new=new), WriteFile(path=path, old=old, new=new, mode=mode)


def diff(path: str, old: str | None, new: str) -> str:
    """A unified diff as `patch` takes it; a file that is made new stands against /dev/null.

    Passwords in URLs (a proxy's in daemon.json) are masked: a report is shown to others.
    """
    before = "/dev/null" if old is None else path
    lines: list[str] = []
    for line in difflib.unified_diff(_lines(old or ""), _lines(new), before, path):
        lines += [line] if line.endswith("\n") else [line + "\n", NO_NEWLINE + "\n"]
    return masked("".join(lines))


def _lines(text: str) -> list[str]:
    """Lines with their ends. Not splitlines(), which breaks at characters that are no line end to anybody else."""
    return [line + "\n" for line in text.split("\n")[:-1]] + [x for x in text.split("\n")[-1:] if x]


def added(path: str, lines: str) -> FileEdit:
    """Lines to add by hand to a file that was not read: where they go is the reader's to see."""
    return FileEdit(path=path, diff="".join(f"+{line}\n" for line in lines.splitlines()))
