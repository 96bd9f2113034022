"""Snapshots from strangers: opened, or refused with a line that names the place; never a crash, never a wait.

One that cannot be opened among others is told and left out, and what was asked is answered from the rest.
"""

import gzip
import json
import os
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rig import COMMAND, Ended, obeyed, pathfit, run, side_by_side

BESIDE = 2
LARGE = 700.0  # megabytes: what the bound of half a gigabyte of values comes to, with the text beside it
QUESTION = ("--from", "netns:c", "--to", "netns:s:443")
C, S = "4:1", "4:2"
WHOLE: dict[str, Any] = {
    "schema": "pathfit.snapshot/1",
    "version": "1.0",
    "host": "h",
    "boot_id": "b",
    "namespaces": [
        {
            "id": here,
            "where": f"netns:{name}",
            "links": [{"index": 2, "name": "eth0", "mtu": 1500, "kind": "veth", "mac": f"02:00:00:00:00:0{n}",
                       "peer": 2, "peer_nsid": 0, "peer_ns": there}],
            "addresses": [{"link": 2, "address": f"198.18.1.{n}", "prefix": 24}],
            "routes": [{"family": 4, "table": 254, "dst": "198.18.1.0", "prefix": 24, "hops": [{"link": 2}]}],
        }
        for n, (name, here, there) in enumerate([("c", C, S), ("s", S, C)], 1)
    ],
}  # fmt: skip


def changed(path: str = "", value: Any = None, **top: Any) -> bytes:
    """The whole file with one value put at ``path`` ("namespaces.0.links.0.mtu"), and others on top."""
    made = json.loads(json.dumps({**WHOLE, **top}))
    if path:
        *way, last = [int(x) if x.isdigit() else x for x in path.split(".")]
        at = made
        for step in way:
            at = at[step]
        at[last] = value
    return json.dumps(made).encode()


