"""`probe` as one file on the standard library alone: what tools/onefile makes ``pathfit-probe.py`` of.

The same question, plan, measurement, rules and words as ``pathfit probe``, with a smaller :class:`World`: it reads no
state (no netlink, no filters, no sockets of others), so nothing is predicted, no cause inside the machine is named and
no repair proposed. What was measured, and what that proves, is the same to the byte. Names are resolved by the system's
resolver: this file stands where the asked client does.

It is written for Python 3.8; what is newer in these modules the generator rewrites.
"""

import argparse
import errno
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from pathfit import __version__
from pathfit.cli.asked import LONGEST, ask
from pathfit.cli.stop import CANNOT, INTERRUPTED, OR, USAGE, Stop
from pathfit.core.ask import Ask
from pathfit.core.case import Case
from pathfit.core.evidence import ClockFact, Evidence, Missing, NameFact, PlaceFact
from pathfit.core.request import Locate, Measure, MeasureHops, ReadClock, Request, ResolveName, TryFix

FILE = "pathfit-probe.py"
MOST_ADDRESSES = 32
PROXY_LIMIT = 4096  # bytes of one proxy variable
PLACES = "pathfit diagnose --from WHERE --to {0}   where pathfit is installed"
# getaddrinfo(3), in the words of NameFact.error
UNRESOLVED = {
    socket.EAI_NONAME: "nxdomain",
    socket.EAI_AGAIN: "timeout",
    socket.EAI_FAIL: "servfail",
    getattr(socket, "EAI_NODATA", socket.EAI_NONAME): "nodata",
}


class Alone:
    """A World without state: it measures, resolves names and reads the clock. What else is asked has no answer.

    ``verbose``: what went wrong is also shown as it was raised.
    """

    def __init__(self, timeout: float, verbose: bool = False) -> None:
        self._start = time.monotonic()
        self._verbose = verbose
        self._timeout = timeout
        self._do: dict[type, Callable[[Any], Evidence]] = {
            ReadClock: self._clock,
            Locate: place,
            ResolveName: resolve,
            Measure: _measure,
            MeasureHops: _hops,
            TryFix: _trial,
        }

    def perform(self, request: Request) -> tuple[Evidence, ...]:
        """Perform one request. Raises only KeyboardInterrupt."""
        do = self._do.get(type(request))
        if do is None:
            return ()
        if time.monotonic() - self._start >= self._timeout and not isinstance(request, ReadClock):
            return (_missing(request, "the time was up", "timeout", "--timeout 60"),)
        try:
            return (do(request),)
        except Exception as e:  # a border, as that of live.py: what goes wrong is said, and the rest goes on
            if self._verbose:
                _trace()
            return (_failed(request, e),)

    def _clock(self, r: ReadClock) -> Evidence:
        return ClockFact(ref=r.ref, took=round(time.monotonic() - self._start, 6))


def _failed(request: Request, e: Exception) -> Missing:
    from pathfit.host.alarm import Late

    if isinstance(e, PermissionError):
        return _missing(request, e.strerror or "not permitted", "permission", "sudo pathfit …")
    if isinstance(e, OSError):
        how = "ulimit -n 1024" if e.errno == errno.EMFILE else "--verbose"
        return _missing(request, e.strerror or str(e), "absent", how)
    if isinstance(e, Late):
        return _missing(request, str(e), "timeout", "--timeout 60")
    return _missing(request, f"{type(e).__name__}: {e}", "malformed", "--verbose")


def _trace() -> None:
    import traceback

    traceback.print_exc()


def _missing(request: Request, why: str, code: str, how: str) -> Missing:
    return Missing(ref=request.ref, what=f"{type(request).__name__} {request.ref}", why=why, how=how, code=code)


def place(r: Locate) -> Evidence:
    """Where we stand. Raw sockets are tried, not guessed; of the environment the proxy variables alone are kept."""
    try:
        socket.socket(socket.AF_INET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.IPPROTO_RAW).close()
        privileged = True
    except OSError:
        privileged = False
    proxies = {k: v[:PROXY_LIMIT] for k, v in os.environ.items() if k.lower().endswith("_proxy")}
    return PlaceFact(
        ref=r.ref,
        where=r.where,
        netns="own",
        label=socket.gethostname() or "host",
        environ=proxies,
        inside=True,
        privileged=privileged,
    )


def resolve(r: ResolveName) -> Evidence:
    """A name as this place's own resolver knows it, in its order (RFC 6724). What went wrong is in ``error``."""
    start = time.monotonic()
    only = r.families[0] if len(r.families) == 1 else None
    family = socket.AF_INET if only == 4 else socket.AF_INET6 if only == 6 else socket.AF_UNSPEC
    found: list[str] = []
    error = None
    try:
        every = socket.getaddrinfo(r.name, None, family, socket.SOCK_STREAM)
        found = list(dict.fromkeys(str(x[4][0]).partition("%")[0] for x in every))
    except socket.gaierror as e:
        error = UNRESOLVED.get(e.errno or 0, "servfail")
    except UnicodeError:
        error = "malformed"
    return NameFact(
        ref=r.ref,
        name=r.name,
        addresses=tuple(found[:MOST_ADDRESSES]),
        error=error,
        source="dns",
        more=max(0, len(found) - MOST_ADDRESSES),
        took=round(time.monotonic() - start, 6),
    )


def _measure(r: Measure) -> Evidence:
    from pathfit.probe.target import measure

    return measure(None, r)


def _hops(r: MeasureHops) -> Evidence:
    from pathfit.probe.tcp.hops import measure_hops

    return measure_hops(None, r)


def _trial(r: TryFix) -> Evidence:
    from pathfit.probe.tcp.trial import try_fix

    return try_fix(None, r)


# -- the command ------------------------------------------------------------------------------------------------------


