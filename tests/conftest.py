"""Tests run where nothing outside can be touched, however they were started; and minutes of each suite at the end of a
run: the folder (or file) under tests/ that the time was spent in."""

import os
import signal
import sys
from collections import Counter
from pathlib import Path

import pytest

from pathfit.cli import isolation

HERE = Path(__file__).parent
ISOLATES_ITSELF = "test_isolation.py"
_seconds: Counter[str] = Counter()


def pytest_configure(config: pytest.Config) -> None:
    """Begin again under tools/isolated, as `make test` does: labs of a bare `pytest` would be this machine's."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # `make test &` of a script: all we start would ignore it too
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if isolation.inside() or isolation.refused():
        return
    capture = config.pluginmanager.getplugin("capturemanager")
    if capture is not None:
        capture.stop_global_capturing()
    words = ["sh", str(isolation.SCRIPT), sys.executable, "-m", "pytest", *map(str, config.invocation_params.args)]
    os.chdir(config.invocation_params.dir)
    os.execvp("sh", words)


def only_ourselves() -> bool:
    """Are we root of a user namespace of our own, in which there is nobody else (user_namespaces(7))?"""
    return sum(int(line.split()[2]) for line in Path("/proc/self/uid_map").read_text().splitlines()) == 1


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Where that is refused no lab is built at all."""
    if item.get_closest_marker("real_root") and only_ourselves():
        pytest.skip("an ordinary user's own namespace has no other user, and no program goes into the kernel from it")
    if item.get_closest_marker("lab") and not isolation.inside() and item.path.name != ISOLATES_ITSELF:
        pytest.fail("labs are built in isolation only: " + " ".join(isolation.refused()), pytrace=False)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    name = Path(report.location[0])
    parts = (HERE.parent / name).relative_to(HERE).parts
    _seconds[parts[0].removeprefix("test_").removesuffix(".py")] += report.duration


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for suite, seconds in sorted(_seconds.items()):
        terminalreporter.write_line(f"{suite}: {seconds / 60:.1f} min")
