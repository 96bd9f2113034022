"""The JSON report: every key of CONTRACT, always; English always; the same bytes for the same report."""

import json
from typing import Any

import msgspec
import pytest
import reports

from pathfit.core.path import Encap, Translated
from pathfit.core.report import Report
from pathfit.render import json as render
from pathfit.render import steps

NUMBER = (int, float)
NONE = type(None)
BRACKET = {
    "pass": (int, NONE),
    "fail": (int, NONE),
    "method": (str, NONE),
    "evidence": str,
    "note": (str, NONE),
    "tried": [{"method": str, "pass": (int, NONE), "fail": (int, NONE), "tests": str, "note": (str, NONE)}],
}
SIZES = (dict, NONE)
MEMORY = {"about": (str, NONE), "before": (dict, NONE), "after": (dict, NONE)}
TARGET = {
    "address": (str, NONE),
    "family": (int, NONE),
    "port": (int, NONE),
    "tcp": str,
    "tls": str,
    "http": str,
    "udp": str,
    "speaks": (str, NONE),
    "icmp": (dict, NONE),
    "rtt_ms": (int, float, NONE),
    "ends_at": str,
    "mss": {"ours": (int, NONE), "theirs": (int, NONE), "first": SIZES, "last": SIZES},
    "protocol": str,
    "tls_phase": (str, NONE),
    "tls_ended_by": (str, NONE),
}
PAIR = {"size": int, "by": (str, NONE), "tries": int}
HOP = {"ttl": int, "small": PAIR, "large": PAIR}
WHERE = {"host": str, "netns": str, "link": (str, NONE)}
PATH = {"hops": [{"where": WHERE, "mtu": (int, NONE), "steps": [str]}]}
LIMIT = {"mtu": int, "kind": str, "at": WHERE, "then": str, "told_home": (bool, NONE), "function": str}
PREDICTED = {"fate": str, "large": str, "mtu": (int, NONE), "limits": [LIMIT], "why": str}
FIX = {
    "id": str,
    "title": str,
    "platform": str,
    "value": (int, NONE),
    "effective": (int, NONE),
    "applicability": str,
    "lasts": str,
    "interrupts": [str],
    "commands": [[str]],
    "hosts": [str],
    "files": [{"path": str, "diff": str}],
    "undo": [[str]],
    "proof": (str, NONE),
    "by_hand": (str, NONE),
    "untried": (bool,),
    "source": (str, NONE),
}
FINDING = {
    "id": str,
    "code": str,
    "name": str,
    "severity": str,
    "confidence": str,
    "summary": str,
    "where": [WHERE],
    "facts": dict,
    "because": [str],
    "explains": [str],
    "evidence": [{"ref": str, "text": str}],
    "workloads": [str],
    "fixes": [FIX],
}
WORKLOAD = {
    "name": str, "where": str, "host": str, "engine": (str, NONE), "networks": [str], "mtu": (int, NONE),
    "verdict": str, "findings": [str], "why": (str, NONE),
}  # fmt: skip
HUNG = {
    "where": str, "workload": (str, NONE), "kind": str, "since_ms": int, "to": str, "process": (str, NONE),
    "mss": (int, NONE),
}  # fmt: skip
REPORT = {
    "schema": str,
    "version": str,
    "verdict": str,
    "asked": {"from": str, "to": str},
    "path": {"forward": PATH, "reverse": PATH},
    "predicted": {"forward": PREDICTED, "reverse": PREDICTED},
    "measured": {
        "forward": BRACKET,
        "reverse": BRACKET,
        "target": TARGET,
        "addresses": [
            {
                "forward": BRACKET,
                "reverse": BRACKET,
                "target": TARGET,
                "dns": (dict, NONE),
                "too_big": [{"by": str, "mtu": int, "size": int, "ours": bool, "sane": bool}],
                "remembered": {"here": MEMORY, "there": (dict, NONE)},
            }
        ],
        "side_effects": [
            {
                "where": str,
                "what": str,
                "lasts_s": (int, float, NONE),
                "about": (str, NONE),
                "before": (int, NONE),
                "after": (int, NONE),
            }
        ],
        "hops": [HOP],
        "used": {"packets": int, "connections": int},
    },
    "findings": [FINDING],
    "workloads": [WORKLOAD],
    "hung": [HUNG],
    "missing": [{"what": str, "why": str, "how": str}],
    "took_ms": int,
}


