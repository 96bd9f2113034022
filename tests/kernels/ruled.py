"""Run in a guest: rules that drop, named by the kernel's own trace. Prints JSON: by case, what was named and what is
left of our tables afterwards; under "killed", the same of a process that was killed."""

import json
import os
import signal
import socket
import subprocess
import time

from pathfit.capture.rules import Place, Ruled, Rules
from pathfit.host import netns
from pathfit.observe.filters import read_tables
from pathfit.wire.nft.mark import PREFIX, Flow

NETS = """ip netns add c; ip netns add r
ip -n r link add vc type veth peer name eth0 netns c
ip -n r link set vc up; ip -n c link set eth0 up
ip -n r addr add 192.0.2.1/24 dev vc; ip -n c addr add 192.0.2.2/24 dev eth0
ip -n c route add default via 192.0.2.1
ip -n r link add d0 type dummy; ip -n r link set d0 up; ip -n r addr add 198.51.100.1/24 dev d0
ip netns exec r sysctl -qw net.ipv4.ip_forward=1"""
BASE = "chain f { type filter hook forward priority 0;"
CASES = {
    "goto": f"""table ip corp {{
        chain b {{ counter\n }}
        chain a {{ counter goto b\ndrop\n }}
        chain d {{ drop\n }}
        chain e {{ goto d\n }}
        {BASE} jump a\njump e\n }}\n}}""",
    "policy": f"table inet corp {{ {BASE} policy drop; udp dport 1 accept\n }}\n}}",
    "reject": f"table inet corp {{ {BASE} counter\nudp dport 7000 reject\n }}\n}}",
    "iptables": "*filter\n:FORWARD ACCEPT\n"
                "-A FORWARD -p udp --dport 1 -j DROP\n-A FORWARD -p udp --dport 7000 -j DROP\nCOMMIT",
}  # fmt: skip
FLOW = Flow([socket.inet_aton(x) for x in ("192.0.2.2", "198.51.100.2")], 17, (7000,))


def inside(words: str, stdin: str = "") -> str:
    argv = ["ip", "netns", "exec", "r", *words.split()]
    return subprocess.run(argv, input=stdin, text=True, capture_output=True, check=True).stdout


def left() -> int:
    return inside("nft list tables").count(PREFIX)


def one(name: str, router: int, client: int) -> dict[str, object]:
    inside("iptables-nft-restore" if name == "iptables" else "nft -f -", CASES[name] + "\n")
    with netns.inside(router):
        tables, _ = read_tables()
    rules = Rules([Place(router, "r", tables)], FLOW)
    during = left()
    with netns.inside(client):
        s = socket.socket(type=socket.SOCK_DGRAM)
    with s:
        for port in (7001, 7000):
            s.sendto(b"x", ("198.51.100.2", port))
    found: list[Ruled] = []
    end = time.monotonic() + 300
    while not found and time.monotonic() < end:
        time.sleep(0.05)
        found += rules.read()
    lost = rules.counts()[2:]
    rules.close()
    inside("nft flush ruleset")
    named = [[x.rule.tool, x.rule.chain, x.rule.number, x.rule.policy, [c for c, _ in x.way]] for x in found]
    return {"named": named, "during": during, "left": left(), "lost": lost}


def killed(router: int) -> dict[str, object]:
    if (pid := os.fork()) == 0:
        rules = Rules([Place(router)], FLOW)
        assert rules.fds and left() == 1
        os.kill(os.getpid(), signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    return {"signal": os.WTERMSIG(status), "left": left()}


subprocess.run(["sh", "-ec", NETS], check=True)
R, C = (os.open(f"/run/netns/{name}", os.O_RDONLY | os.O_CLOEXEC) for name in "rc")
print(json.dumps({**{name: one(name, R, C) for name in CASES}, "killed": killed(R)}))
