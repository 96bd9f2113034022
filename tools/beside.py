"""Runs shell commands side by side, shows what each said as a whole, in order, and ends with the worst status.

    python tools/beside.py COMMAND COMMAND...

Most of a test run is waiting: two halves of it in isolations of their own (tools/isolated) share nothing but the
processors. The first command writes as it goes; of the others each is shown once it, and those before it, ended.
Ctrl-C reaches all of them (they are one process group), and all of them are waited for.
"""

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from typing import IO


def _end(process: subprocess.Popen[bytes]) -> int:
    """Its status, in the way of a shell; however often Ctrl-C is pressed meanwhile."""
    while True:
        try:
            status = process.wait()
        except KeyboardInterrupt:
            continue
        return status if status >= 0 else 128 - status


def run(commands: Sequence[str]) -> int:
    """Run ``commands``, each by a shell. Returns the first status that is not 0, or 0."""
    with ExitStack() as files:
        kept: list[IO[bytes] | None] = [None, *(files.enter_context(tempfile.TemporaryFile()) for _ in commands[1:])]
        started = [
            subprocess.Popen(c, shell=True, stdin=subprocess.DEVNULL, stdout=f, stderr=f and subprocess.STDOUT)
            for c, f in zip(commands, kept, strict=True)
        ]
        statuses = []
        for process, said in zip(started, kept, strict=True):
            statuses.append(_end(process))
            if said is not None:
                said.seek(0)
                sys.stdout.flush()
                sys.stdout.buffer.write(said.read())
                sys.stdout.flush()
    return next((s for s in statuses if s), 0)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
