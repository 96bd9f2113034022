"""What may be typed: refused in one sentence with a line to type, quickly, whatever it is made of."""

import os
import pty
import select
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from netlab import Net, nets
from rig import COMMAND, ENVIRONMENT, Ended, decent, obeyed, pathfit, run, side_by_side

BESIDE = 2
QUICK = 3.0  # seconds for what is refused before anything is looked at; it takes 0.1
ESCAPE = "\x1b]0;owned\x07\x1b[2J\u202e\u009b31m"
BYTES = b"\xff\xfe\x80"
LONG = "a" * 100_000

USAGE: list[tuple[str, list[str | bytes]]] = [
    ("no target", ["diagnose"]),
    ("empty target", ["diagnose", "--to", ""]),
    ("blank target", ["diagnose", "--to", " "]),
    ("long target", ["diagnose", "--to", LONG]),
    ("long labels", ["diagnose", "--to", ".".join(["a" * 60] * 1600)]),
    ("long path", ["diagnose", "--to", f"http://127.0.0.1:1/{LONG}"]),
    ("long port", ["diagnose", "--to", "127.0.0.1:" + "9" * 100_000]),
    ("escapes in the target", ["diagnose", "--to", f"{ESCAPE}:80"]),
    ("escapes in the path", ["diagnose", "--to", f"http://127.0.0.1:1/{ESCAPE}"]),
    ("bytes as target", ["diagnose", "--to", BYTES]),
    ("bytes as address", ["diagnose", "--to", BYTES + b":80"]),
    *((f"port {p or 'empty'}", ["diagnose", "--to", f"127.0.0.1:{p}"]) for p in ("", "0", "65536", "-1", "abc", "٨٠")),
    *(
        (f"target {t}", ["diagnose", "--to", t])
        for t in (
            "https://",
            "https:///x",
            "ftp://h/",
            "://",
            "//h",
            "http://[::1",
            "[::1]]:80",
            "[1.2.3.4]:80",
            "::1:80:x",
            "fe80::1%eth0",
            "256.1.1.1:80",
            "1.2.3:80",
            "0.0.0.0:80",
            "224.0.0.1:80",
            "[ff02::1]:80",
            "a..b:80",
            "-a.example:80",
            "tcp://h",
            "tcp://h:1/x",
            "udp://h",
            "xn--\u2028:80",
            "ß.example:80",
            "netns:",
            "pid:x",
            "pid:0",
            "pod:x/",
            "!host",
        )
    ),
    ("place without kind", ["diagnose", "--from", "web", "--to", "127.0.0.1:1"]),
    ("unknown kind", ["diagnose", "--from", "vm:web", "--to", "127.0.0.1:1"]),
    ("bytes as place", ["diagnose", "--from", b"netns:" + BYTES, "--to", "127.0.0.1:1"]),
    ("escapes in a container", ["diagnose", "--from", f"container:{ESCAPE}", "--to", "127.0.0.1:1"]),
    ("a long place", ["diagnose", "--from", f"netns:{LONG}", "--to", "127.0.0.1:1"]),
    ("a path as name", ["diagnose", "--from", "netns:../x", "--to", "127.0.0.1:1"]),
    ("pid beyond all", ["diagnose", "--from", "pid:99999999999999999999", "--to", "127.0.0.1:1"]),
    *(
        (f"timeout {t}", ["diagnose", "--to", "127.0.0.1:1", "--timeout", t])
        for t in ("0", "-1", "nan", "inf", "-inf", "1e400", "1e9", "soon", "")
    ),
    ("language", ["diagnose", "--to", "127.0.0.1:1", "--lang", "xx"]),
    ("both families", ["diagnose", "-4", "-6", "--to", "h:1"]),
    ("other family", ["diagnose", "-6", "--to", "127.0.0.1:1"]),
    ("resolve", ["diagnose", "--to", "h:1", "--resolve", "h"]),
    ("resolve to nothing", ["diagnose", "--to", "h:1", "--resolve", f"h:{ESCAPE}"]),
    ("sni", ["diagnose", "--to", "h:1", "--sni", f"{ESCAPE}"]),
    ("proxy", ["diagnose", "--to", "http://h/", "--proxy", "socks5://h:1"]),
    ("proxy port", ["diagnose", "--to", "http://h/", "--proxy", "h:99999"]),
    ("unknown option", ["diagnose", f"--{ESCAPE}"]),
    ("an argument too many", ["probe", "h:1", f"{ESCAPE}"]),
    ("unknown command", ["diagnoes"]),
    ("command of escapes", [ESCAPE]),
    ("command of bytes", [BYTES]),
    ("command of later versions", ["trace"]),
    ("unknown code", ["explain", "MTU10l"]),
    ("code of escapes", ["explain", ESCAPE]),
    ("code of bytes", ["explain", BYTES]),
    ("long code", ["explain", LONG]),
    ("unknown scenario", ["lab", "show", "article-00"]),
    ("scenario of escapes", ["lab", "show", ESCAPE]),
    ("unknown lab", ["lab", "down", ESCAPE]),
    ("save on a file", ["diagnose", "--to", "127.0.0.1:1", "--save", "/etc/passwd"]),
    ("save beside others", ["diagnose", "--to", "127.0.0.1:1", "--save", "/etc"]),
    ("save where nothing can be", ["diagnose", "--to", "127.0.0.1:1", "--save", f"/proc/{ESCAPE}"]),
    ("save nowhere", ["diagnose", "--to", "127.0.0.1:1", "--save", ""]),
    ("save in a long place", ["diagnose", "--to", "127.0.0.1:1", "--save", f"/{LONG}"]),
]


