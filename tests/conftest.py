"""Minutes of each suite at the end of a run: the folder (or file) under tests/ that the time was spent in."""

from collections import Counter
from pathlib import Path

import pytest

HERE = Path(__file__).parent
_seconds: Counter[str] = Counter()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    name = Path(report.location[0])
    parts = (HERE.parent / name).relative_to(HERE).parts
    _seconds[parts[0].removeprefix("test_").removesuffix(".py")] += report.duration


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for suite, seconds in sorted(_seconds.items()):
        terminalreporter.write_line(f"{suite}: {seconds / 60:.1f} min")
