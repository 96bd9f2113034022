"""A container that may not be entered: the line that measures beside it, as one types it."""

import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from test_engines_together import at, engine, machine

from pathfit.core.ask import Ask, Target
from pathfit.core.engine import Container
from pathfit.core.evidence_base import Missing
from pathfit.observe import beside, places
from pathfit.render import command

TOOL = Path(__file__).parents[2] / "tools" / "onefile"
ID = "0123456789ab" + "c" * 52
URL = "https://example.org/a?b=c&d='e'"


def container(engine: str, name: str = "ci", **more: Any) -> Container:
    return Container(id=ID, name=name, engine=engine, **more)


@pytest.mark.parametrize(
    ("kind", "name", "known", "begins"),
    [
        ("container", "ci", container("docker"), "docker run --rm -i --network container:ci python:3-alpine python3 -"),
        ("docker", "0123456", container("docker"), "docker run --rm -i --network container:ci "),
        ("container", "x", container("docker", "a b;c"), "docker run --rm -i --network container:0123456789ab "),
        ("podman", "ci", container("podman"), "podman run --cap-add NET_RAW --rm -i --network container:ci "),
        (
            "podman",
            "ci",
            container("podman", pod="shop"),
            "podman run --cap-add NET_RAW --rm -i --network container:ci ",
        ),
        ("container", "ci", container("containerd", pod="shop/web-0"), "kubectl debug -q -i -n shop web-0 --image="),
        ("container", "ci", container("cri-o", pod="shop/web-0"), "kubectl debug -q -i -n shop web-0 --image="),
        ("pod", "shop/web-0", None, "kubectl debug -q -i -n shop web-0 --image=python:3-alpine -- sh -c "),
        ("container", "ci", container("containerd"), ""),
        ("container", "ci", None, ""),
        ("container", "outer/ci", container("docker"), ""),
        ("pod", "web-0", None, ""),
        ("pod", "shop/$(reboot)", None, ""),
        ("docker", "x", Container(id="", name="$(x)", engine="docker"), ""),
    ],
)
def test_the_line(kind: str, name: str, known: Container | None, begins: str) -> None:
    line = beside.line(kind, name, known)
    assert line.startswith(begins)
    assert bool(line) == bool(begins)
    assert not line or line.endswith("PROBED < dist/pathfit-probe.py   # made by: make onefile")


def asking(to: Target, **more: Any) -> Ask:
    return Ask(command="diagnose", source="docker:ci", target=to, **more)


def test_the_asked_target_and_its_options() -> None:
    ask = asking(Target(text=URL, protocol="https", host="example.org"), family=4, sni="x.org", fast=True)
    how = f"sudo pathfit …{command.OR}docker run {beside.PROBED} < f"
    sudo, run = command.lines(how, ask, "source")
    assert shlex.split(sudo)[:3] == ["sudo", "pathfit", "diagnose"]
    assert shlex.split(run) == ["docker", "run", URL, "-4", "--sni", "x.org", "--fast", "<", "f"]


def test_a_place_is_no_target_of_the_one_file() -> None:
    ask = asking(Target(text="docker:db:5432", protocol="any", port=5432, where="docker:db"))
    assert len(command.lines(f"sudo pathfit …{command.OR}docker run {beside.PROBED} < f", ask, "source")) == 1


@pytest.mark.parametrize(
    ("where", "ref", "line"),
    [
        ("podman:ci", "source", "podman run --cap-add NET_RAW --rm -i --network container:ci "),
        ("container:ci", "source", "podman run --cap-add NET_RAW --rm -i --network container:ci "),
        ("podman:ci", "target", ""),
        ("podman:ci", "", ""),
        ("pid:1", "source", ""),
        ("podman:none", "source", ""),
    ],
)
def test_where_it_is_said(monkeypatch: pytest.MonkeyPatch, where: str, ref: str, line: str) -> None:
    """To the one who asked from there, and may not enter."""
    machine(monkeypatch, engine(at(ID, "ci", 71), kind="podman"))

    def refused(pid: int, where: str) -> Any:
        raise PermissionError(13, "no")

    monkeypatch.setattr(places, "_of_process", refused)
    found = places.locate(where, ref)
    assert isinstance(found, Missing)
    assert (found.code == "permission") == (where != "podman:none")
    last = found.how.split(command.OR)[-1]
    assert last.startswith(line) if line else "PROBED" not in found.how
    assert found.how.split(command.OR)[0].startswith("sudo" if os.geteuid() else "docker run --cap-add") or not line


def test_an_engine_that_knows_what_we_cannot_see(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, engine(at(ID, "ci", 0), kind="podman"))
    found = places.locate("podman:ci", "source")
    assert isinstance(found, Missing)
    assert found.how.split(command.OR)[-1].startswith("podman run --cap-add NET_RAW --rm -i --network container:ci ")


def test_pods_of_a_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, missing=(Missing(what="containerd at /s", why="not permitted", code="permission"),))
    found = places.locate("pod:shop/web-0", "source")
    assert isinstance(found, Missing)
    assert found.how.split(command.OR)[-1].startswith("kubectl debug -q -i -n shop web-0 ")
    machine(monkeypatch)
    found = places.locate("pod:shop/web-0", "source")
    assert isinstance(found, Missing)
    assert "kubectl debug" not in found.how


@pytest.mark.parametrize(
    ("kind", "known"), [("docker", container("docker")), ("podman", container("podman")), ("pod", None)]
)
def test_the_line_works(tmp_path: Path, kind: str, known: Container | None) -> None:
    """Typed as it stands, with an engine that only runs the command: its stdin stays open, as kubectl's does."""
    subprocess.run([sys.executable, str(TOOL), "-o", str(tmp_path / "dist" / "pathfit-probe.py")], check=True)
    name = {"docker": "docker", "podman": "podman", "pod": "kubectl"}[kind]
    fake = tmp_path / name
    drop = (
        'while [ "$1" != -- ]; do shift; done; shift' if kind == "pod" else 'while [ "$1" != python3 ]; do shift; done'
    )
    hold = '(cat; read never < "$0.open") | "$@"' if kind == "pod" else '"$@"'
    fake.write_text(f"#!/bin/sh\n{drop}\n{hold}\n")
    fake.chmod(0o755)
    os.mkfifo(f"{fake}.open")
    ask = asking(Target(text="http://127.0.0.1:1/?a=$HOME&b='", protocol="http", host="127.0.0.1", port=1))
    (line,) = command.lines(beside.line(kind, "shop/web-0" if kind == "pod" else "ci", known), ask, "source")
    path = f"{tmp_path}:{Path(sys.executable).parent}:{os.defpath}"
    with subprocess.Popen(
        ["sh", "-c", line], cwd=tmp_path, env={"PATH": path}, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        said = process.stdout.readline() + process.stdout.readline() + process.stdout.readline()
        assert "RST201" in said
        if kind == "pod":
            Path(f"{fake}.open").write_text("now\n")
        process.communicate()
