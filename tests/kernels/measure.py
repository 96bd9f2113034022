"""Run in a guest: every row made, read by pathfit, and measured by packets alone. `measure.py OUT [NAME...]`.

OUT gets a snapshot for each row and state ("N-default.json", "N-raised.json") before any large packet, and
"results.json" anew after each row. The measurement knows nothing of the model: the largest inner packet with DF that
arrives while no outer one was fragmented is found by a bisection, with every path MTU forgotten before each packet;
then they are forgotten for the last time, and what becomes of three packets a byte larger is the row's story.
"""

import contextlib
import errno
import fcntl
import itertools
import json
import os
import socket
import struct
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rows import CABLE, INNER, MACS, NETS, ROWS, TARGETS, Row

from pathfit.core import codec
from pathfit.host.netns import inside
from pathfit.observe.kernel import read_host

MTU_DISCOVER = {4: (socket.IPPROTO_IP, 10), 6: (socket.IPPROTO_IPV6, 23)}
GET_MTU = {4: (socket.IPPROTO_IP, 14), 6: (socket.IPPROTO_IPV6, 24)}
DO = 2  # IP_PMTUDISC_DO
HEADERS = {4: 28, 6: 48}
ETH_P_ALL = 3
PORT = 5353
PATIENCE = 3.0  # seconds for what is there at once on a quiet machine: a sentinel, a device
LATE = 0.05  # seconds that a packet may come after the one sent behind it
RAISED = 1700
YOUNG = 11.0  # seconds: an ovs-vswitchd that starts on a younger machine has no handlers
FLOOR = 1200


class Unmeasured(RuntimeError):
    """Not even a small packet arrived: nothing is known of large ones."""


def sh(*words: str, stdin: str = "") -> str:
    done = subprocess.run(words, input=stdin, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)}: {done.stderr.strip() or done.stdout.strip()}\n{stdin}")
    return done.stdout


def batch(ns: str, lines: list[str]) -> None:
    """`ip -batch` lines in a namespace; those that begin with "!" are commands of a shell there."""
    for shell, group in itertools.groupby(lines, lambda x: x.startswith("!")):
        if shell:
            sh("ip", "netns", "exec", ns, "sh", "-ec", "\n".join(x[1:] for x in group))
        else:
            sh("ip", "-n", ns, "-batch", "-", stdin="\n".join(group) + "\n")


@contextlib.contextmanager
def space(ns: str) -> Iterator[None]:
    fd = os.open(f"/run/netns/{ns}", os.O_RDONLY)
    try:
        with inside(fd):
            yield
    finally:
        os.close(fd)


def build(row: Row, keys: list[tuple[str, str]]) -> None:
    """Fresh namespaces, the cable between them, both ends of a row with their inner addresses."""
    ends = "link add eth0 netns a address {} type veth peer name eth0 address {} netns b".format(*MACS)
    sh("ip", "-batch", "-", stdin=f"netns add a\nnetns add b\n{ends}\n")
    for ns, end in (("a", 0), ("b", 1)):
        lines = ["link set lo up", "link set eth0 up"]
        lines += [f"addr add {CABLE[4][end]}/24 dev eth0", f"addr add {CABLE[6][end]}/64 dev eth0 nodad"]
        lines += row.filled(end, keys)
        numbers = [1] if end == 0 else list(TARGETS)
        for family in row.inner if row.on != "cable" else ():
            size, more = (24, "") if family == 4 else (64, "nodad")
            if row.on == "lo":
                size = 32 if family == 4 else 128
            lines += [f"addr add {INNER[family]}{x}/{size} dev {row.on} {more}" for x in numbers]
            if row.on == "lo" and "mpls" not in row.stack:
                source = f"{INNER[family]}{numbers[0]}"
                lines.append(f"route add {NETS[family]} via {CABLE[family][1 - end]} src {source}")
        if row.device:
            lines.append("link set t0 up")
        batch(ns, lines)


def unbuild() -> None:
    subprocess.run(["ip", "-force", "-batch", "-"], input="netns del a\nnetns del b\n", capture_output=True, text=True)


