"""`pathfit map`: formats, files, places, exit statuses. Live ones run in namespaces of their own."""

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from maps import LAB, overlay
from topo import host

from pathfit.core.snapshot import HostSnapshot
from pathfit.observe.recorded import pack

PLAIN = {k: v for k, v in os.environ.items() if k not in ("LC_ALL", "LC_MESSAGES")} | {"LANG": "C.UTF-8"}


def run(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pathfit", "map", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=PLAIN | env, check=False)


def saved(tmp_path: Path, *hosts: HostSnapshot) -> list[str]:
    words = []
    for n, one in enumerate(hosts):
        (tmp_path / f"{n}.json").write_bytes(pack(one))
        words += ["--in", str(tmp_path / f"{n}.json")]
    return words


def test_text_of_a_snapshot(tmp_path: Path) -> None:
    done = run(*saved(tmp_path, host(LAB)))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("h   4 namespaces, 11 devices\n") and done.stdout.endswith("map -o map.html\n")


def test_ascii_under_lang_c(tmp_path: Path) -> None:
    assert run(*saved(tmp_path, host(LAB)), LANG="C", LC_CTYPE="C").stdout.isascii()
    assert "命名空间" in run(*saved(tmp_path, host(LAB)), "--lang", "zh").stdout


@pytest.mark.parametrize(
    ("words", "begins"),
    [
        (["-o", "m.html"], b"<!DOCTYPE html>"),
        (["-o", "m.HTM"], b"<!DOCTYPE html>"),
        (["-o", "m.json"], b"{"),
        (["-o", "m.txt"], b"h   4 namespaces"),
        (["-o", "m.page", "--format", "html"], b"<!DOCTYPE html>"),
        (["-o", "m.page", "--json"], b"{"),
    ],
)
def test_a_file_by_its_name(tmp_path: Path, words: list[str], begins: bytes) -> None:
    path = tmp_path / words[1]
    done = run(*saved(tmp_path, host(LAB)), "-o", str(path), *words[2:])
    assert (done.returncode, done.stdout) == (0, "")
    assert path.read_bytes().startswith(begins) and str(path) in done.stderr
    assert [p.name for p in tmp_path.iterdir() if "part" in p.name] == []


def test_stdout_by_format(tmp_path: Path) -> None:
    for words in (["--json"], ["--format", "json"], ["-o", "-", "--format", "json"]):
        document = msgspec.json.decode(run(*saved(tmp_path, host(LAB)), *words).stdout)
        assert document["schema"] == "pathfit.map/1" and len(document["hosts"][0]["namespaces"]) == 4
    assert run(*saved(tmp_path, host(LAB)), "-o", "-", "--format", "html").stdout.startswith("<!DOCTYPE html>")


def test_findings_of_a_scan_are_on_it(tmp_path: Path) -> None:
    document = msgspec.json.decode(run(*saved(tmp_path, host(LAB)), "--json").stdout)
    devices = [d for n in document["hosts"][0]["namespaces"] for d in n["devices"]]
    assert any(r["code"] and r["severity"] in ("error", "warning") for d in devices for r in d["remarks"])


@pytest.mark.parametrize(
    "to", ["198.18.3.2", "198.18.3.2:443", "https://198.18.3.2/", "netns:s", "h!netns:s", "netns:s:80"]
)
def test_a_path(tmp_path: Path, to: str) -> None:
    document = msgspec.json.decode(run(*saved(tmp_path, host(LAB)), "--from", "netns:c", "--to", to, "--json").stdout)
    assert document["asked"]["from"] == "netns:c"
    assert document["paths"]["forward"]["limit"]["place"] == "netns:h/eth0"
    assert document["paths"]["reverse"]["limit"]["mtu"] == 1420


def test_the_address_of_a_place_is_one_that_is_reached(tmp_path: Path) -> None:
    """The nearer of a router's two addresses, or any that arrives."""
    document = msgspec.json.decode(
        run(*saved(tmp_path, host(LAB)), "--from", "netns:s", "--to", "netns:h", "--json").stdout
    )
    assert document["paths"]["forward"]["fate"] == "delivered"


def test_two_hosts(tmp_path: Path) -> None:
    done = run(*saved(tmp_path, *overlay()), "--from", "ci-1!netns:web.1", "--to", "ci-2!netns:web.2", "--json")
    document = msgspec.json.decode(done.stdout)
    assert [h["name"] for h in document["hosts"]] == ["ci-1", "ci-2"]
    assert document["paths"]["forward"]["mtu"] == 1450


@pytest.mark.parametrize(
    ("words", "status", "says", "typed"),
    [
        (["-o", "map.pdf"], 2, "'map.pdf' does not say what to write", "pathfit map -o map.html"),
        (["-o", "-"], 2, "--format", "--format html"),
        (["--json", "--format", "html"], 2, "exclude each other", "pathfit map --format html"),
        (["--from", "netns:c"], 2, "--from needs a target", "--to 203.0.113.1"),
        (["--to", "example.org"], 2, "is a name, not an address", "getent ahosts example.org"),
        (["--from", "c", "--to", "192.0.2.1"], 2, "'c' is no place", "pathfit map --from container:c --to 192.0.2.1"),
        (["--in", "none.json"], 3, "cannot be opened", "ls -l none.json"),
        (["--in", "/dev/null"], 3, "not a regular file", "ls -l /dev/null"),
    ],
)
def test_errors_end_in_a_line_to_type(words: list[str], status: int, says: str, typed: str) -> None:
    done = run(*words)
    assert (done.returncode, done.stdout) == (status, "")
    tries = [x for x in done.stderr.splitlines() if x.startswith("try: ")]
    assert says in done.stderr and any(typed in x for x in tries) and done.stderr.splitlines()[-1] in tries


def test_a_place_that_is_not_there(tmp_path: Path) -> None:
    done = run(*saved(tmp_path, host(LAB)), "--from", "netns:d", "--to", "198.18.3.2")
    assert done.returncode == 3 and "netns:d is not on the map" in done.stderr and "--from netns:" in done.stderr


def test_a_place_that_is_on_two_hosts(tmp_path: Path) -> None:
    done = run(*saved(tmp_path, *overlay()), "--from", "netns:1-ovl", "--to", "192.0.2.12")
    assert done.returncode == 2 and "netns:1-ovl is in 2 places" in done.stderr
    assert "--from 'ci-1!netns:1-ovl'" in done.stderr


def test_a_snapshot_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    (tmp_path / "odd.json").write_text("{")
    words = [*saved(tmp_path, host(LAB)), "--in", str(tmp_path / "odd.json")]
    assert "odd.json" in run(*words).stdout
    document = msgspec.json.decode(run(*words, "--json").stdout)
    assert [m["what"] for m in document["missing"]] == [str(tmp_path / "odd.json")]
    assert "odd.json" in run(*words, "--format", "html").stdout


@pytest.mark.parametrize("where", ["no/such/map.html", "map.html/x.html", "."])
def test_what_cannot_be_written(tmp_path: Path, where: str) -> None:
    (tmp_path / "map.html").write_text("kept")
    words = ["-o", str(tmp_path / where), "--format", "html"]
    done = run(*saved(tmp_path, host(LAB)), *words)
    assert done.returncode == 3 and "cannot write" in done.stderr
    assert (tmp_path / "map.html").read_text() == "kept"


@pytest.mark.lab
def test_this_machine(tmp_path: Path) -> None:
    name = f"pfm{os.getpid()}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        subprocess.run(
            ["ip", "link", "add", f"{name}v", "mtu", "1432", "type", "veth", "peer", "name", "eth0", "netns", name],
            check=True,
        )
        subprocess.run(["ip", "-n", name, "link", "set", "eth0", "mtu", "1400"], check=True)
        document = msgspec.json.decode(run("--json").stdout)
        found = {
            (n["where"], d["name"]): d["mtu"]
            for h in document["hosts"] for n in h["namespaces"] for d in n["devices"]
        }  # fmt: skip
        assert found[f"netns:{name}", "eth0"] == 1400 and found["host", f"{name}v"] == 1432
        gone = run("--from", f"netns:{name}x", "--to", "192.0.2.1")
        assert gone.returncode == 3 and "no namespace of that name" in gone.stderr
        path = run("--from", f"netns:{name}", "--to", "192.0.2.1")
        assert path.returncode == 0 and "out  " in path.stdout
    finally:
        subprocess.run(["ip", "netns", "del", name], check=False)
