"""Answers every TCP segment it sees on its way to PORT with a forged "too big": python -I -S forger.py LIE MTU PORT.

Runs in a router's namespace. LIE: "true" quotes the packet as it was (only somebody on the path can); the others
quote what nobody sent, as somebody beside the path would have to guess. Says "ready", ends when killed.
"""

import os
import signal
import socket
import struct
import sys

ETH_P_ALL = 3
LIES = ("true", "port", "sequence", "address", "destination", "protocol", "echo", "short")
MOST = 4000  # forged packets: a flood, but one with an end


def checksum(data: bytes) -> int:
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def quoted(packet: bytes, lie: str) -> bytes:
    """The packet as the error quotes it: IP header and the first bytes behind it."""
    v6 = packet[0] >> 4 == 6
    at = 40 if v6 else (packet[0] & 15) * 4
    q = bytearray(packet[: at + 28])
    if lie == "port":
        q[at : at + 2] = struct.pack("!H", int.from_bytes(q[at : at + 2], "big") ^ 0x1555)
    elif lie == "sequence":
        q[at + 4 : at + 8] = struct.pack("!I", (int.from_bytes(q[at + 4 : at + 8], "big") + 0x20000000) & 0xFFFFFFFF)
    elif lie == "address":
        q[(23 if v6 else 15)] ^= 0x40
    elif lie == "destination":
        q[(39 if v6 else 19)] ^= 0x01
    elif lie == "protocol":
        q[6 if v6 else 9] = socket.IPPROTO_UDP
    elif lie == "echo":
        q[6 if v6 else 9] = socket.IPPROTO_ICMPV6 if v6 else socket.IPPROTO_ICMP
        q[at : at + 8] = struct.pack("!BBHHH", 128 if v6 else 8, 0, 0, 4242, 1)
    elif lie == "short":
        del q[at + 3 :]
    return bytes(q)


def forged(packet: bytes, lie: str, mtu: int) -> tuple[bytes, str, int]:
    """A whole IP packet from the target's side to the sender; where to; the family."""
    inner = quoted(packet, lie)
    if packet[0] >> 4 == 4:
        src, dst = packet[16:20], packet[12:16]
        icmp = struct.pack("!BBHHH", 3, 4, 0, 0, mtu & 0xFFFF) + inner
        icmp = icmp[:2] + checksum(icmp).to_bytes(2, "big") + icmp[4:]
        head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(icmp), 0, 0, 64, 1, 0, src, dst)
        return head + icmp, socket.inet_ntoa(dst), socket.AF_INET
    src, dst = packet[24:40], packet[8:24]
    icmp = struct.pack("!BBHI", 2, 0, 0, mtu) + inner
    check = checksum(src + dst + struct.pack("!II", len(icmp), 58) + icmp)
    icmp = icmp[:2] + check.to_bytes(2, "big") + icmp[4:]
    head = struct.pack("!IHBB16s16s", 6 << 28, len(icmp), 58, 64, src, dst)
    return head + icmp, socket.inet_ntop(socket.AF_INET6, dst), socket.AF_INET6


def main() -> None:
    lie, mtu, port = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    tap = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_ALL))
    out = {
        socket.AF_INET: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW),
        socket.AF_INET6: socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW),
    }
    os.write(1, b"ready\n")
    sent = 0
    while sent < MOST:
        packet, where = tap.recvfrom(2048)
        if where[2] == socket.PACKET_OUTGOING or len(packet) < 40:
            continue
        v6 = packet[0] >> 4 == 6
        at = 40 if v6 else (packet[0] & 15) * 4
        if packet[6 if v6 else 9] != socket.IPPROTO_TCP or int.from_bytes(packet[at + 2 : at + 4], "big") != port:
            continue
        answer, to, family = forged(packet, lie, mtu)
        out[family].sendto(answer, (to, 0))
        sent += 1
    tap.close()
    signal.pause()  # what comes from now on goes through unanswered


main()
