"""One run: the question, every request with its answer, in the order of the plan."""

import itertools
from typing import TypeVar

import msgspec

from pathfit.core.ask import Ask
from pathfit.core.base import Value
from pathfit.core.evidence import ClockFact, Evidence
from pathfit.core.request import Request

SCHEMA = "pathfit.case/1"
E = TypeVar("E")


class Exchange(Value, frozen=True, kw_only=True):
    """A request and what the world answered."""

    request: Request
    answers: tuple[Evidence, ...]


class Case(Value, frozen=True, kw_only=True):
    """The question and all exchanges so far. ``add`` returns a new case. ``redacted``: names and addresses in it are
    pseudonyms (follow/redacted.py), so the plan is not asked again, whose order may hang on them."""

    schema: str  # SCHEMA, always written
    version: str
    ask: Ask
    exchanges: tuple[Exchange, ...] = ()
    redacted: bool = False

    def add(self, request: Request, answers: tuple[Evidence, ...]) -> "Case":
        exchange = Exchange(request=request, answers=answers)
        return msgspec.structs.replace(self, exchanges=(*self.exchanges, exchange))

    def until(self, ref: str) -> "Case":
        """The case as it was before the request with this ref; all of it when that was never asked."""
        before = itertools.takewhile(lambda x: x.request.ref != ref, self.exchanges)
        return msgspec.structs.replace(self, exchanges=tuple(before))

    @property
    def took(self) -> float:
        """Seconds from the start of the run to the last reading of the clock."""
        return max((a.took for a in self.evidence if isinstance(a, ClockFact)), default=0.0)

    @property
    def evidence(self) -> tuple[Evidence, ...]:
        return tuple(a for x in self.exchanges for a in x.answers)

    def asked(self, ref: str) -> bool:
        return any(x.request.ref == ref for x in self.exchanges)

    def answers(self, ref: str) -> tuple[Evidence, ...]:
        """Answers to the request with this ref; empty when it was never asked."""
        return tuple(a for x in self.exchanges if x.request.ref == ref for a in x.answers)

    def one(self, ref: str, kind: type[E]) -> E | None:
        """The first answer of that kind to that request, or None."""
        return next((a for a in self.answers(ref) if isinstance(a, kind)), None)

    def all(self, kind: type[E]) -> tuple[E, ...]:
        """Every answer of that kind, in the order of the plan."""
        return tuple(a for a in self.evidence if isinstance(a, kind))
