"""The kernel is the oracle: random rules, random packets, and what evaluate() says must be what happens.

Two namespaces and a cable; rules in the receiver. A chain before everything counts packets that came in, one behind
everything those that got through, so no answer depends on time.
"""

import contextlib
import os
import random
import socket
import struct
import subprocess
from collections.abc import Iterator

import pytest
from msgspec.structs import replace

from pathfit.core.net import Flow
from pathfit.host.netns import inside
from pathfit.model.filters.evaluate import Packet, evaluate, tables_index
from pathfit.observe.filters import read_tables

pytestmark = pytest.mark.lab
SRC, DST = "198.18.7.1", "198.18.7.2"
COUNTING = """
table ip zz_count {
  chain first { type filter hook prerouting priority -500; ip saddr 198.18.7.1 counter; }
  chain last { type filter hook input priority 500; ip saddr 198.18.7.1 counter; }
}
"""


class Lab:
    def __init__(self) -> None:
        self.prefix = f"pfflt{os.getpid()}"
        self.names = [f"{self.prefix}-a", f"{self.prefix}-b"]
        self.fds: list[int] = []

    def up(self) -> None:
        a, b = self.names
        for n in self.names:
            _run("ip", "netns", "add", n)
            _run("ip", "-n", n, "link", "set", "lo", "up")
        _run("ip", "-n", a, "link", "add", "e0", "type", "veth", "peer", "name", "e0", "netns", b)
        for n, address in ((a, SRC), (b, DST)):
            _run("ip", "-n", n, "addr", "add", f"{address}/24", "dev", "e0")
            _run("ip", "-n", n, "link", "set", "e0", "up")
            self.fds.append(os.open(f"/run/netns/{n}", os.O_RDONLY | os.O_CLOEXEC))
        _run("ip", "-n", a, "neigh", "replace", DST, "lladdr", _mac(b), "dev", "e0")
        _run("ip", "-n", b, "neigh", "replace", SRC, "lladdr", _mac(a), "dev", "e0")

    def down(self) -> None:
        for fd in self.fds:
            os.close(fd)
        for n in self.names:
            subprocess.run(["ip", "netns", "del", n], check=False, capture_output=True)

    def load(self, text: str) -> None:
        _run("ip", "netns", "exec", self.names[1], "nft", "-f", "-", stdin="flush ruleset\n" + COUNTING + text)

    def shell(self, text: str) -> None:
        _run("ip", "netns", "exec", self.names[1], "sh", "-ec", text)

    def tables(self):  # type: ignore[no-untyped-def]
        with inside(self.fds[1]):
            return read_tables()

    def counts(self) -> tuple[int, int]:
        found, missing = self.tables()
        assert not missing
        table = next(t for t in found if t.name == "zz_count")
        first, last = (next(c for c in table.chains if c.name == n).rules[0].packets for n in ("first", "last"))
        return first or 0, last or 0

    def send(self, raw: bytes) -> bool:
        """Send one IP packet from a to b; did it get through b's filters?"""
        before = self.counts()
        with inside(self.fds[0]), socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as s:
            s.sendto(raw, (DST, 0))
        for _ in range(200_000):
            first, last = self.counts()
            if first > before[0]:
                return last > before[1]
        raise AssertionError("the packet never came in")


def _run(*command: str, stdin: str | None = None) -> str:
    done = subprocess.run(command, input=stdin, text=True, capture_output=True)
    assert done.returncode == 0, f"{command}: {done.stderr}\n{stdin or ''}"
    return done.stdout


def _mac(name: str) -> str:
    return _run("ip", "netns", "exec", name, "cat", "/sys/class/net/e0/address").strip()


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    made = Lab()
    try:
        made.up()
        yield made
    finally:
        with contextlib.suppress(OSError):
            made.down()