def refuse(case: tuple[str | bytes, ...]) -> Ended:
    return pathfit(*case, seconds=QUICK)


@pytest.fixture(scope="module")
def refusals(request: pytest.FixtureRequest) -> Iterator[Callable[[tuple[str | bytes, ...]], Ended]]:
    with side_by_side(request, refuse, BESIDE) as result:
        yield result


@pytest.mark.parametrize("case", [tuple(u[1]) for u in USAGE], ids=[u[0] for u in USAGE])
def test_refused_at_once(case: tuple[str | bytes, ...], refusals: Callable[[tuple[str | bytes, ...]], Ended]) -> None:
    ended = refusals(case)
    assert ended.status == 2
    assert ended.out == ""
    assert ended.err.startswith("pathfit: ")
    assert len(ended.err) < 2000


def test_did_you_mean() -> None:
    """The line to type is the whole command, with one thing changed; it can be typed as it stands."""
    assert pathfit("explain", "MTU10l").tries == ["try: pathfit explain MTU101"]
    assert pathfit("diagnoes").tries == ["try: pathfit diagnose"]
    assert "try: pathfit explain inbound-black-hole" in pathfit("explain", "inbound-black-hol").tries
    ended = pathfit("diagnose", "--to", "127.0.0.1:99999", "--timeout", "3", "--save", "a b\x1b")
    assert ended.tries == [r"try: pathfit diagnose --to 127.0.0.1:443 --timeout 3 --save $'a b\x1b'"]


@pytest.fixture(scope="module")
def net() -> Iterator[Net]:
    """One namespace with nothing but lo: whatever is asked of 127.0.0.1 is refused."""
    with nets() as made:
        made.add("a")
        yield made


REFUSED = ("--to", "127.0.0.1:1")
ENVIRONMENTS = {
    "C": {"LANG": "C"},
    "C, and Python is told ASCII": {"LANG": "C", "PYTHONIOENCODING": "ascii:strict", "PYTHONCOERCECLOCALE": "0"},
    "zh in C": {"LANG": "C", "LC_MESSAGES": "zh_CN.UTF-8", "PYTHONCOERCECLOCALE": "0"},
    "a locale that is not there": {"LC_ALL": "tlh_QO.KOI8-R"},
    "GB18030": {"LC_ALL": "zh_CN.GB18030"},
    "unbuffered": {"PYTHONUNBUFFERED": "1"},
    "no place for text": {"COLUMNS": "1", "LINES": "0", "TERM": ESCAPE.replace("\0", "")},
    "a proxy of bytes": {"http_proxy": os.fsdecode(BYTES), "https_proxy": ESCAPE, "ALL_PROXY": "http://[::1"},
    "a long proxy": {"http_proxy": "http://" + LONG},
}


