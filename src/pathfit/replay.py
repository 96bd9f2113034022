"""The World of a saved case: a dictionary of request to answers (pure).

The same examine loop runs on it as on a live machine, so a saved case takes the same way to the byte-equal report.
A request that was not recorded (another version may ask more) is answered with a Missing, as any World would.
"""

import msgspec

from pathfit.core.case import Case
from pathfit.core.evidence import Evidence, Missing
from pathfit.core.request import Measure, ReadRemembered, Request

OLDER = ("far",)  # fields of a Measure that older versions did not have, and whose answer is none the worse
ADDED = (ReadRemembered,)  # what older versions did not ask, and nothing hangs on: no answer is no loss


class ReplayWorld:
    """Answers what was answered when ``case`` was recorded."""

    def __init__(self, case: Case) -> None:
        self._answers = {x.request: x.answers for x in case.exchanges}

    def perform(self, request: Request) -> tuple[Evidence, ...]:
        """The recorded answers. Never raises."""
        try:
            return self._answers[request]
        except KeyError:
            older = _older(request)
            if older in self._answers:
                return self._answers[older]
            if isinstance(request, ADDED):
                return ()
            return (
                Missing(
                    ref=request.ref,
                    what=f"{type(request).__name__} {request.ref}",
                    why="this question was not asked when the case was recorded",
                    how="record the case again with --save DIR",
                    code="absent",
                ),
            )


def _older(request: Request) -> Request:
    """The same question as a version without those fields asked it."""
    if not isinstance(request, Measure):
        return request
    defaults = {f.name: f.default for f in msgspec.structs.fields(Measure) if f.name in OLDER}
    return msgspec.structs.replace(request, **defaults)
