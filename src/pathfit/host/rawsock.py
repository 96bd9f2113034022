"""Raw and packet sockets (CAP_NET_RAW in the namespace they are made in). Thin: create, filter, send, read.

* :func:`sender` sends whole IP packets we wrote ourselves and can leave nothing behind: protocol IPPROTO_RAW means
  no ICMP error is ever matched to it (raw_icmp_error looks sockets up by the *quoted* protocol), and
  IP_PMTUDISC_INTERFACE makes the kernel ignore cached path MTUs for it (probing.md 1).
* :func:`listener` is an AF_PACKET socket that sees what arrives before our own input filter drops it.
"""

import _thread
import array
import errno
import socket
import struct
import sys

ETH_P = {4: 0x0800, 6: 0x86DD}
SO_ATTACH_FILTER = 26
IP_MTU_DISCOVER, IP_PMTUDISC_INTERFACE = 10, 4
IPV6_MTU_DISCOVER, IPV6_PMTUDISC_INTERFACE = 23, 4
RECEIVE_BUFFER = 4 << 20
SNAP = 2048  # bytes read of a packet: headers and the quoted packet are in the first few hundred

Instruction = tuple[int, int, int, int]  # code, jt, jf, k (struct sock_filter)


def sender(family: int) -> socket.socket:
    """A raw socket for whole IP packets. PermissionError without CAP_NET_RAW."""
    af = socket.AF_INET if family == 4 else socket.AF_INET6
    s = socket.socket(af, socket.SOCK_RAW, socket.IPPROTO_RAW)
    if family == 4:
        s.setsockopt(socket.IPPROTO_IP, socket.IP_HDRINCL, 1)
        s.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_INTERFACE)
    else:  # IPPROTO_RAW implies the header is ours (rawv6_init_sk)
        s.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_INTERFACE)
    s.setblocking(False)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, RECEIVE_BUFFER)
    return s


def listener(family: int, program: list[Instruction]) -> socket.socket:
    """A packet socket that delivers incoming IP packets (from the IP header on) which ``program`` accepts.

    Bound to one ethertype it sees arrivals only, not what we send (ptype_base, not ptype_all). PermissionError
    without CAP_NET_RAW.
    """
    s = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P[family]))
    try:
        s.setblocking(False)
        attach(s, program)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
    except OSError:
        s.close()
        raise
    return s  # what slipped in before the filter was on is checked by the reader like everything else


def close(s: socket.socket) -> None:
    """Close a :func:`listener` without waiting for it: packet_release() sits out an RCU grace period
    (synchronize_net(), 8 to 16 ms), which a measurement at RTT 0 would pay beside its whole settling time."""
    try:
        _thread.start_new_thread(s.close, ())
    except RuntimeError:  # no more threads for us
        s.close()


def attach(s: socket.socket, program: list[Instruction]) -> None:
    """Attach a classic BPF program (linux/filter.h)."""
    code = array.array("B", b"".join(struct.pack("HBBI", *i) for i in program))
    address, _ = code.buffer_info()  # ctypes would say it as well, and costs a millisecond before the first packet
    s.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HP", len(program), address))


LDW, LDH, LDB, LDXMSH, LDHX, LDBX = 0x20, 0x28, 0x30, 0xB1, 0x48, 0x50
JEQ, JGT, JSET, RET = 0x15, 0x25, 0x45, 0x06
SMALL_PACKET = 120  # IP bytes: every pure acknowledgement (60 + 60 at most) and no data segment of interest


def answers_of(address: bytes, port: int) -> list[Instruction]:
    """Accept every ICMP packet, and of ``address``:``port`` the TCP packets that carry SYN or RST or are so small
    that they can only be acknowledgements. Data segments stay in the kernel."""
    return _answers4(address, port) if len(address) == 4 else _answers6(address, port)


def _resolve(lines: list[tuple[str, int, str, str, int]]) -> list[Instruction]:
    """Labels to relative jumps. A line is (label, code, when true, when false, k)."""
    at = {line[0]: i for i, line in enumerate(lines) if line[0]}
    return [
        (code, at[t] - i - 1 if t else 0, at[f] - i - 1 if f else 0, k) for i, (_, code, t, f, k) in enumerate(lines)
    ]


