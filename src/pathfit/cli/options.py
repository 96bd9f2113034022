"""Options that several commands share, and the one way to turn them into values."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from pathfit.cli.asked import LONGEST, ask, seconds

__all__ = ["LONGEST", "ask", "everywhere", "reaching", "repairing", "running", "scanning", "seconds"]

F = TypeVar("F", bound=Callable[..., Any])


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
