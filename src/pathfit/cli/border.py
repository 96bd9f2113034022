"""Signals, streams, and the border where every way to end becomes one sentence and an exit status."""

import errno
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType

from pathfit.cli.stop import CANNOT, INTERRUPTED, OR, Ended, Stop, line
from pathfit.cli.talk import plain, sentence, to_nowhere, told

_FULL = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO))  # what writing to stdout may say


def guarded(argv: Sequence[str]) -> int:
    """Run the command line; returns the exit status. Raises nothing."""
    try:
        return _guarded(argv)
    except KeyboardInterrupt:  # before, or after, the command ran
        told("\npathfit: interrupted")
        return INTERRUPTED
    except Ended as e:
        return e.status


def _guarded(argv: Sequence[str]) -> int:
    _catch_signals()
    _mend_streams(ascii_only=plain(os.environ) and "zh" not in argv and "--lang=zh" not in argv)
    verbose = any(a == "-v" or (a[:1] == "-" and a[:2] != "--" and a[1:].strip("v46") == "" and "v" in a) for a in argv)
    _silence(verbose)
    status = _run(argv, verbose)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # all is said; ending takes a few milliseconds
        signal.signal(number, signal.SIG_IGN)
    status = _flush(status)
    if status == INTERRUPTED:
        # Not through the interpreter's end: it would join threads, and an interrupt that came inside exec() (every
        # dataclass at import) would make CPython 3.11 end by the signal itself (_Py_UnhandledKeyboardInterrupt).
        os._exit(status)
    return status


def _run(argv: Sequence[str], verbose: bool) -> int:
    try:
        from pathfit.cli.app import run

        return run(argv)
    except Stop as e:
        sentence(e.message, _typed(argv, e.how))
        return e.status
    except KeyboardInterrupt:
        told("\npathfit: interrupted")
        return INTERRUPTED
    except Ended as e:
        return e.status
    except BrokenPipeError as e:
        return unprinted(e)
    except OSError as e:
        if e.errno in _FULL and e.filename is None:
            return unprinted(e)
        return _defect(e, argv, verbose, f"{e.strerror or e}{f': {e.filename}' if e.filename else ''}")
    except Exception as e:
        if not isinstance(e.__cause__, Exception | None):
            # A signal in disguise: what comes while a class is made, at an import, Python before 3.12 wraps in a
            # RuntimeError (type_new_set_names()).
            raise e.__cause__ from None
        return _defect(e, argv, verbose, f"{type(e).__name__}: {e}")


def _defect(e: BaseException, argv: Sequence[str], verbose: bool, text: str) -> int:
    if verbose:
        import traceback

        traceback.print_exception(e, file=sys.stderr)
    how = f"{_command(argv, '--verbose')}   (and report what it prints)"
    sentence(f"stopped by an unexpected error: {text}", how)
    return CANNOT


def unprinted(e: OSError) -> int:
    """stdout took nothing: the exit status."""
    to_nowhere(sys.stdout)
    if isinstance(e, BrokenPipeError):
        return 0  # the reader has seen enough (head, less); that is no fault of the network
    sentence(f"cannot write the output: {e.strerror}", "df -h .")
    return CANNOT


def _typed(argv: Sequence[str], how: str) -> str:
    """``how`` as whole command lines: "--from netns:x" becomes this command with that option changed, "without -4"
    this command without it."""
    return OR.join(_whole(argv, part) for part in how.split(OR))


def _whole(argv: Sequence[str], part: str) -> str:
    if part.startswith("without -"):
        return line("pathfit", *(word for word in argv if word not in part.split()[1:]))
    return _command(argv, part) if part.startswith("--") else part


def _command(argv: Sequence[str], change: str) -> str:
    option, *value = change.split(" ", 1)
    words = list(argv)
    for n, word in enumerate(words):
        if word == option:
            words[n : n + 1 + len(value)] = [option, *value]
            break
        if word.startswith(option + "=") and value:
            words[n] = f"{option}={value[0]}"
            break
    else:
        words += [option, *value]
    return line("pathfit", *words)


_interrupts = 0


def _catch_signals() -> None:
    """The first Ctrl-C unwinds and cleans up; the second is answered, the third ends at once.

    A signal that our parent had ignored (``nohup``, ``&`` of a script) stays ignored.
    """
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
        signal.signal(signal.SIGINT, _on_interrupt)
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, _on_end)


def _on_interrupt(number: int, frame: FrameType | None) -> None:
    global _interrupts
    _interrupts += 1
    if _interrupts == 1:
        raise KeyboardInterrupt
    if _interrupts > 2:
        os._exit(INTERRUPTED)
    os.write(2, b"\npathfit: putting things away; once more to stop at once\n")


def _on_end(number: int, frame: FrameType | None) -> None:
    signal.signal(number, _on_end_again)
    raise Ended(number)


def _on_end_again(number: int, frame: FrameType | None) -> None:
    os._exit(128 + number)


def _mend_streams(*, ascii_only: bool) -> None:
    """What cannot be shown is escaped, never an error; a closed stream is nowhere, never an error."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - lives as long as we do
        else:
            stream.reconfigure(encoding="ascii" if ascii_only else None, errors="backslashreplace")


def _silence(verbose: bool) -> None:
    """Warnings and tracebacks of threads are for those who ask with -v."""
    if verbose:
        return
    import warnings

    warnings.simplefilter("ignore")
    if (threads := sys.modules.get("threading")) is not None:  # costs a millisecond, and hardly anything has threads
        threads.excepthook = lambda args: None  # type: ignore[attr-defined]
    sys.unraisablehook = lambda args: None


def _flush(status: int) -> int:
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        to_nowhere(sys.stdout)
    except OSError as e:
        return unprinted(e)
    try:
        sys.stderr.flush()
    except OSError:
        to_nowhere(sys.stderr)
    return status
