"""Places that are not there, places of others, and what can be measured without any rights."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from netlab import Net, nets
from rig import COMMAND, Ended, decent, pathfit, run

from pathfit.lab import Lab, load

NO_RIGHTS = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"]
NOBODY = [*NO_RIGHTS, "--reuid=65534", "--regid=65534", "--clear-groups"]
TO = "127.0.0.1:1"


def works(*words: str) -> bool:
    return subprocess.run([*words, *COMMAND, "--version"], capture_output=True, check=False).returncode == 0


def ordinary() -> list[str]:
    """Words before a command that make it an ordinary user's; where only root exists (a user namespace), or where
    others cannot read this folder, root without any capability."""
    return NOBODY if works(*NOBODY) else NO_RIGHTS


@pytest.fixture(scope="module")
def net() -> Iterator[Net]:
    with nets() as made:
        made.add("one", "two")
        yield made


def missing(ended: Ended) -> dict[str, Any]:
    """The first thing that was not seen, from --json."""
    first: dict[str, Any] = json.loads(ended.out)["missing"][0]
    return first


@pytest.mark.lab
def test_unknown_places(net: Net) -> None:
    """Exit 3, and the line to type is the whole command with a place that exists."""
    one, two = net("one"), net("two")
    ended = pathfit("diagnose", "--from", f"netns:{one}x", "--to", TO)
    assert (ended.status, ended.tries[0]) == (3, f"try: pathfit diagnose --from netns:{one} --to {TO}")
    ended = pathfit("diagnose", "--from", f"netns:{one}", "--to", f"netns:{two}x:80", "-4")
    assert (ended.status, ended.tries[0]) == (3, f"try: pathfit diagnose --from netns:{one} --to netns:{two}:80 -4")
    for place in ("pid:4194303", "container:no-such-thing", "netns:/nonexistent", "netns:/etc/passwd", "netns:/"):
        ended = pathfit("diagnose", "--from", place, "--to", TO, "--json")
        assert ended.status == 3
        assert json.loads(ended.out)["verdict"] == "unknown"
        assert missing(ended)["what"] == place
        assert missing(ended)["how"]


@pytest.mark.lab
@pytest.mark.parametrize("place", ["network:n", "pod:a/b", "far!host", "docker:x", "podman:x", "containerd:x"])
def test_places_of_later_versions(place: str) -> None:
    ended = pathfit("diagnose", "--from", place, "--to", TO)
    assert ended.status == 3
    assert ended.tries


@pytest.mark.lab
def test_a_namespace_that_goes_while_it_is_asked(net: Net) -> None:
    """The open file keeps it; its name may be gone, its links are not."""
    name = net("gone")
    for lives in range(3):
        subprocess.run(["ip", "netns", "add", name], check=True)
        with subprocess.Popen([*COMMAND, "diagnose", "--from", f"netns:{name}", "--to", TO], **quiet) as process:
            if lives:
                subprocess.run(["ip", "netns", "del", name], check=True)
            assert process.wait(20) in (0, 1, 3)
            assert process.stderr is not None
            assert b"Traceback" not in process.stderr.read()
        subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}


# -- an ordinary user ---------------------------------------------------------------------------------------------


@pytest.mark.lab
def test_the_namespace_of_another(net: Net) -> None:
    ended = pathfit("diagnose", "--from", f"netns:{net('one')}", "--to", TO, before=ordinary())
    assert ended.status == 3
    assert "may not be entered" in ended.out
    assert ended.tries
    if ordinary() is NOBODY:
        assert ended.tries == [f"try: sudo pathfit diagnose --from netns:{net('one')} --to {TO}"]


@pytest.mark.lab
def test_root_of_another_user_namespace(net: Net) -> None:
    """Every right, but over nothing of ours."""
    for words in (["unshare", "--user"], ["unshare", "--user", "--map-root-user"]):
        if subprocess.run([*words, "true"], capture_output=True, check=False).returncode:
            pytest.skip("user namespaces are refused here")
        ended = pathfit("diagnose", "--from", f"netns:{net('one')}", "--to", TO, before=words)
        assert ended.status == 3
        assert ended.tries


@pytest.mark.lab
@pytest.mark.parametrize("words", [["lab", "up", "healthy"], ["lab", "run", "healthy"]], ids=" ".join)
def test_labs_of_an_ordinary_user(words: list[str]) -> None:
    """Refused with the line that works, or built in a user namespace of its own; nothing stays outside."""
    if words[1] == "run" and not works(*NOBODY, "sh", "-c", '"$@"', "sh"):
        pytest.skip("this Python is not for ordinary users")
    before = set(os.listdir("/run/netns")) if os.path.isdir("/run/netns") else set()
    ended = pathfit(*words, before=ordinary())
    assert ended.status in (0, 3)
    assert ended.status == 0 or ended.tries == [f"try: sudo pathfit {' '.join(words)}"]
    after = set(os.listdir("/run/netns")) if os.path.isdir("/run/netns") else set()
    assert not {n for n in after - before if n.startswith("pf-")}


class Truth(NamedTuple):
    """Exit status; what passes and fails on the way in, and on the way out (None: not measured, and that is said)."""

    status: int
    back: tuple[int, int | None]
    out: tuple[int, int | None] | None
    learns: bool = False  # the server is told a smaller path MTU; its later SYN-ACKs invite no more than that


UNPRIVILEGED = {
    "article-000": Truth(1, (1450, 1451), None),
    "both-ways-different": Truth(1, (1400, 1401), None),
    "v6-too-big-filtered-at-server": Truth(1, (1400, 1401), None),
    "pmtud-works": Truth(0, (1412, 1413), (1412, 1413), learns=True),
    "healthy": Truth(0, (1500, None), (1500, None)),
}


@pytest.mark.lab
@pytest.mark.parametrize("scenario", UNPRIVILEGED)
def test_the_way_in_is_measured_without_rights(scenario: str) -> None:
    """To the byte, and what it leaves at others is named. The way out would be measured with our kernel's own large
    segments; where the way in has a hole that could cover it, so it is not, and that is said."""
    truth = UNPRIVILEGED[scenario]
    with Lab.up(load(scenario)) as lab:
        enter = ["ip", "netns", "exec", lab.where("c").removeprefix("netns:"), *ordinary()]
        ended = pathfit("probe", lab.target(), "--json", before=enter)
        report = json.loads(ended.out)
        out, back = report["measured"]["forward"], report["measured"]["reverse"]
        assert (back["pass"], back["fail"]) == truth.back
        beyond = truth.learns and out["fail"] is None  # nothing above what it invites now could be tried
        assert (out["pass"], out["fail"]) == ((truth.back[0], None) if beyond else truth.out or (None, None))
        assert ended.status == (3 if beyond else truth.status)
        elsewhere = [s["what"] for s in report["measured"]["side_effects"] if s["where"] != "here"]
        assert elsewhere == (["learned-path-mtu"] if truth.learns else [])
        if truth.out is None:
            assert out["note"]
            assert any("forward" in m["what"] and m["how"].startswith("sudo pathfit probe") for m in report["missing"])
        after = lab.truth(after=True)
        assert after == [], "the asked traffic fares as before"


@pytest.mark.lab
def test_a_mere_host(net: Net) -> None:
    """By datagrams to a closed port; no rights are needed for that."""
    ended = pathfit("probe", "127.0.0.1", "--json", before=["ip", "netns", "exec", net("one"), *ordinary()])
    forward = json.loads(ended.out)["measured"]["forward"]
    assert (ended.status, forward["method"], forward["pass"]) == (0, "udp-closed", 65535)


@pytest.mark.lab
def test_without_proc_or_sys(net: Net) -> None:
    """A chroot, a hardened container: what cannot be read is missing, never a traceback."""
    script = 'for d in /proc /sys /run; do mount -t tmpfs none "$d"; done; exec "$@"'
    hidden = ["unshare", "--mount", "sh", "-c", script, "hide"]
    if shutil.which("unshare") is None:
        pytest.skip("needs unshare")
    ended = decent(run([*hidden, *COMMAND, "diagnose", "--to", TO], None, 20))
    assert ended.status == 3
    assert ended.tries