def checksum(data: bytes) -> int:
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def build(p: Packet) -> bytes:
    """The packet on the wire: IPv4, and TCP with an MSS option, UDP or ICMP."""
    f = p.flow
    ends = socket.inet_aton(f.src) + socket.inet_aton(f.dst)
    if f.proto == 6:
        bits = sum(1 << ("fin", "syn", "rst", "psh", "ack").index(n) for n in p.tcp_flags or ())
        options = struct.pack("!BBH", 2, 4, p.mss) if p.mss else b""
        head = struct.pack("!HHIIBBHHH", f.sport, f.dport, 1, 0, (20 + len(options)) << 2, bits, 1000, 0, 0) + options
    elif f.proto == 17:
        head = struct.pack("!HHHH", f.sport, f.dport, f.size - 20, 0)
    else:
        head = struct.pack("!BBHHH", p.icmp_type, p.icmp_code, 0, f.sport, 1)
    body = head + b"\0" * (f.size - 20 - len(head))
    if f.proto == 6:
        body = body[:16] + struct.pack("!H", checksum(ends + struct.pack("!BBH", 0, 6, len(body)) + body)) + body[18:]
    elif f.proto == 1:
        body = body[:2] + struct.pack("!H", checksum(body)) + body[4:]
    flags = 0x4000 if f.df else 0
    dscp = (p.dscp or 0) << 2
    ip = struct.pack("!BBHHHBBH", 0x45, dscp, f.size, f.sport, flags, p.ttl or 64, f.proto, 0) + ends
    return ip[:10] + struct.pack("!H", checksum(ip)) + ip[12:] + body


def packets(rng: random.Random, many: int, port: int) -> list[Packet]:
    found = []
    for i in range(many):
        proto = rng.choice((6, 6, 17, 1))
        size = rng.choice((60, 61, 100, 576, 1280, 1400, 1500))
        flags = rng.choice((("syn",), ("syn",), ("ack",), ("rst", "ack"), ("syn", "ack"))) if proto == 6 else None
        mss = rng.choice((0, 536, 1360, 1460)) if flags and "syn" in flags else 0
        flow = Flow(
            src=SRC,
            dst=DST,
            proto=proto,
            sport=port + i,
            dport=rng.choice((22, 53, 80, 443, 1500, 8443)) if proto != 1 else 0,
            size=size,
            df=rng.random() < 0.5,
        )
        found.append(
            Packet(
                flow=flow,
                iifname="e0",
                iiftype=1,
                ctmark=0,
                ctdir="original",
                ctstatus=(),
                tcp_flags=flags,
                mss=mss if proto == 6 else None,
                icmp_type=rng.choice((8, 0, 3)) if proto == 1 else None,
                icmp_code=0 if proto == 1 else None,
                ttl=rng.choice((1, 5, 64, 255)),
                dscp=rng.choice((0, 8)),
                pkttype="host",
                src_type="unicast",
                dst_type="local",
                rpfilter=True,
                original=flow,
            )
        )
    return found


TESTS = (
    "ip saddr {a}", "ip saddr != {a}", "ip daddr {b}", "ip saddr {a} ip daddr {b}", "tcp dport {p}", "tcp dport != {p}",
    "udp dport {p}", "tcp dport {{ {p}, {p2} }}", "tcp dport {{ {r}, {p} }}", "tcp dport {r}", "th dport {p}",
    "meta l4proto {l}", "ip protocol {l}", "meta l4proto {{ tcp, icmp }}", "icmp type {i}",
    "icmp type destination-unreachable icmp code 0", "tcp flags syn", "tcp flags & (syn|ack) == syn",
    "tcp flags != syn", "tcp flags ! syn", "tcp flags {{ syn, ack }}", "tcp option maxseg size {m}",
    "tcp option maxseg size < {m}", "tcp option maxseg size {m}-1500", "tcp option maxseg exists",
    "tcp option maxseg missing", "meta length {s}", "meta length > {s}", "ip length >= {s}", "meta length != {s}-1400",
    "ip ttl {t}", "ip ttl < {t}", "ip ttl != {t}", "ip dscp {d}", "ip dscp != {d}", "ip frag-off & 0x4000 != 0",
    "ip frag-off & 0x3fff != 0", "iifname e0", 'iifname "e*"', "iifname != e0", 'iifname {{ "x*", "lo" }}', "iif lo",
    "oifname e0", 'oifname != "e0"', "meta mark {k}", "meta mark & 0xf == {k}", "meta mark != {k}", "ct state new",
    "ct state established,related", "ct state != new", "ct state {{ new, invalid }}", "ct state invalid",
    "ct direction original", "ct status dnat", "ct mark {k}", "ct original ip saddr {a}", "fib daddr type local",
    "fib saddr type local", "fib daddr type != local", "meta pkttype host",
    "ip saddr . tcp dport {{ {h} . {p}, {h} . {r} }}",
    "ip saddr . ip daddr {{ {h} . 198.18.7.2 }}",
    "ip saddr . meta l4proto . th dport {{ {h} . tcp . {p}, 1.2.3.4 . udp . 53 }}",
    "meta nfproto ipv4", "meta nfproto ipv6", "ip saddr @bl", "ip saddr != @bl", "tcp dport @ports", "iiftype ether",
    "ip version 4", "ip id {p}", "meta skuid 0", "numgen random mod 10 < 3", "limit rate 1/second", "udp length 40",
    "ip daddr . tcp dport @conc", "ip daddr . tcp dport != @conc", "tcp sport {p}", "tcp sport 20000-65000",
)  # fmt: skip
DOES = (
    "drop", "drop", "accept", "accept", "return", "jump c1", "jump c2", "goto c1", "reject", "reject with tcp reset",
    "meta mark set {k}", "meta mark set meta mark | {k}", "ct mark set {k}", "ct mark set meta mark",
    "meta mark set ct mark", "tcp option maxseg size set {m}", "counter", "continue", "ip dscp set {d}",
    "tcp dport vmap {{ {p} : drop, {p2} : accept, {r} : jump c2 }}",
    "ct state vmap {{ new : return, established : drop }}",
    "meta mark set tcp dport map {{ {p} : {k}, {p2} : 5 }}", "meta l4proto vmap {{ tcp : goto c2, udp : drop }}",
    "ip saddr . tcp dport vmap {{ {h} . {p} : drop, {h} . {p2} : jump c1 }}",
    "iifname vmap {{ e0 : return, lo : drop }}",
    "add @seen {{ ip saddr }}", "update @seen {{ ip saddr limit rate 1/second }}", "notrack",
)  # fmt: skip