@pytest.mark.lab
@pytest.mark.parametrize("environment", ENVIRONMENTS.values(), ids=ENVIRONMENTS)
def test_any_environment(net: Net, environment: dict[str, str]) -> None:
    ended = pathfit("diagnose", "--from", f"netns:{net('a')}", *REFUSED, environment=environment)
    assert ended.status == 1
    assert "RST201" in ended.out
    if environment.get("LANG") == "C" and "LC_MESSAGES" not in environment:
        assert ended.out.isascii()


@pytest.mark.lab
def test_the_asked_proxy_of_the_environment_may_be_nonsense(net: Net) -> None:
    """A target in http is what makes the proxy count."""
    for proxy in (os.fsdecode(BYTES), ESCAPE, "http://" + LONG, "http://[::1", "h:99999", "h:٣"):
        command = ["ip", "netns", "exec", net("a")]
        ended = pathfit("probe", "http://127.0.0.1:1/", before=command, environment={"http_proxy": proxy})
        assert ended.status in (1, 3)


# What becomes of stdout and stderr: (shell, statuses that may be). {} is a diagnosis that ends in 1.
STREAMS = {
    "reader gone": ("{} | head -c0; exit ${{PIPESTATUS[0]}}", 1),
    "reader gone, JSON": ("{} --json | head -c0; exit ${{PIPESTATUS[0]}}", 1),
    "reader gone, unbuffered": ("export PYTHONUNBUFFERED=1; {} | head -c0; exit ${{PIPESTATUS[0]}}", 1),
    "stdout closed": ("{} >&-", 1),
    "stdout closed, JSON": ("{} --json >&-", 1),
    "stderr closed": ("{} 2>&-", 1),
    "all closed": ("{} <&- >&- 2>&-", 1),
    "stdout full": ("{} >/dev/full", 3),
    "stdout full, JSON": ("{} --json >/dev/full", 3),
    "stderr full": ("{} -v 2>/dev/full", 1),
    "both full": ("{} >/dev/full 2>&1", 3),
    "stderr full, usage": ("{} --to x:x 2>/dev/full", 2),
    "stderr closed, usage": ("{} --to x:x 2>&-", 2),
    "stdin is a folder": ("{} </", 1),
    "few descriptors": ("ulimit -n 8; {}", 3),
    "fewer descriptors": ("ulimit -n 5; {}", 3),
    "no processes": ("ulimit -u 1; {}", 1),
    "little memory": ("ulimit -v 250000; {}", 1),
    "no files": ("ulimit -f 0; {}", 1),
    "the folder went": ("mkdir {tmp}/gone && cd {tmp}/gone && rmdir {tmp}/gone; {}", 1),
    "version, reader gone": ("{pathfit} --version | head -c0; exit ${{PIPESTATUS[0]}}", 0),
    "version, full": ("{pathfit} --version >/dev/full", 3),
    "version, closed": ("{pathfit} --version >&-", 0),
    "help, full": ("{pathfit} --help >/dev/full", 3),
    "explain, reader gone": ("{pathfit} explain --json | head -c0; exit ${{PIPESTATUS[0]}}", 0),
    "explain, full": ("{pathfit} explain >/dev/full", 3),
    "lab list, reader gone": ("{pathfit} lab list | head -c0; exit ${{PIPESTATUS[0]}}", 0),
}


