"""The labs, built once for all tests here."""

import pytest

from oracle.labs import COUNT, FIXED, fresh, jobs
from oracle.run import Run, many


@pytest.fixture(scope="session")
def fixed() -> list[Run]:
    return list(many(FIXED, jobs()))


@pytest.fixture(scope="session")
def unseen() -> list[Run]:
    return list(many(range(fresh(), fresh() + COUNT), jobs()))