def words(rng: random.Random) -> dict[str, str]:
    p, p2 = rng.sample(("22", "53", "80", "443", "8443"), 2)
    return {
        "a": rng.choice(("198.18.7.0/24", "198.18.7.1", "198.18.7.0/29", "10.0.0.0/8", "198.18.7.2-198.18.7.9")),
        "b": rng.choice(("198.18.7.2", "198.0.0.0/8", "198.18.6.0/23", "192.0.2.1")),
        "h": rng.choice(("198.18.7.1", "198.18.7.0/25")),
        "p": p,
        "p2": p2,
        "r": rng.choice(("1000-2000", "81-442", "8000-9000")),
        "l": rng.choice(("tcp", "udp", "icmp")),
        "i": rng.choice(("echo-request", "echo-reply", "8")),
        "m": rng.choice(("536", "1000", "1360", "1460")),
        "s": rng.choice(("60", "576", "1000", "1280")),
        "t": rng.choice(("5", "64", "2")),
        "d": rng.choice(("cs0", "cs1")),
        "k": rng.choice(("1", "2", "0x10")),
    }


def fitting(test: str, w: dict[str, str]) -> dict[str, str]:
    """Values a template accepts: no ranges beside ranges in maps of hosts."""
    if "vmap" in test or ". meta l4proto" in test or ". ip daddr" in test:
        return {**w, "h": "198.18.7.1"}
    return w


def rule(rng: random.Random, may_jump: bool) -> str:
    w = words(rng)
    tests = rng.sample(TESTS, rng.choice((0, 1, 1, 2)))
    does = rng.choice(DOES)
    if not may_jump and ("c1" in does or "c2" in does):
        does = "drop"
    if any("ct " in t for t in tests) and does == "notrack":
        does = "accept"
    return " ".join(x.format(**fitting(x, w)) for x in (*tests, does))


SETS = """
  set bl { type ipv4_addr; flags interval; elements = { 198.18.7.0/30, 10.0.0.5-10.0.0.9, 192.0.2.7 }; }
  set ports { type inet_service; elements = { 80, 8443 }; }
  set conc { type ipv4_addr . inet_service; flags interval; elements = { 198.18.7.0/24 . 80-90, 198.18.7.2 . 443 }; }
  set seen { type ipv4_addr; size 1000; flags dynamic, timeout; timeout 1h; }
"""


