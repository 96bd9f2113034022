"""What every kind of change can do. One implementation a kind, all of them in :data:`pathfit.apply.steps.STEPS`.

The order of calls, and what may lie between any two of them (a kill, a power loss)::

    prepare(change)   reads how it is now; changes nothing. All steps are prepared before the first is performed
      -- written to the journal: planned --
      -- written: doing --
    perform(change, prepared)
      -- written: done --
    holds(change, prepared)      is it as the change wants it? (after the last step, and when somebody asks later)
    undo(change, prepared)       in reverse order; right after perform ran not at all, half, or wholly, and after
                                 another undo that was itself ended half way

``perform`` and ``undo`` are idempotent. ``undo`` touches only what is as we left it: what somebody else has changed
since is theirs, and it says so (:class:`Foreign`).
"""

from typing import Any, Protocol

from pathfit.core.journal import Prepared


class Impossible(Exception):
    """The change cannot be made in a way that could be taken back; nothing was changed. ``how``: a line to type."""

    def __init__(self, why: str, how: str = "") -> None:
        super().__init__(why)
        self.how = how


class Gone(Exception):
    """What the change was made to does not exist any more: there is nothing to undo."""


class Foreign(Exception):
    """Somebody else has changed it since: not ours to undo. ``how``: lines that would."""

    def __init__(self, why: str, how: tuple[str, ...] = ()) -> None:
        super().__init__(why)
        self.how = how


class Step(Protocol):
    """One kind of change. All methods may raise OSError; it means that the call did not succeed."""

    lasting: bool
    """Does it survive a reboot? What does not is gone by itself then."""

    def late(self, prepared: Any) -> bool:
        """Is it undone after all that are not late? Otherwise the order of undo is the reverse of that of making."""

    def prepare(self, change: Any, tag: str) -> Prepared:
        """How it is now, as a value for the journal. ``tag``: the journal's id, for names of temporary files.

        Raises Impossible, Gone.
        """

    def perform(self, change: Any, prepared: Any, tag: str) -> None:
        """Make the change. Raises Gone, Foreign (it is not as it was prepared any more)."""

    def undo(self, change: Any, prepared: Any, tag: str) -> None:
        """Make it as it was. Raises Gone, Foreign."""

    def holds(self, change: Any, prepared: Any) -> bool:
        """Is it as the change wants it? Raises Gone."""
