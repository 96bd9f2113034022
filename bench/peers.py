"""Beside the peers, in one run: who says the truth about which direction, and how long that takes.

    sudo .venv/bin/python -m bench.peers [--rounds 5] [--only untold,reverse] [--out bench/results/peers.md]

Seven paths (bench/paths/*.yaml), each built fresh for every tool and round, so that no tool profits from what another
one taught the kernel. The truth per direction stands in the scenario and is proven by curl. A tool is judged on
what it *says*: a number for a direction it cannot see is wrong when the truth is another number. pathfit appears
twice: the measurement in process (what DESIGN section 5 bounds) and the whole command.
"""

import argparse
import json
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pathfit.core.request import Measure
from pathfit.lab import Lab, load
from pathfit.lab.scenario import Scenario

HERE = Path(__file__).parent
PATHS = ("healthy", "told", "untold", "silent", "reverse", "vxlan", "jumbo")
LIMIT = 120.0  # seconds; tracepath needs 87 on a black hole


@dataclass
class Answer:
    """What a tool said, bytes of IP packet: one number for "the path", or one for each direction."""

    seconds: float
    forward: int | None
    reverse: int | None
    both: bool = False  # the tool knows directions


def _run(lab: Lab, argv: list[str]) -> tuple[str, float]:
    begun = time.perf_counter()
    done = subprocess.run(
        ["ip", "netns", "exec", lab.where("c").removeprefix("netns:"), *argv],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    return done.stdout + done.stderr, time.perf_counter() - begun


def _address(lab: Lab) -> tuple[str, int]:
    found = re.match(r"https?://([^:/]+):(\d+)", lab.target())
    assert found, lab.target()
    return found[1], int(found[2])


def tracepath(lab: Lab) -> Answer:
    text, took = _run(lab, ["tracepath", "-n", _address(lab)[0]])
    said = re.findall(r"pmtu (\d+)", text)
    return Answer(took, int(said[-1]) if said else None, None)


def traceroute(lab: Lab) -> Answer:
    text, took = _run(lab, ["traceroute", "--mtu", "-n", "-w1", "-q1", "-m6", _address(lab)[0]])
    said = re.findall(r"F=(\d+)", text)
    return Answer(took, int(said[-1]) if said else None, None)


def ping(lab: Lab) -> Answer:
    """Bisection by hand, as people do it: ping -M do, one second of patience."""
    address = _address(lab)[0]
    script = (
        "lo=500 hi=$(($(cat /sys/class/net/eth*/mtu | sort -n | tail -1) + 1));"
        " while [ $((hi-lo)) -gt 1 ]; do m=$(((lo+hi)/2));"
        f" if ping -c1 -W1 -M do -s $((m-28)) {address} >/dev/null 2>&1; then lo=$m; else hi=$m; fi; done; echo $lo"
    )
    text, took = _run(lab, ["sh", "-c", script])
    return Answer(took, int(text.split()[-1]), None)


def nmap(lab: Lab) -> Answer:
    address, port = _address(lab)
    text, took = _run(lab, ["nmap", "-n", "-Pn", "-p", str(port), "--script", "path-mtu", address])
    said = re.search(r"PMTU == (\d+)", text)
    return Answer(took, int(said[1]) if said else None, None)


def scamper(lab: Lab) -> Answer:
    command = f"trace -P udp-paris -M -w 1 -q 1 {_address(lab)[0]}"
    text, took = _run(lab, ["scamper", "-I", command])
    said = re.findall(r"\[mtu: (\d+)", text)
    return Answer(took, int(said[-1]) if said else None, None)


def pathfit_command(lab: Lab) -> Answer:
    begun = time.perf_counter()
    argv = [str(Path(sys.executable).parent / "pathfit"), "diagnose", "--json"]
    done = subprocess.run(
        [*argv, "--from", lab.where("c"), "--to", lab.target()], capture_output=True, text=True, check=False
    )
    took = time.perf_counter() - begun
    measured = json.loads(done.stdout)["measured"]
    return Answer(took, measured["forward"]["pass"], measured["reverse"]["pass"], both=True)


def pathfit_process(lab: Lab) -> Answer:
    from pathfit.core.evidence import ProbeResult
    from pathfit.host.netns import open_handle
    from pathfit.probe.target import measure

    address, port = _address(lab)
    where = lab.where("c")
    with open_handle(f"/run/netns/{where.removeprefix('netns:')}", where) as ns:
        request = Measure(ref="p", source="bench", address=address, port=port, protocol="https", path="/")
        begun = time.perf_counter()
        result = measure(ns.fd, request)
        took = time.perf_counter() - begun
    assert isinstance(result, ProbeResult), result
    return Answer(took, result.forward[0].passes, result.reverse[0].passes, both=True)


TOOLS: dict[str, Callable[[Lab], Answer]] = {
    "tracepath -n": tracepath,
    "traceroute --mtu": traceroute,
    "ping bisection": ping,
    "nmap path-mtu": nmap,
    "scamper -M": scamper,
    "pathfit, in process": pathfit_process,
    "pathfit, whole command": pathfit_command,
}


def verdict(answer: Answer, forward: int, reverse: int) -> str:
    """✓ right (or wrong ✗) for each direction the tool speaks of; a single number is held to be about the path."""
    if answer.both:
        marks = "".join("✓" if a == b else "✗" for a, b in ((answer.forward, forward), (answer.reverse, reverse)))
        return f"{marks} {answer.forward}/{answer.reverse}"
    said = answer.forward
    if said is None:
        return "says nothing"
    if forward == reverse:
        return f"{'✓' if said == forward else '✗'} {said}"
    return f"{'✓' if said == forward else '✗'} {said}, ✗ reverse unseen"


def installed(tool: str) -> bool:
    return tool.startswith("pathfit") or shutil.which(tool.split()[0]) is not None


def cell(scenario: Scenario, tool: str, rounds: int) -> str:
    """What a tool says of a path, the worst of its rounds, and the median of its seconds."""
    forward, reverse = scenario.expect.fwd[0], scenario.expect.rev[0]
    answers = []
    for _ in range(rounds if tool.startswith("pathfit") else 1):
        with Lab.up(scenario) as lab:
            wrong = lab.truth()  # proves the fault, and that the switches forward by now
            assert not wrong, wrong
            lab.fresh()
            answers.append(TOOLS[tool](lab))
    said = [verdict(a, forward, reverse) for a in answers]
    worst = next((s for s in said if "✗" in s), said[0])
    return f"{worst} · {statistics.median(a.seconds for a in answers):.3f} s"


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--only", default=",".join(PATHS))
    options.add_argument("--tools", default="", help="only tools whose name holds this")
    options.add_argument("--out", type=Path)
    args = options.parse_args()
    tools = [t for t in TOOLS if args.tools in t and installed(t)]
    lines = ["| path | truth out/in | " + " | ".join(tools) + " |", "|---|---|" + "---|" * len(tools)]
    wrong = False
    for name in args.only.split(","):
        scenario = load(str(HERE / "paths" / f"{name}.yaml"))
        cells = [cell(scenario, tool, args.rounds) for tool in tools]
        wrong |= any("✗" in c for t, c in zip(tools, cells, strict=True) if t.startswith("pathfit"))
        truth = f"{scenario.expect.fwd[0]}/{scenario.expect.rev[0]}"
        lines.append(f"| {name} | {truth} | " + " | ".join(cells) + " |")
        print(lines[-1], file=sys.stderr)
    text = "\n".join(lines) + "\n"
    print(text)
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(text)
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main())
