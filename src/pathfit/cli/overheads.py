"""`pathfit overhead`: what a stack of encapsulations costs. Works everywhere, asks nothing of the machine."""

import sys
from typing import Any

from pathfit.cli.stop import Stop, line
from pathfit.cli.talk import style
from pathfit.model.tunnels.stacks import NotAStack, parse
from pathfit.render import overhead as render
from pathfit.render.layout import Page


def overhead(stack: str | None, lang: str | None, *, as_json: bool) -> int:
    """Print the table of one stack, or of all kinds. Raises Stop (2) for what is no stack."""
    look = style(lang)
    page = Page(look.width, colour=look.colour, ascii_only=look.ascii)
    if stack is None:
        _print(render.kinds() if as_json else render.listing(page, look.lang))
        return 0
    try:
        found = parse(stack)
    except NotAStack as e:
        raise Stop(e.why, line("pathfit", "overhead", e.near) if e.near else "pathfit overhead") from None
    _print(render.document(found) if as_json else render.text(found, page, look.lang))
    return 0


def _print(what: str | dict[str, Any]) -> None:
    if isinstance(what, str):
        sys.stdout.write(what)
        return
    import msgspec

    sys.stdout.flush()
    sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(what), indent=2) + b"\n")
