"""Files are edited to the byte: one value changes, nothing else does."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pathfit.remedies.files import diff, edited
from pathfit.remedies.jsontext import JsonError, parse, put

MTU = ("mtu",)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("", '{\n  "mtu": 1400\n}\n'),
        (" \n", '{\n  "mtu": 1400\n}\n'),
        ("{}", '{\n  "mtu": 1400\n}'),
        ("{ }\n", '{\n  "mtu": 1400\n}\n'),
        ('{"a":1}', '{"mtu":1400,"a":1}'),
        ('{"a": 1}\n', '{"mtu": 1400, "a": 1}\n'),
        ('{ "a": 1, "b": 2 }\n', '{ "mtu": 1400, "a": 1, "b": 2 }\n'),
        ('{\n    "a": 1\n}', '{\n    "mtu": 1400,\n    "a": 1\n}'),
        ('{\n\t"a": [1,\n2]\n}\n', '{\n\t"mtu": 1400,\n\t"a": [1,\n2]\n}\n'),
        ('{\r\n  "a": 1\r\n}\r\n', '{\r\n  "mtu": 1400,\r\n  "a": 1\r\n}\r\n'),
        ('{\n  "a" : 1,\n\n  "b" : 2\n}\n', '{\n  "mtu" : 1400,\n  "a" : 1,\n\n  "b" : 2\n}\n'),
        ('{"mtu":1500 , "a":1}', '{"mtu":1400 , "a":1}'),
        ('{"mtu": "1500", "x": {"mtu": 9}}', '{"mtu": 1400, "x": {"mtu": 9}}'),
        ('{"mtu": {"a": 1}}', '{"mtu": 1400}'),
        ('{"mtu": 1, "mtu": 2}', '{"mtu": 1, "mtu": 1400}'),  # the last one counts
        ('{"m\\u0074u": 1500}', '{"m\\u0074u": 1400}'),
        ('{"a": "}, {\\"mtu\\": 7"}', '{"mtu": 1400, "a": "}, {\\"mtu\\": 7"}'),
        ('\ufeff{"a": 1}', '\ufeff{"mtu": 1400, "a": 1}'),
    ],
)
def test_one_value_is_set(old: str, new: str) -> None:
    assert put(old, MTU, 1400) == new


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('{"a":1}', '{"x":{"y": {"z": "v"}},"a":1}'),
        ('{\n  "a": 1\n}\n', '{\n  "x": {\n    "y": {\n      "z": "v"\n    }\n  },\n  "a": 1\n}\n'),
        ('{\n    "x": {}\n}\n', '{\n    "x": {\n        "y": {\n            "z": "v"\n        }\n    }\n}\n'),
        ('{\n  "x": {\n    "y": {"z": "w", "q": 1}\n  }\n}\n', '{\n  "x": {\n    "y": {"z": "v", "q": 1}\n  }\n}\n'),
        ('{\n  "x": {\n    "k": 1\n  }\n}', '{\n  "x": {\n    "y": {\n      "z": "v"\n    },\n    "k": 1\n  }\n}'),
        ('{"x": null}', '{"x": {"y": {"z": "v"}}}'),
    ],
)
def test_a_value_deep_inside_is_set_in_the_style_of_the_file(old: str, new: str) -> None:
    assert put(old, ("x", "y", "z"), "v") == new


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ('{"mtu": 1500,\n}', "line 2, column 1"),
        ("{'mtu': 1500}", "line 1, column 2"),
        ('{"a": 1}\n{"b": 2}\n', "line 2, column 1"),
        ('{"a": 1, // mine\n}', "line 1, column 10"),
        ("[1]", "not an object"),
        ('{"a": NaN}', "NaN"),
        ('{"a": ' + "[" * 100_000, "nested too deeply"),
        ('{"a": ' + "1" * 5_000 + "}", "too many digits"),
    ],
)
def test_what_is_no_json_is_never_edited_and_the_place_is_named(text: str, where: str) -> None:
    with pytest.raises(JsonError, match=where):
        put(text, MTU, 1400)


SCALARS = st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=4)
VALUES = st.recursive(SCALARS, lambda x: st.lists(x, max_size=3) | st.dictionaries(st.text(max_size=3), x, max_size=3))


@given(
    st.dictionaries(st.text(max_size=4), VALUES, max_size=4),
    st.sampled_from([None, 1, 4, "\t"]),
    st.sampled_from([("mtu",), ("a", "b"), ("", "mtu")]),
    st.booleans(),
)
def test_any_object_keeps_all_it_had(
    old: dict[str, object], indent: int | str | None, path: object, crlf: bool
) -> None:
    text = json.dumps(old, indent=indent, ensure_ascii=False)
    text = text.replace("\n", "\r\n") if crlf else text
    names: tuple[str, ...] = path  # type: ignore[assignment]
    new = put(text, names, 1400)
    wanted = json.loads(text)
    at = wanted
    for name in names[:-1]:
        if not isinstance(at.get(name), dict):
            at[name] = {}
        at = at[name]
    at[names[-1]] = 1400
    assert parse(new) == wanted
    assert [x for x in parse(new) if x in old] == list(old)  # and in the same order
    assert put(new, names, 1400) == new
    assert ("\n" in new.replace("\r\n", "")) <= (not crlf or "\r\n" not in text)


def test_a_new_line_is_the_only_one_that_changes() -> None:
    old = '{\n  "dns": ["198.18.1.1"],\n  "debug": true\n}\n'
    changed = [x for x in diff("/etc/x", old, put(old, MTU, 1400)).splitlines()[2:] if x[0] in "+-"]
    assert changed == ['+  "mtu": 1400,']


def test_a_diff_shows_no_password() -> None:
    old = '{\n  "proxies": {"http-proxy": "http://me:hunter2@proxy:3128"}\n}\n'
    edit, change = edited("/etc/docker/daemon.json", old, put(old, MTU, 1400))
    assert "http://***@proxy:3128" in edit.diff and "hunter2" not in edit.diff
    assert "hunter2" in change.new and change.old == old


def test_a_diff_is_one_that_patch_takes() -> None:
    assert diff("/etc/x", None, "a\n") == "--- /dev/null\n+++ /etc/x\n@@ -0,0 +1 @@\n+a\n"
    old, new = "a\x0cb\u2028c\nlast", "a\x0cb\u2028c\nmore\nlast"
    assert diff("/etc/x", old, new).splitlines(True)[-1] == "\\ No newline at end of file\n"
    edit, change = edited("/etc/x", old, new)
    assert (edit.new, change.new, change.old) == (new, new, old)
