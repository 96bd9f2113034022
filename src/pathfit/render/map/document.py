"""The map as JSON: "pathfit.map/1" (docs/map.md). Every key is always there; sentences are English."""

from typing import Any

import msgspec

from pathfit import __version__
from pathfit.core.evidence_base import Missing
from pathfit.render.json import visible
from pathfit.render.map.graph import Device, Host, Map, Mark, Space, Way
from pathfit.render.map.speech import said

SCHEMA = "pathfit.map/1"
Json = dict[str, Any]


def dump(m: Map) -> bytes:
    """One JSON document (UTF-8), two-space indent, final newline. The same map gives the same bytes."""
    return visible(msgspec.json.format(msgspec.json.encode(document(m)), indent=2)) + b"\n"


def document(m: Map) -> Json:
    """The map as plain dictionaries and lists."""
    ways = {w.direction: _way(w) for w in m.ways}
    return {
        "schema": SCHEMA,
        "version": __version__,
        "asked": {"from": m.source, "to": m.target} if m.target else None,
        "hosts": [_host(h) for h in m.hosts],
        "edges": [{"kind": e.kind, "a": e.a, "b": e.b} for e in m.edges],
        "missing": [_missing(x) for x in m.missing],
        "paths": {"forward": ways.get("forward"), "reverse": ways.get("reverse")},
    }


def _host(h: Host) -> Json:
    return {
        "name": h.name,
        "kernel": h.kernel or None,
        "complete": h.complete,
        "namespaces": [_space(s) for s in h.spaces],
        "missing": [_missing(x) for x in h.missing],
    }


def _space(s: Space) -> Json:
    return {
        "id": s.id,
        "where": s.where,
        "label": s.label,
        "names": s.names,
        "containers": s.containers,
        "own": s.own,
        "devices": [_device(d) for d in s.devices],
        "missing": [_missing(x) for x in s.missing],
    }


def _device(d: Device) -> Json:
    return {
        "id": d.id,
        "name": d.name,
        "index": d.index,
        "kind": d.kind,
        "mtu": d.mtu,
        "state": d.state,
        "mac": d.mac or None,
        "addresses": d.addresses,
        "master": d.master or None,
        "network": d.network or None,
        "vni": d.vni,
        "overhead": d.overhead,
        "unseen_ends": d.far,
        "unseen_half": d.unseen,
        "holder": d.holder or None,
        "type": d.type or None,
        "remarks": [
            {"code": r.code or None, "severity": r.severity, "text": said(r, "en"), "facts": r.facts} for r in d.remarks
        ],
    }


def _way(w: Way) -> Json:
    return {
        "fate": w.fate,
        "large": w.large,
        "size": w.size,
        "mtu": w.mtu,
        "complete": w.complete,
        "why": w.why,
        "devices": w.stations,
        "legs": w.legs,
        "limits": [_mark(x) for x in w.limits],
        "limit": _mark(w.mark) if w.mark else None,
    }


def _mark(x: Mark) -> Json:
    return {
        "mtu": x.mtu,
        "kind": x.kind,
        "then": x.then,
        "told_home": x.told_home,
        "device": x.device or None,
        "place": x.place,
    }


def _missing(m: Missing) -> Json:
    return {"what": m.what, "why": m.why, "how": m.how, "code": m.code}