@pytest.mark.lab
@pytest.mark.parametrize("stream", STREAMS)
def test_any_stream(net: Net, tmp_path: Path, stream: str) -> None:
    shell, status = STREAMS[stream]
    asked = f"{COMMAND[0]} diagnose --from netns:{net('a')} {' '.join(REFUSED)}"
    ended = run(["bash", "-c", shell.format(asked, tmp=tmp_path, pathfit=COMMAND[0])], None, 10)
    if "2>" in shell and ended.status in (2, 3) and not ended.tries:  # nobody could be told
        ended = ended._replace(out="try: (stderr is gone)")
    assert decent(ended).status == status


@pytest.mark.lab
def test_the_folder_is_saved_although_the_reader_left(net: Net, tmp_path: Path) -> None:
    for n, form in enumerate(("", "--json")):
        asked = f"{COMMAND[0]} diagnose --from netns:{net('a')} {' '.join(REFUSED)} --save {tmp_path}/{n} {form}"
        run(["bash", "-c", f"export PYTHONUNBUFFERED=1; {asked} | head -c0"], None, 10)
        assert {p.name for p in (tmp_path / str(n)).iterdir()} == {"case.json", "report.json", "report.txt"}


def on_a_terminal(*words: str, **environment: str) -> str:
    """What a terminal would be sent, stdout and stderr."""
    master, slave = pty.openpty()
    with subprocess.Popen(
        [*COMMAND, *words], stdin=slave, stdout=slave, stderr=slave, env={**ENVIRONMENT, "TERM": "xterm", **environment}
    ) as process:
        os.close(slave)
        said = b""
        while select.select([master], [], [], 10)[0]:
            try:
                said += os.read(master, 65536)
            except OSError:  # EIO: the other end is closed
                break
        process.wait(10)
    os.close(master)
    return said.decode()


@pytest.mark.lab
def test_names_are_shown_not_obeyed(net: Net) -> None:
    """Names of others stand in a report, in progress and in suggestions; a terminal must not act on them."""
    evil = f"{net('evil')}\x1b]0;owned\x07\x1b[2J\u202e"
    subprocess.run(["ip", "netns", "add", evil], check=True)
    try:
        net.ip("a", "link add x\x1b[31m type veth peer name y")
        net.ip("a", "link set x\x1b[31m up")
        net.ip("a", "route add 192.0.2.0/24 dev x\x1b[31m")
        for place, to in ((evil, "127.0.0.1:1"), (evil[:-1], "127.0.0.1:1"), (net("a"), "192.0.2.1:1")):
            words = ("diagnose", "--from", f"netns:{place}", "--to", to, "--timeout", "1")
            pathfit(*words)
            pathfit(*words, "--json")
            shown = on_a_terminal(*words, "-v", NO_COLOR="1")
            for own in ("\r\x1b[2K", "\r\n"):
                shown = shown.replace(own, "\n")
            assert not obeyed(shown), shown
    finally:
        subprocess.run(["ip", "netns", "del", evil], check=True)


@pytest.mark.lab
def test_names_that_are_no_text(net: Net) -> None:
    """A namespace whose name is no UTF-8 lies about: others are examined as ever, saved and shown."""
    raw = os.fsencode(net("evil")) + BYTES
    subprocess.run([b"ip", b"netns", b"add", raw], check=True)
    try:
        for form in ([], ["--json"]):
            assert pathfit("diagnose", "--from", f"netns:{net('a')}", *REFUSED, *form).status == 1
        assert pathfit("diagnose", "--from", f"netns:{net('evi')}", *REFUSED).status == 3
        assert pathfit("diagnose", "--from", f"netns:{net('evi')}", *REFUSED, "--json").status == 3
    finally:
        subprocess.run([b"ip", b"netns", b"del", raw], check=True)


@pytest.mark.lab
def test_colour_is_for_terminals_that_want_it(net: Net) -> None:
    asked = ("diagnose", "--from", f"netns:{net('a')}", *REFUSED)
    assert "\x1b[1" in on_a_terminal(*asked)
    for environment in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        assert "\x1b[1" not in on_a_terminal(*asked, **environment)
    assert "\x1b" not in pathfit(*asked, environment={"TERM": "xterm", "FORCE_COLOR": "1"}).out
