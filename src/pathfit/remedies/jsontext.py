"""Set one value in a JSON text and leave every other byte as it was (RFC 8259).

Somebody keeps that file by hand, or a tool compares it: order, indentation, line ends and the final newline are not
ours. A new member copies the style of its neighbours and stands first: so no other line needs a comma more. Where a
name stands twice, the last one counts, as in dockerd (Go's encoding/json).
"""

import json
from typing import NamedTuple

STEP = "  "  # indentation where the file shows none
BOM = "\ufeff"  # dockerd reads a file that begins with one (since 24)
_BLANK = " \t\r\n"
_decoder = json.JSONDecoder()

Json = str | int | dict[str, "Json"]
Path = tuple[str | int, ...]  # names of members, and numbers of elements, from the outside in


class JsonError(ValueError):
    """The text is not a JSON object. The message says where: "line 3, column 5: …"."""


class _Member(NamedTuple):
    """Offsets in the text: the name's first quote, the character after its last one, the value and its end."""

    name: str
    start: int
    named: int
    value: int
    end: int


def parse(text: str) -> dict[str, object]:
    """The object that ``text`` holds; an empty text is an empty object. Raises JsonError."""
    body = text.removeprefix(BOM)
    if not body.strip(_BLANK):
        return {}
    try:
        found = json.loads(body, parse_constant=_no_constant)
    except json.JSONDecodeError as e:
        raise JsonError(f"line {e.lineno}, column {e.colno}: {e.msg}") from None
    except RecursionError:
        raise JsonError("line 1, column 1: nested too deeply") from None
    except JsonError:
        raise
    except ValueError:  # int() of more digits than sys.get_int_max_str_digits()
        raise JsonError("line 1, column 1: a number of too many digits") from None
    if not isinstance(found, dict):
        raise JsonError("line 1, column 1: not an object")
    return found


def put(text: str, path: Path, value: Json) -> str:
    """``text`` with the member at ``path`` set to ``value``, made where it is missing.

    A member on the way that is no object is replaced by one; an element must be there, and an object. Raises JsonError
    when it is not, or when ``text`` is no JSON object.
    """
    parse(text)
    start = text.find("{")
    if start < 0:
        return f"{text[: len(text) - len(text.lstrip(BOM))]}{_shown(_nested(path, value), STEP, '')}\n"
    return _put(text, start, path, value, STEP)


def _put(text: str, start: int, path: Path, value: Json, step: str) -> str:
    members, end = _members(text, start)
    name, *rest = path
    known = next((m for m in reversed(members) if m.name == name), None)
    lead = _lead(text, start, members)
    if lead is not None:
        outer = _indent(text, start)
        step = lead.rpartition("\n")[2].removeprefix(outer) or step
    if known is not None and rest and isinstance(rest[0], int):
        return _put(text, _element(text, known.value, rest[0]), tuple(rest[1:]), value, step)
    if known is not None and rest and text[known.value] == "{":
        return _put(text, known.value, tuple(rest), value, step)
    new = _nested(tuple(rest), value)
    if known is not None:
        return text[: known.value] + _styled(new, lead, step) + text[known.end :]
    if not members:
        return text[:start] + _first(text, start, _nested((name,), new), step) + text[end + 1 :]
    head = members[0]
    colon = text[head.named : head.value]
    item = f"{json.dumps(name)}{colon}{_styled(new, lead, step)}{_comma(text, members, lead, colon)}"
    return text[: head.start] + item + text[head.start :]


def _comma(text: str, members: list[_Member], lead: str | None, colon: str) -> str:
    """What stands between two members: a line break where they stand one to a line, else what is there already."""
    if lead is not None:
        return f",{lead}"
    if len(members) > 1:
        return text[members[0].end : members[1].start]
    return ", " if colon.endswith(" ") else ","


def _lead(text: str, start: int, members: list[_Member]) -> str | None:
    """The line break and indentation before the members; None when they stand in the line of the brace."""
    if not members:
        return None
    before = text[start + 1 : members[0].start]
    if "\n" not in before:
        return None
    return ("\r\n" if "\r\n" in before else "\n") + before.rpartition("\n")[2]


def _indent(text: str, at: int) -> str:
    """The white space with which the line of ``at`` begins."""
    line = text[text.rfind("\n", 0, at) + 1 : at]
    return line[: len(line) - len(line.lstrip(" \t"))]


def _styled(value: Json, lead: str | None, step: str) -> str:
    """A value as text: an object over several lines where its neighbours stand one to a line."""
    if lead is None or not isinstance(value, dict):
        return json.dumps(value)
    newline, _, indent = lead.rpartition("\n")
    return _shown(value, step, indent).replace("\n", newline + "\n")


def _first(text: str, start: int, value: Json, step: str) -> str:
    """The first member of an object that had none, in a file that may use either line end."""
    return _shown(value, step, _indent(text, start)).replace("\n", "\r\n" if "\r\n" in text else "\n")


def _shown(value: Json, step: str, indent: str) -> str:
    return json.dumps(value, indent=step).replace("\n", "\n" + indent)


def _nested(path: Path, value: Json) -> Json:
    for name in reversed(path):
        if isinstance(name, int):
            raise JsonError(f"there is no list with an element {name}")
        value = {name: value}
    return value


def _element(text: str, start: int, number: int) -> int:
    """Where the object stands that is element ``number`` of the list at ``start``. Raises JsonError."""
    at = _skip(text, start + 1)
    for _ in range(number if text[start] == "[" else 0):
        if text[at] == "]":
            break
        _, end = _decoder.raw_decode(text, at)
        at = _skip(text, end)
        at = _skip(text, at + 1) if text[at] == "," else at
    if text[start] != "[" or text[at] != "{":
        raise JsonError(f"there is no list with an object as its element {number}")
    return at


def _members(text: str, start: int) -> tuple[list[_Member], int]:
    """The members of the object whose brace stands at ``start``, and where its closing brace stands."""
    found: list[_Member] = []
    at = _skip(text, start + 1)
    while text[at] != "}":
        name, named = _decoder.raw_decode(text, at)
        value = _skip(text, _skip(text, named) + 1)
        _, end = _decoder.raw_decode(text, value)
        found.append(_Member(name, at, named, value, end))
        at = _skip(text, end)
        if text[at] == ",":
            at = _skip(text, at + 1)
    return found, at


def _skip(text: str, at: int) -> int:
    while text[at] in _BLANK:
        at += 1
    return at


def _no_constant(name: str) -> None:
    raise JsonError(f"line 1, column 1: {name} is no JSON")
