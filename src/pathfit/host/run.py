"""Other programs, where the kernel's own interface is not ours to speak (nft's text, service managers)."""

import os
import subprocess
from collections.abc import Mapping, Sequence
from typing import NamedTuple

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"  # where administrators' tools are
PATIENCE = 30.0  # seconds; nft answers in milliseconds unless somebody holds its lock


class Done(NamedTuple):
    """How a program ended: its exit status (127: there is none of that name) and what it said."""

    status: int
    out: str
    said: str


def run(
    words: Sequence[str], stdin: str = "", patience: float = PATIENCE, env: Mapping[str, str] | None = None
) -> Done:
    """Run a program to its end, in the namespace this thread stands in. Raises TimeoutError; never a shell. ``env``:
    variables besides ours.

    It is put in a session of its own: Ctrl-C on the terminal is for us alone, and a change is never left half made.
    """
    whole = {**os.environ, "LC_ALL": "C", "PATH": f"{os.environ.get('PATH', '')}:{PATH}", **(env or {})}
    try:
        done = subprocess.run(
            list(words),
            input=stdin,
            capture_output=True,
            text=True,
            errors="backslashreplace",
            timeout=patience,
            env=whole,
            start_new_session=True,
            check=False,
        )
    except FileNotFoundError:
        return Done(127, "", f"{words[0]}: not installed")
    except subprocess.TimeoutExpired:
        raise TimeoutError(110, f"no end after {patience:g} s", words[0]) from None
    return Done(done.returncode, done.stdout, done.stderr.strip())


def detached(words: Sequence[str], env: Mapping[str, str]) -> int:
    """Start a program that outlives us and our terminal (a session of its own, no streams); its pid. Raises OSError."""
    null = subprocess.DEVNULL
    whole = {**os.environ, **env}
    return subprocess.Popen(
        list(words), stdin=null, stdout=null, stderr=null, env=whole, cwd="/", start_new_session=True
    ).pid
