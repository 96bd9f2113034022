"""YAML as a strict, bounded notation: no tags, no anchors, no surprises, and every value knows its line.

YAML 1.1 turns ``no`` into False, ``1:30`` into 90 and ``2001-01-01`` into a date; two equal keys silently become
one. A scenario is read by people, so here: only ``true``/``false`` are booleans, numbers are decimal, a repeated
key is an error, and anchors (the "billion laughs") are refused.
"""

import re
from typing import Any

import yaml

MAX_BYTES = 256 * 1024
MAX_NODES = 20_000
MAX_DEPTH = 20


class YamlError(ValueError):
    """Not a document we read; the message begins with ``line N:``."""


class _Loader(yaml.SafeLoader):
    """SafeLoader with the implicit types of JSON."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}


_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|false)$"), list("tf"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^-?(?:0|[1-9][0-9]*)$"), list("-0123456789"))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^-?(?:0|[1-9][0-9]*)\.[0-9]+$"), list("-0123456789")
)
_Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"^(?:null|~|)$"), ["n", "~", ""])


def parse(data: bytes) -> tuple[Any, dict[str, int]]:
    """The document as plain values, and the line (from 1) of every place in it.

    Places are written ``cables[1].mtu``; the whole document is "". Raises YamlError.
    """
    if len(data) > MAX_BYTES:
        raise YamlError(f"line 1: {len(data)} bytes; at most {MAX_BYTES} are read")
    try:
        text = data.decode()
    except UnicodeDecodeError as e:
        raise YamlError(f"line {data[: e.start].count(10) + 1}: not UTF-8") from None
    try:
        for token in yaml.scan(text, Loader=_Loader):
            if isinstance(token, yaml.AnchorToken | yaml.AliasToken | yaml.TagToken):
                raise YamlError(f"line {token.start_mark.line + 1}: anchors, aliases and tags are not read")
        node = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as e:
        line = e.problem_mark.line + 1 if e.problem_mark else 1
        raise YamlError(f"line {line}: {e.problem or 'not YAML'}") from None
    except (yaml.YAMLError, RecursionError) as e:
        raise YamlError(f"line 1: not YAML: {e}") from None
    if node is None:
        raise YamlError("line 1: empty document")
    lines: dict[str, int] = {}
    return _value(node, "", 0, lines), lines


def _value(node: yaml.Node, place: str, depth: int, lines: dict[str, int]) -> Any:
    line = node.start_mark.line + 1
    lines[place] = line
    if depth > MAX_DEPTH or len(lines) > MAX_NODES:
        raise YamlError(f"line {line}: too deep or too long (at most {MAX_DEPTH} levels, {MAX_NODES} values)")
    if isinstance(node, yaml.MappingNode):
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = key_node.value
            if not isinstance(key_node, yaml.ScalarNode):
                raise YamlError(f"line {key_node.start_mark.line + 1}: a key must be a word")
            if key in found:
                raise YamlError(f"line {key_node.start_mark.line + 1}: {key!r} stands here twice")
            found[key] = _value(value_node, f"{place}.{key}" if place else key, depth + 1, lines)
        return found
    if isinstance(node, yaml.SequenceNode):
        return [_value(item, f"{place}[{i}]", depth + 1, lines) for i, item in enumerate(node.value)]
    return _scalar(node)


def _scalar(node: yaml.Node) -> Any:
    kind = node.tag.rpartition(":")[2]
    text: str = node.value
    if kind == "int":
        return int(text) if len(text) < 20 else text
    if kind == "float":
        return float(text)
    if kind == "bool":
        return text == "true"
    if kind == "null":
        return None
    return text
