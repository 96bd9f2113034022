"""The command line as a user meets it: a process, its two streams, its exit status."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from pathfit import __version__
from pathfit.cli import talk

BASE = {k: v for k, v in os.environ.items() if k not in ("LANG", "LC_ALL", "LC_MESSAGES", "LC_CTYPE", "NO_COLOR")}


def run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pathfit", *words],
        env=BASE | {"LANG": "C.UTF-8"} | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_version_imports_nothing_that_costs_time() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "pathfit", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"pathfit {__version__}\n"
    modules = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "pathfit.cli.entry" in modules
    assert not modules & {"click", "msgspec", "rich", "ssl", "asyncio", "pathfit.core", "subprocess", "inspect"}


def test_help() -> None:
    done = run("--help")
    assert done.returncode == 0
    assert "pathfit diagnose --from" in done.stdout
    assert done.stderr == ""


ERRORS = [
    # words, status, what stderr says, the line to type
    (["diagnos"], 2, "there is no command 'diagnos'", "pathfit diagnose"),
    (["pcap"], 2, "'pcap' is not part of version", "pathfit --help"),
    (["scan", "--in", "/nowhere/x.json"], 3, "cannot be opened", "ls -l /nowhere/x.json"),
    (["scan", "--in", "x.json", "--save", "y"], 2, "--save keeps a scan of this machine", "pathfit scan --in x.json"),
    (["lab", "upp"], 2, "there is no command 'upp'", "pathfit lab up"),
    (["diagnose"], 2, "Missing option '--to'", "pathfit diagnose --to https://example.org/"),
    (["diagnose", "-4", "https://a/"], 2, "Missing option '--to'", "pathfit diagnose -4 --to https://a/"),
    (["diagnose", "--form", "x", "--to", "a:1"], 2, "No such option", "pathfit diagnose --help"),
    (["diagnose", "--to", "a:70000"], 2, "port '70000' is out of range: 1 to 65535", "pathfit diagnose --to a:443"),
    (["diagnose", "--to=a:0"], 2, "out of range", "pathfit diagnose --to=a:443"),
    (["probe", "a:0"], 2, "out of range", "pathfit probe a:443"),
    (["diagnose", "--from", "web", "--to", "a:1"], 2, "no place", "pathfit diagnose --from container:web --to a:1"),
    (["diagnose", "-4", "-6", "--to", "a:1"], 2, "exclude each other", "pathfit diagnose --to a:1"),
    (["diagnose", "-6", "--to", "192.0.2.1:1"], 2, "not an IPv6 address", "pathfit diagnose --to 192.0.2.1:1"),
    (["diagnose", "--timeout", "0", "--to", "a:1"], 2, "makes no sense", "pathfit diagnose --timeout 15 --to a:1"),
    (["diagnose", "--timeout", "nan", "--to", "a:1"], 2, "makes no sense", "pathfit diagnose --timeout 15 --to a:1"),
    (["diagnose", "--timeout", "x", "--to", "a:1"], 2, "not a valid float", "pathfit diagnose --timeout 15 --to a:1"),
    (["diagnose", "--to", "a:1", "--save", "/proc/x"], 2, "cannot save", "pathfit diagnose --to a:1 --save ./case-1"),
    (["explain", "MTU1O1"], 2, "there is no fault code 'MTU1O1'", "pathfit explain MTU101"),
    (["explain", "xyz"], 2, "there is no fault code 'xyz'", "pathfit explain"),
    (["explain", "--lang", "fr"], 2, "'fr' is not one of", "pathfit explain --lang en"),
    (["replay", "/nowhere"], 3, "cannot open /nowhere/case.json", "ls /"),
    (["lab", "show", "article-00"], 2, "no scenario 'article-00'", "pathfit lab show article-00"),
    (["lab", "down", "nothing"], 2, "no lab 'nothing' is up", "pathfit lab list"),
]


@pytest.mark.parametrize(("words", "status", "says", "how"), ERRORS, ids=[" ".join(e[0]) for e in ERRORS])
def test_errors_end_in_a_line_to_type(words: list[str], status: int, says: str, how: str) -> None:
    done = run(*words)
    lines = done.stderr.splitlines()
    assert done.returncode == status
    assert says in lines[0]
    assert lines[1].startswith(f"try: {how}")
    assert all(line.startswith("try: ") for line in lines[1:])
    assert done.stdout == ""
    assert "Traceback" not in done.stderr


def test_unknown_namespace_is_no_traceback_but_an_unknown_verdict() -> None:
    done = run("diagnose", "--from", "netns:pathfit-nope", "--to", "https://192.0.2.1/")
    assert done.returncode == 3
    assert done.stdout.startswith("UNKNOWN")
    assert "try: " in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_unknown_namespace_in_json_is_one_document() -> None:
    done = run("diagnose", "--from", "netns:pathfit-nope", "--to", "https://192.0.2.1/", "--json", LANG="zh_CN.UTF-8")
    report = json.loads(done.stdout)
    assert done.returncode == 3
    assert (report["schema"], report["verdict"]) == ("pathfit.report/1", "unknown")
    assert report["missing"][0]["how"]
    assert done.stdout.isascii()


def test_saved_case_replays_byte_equal(tmp_path: Path) -> None:
    folder = tmp_path / "case"
    first = run(
        "diagnose", "--from", "netns:pathfit-nope", "--to", "https://192.0.2.1/", "--json", "--save", str(folder)
    )
    again = run("replay", str(folder), "--json")
    assert again.stdout == first.stdout == (folder / "report.json").read_text(encoding="utf-8")
    assert run("replay", str(folder)).stdout == (folder / "report.txt").read_text(encoding="utf-8")
    assert again.stderr == ""
    assert again.returncode == first.returncode == 3


def test_replay_says_when_the_saved_report_differs(tmp_path: Path) -> None:
    folder = tmp_path / "case"
    run("diagnose", "--from", "netns:pathfit-nope", "--to", "https://192.0.2.1/", "--save", str(folder))
    (folder / "report.json").write_text("{}")
    assert f"differs from {folder}/report.json, made by {__version__}" in run("replay", str(folder)).stderr


def test_explain() -> None:
    done = run("explain", "mtu101")
    assert done.returncode == 0
    assert done.stdout.startswith("MTU101 inbound-black-hole\n")
    assert run("explain", "inbound-black-hole").stdout == done.stdout
    codes = json.loads(run("explain", "--json").stdout)["codes"]
    assert [c["code"] for c in codes] == [line.split()[0] for line in run("explain").stdout.splitlines()]
    assert all(c["title"] and c["fields"] for c in codes)


def test_a_reader_that_goes_away_is_no_error() -> None:
    shell = f"{sys.executable} -m pathfit explain | head -n 1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0"
    assert done.stderr.splitlines() in ([], ["", "One of them: pathfit explain CODE"])


def test_a_full_disk_is_an_error() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "pathfit", "explain", "MTU101"], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == 3
    assert "No space left" in done.stderr
    assert "Traceback" not in done.stderr


def test_closed_streams_are_no_error() -> None:
    done = subprocess.run(["sh", "-c", f"{sys.executable} -m pathfit explain MTU101 >&- 2>&-"], check=False)
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("environment", "lang", "plain"),
    [
        ({}, "en", True),
        ({"LANG": "C"}, "en", True),
        ({"LANG": "C", "LC_CTYPE": "C.UTF-8"}, "en", True),  # what Python sets itself (PEP 538)
        ({"LANG": "C.UTF-8"}, "en", False),
        ({"LANG": "de_DE.UTF-8"}, "en", False),
        ({"LANG": "zh_CN.UTF-8"}, "zh", False),
        ({"LANG": "zh_TW.UTF-8", "LC_ALL": "C"}, "en", True),
        ({"LANG": "en_US.UTF-8", "LC_MESSAGES": "zh_CN.UTF-8"}, "zh", False),
        ({"LANG": "zh_CN.UTF-8", "LC_MESSAGES": "C"}, "en", False),
    ],
)
def test_language_and_letters_from_the_environment(environment: dict[str, str], lang: str, plain: bool) -> None:
    assert talk.language(environment) == lang
    assert talk.plain(environment) == plain


def test_lang_c_prints_ascii() -> None:
    for words in (["netns:größe-nope"], ["größe"]):
        done = run("diagnose", "--to", "https://192.0.2.1/", "--from", *words, LANG="C")
        assert (done.stdout + done.stderr).isascii()
        assert "gr\\xf6\\xdfe" in done.stdout + done.stderr


def test_chinese_is_not_escaped_when_it_is_asked_for() -> None:
    done = run("diagnose", "--from", "netns:pathfit-nope", "--to", "https://192.0.2.1/", "--lang", "zh", LANG="C")
    assert done.stdout.startswith("无法判断")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_quickly_without_a_traceback(number: signal.Signals) -> None:
    command = [sys.executable, "-c", _WAITS]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "waiting\n"
    process.send_signal(number)
    _, err = process.communicate(timeout=10)
    assert process.returncode == (130 if number == signal.SIGINT else 143)
    assert "Traceback" not in err
    assert "interrupted" in err or number != signal.SIGINT


_WAITS = """
import sys, threading
from pathfit.cli import border, app
def forever(argv):
    print("waiting", flush=True)
    threading.Event().wait()
