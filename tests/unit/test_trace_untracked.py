"""RST204: a packet that connection tracking does not know is not translated, and whoever gets it instead resets it;
what looks like that and is not; and RST205 through `pathfit trace`. Who made the other resets: test_trace_origin.py.

The server says what the kernel would never say by itself: a segment far outside of the window, as it comes when packets
have gone another way (kubernetes issue 74839 has such a server as well). What a connection then meets is the kernel's.
"""

import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from netlab import Net, nets
from weblab import HANGS_UP, traced, web

from pathfit import examine
from pathfit.cli import target
from pathfit.core.ask import Ask
from pathfit.core.finding import Finding
from pathfit.core.followed import Followed, Origin
from pathfit.follow import explained, followed
from pathfit.live import LiveWorld
from pathfit.render.answered import answer_text, proof_texts

pytestmark = [pytest.mark.lab, pytest.mark.real_root]

STRAYS = """
import socket, struct, threading
REPAIR, QUEUE, SEQ, V6, CHECKSUM = 19, 20, 21, 41, 7
def summed(data):
    data += b"\\0" * (len(data) % 2)
    n = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while n >> 16:
        n = (n & 0xffff) + (n >> 16)
    return ~n & 0xffff
def numbers(c):
    c.setsockopt(6, REPAIR, 1)
    found = []
    for queue in (2, 1):  # sent, received
        c.setsockopt(6, QUEUE, queue)
        found.append(struct.unpack("I", c.getsockopt(6, SEQ, 4))[0])
    c.setsockopt(6, REPAIR, -1)
    return found
def segment(mine, theirs, seq, ack, data):
    (a, p), (b, q) = mine, theirs
    head = struct.pack("!HHIIBBHHH", p, q, seq % 2**32, ack, 5 << 4, 0x18, 500, 0, 0)
    if "." in a:
        pseudo = socket.inet_aton(a) + socket.inet_aton(b) + struct.pack("!BBH", 0, 6, len(head) + len(data))
        head = head[:16] + struct.pack("!H", summed(pseudo + head + data)) + head[18:]
    with socket.socket(socket.AF_INET if "." in a else socket.AF_INET6, socket.SOCK_RAW, 6) as raw:
        if ":" in a:
            raw.setsockopt(V6, CHECKSUM, 16)
        raw.bind((a, 0))
        raw.sendto(head + data, (b, 0))
def serve(c):
    try:
        c.recv(1000)
        seq, ack = numbers(c)
        ends = [(x[0].removeprefix("::ffff:"), x[1]) for x in (c.getsockname(), c.getpeername())]
        segment(*ends, seq + (1 << 30), ack, b"stray")
        segment(*ends, seq, ack, b"HTTP/1.1 200 OK\\r\\n")  # what was on its way is acknowledged: nobody is there
        c.recv(1)
    except OSError:
        pass
    c.close()
s = socket.create_server(("::", 8081), family=socket.AF_INET6, dualstack_ipv6=True, backlog=64)
print(flush=True)
while True:
    c, _ = s.accept()
    threading.Thread(target=serve, args=(c,), daemon=True).start()
"""
AT = {4: "198.51.100.2", 6: "[2001:db8:2::2]"}
SERVICE = {4: "203.0.113.1", 6: "[2001:db8:9::1]"}
LIBERAL = "net.netfilter.nf_conntrack_tcp_be_liberal"


@pytest.fixture
def net() -> Iterator[Net]:
    """c - r - s."""
    with nets() as net:
        net.routed(("192.0.2", "198.51.100"), ("2001:db8:1", "2001:db8:2"), 2)
        yield net


def rules(net: Net, name: str, text: str) -> None:
    net.inside(name, "nft", "-f", "-", stdin=text)


def hidden(net: Net) -> None:
    """r gives c its own address."""
    for family in ("ip", "ip6"):
        chain = "type nat hook postrouting priority 100; oifname vs masquerade"
        rules(net, "r", f"table {family} n {{ chain p {{ {chain}\n }}\n }}\n")


def service(net: Net) -> None:
    """r leads an address of nobody, port 80, to s."""
    for family, address, to in (("ip", SERVICE[4], AT[4]), ("ip6", SERVICE[6].strip("[]"), AT[6])):
        chain = f"type nat hook prerouting priority -100; {family} daddr {address} tcp dport 80 dnat to {to}:8081"
        rules(net, "r", f"table {family} n {{ chain p {{ {chain}\n }}\n }}\n")


def seen(net: Net, to: str, command: str = "trace") -> Followed:
    """What it saw; of `diagnose` the report alone."""
    ask = Ask(command=command, source=f"netns:{net('c')}", target=target.target(to, "--to"), timeout=15.0, trace=True)  # type: ignore[arg-type]
    with LiveWorld(timeout=15.0) as world:
        case = examine.run(ask, world)
    if command == "trace":
        return followed(case)
    return Followed(version="", ask=ask, verdict="unknown", report=explained(case))


def named(done: Followed, code: str) -> list[Finding]:
    assert done.report is not None
    assert not [f for f in done.report.findings if f.code == "SYS902"]
    return [f for f in done.report.findings if f.code == code]


def resets(done: Followed) -> list[str]:
    """Codes of the report and of the resets that were seen."""
    assert done.report is not None
    said = [f.code for f in done.report.findings if f.code.startswith("RST")]
    return sorted({*said, *(x.code for x in done.answers if x.code)})


def stray(done: Followed) -> Origin:
    (one,) = [x for x in done.answers if x.code]
    for lang in ("en", "zh"):
        said = [answer_text(one, lang), *proof_texts(one, lang)]
        assert len(said) > 1 and not any("?" in x or "{" in x for x in said), said
    return one


