"""Case folders: saved, opened, replayed; and what is refused when one comes from a stranger."""

import json
import os
from pathlib import Path

import msgspec
import pytest
import reports
from hypothesis import given, settings
from hypothesis import strategies as st

from pathfit import __version__
from pathfit.cli import saved
from pathfit.cli.stop import Stop
from pathfit.core import codec
from pathfit.core.case import SCHEMA, Case
from pathfit.core.engine import Engine
from pathfit.core.evidence import ClockFact, Missing, PlaceFact, StateFact
from pathfit.core.request import Locate, ReadClock
from pathfit.core.snapshot import SCHEMA as SNAPSHOT
from pathfit.core.snapshot import HostSnapshot
from pathfit.replay import ReplayWorld

LOCATE = Locate(ref="source", where="container:jenkins")
CLOCK = ReadClock(ref="clock")


def case() -> Case:
    empty = Case(schema=SCHEMA, version=__version__, ask=reports.ask())
    found = PlaceFact(ref="source", where="container:jenkins", netns="4:1", label="jenkins", environ={"no_proxy": "*"})
    return empty.add(LOCATE, (found,)).add(CLOCK, (ClockFact(ref="clock", took=0.25),))


def test_saved_and_opened_is_the_same(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "case-1"
    saved.prepare(folder)
    saved.save(folder, case(), b"{}", "text 文\n")
    assert saved.open_case(folder) == case()
    assert {p.name for p in folder.iterdir()} == {"case.json", "report.json", "report.txt"}
    assert (folder / "report.txt").read_text(encoding="utf-8") == "text 文\n"
    saved.prepare(folder)  # the same folder may be used again


def test_no_password_is_saved(tmp_path: Path) -> None:
    """Neither a proxy's in the source's environment nor one in an engine's configuration; the address stays."""
    config = json.dumps({"proxies": {"https-proxy": "http://me:s3cret@proxy:3128"}, "mtu": 1400}, indent=2)
    engine = Engine(kind="docker", socket="/run/docker.sock", config=config)
    place = PlaceFact(ref="source", where="host", netns="4:1", environ={"http_proxy": "http://ci:s3cret@proxy:3128/"})
    state = StateFact(ref="state", host=HostSnapshot(schema=SNAPSHOT, host="h", engines=(engine,)))
    one = case().add(Locate(ref="source", where="host"), (place, state))
    saved.save(tmp_path, one, b"{}", "")
    data = (tmp_path / saved.CASE).read_text()
    assert "s3cret" not in data
    assert data.count("://***@proxy:3128") == 2
    assert saved.open_case(tmp_path).all(StateFact)[0].host.engines[0].config == config.replace("me:s3cret", "***")


def test_replay_answers_what_was_answered() -> None:
    world = ReplayWorld(case())
    assert world.perform(LOCATE) == case().answers("source")
    assert world.perform(CLOCK) == (ClockFact(ref="clock", took=0.25),)


@pytest.mark.parametrize("request_", [Locate(ref="source", where="host"), Locate(ref="x", where="container:jenkins")])
def test_replay_of_what_was_not_asked(request_: Locate) -> None:
    (answer,) = ReplayWorld(case()).perform(request_)
    assert isinstance(answer, Missing)
    assert answer.ref == request_.ref
    assert answer.how


def write(folder: Path, data: bytes) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / saved.CASE).write_bytes(data)
    return folder


WHOLE = codec.dump(case())
NEWER = WHOLE.replace(b"pathfit.case/1", b"pathfit.case/2").replace(__version__.encode(), b"1.4")
DAMAGED = {
    "empty": (b"", "not a pathfit document"),
    "truncated": (WHOLE[: len(WHOLE) // 2], "not a pathfit document"),
    "another kind": (b'{"schema":"pathfit.journal/1"}', "expected pathfit.case/1"),
    "no schema": (b"{}", "document without schema"),
    "a list": (b"[]", "not a pathfit document"),
    "newer": (NEWER, f"made by pathfit 1.4 (pathfit.case/2), this is {__version__}"),
    "wrong shape": (WHOLE.replace(b'"took": 0.25', b'"took": "soon"'), "took"),
    "unknown evidence": (WHOLE.replace(b"ClockFact", b"GuessFact"), "GuessFact"),
    "nested": (b'{"schema":"pathfit.case/1","ask":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "document"),
    "nested in an unknown key": (b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "document"),
    "odd number": (WHOLE.replace(b"pathfit.case/1", "pathfit.case/²".encode()), "made by pathfit"),
    "endless number": (WHOLE.replace(b"pathfit.case/1", b"pathfit.case/" + b"9" * 5000), "made by pathfit"),
    "not UTF-8": (WHOLE.replace(b"jenkins", b"\xff\xfe"), "damaged"),
}


@pytest.mark.parametrize(("data", "says"), DAMAGED.values(), ids=list(DAMAGED))
def test_damaged_case(tmp_path: Path, data: bytes, says: str) -> None:
    with pytest.raises(Stop) as stop:
        saved.open_case(write(tmp_path / "c", data))
    assert stop.value.status == 3
    assert says in stop.value.message
    assert stop.value.how


def test_a_pipe_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / saved.CASE)
    with pytest.raises(Stop, match="not a regular file"):
        saved.open_case(tmp_path)


@pytest.mark.parametrize("name", ["nothing", "a\0b"])
def test_nothing_there(tmp_path: Path, name: str) -> None:
    with pytest.raises(Stop) as stop:
        saved.open_case(tmp_path / name)
    assert stop.value.status == 3


def test_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saved, "MOST_BYTES", 100)
    with pytest.raises(Stop, match="larger than"):
        saved.open_case(write(tmp_path / "c", WHOLE))


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(Stop, match=r"thesis\.tex") as stop:
        saved.prepare(tmp_path)
    assert stop.value.status == 2
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("")
    with pytest.raises(Stop, match="cannot save"):
        saved.prepare(tmp_path / "f")


@settings(max_examples=200)
@given(st.data())
def test_any_damage_is_a_stop_or_a_case(data: st.DataObject) -> None:
    """One byte changed anywhere: either it still is a case, or a sentence says why not."""
    at = data.draw(st.integers(0, len(WHOLE) - 1))
    changed = WHOLE[:at] + bytes([data.draw(st.integers(0, 255))]) + WHOLE[at + 1 :]
    try:
        found = codec.load(changed, Case, schema=SCHEMA, version=__version__)
    except codec.OpenError as e:
        assert str(e)
    else:
        assert isinstance(found, Case)
        assert msgspec.json.decode(codec.dump(found), type=Case) == found
