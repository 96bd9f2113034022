"""`pathfit explain`: the manual page of a fault code, which is the docstring of its rule."""

import sys

from pathfit.cli.stop import OR, Stop
from pathfit.cli.talk import style


def explain(code: str | None, lang: str | None, *, as_json: bool) -> int:
    """Print one manual page, or the list of all codes. Raises Stop (2) for a code that does not exist."""
    from pathfit import rules

    look = style(lang)
    pages = rules.manuals(look.lang)
    if code is not None:
        wanted = code.upper()
        page = pages.get(wanted) or next((p for p in pages.values() if p.name == code.lower()), None)
        if page is None:
            raise Stop(f"there is no fault code '{code[:40]}'", _near(code, pages))
        pages = {page.code: page}
    if as_json:
        import msgspec

        listing = [{"code": p.code, "name": p.name, "severity": p.severity, "text": p.text} for p in pages.values()]
        document = {"schema": "pathfit.explain/1", "codes": listing}
        sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n")
        return 0
    for p in pages.values():
        print(f"{p.code}  {p.name}" if code is None else f"{p.code} {p.name}\n\n{p.text.rstrip()}")
    if code is None:
        print("\npathfit explain CODE", file=sys.stderr)
    return 0


def _near(code: str, pages: object) -> str:
    import difflib

    near = difflib.get_close_matches(code.upper(), list(pages), 3, 0.5)  # type: ignore[call-overload]
    return OR.join(f"pathfit explain {n}" for n in near) or "pathfit explain   (lists all codes)"
