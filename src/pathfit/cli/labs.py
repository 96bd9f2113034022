"""`pathfit lab`: list, show, build, remove scenarios; run them and judge what a diagnosis says of them."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec

from pathfit.cli import isolation
from pathfit.cli.stop import CANNOT, Stop
from pathfit.cli.talk import style
from pathfit.lab import BuildError, Lab, Scenario, ScenarioError, list_up, load, scenarios
from pathfit.lab import down as lab_down
from pathfit.words.render import say

SCHEMA = "pathfit.lab/1"
PREFIX = re.compile(r"[a-z0-9][a-z0-9-]{0,23}")  # as Lab.up takes it
MOST_SECONDS = 60  # for one diagnosis; its own --timeout ends it long before


def listing(*, as_json: bool, lang: str | None) -> int:
    """All scenarios with their first sentence, and the labs that are up."""
    known = [(name, load(name).about.split(". ")[0].rstrip(".")) for name in scenarios()]
    labs = [{"prefix": e.prefix, "scenario": e.scenario} for e in list_up()]
    if as_json:
        return _json(scenarios=[{"name": n, "about": a} for n, a in known], up=labs)
    widest = max((len(n) for n, _ in known), default=0)
    look = style(lang)
    for name, about in known:
        line = f"{name:<{widest}}  {about}"
        whole = len(line) <= look.width or not sys.stdout.isatty()  # one line each for eyes, everything for grep
        print(line if whole else line[: look.width - 3] + "...")
    for line in ("", say("ui.lab-next", {}, look.lang)):
        print(line, file=sys.stderr)
    for lab in labs:
        print(f"up: {lab['prefix']} ({lab['scenario']})", file=sys.stderr)
    return 0


def show(name: str, *, as_json: bool) -> int:
    """A scenario as it is written, everything at its default left out."""
    scenario = _load(name)
    if as_json:
        return _json(scenario=msgspec.to_builtins(scenario))
    sys.stdout.flush()
    sys.stdout.buffer.write(msgspec.yaml.encode(scenario))
    return 0


def up(name: str, prefix: str | None, *, as_json: bool, lang: str | None) -> int:
    """Build and leave up. Raises Stop."""
    scenario = _load(name)
    if prefix is not None and not PREFIX.fullmatch(prefix):
        raise Stop(f"prefix '{prefix[:40]}': at most 24 of a-z, 0-9 and -", "--prefix my-lab")
    with _building(name):
        lab = Lab.up(scenario, prefix)
    source = lab.where(scenario.ask.source)
    if as_json:
        hosts = {h: lab.where(h) for h in lab.plan.hosts}
        return _json(prefix=lab.prefix, scenario=scenario.name, hosts=hosts, ask={"from": source, "to": lab.target()})
    look = style(lang)
    print(say("ui.lab-up", {"name": lab.prefix, "where": source, "to": lab.target()}, look.lang))
    print(say("ui.lab-down", {"prefix": lab.prefix}, look.lang), file=sys.stderr)
    return 0


def down(name: str, *, as_json: bool, lang: str | None) -> int:
    """Remove by prefix, by scenario, or all. Raises Stop (2) when there is no such lab."""
    labs = [e.prefix for e in list_up() if name in ("all", e.prefix, e.scenario)]
    if not labs and name != "all":
        if os.geteuid():  # each user has labs of their own; most are root's
            raise Stop(f"no lab '{name[:40]}' of yours is up; root's are not seen from here", _as_root())
        raise Stop(f"no lab '{name[:40]}' is up", "pathfit lab list")
    with _building(name):
        removed = [p for p in labs if lab_down(p)]
    if as_json:
        return _json(removed=removed)
    print(say("ui.lab-gone", {"count": len(removed)}, style(lang).lang))
    return 0


def run(names: tuple[str, ...], blind: bool, o: dict[str, Any]) -> int:
    """Build, check that it fails as meant, diagnose, judge, remove; 0 when all are right, else 1."""
    chosen = [_load(n) for n in (scenarios() if names == ("all",) else names)]
    if os.geteuid() != 0 and not isolation.inside():
        why = isolation.refused()
        if why:
            raise Stop(f"labs need namespaces: {why[0]}", _as_root(), CANNOT)
        return isolation.again()
    modes = ("open", "blind") if blind else ("open",)
    rows = []
    for scenario in chosen:
        for mode in modes:
            row = _one(scenario, mode, o)
            if row is None:
                continue
            rows.append(row)
            if not o["as_json"]:
                word = "right" if not row["wrong"] else "WRONG " + "; ".join(row["wrong"])
                said = " ".join(filter(None, (row["verdict"], *row["codes"])))
                print(f"{row['scenario']} {mode}: {word} ({row['ms']} ms, {said})", flush=True)
    if o["as_json"]:
        _json(runs=rows)
    return 1 if any(r["wrong"] for r in rows) else 0


def _one(scenario: Scenario, mode: str, o: dict[str, Any]) -> dict[str, Any] | None:
    """One row; None when the scenario is not asked in that mode."""
    from pathfit.lab.judge import judge

    with _building(scenario.name), Lab.up(scenario) as lab:
        if mode == "blind" and not lab.visible():
            return None
        wrong = [f"the lab does not behave as meant: {w}" for w in lab.truth()]
        lab.fresh()
        done, ms = _ask(lab, mode, o)
        if not wrong:
            wrong = judge(scenario.expected(blind=mode == "blind"), done.stdout, done.returncode, ms)
            wrong += [f"asking changed it: {w}" for w in lab.truth(after=True)]
    try:
        report = msgspec.json.decode(done.stdout)
    except msgspec.DecodeError:
        report = {}
    codes = [f["code"] for f in report.get("findings", [])]
    verdict = report.get("verdict")
    return {"scenario": scenario.name, "mode": mode, "wrong": wrong, "ms": ms, "verdict": verdict, "codes": codes}


def _ask(lab: Lab, mode: str, o: dict[str, Any]) -> tuple[subprocess.CompletedProcess[bytes], int]:
    ask = lab.scenario.ask
    words = ["diagnose", "--from", lab.where(ask.source), "--to", lab.target(), "--json", *ask.options]
    words += ["--timeout", f"{o['timeout']:g}", *(["--fast"] if o["fast"] else [])]
    if o["save"]:
        words += ["--save", str((o["save"] / f"{lab.scenario.name}-{mode}").absolute())]
    command = [sys.executable, "-m", "pathfit", *words]
    if mode == "blind":
        command = lab.blind_command(command)
    start = time.monotonic()
    done = subprocess.run(command, capture_output=True, timeout=MOST_SECONDS, check=False)
    return done, round((time.monotonic() - start) * 1000)


def _load(name: str) -> Scenario:
    try:
        return load(name)
    except ScenarioError as e:
        import difflib

        near = difflib.get_close_matches(name, scenarios(), 1)
        message = str(e).partition("; known:")[0]
        raise Stop(message, f"pathfit lab show {near[0]}" if near else "pathfit lab list") from None


@contextmanager
def _building(name: str) -> Iterator[None]:
    """What goes wrong while namespaces are made or removed, in a sentence."""
    isolation.extend_path()
    try:
        yield
    except PermissionError as e:
        raise Stop(
            f"labs need root ({e.strerror or e})", "sudo " + " ".join(["pathfit", *sys.argv[1:]]), CANNOT
        ) from None
    except FileExistsError as e:
        raise Stop(str(e), "pathfit lab list", CANNOT) from None
    except (BuildError, ValueError) as e:
        raise Stop(f"{name}: {e}", f"pathfit lab show {name}", CANNOT) from None


def _as_root() -> str:
    return "sudo " + " ".join(["pathfit", *sys.argv[1:]])


def _json(**document: Any) -> int:
    sys.stdout.flush()
    data = msgspec.json.encode({"schema": SCHEMA, **document})
    sys.stdout.buffer.write(msgspec.json.format(data, indent=2) + b"\n")
    return 0