def ruleset(rng: random.Random) -> str:
    def some(many: int, may_jump: bool) -> str:
        found: list[str] = []
        while len(found) < many:
            line = rule(rng, may_jump)
            if accepted(line):
                found.append(f"    {line};")
        return "\n".join(found)

    return f"""
table inet t1 {{{SETS}
  chain c1 {{
{some(2, False)}
  }}
  chain c2 {{
{some(2, False)}
    {"jump c1;" if rng.random() < 0.3 else ""}
  }}
  chain pre {{ type filter hook prerouting priority {rng.choice((-310, -150, 0))}; policy accept;
{some(2, True)}
  }}
  chain in {{ type filter hook input priority {rng.choice((-10, 0, 10))}; policy {rng.choice(("accept", "drop"))};
{some(5, True)}
  }}
}}
table ip t2 {{{SETS}
  chain c1 {{
{some(1, False)}
  }}
  chain c2 {{ }}
  chain in2 {{ type filter hook input priority {rng.choice((-5, 5))}; policy accept;
{some(3, True)}
  }}
}}
"""


def accepted(line: str) -> bool:
    """Rules nft itself refuses: contradictions between protocols, or reset without TCP."""
    protocols = [p for p in ("tcp ", "udp ", "icmp ") if f" {p}" in f" {line}" and f"l4proto {p}" not in f"{line} "]
    if len(protocols) > 1 or ("l4proto" in line and protocols) or ("ip protocol" in line and protocols):
        return False
    if "reject" in line and ("pre" in line or "reset" in line) and "tcp" not in line:
        return False
    if "th dport" in line and protocols:
        return False
    return not ("nfproto ipv6" in line and " ip " in f" {line}")


def predicted(lab: Lab, p: Packet) -> tuple[str, str]:
    """What evaluate() says of prerouting and then input."""
    found, missing = lab.tables()
    assert not missing
    index = tables_index(tuple(t for t in found if t.name != "zz_count"))
    pre = evaluate(index, "prerouting", p)
    if pre.verdict != "accept":
        return pre.verdict, pre.why
    state = "untracked" if pre.untracked else p.ctstate if pre.untracked is False else None
    if p.flow.proto == 6 and p.ctstate == "invalid":
        state = "invalid"
    dscp = p.dscp if "dscp" not in str(found) else None
    nxt = replace(p, mark=pre.mark, ctmark=pre.ctmark, mss=pre.mss, ctstate=state, dscp=dscp)
    if pre.mark is None:
        return "unknown", "mark"
    got = evaluate(index, "input", nxt)
    return got.verdict, got.why


ROUNDS = int(os.environ.get("PATHFIT_FUZZ_ROUNDS", "60"))
SEED = int(os.environ.get("PATHFIT_FUZZ_SEED", "7"))


def agrees(lab: Lab, p: Packet, text: str) -> bool:
    """Whether the model is certain about ``p`` under the rules ``text``; fails where the kernel does otherwise."""
    if p.flow.proto == 6 and p.tcp_flags != ("syn",):
        # nf_conntrack_tcp_loose: a lone ACK opens a connection, RST and SYN-ACK are invalid
        p = replace(p, ctstate="new" if p.tcp_flags == ("ack",) else "invalid")
    if p.flow.proto == 1 and p.icmp_type != 8:
        p = replace(p, ctstate="invalid")
    verdict, _ = predicted(lab, p)
    passed = lab.send(build(p))
    if verdict == "accept":
        assert passed, f"said accept, was lost: {p}\n{text}"
    elif verdict in ("drop", "reject"):
        assert not passed, f"said {verdict}, got through: {p}\n{text}"
    return verdict in ("accept", "drop", "reject")


def test_random_rules_agree_with_the_kernel(lab: Lab) -> None:
    tried, certain = 0, 0
    rng = random.Random(SEED)
    for round_ in range(ROUNDS):
        text = ruleset(rng)
        try:
            lab.load(text)
        except AssertionError as e:
            if "Error" in str(e):
                continue  # nft refuses this combination
            raise
        for p in packets(rng, 6, 10000 + round_ * 100):
            certain += agrees(lab, p, text)
            tried += 1
    print(f"{tried} packets, {certain} certain, seed {SEED}")
    assert tried > ROUNDS
    assert certain / tried > 0.6, f"{certain} of {tried} certain"


