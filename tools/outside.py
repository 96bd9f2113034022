"""Runs a command, and shows that no packet of a lab left by a link of the machine meanwhile.

    python tools/outside.py COMMAND ARGUMENT...

Labs use addresses that nobody routes (RFC 2544, 5737, 3849). Whoever sees one of them on a link of the machine's own
has seen a lab leak: a socket of the packet family listens on all links of the namespace this process is in, with a
filter in the kernel for just those; a network that the machine itself is in is left out. lo is not a way out. Exit
status: that of the command; 1 when it was 0 and packets were seen. Without the right to such a socket it says that it
did not look.
"""

import ctypes
import ipaddress
import json
import signal
import socket
import struct
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress

NETS = ("198.18.0.0/15", "192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32")
_SO_ATTACH_FILTER = 26  # asm-generic/socket.h
_ETH_P_ALL, _ETH_P_IP, _ETH_P_IPV6 = 3, 0x0800, 0x86DD  # one protocol alone would not show what goes out
_PROTOCOL = 0xFFFFF000  # SKF_AD_OFF + SKF_AD_PROTOCOL, linux/filter.h
_LDH, _LD, _AND, _JEQ, _RET = 0x28, 0x20, 0x54, 0x15, 0x06
_KEPT = 64  # bytes of a packet
_SHOWN = 8  # pairs of addresses
_STARTS = {_ETH_P_IP: (12, 16), _ETH_P_IPV6: (8, 24)}  # source, destination; SOCK_DGRAM begins at the IP header


class Outside:
    """Counts packets with a lab's addresses on the links of the namespace this process is in, lo left out."""

    def __init__(self) -> None:
        """Raises PermissionError without CAP_NET_RAW."""
        kind = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK
        self._socket = socket.socket(socket.AF_PACKET, kind, socket.htons(_ETH_P_ALL))
        code = [struct.pack("=HBBI", *one) for one in program()]
        memory = ctypes.create_string_buffer(b"".join(code))
        attached = struct.pack("HL", len(code), ctypes.addressof(memory))
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, attached)
        with suppress(BlockingIOError):
            while self._socket.recv(1):  # what came before the filter
                pass

    def seen(self) -> list[str]:
        """ "eth0: 4500003c..." for each; a second call finds nothing."""
        found = []
        with self._socket, suppress(BlockingIOError):
            while True:
                data, at = self._socket.recvfrom(_KEPT)
                found.append(f"{at[0]}: {data.hex()}")
        return [x for x in found if not x.startswith("lo:")]


def foreign() -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    """NETS without those that this machine has an address in: what it says there is its own."""
    shown = subprocess.run(["ip", "-j", "addr"], capture_output=True, text=True, check=True).stdout
    own = [ipaddress.ip_address(a["local"]) for x in json.loads(shown) for a in x.get("addr_info", ()) if "local" in a]
    return [n for n in map(ipaddress.ip_network, NETS) if not any(a in n for a in own)]


def program() -> list[tuple[int, int, int, int]]:
    """The filter: (code, jump if true, jump if false, k) for each instruction (linux/filter.h)."""
    code: list[tuple[int, int, int, int]] = []
    nets = foreign()
    for kind, starts in _STARTS.items():
        tests = list(_tests(kind, starts, nets))
        code += [(_LDH, 0, 0, _PROTOCOL), (_JEQ, 0, len(tests) + 1, kind), *tests, (_RET, 0, 0, 0)]
    return [*code, (_RET, 0, 0, 0)]


def _tests(
    kind: int, starts: Sequence[int], every: Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network]
) -> Iterator[tuple[int, int, int, int]]:
    """Keep the packet when its address at one of ``starts`` is in one of the networks; the first 32 bits decide."""
    nets = [n for n in every if n.version == (4 if kind == _ETH_P_IP else 6)]
    for start in starts:
        for net in nets:
            shift = net.max_prefixlen - 32
            yield (_LD, 0, 0, start)
            yield (_AND, 0, 0, int(net.netmask) >> shift)
            yield (_JEQ, 0, 1, int(net.network_address) >> shift)
            yield (_RET, 0, 0, _KEPT)


def who(packet: str) -> str:
    """Link and addresses of a line of :meth:`Outside.seen`: an end that is no lab's may be the machine's own talk."""
    link, _, data = packet.partition(": ")
    raw = bytes.fromhex(data)
    kind, size = (_ETH_P_IP, 4) if raw[0] >> 4 == 4 else (_ETH_P_IPV6, 16)
    ends = [str(ipaddress.ip_address(raw[at : at + size])) for at in _STARTS[kind]]
    return f"{link}: {' > '.join(ends)}"


def main(words: Sequence[str]) -> int:
    try:
        outside = Outside()
    except PermissionError:
        print("packets of labs on the machine's own links: not looked for, that needs root", file=sys.stderr)
        return _run(words)
    status = _run(words)
    seen = Counter(map(who, outside.seen()))
    links = [name for _, name in socket.if_nameindex() if name != "lo"]
    where = ", ".join(links) or "none"
    print(f"packets of labs on the machine's own links ({where}): {seen.total()}", flush=True)
    if seen:
        for what, count in seen.most_common(_SHOWN):
            print(f"  {count} on {what}", file=sys.stderr)
    return status or int(bool(seen))


def _run(words: Sequence[str]) -> int:
    """The status in the way of a shell. Ctrl-C reaches the command as well, and it is waited for."""
    signal.signal(signal.SIGINT, lambda *_: None)  # a handler, not SIG_IGN: the command must not inherit that
    status = subprocess.run(words, check=False).returncode
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
