"""The one door to the world.

``live.LiveWorld`` (this machine) and ``replay.ReplayWorld`` (a dictionary) implement it; other hosts of a fleet
will. A World never raises for what it could not see: it answers :class:`~pathfit.core.evidence.Missing`.
"""

from typing import Protocol

from pathfit.core.evidence import Evidence
from pathfit.core.request import Request


class World(Protocol):
    """Answers requests with facts. Every answer carries the ``ref`` of its request."""

    def perform(self, request: Request) -> tuple[Evidence, ...]: ...
