"""`trace` where something is missing: what is said, and what still works. Every case is what the kernel really refuses.

Five things may be missing: BTF, libbpf, the right to load a program, to watch devices, to enter other
namespaces. Nothing of it ends the command, and nothing is said that was not seen.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from netlab import Net, nets
from weblab import HERE, NOBODY, PATHFIT, lost, web

from pathfit.host import bpf

WHY = "why the kernel drops packets"
# A program that is refused by seccomp, as container engines do it: struct sock_filter, EPERM for bpf(2).
SECCOMP = """
import ctypes, os, platform, struct, sys
number = {"x86_64": 321, "aarch64": 280}[platform.machine()]
rows = [(0x20, 0, 0, 0), (0x15, 0, 1, number), (0x06, 0, 0, 0x00050001), (0x06, 0, 0, 0x7FFF0000)]
code = b"".join(struct.pack("=HBBI", *row) for row in rows)
held = ctypes.create_string_buffer(code)
program = struct.pack("=HxxxxxxQ", len(rows), ctypes.addressof(held))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0  # PR_SET_NO_NEW_PRIVS
assert libc.prctl(22, 2, program, 0, 0) == 0  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER
os.execv(sys.argv[1], sys.argv[1:])
"""
# What a user namespace of one's own sees: the lab is built in it, and traced.
OWN = """
import json, sys
sys.path[:0] = [sys.argv[1]]
from netlab import nets
from weblab import traced, web
with nets() as net:
    net.routed(("192.0.2", "198.51.100"), ("2001:db8:1", "2001:db8:2"), 2)
    net.ip("r", "link set vc mtu 1450")
    with web(net):
        status, document = traced(net)
print(json.dumps([net.prefix, status, document]))
"""


class Mode(NamedTuple):
    """``before``: how the command is started; ``here``: in the source's own namespace, for others cannot be entered.
    ``taps``: whether points can be watched; ``why``: a word of why drops are not told."""

    before: tuple[str, ...]
    here: bool
    taps: bool
    why: str


def library() -> str:
    """The file that the system's libbpf is."""
    bpf.library()
    lines = Path("/proc/self/maps").read_text().splitlines()
    return next(line.split()[-1] for line in lines if "libbpf" in line)


def hidden(path: str, *, folder: bool) -> tuple[str, ...]:
    """In a mount namespace of its own, nothing is at that path."""
    over = f"mount -t tmpfs tmpfs {path}" if folder else f"mount --bind /dev/null {path}"
    return "unshare", "--mount", "sh", "-c", f'{over} && exec "$@"', "sh"


def without(*rights: str) -> tuple[str, ...]:
    """Root without these capabilities, and no way to get them back."""
    return "setpriv", "--bounding-set=" + ",".join(f"-{r}" for r in rights), "--no-new-privs"


MODES: dict[str, Mode] = {
    "no BTF": Mode(hidden("/sys/kernel/btf", folder=True), False, True, "no BTF"),
    "no libbpf": Mode(("NO LIBRARY",), False, True, "libbpf.so.1 is not installed"),
    "bpf(2) refused by seccomp": Mode((sys.executable, "-c", SECCOMP), False, True, "not permitted"),
    "no CAP_BPF": Mode(without("bpf", "perfmon", "sys_admin"), True, True, "not permitted"),
    "no CAP_NET_ADMIN": Mode(without("net_admin"), False, True, ""),
    "no CAP_NET_RAW": Mode(without("net_raw"), False, False, ""),
    "not root": Mode(NOBODY, True, False, "not permitted"),
}


@pytest.fixture
def net() -> Iterator[Net]:
    """c - r - s, where a web server answers; r takes no more than 1450 bytes from c, and more is lost silently."""
    with nets() as net:
        net.routed(("203.0.113", "192.0.2"), ("2001:db8:1", "2001:db8:2"), 2)
        net.ip("r", "link set vc mtu 1450")
        with web(net):
            yield net


