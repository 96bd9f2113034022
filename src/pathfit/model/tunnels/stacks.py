"""A stack of encapsulations as one writes it: ``vxlan+wireguard/1500`` is VXLAN inside WireGuard over an MTU of 1500.

::

    STACK   = LAYER { "+" LAYER } [ "/" MTU ]      innermost first; without MTU: 1500
    LAYER   = KIND [ "6" ] { "," OPTION }          6: the outer header is IPv6
    OPTION  = key | df=set | labels=2 | mtu=1400 …  those of the kind, and ``mtu`` of its device, set by hand
"""

import difflib
from typing import NamedTuple

import msgspec

from pathfit.core.net import Family
from pathfit.model.tunnels.overhead import (
    ALIASES,
    DF,
    KINDS,
    NUMBERS,
    USUAL_MTU,
    V6_ONLY,
    Layer,
    default_mtu,
    has_device,
    mtu_ceiling,
)

LONGEST = 300  # characters of a stack; nobody types more
DEEPEST = 8  # layers
SMALLEST, LARGEST = 68, 65535  # bytes: RFC 791, and the largest MTU of a packet


class Stack(NamedTuple):
    """``layers`` innermost first, over devices of MTU ``underlay`` (bytes)."""

    layers: tuple[Layer, ...]
    underlay: int

    def __str__(self) -> str:
        return "+".join(x.name for x in self.layers) + f"/{self.underlay}"


class NotAStack(ValueError):
    """``why`` in words; ``near``: the stack that was probably meant, "" = none."""

    def __init__(self, why: str, near: str = "") -> None:
        super().__init__(why)
        self.why, self.near = why, near


def parse(text: str) -> Stack:
    """The stack ``text`` names. Raises NotAStack."""
    if len(text) > LONGEST:
        raise NotAStack(f"a stack of {len(text)} characters")
    body, slash, tail = text.strip().partition("/")
    words = [w.strip() for w in body.split("+")]
    if not body.strip() or not all(words):
        raise NotAStack("a layer without a name", "vxlan+wireguard/1500")
    if len(words) > DEEPEST:
        raise NotAStack(f"{len(words)} layers; at most {DEEPEST} make sense", "+".join(words[:DEEPEST]) + slash + tail)
    underlay = _underlay(body, tail) if slash else USUAL_MTU
    layers = []
    for n, word in enumerate(words):
        try:
            layers.append(_layer(word))
        except NotAStack as e:
            whole = "+".join([*words[:n], e.near, *words[n + 1 :]]) if e.near else ""
            raise NotAStack(e.why, f"{whole}{slash}{tail}" if whole else "") from None
    stack = Stack(tuple(layers), underlay)
    _allowed(stack)
    return stack


def _underlay(body: str, tail: str) -> int:
    value = _number(tail)
    if value is None or not SMALLEST <= value <= LARGEST:
        raise NotAStack(f"'{tail[:20]}' is no MTU: {SMALLEST} to {LARGEST}", f"{body}/{USUAL_MTU}")
    return value


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 6 else None


def _layer(word: str) -> Layer:
    name, *options = (w.strip().lower() for w in word.split(","))
    kind, family, more = _kind(name)
    found: dict[str, int] = {}
    mtu = None
    for option in [*more, *options]:
        key, value = _option(kind, family, name, option)
        if key == "mtu":
            mtu = value
        else:
            found[key] = value
    if found.get("fou") and found.get("gue"):
        raise NotAStack("fou and gue exclude each other", ",".join([name, *(o for o in options if o != "fou")]))
    return Layer(kind, family, found, mtu)


def _kind(name: str) -> tuple[str, Family, list[str]]:
    """A kind as written, with the family of its outer header and the options an alias stands for."""
    plain, _, more = ALIASES.get(name, name).partition(",")
    if plain not in KINDS and plain.removesuffix("6") in ALIASES:
        other, _, more = ALIASES[plain.removesuffix("6")].partition(",")
        plain = other + "6"
    six = plain not in KINDS and plain.endswith("6") and plain[:-1] in KINDS
    kind = plain[:-1] if six else plain
    row = KINDS.get(kind)
    if row is None:
        raise NotAStack(f"there is no encapsulation '{name[:40]}'", _near(name, [*KINDS, *ALIASES]))
    if six and 6 not in row.families:
        why = f"{kind} has no outer IPv6 header" if row.families else f"{kind} has no outer IP header"
        raise NotAStack(why, "ip6tnl" if kind == "ipip" else kind)
    return kind, 6 if six or row.families == (6,) else 4, more.split(",") if more else []


def _near(word: str, known: list[str]) -> str:
    found = difflib.get_close_matches(word, known, 1, 0.5)
    return found[0] if found else ""


def _option(kind: str, family: Family, name: str, option: str) -> tuple[str, int]:
    """One option of a layer, as (name, number); flags count 1."""
    key, equals, text = option.partition("=")
    allowed = (*KINDS[kind].options, "mtu")
    if key not in allowed or (key in V6_ONLY and family == 4):
        near = _near(key, [a for a in allowed if family == 6 or a not in V6_ONLY])
        raise NotAStack(f"{name} has no option '{option[:40]}' (it has: {', '.join(allowed)})", _with(name, near))
    if key == "df":
        if text not in DF:
            raise NotAStack(f"df is one of {', '.join(DF)}", f"{name},df=set")
        return key, DF.index(text)
    if key in NUMBERS:
        return key, _sized(name, key, text)
    if equals:
        raise NotAStack(f"{key} takes no value", f"{name},{key}")
    return key, 1


def _with(name: str, option: str) -> str:
    value = {"df": "df=set", "opt": "opt=8", "labels": "labels=2", "cookie": "cookie=8", "mtu": "mtu=1400"}
    return f"{name},{value.get(option, option)}" if option else name


def _sized(name: str, key: str, text: str) -> int:
    least, most, step = NUMBERS[key]
    value = _number(text)
    if value is None or not least <= value <= most or value % step:
        steps = f", in steps of {step}" if step > 1 else ""
        raise NotAStack(f"'{key}={text[:20]}' is out of range: {least} to {most}{steps}", _with(name, key))
    return value


def _allowed(stack: Stack) -> None:
    """MTUs by hand that the kernel refuses, and those of layers that have no device."""
    lower = stack.underlay
    for n, layer in reversed(list(enumerate(stack.layers))):
        if layer.mtu is None:
            made = default_mtu(layer, lower)
            lower = lower if made is None else made
            continue
        most = mtu_ceiling(layer, lower) if has_device(layer) else None
        if not has_device(layer):
            raise NotAStack(f"{layer.kind} has no device, so no MTU of its own", _again(stack, n, None))
        if most is not None and layer.mtu > most:
            why = f"the kernel refuses an MTU of {layer.mtu} for {layer.kind} over {lower}: at most {most}"
            raise NotAStack(why, _again(stack, n, most))
        lower = layer.mtu


def _again(stack: Stack, which: int, mtu: int | None) -> str:
    layers = list(stack.layers)
    layers[which] = msgspec.structs.replace(layers[which], mtu=mtu)
    return str(Stack(tuple(layers), stack.underlay))


__all__ = ["NotAStack", "Stack", "parse"]
