"""A TCP that no kernel would speak, on a packet socket: python -I -S rawpeer.py KIND PORT. Says "ready".

The namespace's own TCP must not answer beside us: an nft rule drops what comes for PORT behind the packet socket
(AF_PACKET taps before the hooks of nf_hook_ingress' successors; packet(7)).
"""

import os
import socket
import struct
import sys

ETH_P_IP = 0x0800
FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16
MSS_1460 = b"\2\4\5\xb4"
SACK_OK = b"\1\1\4\2"


def checksum(data: bytes) -> int:
    total = sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + b"\0" * (len(data) % 2)))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF


class Segment:
    """One received segment: addresses, ports, numbers, payload length."""

    def __init__(self, data: bytes) -> None:
        at = (data[0] & 15) * 4
        self.src, self.dst = data[12:16], data[16:20]
        self.sport, self.dport, self.seq, self.ack, offset, self.flags = struct.unpack_from("!HHIIBB", data, at)
        self.length = int.from_bytes(data[2:4], "big") - at - (offset >> 4) * 4
        self.end = (self.seq + self.length + bool(self.flags & (SYN | FIN))) & 0xFFFFFFFF


class Peer:
    def __init__(self, port: int) -> None:
        self.port = port
        self.tap = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_IP))
        self.raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)

    def segments(self):  # type: ignore[no-untyped-def]
        while True:
            data, where = self.tap.recvfrom(65536)
            if where[2] == socket.PACKET_OUTGOING or len(data) < 40 or data[9] != 6:
                continue
            segment = Segment(data)
            if segment.dport == self.port and not segment.flags & RST:
                yield segment

    def answer(self, s: Segment, flags: int, window: int, options: bytes = b"", seq: int = 1, payload: bytes = b"",
               ack: int | None = None) -> None:  # fmt: skip
        options += b"\1" * (-len(options) % 4)
        head = struct.pack("!HHIIBBHHH", s.dport, s.sport, seq, s.end if ack is None else ack,
                           (20 + len(options)) << 2, flags, window, 0, 0) + options  # fmt: skip
        pseudo = s.dst + s.src + struct.pack("!HH", 6, len(head) + len(payload))
        check = checksum(pseudo + head + payload)
        head = head[:16] + check.to_bytes(2, "big") + head[18:]
        ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(head) + len(payload), 0, 0x4000, 64, 6, 0, s.dst, s.src)
        self.raw.sendto(ip + head + payload, (socket.inet_ntoa(s.src), 0))

    def shake(self, options: bytes, window: int, then_window: int | None = None) -> None:
        """Accept everything with these options; acknowledge what comes, in order or not, and say nothing."""
        for s in self.segments():
            if s.flags & SYN:
                self.answer(s, SYN | ACK, window, options, seq=0)
            elif s.length > 0 or s.flags & FIN:
                self.answer(s, ACK, window if then_window is None else then_window)


def lying_sack(peer: Peer) -> None:
    """Claims to have received what was never sent."""
    for s in peer.segments():
        if s.flags & SYN:
            peer.answer(s, SYN | ACK, 65535, MSS_1460 + SACK_OK, seq=0)
        else:
            far = struct.pack("!BBBBIIII", 1, 1, 5, 18, s.end + 5, s.end + 90000, 0, 0xFFFFFFFF)
            peer.answer(s, ACK, 65535, far, ack=s.seq)


def wrong_ack(peer: Peer) -> None:
    """Acknowledges a SYN that we did not send (RFC 9293 3.10.7.3: we answer RST)."""
    for s in peer.segments():
        if s.flags & SYN:
            peer.answer(s, SYN | ACK, 65535, MSS_1460, seq=0, ack=s.end + 1000)


def rst_at_syn(peer: Peer) -> None:
    for s in peer.segments():
        peer.answer(s, RST | ACK, 0, seq=0)


def half_checksum(peer: Peer) -> None:
    """Every answer is damaged."""
    for s in peer.segments():
        s.src = bytes([*s.src[:3], s.src[3]])
        peer.answer(s, SYN | ACK, 65535, b"\2\4\0\0" + b"\x05\x02\x08\x00", seq=0)


KINDS = {
    "window-0": lambda p: p.shake(MSS_1460, 0),
    "window-closes": lambda p: p.shake(MSS_1460 + SACK_OK, 1000, 0),
    "mss-1": lambda p: p.shake(b"\2\4\0\1", 65535),
    "mss-0": lambda p: p.shake(b"\2\4\0\0", 65535),
    "mss-65535": lambda p: p.shake(b"\2\4\xff\xff", 65535),
    "no-mss": lambda p: p.shake(b"", 65535),
    "options-of-nonsense": lambda p: p.shake(b"\2\xff\3\1\4\0\5\2\x08\x03\xff", 65535),
    "acknowledges-all-says-nothing": lambda p: p.shake(MSS_1460 + SACK_OK, 65535),
    "lying-sack": lying_sack,
    "wrong-ack": wrong_ack,
    "reset-at-syn": rst_at_syn,
    "option-lengths-lie": half_checksum,
}


def main() -> None:
    peer = Peer(int(sys.argv[2]))
    os.write(1, b"ready\n")
    KINDS[sys.argv[1]](peer)


main()