def run(net: Net, mode: Mode, *more: str) -> "subprocess.CompletedProcess[str]":
    before = hidden(library(), folder=False) if mode.before == ("NO LIBRARY",) else mode.before
    inside = ("ip", "netns", "exec", net("c")) if mode.here else ()
    source = () if mode.here else ("--from", f"netns:{net('c')}")
    words = [*inside, *before, PATHFIT, "trace", *source, "--to", "https://192.0.2.2:8443/50000", *more]
    return subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.lab
@pytest.mark.real_root
@pytest.mark.parametrize("name", MODES)
def test_what_is_said_and_what_still_works(net: Net, name: str) -> None:
    mode = MODES[name]
    done = run(net, mode, "--json")
    assert done.stderr == "" and done.stdout, done.stderr
    document = json.loads(done.stdout)
    missing = {m["what"]: m for m in document["missing"]}
    rules = any(what.startswith("which rule of a packet filter") for what in missing)
    assert rules == (name in ("no CAP_NET_ADMIN", "not root")), list(missing)
    assert document["drops"]["watched"] == (mode.why == "")
    if mode.why:
        assert mode.why in missing[WHY]["why"].lower() or mode.why in missing[WHY]["why"], missing[WHY]
        assert missing[WHY]["how"] or "permitted" not in mode.why, "a line to type"
    assert document["report"]["measured"]["target"]["tcp"] == "ok", "it measured all the same"
    if not mode.taps:
        assert any(what.startswith("packets at ") for what in missing)
        assert {(x["after"], x["before"]) for x in document["losses"]} <= {(None, None)}, "nothing was seen anywhere"
        assert all("no point of this way could be watched" in x["text"] for x in document["losses"])
        assert document["verdict"] == ("lost" if document["losses"] else "unknown")
        assert not document["losses"] or mode.why == "", "the kernel's own word, or none"
    elif not mode.here:
        assert (done.returncode, document["verdict"]) == (1, "lost")
        assert ("forward", "c/eth0", "r/vc", ["peer-too-small"]) in lost(net, document)
        (loss,) = [x for x in document["losses"] if x["direction"] == "forward"]
        assert loss["causes"][0]["by"] == ("counter" if mode.why else "event")
        assert loss["causes"][0]["most"] == 1454
    else:
        assert document["forward"]["points"][0]["packets"] > 10
        assert document["forward"]["ends"]["link"] == "eth0", "beyond it nothing can be seen"


@pytest.mark.lab
@pytest.mark.real_root
def test_what_a_trace_lacks_is_said_first(net: Net) -> None:
    """An ordinary user lacks much of everything; the rest is counted."""
    text = run(net, MODES["not root"]).stdout
    first = [line for line in text.splitlines() if line.startswith("? ")][:2]
    assert "why the kernel drops packets" in first[0] and "packets at " in first[1]
    assert "more, in --json" in text


@pytest.mark.lab
@pytest.mark.real_root
def test_said_to_a_person(net: Net) -> None:
    """A counter is said to be one, beside how many were lost; and what is missing, with why."""
    done = run(net, MODES["no BTF"])
    text = " ".join(done.stdout.split())
    assert "[counter tx_dropped moved by " in text and "of these were lost]" in text
    assert "? why the kernel drops packets: this kernel has no BTF (CONFIG_DEBUG_INFO_BTF)" in text
    assert done.stderr == ""


@pytest.mark.lab
def test_a_user_namespace_of_one_s_own() -> None:
    """Taps and counters need no rights outside; programs in the kernel do, and that is said."""
    words = ["unshare", "--user", "--map-root-user", "--net", "--mount", "sh", "-c"]
    quiet = 'mount -t tmpfs tmpfs /run && ip link set lo up && exec "$@"'
    argv = [*words, quiet, "sh", sys.executable, "-c", OWN, str(HERE / "unit")]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False, env={**os.environ})
    assert done.stdout, done.stderr
    prefix, status, document = json.loads(done.stdout)
    assert (status, document["verdict"], document["drops"]["watched"]) == (1, "lost", False)
    assert any(m["what"] == WHY and m["how"] for m in document["missing"])
    found: list[dict[str, Any]] = [x for x in document["losses"] if x["direction"] == "forward"]
    assert [(x["after"]["netns"], x["causes"][0]["why"]) for x in found] == [(f"netns:{prefix}-c", "peer-too-small")]
