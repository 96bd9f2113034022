"""A saved trace says what it said, whatever strangers put into it; its document is as docs/trace.schema.json says,
and its packets are a capture."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from netlab import Net
from pcapng_reader import read
from test_trace import net
from weblab import PATHFIT, traced

from pathfit.wire import dissect, pcapng

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "trace.schema.json").read_text())
KINDS: dict[str, type | tuple[type, ...]] = {
    "object": dict, "array": list, "string": str, "boolean": bool, "integer": int, "number": (int, float),
    "null": type(None),
}  # fmt: skip

__all__ = ["net"]


def wrong(value: Any, schema: dict[str, Any], at: str = "$") -> Iterator[str]:
    """Where a value is not what a schema says: as much of draft 2020-12 as ours uses."""
    if "$ref" in schema:
        name = schema["$ref"].removeprefix("#/$defs/")
        yield from wrong(value, SCHEMA["$defs"][name], at)
    if "anyOf" in schema and all(list(wrong(value, one, at)) for one in schema["anyOf"]):
        yield f"{at}: none of them"
    if "const" in schema and value != schema["const"]:
        yield f"{at}: {value!r}"
    if "enum" in schema and value not in schema["enum"]:
        yield f"{at}: {value!r}"
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    boolean = isinstance(value, bool) and "boolean" not in kinds
    if kinds and (boolean or not any(isinstance(value, KINDS[k]) for k in kinds)):
        yield f"{at}: {value!r} is no {kinds}"
    elif isinstance(value, dict):
        yield from (f"{at}.{name}: is not there" for name in schema.get("required", ()) if name not in value)
        for name, one in schema.get("properties", {}).items():
            if name in value:
                yield from wrong(value[name], one, f"{at}.{name}")
    elif isinstance(value, list) and "items" in schema:
        for n, one in enumerate(value):
            yield from wrong(one, schema["items"], f"{at}[{n}]")


def replayed(folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([PATHFIT, "replay", str(folder), *more], capture_output=True, text=True, timeout=60)


@pytest.mark.lab
@pytest.mark.real_root
def test_a_saved_trace_says_the_same(net: Net, tmp_path: Path) -> None:
    net.ip("r", "link set vc mtu 1450")
    case, file, again = tmp_path / "case", tmp_path / "a.pcapng", tmp_path / "b.pcapng"
    status, document = traced(net, "--save", str(case), "-w", str(file))
    assert status == 1 and document["losses"] and document["ladder"]
    assert list(wrong(document, SCHEMA)) == []
    done = replayed(case, "--json", "-w", str(again))
    assert (done.returncode, json.loads(done.stdout)) == (1, document)
    assert again.read_bytes() == file.read_bytes()
    text = replayed(case).stdout
    assert all(re.sub(r"\s", "", x["text"]) in re.sub(r"\s", "", text) for x in document["losses"]), text

    links, packets = read(file.read_bytes())
    assert [x.name.partition("-")[2] for x in links] == ["c/eth0", "r/vc", "r/vs", "s/eth0"]
    assert {x.linktype for x in links} == {pcapng.ETHERNET}
    assert {p.link for p in packets} == {0, 1, 2, 3} and all(p.flags in (pcapng.IN, pcapng.OUT) for p in packets)
    assert [p.time for p in packets] == sorted(p.time for p in packets)
    assert all(dissect.without_payload(p.data, dissect.frame(p.data)) == p.data for p in packets), "headers alone"
    comments = {p.comment for p in packets}
    start = f"last seen at {net('c')}/eth0; larger than the other end of {net('c')}/eth0 takes: MTU 1450"
    assert any(c.startswith(start) for c in comments), comments
    assert sum(p.comment.startswith("last seen") for p in packets) == sum(x["packets"] for x in document["losses"])

    whole = json.loads((case / "case.json").read_text())
    for change in (nowhere, nobody, early, empty, cut_off):
        bad = json.loads(json.dumps(whole))
        facts = [a for x in bad["exchanges"] for a in x["answers"] if "opened" in a]
        watches = [x["request"] for x in bad["exchanges"] if "taps" in x["request"]]
        assert facts and watches
        change(facts[0], watches[0])
        (case / "case.json").write_text(json.dumps(bad))
        done = replayed(case)
        assert done.returncode in (0, 1, 3) and "Traceback" not in done.stderr, (change.__name__, done.stderr)


def nowhere(fact: dict[str, Any], watch: dict[str, Any]) -> None:
    for seen in fact["seen"]:
        seen["tap"] = 99


def nobody(fact: dict[str, Any], watch: dict[str, Any]) -> None:
    watch["hosts"] = ["nobody", "::1%x"]


def early(fact: dict[str, Any], watch: dict[str, Any]) -> None:
    for n, seen in enumerate(fact["seen"]):
        seen["time"], seen["length"] = -(1 << 62) + n, -1


def empty(fact: dict[str, Any], watch: dict[str, Any]) -> None:
    fact["taps"] = []


def cut_off(fact: dict[str, Any], watch: dict[str, Any]) -> None:
    for n, seen in enumerate(fact["seen"]):
        seen["data"] = seen["data"][: n % 80 // 4 * 4]


def test_a_document_that_is_none() -> None:
    assert "$.verdict: 'perhaps'" in list(wrong({"verdict": "perhaps"}, SCHEMA))
    assert "$.losses: 3 is no ['array']" in list(wrong({"losses": 3}, SCHEMA))
    assert "$.ladder[0].size: True is no ['integer']" in list(wrong({"ladder": [{"size": True}]}, SCHEMA))
