"""The loop: plan, perform, collect - until the plan has no more questions.

Commands differ only in their Ask. The same loop runs live and on a saved case, which is why a saved case replays
to the byte-equal report: everything that could differ (clock, names, measurements) is an answer of the World.
"""

from collections.abc import Callable

from pathfit import __version__, plan
from pathfit.core.ask import Ask
from pathfit.core.case import SCHEMA, Case
from pathfit.core.request import Request
from pathfit.world import World

MOST_ROUNDS = 64  # a plan that still asks after so many rounds is a bug, not a hard network

Progress = Callable[[Request], None]


def run(ask: Ask, world: World, progress: Progress | None = None) -> Case:
    """Examine until the plan is content. Raises RuntimeError when the plan does not end (a bug)."""
    case = Case(schema=SCHEMA, version=__version__, ask=ask)
    for _ in range(MOST_ROUNDS):
        requests = plan.next_requests(case)
        if not requests:
            return case
        for request in requests:
            if progress is not None:
                progress(request)
            case = case.add(request, world.perform(request))
    raise RuntimeError("the plan did not come to an end")
