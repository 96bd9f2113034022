"""What encapsulations cost, as text and as values for JSON: one stack, or the list of all kinds. Pure."""

from typing import Any

from pathfit.core.net import mss_of
from pathfit.model.tunnels.overhead import (
    KINDS,
    NUMBERS,
    USUAL_MTU,
    Fit,
    Kind,
    Layer,
    default_mtu,
    fits,
    header,
    mtu_ceiling,
)
from pathfit.model.tunnels.stacks import Stack
from pathfit.render.layout import Page, columns, pad
from pathfit.words.render import say

SCHEMA = "pathfit.overhead/1"
SMALLEST_V6 = 1280  # RFC 8200 section 5
NUMERIC = ("headers", "gets", "fits", "mtu")  # columns of the table
LONGEST_NAME = 26  # columns; a longer layer has a line of its own
GAP = "   "


def text(stack: Stack, page: Page, lang: str) -> str:
    """The table of a stack, and what is to be known of each layer."""
    found = fits(stack.layers, stack.underlay)
    page.line(_head(stack, found, lang))
    page.blank()
    for line in _table(stack, found, lang):
        page.line("", line)
    for fit, lower in zip(found, _lowers(stack, found), strict=True):
        page.blank()
        page.line(fit.layer.name, style="code")
        for one in _about(fit, lower, stack, lang):
            page.line(one, "  ", indent="  ")
        for one in _warnings(fit, lang):
            page.line(one, f"  {say('ui.overhead-warning', {}, lang)}  ", "unsure", indent="  ")
    if found[0].best > found[0].largest:
        mtus = ", ".join(f"{x.layer.kind} {x.best}" for x in found if x.mtu is not None)
        page.blank()
        page.line(say("ui.overhead-best", {"best": found[0].best, "mtus": mtus}, lang))
    return str(page)


def _head(stack: Stack, found: tuple[Fit, ...], lang: str) -> str:
    largest = found[0].largest
    if not largest:
        return say("ui.overhead-head-none", {"stack": str(stack), "underlay": stack.underlay}, lang)
    return say("ui.overhead-head", {"stack": str(stack), "largest": largest}, lang)


def _lowers(stack: Stack, found: tuple[Fit, ...]) -> list[int]:
    """The MTU of the device under each layer."""
    device, lowers = stack.underlay, []
    for fit in reversed(found):
        lowers.append(device)
        device = fit.mtu if fit.mtu is not None else device
    return lowers[::-1]


def _table(stack: Stack, found: tuple[Fit, ...], lang: str) -> list[str]:
    heads = [say(f"ui.overhead-{x}", {}, lang) for x in NUMERIC]
    heads += [say("ui.overhead-mss", {"family": f}, lang) for f in (4, 6)]
    first = say("ui.overhead-layer", {}, lang)
    under = say("ui.overhead-underlay", {}, lang)
    names = [f.layer.name for f in found if columns(f.layer.name) <= LONGEST_NAME]
    width = max(columns(x) for x in (first, under, *names))
    wide = [max(columns(x), 5) for x in heads]
    lines = [pad(first, width) + _row(heads, wide)]
    for fit in found:
        cells = [
            str(fit.header),
            str(fit.gets),
            str(fit.fits),
            _shown(fit.mtu),
            *(_mss(fit.largest, f) for f in (4, 6)),
        ]
        name = fit.layer.name
        if columns(name) > width:
            lines.append(name)
            name = ""
        lines.append(pad(name, width) + _row(cells, wide))
    lines.append(pad(under, width) + _row(["", "", "", str(stack.underlay)], wide[:4]))
    return lines


def _row(cells: list[str], wide: list[int]) -> str:
    return "".join(GAP + " " * (w - columns(c)) + c for c, w in zip(cells, wide, strict=True))


def _shown(mtu: int | None) -> str:
    return "-" if mtu is None else str(mtu)


def _mss(mtu: int, family: Any) -> str:
    value = mss_of(family, mtu)
    return str(value) if value > 0 and not (family == 6 and mtu < SMALLEST_V6) else "-"


def _about(fit: Fit, lower: int, stack: Stack, lang: str) -> list[str]:
    """Sentences about one layer."""
    layer, row = fit.layer, fit.layer.row
    said = [" + ".join(f"{name} {size}" for name, size in fit.headers)] if fit.headers else []
    if layer.kind in ("vlan", "qinq") and not fit.headers:
        said.append(say("ui.overhead-tag-free", {}, lang))
    if row.align:
        said.append(say("ui.overhead-padded-always", {"n": row.align}, lang))
    if row.pads:
        said.append(say("ui.overhead-padded", {"n": row.pads}, lang))
    said += _made(fit, stack, lang)
    if row.user:
        said.append(say("ui.overhead-user", {}, lang))
    if not layer.measured:
        said.append(say("ui.overhead-unmeasured", {"source": row.source}, lang))
    said.append(_larger(fit, lower, lang))
    return said


