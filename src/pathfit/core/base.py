"""The two base classes of all values."""

import msgspec


class Value(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A frozen value, and so never part of a cycle: the garbage collector need not look at it (a big host has hundreds
    of thousands); fields at their default are left out when saved. Say ``frozen=True, kw_only=True`` in every
    subclass: msgspec inherits neither the check nor the keyword form."""


class Tagged(Value, frozen=True, kw_only=True, omit_defaults=True, tag=True, tag_field="is"):
    """A value of a tagged union; its class name is stored under ``is``."""
