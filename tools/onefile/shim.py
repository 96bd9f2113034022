"""What the standard library of Python 3.8 lacks of what pathfit's modules use: values, and a few names.

It stands in for msgspec and is imported under that name. Values are classes with slots, made from annotations: frozen
ones cannot be changed and can be hashed, ``kw_only`` is checked, defaults that can change are copied, equal are values
of the same class with equal fields. Nothing is decoded from outside here, so types are not checked.
"""

import enum
import functools
import json as _json
import sys
import types

NODEFAULT = object()
_OPTIONS = ("frozen", "kw_only")


class _Made:
    """A default that is made anew for each value."""

    def __init__(self, default_factory):
        self.make = default_factory


def field(default=NODEFAULT, default_factory=NODEFAULT, name=None):
    """The default of one field."""
    return default if default_factory is NODEFAULT else _Made(default_factory)


def _default(value):
    return _Made(type(value)) if isinstance(value, (list, dict, set, bytearray)) and not value else value


class _StructMeta(type):
    def __new__(meta, name, bases, space, frozen=None, kw_only=False, dict=False, **_):
        own = [f for f in space.get("__annotations__", {}) if not _of_the_class(space["__annotations__"][f])]
        defaults, fields = {}, []
        keywords = set()
        for base in reversed(bases):
            fields += [f for f in getattr(base, "__struct_fields__", ()) if f not in fields]
            defaults.update(getattr(base, "_defaults", {}))
            keywords |= getattr(base, "_keywords", set())
            frozen = getattr(base, "_frozen", False) if frozen is None else frozen
        new = [f for f in own if f not in fields]
        defaults.update({f: _default(space.pop(f)) for f in own if f in space})
        roomy = any(getattr(base, "_roomy", False) for base in bases)
        slots = tuple(new) + (("__dict__",) if dict and not roomy else ())
        space = {**space, "__slots__": slots, "_defaults": defaults, "_frozen": bool(frozen), "_roomy": dict or roomy}
        cls = type.__new__(meta, name, bases, space)
        keywords |= set(own) if kw_only else set()
        # Fields by position first, as msgspec orders them.
        every = [f for f in fields + new if f not in keywords] + [f for f in fields + new if f in keywords]
        cls.__struct_fields__, cls._keywords = tuple(every), keywords
        cls._positional = tuple(f for f in every if f not in keywords)
        if "__hash__" not in space:
            cls.__hash__ = _hash if frozen else None
        return cls

    def __init__(cls, name, bases, space, **_):
        type.__init__(cls, name, bases, space)


def _of_the_class(annotation):
    return str(annotation).startswith(("ClassVar", "typing.ClassVar"))


def _hash(self):
    return hash((type(self), *(getattr(self, f) for f in self.__struct_fields__)))


class Struct(metaclass=_StructMeta):
    """The base of all values."""

    def __init__(self, *args, **words):
        cls = type(self)
        put = object.__setattr__
        if len(args) > len(cls._positional):
            raise TypeError(f"{cls.__name__}: {len(args)} values by position, at most {len(cls._positional)}")
        for name, value in zip(cls._positional, args):
            put(self, name, value)
        for name in cls.__struct_fields__[len(args) :]:
            if name in words:
                put(self, name, words.pop(name))
            elif name in cls._defaults:
                default = cls._defaults[name]
                put(self, name, default.make() if type(default) is _Made else default)
            else:
                raise TypeError(f"{cls.__name__}: Missing required argument '{name}'")
        if words:
            raise TypeError(f"{cls.__name__}: Unexpected keyword argument '{next(iter(words))}'")
        after = getattr(self, "__post_init__", None)
        if after is not None:
            after()

    def __setattr__(self, name, value):
        if self._frozen:
            raise AttributeError(f"immutable type: '{type(self).__name__}'")
        object.__setattr__(self, name, value)

    def __delattr__(self, name):
        if self._frozen:
            raise AttributeError(f"immutable type: '{type(self).__name__}'")
        object.__delattr__(self, name)

    def __eq__(self, other):
        if type(other) is not type(self):
            return NotImplemented
        return all(getattr(self, f) == getattr(other, f) for f in self.__struct_fields__)

    __hash__ = None

    def __repr__(self):
        shown = ", ".join(f"{f}={getattr(self, f)!r}" for f in self.__struct_fields__)
        return f"{type(self).__name__}({shown})"


def replace(struct, **changes):
    """The same value with other fields."""
    cls = type(struct)
    for name in changes:
        if name not in cls.__struct_fields__:
            raise TypeError(f"`{cls.__name__}` has no field '{name}'")
    every = {f: changes[f] if f in changes else getattr(struct, f) for f in cls.__struct_fields__}
    first = [every.pop(f) for f in cls._positional]  # before the call: what is left is taken by name
    return cls(*first, **every)


structs = types.ModuleType("msgspec.structs")
structs.replace = replace
json = types.ModuleType("msgspec.json")
json.encode = lambda value: _json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
json.decode = lambda data, **_: _json.loads(data)
json.format = lambda data, indent=2: _json.dumps(_json.loads(data), ensure_ascii=False, indent=indent).encode()
sys.modules["msgspec.structs"] = structs
sys.modules["msgspec.json"] = json

# -- names that came to the standard library after Python 3.8, and what is written instead of newer syntax ---------

Self = object
cache = functools.lru_cache(maxsize=None)


class StrEnum(str, enum.Enum):
    """enum.StrEnum (3.11)."""

    def __str__(self):
        return str(self.value)


def or_(a, b):
    """``a | b``, also of dictionaries (3.9)."""
    return {**a, **b} if isinstance(a, dict) and isinstance(b, dict) else a | b


def without_start(text, start):
    """str.removeprefix and bytes.removeprefix (3.9)."""
    return text[len(start) :] if start and text.startswith(start) else text


def without_end(text, end):
    """str.removesuffix and bytes.removesuffix (3.9)."""
    return text[: -len(end)] if end and text.endswith(end) else text