def _made(fit: Fit, stack: Stack, lang: str) -> list[str]:
    layer, row = fit.layer, fit.layer.row
    if fit.mtu is None:
        return [say("ui.overhead-made-none", {}, lang)]
    said = []
    if not fit.given and (row.default in ("usual", "fixed") or layer.has("nodev") or layer.has("if")):
        said.append(say("ui.overhead-made-usual", {"mtu": fit.mtu}, lang))
    elif not fit.given and layer.kind == "vxlan":
        said.append(say("ui.overhead-nodev", {"stack": _nodev(layer, stack)}, lang))
    elif not fit.given and layer.kind in ("gre", "gretap", "ipip", "sit", "ip6tnl"):
        said.append(say("ui.overhead-noremote", {}, lang))
    if fit.mtu < fit.fits and row.too_big != "stream":
        said.append(say("ui.overhead-spare", {"best": fit.fits}, lang))
    return said


def _nodev(layer: Layer, stack: Stack) -> str:
    other = Layer(layer.kind, layer.family, {"nodev": 1, **layer.options})
    return f"pathfit overhead {Stack(tuple(other if x is layer else x for x in stack.layers), stack.underlay)}"


def _larger(fit: Fit, lower: int, lang: str) -> str:
    """What happens to a larger packet."""
    case = fit.too_big
    if case == "error":
        most = mtu_ceiling(fit.layer, lower)
        return say(
            "ui.overhead-larger-error-none" if most is None else "ui.overhead-larger-error", {"most": most}, lang
        )
    learns = fit.fits if fit.learned is None else fit.learned
    if case == "silent" and fit.learned is not None:
        return say("ui.overhead-larger-misled", {"low": fit.fits + 1, "learned": learns}, lang)
    return say(f"ui.overhead-larger-{case}", {"learned": learns}, lang)


def _warnings(fit: Fit, lang: str) -> list[str]:
    said = []
    if fit.too_large and fit.mtu is not None:
        one = fit.mtu == fit.fits + 1
        name = "ui.overhead-too-large-one" if one else "ui.overhead-too-large"
        said.append(say(name, {"mtu": fit.mtu, "low": fit.fits + 1}, lang))
    if fit.largest < SMALLEST_V6:
        said.append(say("ui.overhead-v6", {}, lang))
    return said


def document(stack: Stack) -> dict[str, Any]:
    """``pathfit.overhead/1`` of one stack (docs/overhead.md has its shape)."""
    found = fits(stack.layers, stack.underlay)
    return {
        "schema": SCHEMA,
        "stack": str(stack),
        "underlay": stack.underlay,
        "largest": found[0].largest,
        "best": found[0].best,
        "mss": {"4": max(0, mss_of(4, found[0].largest)), "6": max(0, mss_of(6, found[0].largest))},
        "layers": [_layer(x) for x in found],
    }


def _layer(fit: Fit) -> dict[str, Any]:
    row = fit.layer.row
    return {
        "name": fit.layer.name,
        "kind": fit.layer.kind,
        "outer": fit.layer.family if row.families else None,
        "options": dict(fit.layer.options),
        "headers": [{"name": name, "bytes": size} for name, size in fit.headers],
        "header": fit.header,
        "padded_to": row.align or row.pads or None,
        "gets": fit.gets,
        "fits": fit.fits,
        "largest": fit.largest,
        "best": fit.best,
        "mtu": fit.mtu,
        "mtu_by": None if fit.mtu is None else "given" if fit.given else "default",
        "too_large": fit.too_large,
        "too_big": fit.too_big,
        "learned": fit.learned,
        "measured": fit.layer.measured,
        "source": row.source,
    }


def listing(page: Page, lang: str) -> str:
    """All kinds, one a line."""
    heads = [say("ui.overhead-kind", {}, lang), "IPv4", "IPv6", f"MTU ({USUAL_MTU})"]
    rows = [[name, *_costs(name, row), _default(name)] for name, row in KINDS.items()]
    wide = [max(columns(r[n]) for r in (heads, *rows)) for n in range(4)]
    page.line(say("ui.overhead-options", {}, lang), pad(heads[0], wide[0]) + _row(heads[1:], wide[1:]) + GAP)
    deep = wide[0] + sum(w + len(GAP) for w in wide[1:]) + len(GAP)
    for row, kind in zip(rows, KINDS.values(), strict=True):
        page.line(_options(kind), pad(row[0], wide[0]) + _row(row[1:], wide[1:]) + GAP, indent=" " * deep)
    page.blank()
    page.line(say("ui.overhead-usage", {}, lang))
    return str(page)


def _costs(name: str, row: Kind) -> list[str]:
    if row.too_big == "stream":
        return ["-", "-"]
    if not row.families:
        return [str(header(Layer(name)))] * 2
    return [str(header(Layer(name, f))) if f in row.families else "-" for f in (4, 6)]


def _default(name: str) -> str:
    return _shown(default_mtu(Layer(name, KINDS[name].families[0] if KINDS[name].families else 4), USUAL_MTU))


def _options(row: Kind) -> str:
    return " ".join(f"{x}=" if x in NUMBERS or x == "df" else x for x in row.options)


def kinds() -> dict[str, Any]:
    """``pathfit.overhead/1`` of all kinds."""
    return {
        "schema": SCHEMA,
        "kinds": [
            {
                "kind": name,
                "outer": list(row.families),
                "header": {str(f): header(Layer(name, f)) for f in (row.families or (4,)) if row.too_big != "stream"},
                "options": list(row.options),
                "source": row.source,
            }
            for name, row in KINDS.items()
        ],
    }
