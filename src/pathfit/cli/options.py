"""Options that several commands share, and the one way to turn them into values."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from pathfit.cli import target as grammar
from pathfit.cli.stop import Stop
from pathfit.core.ask import Ask
from pathfit.core.net import Family

F = TypeVar("F", bound=Callable[..., Any])
LONGEST = 3600.0  # seconds; an examination that may take longer than an hour is a mistake in the unit


def _all(*decorators: Callable[[F], F]) -> Callable[[F], F]:
    def apply(function: F) -> F:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return apply


lang = click.option("--lang", type=click.Choice(["en", "zh"]), help="Language of the text (default: from LANG).")
as_json = click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout, nothing else there.")
verbose = click.option("-v", "--verbose", is_flag=True, help="Say more on stderr; show tracebacks.")
save = click.option("--save", type=click.Path(path_type=Path, file_okay=False), help="Write a case folder.")
everywhere = _all(as_json, lang, verbose)
scanning = _all(
    click.option("--timeout", default=15.0, show_default=True, metavar="S", help="Seconds for the whole scan."),
    save,
)
running = _all(
    click.option("--timeout", default=15.0, show_default=True, metavar="S", help="Seconds for the whole examination."),
    click.option("--fast", is_flag=True, help="Faster, less polite: no limit of connections, no trial of the repair."),
    save,
)
repairing = _all(
    click.option("--use", metavar="ID", help="Which of the repairs (default: the first that may be applied)."),
    click.option("--dry-run", is_flag=True, help="Only show the plan."),
    click.option("--yes", is_flag=True, help="Apply without asking, if it is safe and confirmed by measurement."),
    click.option("--interrupt", is_flag=True, help="Also what interrupts something that runs."),
    click.option("--confirm-within", type=float, metavar="S", help="Undo it unless confirmed within S seconds."),
    click.option("--confirm", metavar="ID", help="Keep a repair that waits for it."),
    click.option("--list", "listing", is_flag=True, help="Repairs this machine remembers."),
    click.option("--undo", metavar="ID|last|all", help="Take a repair back."),
    click.option("--watch-over", hidden=True, metavar="ID"),
)
reaching = _all(
    click.option("-4", "v4", is_flag=True, help="IPv4 only."),
    click.option("-6", "v6", is_flag=True, help="IPv6 only."),
    click.option("--resolve", multiple=True, metavar="H:ADDR", help="Take this address for the name H."),
    click.option("--sni", metavar="NAME", help="Server name to ask for in TLS."),
    click.option("--proxy", metavar="URL|none", help="HTTP proxy (default: as the source's environment says)."),
)


def ask(command: Any, source: str, to: str, lang_: str, options: dict[str, Any]) -> Ask:
    """The question, from parsed options. Raises Stop (2)."""
    timeout = seconds(options["timeout"])
    if options["v4"] and options["v6"]:
        raise Stop("-4 and -6 exclude each other", "without -4 -6")
    family: Family | None = 4 if options["v4"] else 6 if options["v6"] else None
    option = "--to" if command == "diagnose" else "pathfit probe"
    goal = grammar.target(to, option)
    if family and goal.host and (":" in goal.host) != (family == 6) and (":" in goal.host or _is_v4(goal.host)):
        raise Stop(f"{goal.host} is not an IPv{family} address", f"without -{family}")
    return Ask(
        command=command,
        source=grammar.where(source),
        target=goal,
        family=family,
        resolve=tuple(grammar.resolve(r) for r in options["resolve"]),
        sni=grammar.host(options["sni"], "--sni") if options["sni"] else None,
        proxy=grammar.proxy(options["proxy"]) if options["proxy"] else None,
        fast=options["fast"],
        timeout=timeout,
        lang=lang_,
    )


def seconds(timeout: float) -> float:
    """A timeout that makes sense. Raises Stop (2)."""
    if not (math.isfinite(timeout) and 0 < timeout <= LONGEST):
        raise Stop(f"a timeout of {timeout:g} s makes no sense: above 0, up to {LONGEST:g}", "--timeout 15")
    return timeout


def _is_v4(host: str) -> bool:
    return host.replace(".", "").isdigit()
