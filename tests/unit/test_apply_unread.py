"""A configuration that the running daemon has not read: when a restart is refused before anything is touched."""

import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from pathfit.apply import unread
from pathfit.apply.step import Impossible
from pathfit.core.change import RestartEngine
from pathfit.host import clock, process, procfs
from pathfit.host.run import Done
from pathfit.observe.engines.daemons import Daemon

CHANGE = RestartEngine(engine="docker", socket="/run/docker.sock", how="systemctl", unit="docker.service")
NO_VALIDATE = Done(125, "", "Status: unknown flag: --validate")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "daemon.json"


def daemon(file: Path, *words: str) -> Daemon:
    """Ourselves: a process that certainly started before a file of the future was written."""
    return Daemon("docker", "s", "s", os.getpid(), None, ("dockerd", f"--config-file={file}", *words))


def newer(file: Path, text: str) -> None:
    file.write_text(text)
    os.utime(file, (time.time() + 60, time.time() + 60))


def asked(monkeypatch: pytest.MonkeyPatch, answer: Done) -> list[Any]:
    """dockerd's own word of the file."""
    words: list[Any] = []

    def run(argv: Any, patience: float) -> Done:
        words.append(tuple(argv))
        return answer

    monkeypatch.setattr(procfs, "link", lambda path: "/usr/sbin/dockerd")
    monkeypatch.setattr(unread, "run", run)
    return words


def test_what_it_has_read_is_proven(file: Path) -> None:
    unread.refuse(CHANGE, daemon(file))  # there is none
    file.write_text('{"bogus": 1}')
    os.utime(file, (1, 1))
    unread.refuse(CHANGE, daemon(file))


def test_a_file_is_as_old_as_the_clock_says(file: Path) -> None:
    began = time.time() - (clock.since_boot() - process.started(os.getpid()) / os.sysconf("SC_CLK_TCK"))
    file.write_text("")
    for seconds, changed in ((-2.0, False), (2.0, True)):
        os.utime(file, (began + seconds, began + seconds))
        assert unread.changed_since(str(file), os.getpid()) is changed


def test_dockerd_is_asked_where_it_can_tell(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    newer(file, '{"bogus": 1, "log-driver": "local"}')
    words = asked(monkeypatch, Done(0, "configuration OK", ""))
    unread.refuse(CHANGE, daemon(file, "-D"))
    assert words == [("/usr/sbin/dockerd", "--validate", f"--config-file={file}", "-D")]
    asked(monkeypatch, Done(1, "", "unable to configure: bogus"))
    with pytest.raises(Impossible, match="would not start again: unable to configure: bogus"):
        unread.refuse(CHANGE, daemon(file))


@pytest.mark.parametrize(
    ("text", "flags", "trusted"),
    [
        ("", (), False),
        ("{}", (), True),
        ('{"mtu": 1400, "live-restore": true}', ("-H", "fd://"), True),
        ('{"mtu": "1400"}', (), False),
        ('{"mtu": true}', (), False),
        ('{"mtu": 1400, "bogus": 1}', (), False),
        ('{"live-restore": true}', ("--live-restore=true",), False),
        ("{,}", (), False),
        ("[]", (), False),
    ],
)
def test_an_older_one_is_trusted_with_little(
    file: Path, monkeypatch: pytest.MonkeyPatch, text: str, flags: tuple[str, ...], trusted: bool
) -> None:
    newer(file, text)
    asked(monkeypatch, NO_VALIDATE)
    if trusted:
        unread.refuse(CHANGE, daemon(file, *flags))
    else:
        with pytest.raises(Impossible, match="was changed after docker started") as e:
            unread.refuse(CHANGE, daemon(file, *flags))
        assert e.value.how == "systemctl restart docker.service"


def test_a_program_of_another_name_is_not_run(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    newer(file, '{"bogus": 1}')
    words = asked(monkeypatch, Done(0, "", ""))
    monkeypatch.setattr(procfs, "link", lambda path: sys.executable)
    with pytest.raises(Impossible):
        unread.refuse(CHANGE, daemon(file))
    assert words == []