class Packets:
    """Packets of one family from a to one address of b, and what they were on the cable."""

    def __init__(self, family: int, to: str, cable: socket.socket) -> None:
        self.family, self._cable = family, cable
        kind = socket.AF_INET if family == 4 else socket.AF_INET6
        with space("b"):
            self._taker = socket.socket(kind, socket.SOCK_DGRAM)
            self._taker.bind(("" if family == 4 else "::", PORT))
        with space("a"):
            self._giver = socket.socket(kind, socket.SOCK_DGRAM)
        self._giver.setsockopt(*MTU_DISCOVER[family], DO)
        self._giver.connect((to, PORT))
        self._count = 0
        self.outer, self.df = 0, None

    def close(self) -> None:
        self._giver.close()
        self._taker.close()

    def forget(self) -> None:
        """No path MTU that was learned stays, nor an error that waits to be told."""
        self._giver.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if self.family == 4:
            with space("a"):
                Path("/proc/sys/net/ipv4/route/flush").write_text("-1")
        else:  # what that file does for IPv6 leaves path MTUs where they are
            sh("ip", "-n", "a", "-6", "route", "flush", "cache")

    def mtu(self) -> int:
        """What the sender takes for the path MTU."""
        return self._giver.getsockopt(*GET_MTU[self.family])

    def warm(self) -> None:
        """A small packet arrives: neighbours and sessions are there. Raises Unmeasured when none does."""
        for _ in range(40):  # of half a second: the machine around the guest may be busy
            with contextlib.suppress(OSError):
                self._giver.send(b"w")
            self._taker.settimeout(0.5)
            with contextlib.suppress(TimeoutError):
                self._taker.recv(100)
                self._drain()
                return
        raise Unmeasured("not even a small packet arrives")

    def _drain(self) -> None:
        self._taker.settimeout(0.0)
        with contextlib.suppress(BlockingIOError):
            while True:
                self._taker.recv(9000)
        self._on_cable()

    def send(self, size: int) -> str:
        """One inner packet of ``size`` bytes: whole, pieces (an outer one was fragmented), error (EMSGSIZE), lost."""
        self._drain()
        self._count += 1
        sentinel = b"s%d" % self._count
        try:
            self._giver.send(b"L" * (size - HEADERS[self.family]))
        except OSError as e:
            return "error" if e.errno == errno.EMSGSIZE else f"errno {e.errno}"
        for _ in range(3):  # an error that waits on the socket ends a send
            with contextlib.suppress(OSError):
                if self._giver.send(sentinel):
                    break
        arrived = self._arrives(size - HEADERS[self.family], sentinel)
        cut = self._on_cable()
        return ("pieces" if cut else "whole") if arrived else "lost"

    def _arrives(self, payload: int, sentinel: bytes) -> bool:
        end, behind = time.monotonic() + PATIENCE, False
        while (left := end - time.monotonic()) > 0:
            self._taker.settimeout(left)
            try:
                got = self._taker.recv(9000)
            except TimeoutError:
                return False
            if len(got) == payload:
                return True
            if got == sentinel and not behind:
                behind, end = True, min(end, time.monotonic() + LATE)
        return False

    def _on_cable(self) -> bool:
        """Reads what was on the cable since; was anything of it a fragment?"""
        cut = False
        self.outer = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                frame = self._cable.recv(70000)
                cut |= fragment(frame)
                if len(frame) - 14 > self.outer:
                    self.outer = len(frame) - 14
                    self.df = bool(frame[20] & 0x40) if frame[12:14] == b"\x08\0" else None
        return cut


def fragment(frame: bytes) -> bool:
    """Is it a fragment of IPv4 or IPv6?"""
    if frame[12:14] == b"\x08\0":
        return bool(int.from_bytes(frame[20:22], "big") & 0x3FFF)
    if frame[12:14] != b"\x86\xdd":
        return False
    kind, at = frame[20], 54
    while kind in (0, 60) and at + 8 <= len(frame):
        kind, at = frame[at], at + 8 * (frame[at + 1] + 1)
    return kind == 44


def series(row: Row, family: int, number: int, cable: socket.socket) -> dict[str, Any]:
    """The largest that passes whole, and the story of larger ones, to an address of b."""
    packets = Packets(family, CABLE[row.outer][1] if row.on == "cable" else f"{INNER[family]}{number}", cable)
    try:
        packets.warm()
        low, high, became = FLOOR, RAISED + 60, ""
        tried: dict[int, str] = {}
        while high - low > 1:
            size = (low + high) // 2
            if became != "whole":  # what arrives whole teaches none that is too small for it
                packets.forget()
            became = tried[size] = packets.send(size)
            low, high = (size, high) if became == "whole" else (low, size)
        packets.forget()
        again, outer, df = packets.send(low), packets.outer, packets.df
        packets.forget()
        before = packets.mtu()
        story = [packets.send(low + 1) for _ in range(3)]
        return {
            "whole": low, "again": again, "outer": outer, "df": df, "story": story, "before": before,
            "after": packets.mtu(), "tried": sorted(tried.items()),
        }  # fmt: skip
    finally:
        packets.close()


def mtu_of(ns: str, new: int | None = None) -> int:
    """The MTU of t0; ``new``: after it was asked to take that one (netdevice(7))."""
    with space(ns), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        if new:
            with contextlib.suppress(OSError):
                fcntl.ioctl(asked, 0x8922, struct.pack("16si", b"t0", new))  # SIOCSIFMTU
        return int(struct.unpack_from("16si", fcntl.ioctl(asked, 0x8921, struct.pack("16s16x", b"t0")))[1])


