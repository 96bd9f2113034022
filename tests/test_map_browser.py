"""The page of `pathfit map` in a real browser (Debian's chromium), where there is no network at all.

Its policy lets its own script and style run and complains of nothing; every text stays inside what it stands in; the
filter finds; it prints.
"""

import os
import re
import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from maps import LAB, ZOO, crowd, distinct, drawn, overlay

from pathfit.render.map import page
from pathfit.render.map.graph import Map

ROOT = Path(__file__).parents[1]
CHROMIUM = shutil.which("chromium")
QUIET = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--no-first-run", "--hide-scrollbars", "--enable-logging=stderr", "--log-level=0",
)  # fmt: skip
MAPS: dict[str, Callable[[], Map]] = {
    "lab": lambda: drawn(LAB, "netns:c", "198.18.3.2"),
    "zoo": lambda: drawn(ZOO, "netns:inner-1", "203.0.113.80"),
    "overlay": lambda: drawn(overlay(), "netns:web.1", "10.0.1.11"),
    "thousand": lambda: drawn(crowd(1000)),
    "distinct": lambda: drawn(distinct(1000)),
}
# What a reader sees: a text that is wider than the box, chip or pill it belongs to, or that touches another one.
MEASURE = """<script>
const bad = [];
const box = (e) => e.getBBox();
for (const g of document.querySelectorAll("#picture .chip, #picture .box, #picture .pill")) {
  const r = box(g.querySelector("rect:not(.under)")), texts = Array.from(g.querySelectorAll("text"), box);
  for (const t of texts)
    if (t.x < r.x - 0.5 || t.x + t.width > r.x + r.width + 0.5 || t.y < r.y - 1 || t.y + t.height > r.y + r.height + 1)
      bad.push("out of " + g.getAttribute("aria-label"));
  for (let i = 0; i < texts.length; i++) for (let k = i + 1; k < texts.length; k++) {
    const a = texts[i], b = texts[k];
    const x = Math.min(a.x + a.width, b.x + b.width) - Math.max(a.x, b.x);
    const y = Math.min(a.y + a.height, b.y + b.height) - Math.max(a.y, b.y);
    if (x > 0.5 && y > 4) bad.push("overlap in " + g.getAttribute("aria-label"));
  }
}
document.documentElement.dataset.measured = JSON.stringify(bad);
</script></body>"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None and not os.environ.get("CI"), reason="no chromium (make engines-setup)"),
]


def browse(folder: Path, url: str, *words: str) -> subprocess.CompletedProcess[str]:
    command = [str(ROOT / "tools" / "isolated"), str(CHROMIUM), *QUIET, f"--user-data-dir={folder / 'profile'}", *words]
    done = subprocess.run([*command, url], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    said = [x for x in done.stderr.splitlines() if "CONSOLE" in x or "Content Security Policy" in x]
    assert said == [], said
    return done


def written(folder: Path, text: str) -> str:
    path = folder / "map.html"
    path.write_text(text, encoding="utf-8")
    return path.as_uri()


@pytest.mark.parametrize("name", MAPS)
def test_its_own_script_runs_and_nothing_is_refused(tmp_path: Path, name: str) -> None:
    dom = browse(tmp_path, written(tmp_path, page.render(MAPS[name]())), "--dump-dom").stdout
    assert re.search(r'<span class="scripted">', dom) and 'id="picture"' in dom


@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize("name", ["lab", "zoo", "overlay", "thousand"])
def test_texts_stay_where_they_belong(tmp_path: Path, name: str, lang: str) -> None:
    text = page.render(MAPS[name](), lang=lang).replace("</body>", MEASURE)
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text)
    dom = browse(tmp_path, written(tmp_path, text), "--dump-dom").stdout
    (found,) = re.findall(r'data-measured="([^"]*)"', dom)
    assert found == "[]"


def test_enter_on_a_folded_box_lists_what_is_in_it(tmp_path: Path) -> None:
    """By keyboard alone: the box has the focus, Enter lists its members, Escape puts the list away."""
    keys = """<script>
const g = Array.from(document.querySelectorAll(".box")).find((x) => x.getAttribute("aria-label").includes("13 of"));
const press = (key) => g.dispatchEvent(new KeyboardEvent("keydown", {key, bubbles: true, cancelable: true}));
const rows = () => document.querySelectorAll("#list tr").length;
g.focus(); const some = rows(); press("Enter"); const listed = rows(); press("Escape");
document.documentElement.dataset.rows = [document.activeElement === g, some, listed, rows()].join(" ");
</script></body>"""
    text = page.render(MAPS["overlay"]()).replace("</body>", keys)
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text)
    dom = browse(tmp_path, written(tmp_path, text), "--dump-dom").stdout
    (found,) = re.findall(r'data-rows="([^"]*)"', dom)
    assert found == "true 9 39 0"  # eight and "+31"; lo, eth0, eth1 of thirteen; none


def test_a_foreign_script_does_not_run(tmp_path: Path) -> None:
    """What the policy is for: the same page with a script somebody else put into it."""
    text = page.render(MAPS["lab"]()).replace("</body>", MEASURE)
    command = [str(ROOT / "tools" / "isolated"), str(CHROMIUM), *QUIET, f"--user-data-dir={tmp_path / 'profile'}"]
    done = subprocess.run(
        [*command, "--dump-dom", written(tmp_path, text)], capture_output=True, text=True, timeout=120, check=False
    )
    assert "data-measured" not in done.stdout and 'id="picture"' in done.stdout
    assert "Content Security Policy" in done.stderr


def test_the_filter_finds_a_member_of_a_folded_box(tmp_path: Path) -> None:
    url = written(tmp_path, page.render(MAPS["overlay"]()))
    dom = browse(tmp_path, url + "#find=web.7%20eth1", "--dump-dom").stdout
    assert '<body class="finding">' in dom and "1 found" in dom
    hits = re.findall(r'<g class="(chip|box)[^"]* hit"[^>]*aria-label="([^"]*)"', dom)
    assert ("box", "web.3 … web.27: 13 of one shape") in hits and len(hits) == 2
    assert len(re.findall(r"<tr [^>]*hidden", dom)) == dom.count("<tr data-c") - 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_painted(tmp_path: Path, scheme: str) -> None:
    shot = tmp_path / "map.png"
    dark = ["--blink-settings=preferredColorScheme=0"] if scheme == "dark" else []
    url = written(tmp_path, page.render(MAPS["lab"]()))
    browse(tmp_path, url, *dark, "--window-size=1300,800", f"--screenshot={shot}")
    data = shot.read_bytes()
    assert struct.unpack(">II", data[16:24]) == (1300, 800) and len(data) > 20_000


def test_it_prints(tmp_path: Path) -> None:
    out = tmp_path / "map.pdf"
    browse(tmp_path, written(tmp_path, page.render(MAPS["zoo"]())), f"--print-to-pdf={out}")
    assert out.read_bytes()[:5] == b"%PDF-"
