"""Faults planted in the model, by name: each replaces one function of it for the time of a ``with`` block.

What a mutant breaks must show in the fixed labs: a generator that does not notice it proves nothing about the model.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from msgspec.structs import replace

from pathfit.model import hooks, journey, l2, lookup, mtu, nat, walk
from pathfit.model.packet import Bound
from pathfit.model.tunnels import outers

Patch = tuple[object, str, Callable[[Any], Any]]  # where, name, what becomes of the original


def _port_exact(original: Any) -> Any:
    """A bridge port takes its MTU, without the room for a VLAN tag."""
    return lambda *a, **k: replace(found := original(*a, **k), mtu=found.mtu - l2.VLAN_ROOM)


def _overhead_54(original: Any) -> Any:
    """VXLAN costs four bytes more than it does."""
    return lambda layer, room, *rest: original(layer, room, *rest) - (4 if layer.kind == "vxlan" else 0)


def _turned_round(original: Any) -> Any:
    """Devices of what is passed on are taken for each other: a clamp of one direction counts for the other."""

    def hook(self: Any, net: Any, name: str, p: Any, talk: Any, **k: Any) -> Any:
        if name == "forward":
            k = {**k, "iif": k.get("oif"), "oif": k.get("iif")}
        return original(self, net, name, p, talk, **k)

    return hook


def _any_source(original: Any) -> Any:
    """rp_filter does not exist."""
    return lambda *a, **k: None


def _error_stays(original: Any) -> Any:
    """Answers are translated back, errors about the conversation are not."""
    return lambda talk, packet: packet if packet.kind == "error" else original(talk, packet)


def _never_super(original: Any) -> Any:
    """Offloading hides nothing: every packet is judged by its own size."""
    return lambda link, gso: False


def _pieces_lost(original: Any) -> Any:
    """What would be fragmented is lost."""

    def then(self: Any, packet: Any) -> Any:
        said = original(self, packet)
        return "silent" if said == "fragment" else said

    return then


def _always_home(original: Any) -> Any:
    """Every "too big" reaches the sender."""
    return lambda *a, **k: (True, None)


def _shortest(original: Any) -> Any:
    """The shortest prefix wins."""

    def matches(*a: Any) -> Any:
        yield from reversed(list(original(*a)))

    return matches


def _last_rule(original: Any) -> Any:
    """Policy rules are asked from the last to the first (but for the kernel's own at 0)."""

    def by_rules(net: Any, rules: Any, *rest: Any) -> Any:
        first = tuple(r for r in rules if r.priority == 0)
        return original(net, first + tuple(r for r in reversed(rules) if r.priority), *rest)

    return by_rules


def _forgetful(original: Any) -> Any:
    """Cached path MTUs do not count."""
    return lambda *a, **k: None


def _own_half(original: Any) -> Any:
    """A veth half takes what its own side may send, not what the other half's MTU lets in."""

    def through(wire: Any, net: Any, link: Any, frame: Any, *rest: Any) -> Any:
        got = original(wire, net, link, frame, *rest)
        notes = list(got.notes)
        for i, x in enumerate(notes):
            if isinstance(x, Bound) and x.kind == "receive" and x.device == "veth":
                notes[i] = replace(x, mtu=link.mtu + l2.VLAN_ROOM)
                break
        return got._replace(notes=tuple(notes))

    return through


MUTANTS: dict[str, Patch] = {
    "port without + 4": (l2, "_port_bound", _port_exact),
    "VXLAN costs 54": (outers, "inner", _overhead_54),
    "clamp in the other direction": (hooks.Hooks, "_hook", _turned_round),
    "rp_filter ignored": (journey, "accepts_source", _any_source),
    "NAT not undone for errors": (nat, "inward", _error_stays),
    "GSO never hides": (l2, "_still_gso", _never_super),
    "fragments are lost": (Bound, "then", _pieces_lost),
    "told always comes home": (walk, "told", _always_home),
    "shortest prefix": (lookup.Fib, "matches", _shortest),
    "policy rules reversed": (lookup, "_by_rules", _last_rule),
    "cached path MTU ignored": (mtu, "_cached", _forgetful),
    "the veth's other half not looked at": (l2, "_through_veth", _own_half),
}


@contextlib.contextmanager
def planted(name: str) -> Iterator[None]:
    """The model with this fault."""
    where, what, change = MUTANTS[name]
    original = where.__dict__[what]
    setattr(where, what, change(original))
    try:
        yield
    finally:
        setattr(where, what, original)
