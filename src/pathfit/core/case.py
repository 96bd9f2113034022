"""One run: the question, every request with its answer, in the order of the plan."""

from pathfit.core.ask import Ask
from pathfit.core.base import Value
from pathfit.core.evidence import Evidence
from pathfit.core.request import Request

SCHEMA = "pathfit.case/1"


class Exchange(Value, frozen=True, kw_only=True):
    """A request and what the world answered."""

    request: Request
    answers: tuple[Evidence, ...]


class Case(Value, frozen=True, kw_only=True):
    """The question and all exchanges so far. ``add`` returns a new case."""

    schema: str  # SCHEMA, always written
    version: str
    ask: Ask
    exchanges: tuple[Exchange, ...] = ()
    took: float = 0.0  # seconds, from the examine loop's clock

    def add(self, request: Request, answers: tuple[Evidence, ...]) -> "Case":
        exchange = Exchange(request=request, answers=answers)
        return Case(
            ask=self.ask,
            version=self.version,
            exchanges=(*self.exchanges, exchange),
            took=self.took,
            schema=self.schema,
        )

    def done(self, took: float) -> "Case":
        return Case(ask=self.ask, version=self.version, exchanges=self.exchanges, took=took, schema=self.schema)

    @property
    def evidence(self) -> tuple[Evidence, ...]:
        return tuple(a for x in self.exchanges for a in x.answers)

    def answers(self, ref: str) -> tuple[Evidence, ...]:
        """Answers to the request with this ref; empty when it was never asked."""
        return tuple(a for x in self.exchanges if x.request.ref == ref for a in x.answers)
