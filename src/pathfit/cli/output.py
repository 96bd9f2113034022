"""What a command makes, where it was asked for: on stdout, or in a file that is written whole or not at all."""

import sys
from pathlib import Path

from pathfit.cli.stop import CANNOT, Stop
from pathfit.cli.talk import readers_may_leave


def put(output: str, data: bytes, how: str) -> None:
    """``output``: a path, or "-". ``how``: what to type where it cannot be written. Raises Stop (3)."""
    if output == "-":
        with readers_may_leave():
            sys.stdout.flush()
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
        return
    from pathfit.host import whole

    path = Path(output)
    try:
        whole.write(path, data)
    except (OSError, ValueError) as e:
        why = e.strerror if isinstance(e, OSError) else "no such path can exist"
        raise Stop(f"cannot write {path}: {why}", how, CANNOT) from None
