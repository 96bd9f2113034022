"""Run the real command line as a stranger would, and hold it to its promises.

:func:`pathfit` starts the installed command with a small clean environment, within bounds of time and memory, and
checks what holds for every run whatever it was asked (:func:`decent`): no traceback, nothing that a terminal would
obey, one of the promised exit statuses, and after an error a line that can be typed.
"""

import os
import re
import subprocess
import sys
import unicodedata
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, TypeVar

import pytest

METER = str(Path(__file__).with_name("meter.py"))
COMMAND = [str(Path(sys.executable).with_name("pathfit"))]
SECONDS = 20.0  # the default --timeout and what ending takes
MEGABYTES = 100  # 33 without taps; where `diagnose` looks at packets, libbpf, names of functions and rings beside it
STATUSES = (0, 1, 2, 3, 130)
ENVIRONMENT = {
    "PATH": os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin",
    "LANG": "C.UTF-8",
    "HOME": "/nonexistent",
    **{k: v for k, v in os.environ.items() if k in ("PATHFIT_ISOLATED", "PYTHONDONTWRITEBYTECODE", "PYTHONPATH")},
}


Case = TypeVar("Case", bound=Hashable)
Result = TypeVar("Result")


class Ended(NamedTuple):
    """How a run ended. ``out`` and ``err`` as text, undecodable bytes kept as surrogates."""

    status: int
    out: str
    err: str
    seconds: float
    megabytes: float

    @property
    def tries(self) -> list[str]:
        """The lines that can be typed, wherever they were said."""
        return [line.strip() for line in (self.out + self.err).splitlines() if line.strip().startswith("try: ")]


def pathfit(
    *words: str | bytes,
    before: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    seconds: float = SECONDS,
) -> Ended:
    """Run ``pathfit words`` (behind ``before``, such as `ip netns exec X`); checked with :func:`decent`."""
    return decent(run([*before, *COMMAND, *words], environment, seconds), seconds)


def run(command: Sequence[str | bytes], environment: Mapping[str, str] | None, seconds: float) -> Ended:
    """Run any command and measure it."""
    read, write = os.pipe()
    with subprocess.Popen(
        [sys.executable, "-I", "-S", METER, str(write), *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        pass_fds=(write,),
        start_new_session=True,
        env={**ENVIRONMENT, **(environment or {})},
    ) as process:
        os.close(write)
        with open(read, encoding="ascii") as report:
            try:
                out, err = process.communicate(timeout=seconds + 5)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, 9)
                out, err = process.communicate()
                raise AssertionError(f"still running after {seconds + 5} s: {command!r}\n{out!r}\n{err!r}") from None
            status, took, kilobytes = report.read().split()
    text = (out.decode("utf-8", "surrogateescape"), err.decode("utf-8", "surrogateescape"))
    return Ended(int(status), *text, float(took), int(kilobytes) / 1024)


def decent(ended: Ended, seconds: float = SECONDS) -> Ended:
    """What every run promises, whatever it was asked. Returns ``ended``."""
    said = f"\nstatus {ended.status}, {ended.seconds} s, {ended.megabytes} MB\n{ended.out}\n{ended.err}"
    assert "Traceback" not in ended.out + ended.err, said
    assert "report what it prints" not in ended.out + ended.err, said  # a defect of ours, said politely
    assert ended.status in STATUSES, said
    assert ended.seconds <= seconds, said
    assert ended.megabytes <= MEGABYTES, said
    assert not obeyed(ended.out + ended.err), said
    if ended.status in (2, 3):
        assert ended.tries or re.search(r'"how": "[^"]', ended.out), said
    return ended


def obeyed(text: str) -> set[str]:
    """Characters in ``text`` that a terminal would act on, or that are no text."""
    return {c for c in text if c != "\n" and unicodedata.category(c) in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")}


def masked(text: str, names: Iterable[tuple[str, str]]) -> str:
    """``text`` with what differs from run to run replaced: (pattern, word) in order."""
    for pattern, word in names:
        text = re.sub(pattern, word, text)
    return text


@contextmanager
def side_by_side(
    request: pytest.FixtureRequest, work: Callable[[Case], Result], workers: int
) -> Iterator[Callable[[Case], Result]]:
    """Results of ``work`` for every chosen ``case`` of this module, worked out several at a time, because most of them
    only wait. Use it in a fixture of module scope, and call what it yields in a test parametrized by "case"."""
    calls = [getattr(item, "callspec", None) for item in request.session.items if item.path == request.path]
    chosen: list[Case] = [call.params["case"] for call in calls if call is not None and "case" in call.params]
    with ThreadPoolExecutor(workers) as pool:
        under_way: dict[Case, Future[Result]] = {case: pool.submit(work, case) for case in chosen}
        try:
            yield lambda case: under_way[case].result()
        finally:
            pool.shutdown(cancel_futures=True)
