"""Traffic control and programs at devices are known; `diagnose` looks at the packets where the way leads past one."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from netlab import Net, nets
from weblab import PATHFIT, web

from pathfit.cli import saved
from pathfit.core.net import Point
from pathfit.core.tracing import Tap
from pathfit.observe import programs

pytestmark = [pytest.mark.lab, pytest.mark.real_root]

ATTACH = """
import ctypes, os, platform, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
def bpf(command, data):
    memory = ctypes.create_string_buffer(data)
    fd = libc.syscall({"x86_64": 321, "aarch64": 280}[platform.machine()], command, memory, len(data))
    assert fd >= 0, os.strerror(ctypes.get_errno())
    return fd
code = ctypes.create_string_buffer(struct.pack("=BBhiBBhi", 0xB7, 0, 0, -1, 0x95, 0, 0, 0))  # r0 = TCX_NEXT; exit
word = ctypes.create_string_buffer(b"GPL")
program = bpf(5, struct.pack("=IIQQ", 3, 2, ctypes.addressof(code), ctypes.addressof(word)) + bytes(100))
bpf(28, struct.pack("=IIII", program, int(sys.argv[1]), 46, 0) + bytes(48))  # BPF_LINK_CREATE, BPF_TCX_INGRESS
print(flush=True)
sys.stdin.read()
"""
MADE: dict[str, Callable[[Net], object]] = {
    "clsact": lambda n: n.inside("r", "tc", "qdisc", "add", "dev", "vc", "clsact"),
    "a shaper": lambda n: n.inside(
        "r", "tc", "qdisc", "add", "dev", "vc", "root", "tbf", "rate", "10mbit", "burst", "1600", "limit", "3000"
    ),
}
HARMLESS: dict[str, Callable[[Net], object]] = {
    "nothing": lambda n: None,
    "a plain queue": lambda n: n.inside("r", "tc", "qdisc", "add", "dev", "vc", "root", "pfifo"),
}


@pytest.fixture
def net() -> Iterator[Net]:
    with nets() as net:
        net.routed(("192.0.2", "198.51.100"), ("2001:db8:1", "2001:db8:2"), 2)
        yield net


def read(net: Net) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Of r's two devices, vc and vs: those that have something, those that could be looked at."""
    links = {x["ifname"]: x["ifindex"] for x in net.json("r", "ip", "link show type veth")}
    taps = [Tap(at=Point(host="h", netns="netns:r", link=name), netns="r", link=links[name]) for name in ("vc", "vs")]
    with open(f"/run/netns/{net('r')}") as f:
        fact = programs.read("programs", taps, {"r": f.fileno()})
    return fact.at, fact.read


@pytest.mark.parametrize("name", MADE)
def test_what_may_drop_is_seen(net: Net, name: str) -> None:
    MADE[name](net)
    assert read(net) == ((0,), (0, 1))


@pytest.mark.parametrize("name", HARMLESS)
def test_what_drops_for_want_of_room_alone_is_not(net: Net, name: str) -> None:
    HARMLESS[name](net)
    assert read(net) == ((), (0, 1))


def test_a_program_without_any_discipline_is_seen(net: Net) -> None:
    """tcx (Linux 6.6): it hangs on a descriptor, and no dump of disciplines shows it."""
    link = net.json("r", "ip", "link show dev vs")[0]["ifindex"]
    words = ["ip", "netns", "exec", net("r"), sys.executable, "-c", ATTACH, str(link)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as held:
        assert held.stdout is not None and held.stdout.readline(), "attached"
        assert read(net) == ((1,), (0, 1))
    assert read(net) == ((), (0, 1))


def test_a_namespace_that_is_gone_is_not_said_to_be_empty() -> None:
    tap = Tap(at=Point(host="h", netns="netns:r", link="vc"), netns="r", link=2)
    assert programs.read("programs", [tap], {}).read == ()


@pytest.mark.parametrize("programmed", [False, True], ids=["all is understood", "with a classifier"])
def test_behind_what_is_seen_is_where_it_is_lost(net: Net, tmp_path: Path, programmed: bool) -> None:
    """Somewhere behind r no large packets pass. Taps are opened only where something on r may be to blame too."""
    net.ip("s", "addr add 203.0.113.5/32 dev lo")
    net.ip("r", "route add default via 198.51.100.2")
    net.drop("s", "prerouting", "meta length > 1300 drop")
    if programmed:
        MADE["clsact"](net)
    hide = f'umount /run/netns/{net("s")}; exec "$@"'
    alone = ("unshare", "--pid", "--fork", "--mount", "--mount-proc", "sh", "-c", hide, "sh")
    with web(net):
        asked = ["diagnose", "--from", f"netns:{net('c')}", "--to", "https://203.0.113.5:8443/50000", "--json"]
        line = [*alone, PATHFIT, *asked, "--save", str(tmp_path / "case")]
        done = subprocess.run(line, capture_output=True, text=True, timeout=60)
    report = json.loads(done.stdout)
    assert (done.returncode, report["findings"][0]["code"]) == (1, "MTU102"), done.stderr
    requests = [x.request.ref for x in saved.open_case(tmp_path / "case").exchanges]
    assert "programs" in requests and ("look" in requests) == programmed
