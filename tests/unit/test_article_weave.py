"""Article 004 from what was recorded on its machines, with the commands that its author could have typed.

Two virtual machines of an OpenStack cloud (virtio_net). One runs CentOS 7.0: when Weave starts, the whole machine goes
dark. The other runs CentOS 7.2 in a network of 1450: Weave never chooses its fast way. Its author found out by reading
the kernel. Both machines are files here: kernel, devices, offloads, Weave's page, and counters read twice.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import nodehosts
import test_kernels as kernels
from msgspec.structs import replace

from pathfit import diagnose, examine
from pathfit.cli import examining, saved
from pathfit.core import codec
from pathfit.core.evidence import ClockFact, Evidence
from pathfit.core.request import Request
from pathfit.core.snapshot import HostSnapshot

PATHFIT = Path(sys.executable).with_name("pathfit")
PEER = "udp://198.18.9.2:6784"


def run(*words: str) -> "subprocess.CompletedProcess[str]":
    env = {**os.environ, "LANG": "C.UTF-8", "COLUMNS": "120"}
    return subprocess.run([str(PATHFIT), *words], capture_output=True, text=True, timeout=60, env=env)


def recorded(folder: Path, host: HostSnapshot) -> str:
    path = folder / "vm.json"
    path.write_bytes(codec.dump(host))
    return str(path)


def with_offload(host: HostSnapshot, **features: bool) -> HostSnapshot:
    space = host.namespaces[0]
    links = tuple(replace(x, driver="virtio_net", features=features) if x.name == "eth0" else x for x in space.links)
    return replace(host, namespaces=(replace(space, links=links), *host.namespaces[1:]))


class Console:
    """The dark machine: each question has the answer that belongs to its name; what was not looked at has none."""

    def __init__(self, answers: dict[str, tuple[Evidence, ...]]) -> None:
        self._answers = {"clock:measured": (ClockFact(ref="clock:measured", took=3.0),), **answers}

    def perform(self, request: Request) -> tuple[Evidence, ...]:
        return self._answers.get(request.ref, ())


def flat(text: str) -> str:
    return " ".join(text.split())


def test_the_machine_that_will_go_dark_is_told_before_it_does(tmp_path: Path) -> None:
    """`pathfit scan --in`: kernel, driver and offload together, and the line that keeps the network up."""
    vm = nodehosts.kernel(with_offload(nodehosts.weave(1500, 1376, "fastdp"), ufo=True), kernels.CENTOS_70)
    done = run("scan", "--in", recorded(tmp_path, vm))
    said = flat(done.stdout)
    assert done.returncode == 0, done.stderr
    assert "KRN701 ufo-raw-socket-stall" in said
    assert f"Weave's probe can stop n/eth0 from sending for ever: kernel {kernels.CENTOS_70}, virtio_net" in said
    assert "ethtool -K eth0 ufo off" in said
    assert "not tried on a live system" in said
    assert "KRN702" not in said
    assert "OVL306" not in said


def test_the_machine_that_is_dark_says_why(tmp_path: Path) -> None:
    """`pathfit replay` of a diagnosis taken on its console: nothing is answered, and nothing was sent either."""
    seen = kernels.looked(812, 812, stuck=2)
    case = examine.run(seen.ask, Console({x.request.ref: x.answers for x in seen.exchanges}))
    saved.save(tmp_path, case, *examining.documents(diagnose.report(case)))
    done = run("replay", str(tmp_path))
    said = flat(done.stdout)
    assert done.returncode == 1, done.stderr
    assert "NET152 no-answer" in said
    assert "h/eth0 does not send any more: its transmit counter stands still" in said
    assert "ethtool -K eth0 ufo off" in said
    report: dict[str, Any] = json.loads(run("replay", str(tmp_path), "--json").stdout)
    silence, cause = (next(f for f in report["findings"] if f["code"] == code) for code in ("NET152", "KRN701"))
    assert silence["because"] == ["KRN701"]
    assert (cause["confidence"], cause["severity"]) == ("confirmed", "warning")
    assert any("tx_packets was 812 before and after" in e["text"] for e in cause["evidence"])
    assert [x["id"] for x in cause["fixes"]] == ["offload-off", "kernel-update"]


def test_the_machine_that_is_slow_is_told_by_how_much(tmp_path: Path) -> None:
    """`pathfit scan --in`: the heartbeat, ten bytes, the kernel that no longer cuts, and the WEAVE_MTU that fits."""
    vm = nodehosts.kernel(nodehosts.weave(1450, 1410, "sleeve"), kernels.CENTOS_72)
    done = run("scan", "--in", recorded(tmp_path, vm))
    said = flat(done.stdout)
    assert done.returncode == 0, done.stderr
    assert "the fast one needs packets of 1460, n/eth0 carries 1450, 10 too few" in said
    assert f"Kernel {kernels.CENTOS_72} does not cut tunnel packets" in said
    assert said.count("env WEAVE_MTU=1400 weave launch") == 1
    report: dict[str, Any] = json.loads(run("scan", "--json", "--in", recorded(tmp_path, vm)).stdout)
    because = {f["code"]: f["because"] for f in report["findings"]}
    assert because == {"OVL306": ["KRN702"], "KRN702": []}


def test_both_cures_can_be_tried_on_paper(tmp_path: Path) -> None:
    """`pathfit predict --in`: the heartbeat does not leave, Weave's default one would, the article's cure lets it."""
    vm = recorded(tmp_path, nodehosts.kernel(nodehosts.weave(1450, 1410, "sleeve"), kernels.CENTOS_72))

    def leaves(size: int, *more: str) -> bool:
        words = ("predict", "--json", "--in", vm, "--from", "netns:n", "--to", PEER, "--size", str(size), *more)
        found: dict[str, Any] = json.loads(run(*words).stdout)
        forward = (found["what_if"] if more else found)["predicted"]["forward"]
        assert forward["ends"]["link"] == "eth0"
        return forward["large"] == "unknown"  # what lies beyond is not seen; here it fits

    assert not leaves(1460)
    assert leaves(1450)
    assert leaves(1426)
    assert leaves(1460, "--set", "netns:n/eth0.mtu=1500")