app.run = forever
sys.exit(border.guarded(["diagnose"]))
"""


_IN_A_CLASS = """
import os, signal, sys
from pathfit.cli import border, app
class Slow:
    def __set_name__(self, owner, name):
        os.kill(os.getpid(), signal.{name})
def importing(argv):
    class Made:
        field = Slow()
app.run = importing
sys.exit(border.guarded(["diagnose"]))
"""


@pytest.mark.parametrize(("name", "status"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_signal_while_a_class_is_made(name: str, status: int) -> None:
    """Python before 3.12 turns it into a RuntimeError."""
    code = _IN_A_CLASS.format(name=name)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (status, "\npathfit: interrupted\n" if status == 130 else "")


def test_unexpected_errors_are_one_sentence_and_v_shows_where() -> None:
    code = "from pathfit.cli import border, app\ndef broken(argv): raise ZeroDivisionError('x')\napp.run = broken\n"
    quiet = subprocess.run(
        [sys.executable, "-c", code + "raise SystemExit(border.guarded([]))"], capture_output=True, text=True
    )
    loud = subprocess.run(
        [sys.executable, "-c", code + "raise SystemExit(border.guarded(['-v']))"], capture_output=True, text=True
    )
    assert quiet.returncode == loud.returncode == 3
    assert quiet.stderr == (
        "pathfit: stopped by an unexpected error: ZeroDivisionError: x\n"
        "try: pathfit --verbose   (and report what it prints)\n"
    )
    assert "Traceback" in loud.stderr


def test_the_third_interrupt_does_not_wait() -> None:
    """The second is answered, the third ends at once, even while something is being put away."""
    code = _WAITS.replace('    print("waiting", flush=True)\n    threading.Event().wait()', _STUBBORN)
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stderr is not None
    assert process.stdout.readline() == "waiting\n"
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "away\n"
    process.send_signal(signal.SIGINT)
    said = ""
    while "once more" not in said:
        said = process.stderr.readline()
    process.send_signal(signal.SIGINT)
    guard = threading.Timer(10, process.kill)
    guard.start()
    assert process.wait() == 130
    guard.cancel()


_STUBBORN = """
    try:
        print("waiting", flush=True)
        threading.Event().wait()
    finally:
        print("away", flush=True)
        while True:
            threading.Event().wait(0.05)
"""
