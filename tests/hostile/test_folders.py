"""Case folders from strangers: replayed, or refused with a sentence that names the place; never a traceback.

What is whole but impossible (a size of minus five, a loop of bridges, an address that is none) must come to a report
or to a refusal as well: a seeded storm of such changes is replayed in this process.
"""

import copy
import json
import os
import random
import resource
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from rig import Ended, pathfit, side_by_side

from pathfit.cli import replaying
from pathfit.cli.stop import Stop
from pathfit.lab import Lab, load

BESIDE = 2
STORM = 80  # changed cases replayed in this process; each takes a few milliseconds
LONG = 10.0  # seconds any one of them may take
Document = dict[str, Any]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, bytes]]:
    """case.json of real runs, by scenario."""
    found = {}
    for scenario in ("article-000", "vxlan-1500", "name-does-not-exist"):
        folder = tmp_path_factory.mktemp("cases") / scenario
        with Lab.up(load(scenario)) as lab:
            pathfit("diagnose", "--from", lab.where("c"), "--to", lab.target(), "--save", str(folder))
        found[scenario] = (folder / "case.json").read_bytes()
    yield found


def changed(data: bytes, **top: Any) -> bytes:
    return json.dumps({**json.loads(data), **top}).encode()


REFUSED: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "empty": (lambda d: b"", "not a pathfit document"),
    "blanks": (lambda d: b" \n" * 1000, "not a pathfit document"),
    "cut in the middle": (lambda d: d[: len(d) // 2], "not a pathfit document"),
    "cut at the end": (lambda d: d.rstrip()[:-1], "not a pathfit document"),
    "something behind it": (lambda d: d + b"{}", "not a pathfit document"),
    "binary": (lambda d: bytes(range(256)) * 64, "not a pathfit document"),
    "zeros": (lambda d: bytes(65536), "not a pathfit document"),
    "not UTF-8": (lambda d: d.replace(b"netns:", b"netns\xff", 1), "damaged pathfit.case/1"),
    "UTF-16": (lambda d: d.decode().encode("utf-16"), "not a pathfit document"),
    "a list": (lambda d: b"[" + d + b"]", "not a pathfit document"),
    "nested": (lambda d: b'{"schema":"pathfit.case/1","ask":' + b"[" * 500_000, "document"),
    "nested and closed": (
        lambda d: changed(d, ask=None).replace(b"null", b"[" * 9999 + b"]" * 9999, 1),
        "recursion depth",
    ),
    "newer": (lambda d: changed(d, schema="pathfit.case/2", version="9.1"), "made by pathfit 9.1 (pathfit.case/2)"),
    "much newer": (lambda d: changed(d, schema="pathfit.case/" + "9" * 400), "made by pathfit"),
    "newer, named in escapes": (lambda d: changed(d, schema="pathfit.case/2", version="\x1b[2J\u202e"), "made by"),
    "another kind": (lambda d: changed(d, schema="pathfit.journal/1"), "expected pathfit.case/1"),
    "no schema": (lambda d: changed(d, schema=""), "document without schema"),
    "schema is a number": (lambda d: changed(d, schema=1), "not a pathfit document"),
    "no question": (lambda d: changed(d, ask=None), "$.ask"),
    "exchanges are a word": (lambda d: changed(d, exchanges="none"), "$.exchanges"),
    "a float for a port": (lambda d: d.replace(b'"port": 8443', b'"port": 8443.5', 1), "port"),
    "infinity": (lambda d: d.replace(b'"took": ', b'"took": 1e999, "x": ', 1), "out of range"),
    "not a number": (lambda d: d.replace(b'"took": ', b'"took": NaN, "x": ', 1), "document"),
    "evidence of a kind that is not there": (lambda d: d.replace(b"StateFact", b"GuessFact"), "GuessFact"),
    "command of a kind that is not there": (lambda d: d.replace(b'"diagnose"', b'"destroy"', 1), "$.ask.command"),
}


@pytest.fixture(scope="module")
def refusals(
    request: pytest.FixtureRequest, whole: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], Ended]]:
    base = tmp_path_factory.mktemp("refused")

    def replay(case: str) -> Ended:
        folder = base / str(list(REFUSED).index(case))
        folder.mkdir()
        (folder / "case.json").write_bytes(REFUSED[case][0](whole["article-000"]))
        return pathfit("replay", str(folder))

    with side_by_side(request, replay, BESIDE) as result:
        yield result


