"""Files: the new one appears whole in place of the old one, or nothing has happened.

Written beside it under a name of the repair's own, with the same owner, mode and extended attributes, synced, renamed
over it, and the folder synced. Symbolic links are followed to the file they mean. A file that is not as it was read is
somebody else's work by now: neither written over, nor undone.
"""

import errno
import os
import re
import stat
from contextlib import suppress

from pathfit.apply.step import Foreign, Impossible
from pathfit.core.change import WriteFile
from pathfit.core.journal import FileBefore

MOST_LINKS = 40  # MAXSYMLINKS, include/linux/namei.h
MOST_BYTES = 8 << 20  # of a configuration file
_OTHER_ROOT = re.compile(r"(/proc/[0-9]+/root)(/.*)?")


class File:
    """Step of :class:`~pathfit.core.change.WriteFile`."""

    lasting = True

    def late(self, prepared: object) -> bool:
        return False

    def prepare(self, change: WriteFile, tag: str) -> FileBefore:
        real = followed(change.path)
        new = change.new.encode()
        found = _read(real)
        expected = None if change.old is None else change.old.encode()
        if found is None or found[0] != expected:
            now = None if found is None else found[0]
            if now != expected:
                raise Impossible(f"{change.path} has changed since it was read", "")
        if found is None:
            return FileBefore(real=real, new=new, mode=change.mode, folders=_missing_folders(real))
        old, what = found
        if what.st_nlink > 1:
            raise Impossible(f"{change.path} is one of {what.st_nlink} hard links to a file", f"ls -li {change.path}")
        return FileBefore(
            real=real,
            new=new,
            old=old,
            mode=stat.S_IMODE(what.st_mode),
            uid=what.st_uid,
            gid=what.st_gid,
            mtime=what.st_mtime_ns,
            xattrs={name: os.getxattr(real, name) for name in _xattrs(real)},
        )

    def perform(self, change: WriteFile, prepared: FileBefore, tag: str) -> None:
        now = _read(prepared.real)
        if now is not None and now[0] == prepared.new:
            return
        if (None if now is None else now[0]) != prepared.old:
            raise Foreign(f"{prepared.real} was changed by somebody else meanwhile")
        for folder in prepared.folders:
            with suppress(FileExistsError):
                os.mkdir(folder, 0o755)
            sync_folder(os.path.dirname(folder))
        _replace(prepared, prepared.new, tag)

    def undo(self, change: WriteFile, prepared: FileBefore, tag: str) -> None:
        with suppress(FileNotFoundError):
            os.unlink(_beside(prepared.real, tag))
        now = _read(prepared.real)
        content = None if now is None else now[0]
        if content == prepared.old:
            self._folders(prepared)
            return
        if content != prepared.new:
            what = "removed" if content is None else "changed"
            raise Foreign(f"{prepared.real} was {what} by somebody else since; it is left as it is")
        if prepared.old is None:
            os.unlink(prepared.real)
            sync_folder(os.path.dirname(prepared.real))
            self._folders(prepared)
        else:
            _replace(prepared, prepared.old, tag)
            os.utime(prepared.real, ns=(prepared.mtime, prepared.mtime))

    def _folders(self, prepared: FileBefore) -> None:
        """Folders we made go again, unless somebody has put something there."""
        for folder in reversed(prepared.folders):
            with suppress(OSError):
                os.rmdir(folder)

    def holds(self, change: WriteFile, prepared: FileBefore) -> bool:
        now = _read(prepared.real)
        return now is not None and now[0] == prepared.new


def followed(path: str) -> str:
    """The file that a path means, its symbolic links followed; the last part need not exist.

    Below /proc/PID/root the links mean what they mean there (realpath(3) would leave that root by its own link).
    Raises Impossible.
    """
    inside = _OTHER_ROOT.fullmatch(path)
    root, todo = (inside[1], inside[2] or "/") if inside else ("", path)
    if not todo.startswith("/"):
        raise Impossible(f"{path} is not an absolute path")
    done: list[str] = []
    waiting = [p for p in todo.split("/") if p not in ("", ".")][::-1]
    links = 0
    while waiting:
        part = waiting.pop()
        if part == "..":
            done = done[:-1]
            continue
        try:
            target = os.readlink("/".join((root, *done, part)))
        except OSError:
            done.append(part)
            continue
        links += 1
        if links > MOST_LINKS:
            raise Impossible(f"{path} goes round in circles", f"namei {path}")
        if target.startswith("/"):
            done = []
        waiting += [p for p in target.split("/") if p not in ("", ".")][::-1]
    return "/".join((root, *done))


def _read(path: str) -> tuple[bytes, os.stat_result] | None:
    """Content and facts of a regular file, None when there is none. Raises OSError, Impossible."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    with open(fd, "rb") as f:
        what = os.fstat(fd)
        if not stat.S_ISREG(what.st_mode):
            raise Impossible(f"{path} is no regular file", f"ls -l {path}")
        data = f.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise Impossible(f"{path} is larger than {MOST_BYTES >> 20} MB", f"ls -l {path}")
    return data, what


def _replace(prepared: FileBefore, data: bytes, tag: str) -> None:
    """``data`` in place of what is there. Raises OSError; then the old file still stands, and nothing beside it."""
    part = _beside(prepared.real, tag)
    with suppress(FileNotFoundError):
        os.unlink(part)
    fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(fd, "wb") as f:
            f.write(data)
            f.flush()
            if prepared.old is not None:
                os.fchown(fd, prepared.uid, prepared.gid)
            os.fchmod(fd, prepared.mode)
            for name, value in prepared.xattrs.items():
                os.setxattr(fd, name, value)
            os.fsync(fd)
        os.rename(part, prepared.real)
    except OSError:
        with suppress(OSError):
            os.unlink(part)
        raise
    sync_folder(os.path.dirname(prepared.real))


def _beside(path: str, tag: str) -> str:
    folder, _, name = path.rpartition("/")
    return f"{folder}/.{name}.pathfit-{tag}"


def sync_folder(path: str) -> None:
    """A rename is on disk once its folder is (fsync(2))."""
    fd = os.open(path or "/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    except OSError as e:
        if e.errno != errno.EINVAL:  # some file systems cannot, and need not
            raise
    finally:
        os.close(fd)


def _xattrs(path: str) -> list[str]:
    try:
        return os.listxattr(path)
    except OSError:
        return []


def _missing_folders(path: str) -> tuple[str, ...]:
    """Folders above a file that do not exist, outermost first."""
    found: list[str] = []
    folder = os.path.dirname(path)
    while folder not in ("", "/") and not os.path.isdir(folder):
        found.insert(0, folder)
        folder = os.path.dirname(folder)
    return tuple(found)
