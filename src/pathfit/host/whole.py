"""A file that is written whole or not at all."""

import contextlib
import os
import stat
from pathlib import Path


def write(path: Path, data: bytes) -> None:
    """Write ``path`` whole or not at all, readable by its owner only. Raises OSError.

    What stands there and is no regular file (/dev/null, a pipe) is written into, and stays what it is.
    """
    try:
        special = not stat.S_ISREG(os.stat(path).st_mode)
    except FileNotFoundError:
        special = False
    if special:
        with open(path, "wb") as f:
            f.write(data)
        return
    target = Path(os.path.realpath(path))  # through a link, as any program would
    part = target.with_name(f".{target.name[:200]}.{os.urandom(4).hex()}.part")
    try:
        fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(fd, "wb") as f:
            f.write(data)
            f.flush()
            os.fsync(f.fileno())
        os.replace(part, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(part)
        raise