def bomb() -> bytes:
    """Two gigabytes of blanks, a megabyte as gzip."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    blanks = b" " * (1 << 20)
    return b"".join([*(packer.compress(blanks) for _ in range(2048)), packer.flush()])


def many(count: int, thing: bytes, path: bytes = b'"links": [') -> bytes:
    return changed().replace(path, path + (thing + b",") * count, 1)


REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", "not a pathfit document"),
    "blanks": (lambda: b" \n" * 1000, "not a pathfit document"),
    "cut in the middle": (lambda: changed()[: len(changed()) // 2], "not a pathfit document"),
    "something behind it": (lambda: changed() + b"{}", "not a pathfit document"),
    "binary": (lambda: bytes(range(256)) * 64, "not a pathfit document"),
    "not UTF-8": (lambda: changed().replace(b"netns:c", b"netns\xff", 1), "damaged pathfit.snapshot/1"),
    "a list": (lambda: b"[" + changed() + b"]", "not a pathfit document"),
    "a case": (lambda: changed(schema="pathfit.case/1"), "this is a pathfit.case/1, expected pathfit.snapshot/1"),
    "newer": (lambda: changed(schema="pathfit.snapshot/2", version="9.1"), "made by pathfit 9.1 (pathfit.snapshot/2)"),
    "newer, of another shape": (
        lambda: changed(schema="pathfit.snapshot/2", version="9.1", namespaces={}), "made by pathfit 9.1"),
    "newer, named in escapes": (lambda: changed(schema="pathfit.snapshot/2", version="\x1b[2J\u202e"), "made by"),
    "nested": (lambda: b'{"schema":"pathfit.snapshot/1","namespaces":' + b"[" * 500_000, "document"),
    "nested and closed": (
        lambda: changed("namespaces", "X").replace(b'"X"', b"[" * 9999 + b"]" * 9999), "recursion depth"),
    "namespaces are a word": (lambda: changed("namespaces", "none"), "$.namespaces"),
    "a float for an MTU": (lambda: changed("namespaces.0.links.0.mtu", 1500.5), "$.namespaces[0].links[0].mtu"),
    "an endless MTU": (lambda: changed("namespaces.0.links.0.mtu", 10**400), "$.namespaces[0].links[0].mtu"),
    "more digits than Python reads": (
        lambda: changed("namespaces.0.links.0.mtu", "X").replace(b'"X"', b"9" * 20_000), "links[0].mtu"),
    "less than nothing": (lambda: changed("namespaces.1.links.0.mtu", -1), "$.namespaces[1].links[0].mtu"),
    "infinity": (lambda: changed("namespaces.0.links.0.mtu", "X").replace(b'"X"', b"1e999"), "out of range"),
    "an address that is none": (
        lambda: changed("namespaces.0.addresses.0.address", "1.2.3.400"), "$.namespaces[0].addresses[0]"),
    "a prefix of 33 bits": (lambda: changed("namespaces.1.routes.0.prefix", 33), "$.namespaces[1].routes[0].dst"),
    "a route of the other family": (
        lambda: changed("namespaces.0.routes.0.family", 6), "$.namespaces[0].routes[0].dst"),
    "a gateway that is none": (
        lambda: changed("namespaces.0.routes.0.hops.0.via", "\x1b[31m"), "$.namespaces[0].routes[0].hops[0].via"),
    "an association of two families": (
        lambda: changed("namespaces.0.xfrm_states", [
            {"family": 4, "src": "198.18.1.1", "dst": "2001:db8::1", "spi": 1}]),
        "$.namespaces[0].xfrm_states[0]",
    ),
    "an IPsec policy for 33 bits": (
        lambda: changed("namespaces.0.xfrm_policies", [
            {"family": 4, "direction": "out", "dst": "198.18.1.0", "dst_prefix": 33}]),
        "$.namespaces[0].xfrm_policies[0]",
    ),
    "a filter of another kind": (
        lambda: changed("namespaces.0.tables", [{"family": "ip", "name": "t", "chains": [
            {"name": "c", "rules": [{"exprs": [{"is": "Magic"}]}]}]}]), "Magic"),
    "its own master": (lambda: changed("namespaces.0.links.0.master", 2), "lies on itself"),
    "a bridge in itself": (
        lambda: changed("namespaces.0.links.0", {"index": 2, "name": "b", "mtu": 1500, "kind": "bridge", "master": 2}),
        "lies on itself",
    ),
    "a thousand VLANs on each other": (lambda: changed("namespaces.0.links", [
        {"index": i, "name": f"v{i}", "mtu": 1500, "kind": "vlan", "peer": i - 1} for i in range(2, 1002)]), "lies on"),
    "gzip, cut": (lambda: gzip.compress(changed())[:-9], "damaged gzip"),
    "gzip of something else": (lambda: b"\x1f\x8b" + bytes(1000), "damaged gzip"),
    "gzip in gzip": (lambda: gzip.compress(gzip.compress(changed())), "document"),
}  # fmt: skip


@pytest.fixture(scope="module")
def refusals(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], Ended]]:
    base = tmp_path_factory.mktemp("refused")

    def ask(case: str) -> Ended:
        path = base / f"{list(REFUSED).index(case)}.json"
        path.write_bytes(REFUSED[case][0]())
        return pathfit("predict", "--in", str(path), *QUESTION)

    with side_by_side(request, ask, BESIDE) as result:
        yield result


@pytest.mark.parametrize("case", REFUSED)
def test_refused_with_the_place(case: str, refusals: Callable[[str], Ended]) -> None:
    ended = refusals(case)
    assert (ended.status, ended.out) == (3, "")
    path = ended.tries[0].removeprefix("try: ls -l ")
    assert ended.err.startswith(f"pathfit: {path}: ")
    assert REFUSED[case][1] in ended.err, ended.err
    assert len(ended.err) < 2000


def bounded(path: Path, command: str = "predict") -> Ended:
    """A run that may take as much memory as the largest snapshot there is."""
    words = QUESTION if command == "predict" else ()
    ended = run([*COMMAND, command, "--in", str(path), *words], None, 20.0)
    said = f"{ended.status} {ended.seconds} s {ended.megabytes} MB\n{ended.out[:2000]}\n{ended.err[:2000]}"
    assert "Traceback" not in said and "report what it prints" not in said, said
    assert ended.seconds <= 20 and ended.megabytes <= LARGE and not obeyed(ended.out + ended.err), said
    return ended


HUGE: dict[str, tuple[Callable[[], bytes], str]] = {
    "a gzip bomb": (bomb, "larger than 128 MB"),
    "a million links": (lambda: many(1_000_000, b'{"index":7,"name":"a","mtu":1500}'), ""),
    "three million links": (lambda: many(3_000_000, b'{"index":7,"name":"a","mtu":1500}'), "more values than"),
    "ten million names": (
        lambda: changed("namespaces.0.names", ["X"]).replace(b'"X"', b'"x",' * 10_000_000 + b'"x"'), "more values"),
    "a name of 60 MB": (lambda: changed("namespaces.0.where", "x" * (60 << 20)), ""),
    "200 000 namespaces": (
        lambda: many(200_000, b'{"id":"4:9","where":"netns:x"}', b'"namespaces": ['), ""),
}  # fmt: skip


@pytest.mark.parametrize("case", HUGE)
def test_what_is_too_much_is_bounded(case: str, tmp_path: Path) -> None:
    make, said = HUGE[case]
    (tmp_path / "x.json").write_bytes(make())
    ended = bounded(tmp_path / "x.json")
    assert (ended.status == 3 and said in ended.err) if said else ended.status in (0, 1, 3), ended.err[:500]


def odd_files(base: Path) -> Iterator[tuple[Path, str]]:
    """Things that are no file of ours: (path, what is said)."""
    yield base / "nowhere", "No such file"
    yield base / ("x" * 300), "File name too long"
    os.mkfifo(base / "fifo")
    yield base / "fifo", "not a regular file"
    (base / "empty").mkdir()
    yield base / "empty", "no snapshot in it"
    for name, there in {
        "zero": "/dev/zero",
        "tty": "/dev/tty",
        "kernel": "/proc/kmsg",
        "loop": str(base / "loop"),
    }.items():
        (base / name).symlink_to(there)
        yield base / name, ""
    with open(base / "sparse.json", "wb") as f:
        f.truncate(10 << 30)
    yield base / "sparse.json", "larger than 128 MB"
    odd = base / "a b\x1b[31m\n.json"
    odd.write_bytes(changed()[:50])
    yield odd, "a b\\x1b[31m\\n.json"


def test_what_is_no_file_of_ours(tmp_path: Path) -> None:
    for path, said in odd_files(tmp_path):
        ended = pathfit("predict", "--in", str(path), *QUESTION, seconds=5)
        assert (ended.status, ended.out) == (3, ""), path
        assert said in ended.err, ended.err
    assert "not a pathfit document" in pathfit("predict", "--in", "-", *QUESTION, seconds=5).err


def mesh(count: int) -> bytes:
    """Bridges, each joined to each other by a veth pair: more simple ways than anybody can follow."""
    links: list[dict[str, Any]] = [
        {"index": i + 10, "name": f"br{i}", "mtu": 1500, "kind": "bridge"} for i in range(count)
    ]
    for a in range(count):
        for b in range(a):
            at = 100 + 2 * (a * count + b)
            links += [
                {"index": at, "name": f"v{at}", "mtu": 1500, "kind": "veth", "peer": at + 1, "master": a + 10},
                {"index": at + 1, "name": f"v{at + 1}", "mtu": 1500, "kind": "veth", "peer": at, "master": b + 10},
            ]
    lan = {"address": "198.18.1.1", "link": 10, "prefix": 24}
    return changed(
        "namespaces.0",
        {
            **WHOLE["namespaces"][0],
            "links": links,
            "addresses": [lan],
            "routes": [{"family": 4, "table": 254, "dst": "198.18.1.0", "prefix": 24, "hops": [{"link": 10}]}],
        },
    )


POSSIBLE: dict[str, bytes] = {
    "as it is": changed(),
    "twice the same id": changed("namespaces", [*WHOLE["namespaces"], *WHOLE["namespaces"]]),
    "twice the same index": changed("namespaces.0.links", WHOLE["namespaces"][0]["links"] * 2),
    "a peer that is not there": changed("namespaces.0.links.0.peer", 99),
    "a peer in a namespace that is not there": changed("namespaces.0.links.0.peer_ns", "4:99"),
    "its own peer": changed("namespaces.0.links.0.peer_ns", C),
    "twelve bridges in a mesh": mesh(12),
    "no links": changed("namespaces.0.links", []),
    "no routes": changed("namespaces.0.routes", []),
    "a device of an unknown kind": changed("namespaces.0.links.0.kind", "warp"),
    "a rule that jumps to itself": changed("namespaces.1.tables", [{"family": "ip", "name": "filter", "chains": [
        {"name": "input", "hook": "input", "rules": [
            {"exprs": [{"is": "Verdict", "kind": "jump", "target": "input"}]}]}]}]),
    "policy rules in a circle": changed("namespaces.0.rules", [
        {"family": 4, "priority": 5, "action": "goto", "goto": 5}, {"family": 4, "priority": 9, "action": "goto"}]),
    "a name a terminal would obey": changed("namespaces.0.links.0.name", "\x1b[31meth0\u202e"),
}  # fmt: skip


@pytest.fixture(scope="module")
def answers(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], Ended]]:
    base = tmp_path_factory.mktemp("possible")

    def ask(case: str) -> Ended:
        path = base / f"{list(POSSIBLE).index(case)}.json"
        path.write_bytes(POSSIBLE[case])
        return pathfit("predict", "--in", str(path), *QUESTION, "-v")

    with side_by_side(request, ask, BESIDE) as result:
        yield result


@pytest.mark.parametrize("case", POSSIBLE)
def test_what_could_be_is_answered(case: str, answers: Callable[[str], Ended]) -> None:
    ended = answers(case)
    assert ended.status in (0, 1, 3) and ended.out
    if case == "as it is":
        assert ended.status == 0 and ended.out.startswith("HEALTHY")


def test_what_stands_beside_a_damaged_file_is_used(tmp_path: Path) -> None:
    (tmp_path / "b.json").write_bytes(changed())
    for name in ("a.json", "c.json", "d.json.gz"):
        (tmp_path / name).write_bytes(b"\x1f\x8b{")
    os.mkfifo(tmp_path / "e.json")
    ended = pathfit("predict", "--in", str(tmp_path), *QUESTION, "--json")
    said = json.loads(ended.out)
    assert (ended.status, said["verdict"]) == (0, "healthy")
    assert [os.path.basename(m["what"]) for m in said["missing"]] == ["a.json", "c.json", "d.json.gz", "e.json"]
    assert all(m["why"] and m["how"] for m in said["missing"])


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["-o", "/nowhere/x.json"], 3, "cannot write /nowhere/x.json: No such file or directory"),
        (["-o", "/dev/full"], 3, "No space left"),
        (["-o", "/"], 3, "cannot write /: Is a directory"),
        ([], 2, "Missing option"),
        (["-o", "-", "--json"], 2, "cannot both"),
        (["-o", "/dev/null", "--redact", "--redact-key", "/nowhere"], 2, "is not a file"),
        (["-o", "/dev/null", "--redact", "--redact-key", "/dev/zero"], 2, "is not a file"),
        (["-o", "/dev/null", "--redact-key", "/etc/hostname"], 2, "says how to redact"),
    ],
)
def test_snapshots_that_cannot_be_written(words: list[str], status: int, said: str) -> None:
    ended = pathfit("snapshot", *words)
    assert ended.status == status and said in ended.err, ended.err