BEHIND: dict[str, tuple[Callable[[Net], None], dict[int, str], str]] = {
    # what r does; whom c calls; who resets what it should never have got
    "the host's own address": (hidden, {f: f"http://{AT[f]}:8081/" for f in AT}, "r"),
    "a service's address": (service, {f: f"http://{SERVICE[f]}/" for f in AT}, "c"),
}


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("nat", BEHIND)
def test_a_packet_that_connection_tracking_takes_for_invalid(net: Net, nat: str, family: int) -> None:
    build, to, by = BEHIND[nat]
    build(net)
    with net.serving("s", STRAYS):
        done = seen(net, to[family])
        assert resets(done) == ["RST204"]
        one = stray(done)
        assert (one.by, one.confidence, one.direction) == ("end", "confirmed", "forward")
        assert one.made is not None and one.made.netns == f"netns:{net(by)}"
        told = {x.name: x.facts for x in one.signs}
        assert (told["untranslated"]["at"], told["untranslated"]["netns"]) == (f"{net('r')}/vs", f"netns:{net('r')}")
        assert told["outside"]["bytes"] == 1 << 30
        (said,) = named(done, "RST204")
        assert (said.severity, said.confidence, said.facts["case"]) == ("error", "confirmed", "invalid")
        assert said.where[0].netns == f"netns:{net('r')}"
        assert done.report is not None and (done.report.verdict, done.report.findings[0]) == ("broken", said)
        (fix,) = said.fixes
        assert fix.id == "conntrack-liberal"
        # The same, found by `diagnose` alone; and cured by what it shows.
        (said,) = named(seen(net, to[family], "diagnose"), "RST204")
        assert (said.severity, said.confidence) == ("error", "confirmed")
        for command in fix.commands:
            subprocess.run(command, check=True, capture_output=True, timeout=20)
        assert net.inside("r", "sysctl", "-n", LIBERAL).strip() == "1"
        assert "RST204" not in resets(seen(net, to[family]))


def test_a_connection_that_is_forgotten(net: Net) -> None:
    """Its entry has run out: no number is wrong, and no window helps."""
    hidden(net)
    net.inside("r", "sysctl", "-qw", "net.netfilter.nf_conntrack_tcp_timeout_established=0")
    with net.serving("s", HANGS_UP):
        done = seen(net, f"http://{AT[4]}:8081/")
    (said,) = named(done, "RST204")
    assert (said.confidence, said.facts["case"], said.fixes) == ("likely", "forgotten", ())
    assert stray(done).made is not None and stray(done).made.netns == f"netns:{net('r')}"  # type: ignore[union-attr]


LOOK_ALIKES: dict[str, tuple[Callable[[Net], object], str, str, list[str]]] = {
    # what is built; who serves; what c calls; what is said of resets
    "dropped before it arrives": (
        lambda n: (hidden(n), n.drop("r", "prerouting", "ct state invalid drop")), STRAYS, f"http://{AT[4]}:8081/", [],
    ),
    "no translation": (lambda n: n.drop("r", "forward", "ct state established accept"),
                       STRAYS, f"http://{AT[4]}:8081/", []),
    "the server hangs up": (hidden, HANGS_UP, f"http://{AT[4]}:8081/", ["RST201"]),
    "the server hangs up behind a service": (service, HANGS_UP, f"http://{SERVICE[4]}/", ["RST201"]),
    "a closed port": (hidden, HANGS_UP, f"tcp://{AT[4]}:9", ["RST201"]),
    "a firewall ends it": (
        lambda n: (hidden(n), n.drop("r", "forward", "tcp dport 8081 meta length > 100 reject with tcp reset")),
        HANGS_UP, f"http://{AT[4]}:8081/", ["RST202"],
    ),
    "the host rejects what is invalid": (
        lambda n: (hidden(n), n.drop("r", "input", "ct state invalid reject with tcp reset")),
        STRAYS, f"http://{AT[4]}:8081/", [],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", LOOK_ALIKES)
def test_what_looks_like_it(net: Net, case: str) -> None:
    build, server, to, expected = LOOK_ALIKES[case]
    build(net)
    with net.serving("s", server):
        done = seen(net, to)
    found = resets(done)
    assert "RST204" not in found
    if case != "the host rejects what is invalid":  # there the target's own reset is what c hears
        assert found == expected, [answer_text(x, "en") for x in done.answers]


# --- RST205 ----------------------------------------------------------------------------------------------------------

DROPS = "tcp flags & (fin | syn | rst | psh | urg) == rst drop"


def reported(net: Net, to: str) -> dict[str, dict[str, Any]]:
    _, document = traced(net, to=to)
    return {f["code"]: f for f in document["report"]["findings"]}


def test_a_rule_that_drops_resets(net: Net) -> None:
    net.drop("c", "input", DROPS)
    found = reported(net, "tcp://198.51.100.2:9")
    assert (found["RST205"]["confidence"], "RST205" in found["NET152"]["because"]) == ("confirmed", True)
    assert "RST201" not in found


@pytest.mark.parametrize("rule", [f"tcp sport 22 {DROPS}", f"ip saddr 203.0.113.9 {DROPS}", "tcp flags == fin drop"])
def test_a_rule_that_drops_others(net: Net, rule: str) -> None:
    """The refusal comes through: it is the target that says no."""
    net.drop("c", "input", rule)
    found = reported(net, "tcp://198.51.100.2:9")
    assert "RST205" not in found and found["RST201"]["confidence"] == "confirmed"


def test_a_rule_that_drops_everything(net: Net) -> None:
    """Whoever drops all that comes back hides no reset: none was made."""
    net.drop("c", "input", "tcp sport 8443 drop")
    with web(net):
        found = reported(net, "https://198.51.100.2:8443/")
    assert "RST205" not in found and "FLT401" in found
