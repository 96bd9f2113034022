"""`pathfit explain`: the manual page of a fault code, which is the docstring of its rule."""

import sys

from pathfit.cli.stop import OR, Stop
from pathfit.cli.talk import style
from pathfit.rules import Page, manual
from pathfit.rules.base import NAMES
from pathfit.words.render import say


def explain(code: str | None, lang: str | None, *, as_json: bool) -> int:
    """Print one manual page, or the list of all codes. Raises Stop (2) for a code that does not exist."""
    look = style(lang)
    pages = [_find(code)] if code is not None else [p for p in map(manual, NAMES) if p is not None]
    if as_json:
        _json(pages)
        return 0
    if code is not None:
        from pathfit.render.layout import wrap

        for text in pages[0].text.splitlines():
            print("\n".join(wrap(text, look.width, "", "")) if text else "")
        return 0
    for page in pages:
        print(f"{page.code}  {page.name:<26} {page.title}")
    print("\n" + say("ui.explain-next", {}, look.lang), file=sys.stderr)
    return 0


def _find(code: str) -> Page:
    page = manual(known(code))
    assert page is not None
    return page


def known(code: str) -> str:
    """A fault code, given as such or by its name. Raises Stop (2)."""
    by_name = next((c for c, name in NAMES.items() if name == code.lower()), code)
    page = manual(by_name)
    if page is None:
        raise Stop(f"there is no fault code '{code[:40]}'", _near(code))
    return page.code


def _near(code: str) -> str:
    import difflib

    wanted = code[:3].upper() + code[3:].upper().translate(str.maketrans("OIL", "011"))  # letters that look like digits
    near = [wanted] if wanted in NAMES else difflib.get_close_matches(wanted, list(NAMES), 2, 0.6)
    names = difflib.get_close_matches(code.lower(), list(NAMES.values()), 2, 0.6)
    return OR.join(f"pathfit explain {n}" for n in (near or names)[:2]) or "pathfit explain"


def _json(pages: list[Page]) -> None:
    import msgspec

    listing = [{"code": p.code, "name": p.name, "title": p.title, "fields": p.fields} for p in pages]
    document = {"schema": "pathfit.explain/1", "codes": listing}
    sys.stdout.flush()
    sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n")
