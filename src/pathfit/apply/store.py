"""Journals on disk, and the lock that one repair holds at a time.

::

    STATE/journal/ID.json     one Journal, written whole: temporary name, fsync, rename, fsync of the folder
    STATE/unfinished/ID       an empty file, there from before the first journal until after the last
    STATE/lock                flock(2), held by whoever repairs or undoes; its text says who (for people)

So `unfinished` answers with one listdir whether anything was interrupted, and a lock that nobody holds says that its
repair does not run any more, also across pid namespaces. Journals hold files of the machine as they were: only their
owner may read them, and one that somebody else could have written is not believed.
"""

import fcntl
import os
import re
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from pathfit import __version__
from pathfit.apply.files import sync_folder
from pathfit.core import codec
from pathfit.core.journal import FINAL, SCHEMA, Journal
from pathfit.host import procfs
from pathfit.host.clock import now, wait, wall

ID = re.compile(r"[0-9]{8}-[0-9]{6}-[0-9a-f]{4}")
MOST_BYTES = 64 << 20
PATIENCE = 2.0  # seconds for the lock: a repair that has just ended lets go in milliseconds


class Busy(Exception):
    """Somebody else repairs. The message says who."""


class Unreadable(NamedTuple):
    """A journal that cannot be opened, and why."""

    id: str
    why: str


def state_dir() -> Path:
    """$PATHFIT_STATE; else /var/lib/pathfit for root, the XDG state folder for others."""
    if given := os.environ.get("PATHFIT_STATE"):
        return Path(given)
    if os.geteuid() == 0:
        return Path("/var/lib/pathfit")
    home = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return Path(home) / "pathfit"


def boot_id() -> str:
    """Differs after every start of the machine."""
    return procfs.maybe("/proc/sys/kernel/random/boot_id")


def new_id() -> str:
    """Sorts by time: the last four digits are the fraction of the second."""
    seconds = wall()
    return time.strftime("%Y%m%d-%H%M%S-", time.gmtime(seconds)) + f"{int(seconds % 1 * 0x10000):04x}"


def unfinished(folder: Path | None = None) -> list[str]:
    """Ids of repairs that were begun and not ended; one listdir."""
    return [n for n in procfs.names(str((folder or state_dir()) / "unfinished")) if ID.fullmatch(n)]


class Store:
    """The journals of one state folder. ``hook`` is called with a word at every point where a test may end us."""

    def __init__(self, folder: Path | None = None, hook: Callable[[str], None] | None = None) -> None:
        self.folder = folder or state_dir()
        self.hook = hook or (lambda at: None)
        self._holds = False

    # -- journals -------------------------------------------------------------------------------------------------

    def write(self, journal: Journal) -> Journal:
        """On disk when this returns. Raises OSError; then what was there before still stands."""
        folder, marks = self.folder / "journal", self.folder / "unfinished"
        for one in (folder, marks):
            one.mkdir(parents=True, exist_ok=True, mode=0o700)
        mark = marks / journal.id
        if journal.state not in FINAL and not mark.exists():
            mark.touch(mode=0o600)
            sync_folder(str(marks))
            self.hook("marked")
        path, part = folder / f"{journal.id}.json", folder / f"{journal.id}.part"
        fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with open(fd, "wb") as f:
            f.write(codec.dump(journal))
            f.flush()
            self.hook("written")
            os.fsync(fd)
        os.rename(part, path)
        self.hook("renamed")
        sync_folder(str(folder))
        if journal.state in FINAL:
            self.unmark(journal.id)
        self.hook(f"journal {journal.state}")
        return journal

    def unmark(self, name: str) -> None:
        """Nothing is left to be finished of this one."""
        with suppress(FileNotFoundError):
            (self.folder / "unfinished" / name).unlink()

    def load(self, name: str) -> Journal:
        """Raises codec.OpenError (not there, not ours, damaged, newer)."""
        if not ID.fullmatch(name):
            raise codec.OpenError(f"{name[:40]!r} is no id of a repair")
        path = self.folder / "journal" / f"{name}.json"
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            raise codec.OpenError(f"there is no repair {name}") from None
        except OSError as e:
            raise codec.OpenError(f"{path}: {e.strerror}") from None
        try:
            _trusted(path, os.fstat(fd))
            with open(fd, "rb", closefd=False) as f:
                journal = codec.load(f.read(MOST_BYTES), Journal, schema=SCHEMA, version=__version__)
        finally:
            os.close(fd)
        if journal.id != name:
            raise codec.OpenError(f"{path}: holds another repair ({journal.id[:40]})")
        return journal

    def ids(self) -> list[str]:
        """Of all journals, oldest first."""
        names = (n.removesuffix(".json") for n in procfs.names(str(self.folder / "journal")) if n.endswith(".json"))
        return [n for n in names if ID.fullmatch(n)]

    def all(self) -> list[Journal | Unreadable]:
        """Every journal, oldest first."""
        found: list[Journal | Unreadable] = []
        for name in self.ids():
            try:
                found.append(self.load(name))
            except codec.OpenError as e:
                found.append(Unreadable(name, str(e)))
        return found

    def interrupted(self) -> list[Journal | Unreadable]:
        """Repairs that were begun, did not end, and that nobody works on. Raises OSError."""
        names = unfinished(self.folder)
        if not names or self.held():
            return []
        found: list[Journal | Unreadable] = []
        for name in names:
            try:
                journal = self.load(name)
            except codec.OpenError as e:
                if (self.folder / "journal" / f"{name}.json").exists():
                    found.append(Unreadable(name, str(e)))
                elif os.access(self.folder, os.W_OK):
                    self.unmark(name)  # ended before its first journal: nothing was changed
                continue
            if journal.state in FINAL:
                self.unmark(name)
            else:
                found.append(journal)
        return found

    # -- the lock -------------------------------------------------------------------------------------------------

    @contextmanager
    def locked(self, who: str, patience: float = PATIENCE) -> Iterator[None]:
        """Nobody else repairs in the meantime. Raises Busy, OSError. The kernel lets go when we end, however."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        fd = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            until = now() + patience
            while not _take(fd):
                if now() >= until:
                    raise Busy(os.pread(fd, 500, 0).decode("utf-8", "backslashreplace").strip() or "another pathfit")
                wait(0.05)
            os.ftruncate(fd, 0)
            os.pwrite(fd, f"process {os.getpid()}: {who}\n".encode(), 0)
            self._holds = True
            try:
                yield
            finally:
                self._holds = False
                os.ftruncate(fd, 0)
        finally:
            os.close(fd)

    def held(self) -> bool:
        """Does somebody repair now (other than this object)?"""
        if self._holds:
            return False
        try:
            fd = os.open(self.folder / "lock", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            return False
        try:
            return not _take(fd, fcntl.LOCK_SH)  # shared: two that look do not see each other
        finally:
            os.close(fd)


def _take(fd: int, kind: int = fcntl.LOCK_EX) -> bool:
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _trusted(path: Path, what: os.stat_result) -> None:
    """Only what we (or root) wrote, and nobody else could have, is performed. Raises codec.OpenError."""
    if not stat.S_ISREG(what.st_mode) or what.st_size > MOST_BYTES:
        raise codec.OpenError(f"{path} is no journal")
    if what.st_uid not in (0, os.geteuid()) or what.st_mode & 0o022:
        raise codec.OpenError(f"{path} could have been written by somebody else: it is not believed")
