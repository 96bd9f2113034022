"""Journals and the lock: what is on disk, what is believed, who holds it."""

import json
import os
from pathlib import Path
from typing import Any, get_args

import kit
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pathfit.apply.store import Busy, Store, Unreadable, unfinished
from pathfit.core import codec
from pathfit.core.journal import Journal, Prepared


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "state")


def written(store: Store, **more: Any) -> tuple[Journal, Path]:
    journal = store.write(msgspec.structs.replace(kit.journal(()), **more))
    return journal, store.folder / "journal" / f"{journal.id}.json"


def test_what_is_written_is_read(store: Store) -> None:
    journal, path = written(store, state="applying")
    assert store.load(journal.id) == journal
    assert path.stat().st_mode & 0o777 == 0o600 and path.parent.stat().st_mode & 0o777 == 0o700
    assert unfinished(store.folder) == [journal.id] and store.interrupted() == [journal]
    store.write(msgspec.structs.replace(journal, state="kept"))
    assert unfinished(store.folder) == [] and store.interrupted() == []
    assert [j.state for j in store.all() if isinstance(j, Journal)] == ["kept"]


def test_a_mark_without_a_journal_means_nothing_was_done(store: Store) -> None:
    written(store)
    mark = store.folder / "unfinished" / "20260101-000000-abcd"
    mark.touch()
    assert [j.id for j in store.interrupted() if isinstance(j, Journal)] != [mark.name]
    assert not mark.exists()


def test_no_folder_no_repairs(store: Store) -> None:
    assert (store.all(), store.interrupted(), store.held(), unfinished(store.folder)) == ([], [], False, [])


def test_one_at_a_time(store: Store) -> None:
    with store.locked("the first"):
        second = Store(store.folder)
        assert second.held() and not store.held()
        with pytest.raises(Busy, match="the first"), second.locked("the second", patience=0.0):
            raise AssertionError("it got in")
    with second.locked("the second", patience=0.0):
        assert store.held()
    assert not store.held()


def test_who_runs_is_not_interrupted(store: Store) -> None:
    journal, _ = written(store, state="applying")
    with Store(store.folder).locked("it"):
        assert store.interrupted() == []
    assert store.interrupted() == [journal]


HOSTILE = {
    "newer": lambda d: {**d, "schema": "pathfit.journal/9", "version": "9.9"},
    "another family": lambda d: {**d, "schema": "pathfit.case/1"},
    "no schema": lambda d: {k: v for k, v in d.items() if k != "schema"},
    "another id": lambda d: {**d, "id": "20260101-000000-abcd"},
    "unknown state": lambda d: {**d, "state": "whatever"},
    "unknown change": lambda d: {**d, "steps": [{"change": {"is": "RunCommand", "argv": ["rm", "-rf", "/"]}}]},
    "no number": lambda d: {**d, "made": "yesterday"},
    "a list": lambda d: [d],
    "nothing": lambda d: None,
}


@pytest.mark.parametrize("how", HOSTILE)
def test_what_is_no_journal_is_not_performed(store: Store, how: str) -> None:
    journal, path = written(store, state="applying")
    path.write_text(json.dumps(HOSTILE[how](json.loads(path.read_text()))))
    with pytest.raises(codec.OpenError) as caught:
        store.load(journal.id)
    assert how != "newer" or "made by pathfit 9.9" in str(caught.value)
    [found] = store.interrupted()
    assert isinstance(found, Unreadable) and found.id == journal.id


@pytest.mark.parametrize("how", ["writable by others", "a link", "a folder", "a pipe", "cut short", "no text"])
def test_what_others_could_have_written_is_not_believed(store: Store, how: str) -> None:
    journal, path = written(store, state="applying")
    if how == "writable by others":
        path.chmod(0o666)
    elif how == "cut short":
        path.write_bytes(path.read_bytes()[:-20])
    elif how == "no text":
        path.write_bytes(b"\xff\x00\x80")
    else:
        data = path.read_bytes()
        path.unlink()
        if how == "a link":
            (store.folder / "real").write_bytes(data)
            path.symlink_to(store.folder / "real")
        elif how == "a folder":
            path.mkdir()
        else:
            os.mkfifo(path)
    with pytest.raises(codec.OpenError):
        store.load(journal.id)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_another_users_journal_is_not_believed(store: Store) -> None:
    journal, path = written(store, state="applying")
    try:
        os.chown(path, 12345, 12345)
    except OSError:
        pytest.skip("one user only in this namespace")
    with pytest.raises(codec.OpenError, match="somebody else"):
        store.load(journal.id)


@pytest.mark.parametrize("name", ["", "..", "../../etc/passwd", "20260101-000000-abcd/../x", "last", "x" * 300, "2\n"])
def test_names_that_are_none(store: Store, name: str) -> None:
    with pytest.raises(codec.OpenError):
        store.load(name)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_document_breaks_it(store: Store, data: st.DataObject) -> None:
    """Any value in any place of a journal: opened, or refused by name."""
    journal, path = written(store, state="applying")
    document = json.loads(path.read_text())
    key = data.draw(st.sampled_from(sorted(document)))
    scalar = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)
    document[key] = data.draw(st.recursive(scalar, lambda x: st.lists(x, max_size=3) | st.dictionaries(st.text(), x)))
    path.write_text(json.dumps(document))
    try:
        store.load(journal.id)
    except codec.OpenError as e:
        assert str(e)
    store.all()


GOLDEN = sorted(Path(__file__).parent.glob("journal-*.json"))


def test_journals_outlive_versions(store: Store) -> None:
    """Those of 0.1.0 with every kind of change and everything filled in: opened by this version, and not one value
    lost. A kind that is new gets a journal beside the others, which never change."""
    folder = store.folder / "journal"
    folder.mkdir(parents=True, mode=0o700)
    path = folder / "20260120-150301-3f2a.json"
    kinds = set()
    for golden in GOLDEN:
        old = json.loads(golden.read_text())
        path.write_text(json.dumps({**old, "id": path.stem, "of a later minor version": 1}))
        path.chmod(0o600)
        journal = store.load(path.stem)
        again = json.loads(codec.dump(journal))
        assert {**again, "id": old["id"]} == old
        kinds |= {type(s.prepared).__name__ for s in journal.steps}
    assert kinds == {k.__name__ for k in get_args(Prepared)}, "a kind without a journal"
