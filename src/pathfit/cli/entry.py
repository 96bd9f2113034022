"""The console script. ``--version`` answers from a constant, without importing anything that costs time.

This is the last border: whatever comes up to here ends in one sentence and an exit status, never in a traceback
(``-v`` shows one).
"""

import _signal  # type: ignore[import-not-found]
import gc
import os
import sys
from types import ModuleType

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
        _spared()
        from pathfit.cli.border import guarded

        return guarded(sys.argv[1:])
    except KeyboardInterrupt:  # before the border stood
        print("\npathfit: interrupted", file=sys.stderr)
        return 130


class Later(ModuleType):
    """Stands for a module that is imported when something of it is first asked for. (importlib.util.LazyLoader's are
    loaded by the next import statement, which asks for ``__spec__``.)"""

    def __getattr__(self, name: str) -> object:
        from importlib import import_module

        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(import_module(self.__name__), name)


def _spared() -> None:
    """Let msgspec, click and socket not import what is not used here; it costs 10 ms before our first packet.

    Where somebody has installed typing_extensions, msgspec asks it for what typing itself has since Python 3.11: asking
    is made to fail. And click would translate its messages: what pathfit says, it says in the language it is asked for.
    """
    for name in ("inspect", "textwrap", "selectors", "msgspec.inspect"):
        if name not in sys.modules:
            sys.modules[name] = Later(name)
    if "typing_extensions" not in sys.modules:
        sys.modules["typing_extensions"] = None  # type: ignore[assignment]  # importing it: ModuleNotFoundError
        try:
            import msgspec  # noqa: F401
        finally:
            del sys.modules["typing_extensions"]
    if "gettext" not in sys.modules:
        sys.modules["gettext"] = untranslated = ModuleType("gettext")
        untranslated.gettext = lambda text: text  # type: ignore[attr-defined]
        untranslated.ngettext = lambda one, many, n: one if n == 1 else many  # type: ignore[attr-defined]
        try:
            import click  # noqa: F401
        finally:
            del sys.modules["gettext"]
