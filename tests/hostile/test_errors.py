"""Every way to end, word for word: tests/golden/errors.txt holds exit status, what is said, and each line to type.

Of a report on stdout the golden text keeps the first line and the lines to type (test_render_text has the rest).
PATHFIT_GOLDEN=write makes the file anew; the difference is then reviewed, not believed. The runs see only one lab's
container side and their own processes, so that suggestions are the same everywhere, and no link to anywhere.
"""

import os
import re
import shlex
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from rig import COMMAND, ENVIRONMENT, Ended, decent, masked, run
from test_places import NOBODY, ordinary

from pathfit.lab import Lab, load

GOLDEN = Path(__file__).parents[1] / "golden" / "errors.txt"
BESIDE = 3
USER = "user$ "  # what stands before a command of an ordinary user

# {c} is a namespace, {to} the target of the lab, {tmp} an empty folder.
LINES = """
pathfit
pathfit --version
pathfit --no-such-option
pathfit diagnoes
pathfit frobnicate
pathfit pcap
pathfit scan --timeout 0
pathfit scan --in {tmp}/nothing
pathfit scan --in {tmp}/full
pathfit scan --in {tmp}/full/thesis.tex
pathfit diagnose
pathfit diagnose --to ''
pathfit diagnose --to 'a b'
pathfit diagnose --to ftp://example.org/
pathfit diagnose --to https://
pathfit diagnose --to example.org/x
pathfit diagnose --to '[2001:db8::1:443'
pathfit diagnose --to 2001:db8::1:x
pathfit diagnose --to 'fe80::1%eth0'
pathfit diagnose --to 256.0.0.1:443
pathfit diagnose --to 224.0.0.1:443
pathfit diagnose --to -x.example:443
pathfit diagnose --to example.org:0
pathfit diagnose --to example.org:65536
pathfit diagnose --to example.org:-1
pathfit diagnose --to example.org:abc
pathfit diagnose --to tcp://example.org
pathfit diagnose --to tcp://example.org:1/x
pathfit diagnose --to docker:1234
pathfit diagnose --from web --to {to}
pathfit diagnose --from vm:web --to {to}
pathfit diagnose --from netns: --to {to}
pathfit diagnose --from netns:a/b --to {to}
pathfit diagnose --from pid:0 --to {to}
pathfit diagnose --from pod:x/ --to {to}
pathfit diagnose --from 'container:a b' --to {to}
pathfit diagnose --from '!host' --to {to}
pathfit diagnose --to {to} --timeout 0
pathfit diagnose --to {to} --timeout nan
pathfit diagnose --to {to} --timeout soon
pathfit diagnose --to {to} --lang xx
pathfit diagnose -4 -6 --to {to}
pathfit diagnose -6 --to {to}
pathfit diagnose --to {to} --resolve example.org
pathfit diagnose --to {to} --proxy socks5://example.org:1080
pathfit diagnose --to {to} --proxy example.org
pathfit diagnose --to {to} --save /proc/nothing
pathfit diagnose --to {to} --save {tmp}/full
pathfit diagnose --to {to} --save /etc/passwd
pathfit explain MTU10l
pathfit explain inbound-black-hol
pathfit explain XYZ
pathfit lab show article-00
pathfit lab show nothing-like-it
pathfit lab up healthy --prefix 'A B'
pathfit lab down nothing
pathfit lab frobnicate
pathfit fix
pathfit fix MTU101
pathfit fix --from netns:{c}
pathfit fix XYZ --from netns:{c} --to {to}
pathfit fix --to {to} --confirm-within 0
pathfit fix --to {to} --confirm-within soon
pathfit fix --undo nothing
pathfit fix --confirm nothing
pathfit fix --from netns:{c} --to {to} --use magic --yes
pathfit fix --list
pathfit fix --undo all
pathfit replay {tmp}/nothing
pathfit replay {tmp}/full
pathfit diagnose --from netns:{c}x --to {to}
pathfit diagnose --from netns:zzz --to {to}
pathfit diagnose --from netns:/nothing --to {to}
pathfit diagnose --from netns:/etc/passwd --to {to}
pathfit diagnose --from pid:4194303 --to {to}
pathfit diagnose --from container:nothing --to {to}
pathfit diagnose --from network:n --to {to}
pathfit diagnose --from pod:a/b --to {to}
pathfit diagnose --from far!container:web --to {to}
pathfit diagnose --from netns:{c} --to netns:{c}x:443
pathfit diagnose --from netns:{c} --to udp://198.18.2.2:53
pathfit diagnose --from netns:{c} --to 198.18.2.2:1
pathfit diagnose --from netns:{c} --to 203.0.113.1:443
pathfit diagnose --from netns:{c} --to {to}
user$ pathfit diagnose --from netns:{c} --to {to}
user$ pathfit lab up healthy
user$ pathfit probe 127.0.0.1
""".strip().splitlines()


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab.up(load("article-000")) as up:
        yield up


