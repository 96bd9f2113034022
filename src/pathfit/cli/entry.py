"""The console script. ``--version`` answers from a constant, without importing anything that costs time.

This is the last border: whatever comes up to here ends in one sentence and an exit status, never in a traceback
(``-v`` shows one).
"""

import _signal  # type: ignore[import-not-found]
import gc
import os
import sys

from pathfit import __version__

if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
    # Until the border's own handler stands, Ctrl-C just ends us: Python's would show where it came. (_signal, because
    # signal costs three milliseconds for its enums.)
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)

SELDOM = 50_000  # objects between two searches for cycles; we make few, and the default of 700 costs 10 ms of imports


def main() -> int:
    """Run the command line on ``sys.argv`` and end the process; only what imports nothing comes back, with a status."""
    gc.set_threshold(SELDOM)
    status = _main()
    if "pathfit.cli.border" in sys.modules:  # it has flushed both streams
        # Taking every module and value apart again costs as much as making them did. What must be put away (labs,
        # namespaces, files) was put away on the way up to here; nothing of ours waits for atexit.
        os._exit(status)
    return status


def _main() -> int:
    if sys.argv[1:] == ["--version"]:
        try:
            print("pathfit", __version__, flush=True)
            return 0
        except OSError as e:
            from pathfit.cli.border import unprinted

            return unprinted(e)
    try:
        from pathfit.cli.border import guarded

        return guarded(sys.argv[1:])
    except KeyboardInterrupt:  # before the border stood
        print("\npathfit: interrupted", file=sys.stderr)
        return 130
