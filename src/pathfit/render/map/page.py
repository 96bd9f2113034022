"""The map as one HTML file that needs nothing else: no request leaves it, by what it holds and by its own policy.

The Content-Security-Policy names the one style and the one script by their hashes, so that nothing a network's names
could bring in would run. Without the script the picture and the table are there all the same; it adds details on
hover and focus, the list of a folded box, and the filter.
"""

import base64
import hashlib
import pkgutil
from collections.abc import Iterator
from functools import cache

from pathfit import __version__
from pathfit.render.map.drawing import CLASSES, Picture, esc
from pathfit.render.map.graph import Device, Map, Space
from pathfit.render.map.speech import STATES, about, counts, kind, outcome, said, say
from pathfit.render.map.text import stations

HEADS = (
    "map.page-name", "map.page-device", "map.page-kind", "map.page-legend", "map.page-state", "map.page-addresses",
    "map.page-also",
)  # fmt: skip
NOTE = "map.page-note"
WAYS = {"forward": "map.page-edge-forward", "reverse": "map.page-edge-reverse"}
ALL = 1000  # stations of a way that are written out
SMALLEST = 0.7  # of its size: a picture wider than the window shrinks that far, then it is scrolled


def render(m: Map, *, lang: str = "en") -> str:
    """The page. The same map gives the same text."""
    return "".join(_Page(m, lang).parts())


@cache
def _asset(name: str) -> str:
    return (pkgutil.get_data("pathfit.render.map", name) or b"").decode().strip()


def _hash(text: str) -> str:
    return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"


def policy(style: str) -> str:
    """The Content-Security-Policy (CSP level 3) of a page with this style."""
    style, script = _hash(style), _hash(_asset("page.js"))
    return f"default-src 'none'; style-src {style}; script-src {script}; base-uri 'none'; form-action 'none'"


