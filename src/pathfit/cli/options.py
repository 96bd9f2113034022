"""Options that several commands share, and the one way to turn them into values."""

from collections.abc import Callable

import click

from pathfit.cli.asked import LONGEST, ask, seconds
from pathfit.cli.lean import F, File, option

__all__ = [
    "LONGEST",
    "ask",
    "everywhere",
    "often",
    "others",
    "reaching",
    "redacting",
    "repairing",
    "running",
    "scanning",
    "seconds",
]


def _all(*decorators: Callable[[F], F]) -> Callable[[F], F]:
    def apply(function: F) -> F:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return apply


lang = option("--lang", type=click.Choice(["en", "zh"]), help="Language of the text (default: from LANG).")
as_json = option("--json", "as_json", is_flag=True, help="One JSON document on stdout, nothing else there.")
verbose = option("-v", "--verbose", is_flag=True, help="Say more on stderr; show tracebacks.")
save = option("--save", type=File(folder=True), help="Write a case folder.")
others = option("--in", "inputs", multiple=True, metavar="FILE", help="Snapshots of other hosts, or folders of them.")
everywhere = _all(as_json, lang, verbose)
scanning = _all(
    option("--timeout", default=15.0, show_default=True, metavar="S", help="Seconds for the whole scan."),
    save,
)
running = _all(
    option("--timeout", default=15.0, show_default=True, metavar="S", help="Seconds for the whole examination."),
    option("--fast", is_flag=True, help="Faster, less polite: no limit of connections, no trial of the repair."),
    save,
)
redacting = _all(
    option("--redact", is_flag=True, help="Replace addresses, names and secrets by others of their kind."),
    option("--redact-key", type=File(), metavar="FILE", help="So that several files agree."),
)
often = _all(
    option("--every", type=float, metavar="S", help="Measure again every S seconds, a line a round, until Ctrl-C."),
    option("--rounds", type=int, metavar="N", help="With --every: end after N rounds."),
)
repairing = _all(
    option("--use", metavar="ID", help="Which of the repairs (default: the first that may be applied)."),
    option("--dry-run", is_flag=True, help="Only show the plan."),
    option("--yes", is_flag=True, help="Apply without asking, if it is safe and confirmed by measurement."),
    option("--interrupt", is_flag=True, help="Also what interrupts something that runs."),
    option("--confirm-within", type=float, metavar="S", help="Undo it unless confirmed within S seconds."),
    option("--confirm", metavar="ID", help="Keep a repair that waits for it."),
    option("--list", "listing", is_flag=True, help="Repairs this machine remembers."),
    option("--undo", metavar="ID|last|all", help="Take a repair back."),
    option("--watch-over", hidden=True, metavar="ID"),
)
reaching = _all(
    option("-4", "v4", is_flag=True, help="IPv4 only."),
    option("-6", "v6", is_flag=True, help="IPv6 only."),
    option("--resolve", multiple=True, metavar="H:ADDR", help="Take this address for the name H."),
    option("--sni", metavar="NAME", help="Server name to ask for in TLS."),
    option("--proxy", metavar="URL|none", help="HTTP proxy (default: as the source's environment says)."),
)
