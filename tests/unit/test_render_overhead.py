"""`pathfit overhead`: its text, its JSON, its errors, its page in docs/."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pathfit.model.tunnels.overhead import KINDS
from pathfit.model.tunnels.stacks import parse
from pathfit.render import layout, overhead
from pathfit.render.layout import Page
from pathfit.words.render import say

GOLDEN = Path(__file__).parents[1] / "golden"
DOCS = Path(__file__).parents[2] / "docs"
STACKS = ("vxlan,nodev+wireguard/1500", "geneve,opt=8+esp-gcm6,natt/1400", "ovs-ip6gre,key/1500", "vlan+qinq/9000")
LOOKS = [("80", "en"), ("120", "en"), ("80", "zh"), ("120", "zh")]


def shown(width: int, lang: str) -> str:
    texts = [overhead.text(parse(x), Page(width), lang) for x in STACKS]
    return "\n".join([*texts, overhead.listing(Page(width), lang)])


@pytest.mark.parametrize(("width", "lang"), LOOKS)
def test_golden(width: str, lang: str) -> None:
    """PATHFIT_GOLDEN=write makes the files anew; the difference is then reviewed, not believed."""
    file = GOLDEN / f"overhead-{'' if lang == 'en' else lang + '-'}{width}.txt"
    found = shown(int(width), lang)
    if os.environ.get("PATHFIT_GOLDEN") == "write":
        file.write_text(found, encoding="utf-8")
    assert found == file.read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize("six", ["", "6"])
def test_every_kind_has_words_and_fits_the_width(kind: str, lang: str, six: str) -> None:
    if (six and 6 not in KINDS[kind].families) or kind == "ip6tnl":
        six = ""
    for mtu in (600, 1500):
        page = overhead.text(parse(f"{kind}{six}/{mtu}"), Page(60 if lang == "zh" else 80), lang)
        assert "?" not in page and "ui." not in page and "overhead-" not in page
        widest = max(layout.columns(x) for x in page.splitlines())
        assert widest <= (80 if lang == "en" else 84)


def test_all_words_that_a_table_may_ask_for_are_there() -> None:
    for case in ("learned", "fragmented", "both", "silent", "stream", "unknown"):
        assert say(f"ui.overhead-larger-{case}", {"learned": 1}, "zh", strict=True)


def cli(*words: str, lang: str = "C.UTF-8") -> subprocess.CompletedProcess[str]:
    env = {k: v for k, v in os.environ.items() if k not in ("LC_ALL", "LC_CTYPE", "LC_MESSAGES")} | {"LANG": lang}
    command = [sys.executable, "-m", "pathfit", "overhead", *words]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)


def test_the_command_prints_the_text() -> None:
    done = cli(STACKS[0])
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == overhead.text(parse(STACKS[0]), Page(80), "en")
    assert cli(STACKS[0], "--lang", "zh").stdout == overhead.text(parse(STACKS[0]), Page(80), "zh")
    assert cli().stdout == overhead.listing(Page(80), "en")


def shape(value: Any) -> Any:
    """Names and types of a JSON document, lists by their first element."""
    if isinstance(value, dict):
        return {k: shape(v) for k, v in value.items()}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return type(value).__name__


def test_json_is_as_documented() -> None:
    page = (DOCS / "overhead.md").read_text()
    example = json.loads(page.split("```json\n")[1].split("```")[0])
    found = json.loads(cli(example["stack"], "--json").stdout)
    assert found == example
    assert json.loads(cli("--json").stdout) == overhead.kinds()
    other = json.loads(cli("vxlan+esp-gcm/1500", "--json").stdout)
    assert set(shape(other)["layers"][0]) == set(shape(example)["layers"][0])


def test_json_goes_to_stdout_and_errors_to_stderr_with_a_line_to_type() -> None:
    done = cli("vxlan+wiregard/1500", "--json")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1] == "try: pathfit overhead vxlan+wireguard/1500"
    assert cli("q" * 4000).stderr.splitlines()[-1] == "try: pathfit overhead"
    assert cli("\x1b[2J/1500").stderr.isprintable() or "\x1b" not in cli("\x1b[2J/1500").stderr
    again = cli("vlan6").stderr.splitlines()[-1].removeprefix("try: pathfit overhead ")
    assert cli(again).returncode == 0
