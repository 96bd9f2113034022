"""Build a text of topo.py in real namespaces, send packets through it, and see what the kernel did with them."""

import contextlib
import errno
import os
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

import topo
from msgspec.structs import replace

from pathfit.core.snapshot import HostSnapshot
from pathfit.host.netns import inside
from pathfit.observe.kernel import read_host

IP_MTU_DISCOVER, IP_PMTUDISC_DONT, IP_PMTUDISC_DO, IP_RECVERR, IP_MTU = 10, 0, 2, 11, 14
IPV6_MTU_DISCOVER, IPV6_DONTFRAG, IPV6_RECVERR = 23, 62, 25
PATIENCE = 1.0  # seconds until a packet that should come counts as lost; a sentinel behind it makes it shorter
PORT = 5353
SAID_AT_ONCE = {errno.EMSGSIZE: "error", errno.ENOBUFS: "lost"}  # ENOBUFS: our own veth half's peer refused it


@dataclass
class Seen:
    """What the kernel did with one packet: "whole", "pieces", "told", "error" (EMSGSIZE at once), "lost"."""

    how: str
    told_mtu: int | None = None


class Lab:
    """A built network; ``text`` as in topo.py."""

    def __init__(self, text: str) -> None:
        self.text, self.prefix = text, f"mt{uuid.uuid4().hex[:6]}"
        self.names = topo.parse(text).names

    def up(self) -> None:
        for command in topo.commands(self.text, self.prefix):
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode and command[0] == "ip" and "ethtool" not in command:
                raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")

        end = time.monotonic() + 5
        while time.monotonic() < end and not all(self._forwarding(ns) for ns in self.names):
            pass

    def _forwarding(self, ns: str) -> bool:
        """A bridge lets a new port pass only after a moment (br_forward_delay_timer_expired)."""
        shown = self.run(ns, "bridge", "link")
        return not any(f"state {x}" in shown for x in ("disabled", "listening", "learning"))

    def down(self) -> None:
        for ns in self.names:
            subprocess.run(["ip", "netns", "del", f"{self.prefix}-{ns}"], capture_output=True)

    def run(self, ns: str, *words: str) -> str:
        return subprocess.run(
            ["ip", "netns", "exec", f"{self.prefix}-{ns}", *words], capture_output=True, text=True
        ).stdout

    def snapshot(self, only: tuple[str, ...] = ()) -> HostSnapshot:
        """What pathfit reads of it; ``only``: as if the other namespaces were not visible. WHEREs are "netns:NAME"."""
        host = read_host(None)
        mine = []
        for one in host.namespaces:
            name = one.where.removeprefix(f"netns:{self.prefix}-")
            if name in (only or self.names):
                mine.append(replace(one, where=f"netns:{name}", names=()))
        return replace(host, namespaces=tuple(mine))

    @contextlib.contextmanager
    def inside(self, ns: str) -> Iterator[None]:
        fd = os.open(f"/run/netns/{self.prefix}-{ns}", os.O_RDONLY)
        try:
            with inside(fd):
                yield
        finally:
            os.close(fd)

    def forget(self) -> None:
        """No cached path MTU anywhere."""
        for ns in self.names:
            subprocess.run(["ip", "-n", f"{self.prefix}-{ns}", "route", "flush", "cache"], capture_output=True)
            subprocess.run(["ip", "-n", f"{self.prefix}-{ns}", "-6", "route", "flush", "cache"], capture_output=True)

    def snmp(self, ns: str, name: str) -> int:
        """A counter of /proc/net/snmp ("Ip.FragFails") or snmp6 ("Ip6FragFails")."""
        fd_text = self.run(ns, "cat", "/proc/net/snmp", "/proc/net/snmp6")
        if "." not in name:
            return next(int(x.split()[1]) for x in fd_text.splitlines() if x.startswith(name))
        group, field = name.split(".")
        keys, values = (x.split()[1:] for x in fd_text.splitlines() if x.startswith(f"{group}:"))
        return int(values[keys.index(field)])

    def send(self, ns: str, to: str, at: str, size: int, *, df: bool = True, sport: int = 0, dport: int = PORT) -> Seen:
        """One UDP packet of ``size`` bytes (IP header included) from ``ns`` to address ``to``, looked for in ``at``."""
        six = ":" in to
        family, header = (socket.AF_INET6, 48) if six else (socket.AF_INET, 28)
        with self.inside(at):
            taker = socket.socket(family, socket.SOCK_DGRAM)
            taker.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            taker.bind(("::" if six else "", PORT))
        with self.inside(ns):
            giver = socket.socket(family, socket.SOCK_DGRAM)
            giver.bind(("::" if six else "", sport))
        self._options(giver, six, df)
        reassembled = self._reassembled(six)
        try:
            giver.connect((to, dport))
            self._warm(giver, taker)
            self.forget()
            return self._large(giver, taker, six, size - header, reassembled)
        except OSError as e:
            return Seen(f"errno {e.errno}")
        finally:
            giver.close()
            taker.close()

    def answer(self, ns: str, to: str, at: str, size: int, *, df: bool = True, dport: int = PORT) -> Seen:
        """One UDP packet of ``size`` bytes *back*: from the socket in ``at`` that ``ns`` has just written to."""
        six = ":" in to
        family, header = (socket.AF_INET6, 48) if six else (socket.AF_INET, 28)
        with self.inside(at):
            server = socket.socket(family, socket.SOCK_DGRAM)
            try:
                server.bind((to, PORT))
            except OSError:  # translated on the way: any address of it
                server.bind(("::" if six else "", PORT))
        with self.inside(ns):
            client = socket.socket(family, socket.SOCK_DGRAM)
        self._options(server, six, df)
        before = self._reassembled(six)
        try:
            client.connect((to, dport))
            client.send(b"w")
            server.settimeout(PATIENCE)
            _, peer = server.recvfrom(100)
            server.connect(peer[:2])
            self._warm(server, client)
            self.forget()
            return self._large(server, client, six, size - header, before)
        except OSError as e:
            return Seen(f"errno {e.errno}")
        finally:
            client.close()
            server.close()

    def stream(self, ns: str, to: str, at: str, size: int) -> bool:
        """Do ``size`` bytes of one TCP connection arrive in time?"""
        with self.inside(at):
            listener = socket.create_server((to, PORT), family=socket.AF_INET6 if ":" in to else socket.AF_INET)
        with self.inside(ns):
            giver = socket.socket(listener.family, socket.SOCK_STREAM)
        with listener, giver:
            giver.settimeout(PATIENCE)
            giver.connect((to, PORT))
            taker, _ = listener.accept()
            with taker:
                taker.settimeout(PATIENCE)
                giver.sendall(b"x" * size)
                got = 0
                with contextlib.suppress(TimeoutError):
                    while got < size:
                        got += len(taker.recv(65536))
                return got == size

    def _options(self, giver: socket.socket, six: bool, df: bool) -> None:
        if six:
            giver.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, IP_PMTUDISC_DO if df else IP_PMTUDISC_DONT)
            giver.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVERR, 1)
        else:
            giver.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO if df else IP_PMTUDISC_DONT)
            giver.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)

    def _reassembled(self, six: bool) -> int:
        return sum(self.snmp(ns, "Ip6ReasmOKs" if six else "Ip.ReasmOKs") for ns in self.names)

    def _warm(self, giver: socket.socket, taker: socket.socket) -> None:
        """A small packet first, so that neighbours are known."""
        giver.send(b"w")
        taker.settimeout(PATIENCE)
        with contextlib.suppress(OSError):
            taker.recv(9000)

    def _large(self, giver: socket.socket, taker: socket.socket, six: bool, payload: int, reassembled: int) -> Seen:
        """Send one packet with ``payload`` bytes, and see what becomes of it."""
        try:
            giver.send(b"L" * payload)
        except OSError as e:
            return Seen(SAID_AT_ONCE.get(e.errno or 0, f"errno {e.errno}"))
        return self._outcome(giver, taker, six, payload, reassembled)

    def _outcome(self, giver: socket.socket, taker: socket.socket, six: bool, want: int, before: int) -> Seen:
        end = time.monotonic() + PATIENCE
        sentinel = False
        taker.settimeout(0.05)
        while time.monotonic() < end:
            got = self._error(giver)
            if got is not None:
                return Seen("told", got)
            if not sentinel:
                with contextlib.suppress(OSError):
                    giver.send(b"s")
                    sentinel = True
            try:
                data = taker.recv(9000)
            except TimeoutError:
                continue
            if len(data) == want:
                return Seen("pieces" if self._reassembled(six) > before else "whole")
            if data == b"s":
                break
        got = self._error(giver)
        return Seen("told", got) if got is not None else Seen("lost")

    @staticmethod
    def _error(giver: socket.socket) -> int | None:
        """The MTU of a "too big" that came back (struct sock_extended_err: ee_info)."""
        try:
            _, extra, _, _ = giver.recvmsg(1, 512, socket.MSG_ERRQUEUE | socket.MSG_DONTWAIT)
        except OSError:
            return None
        for _, _, data in extra:
            origin, info = data[4], int.from_bytes(data[8:12], "little")
            if origin in (2, 3) and info:  # SO_EE_ORIGIN_ICMP, _ICMP6
                return info
        return None


@contextlib.contextmanager
def lab(text: str) -> Iterator[Lab]:
    """The built network, removed at the end whatever happens."""
    it = Lab(text)
    try:
        it.up()
        yield it
    finally:
        it.down()
