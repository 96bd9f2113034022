"""Case folders on disk: ``DIR/case.json`` (everything asked and answered), ``report.json``, ``report.txt``.

A case folder is the format of a bug report and of a regression test. It comes from strangers, so opening is bounded
in size, refuses what is no regular file, and validates before anything is believed (core.codec).
"""

import contextlib
import os
import stat
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pathfit import __version__
from pathfit.cli.stop import CANNOT, Stop, line
from pathfit.core import codec
from pathfit.core.case import SCHEMA, Case
from pathfit.core.evidence import Evidence, FleetFact, StateFact
from pathfit.core.snapshot import HostSnapshot

if TYPE_CHECKING:
    from pathlib import Path

CASE, REPORT, TEXT = "case.json", "report.json", "report.txt"
MOST_BYTES = 256 << 20  # a host of 1000 containers is about 30 MB; more than this is no case of ours


def prepare(folder: "Path") -> None:
    """Make ``folder``. Raises Stop (2) when it could not hold a case."""
    again = f"--save {folder}-2" if folder.name.strip(".") else "--save ./case-1"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        others = {p.name for p in folder.iterdir()} - {CASE, REPORT, TEXT}
    except OSError as e:
        raise Stop(f"cannot save in {folder}: {e.strerror}", "--save ./case-1") from None
    if others:
        raise Stop(f"cannot save in {folder}: it holds other files ({sorted(others)[0]})", again)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise Stop(f"cannot save in {folder}: not writable", "--save ./case-1")


@contextlib.contextmanager
def prepared(folder: "Path | None") -> Iterator[None]:
    """``folder`` is there before the examination starts; it is taken away again when nothing came into it."""
    if folder is None:
        yield
        return
    made = [p for p in (folder, *folder.parents) if not os.path.lexists(p)]
    try:
        prepare(folder)
        yield
    finally:
        with contextlib.suppress(OSError):
            for path in made:
                path.rmdir()


def save(folder: "Path", case: Case, report: bytes, text: str) -> None:
    """Write the three files; they appear whole, and together or not at all. Raises Stop (3).

    Passwords of proxies (in the source's environment, in an engine's configuration) are no part of a case.
    """
    from pathfit.core.secrets import masked

    data = {CASE: masked(codec.dump(case).decode()).encode(), REPORT: report, TEXT: text.encode()}
    parts = {name: folder / (name + ".part") for name in data}
    try:
        try:
            for name, part in parts.items():
                part.write_bytes(data[name])
            for name, part in parts.items():
                part.replace(folder / name)
        finally:
            for part in parts.values():
                part.unlink(missing_ok=True)
    except OSError as e:
        raise Stop(f"cannot save in {folder}: {e.strerror}", line("df", folder), CANNOT) from None


def open_case(folder: "Path") -> Case:
    """Open a saved case. Raises Stop (3): not there, damaged, or made by a newer version."""
    data = read(folder / CASE)
    try:
        case = codec.load(data, Case, schema=SCHEMA, version=__version__)
        for n, answer in enumerate(case.evidence):
            for host in _hosts(answer):
                _possible(host, n)
    except codec.OpenError as e:
        raise Stop(f"{folder / CASE}: {e}", line("ls", "-l", folder), CANNOT) from None
    return case


def _hosts(answer: Evidence) -> tuple[HostSnapshot, ...]:
    """What an answer says of hosts."""
    if isinstance(answer, FleetFact):
        return tuple(o.host for o in answer.hosts)
    return (answer.host,) if isinstance(answer, StateFact) else ()


def _possible(host: HostSnapshot, n: int) -> None:
    """A case comes from strangers as a snapshot does. Raises OpenError for what no kernel says."""
    from pathfit.core.sane import Impossible, check

    try:
        check(host)
    except Impossible as e:
        raise codec.OpenError(f"damaged {SCHEMA}, answer {n}: {e}") from None


def read(path: "Path") -> bytes:
    """A regular file of bounded size. Raises Stop (3); never waits on a pipe or device."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as e:
        why = e.strerror if isinstance(e, OSError) else "no such path can exist"
        raise Stop(f"cannot open {path}: {why}", line("ls", _there(path)), CANNOT) from None
    try:
        what = os.fstat(fd)
        if not stat.S_ISREG(what.st_mode):
            raise Stop(f"{path} is not a regular file", line("ls", "-l", path.parent), CANNOT)
        data = b"" if what.st_size > MOST_BYTES else _all_of(fd)
    except OSError as e:
        raise Stop(f"cannot read {path}: {e.strerror}", line("ls", "-l", path.parent), CANNOT) from None
    finally:
        os.close(fd)
    if max(what.st_size, len(data)) > MOST_BYTES:
        raise Stop(f"{path} is larger than {MOST_BYTES >> 20} MB", line("ls", "-l", path.parent), CANNOT)
    return data


def _there(path: "Path") -> "Path":
    """The nearest folder above that exists."""
    return next((p for p in path.parents if os.path.isdir(str(p).replace("\0", "?"))), type(path)("."))


def _all_of(fd: int) -> bytes:
    """What a file holds, up to a byte more than we take."""
    with open(fd, "rb", closefd=False) as f:
        return f.read(MOST_BYTES + 1)
