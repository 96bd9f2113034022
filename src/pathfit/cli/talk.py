"""Stdout is data, stderr is talk. What the terminal and the environment allow: language, width, colour, ASCII."""

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping
from typing import TextIO

import msgspec

from pathfit.cli.stop import OR, USAGE

NARROW, WIDE = 60, 120  # columns; text is laid out for 80, used up to 120, and never squeezed below 60
LONGEST = 600  # characters of a message; a name in it may be of any length


class Style(msgspec.Struct, frozen=True, kw_only=True):
    """How text is to look. ``width`` in columns."""

    lang: str = "en"
    width: int = 80
    colour: bool = False
    ascii: bool = False


def style(lang: str | None) -> Style:
    """For this process: ``--lang``, the environment, and whether stdout is a terminal."""
    env = os.environ
    terminal = sys.stdout.isatty()
    width = 80
    if terminal:
        with contextlib.suppress(OSError):
            width = os.get_terminal_size(sys.stdout.fileno()).columns or 80
    return Style(
        lang=lang or language(env),
        width=max(NARROW, min(WIDE, width)),
        colour=terminal and not env.get("NO_COLOR") and env.get("TERM", "") not in ("", "dumb"),
        ascii=plain(env) and lang != "zh",
    )


def _locale(env: Mapping[str, str], category: str) -> str:
    """The effective locale of a category: LC_ALL, the category itself, LANG (locale(7))."""
    return env.get("LC_ALL") or env.get(category) or env.get("LANG") or ""


def language(env: Mapping[str, str]) -> str:
    """ "zh" or "en". Traditional and simplified readers both get "zh"."""
    return "zh" if _locale(env, "LC_MESSAGES").lower().startswith("zh") else "en"


def plain(env: Mapping[str, str]) -> bool:
    """Whether the locale is C or POSIX, so that only ASCII may be printed.

    Python itself sets LC_CTYPE to C.UTF-8 in that case (PEP 538), so that value says nothing.
    """
    ctype = env.get("LC_CTYPE", "")
    said = env.get("LC_ALL") or ("" if ctype in ("C.UTF-8", "C.utf8", "UTF-8") else ctype) or env.get("LANG") or "C"
    return said in ("C", "POSIX")


def to_nowhere(stream: TextIO) -> None:
    """What is still to be written goes nowhere: the reader is gone, and the interpreter flushes when it ends."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
    except (OSError, ValueError):
        pass


def told(text: str) -> None:
    """Say ``text`` on stderr. Where that is full or gone, the exit status has to say it all."""
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        to_nowhere(sys.stderr)


@contextlib.contextmanager
def readers_may_leave() -> Iterator[None]:
    """A reader that has seen enough (head, less) changes neither what else is done nor the exit status."""
    try:
        yield
    except BrokenPipeError:
        to_nowhere(sys.stdout)


def _clean(text: str) -> str:
    from pathfit.render.layout import clean

    return clean(text)


def sentence(message: str, how: str) -> None:
    """The two lines every error ends in. Names in them come from anywhere: nothing that a terminal would obey."""
    shown = message if len(message) <= LONGEST else message[:LONGEST] + "..."
    lines = [f"pathfit: {shown}", *(f"try: {typed}" for typed in how.split(OR))]
    told("\n".join(map(_clean, lines)))


def usage(message: str, command: str) -> int:
    """Say a usage error; returns its exit status."""
    sentence(message, f"{command} --help")
    return USAGE


class Talk:
    """Progress and remarks on stderr: progress only on a terminal, remarks always."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._live = sys.stderr.isatty() and not quiet
        self._shown = False

    def progress(self, text: str) -> None:
        """One line that the next one overwrites."""
        if self._live:
            self._shown = True
            sys.stderr.write(f"\r\x1b[2K{_clean(text)}")
            sys.stderr.flush()

    def clear(self) -> None:
        if self._shown:
            self._shown = False
            sys.stderr.write("\r\x1b[2K")
            sys.stderr.flush()

    def remark(self, text: str) -> None:
        self.clear()
        told(f"pathfit: {_clean(text)}")