def ask(lab: Lab, line: str, tmp: Path) -> Ended:
    words = shlex.split(line.removeprefix(USER).format(**facts(lab, tmp)))[1:]
    before = ordinary() if line.startswith(USER) else []
    command = lab.blind_command(["unshare", "--net", *before, *COMMAND, *words])  # the own namespace has no link up
    return decent(run(command, {"PATHFIT_STATE": str(tmp / "state")}, 10))


def facts(lab: Lab, tmp: Path) -> dict[str, str]:
    return {"c": lab.where("c").removeprefix("netns:"), "to": lab.target(), "tmp": str(tmp)}


def written(line: str, ended: Ended, lab: Lab, tmp: Path) -> str:
    """One section of the golden file."""
    out = ended.out.splitlines()
    kept = [n for n in out[1:] if n.strip().startswith("try: ")] if "More: " in ended.out else out[1:2]
    text = "\n".join([*out[:1], *kept, *ended.err.splitlines()])
    names = [(re.escape(v), "{" + k + "}") for k, v in facts(lab, tmp).items()]
    names += [(re.escape(lab.prefix), "{lab}"), (r"pathfit [0-9][0-9.a-z]*$", "pathfit {version}")]
    names += [(r"\b[0-9]+\.[0-9][0-9] s,", "{seconds} s,"), (rf"^{re.escape(os.uname().nodename)}: ", "{host}: ")]
    return f"$ {line}\n{masked(text, names)}\n[{ended.status}]\n"


@pytest.mark.lab
def test_every_way_to_end(lab: Lab, tmp_path: Path) -> None:
    if ordinary() is not NOBODY:
        pytest.skip("an ordinary user cannot be had here")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("")
    with ThreadPoolExecutor(BESIDE) as pool:
        ends = list(pool.map(lambda line: ask(lab, line, tmp_path), LINES))
    found = "\n".join(written(line, ended, lab, tmp_path) for line, ended in zip(LINES, ends, strict=True))
    found += "\n" + interrupted(lab)
    if os.environ.get("PATHFIT_GOLDEN") == "write":
        GOLDEN.write_text(found, encoding="utf-8")
    assert found == GOLDEN.read_text(encoding="utf-8")
    assert {e.status for e in ends} == {0, 1, 2, 3}


def interrupted(lab: Lab) -> str:
    """Ctrl-C while it waits for a silent target."""
    line = "pathfit diagnose --from netns:{c} --to 198.18.2.99:443   # Ctrl-C"
    words = ["diagnose", "--from", lab.where("c"), "--to", "198.18.2.99:443"]
    with subprocess.Popen(
        [*COMMAND, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT
    ) as process:
        while not _waits(process.pid, lab):
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=10)
    return f"$ {line}\n{out}{err}[{process.returncode}]\n"


def _waits(pid: int, lab: Lab) -> bool:
    """Whether a connection of the run stands in SYN_SENT (02) in the source's namespace."""
    rows = lab.run("c", ["cat", "/proc/net/tcp"]).stdout.decode().splitlines()[1:]
    return any(row.split()[3] == "02" for row in rows)


def test_lines_to_type_are_commands() -> None:
    """What stands behind "try:" begins with a program and could be typed; options alone or sentences could not."""
    programs = ("pathfit", "sudo", "ip", "ps", "ls", "docker", "crictl", "ssh")
    lines = [line.strip() for line in GOLDEN.read_text(encoding="utf-8").splitlines()]
    typed = [shlex.split(line.removeprefix("try: ")) for line in lines if line.startswith("try: ")]
    assert [words for words in typed if words[0] not in programs] == []
    assert len(typed) > 60
