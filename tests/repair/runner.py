"""`pathfit` with something planted, for tests: python runner.py PLANT WORDS...

PLANT: "none"; "helpless" (the recommended repair promises the right size and sets another); "signal:NAME:POINT" (that
signal comes at that point of the first repair); "die:POINT" (kill -9 there).
"""

import os
import signal
import sys
from collections.abc import Callable

import msgspec

from pathfit.apply import store
from pathfit.cli.border import guarded


def helpless() -> None:
    from pathfit import remedies
    from pathfit.core.change import SetRouteMtu
    from pathfit.core.finding import Finding, Fix
    from pathfit.rules.view import View

    real = remedies.propose

    def worse(fix: Fix) -> Fix:
        changes = tuple(msgspec.structs.replace(c, mtu=1490) for c in fix.changes if isinstance(c, SetRouteMtu))
        return msgspec.structs.replace(fix, changes=changes)

    def propose(finding: Finding, view: View) -> tuple[Fix, ...]:
        return tuple(worse(fix) if fix.id == "route-mtu" else fix for fix in real(finding, view))

    remedies.propose = propose


def at(point: str, action: Callable[[], None]) -> None:
    """``action`` happens the first time a store passes ``point``."""
    init = store.Store.__init__
    done: list[bool] = []

    def hook(here: str) -> None:
        if here == point and not done:
            done.append(True)
            action()

    def planted(self: store.Store, folder: object = None, other: object = None) -> None:
        init(self, folder, hook)  # type: ignore[arg-type]

    store.Store.__init__ = planted  # type: ignore[method-assign, assignment]


def plant(what: str) -> None:
    kind, _, rest = what.partition(":")
    if kind == "helpless":
        helpless()
    elif kind == "signal":
        name, _, point = rest.partition(":")
        number = signal.Signals[name]
        if signal.getsignal(number) is signal.SIG_IGN:  # the tests run under nohup
            signal.signal(number, signal.SIG_DFL)
        at(point, lambda: signal.raise_signal(number))
    elif kind == "die":
        at(rest, lambda: os.kill(os.getpid(), signal.SIGKILL))


if __name__ == "__main__":
    plant(sys.argv[1])
    sys.exit(guarded(sys.argv[2:]))
