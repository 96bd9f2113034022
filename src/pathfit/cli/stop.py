"""How a command ends when it cannot go on."""

USAGE, CANNOT, INTERRUPTED = 2, 3, 130  # exit statuses (CONTRACT)
OR = "   or   "  # between two lines that could both be typed


class Stop(Exception):
    """Ends the command: ``message`` says what is wrong, ``how`` is a line that can be typed, ``status`` the exit.

    ``how`` may be an option alone ("--from netns:x"): it is shown as the whole command with that option changed.
    """

    def __init__(self, message: str, how: str, status: int = USAGE) -> None:
        super().__init__(message)
        self.message, self.how, self.status = message, how, status