@pytest.mark.lab
@pytest.mark.parametrize("case", REFUSED)
def test_refused_with_the_place(case: str, refusals: Callable[[str], Ended]) -> None:
    ended = refusals(case)
    assert ended.status == 3
    assert ended.out == ""
    folder = ended.tries[0].removeprefix("try: ls -l ")
    assert ended.err.startswith(f"pathfit: {folder}/case.json: ")
    assert REFUSED[case][1] in ended.err
    assert len(ended.err) < 2000


def folders(base: Path, data: bytes) -> Iterator[tuple[Path, int, str]]:
    """Things that are no case folder: (path, status, what is said)."""
    yield base / "nowhere", 3, "No such file"
    yield base / ("x" * 300), 3, "File name too long"
    (base / "file").write_text("")
    yield base / "file", 3, "Not a directory"
    (base / "empty").mkdir()
    yield base / "empty", 3, "No such file"
    for name, make in {
        "fifo": os.mkfifo,
        "folder": os.mkdir,
        "zero": lambda p: os.symlink("/dev/zero", p),
        "terminal": lambda p: os.symlink("/dev/tty", p),
        "kernel": lambda p: os.symlink("/proc/kmsg", p),
        "memory": lambda p: os.symlink("/proc/self/mem", p),
        "loop": lambda p: os.symlink(p, p),
    }.items():
        (base / name).mkdir()
        make(str(base / name / "case.json"))
        yield base / name, 3, ""
    (base / "huge").mkdir()
    with open(base / "huge" / "case.json", "wb") as f:
        f.truncate(1 << 40)
    yield base / "huge", 3, "is larger than"
    odd = base / "a b\x1b[31m\n"
    odd.mkdir()
    (odd / "case.json").write_bytes(data[:100])
    yield odd, 3, "a b\\x1b[31m\\n/case.json"


@pytest.mark.lab
def test_no_case_folder(whole: dict[str, bytes], tmp_path: Path) -> None:
    for path, status, says in folders(tmp_path, whole["article-000"]):
        ended = pathfit("replay", str(path), seconds=5)
        assert (ended.status, ended.out) == (status, ""), path
        assert says in ended.err, ended.err


@pytest.mark.lab
@pytest.mark.parametrize("scenario", ["article-000", "vxlan-1500", "name-does-not-exist"])
def test_what_was_not_recorded_is_missing(scenario: str, whole: dict[str, bytes], tmp_path: Path) -> None:
    """Exchanges taken out, twice there, or answered by somebody else's answers."""
    case = json.loads(whole[scenario])
    several = case["exchanges"]
    for n, exchanges in enumerate([[], several[:1], several[1:], several[::-1], several * 2, several[:-2]]):
        folder = tmp_path / str(n)
        folder.mkdir()
        (folder / "case.json").write_text(json.dumps({**case, "exchanges": exchanges}))
        assert pathfit("replay", str(folder)).status in (0, 1, 3)