XT_TESTS = (
    "-s 198.18.7.0/24", "! -s 198.18.7.1", "-d 198.18.7.2", "-p tcp", "! -p udp", "-p tcp --dport {p}",
    "-p tcp ! --dport {p}", "-p tcp --dport 81:443", "-p udp --dport {p}", "-p tcp --sport 1:20000",
    "-p tcp --syn", "-p tcp ! --syn", "-p tcp --tcp-flags SYN,ACK SYN", "-p tcp --tcp-option 2",
    "-p icmp --icmp-type 8", "-p icmp ! --icmp-type 8", "-p tcp -m multiport --dports {p},{p2},1000:2000",
    "-p tcp -m multiport ! --dports {p},{p2}", "-m conntrack --ctstate NEW", "-m conntrack ! --ctstate NEW,INVALID",
    "-m conntrack --ctstate INVALID", "-m conntrack --ctdir ORIGINAL", "-m conntrack --ctorigdst 198.18.7.2",
    "-p tcp -m conntrack --ctorigdstport {p}", "-m mark --mark {k}", "-m mark ! --mark {k}/0xff",
    "-m length --length {s}:1400",
    "-m length ! --length {s}", "-p tcp -m tcpmss --mss 1000:1400", "-p tcp -m tcpmss ! --mss 1360",
    "-m addrtype --dst-type LOCAL", "-m addrtype ! --src-type UNICAST", "-m ttl --ttl-lt 6", "-m ttl --ttl-eq 64",
    "-m dscp --dscp 8", "-m dscp ! --dscp 0", "-m pkttype --pkt-type unicast", "-i e0", "-i e+", "! -i e0", "-i lo",
    "-f", "! -f", "-m iprange --src-range 198.18.7.1-198.18.7.4", "-m iprange ! --dst-range 10.0.0.0-10.0.0.5",
    "-m statistic --mode random --probability 0.5", "-m limit --limit 1/s", "-m connmark --mark {k}",
    "-m state --state NEW",
    "-m comment --comment hello", "-m u32 --u32 4&0xFFFF=1", "-m physdev --physdev-in e0", "-m rpfilter --invert",
)  # fmt: skip
XT_DOES = (
    "DROP", "DROP", "ACCEPT", "RETURN", "c1", "c2", "REJECT", "LOG", "MARK --set-mark {k}", "MARK --or-mark 0x10",
    "CONNMARK --set-mark {k}", "CONNMARK --save-mark", "CONNMARK --restore-mark", "TCPMSS --set-mss {m}", "GOTO c2", "",
)  # fmt: skip


def xt_script(rng: random.Random, tool: str) -> str:
    """iptables commands; one that iptables refuses is left out by the shell's `||`."""
    lines = [f"{tool} -t {t} -N {c}" for t in ("filter", "mangle") for c in ("c1", "c2")]
    lines += [f"{tool} -P INPUT {rng.choice(('ACCEPT', 'DROP'))}"]
    for table, chain, many in (
        ("filter", "c1", 2), ("filter", "c2", 2), ("mangle", "c1", 2), ("mangle", "c2", 1),
        ("mangle", "PREROUTING", 3), ("mangle", "INPUT", 2), ("filter", "INPUT", 6),
    ):  # fmt: skip
        for _ in range(many):
            w = words(rng)
            tests = " ".join(t.format(**w) for t in rng.sample(XT_TESTS, rng.choice((0, 1, 1, 2))))
            does = rng.choice(XT_DOES).format(**w)
            if chain.startswith("c") and does in ("c1", "c2", "GOTO c2"):
                does = "DROP"
            target = f"-g {does[5:]}" if does.startswith("GOTO") else f"-j {does}" if does else ""
            lines.append(f"{tool} -t {table} -A {chain} {tests} {target} 2>/dev/null || true")
    return "\n".join(lines)


@pytest.mark.parametrize("tool", ["iptables-nft", "iptables-legacy"])
def test_random_iptables_rules_agree_with_the_kernel(lab: Lab, tool: str) -> None:
    tried, certain = 0, 0
    rng = random.Random(SEED)
    for round_ in range(max(ROUNDS // 4, 10)):
        lab.load("")
        if tool == "iptables-legacy":
            lab.shell(f"for t in mangle filter; do {tool} -t $t -F; {tool} -t $t -X; done")
        text = xt_script(rng, tool)
        lab.shell(text)
        for p in packets(rng, 8, (30000 if tool == "iptables-nft" else 45000) + round_ * 100):
            certain += agrees(lab, p, text)
            tried += 1
    print(f"{tool}: {tried} packets, {certain} certain, seed {SEED}")
    if tool == "iptables-legacy":
        lab.shell(f"for t in mangle filter; do {tool} -t $t -F; {tool} -t $t -X; done; {tool} -P INPUT ACCEPT")
    assert certain / tried > 0.5, f"{certain} of {tried} certain"