def over_9000(row: Row, keys: list[tuple[str, str]]) -> int:
    """The MTU the device has that is made anew over a cable of 9000. What is gone already, or still there, is no error;
    an L2TP tunnel goes when it likes (its work queue), and until then there is no second one."""
    sh("ip", "-n", "b", "link", "set", "eth0", "mtu", "9000")
    away = ["link del t0", "link del q0", "l2tp del tunnel tunnel_id 1", "link set eth0 mtu 9000"]
    lines = [x for x in row.filled(0, keys) if not x.startswith("!")]
    end, first = time.monotonic() + 5 * PATIENCE, away
    while True:
        words = ["ip", "-n", "a", "-force", "-batch", "-"]
        said = subprocess.run(words, input="\n".join([*first, *lines]) + "\n", capture_output=True, text=True)
        try:
            return mtu_of("a")
        except OSError:
            if time.monotonic() > end:
                raise RuntimeError(said.stderr) from None
        first = []


def measured(row: Row, number: int, out: Path, keys: list[tuple[str, str]]) -> dict[str, Any]:
    """Everything about one row."""
    found: dict[str, Any] = {"name": row.name}
    takers: list[socket.socket] = []
    try:
        while row.switched and float(Path("/proc/uptime").read_text().split()[0]) < YOUNG:
            time.sleep(0.1)
        build(row, keys)
        if "espinudp" in row.lines:
            takers = [espinudp(ns) for ns in ("a", "b")]
        with space("b"):
            sniffer = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
            sniffer.bind(("eth0", ETH_P_ALL))
        sniffer.setblocking(False)
        with sniffer:
            found["default"] = state(row, number, "default", sniffer, out)
            if row.device and not row.switched:
                raised = [mtu_of(ns, RAISED) for ns in ("a", "b")]
                if raised[0] != found["default"]["mtu"]:
                    found["raised"] = state(row, number, "raised", sniffer, out)
        if row.device and row.alone:
            found["mtu_9000"] = over_9000(row, keys)
    finally:
        for taker in takers:
            taker.close()
        if row.switched:
            for words in (("ovs-vswitchd", "exit", "--cleanup"), ("ovsdb-server", "exit")):
                subprocess.run(["ovs-appctl", "-t", *words], capture_output=True)
        unbuild()
    return found


def espinudp(ns: str) -> socket.socket:
    """What an IKE daemon has on port 4500: a socket whose packets of ESP the kernel takes (udp(7), UDP_ENCAP)."""
    with space(ns):
        taker = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    taker.setsockopt(socket.IPPROTO_UDP, 100, 2)  # UDP_ENCAP, UDP_ENCAP_ESPINUDP
    taker.bind(("", 4500))
    return taker


def state(row: Row, number: int, name: str, sniffer: socket.socket, out: Path) -> dict[str, Any]:
    """The device's MTU, the snapshot, and the series of each inner family."""
    found: dict[str, Any] = {"mtu": mtu_of("a")} if row.device else {}
    target = {"default": TARGETS[0], "raised": TARGETS[1]}[name]
    for family in row.inner:
        packets = Packets(family, CABLE[row.outer][1] if row.on == "cable" else f"{INNER[family]}{target}", sniffer)
        try:
            packets.warm()
            packets.forget()
        finally:
            packets.close()
    (out / f"{number}-{name}.json").write_bytes(codec.dump(read_host(None)))
    for family in row.inner:
        found[str(family)] = series(row, family, target, sniffer)
    return found


def pair(folder: Path, name: str) -> tuple[str, str]:
    """A WireGuard key pair: the file of the private one, the public one."""
    file = folder / name
    file.write_text(sh("wg", "genkey"))
    return str(file), sh("wg", "pubkey", stdin=file.read_text()).strip()


def attempted(row: Row, number: int, out: Path, keys: list[tuple[str, str]]) -> dict[str, Any]:
    """The row, or why it could not be measured. Where not even a small packet arrived nothing was measured at all: it
    is built once more."""
    try:
        try:
            return measured(row, number, out, keys)
        except Unmeasured:
            return measured(row, number, out, keys)
    except Exception:
        return {"name": row.name, "failed": traceback.format_exc()}


def main() -> None:
    out, names = Path(sys.argv[1]), sys.argv[2:]
    keys = [pair(Path("/run"), x) for x in ("key-a", "key-b")]
    results = []
    for number, row in enumerate(ROWS):
        if names and row.name not in names:
            continue
        started = time.monotonic()
        results.append(attempted(row, number, out, keys))
        results[-1]["seconds"] = round(time.monotonic() - started, 2)
        (out / "results.json").write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
