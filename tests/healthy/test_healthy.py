"""Machines that are well must be called well: no error, no warning, whatever kind they are. And their broken twins, one
number away, must be found out, with exactly those who are affected."""

import os
import subprocess
import sys

import pytest
from machines import KINDS, Kind
from nodes import NODES
from recordings import DATA, NAMES, RECORDINGS, SWARM

from pathfit import __version__, survey
from pathfit.cli.scanning import question
from pathfit.core.report import Report
from pathfit.core.snapshot import HostSnapshot
from pathfit.render import scan as as_text

ALL = [*KINDS, *NODES, *RECORDINGS]
REAL = {hidden: name for names in NAMES.values() for hidden, name in names.items()}


def scan(*hosts: HostSnapshot) -> Report:
    return survey.report_of(question("en"), __version__, 0.5, [survey.judge(h) for h in hosts], ())


def said(report: Report) -> dict[tuple[str, str], frozenset[str]]:
    """(severity, code) -> names of the workloads it is about."""
    names = {(w.host, w.where): w.name for w in report.workloads}
    found: dict[tuple[str, str], frozenset[str]] = {}
    for f in report.findings:
        hosts = {p.host for p in f.where}
        who = {REAL.get(names[h, k], names[h, k]) for h in hosts for k in f.workloads if (h, k) in names}
        found[f.severity, f.code] = found.get((f.severity, f.code), frozenset()) | who
    return found


@pytest.mark.parametrize("kind", {k.name: k for k in ALL}.values(), ids=lambda k: k.name)
def test_a_healthy_machine_is_called_healthy(kind: Kind) -> None:
    report = scan(*kind.make(kind.well))
    found = said(report)
    assert {k: v for k, v in found.items() if k[0] != "info"} == {}
    assert {code for _, code in found} <= kind.infos
    assert {w.verdict for w in report.workloads} <= {"healthy"}


@pytest.mark.parametrize("kind", [k for k in ALL if k.ill is not None], ids=lambda k: k.name)
def test_its_broken_twin_is_found_out(kind: Kind) -> None:
    assert kind.ill is not None
    found = said(scan(*kind.make(kind.ill)))
    assert {k: v for k, v in found.items() if k[0] != "info" or k in kind.says} == kind.says


def test_there_are_enough_of_them() -> None:
    assert len({k.name for k in KINDS}) >= 24
    assert len({k.name for k in RECORDINGS}) >= 8
    assert len([k for k in ALL if k.ill is not None]) >= 32


def test_one_filter_rule_is_one_error_however_many_tunnels_it_stops() -> None:
    (kind,) = [k for k in RECORDINGS if k.says and {code for _, code in k.says} == {"OVL303"}]
    (error,) = [f for f in scan(*kind.make("ill")).findings if f.severity == "error"]
    assert len(error.workloads) == 2


def test_a_finding_about_several_hosts_names_each_where_it_lives() -> None:
    (kind,) = [k for k in KINDS if k.name == "anycast-gateway"]
    assert kind.ill is not None
    text = as_text.render(scan(*kind.make(kind.ill)), width=120)
    assert "2 containers: c1 (one) c3 (three)" in text
    assert "--from one!netns:c1 " in text


def test_the_command_says_so_too() -> None:
    """Three hosts of one swarm, as files: nothing wrong, exit status 0."""
    files = [w for name in SWARM for w in ("--in", str(DATA / f"{name}.json.gz"))]
    words = [sys.executable, "-m", "pathfit", "scan", "--lang", "en", *files]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, env={**os.environ, "COLUMNS": "80"})
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("3 hosts: nothing wrong found\n         6 containers, 27 namespaces, ")
    assert "\nNext: pathfit predict --in FILES --from " in done.stdout
    assert "\nOK 6\n" in done.stdout
