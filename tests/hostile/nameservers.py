"""Name servers that do everything wrong: python -I -S nameservers.py KIND. UDP and TCP, port 53. Says "ready".

Written by hand on purpose: what no library would build is what has to be tried.
"""

import os
import random
import socket
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress

A, CNAME, AAAA = 1, 5, 28
JUNK = random.Random(2)


def name_end(query: bytes) -> int:
    at = 12
    while query[at]:
        at += query[at] + 1
    return at + 1


def header(query: bytes, *, code: int = 0, answers: int = 0, flags: int = 0x8180) -> bytes:
    """The question repeated, with room for ``answers`` records behind it."""
    end = name_end(query) + 4
    return query[:2] + struct.pack("!HHHHH", flags | code, 1, answers, 0, 0) + query[12:end]


def kind_of(query: bytes) -> int:
    end = name_end(query)
    return int.from_bytes(query[end : end + 2], "big")


def record(kind: int, data: bytes, name: bytes = b"\xc0\x0c") -> bytes:
    return name + struct.pack("!HHIH", kind, 1, 60, len(data)) + data


def labels(name: str) -> bytes:
    return b"".join(bytes([len(part)]) + part.encode() for part in name.split(".")) + b"\0"


def many(query: bytes) -> bytes:
    """A thousand addresses, none of which is any good; more than UDP holds."""
    if kind_of(query) != A:
        return header(query)
    found = [record(A, socket.inet_aton(f"192.0.2.{3 + n % 200}") if n < 1 else struct.pack("!I", 0xC6336400 + n))
             for n in range(1000)]  # fmt: skip
    return header(query, answers=len(found)) + b"".join(found)


def many_of_both(query: bytes) -> bytes:
    """A thousand of each family, all of which lead nowhere."""
    if kind_of(query) == A:
        found = [record(A, struct.pack("!I", 0xC6336400 + n)) for n in range(1000)]
    else:
        found = [record(AAAA, socket.inet_pton(socket.AF_INET6, f"2001:db8:ffff::{n + 1:x}")) for n in range(1000)]
    return header(query, answers=len(found)) + b"".join(found)


def itself(query: bytes) -> bytes:
    """The name is an alias of itself."""
    return header(query, answers=1) + record(CNAME, b"\xc0\x0c")


def next_alias(query: bytes) -> bytes:
    """An alias of a name that is an alias of the next, and no address, ever."""
    return header(query, answers=1) + record(CNAME, b"\x08" + JUNK.randbytes(4).hex().encode() + b"\xc0\x0c")


def loop(query: bytes) -> bytes:
    """Two aliases of each other."""
    first, second = labels("one.example"), labels("two.example")
    records = record(CNAME, first) + record(CNAME, second, first) + record(CNAME, first, second)
    return header(query, answers=3) + records


def chain(query: bytes) -> bytes:
    """Two hundred aliases, and an address at the end that nobody should believe."""
    names = [b"\xc0\x0c", *(labels(f"a{n}.example") for n in range(200))]
    records = [record(CNAME, names[n + 1], names[n]) for n in range(200)]
    return header(query, answers=201) + b"".join(records) + record(A, socket.inet_aton("192.0.2.2"), names[-1])


def others(query: bytes) -> bytes:
    """An address of a name that was not asked for."""
    return header(query, answers=1) + record(A, socket.inet_aton("192.0.2.66"), labels("bank.example"))


def pointer_loop(query: bytes) -> bytes:
    """A compressed name that points to itself."""
    here = len(header(query))
    return header(query, answers=1) + record(A, b"\1\2\3\4", struct.pack("!H", 0xC000 | here))


def wrong_length(query: bytes) -> bytes:
    return header(query, answers=1) + record(A, b"\1\2\3")


def counts_lie(query: bytes) -> bytes:
    return header(query, answers=65535) + record(A, b"\1\2\3")


def odd_addresses(query: bytes) -> bytes:
    """Addresses that are of no host, or of this very machine."""
    if kind_of(query) == A:
        found = [record(A, socket.inet_aton(a)) for a in ("0.0.0.0", "255.255.255.255", "224.0.0.1", "127.0.0.1")]
    else:
        found = [record(AAAA, socket.inet_pton(socket.AF_INET6, a)) for a in ("::", "ff02::1", "::ffff:127.0.0.1", "fe80::1")]  # fmt: skip # noqa: E501
    return header(query, answers=len(found)) + b"".join(found)


def truncated(query: bytes) -> bytes:
    return header(query, flags=0x8380)


def code(number: int) -> Callable[[bytes], bytes]:
    return lambda query: header(query, code=number)


Answers = Callable[[bytes], bytes | None]
KINDS: dict[str, Answers] = {
    "nxdomain": code(3),
    "servfail": code(2),
    "refused": code(5),
    "code-of-nonsense": code(15),
    "no-data": header,
    "silent": lambda query: None,
    "junk": lambda query: JUNK.randbytes(300),
    "junk-with-our-id": lambda query: query[:2] + JUNK.randbytes(300),
    "short": lambda query: query[:11],
    "empty": lambda query: b"",
    "echo": lambda query: query,
    "wrong-id": lambda query: struct.pack("!H", query[0] ^ 1) + header(query)[2:],
    "other-question": lambda query: header(query)[:12] + labels("other.example") + struct.pack("!HH", A, 1),
    "many": many,
    "many-of-both": many_of_both,
    "alias-of-itself": itself,
    "aliases-for-ever": next_alias,
    "loop": loop,
    "chain": chain,
    "others": others,
    "pointer-loop": pointer_loop,
    "wrong-length": wrong_length,
    "counts-lie": counts_lie,
    "odd-addresses": odd_addresses,
    "cut-for-ever": truncated,
    "cut-and-nobody-at-tcp": truncated,
    "cut-and-junk-at-tcp": truncated,
    "cut-and-drip-at-tcp": truncated,
    "cut-and-long-at-tcp": truncated,
}


def pieces(kind: str, query: bytes) -> Iterator[bytes]:
    """What is said over TCP."""
    answer = KINDS[kind](query) or b""
    if kind == "cut-and-junk-at-tcp":
        yield b"\x01\x00" + JUNK.randbytes(256)
    elif kind == "cut-and-drip-at-tcp":
        never = threading.Event()
        yield b"\x40\x00"
        while not never.wait(0.3):
            yield b"x"
    elif kind == "cut-and-long-at-tcp":
        yield b"\xff\xff" + answer
        threading.Event().wait()
    else:
        yield len(answer).to_bytes(2, "big") + answer


def talk(conn: socket.socket, kind: str) -> None:
    with conn, suppress(OSError):
        for piece in pieces(kind, conn.recv(65536)[2:]):
            conn.sendall(piece)


def over_tcp(listener: socket.socket, kind: str) -> None:
    while True:
        conn, _ = listener.accept()
        threading.Thread(target=talk, args=(conn, kind), daemon=True).start()


def main() -> None:
    kind = sys.argv[1]
    if kind == "nobody":
        os.write(1, b"ready\n")
        threading.Event().wait()
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind(("", 53))
    if kind != "cut-and-nobody-at-tcp":
        listener = socket.create_server(("", 53))
        threading.Thread(target=over_tcp, args=(listener, kind), daemon=True).start()
    os.write(1, b"ready\n")
    while True:
        query, client = udp.recvfrom(65536)
        answer = KINDS[kind](query)
        if answer is None:
            continue
        if len(answer) > 1232:
            answer = truncated(query)
        with suppress(OSError):
            udp.sendto(answer, client)


if __name__ == "__main__":
    main()