def _answers4(address: bytes, port: int) -> list[Instruction]:
    return _resolve(
        [
            ("", LDB, "", "", 9),
            ("", JEQ, "yes", "", 1),
            ("", JEQ, "", "no", 6),
            ("", LDW, "", "", 12),
            ("", JEQ, "", "no", int.from_bytes(address, "big")),
            ("", LDH, "", "", 6),
            ("", JSET, "no", "", 0x1FFF),
            ("", LDXMSH, "", "", 0),
            ("", LDHX, "", "", 0),
            ("", JEQ, "", "no", port),
            ("", LDBX, "", "", 13),
            ("", JSET, "yes", "", 0x06),
            ("", LDH, "", "", 2),
            ("", JGT, "no", "yes", SMALL_PACKET),
            ("yes", RET, "", "", SNAP),
            ("no", RET, "", "", 0),
        ]
    )


def _answers6(address: bytes, port: int) -> list[Instruction]:
    lines = [
        ("", LDB, "", "", 6),
        ("", JEQ, "yes", "", 58),
        ("", JEQ, "", "no", 6),
    ]
    for i in range(4):
        word = int.from_bytes(address[4 * i : 4 * i + 4], "big")
        lines += [("", LDW, "", "", 8 + 4 * i), ("", JEQ, "", "no", word)]
    lines += [
        ("", LDH, "", "", 40),
        ("", JEQ, "", "no", port),
        ("", LDB, "", "", 53),
        ("", JSET, "yes", "", 0x06),
        ("", LDH, "", "", 4),
        ("", JGT, "no", "yes", SMALL_PACKET),
        ("yes", RET, "", "", SNAP),
        ("no", RET, "", "", 0),
    ]
    return _resolve(lines)


def to_ports(family: int, ports: list[int]) -> list[Instruction]:
    """Accept every ICMP packet, UDP and TCP packets to one of ``ports`` (at most 64), and every fragment but IPv4's
    first ones, which have a port."""
    line = list[tuple[str, int, str, str, int]]
    own: line = [("", JEQ, "yes", "", port) for port in ports[:64]]
    end: line = [("no", RET, "", "", 0), ("yes", RET, "", "", SNAP)]
    if family == 4:
        head: line = [
            ("", LDB, "", "", 9),
            ("", JEQ, "yes", "", 1),
            ("", JEQ, "ports", "", 17),
            ("", JEQ, "", "no", 6),
            ("ports", LDH, "", "", 6),
            ("", JSET, "yes", "", 0x1FFF),
            ("", LDXMSH, "", "", 0),
            ("", LDHX, "", "", 2),
        ]
        return _resolve([*head, *own, *end])
    head = [
        ("", LDB, "", "", 6),
        ("", JEQ, "yes", "", 58),
        ("", JEQ, "yes", "", 44),
        ("", JEQ, "ports", "", 17),
        ("", JEQ, "", "no", 6),
        ("ports", LDH, "", "", 42),
    ]
    return _resolve([*head, *own, *end])


def send(s: socket.socket, packet: bytes, address: str) -> str:
    """Send one packet: "sent", "local" (larger than our own link: EMSGSIZE is no hole, probing.md 5), "full" (try
    again later) or "refused" (our own filter or route)."""
    try:
        s.sendto(packet, (address, 0))
    except OSError as e:
        if e.errno == errno.EMSGSIZE:
            return "local"
        if e.errno in (errno.EAGAIN, errno.ENOBUFS):
            return "full"
        return "refused"
    return "sent"


def read(s: socket.socket, most: int = 512) -> list[tuple[bytes, str]]:
    """Packets that have arrived, at most ``most``: (bytes from the IP header on, name of the link)."""
    out: list[tuple[bytes, str]] = []
    for _ in range(most):
        try:
            data, where = s.recvfrom(SNAP)
        except (BlockingIOError, InterruptedError):
            break
        except OSError:  # ENETDOWN when the link goes away while we read
            break
        out.append((data, where[0]))
    return out


def may() -> bool:
    """May we open raw sockets where we stand? False also where the kernel has none of them."""
    try:
        sender(4).close()
    except OSError:
        return False
    return sys.platform == "linux"