@pytest.mark.lab
@pytest.mark.parametrize("scenario", ["article-000", "name-does-not-exist"])
def test_lines_to_type_are_not_a_trap(scenario: str, whole: dict[str, bytes], tmp_path: Path) -> None:
    """What a stranger's case makes us suggest can be pasted: names in it stay one word each."""
    trap = "https://x/;$(reboot)`id`&"
    case = json.loads(whole[scenario])
    case["ask"]["target"]["text"] = trap
    case["ask"]["source"] = f"netns:{trap}"
    for exchanges in (case["exchanges"], case["exchanges"][:1]):
        (tmp_path / "case.json").write_text(json.dumps({**case, "exchanges": exchanges}))
        ended = pathfit("replay", str(tmp_path))
        lines = [line.strip().removeprefix("$ ") for line in ended.out.splitlines() if line.strip()[:2] in ("$ ", "tr")]
        assert lines
        for line in lines:
            assert all(trap in word for word in shlex.split(line) if "reboot" in word), line


# -- a storm of changes -------------------------------------------------------------------------------------------

ODD: list[Any] = [
    *(0, -1, 1, 65535, 65536, 1 << 31, 1 << 62, -(1 << 62), 0.0, -1.5, 1e300),
    *(
        "",
        "x",
        "host",
        "netns:\x1b[31m",
        "\u202e",
        "0.0.0.0",
        "::",
        "fe80::1%x",
        "999.1.1.1",
        "{}",
        "{case}",
        "a" * 9999,
    ),
    *(True, False, None, [], {}),
]


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a document."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield (*path, key)
            yield from places(inner, (*path, key))
    elif isinstance(value, list):
        for n, inner in enumerate(value):
            yield (*path, n)
            yield from places(inner, (*path, n))


def stirred(case: Document, where: list[tuple[Any, ...]], dice: random.Random) -> Document:
    """One to four changes anywhere: another value of the same type mostly, something left out, something doubled."""
    case = copy.deepcopy(case)
    for path in dice.sample(where, dice.randint(1, 4)):
        at: Any = case
        try:
            for step in path[:-1]:
                at = at[step]
            old = at[path[-1]]
        except (LookupError, TypeError):
            continue  # an earlier change took it away
        same = [v for v in ODD if type(v) is type(old)] or ODD
        roll = dice.random()
        if roll < 0.15 and isinstance(at, list):
            del at[path[-1]]
        elif roll < 0.3 and isinstance(at, list):
            at.append(copy.deepcopy(dice.choice(at)))
        else:
            at[path[-1]] = dice.choice(same if roll < 0.95 else ODD)
    return case


@contextmanager
def little_memory() -> Iterator[None]:
    """A gigabyte more than this process has: a case that wants more gets a MemoryError, and not the whole machine."""
    old = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (1 << 30), old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, old)


@pytest.mark.lab
@pytest.mark.parametrize("scenario", ["article-000", "vxlan-1500", "name-does-not-exist"])
def test_a_storm_of_changes(
    scenario: str,
    whole: dict[str, bytes],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    case: Document = json.loads(whole[scenario])
    monkeypatch.setattr(replaying, "REPLAY", LONG)
    where = [p for p in places(case) if p[0] in ("ask", "exchanges")]
    options = {"lang": "en", "save": None, "as_json": False, "verbose": False}
    ends: dict[str, int] = {}
    for n in range(STORM):
        dice = random.Random(f"{scenario} {n}")
        (tmp_path / "case.json").write_text(json.dumps(stirred(case, where, dice)))
        try:
            with little_memory():
                said = str(replaying.replay(tmp_path, options | {"as_json": bool(n % 2)}))
        except Stop as e:
            assert e.status == 3 and e.how, f"change {n} of {scenario}"
            told = ("case.json: ", "the case holds what no run records")
            said = "refused" if any(t in e.message for t in told) else e.message
        except Exception as e:
            raise AssertionError(f"change {n} of {scenario}: {type(e).__name__}: {e}") from e
        ends[said] = ends.get(said, 0) + 1
        assert "SYS902" not in capsys.readouterr().out, f"change {n} of {scenario}"
    print(ends)
    assert set(ends) <= {"0", "1", "3", "refused"}
    assert ends.get("1", 0) > STORM / 20  # or the storm only ever broke the shape
