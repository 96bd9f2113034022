"""Columns, wrapping, escaping. Widths are terminal columns: East Asian wide characters take two (UAX #11)."""

import unicodedata
from collections.abc import Callable, Iterator

Paint = Callable[[str, str], str]  # (text, style name) -> text
NOT_AT_LINE_START = "，。；：！？、）》”’%"  # no line begins with these (GB/T 15834, kinsoku)


def columns(text: str) -> int:
    """Columns ``text`` takes on a terminal."""
    if text.isascii():
        return len(text)
    return sum(_columns(c) for c in text)


def _columns(c: str) -> int:
    if unicodedata.combining(c) or unicodedata.category(c) in ("Cf", "Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(c) in "WF" else 1


def pad(text: str, width: int) -> str:
    """``text`` followed by blanks up to ``width`` columns; never shortened."""
    return text + " " * max(0, width - columns(text))


def clean(text: str, *, ascii_only: bool = False) -> str:
    """Nothing in it that a terminal would obey: controls, escapes and text-direction marks become visible.

    Names, banners and certificates come from strangers. ``ascii_only``: everything else becomes visible as well.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_visible(c, ascii_only) for c in text)


def unprintable(c: str) -> bool:
    """Controls, text direction, surrogates, and what is no character (yet)."""
    return unicodedata.category(c) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")


def _visible(c: str, ascii_only: bool) -> str:
    if c.isascii():
        return c if " " <= c <= "~" else c.encode("unicode_escape").decode()
    if ascii_only or unprintable(c):
        return c.encode("ascii", "backslashreplace").decode()
    return c


def wrap(text: str, width: int, first: str, rest: str) -> list[str]:
    """``text`` in lines of at most ``width`` columns, the first after ``first``, the others after ``rest``.

    Breaks at blanks, and between wide characters; a word longer than a line stays whole (it may be a command).
    """
    lines: list[str] = []
    line, empty = first, True
    for piece, blank in _pieces(text):
        joined = piece if empty or not blank else " " + piece
        if not empty and columns(line) + columns(joined) > width:
            lines.append(line)
            line, joined = rest, piece
        line += joined
        empty = False
    return [*lines, line.rstrip()]


def _pieces(text: str) -> Iterator[tuple[str, bool]]:
    """(piece, whether a blank stood before it): words, and single wide characters with what must follow them."""
    piece, blank = "", False
    for c in text:
        if c == " ":
            if piece:
                yield piece, blank
            piece, blank = "", True
            continue
        breaks = piece and (_columns(c) == 2 or _columns(piece[-1]) == 2) and c not in NOT_AT_LINE_START
        if breaks:
            yield piece, blank
            piece, blank = "", False
        piece += c
    if piece:
        yield piece, blank


GAP = "   "  # between two things that stand on one line
STYLES = {
    "broken": "bold red",
    "degraded": "bold yellow",
    "unknown": "bold yellow",
    "healthy": "bold green",
    "hole": "bold red",
    "ok": "green",
    "unsure": "yellow",
    "label": "cyan",
    "code": "bold",
    "command": "bold",
}


def painter(colour: bool) -> Paint:
    """Puts a style of :data:`STYLES` on text; without colour it leaves text as it is (and rich unimported)."""
    if not colour:
        return lambda text, style: text
    from rich.color import ColorSystem
    from rich.style import Style

    styles = {name: Style.parse(s) for name, s in STYLES.items()}
    return lambda text, style: styles[style].render(text, color_system=ColorSystem.STANDARD)


class Page:
    """Lines of text under construction."""

    def __init__(self, width: int, *, colour: bool = False, ascii_only: bool = False) -> None:
        self.width = width
        self.ascii_only = ascii_only
        self.paint = painter(colour)
        self._lines: list[str] = []

    def blank(self) -> None:
        if self._lines and self._lines[-1]:
            self._lines.append("")

    def line(self, text: str, head: str = "", style: str = "", *, indent: str = "") -> None:
        """A paragraph. ``head`` stands in front of its first line in ``style``; the others are indented as deep."""
        head = clean(head, ascii_only=self.ascii_only)
        text = clean(text, ascii_only=self.ascii_only)
        deep = indent or " " * columns(head)
        for n, line in enumerate(wrap(text, self.width, head, deep)):
            if n == 0 and style and head.strip():
                start = len(head) - len(head.lstrip())
                word = head.strip()
                line = head[:start] + self.paint(word, style) + line[start + len(word) :]
            self._lines.append(line)

    def pair(self, left: str, right: str, head: str = "", style: str = "", *, indent: str = "") -> None:
        """Two parts with room between them; the second below the first, after ``indent``, where one line is too short
        for both."""
        parts = [clean(x, ascii_only=self.ascii_only) for x in (head, left, right)]
        if sum(columns(x) for x in parts) + columns(GAP) > self.width:
            self.line(left, head, style, indent=indent)
            self.line(right, indent)
            return
        shown = self.paint(parts[0].rstrip(), style) + parts[0][len(parts[0].rstrip()) :] if style else parts[0]
        self._lines.append(shown + parts[1] + GAP + parts[2])

    def command(self, text: str, head: str) -> None:
        """A line to copy: never broken, however long."""
        self._lines.append(head + self.paint(clean(text, ascii_only=self.ascii_only), "command"))

    def flagged(self, text: str, flag: str, style: str, *, indent: str, first: str | None = None) -> None:
        """A paragraph whose last line ends in ``flag`` at the right margin. ``first`` stands before its first line."""
        text = clean(text, ascii_only=self.ascii_only)
        lines = wrap(text, self.width - columns(flag) - 2, indent if first is None else first, indent)
        self._lines += lines[:-1]
        room = self.width - max(4, columns(flag))
        self._lines.append(pad(lines[-1], room) + self.paint(flag, style))

    def __str__(self) -> str:
        return "\n".join(self._lines) + "\n"
