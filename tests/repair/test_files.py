"""Files: whole or not at all, and never over somebody else's work."""

import os
import subprocess
import sys
from pathlib import Path

import kit
import pytest

from pathfit.apply import sequence
from pathfit.apply.files import followed
from pathfit.apply.step import Impossible
from pathfit.apply.steps import step_of
from pathfit.apply.store import Store
from pathfit.core.change import WriteFile


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    folder = tmp_path / "etc"
    folder.mkdir()
    return folder


def test_as_it_was_to_the_byte(etc: Path, tmp_path: Path) -> None:
    changes = kit.files(etc)
    os.utime(etc / "daemon.json", ns=(10**18, 10**18))
    before = kit.tree(etc)
    store = Store(tmp_path / "state")
    journal = kit.repair(store, changes)
    assert (etc / "daemon.json").read_text() == changes[0].new
    assert (etc / "daemon.json").stat().st_mode & 0o777 == 0o640
    assert (etc / "conf.d/deep/new.conf").read_text() == "mtu=1400\n"
    assert sequence.holds(journal)
    assert sequence.undo(store, journal).state == "undone"
    assert kit.tree(etc) == before
    assert (etc / "daemon.json").stat().st_mtime_ns == 10**18


def test_attributes_stay(etc: Path, tmp_path: Path) -> None:
    change = kit.files(etc)[0]
    try:
        os.setxattr(change.path, "user.note", b"mine")
    except OSError:
        pytest.skip("no extended attributes here")
    store = Store(tmp_path / "state")
    journal = kit.repair(store, (change,))
    assert os.getxattr(change.path, "user.note") == b"mine"
    sequence.undo(store, journal)
    assert os.getxattr(change.path, "user.note") == b"mine"


def test_links_are_followed(etc: Path, tmp_path: Path) -> None:
    """The file that is meant is written; the links stay links."""
    change = kit.files(etc)[0]
    (etc / "alias").symlink_to("hop")
    (etc / "hop").symlink_to(etc / "daemon.json")
    aliased = WriteFile(path=str(etc / "alias"), old=change.old, new=change.new)
    store = Store(tmp_path / "state")
    journal = kit.repair(store, (aliased,))
    assert (etc / "alias").is_symlink() and (etc / "daemon.json").read_text() == change.new
    sequence.undo(store, journal)
    assert (etc / "daemon.json").read_text() == change.old


def test_links_below_another_root_stay_there(tmp_path: Path) -> None:
    root = f"/proc/{os.getpid()}/root"
    real, alias = tmp_path / "real", tmp_path / "alias"
    real.write_text("x")
    alias.symlink_to(real)
    assert followed(f"{root}{alias}") == f"{root}{real}"
    assert followed(str(alias)) == str(real)
    assert followed(f"{tmp_path}/none/../alias") == str(real)
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    for bad in (str(tmp_path / "a"), "etc/x"):
        with pytest.raises(Impossible):
            followed(bad)


@pytest.mark.parametrize("how", ["changed", "gone", "made", "folder", "hard link", "fifo"])
def test_what_is_not_as_it_was_read_is_not_written(etc: Path, how: str) -> None:
    change, new = kit.files(etc)
    path = Path(change.path)
    if how == "changed":
        path.write_text("other")
    elif how == "gone":
        path.unlink()
    elif how == "made":
        Path(new.path).parent.mkdir(parents=True)
        Path(new.path).write_text("other")
        change = new
    elif how == "hard link":
        os.link(path, etc / "second")
    else:
        path.unlink()
        path.mkdir() if how == "folder" else os.mkfifo(path)
    before = kit.tree(etc) if how != "fifo" else None
    with pytest.raises((Impossible, IsADirectoryError)):
        step_of(change).prepare(change, "t")
    assert before is None or kit.tree(etc) == before


@pytest.mark.parametrize("theirs", ["by hand\n", None])
def test_what_somebody_changed_since_is_theirs(etc: Path, tmp_path: Path, theirs: str | None) -> None:
    change = kit.files(etc)[0]
    store = Store(tmp_path / "state")
    journal = kit.repair(store, (change,))
    path = Path(change.path)
    path.write_text(theirs) if theirs else path.unlink()
    end = sequence.undo(store, journal)
    assert end.state == "failed" and "somebody else" in end.steps[0].note
    assert (path.read_text() if theirs else path.exists()) == (theirs or False)
    path.write_text(change.new)
    assert sequence.undo(store, end).state == "undone"


SMALL = """
import sys
from pathlib import Path
sys.path[:0] = {paths!r}
import kit
from pathfit.apply import sequence
from pathfit.apply.store import Store
from pathfit.core.change import WriteFile
etc, state = Path({etc!r}), Path({state!r})
first, new = kit.files(etc)
large = WriteFile(path=first.path, old=first.old, new="x" * {size})
before = kit.tree(etc)
import subprocess
if {readonly}:
    subprocess.run(["mount", "-o", "remount,ro", str(etc)], check=True)
store = Store(state)
try:
    journal = sequence.apply(store, sequence.prepare(store, kit.journal((new, large))))
    print("applied")
except sequence.NotDone as e:
    print("refused:", e)
    print(sequence.undo(store, e.journal).state)
except OSError as e:
    print("journal:", e.strerror)
if {readonly}:
    subprocess.run(["mount", "-o", "remount,rw", str(etc)], check=True)
print("equal" if kit.tree(etc) == before else "different")
"""


@pytest.mark.lab
@pytest.mark.parametrize(
    ("size", "readonly", "state_inside", "says"),
    [
        (200_000, False, False, "No space left"),
        (10, True, False, "Read-only file system"),
        (400_000, False, True, "No space left"),
        (10, False, False, "applied"),
    ],
)
def test_disk_full_and_read_only(
    size: int, readonly: bool, state_inside: bool, says: str, etc: Path, tmp_path: Path
) -> None:
    """A disk that is full, or read-only: nothing half done, whether the file or the journal has no room."""
    if os.geteuid():
        pytest.skip("needs root, or a user namespace of one's own")
    here = Path(__file__).parent
    paths = [str(here), str(here.parent / "unit")]
    state = etc / "state" if state_inside else tmp_path / "state"
    code = SMALL.format(paths=paths, etc=str(etc / "small"), state=str(state), size=size, readonly=readonly)
    (etc / "small").mkdir()
    if state_inside:
        state.mkdir()
    mounts = [f"mount -t tmpfs -o size=100k tmpfs {x}" for x in (etc / "small", *([state] if state_inside else []))]
    script = " && ".join([*mounts, 'exec "$@"'])
    words = ["unshare", "-m", "--propagation", "private", "sh", "-c", script, "sh", sys.executable, "-c", code]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert says in done.stdout
    assert done.stdout.splitlines()[-1] == ("different" if says == "applied" else "equal")
