"""How a command ends when it cannot go on."""

USAGE, CANNOT, INTERRUPTED = 2, 3, 130  # exit statuses (CONTRACT)
OR = "   or   "  # between two lines that could both be typed
LONGEST_WORD = 300  # characters of a line shown; nobody types more


class Stop(Exception):
    """Ends the command: ``message`` says what is wrong, ``how`` is a line that can be typed, ``status`` the exit.

    ``how`` may be an option alone ("--from netns:x"): it is shown as the whole command with that option changed.
    """

    def __init__(self, message: str, how: str, status: int = USAGE) -> None:
        super().__init__(message)
        self.message, self.how, self.status = message, how, status


class Ended(BaseException):
    """SIGTERM or SIGHUP: unwinds as an interruption does, so that labs and namespaces are put away."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.status = 128 + number


def line(*words: object) -> str:
    """Words as one line for a shell. What a terminal would obey, or is no text, is written as $'\\x1b'."""
    return " ".join(_quoted(str(w)) for w in words)


def _quoted(word: str) -> str:
    if len(word) > LONGEST_WORD:
        word = word[:LONGEST_WORD] + "..."
    if word.isprintable():
        import shlex

        return shlex.quote(word)
    data = word.encode("utf-8", "surrogateescape")
    return "$'" + "".join(chr(b) if 32 <= b < 127 and b not in b"'\\" else f"\\x{b:02x}" for b in data) + "'"
