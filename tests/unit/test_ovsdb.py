"""The database of Open vSwitch: what it is asked, and that whoever answers in its place does no harm."""

import json
import socket
import threading
from pathlib import Path

import pytest
from ovsdb_stand_in import UUID, Database

from pathfit.apply.ovs import OvsMtu
from pathfit.apply.step import Foreign, Gone, Impossible
from pathfit.core.change import SetOvsMtu
from pathfit.host import ovsdb
from pathfit.host.ovsdb import Interface


@pytest.fixture
def database(tmp_path: Path) -> Database:
    (tmp_path / "etc").mkdir()
    return Database(tmp_path / "etc" / "ovs.json", "br0")


def answering(tmp_path: Path, data: bytes) -> str:
    """A socket where somebody says ``data`` to the first who comes, and hangs up."""
    listener = socket.socket(socket.AF_UNIX)
    path = str(tmp_path / "other.sock")
    listener.bind(path)
    listener.listen(1)

    def talk() -> None:
        conn, _ = listener.accept()
        with conn, listener:
            conn.recv(65536)
            conn.sendall(data)

    threading.Thread(target=talk, daemon=True).start()
    return path


def test_an_interface_is_read_and_told(database: Database) -> None:
    assert ovsdb.interface(database.path, "br0") == Interface(UUID, None, 1500)
    assert ovsdb.interface(database.path, "br1") is None
    ovsdb.request_mtu(database.path, UUID, 1450)
    assert ovsdb.interface(database.path, "br0") == Interface(UUID, 1450, 1450)
    ovsdb.request_mtu(database.path, UUID, None)
    assert ovsdb.interface(database.path, "br0") == Interface(UUID, None, 1450)


ROWS = b'{"id": 1, "error": null, "result": [{"rows": %s}]}'


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"[1, 2",
        b'{"id": 1, "result": null, "error": "unknown database"}',
        b'{"id": 1, "result": 7, "error": null}',
        b'{"id": 1, "result": [{"error": "constraint violation", "details": "no"}], "error": null}',
        b'{"id": 2, "result": [{"rows": []}], "error": null}',
        ROWS % b'"x"',
        ROWS % b"[1]",
        ROWS % b'[{"_uuid": "x"}]',
        ROWS % b'[{"_uuid": ["uuid", 7]}]',
        ROWS % b'[{"_uuid": ["uuid", "a"]}, {"_uuid": ["uuid", "b"]}]',
        b"[" * 100_000,
        b'{"id": 3}' * 1000,
    ],
)
def test_whoever_answers_something_else_is_refused(tmp_path: Path, data: bytes) -> None:
    path = answering(tmp_path, data)
    with pytest.raises((ValueError, OSError)):
        ovsdb.interface(path, "br0")


def test_a_database_that_is_none_makes_the_repair_impossible(tmp_path: Path) -> None:
    change = SetOvsMtu(socket=answering(tmp_path, b"220 mail ESMTP"), interface="br0", mtu=1450)
    with pytest.raises(Impossible):
        OvsMtu().prepare(change, "t")


def test_done_and_undone_twice(database: Database) -> None:
    step, change = OvsMtu(), SetOvsMtu(socket=database.path, interface="br0", mtu=1450)
    first = json.dumps(database.read())
    before = step.prepare(change, "t")
    step.undo(change, before, "t")
    for _ in range(2):
        step.perform(change, before, "t")
    assert step.holds(change, before) and database.read()["mtu"] == 1450
    for _ in range(2):
        step.undo(change, before, "t")
    assert json.dumps(database.read()) == first, "the device's MTU as well"


@pytest.mark.parametrize("request_before", [None, 1490])
def test_what_somebody_else_requests_is_theirs(database: Database, request_before: int | None) -> None:
    if request_before is not None:
        ovsdb.request_mtu(database.path, UUID, request_before)
    step, change = OvsMtu(), SetOvsMtu(socket=database.path, interface="br0", mtu=1450)
    before = step.prepare(change, "t")
    ovsdb.request_mtu(database.path, UUID, 1400)
    with pytest.raises(Foreign):
        step.perform(change, before, "t")
    with pytest.raises(Foreign) as told:
        step.undo(change, before, "t")
    assert str(request_before or "[]") in told.value.how[0]
    assert ovsdb.interface(database.path, "br0") == Interface(UUID, 1400, 1400)


def test_an_interface_that_is_made_anew_is_another(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    step, change = OvsMtu(), SetOvsMtu(socket=database.path, interface="br0", mtu=1450)
    before = step.prepare(change, "t")
    monkeypatch.setattr("ovsdb_stand_in.UUID", "0f9e1c3a-0000-4000-8000-000000000002")
    for call in (step.perform, step.undo):
        with pytest.raises(Gone):
            call(change, before, "t")
