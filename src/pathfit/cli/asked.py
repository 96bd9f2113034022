"""The question, from options that were parsed by whatever parses them."""

import math
from typing import Any

from pathfit.cli import target as grammar
from pathfit.cli.stop import Stop
from pathfit.core.ask import Ask
from pathfit.core.net import Family

LONGEST = 3600.0  # seconds; an examination that may take longer than an hour is a mistake in the unit


def ask(command: Any, source: str, to: str, lang_: str, options: dict[str, Any]) -> Ask:
    """The question, from parsed options. Raises Stop (2)."""
    timeout = seconds(options["timeout"])
    follow = options.get("follow")
    if follow is not None and not (math.isfinite(follow) and 0 < follow <= LONGEST):
        raise Stop(f"to follow for {follow:g} s makes no sense: above 0, up to {LONGEST:g}", "--follow 30")
    family = family_of(options)
    option = "--to" if command == "diagnose" else "pathfit probe"
    goal = grammar.target(to, option)
    if family and goal.host and (":" in goal.host) != (family == 6) and grammar.is_address(goal.host):
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
        timeout=timeout + (follow or 0.0),
        follow=follow,
        lang=lang_,
        snapshots=tuple(options.get("inputs", ())),
        trace=command == "diagnose" and bool(options.get("trace")),
    )


def family_of(options: dict[str, Any]) -> Family | None:
    """What -4 and -6 say. Raises Stop (2)."""
    if options["v4"] and options["v6"]:
        raise Stop("-4 and -6 exclude each other", "without -4 -6")
    return 4 if options["v4"] else 6 if options["v6"] else None


def seconds(timeout: float) -> float:
    """A timeout that makes sense. Raises Stop (2)."""
    if not (math.isfinite(timeout) and 0 < timeout <= LONGEST):
        raise Stop(f"a timeout of {timeout:g} s makes no sense: above 0, up to {LONGEST:g}", "--timeout 15")
    return timeout
