"""Snapshots in files: what goes in comes out, whole or not at all; what cannot be opened says why."""

import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import topo
from msgspec.structs import replace

from pathfit.core.engine import Engine
from pathfit.core.sane import check
from pathfit.host import whole
from pathfit.observe import recorded

HOST = topo.host("c eth0 1500 198.18.1.2/24 -- h vc 1500 @br0\nh br0 bridge 1500 198.18.1.1/24\n")


@pytest.mark.parametrize("name", ["a.json", "a.json.gz"])
def test_what_is_written_is_read_again(tmp_path: Path, name: str) -> None:
    whole.write(tmp_path / name, recorded.pack(HOST, compress=name.endswith(".gz")))
    assert recorded.load_snapshot(tmp_path / name) == HOST
    assert (tmp_path / name).stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == [name]


def test_the_same_host_gives_the_same_bytes() -> None:
    assert recorded.pack(HOST, compress=True) == recorded.pack(HOST, compress=True)


def test_what_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError):
        whole.write(tmp_path / "taken", b"x")
    with pytest.raises(OSError):
        whole.write(tmp_path / "no" / "such", b"x")
    assert os.listdir(tmp_path) == ["taken"]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("real")
    whole.write(tmp_path / "link", b"x")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "real").read_bytes() == b"x"


def test_a_directory_stands_for_the_snapshots_in_it(tmp_path: Path) -> None:
    for name in ("b.json", "a.json.gz", "notes.txt", "c.json.part"):
        (tmp_path / name).touch()
    assert [p.name for p in recorded.files([tmp_path, tmp_path / "x"])] == ["a.json.gz", "b.json", "x"]


def changed(**top: object) -> bytes:
    return json.dumps({**json.loads(recorded.pack(HOST)), **top}).encode()


WHOLE = recorded.pack(HOST)
REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", "not a pathfit document"),
    "cut": (lambda: WHOLE[:-20], "not a pathfit document"),
    "gzip, cut": (lambda: gzip.compress(WHOLE)[:-9], "damaged gzip"),
    "gzip of nothing": (lambda: b"\x1f\x8b", "damaged gzip"),
    "newer": (lambda: changed(schema="pathfit.snapshot/2", version="9.1", host=1), "made by pathfit 9.1"),
    "newer, of our shape": (lambda: changed(schema="pathfit.snapshot/2", version="9.1"), "made by pathfit 9.1"),
    "a case": (lambda: changed(schema="pathfit.case/1"), "this is a pathfit.case/1"),
    "a wrong type": (lambda: changed(namespaces=[{"id": "1", "where": 2}]), r"\$\.namespaces\[0\]\.where"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_snapshot_is_refused(tmp_path: Path, case: str) -> None:
    make, said = REFUSED[case]
    (tmp_path / "x").write_bytes(make())
    with pytest.raises(recorded.OpenError, match=said):
        recorded.load_snapshot(tmp_path / "x")


def test_an_old_file_without_version_opens(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(WHOLE)
    assert recorded.load_snapshot(tmp_path / "x").host == "h"


def test_devices_on_devices_are_fine() -> None:
    """A VLAN on a bond on a bridge's port, and a macvlan in another namespace: nothing lies on itself."""
    text = """
    a eth0 phys 1500 @br0
    a br0 bridge 1500
    a br0.7 vlan 1500 dev=br0 vlan_id=7
    b eth0 macvlan 1500
    """
    check(topo.host(text))


def test_passwords_in_an_engines_configuration_are_masked() -> None:
    config = '{"proxies": {"https-proxy": "https://alice:s3cret@proxy.example.org:3128"}}'
    host = replace(HOST, engines=(Engine(kind="docker", socket="/run/docker.sock", config=config),))
    text = recorded.pack(host).decode()
    assert "s3cret" not in text and "alice" not in text and "://***@proxy.example.org:3128" in text
    assert recorded.decode(text.encode()).engines[0].config == config.replace("alice:s3cret", "***")
