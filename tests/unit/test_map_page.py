"""The page: well-formed, sealed, the same every time; and the picture: nothing overlaps, no line crosses a device."""

import base64
import hashlib
import random
import re
from html.parser import HTMLParser
from itertools import combinations

import msgspec
import pytest
from maps import LAB, VXLAN, ZOO, crowd, distinct, drawn, overlay
from topo import host

from pathfit.model import Network
from pathfit.render.map import page
from pathfit.render.map.build import build
from pathfit.render.map.drawing import Picture
from pathfit.render.map.graph import Map
from pathfit.render.map.layers import Item, Line, arrange, settle
from pathfit.render.map.text import render as as_text

MAPS = {
    "lab": lambda: drawn(LAB, "netns:c", "198.18.3.2"),
    "vxlan": lambda: drawn(VXLAN, "netns:c", "198.18.3.2"),
    "zoo": lambda: drawn(ZOO, "netns:inner-1", "203.0.113.80"),
    "crowd": lambda: drawn(crowd(40), "netns:web.1", "198.51.100.1"),
    "overlay": lambda: drawn(overlay(), "netns:web.1", "10.0.1.11"),
    "distinct": lambda: drawn(distinct(30)),
    "nothing": Map,
}
VOID = {"meta", "input", "br"}


class Reader(HTMLParser):
    """Balanced tags, their attributes, and all text."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        assert len(dict(attrs)) == len(attrs), (tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, (tag, self.open[-3:])

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def read(text: str) -> Reader:
    reader = Reader()
    reader.feed(text)
    reader.close()
    assert reader.open == []
    return reader


@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize("name", MAPS)
def test_it_is_well_formed_and_reaches_nowhere(name: str, lang: str) -> None:
    text = page.render(MAPS[name](), lang=lang)
    found = read(text)
    assert text.replace("http://www.w3.org/2000/svg", "").count("http") == text.count("http-equiv")
    for tag, attributes in found.tags:
        assert tag not in {"link", "img", "iframe", "object", "embed", "base", "form", "image", "use", "foreignobject"}
        for key, value in attributes.items():
            assert not key.startswith("on") and key not in {"src", "srcset", "style", "action", "xlink:href", "ping"}
            assert key != "href" or value == "#picture"
            assert "url(" not in (value or "") or re.fullmatch(r"url\(#(p\d|forward|reverse)\)", value or "")
    assert "@import" not in text and not re.search(r"url\((?!#)", text)
    ids = [a["id"] for _, a in found.tags if "id" in a]
    assert len(ids) == len(set(ids))


def test_the_policy_names_its_own_style_and_script() -> None:
    text = page.render(MAPS["lab"]())
    policy = next(a["content"] for t, a in read(text).tags if a.get("http-equiv") == "Content-Security-Policy") or ""
    assert policy.startswith("default-src 'none';") and "unsafe" not in policy
    for tag in ("style", "script"):
        (body,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy


@pytest.mark.parametrize("name", MAPS)
def test_the_same_input_gives_the_same_bytes(name: str) -> None:
    assert page.render(MAPS[name]()) == page.render(MAPS[name]())


def test_every_mtu_is_in_the_table_and_on_the_picture() -> None:
    m = MAPS["zoo"]()
    found = read(page.render(m))
    words = " ".join(found.text)
    for d in m.devices().values():
        assert d.name in words and str(d.mtu) in words
    shown = [a for t, a in found.tags if t == "g" and "chip" in (a.get("class") or "")]
    assert len(shown) == sum(d.kind != "loopback" for d in m.devices().values())
    assert all("MTU" in (a["aria-label"] or "") and a["tabindex"] == "0" for a in shown)


HOSTILE = [
    "</script><b>",
    "\"'><i>&amp;",
    "\u202egnp.exe",
    "]]>\x00\x1b[2J",
    "名字名字名",
    "a\u0301\u200b\ud83d",
    "--><!--",
]


@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names(name: str, lang: str) -> None:
    snapshot = host(ZOO, name=name)
    spaces = []
    for ns in snapshot.namespaces:
        links = tuple(msgspec.structs.replace(x, name=name[:15], kind=x.kind and name, holder=name) for x in ns.links)
        spaces.append(msgspec.structs.replace(ns, links=links, where=f"netns:{name}{len(spaces)}", names=(name,)))
    snapshot = msgspec.structs.replace(snapshot, namespaces=tuple(spaces))
    m = build(Network.of(snapshot), [snapshot], asked=(name, name))
    text = page.render(m, lang=lang)
    found = read(text)
    text.encode()  # a lone surrogate would fail here
    assert not any(c in text for c in "\u202e\x00\x1b\u200b\ud83d")
    assert {t for t, _ in found.tags}.isdisjoint({"b", "i"} - {t for t, _ in read(page.render(MAPS["zoo"]())).tags})
    assert text.count("<script") == 1 and text.count("</script") == 1 and "<!--" not in text
    shown = as_text(m, lang=lang)
    assert not any(c in shown for c in "\u202e\x00\x1b\u200b\ud83d")


def test_long_names_are_cut_and_stay_in_their_box() -> None:
    m = drawn(ZOO.replace("inner-1", "x" * 90))
    picture = Picture(m, "en")
    assert picture.width < 3000 and "x" * 90 in page.render(m)


def test_large_machines_stay_small() -> None:
    assert len(page.render(drawn(crowd(1000)))) < 1_000_000
    assert len(page.render(drawn(distinct(1000)))) < 3_000_000


# -- the picture -----------------------------------------------------------------------------------------------------


def shaken(seed: int) -> str:
    """A machine of random namespaces: bridges, cables between anything, tunnels, uplinks."""
    dice = random.Random(seed)
    names = [f"n{i}" for i in range(dice.randint(2, 9))]
    lines = [f"{n} br{k} bridge 1500" for n in names for k in range(dice.randint(0, 2))]
    bridges = [line.split()[:2] for line in lines]

    def half(i: int, side: str) -> str:
        ns = dice.choice(names)
        own = [b for n, b in bridges if n == ns]
        master = f" @{dice.choice(own)}" if own and dice.random() < 0.5 else ""
        return f"{ns} {side}{i} {dice.choice((1400, 1450, 1500))}{master}"

    lines += [f"{half(i, 'a')} -- {half(i, 'b')}" for i in range(dice.randint(1, 16))]
    lines += [f"{dice.choice(names)} eth{i} phys 1500 192.0.2.{i + 1}/24" for i in range(dice.randint(0, 3))]
    for i in range(dice.randint(0, 3)):
        ends = f"local=192.0.2.{dice.randint(1, 3)} remote=192.0.2.{dice.randint(1, 9)}"
        lines.append(f"{dice.choice(names)} vx{i} vxlan 1450 id={dice.randint(1, 2)} {ends}")
    return "\n".join(lines)


SCENES = [(name, make) for name, make in MAPS.items() if name != "nothing"]
SCENES += [(f"shaken-{n}", lambda n=n: drawn(shaken(n))) for n in range(60)]  # type: ignore[misc]


@pytest.mark.parametrize(("name", "make"), SCENES, ids=[s[0] for s in SCENES])
def test_nothing_overlaps_and_no_line_crosses_a_device(name: str, make: object) -> None:
    assert callable(make)
    picture = Picture(make(), "en")
    spots = picture.scene.spots
    chips = {k: s for k, s in spots.items() if k in picture.chips}
    boxes = {k: s for k, s in spots.items() if k.startswith("box:")}
    for group in (chips, boxes, {k: s for k, s in spots.items() if k.startswith(("host:", "bus:", "outside"))}):
        for (a, p), (b, q) in combinations(group.items(), 2):
            apart = p.x + p.w <= q.x or q.x + q.w <= p.x or p.y + p.h <= q.y or q.y + q.h <= p.y
            assert apart, (a, b)
    for s in spots.values():
        assert s.x >= 0 and s.y >= 0 and s.x + s.w <= picture.width and s.y + s.h <= picture.height
    home = {c.id: f"box:{b.id}" for boxes_ in picture.plan.boxes for b in boxes_ for c in b.chips}
    for route in picture.scene.routes:
        ends = {route.tie.a, route.tie.b}
        allowed = ends | {home[e] for e in ends if e in home}
        for x, y in points(route.curves):
            for key, s in (*chips.items(), *boxes.items()):
                inside = s.x + 1 < x < s.x + s.w - 1 and s.y + 1 < y < s.y + s.h - 1
                assert not inside or key in allowed, (route.tie, key, (x, y))


def points(curves: object) -> list[tuple[float, float]]:
    found = []
    for c in curves:  # type: ignore[attr-defined]
        for i in range(25):
            t = i / 24
            w = ((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3)
            p = (c.a, c.ca, c.cb, c.b)
            found.append(tuple(sum(k * v[axis] for k, v in zip(w, p, strict=True)) for axis in (0, 1)))
    return found  # type: ignore[return-value]


@pytest.mark.parametrize("name", [n for n, _ in SCENES if n != "distinct"])
def test_lines_have_no_gaps(name: str) -> None:
    for route in Picture(dict(SCENES)[name](), "en").scene.routes:
        for a, b in zip(route.curves, route.curves[1:], strict=False):
            assert abs(a.b[0] - b.a[0]) < 1 and abs(a.b[1] - b.a[1]) < 1, (route.tie, a, b)


def test_texts_fit_their_chips() -> None:
    """In monospaced type of 12 and 10.2 px (0.602 em; wide characters two columns)."""
    from pathfit.render.layout import columns

    for _, make in SCENES:
        picture = Picture(make(), "zh")
        for ident, face in picture.faces.items():
            room = picture.scene.spots[ident].w - 20 - 4
            assert columns(face.name) * 7.23 + columns(face.mtu) * 7.23 + 8 <= room
            assert all(columns(x) * 6.15 <= room for x in face.small)


# -- the layout ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "heights", "gap", "tops"),
    [
        ([0, 100], [10, 10], 5, [0, 100]),
        ([0, 0], [10, 10], 5, [-7.5, 7.5]),
        ([50, 0], [10, 10], 0, [20, 30]),
        ([], [], 5, []),
    ],
)
def test_settle(wanted: list[float], heights: list[float], gap: float, tops: list[float]) -> None:
    assert settle(wanted, heights, gap) == tops


def test_crossings_are_undone() -> None:
    items = [Item("a", 0, 10), Item("b", 0, 10), Item("x", 1, 10), Item("y", 1, 10)]
    done = arrange(items, [Line("a", "y", 5, 5), Line("b", "x", 5, 5)], 5)
    assert (done.top["a"] < done.top["b"]) == (done.top["y"] < done.top["x"])


def test_a_long_line_gets_a_lane() -> None:
    items = [Item("a", 0, 10), Item("m", 1, 40), Item("b", 2, 10)]
    done = arrange(items, [Line("a", "m", 5, 20), Line("m", "b", 20, 5), Line("a", "b", 5, 5)], 6)
    ((column, y),) = done.lanes[2]
    assert column == 1 and not done.top["m"] < y < done.top["m"] + 40