def complaints(shape: Any, value: Any, at: str = "report") -> list[str]:
    """Where ``value`` is not of ``shape``: exactly its keys, in its types."""
    if isinstance(shape, dict):
        if not isinstance(value, dict) or set(shape) != set(value):
            return [f"{at}: {sorted(value) if isinstance(value, dict) else value} instead of {sorted(shape)}"]
        return [c for k in shape for c in complaints(shape[k], value[k], f"{at}.{k}")]
    if isinstance(shape, list):
        if not isinstance(value, list):
            return [f"{at}: {value!r} is no list"]
        return [c for n, x in enumerate(value) for c in complaints(shape[0], x, f"{at}[{n}]")]
    return [] if isinstance(value, shape) else [f"{at}: {value!r} is no {shape}"]


def changed(**more: Any) -> Report:
    return msgspec.structs.replace(reports.article_000(), **more)


@pytest.mark.parametrize(
    "report",
    [reports.article_000(), reports.healthy(), reports.unknown(), changed(reverse=reports.forward(), took=1e-9)],
    ids=["broken", "healthy", "unknown", "both ways"],
)
def test_every_key_is_always_there(report: Report) -> None:
    assert complaints(REPORT, json.loads(render.dump(report))) == []


def test_the_shape_test_can_fail() -> None:
    document = json.loads(render.dump(reports.article_000()))
    del document["findings"][0]["fixes"][0]["undo"]
    assert len(complaints(REPORT, document)) == 1


def test_values() -> None:
    document = render.document(reports.article_000())
    assert document["schema"] == "pathfit.report/1"
    assert document["asked"] == {"from": "container:jenkins", "to": "https://updates.jenkins.io/"}
    assert document["took_ms"] == 84
    assert document["measured"]["reverse"] == {
        "pass": 1450,
        "fail": 1451,
        "method": "tcp-maxseg",
        "evidence": "proof",
        "note": None,
        "tried": [
            {"method": "tcp-maxseg", "pass": 1450, "fail": 1451, "tests": "reverse", "note": None},
            {"method": "icmp-echo", "pass": 1400, "fail": 1401, "tests": "both", "note": None},
        ],
    }
    assert document["measured"]["target"]["rtt_ms"] == 0.4
    assert document["path"]["forward"]["hops"][1]["where"] == {"host": "node2", "netns": "host", "link": "docker0"}
    first = document["findings"][0]
    assert (first["code"], first["because"], first["facts"]["limit"]) == ("MTU101", ["MTU103"], 1450)
    assert first["fixes"][0]["proof"] == "TLS and 200000 bytes of body with MSS 1360 from the same namespace"
    assert first["fixes"][1]["files"][0]["path"] == "/etc/docker/daemon.json"
    assert first["fixes"][0]["effective"] == 1400


def test_sentences_are_english_whatever_was_asked() -> None:
    report = changed(ask=reports.ask(lang="zh"))
    assert render.dump(report) == render.dump(reports.article_000())
    assert render.dump(report).isascii()


def test_a_note_is_a_sentence() -> None:
    m = reports.article_000().measured[0]
    m = msgspec.structs.replace(m, reverse=reports.bracket("reverse", None, None, "none", note="answers-too-short"))
    document = render.document(changed(measured=(m,)))
    assert document["measured"]["reverse"]["note"] == "the answers are too short to fill a packet"


def test_steps_are_one_line_each() -> None:
    lines = [s for h in render.document(reports.article_000())["path"]["forward"]["hops"] for s in h["steps"]]
    assert lines == [
        "route default via 172.17.0.1 (table 254)",
        "leave by eth0 mtu 1500",
        "enter docker0",
        "iptables-nft ip filter DOCKER-USER (forward): accept",
        "leave by eth0 mtu 1400",
    ]
    outer = msgspec.structs.replace(reports.FLOW, dst="192.0.2.2")
    tunnel = Encap(at=reports.ETH0, kind="vxlan", overhead=50, outer=outer, df=False)
    assert steps.line(tunnel) == "into vxlan +50 bytes to 192.0.2.2 (may fragment)"
    before = msgspec.structs.replace(reports.FLOW, src="fd00::2", sport=40000, dst="fd00::9", dport=443)
    after = msgspec.structs.replace(before, dst="fd00::3", dport=8443)
    translated = Translated(at=reports.ETH0, kind="dnat", before=before, after=after)
    assert steps.line(translated) == "dnat [fd00::2]:40000>[fd00::9]:443 to [fd00::2]:40000>[fd00::3]:8443"