def main(argv: Sequence[str] | None = None) -> int:
    """The command line of the one file; returns the exit status. Every error ends in a line that can be typed."""
    words = list(sys.argv[1:] if argv is None else argv)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    try:
        return _run(words)
    except Stop as e:
        _say(e.message, e.how)
        return e.status
    except KeyboardInterrupt:
        _say("interrupted", "")
        return INTERRUPTED
    except BrokenPipeError:
        from pathfit.cli.talk import to_nowhere

        to_nowhere(sys.stdout)  # the reader has seen enough
        return 0
    except Exception as e:
        if "-v" in words or "--verbose" in words:
            _trace()
        _say(f"stopped by an unexpected error: {type(e).__name__}: {e}", f"python3 {FILE} --verbose TARGET")
        return CANNOT


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> Any:
        raise Stop(message, f"python3 {FILE} --help", USAGE)


def _options(words: list[str]) -> dict[str, Any]:
    about = "How large packets may be on the way to TARGET and back, measured from here, without privileges."
    parser = _Parser(prog=FILE, description=about, allow_abbrev=False)
    parser.add_argument("target", metavar="TARGET", help="https://..., http://..., tcp://H:P, H:P, [v6]:P, H")
    parser.add_argument("-4", dest="v4", action="store_true", help="IPv4 only")
    parser.add_argument("-6", dest="v6", action="store_true", help="IPv6 only")
    parser.add_argument("--resolve", action="append", default=[], metavar="H:ADDR", help="take this address for H")
    parser.add_argument("--sni", metavar="NAME", help="server name to ask for in TLS")
    parser.add_argument("--proxy", metavar="URL|none", help="HTTP proxy (default: as the environment says)")
    parser.add_argument("--timeout", type=float, default=15.0, metavar="S", help="seconds for all of it (15)")
    parser.add_argument("--fast", action="store_true", help="less polite: no limit of connections")
    parser.add_argument("--json", dest="as_json", action="store_true", help="one JSON document (pathfit.report/1)")
    parser.add_argument("--lang", choices=["en", "zh"], help="language of the text (default: from LANG)")
    parser.add_argument("-v", "--verbose", action="store_true", help="show tracebacks")
    parser.add_argument("--version", action="version", version=f"pathfit {__version__}")
    return vars(parser.parse_args(words))


def _run(words: list[str]) -> int:
    from pathfit.cli.talk import style
    from pathfit.render import command

    command.PROBE = ["python3", FILE]
    o = _options(words)
    look = style(o["lang"])
    question = ask("probe", "host", o["target"], look.lang, o)
    if question.target.where is not None:
        raise Stop(f"'{o['target']}' is a place, and this file knows none but its own", PLACES.format(o["target"]))
    case = _examine(question, o["verbose"])

    from pathfit import diagnose
    from pathfit.render import json, text

    report = diagnose.report(case, _rules())
    if o["as_json"]:
        sys.stdout.buffer.write(json.dump(report))
    else:
        shown = text.render(report, lang=look.lang, width=look.width, ascii_only=look.ascii)
        sys.stdout.buffer.write(shown.encode("utf-8", "replace"))
    sys.stdout.flush()
    return diagnose.exit_status(report)


def _examine(question: Ask, verbose: bool) -> Case:
    from pathfit import examine
    from pathfit.host.alarm import Late, alarm

    if not sys.platform.startswith("linux"):
        raise Stop("only Linux can be examined live", f"python3 {FILE} TARGET   in a container of Linux", CANNOT)
    try:
        with alarm(question.timeout):
            return examine.run(question, Alone(question.timeout, verbose))
    except Late as e:
        raise Stop(str(e), f"--timeout {min(LONGEST, max(60, question.timeout * 4)):g}", CANNOT) from None


def _rules() -> Sequence[Any]:
    """Those that live on measurement. What names a cause in the machine's own state has nothing to look at here."""
    from pathfit.rules import addresses, apps, flights, mtu_causes, mtu_holes, mtu_path, reach, resets, system
    from pathfit.rules.base import Rule

    return (
        Rule("MTU101", mtu_holes.inbound),
        Rule("MTU102", mtu_holes.outbound),
        Rule("MTU106", mtu_path.pmtud_dependent),
        Rule("MTU111", mtu_path.clamp_one_sided),
        Rule("MTU112", mtu_path.clamp_wrong),
        Rule("MTU114", mtu_causes.below_minimum),
        Rule("MTU115", flights.too_big),
        Rule("MTU118", mtu_path.uneven),
        Rule("MTU119", mtu_path.rescued),
        Rule("MTU120", mtu_holes.masked),
        Rule("RST201", resets.by_target),
        Rule("RST202", resets.by_middlebox),
        Rule("NET151", reach.random_loss),
        Rule("NET152", reach.no_answer),
        Rule("NET153", addresses.uneven_addresses),
        Rule("DNS251", reach.name_not_resolved),
        Rule("APP801", apps.target_silent),
        Rule("APP802", apps.tls_alert),
        Rule("APP803", apps.http_error),
        Rule("APP804", apps.proxy_in_path),
        Rule("SYS901", system.not_permitted),
        Rule("SYS902", system.rule_crashed),
    )


def _say(message: str, how: str) -> None:
    """What went wrong, and the lines to type: options alone become this command with them."""
    from pathfit.cli.talk import told
    from pathfit.render.layout import clean

    ways = how.replace("pathfit probe", f"python3 {FILE}").split(OR) if how else []
    lines = [f"python3 {FILE} TARGET {part}" if part.startswith(("-", "without")) else part for part in ways]
    told("\n".join(map(clean, [f"pathfit-probe: {message}", *(f"try: {x}" for x in lines)])))


if __name__ == "__main__":
    sys.exit(main())
