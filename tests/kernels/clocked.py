"""Run in a guest: `pathfit trace` while the clock is really set, and without BTF. Prints JSON: what was said."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parents[1]
CERTS = HERE.parent / "src" / "pathfit" / "lab" / "certs"
NETS = """ip netns add c; ip netns add r; ip netns add s
for n in c r s; do ip -n $n link set lo up; done
ip -n r link add vc type veth peer name eth0 netns c; ip -n r link add vs type veth peer name eth0 netns s
ip -n r link set vc up; ip -n r link set vs up; ip -n c link set eth0 up; ip -n s link set eth0 up
ip -n r addr add 192.0.2.1/24 dev vc; ip -n c addr add 192.0.2.2/24 dev eth0
ip -n r addr add 198.51.100.1/24 dev vs; ip -n s addr add 198.51.100.2/24 dev eth0
ip -n c route add default via 192.0.2.1; ip -n s route add default via 198.51.100.1
ip netns exec r sysctl -qw net.ipv4.ip_forward=1
for d in vc vs; do ip netns exec r ethtool -K $d tso off gso off gro off; done
for n in c s; do ip netns exec $n ethtool -K eth0 tso off gso off gro off; done"""
RULE = "table inet t { chain f { type filter hook forward priority 0; iifname vs meta length > 1300 drop\n }\n}\n"
# Three hours forth and back, again and again from the moment that the watch has begun.
SET = """
import sys, threading, time
from pathfit.capture import watch
from pathfit.cli.entry import main
begin, end, done = watch.Watcher.begin, watch.Watcher.end, threading.Event()
def swing():
    by = 3 * 3600 * 10**9
    while not done.wait(0.3):
        time.clock_settime_ns(time.CLOCK_REALTIME, time.time_ns() + by)
        by = -by
def begun(self):
    found = begin(self)
    threading.Thread(target=swing, daemon=True).start()
    return found
def ended(self, request):
    fact = end(self, request)
    done.set()
    print(self._times.steps, file=sys.stderr)
    return fact
watch.Watcher.begin, watch.Watcher.end = begun, ended
sys.exit(main())
"""
TRIES = 5
PLAIN = "import sys; from pathfit.cli.entry import main; sys.exit(main())"
NO_BTF = ("unshare", "--mount", "sh", "-c", 'mount -t tmpfs tmpfs /sys/kernel/btf && exec "$@"', "sh")


def traced(code: str, *before: str, size: int = 2000) -> dict[str, Any]:
    """``size``: bytes of the answer. A guest takes its time for each packet; a few hundred at each point are enough."""
    words = ["trace", "--from", "netns:c", "--to", f"http://198.51.100.2:8080/{size}", "--timeout", "60", "--json"]
    argv = [*before, sys.executable, "-c", code, *words]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if not done.stdout:
        return {"failed": done.stderr[-2000:]}
    document = json.loads(done.stdout)
    losses = [x for x in document["losses"] if x["direction"] == "reverse"]
    return {
        "verdict": document["verdict"],
        "watched": document["drops"]["watched"],
        "places": [[x["after"]["netns"], x["after"]["link"], x["before"]["link"]] for x in losses],
        "causes": [c["why"] for x in losses for c in x["causes"]],
        "seconds": max((row["ms"] for row in document["ladder"]), default=0) / 1000,
        "missing": [f"{x['what']}: {x['why']}" for x in document.get("missing", ())],
        "unkept": sum(p["lost"] for way in ("forward", "reverse") for p in document[way]["points"]),
        "steps": int(done.stderr.strip() or 0),
    }


def until_kept() -> list[dict[str, Any]]:
    """Again, while it says itself that it could not keep all packets: a busy machine looks at its clocks too seldom."""
    found: list[dict[str, Any]] = []
    while not found or (len(found) < TRIES and found[-1].get("unkept")):
        found.append(traced(SET, size=6000))  # the clock is to be set several times meanwhile
    return found


def main() -> None:
    subprocess.run(["bash", "-ec", NETS], check=True)
    words = ["ip", "netns", "exec", "s", sys.executable, str(HERE / "accept" / "srv.py")]
    server = subprocess.Popen([*words, str(CERTS / "chain.pem"), str(CERTS / "chain.key")], stdout=subprocess.DEVNULL)
    knock = "import socket, time\nwhile True:\n try: socket.create_connection(('127.0.0.1', 8080), 1); break\n"
    knock += " except OSError: time.sleep(0.1)\n"
    subprocess.run(["ip", "netns", "exec", "s", sys.executable, "-c", knock], check=True)
    found = {"whole": traced(PLAIN)}
    subprocess.run(["ip", "netns", "exec", "r", "nft", "-f", "-"], input=RULE, text=True, check=True)
    found |= {"filtered": traced(PLAIN), "clock": until_kept(), "no BTF": traced(PLAIN, *NO_BTF)}
    server.kill()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