class _Page:
    def __init__(self, m: Map, lang: str) -> None:
        self.map, self.lang = m, lang
        self.picture = Picture(m, lang)
        self.chip_of = self.picture.plan.chip_of
        self.group = {s.id: b.id for boxes in self.picture.plan.boxes for b in boxes for s in b.spaces}

    def say(self, message: str, **facts: object) -> str:
        return esc(say(message, self.lang, **facts))

    def parts(self) -> Iterator[str]:
        hosts = ", ".join(h.name for h in self.map.hosts[:4]) + (" …" if len(self.map.hosts) > 4 else "")
        title = self.say("map.title", hosts=hosts)
        code = "zh-Hans" if self.lang == "zh" else "en"
        least = round(self.picture.width * SMALLEST)
        style = f"{_asset('page.css')}\n#picture{{min-width:{least}px}}"
        yield f'<!DOCTYPE html>\n<html lang="{code}"><head><meta charset="utf-8"/>\n'
        yield f'<meta http-equiv="Content-Security-Policy" content="{policy(style)}"/>\n'
        yield '<meta name="viewport" content="width=device-width"/><meta name="referrer" content="no-referrer"/>\n'
        yield f"<title>{title}</title>\n<style>{style}</style></head>\n<body>"
        yield f'<a class="skip" href="#picture">{self.say("map.page-skip")}</a>\n'
        yield f"<header><h1>{title}</h1>"
        yield f'<p class="dim">{esc(say("map.and", self.lang).join(counts(self.map, self.lang)))}</p>\n'
        yield from self._ways()
        yield from self._tools()
        yield '</header>\n<main><div class="view"><div class="scroll">'
        yield self.picture.svg
        yield "</div>\n" + self._panel() + "</div></main>\n"
        yield from self._missing()
        yield from self._all()
        made = self.say("map.page-made", version=__version__)
        yield f"<footer>{made}</footer>\n<script>{_asset('page.js')}</script></body></html>\n"

    def _ways(self) -> Iterator[str]:
        if not self.map.ways:
            return
        yield f'<h2>{self.say("map.page-path", source=self.map.source, target=self.map.target)}</h2><ul class="ways">'
        for w in self.map.ways:
            label = self.say("map.way-out" if w.direction == "forward" else "map.way-back")
            row = stations(self.map, w, ALL)
            marked = ((' class="stop"' if x[:1] == "[" else "", esc(x)) for x in row)
            arrows = " &#8594; ".join(f"<span{stop}>{x}</span>" for stop, x in marked)
            yield f'<li class="{w.direction}"><b>{label}</b> <code>{arrows}</code><br/>'
            yield f"{esc(outcome(w, self.lang))}</li>"
        yield f'</ul><p class="dim">{self.say("map.predicted")}</p>\n'

    def _tools(self) -> Iterator[str]:
        find, text = self.say("map.page-find"), self.say("map.page-found", count="#")
        yield '<div class="tools"><span class="scripted" hidden="hidden">'
        yield f'<input id="find" type="search" placeholder="{find}" aria-label="{find}"/></span>'
        yield f'<span id="found" role="status" data-text="{text}"></span>'
        yield '<span class="scripted" hidden="hidden">'
        yield f'<button id="fit" type="button" aria-pressed="false">{self.say("map.page-fit")}</button></span></div>\n'
        yield f'<div class="tools"><b>{self.say("map.page-legend")}</b><ul class="legend">'
        devices = [d for d in self.map.devices().values() if d.kind != "loopback"]
        for mtu, n in self.picture.mtus.items():
            count = sum(d.mtu == mtu for d in devices)
            yield f'<li>{_swatch(n)}<b>{mtu}</b> <span class="dim">×{count}</span></li>'
        rest = sum(d.mtu not in self.picture.mtus for d in devices)
        if rest:
            yield f'<li>{_swatch(CLASSES)}{self.say("map.page-legend-other")} <span class="dim">×{rest}</span></li>'
        yield f'</ul></div>\n<div class="tools"><b>{self.say("map.page-edges")}</b><ul class="legend">'
        yield from self._lines()
        yield "</ul></div>\n"

    def _lines(self) -> Iterator[str]:
        shown = [("veth", "map.page-edge-cable"), ("port", "map.page-edge-port"), ("lower", "map.page-edge-lower")]
        shown.append(("tunnel", "map.page-edge-tunnel"))
        there = {r.tie.kind for r in self.picture.scene.routes}
        line = '<svg width="34" height="10" aria-hidden="true">{0}</svg>'
        for style, message in (x for x in shown if x[0] in there):
            path = f'<path class="t {style}" d="M1 5L33 5"/>'
            yield f"<li>{line.format(path)}{self.say(message)}</li>"
        for w in self.map.ways:
            path = f'<g class="way {w.direction}"><path d="M1 5L33 5"/></g>'
            yield f"<li>{line.format(path)}{self.say(WAYS[w.direction])}</li>"
        if self.picture.limits:
            yield f'<li><b class="stop">[{min(self.picture.limits.values())}]</b> {self.say("map.page-limit")}</li>'
        if any(r.marked for d in self.map.devices().values() for r in d.remarks):
            yield f"<li><b>!</b> {self.say(NOTE)}</li>"

    def _panel(self) -> str:
        return (
            f'<aside id="panel" aria-live="polite"><h2>{self.say("map.page-details")}</h2>'
            f'<p id="hint" class="dim">{self.say("map.page-hint")}</p><p id="what" class="names"></p>'
            f'<table><tbody id="list"></tbody></table>'
            f'<button id="close" type="button" hidden="hidden">{self.say("map.page-close")}</button></aside>'
        )

    def _missing(self) -> Iterator[str]:
        lacking = [("", x) for x in self.map.missing] + [(h.name, x) for h in self.map.hosts for x in h.missing]
        lacking += [(s.label, x) for s in self.map.spaces() for x in s.missing]
        if lacking or not all(h.complete for h in self.map.hosts):
            yield f'<div class="all"><h2>{self.say("map.not-seen")}</h2><ul>'
            for name, x in lacking[:50]:
                yield f"<li>{esc(f'{name}: ' if name else '')}{esc(x.what)}: {esc(x.why)}</li>"
            if not lacking:
                yield f"<li>{self.say('map.not-all')}</li>"
            yield "</ul></div>\n"

    def _all(self) -> Iterator[str]:
        head = "".join(f'<th scope="col">{self.say(x)}</th>' for x in HEADS)
        yield f'<div class="all"><details><summary>{self.say("map.page-list")}</summary>'
        for h in self.map.hosts:
            yield f"<h2>{esc(h.name)}</h2><table><thead><tr>{head}</tr></thead><tbody>\n"
            for s in h.spaces:
                for d in s.devices:
                    yield self._row(s, d)
            yield "</tbody></table>"
        yield "</details></div>\n"

    def _row(self, s: Space, d: Device) -> str:
        also = about(d, self.lang, addresses=False)
        also += [("! " if r.marked else "") + said(r, self.lang) for r in d.remarks]
        also = [x for x in also if x != say(STATES[d.state], self.lang)]
        cells = (s.label, d.name, kind(d, self.lang))
        after = (say(STATES[d.state], self.lang), " ".join(d.addresses), "; ".join(also))
        left, right = ("".join(f"<td>{esc(x)}</td>" for x in texts) for texts in (cells, after))
        chip = self.chip_of.get(d.id, d.id)
        return f'<tr data-c="{chip}" data-g="{self.group[s.id]}">{left}<td class="r">{d.mtu}</td>{right}</tr>\n'


def _swatch(n: int) -> str:
    return (
        f'<svg width="16" height="16" aria-hidden="true"><rect width="16" height="16" rx="3" fill="url(#p{n})"/></svg>'
    )


__all__ = ["policy", "render"]
