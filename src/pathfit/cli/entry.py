"""The console script. ``--version`` answers from a constant, without importing anything that costs time.

This is the last border: whatever comes up to here ends in one sentence and an exit status, never in a traceback
(``-v`` shows one).
"""

import sys

from pathfit import __version__


def main() -> int:
    """Run the command line on ``sys.argv``; returns the exit status. Never raises."""
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
