"""Article 004, Weave: its fast way's heartbeat on the wire, the fall-back to the slow one, and what pathfit says of it.

The heartbeats are real packets of the kernel's own VXLAN; the router is a stand-in (standins/weaver.py).
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from engine import required
from labhost import PATIENCE, Lab, until
from recipes.weave import ADDRESS, OVERLAY, Weave, counters, frag_fails

pytestmark = [pytest.mark.slow, pytest.mark.lab]

WEB = "http://{}:8080/50000"
SLOW, FAST = ["sleeve", "sleeve"], ["fastdp", "fastdp"]


@contextmanager
def stage(near: int, far: int) -> Iterator[Weave]:
    required()
    with Lab() as lab:
        yield Weave(lab, near, far)


def slow(report: dict[str, Any]) -> list[dict[str, Any]]:
    return [f for f in report["findings"] if f["code"] == "OVL306"]


def sizes(finding: dict[str, Any]) -> dict[str, Any]:
    return {k: finding["facts"][k] for k in ("overlay", "heartbeat", "room", "short", "fits")}


def test_the_article_from_the_slow_way_to_the_fast_one() -> None:
    """WEAVE_MTU 1410 on an underlay of 1450: 10 bytes are missing. The commands that are proposed, typed as they stand
    there, make both connections fast, and nothing is left to say."""
    with stage(1450, 1450) as w:
        w.launch(1410)
        w.serve()
        assert w.modes() == SLOW
        _nothing_left(w)
        first = _both_ends(w)
        _as_seen_from_a_container(w, "degraded", ["OVL306"])
        asked = w.json(w.hosts[0], "diagnose", "--from", "host", "--to", WEB.format(ADDRESS.format(2)))
        (measured,) = slow(asked)
        assert (asked["verdict"], measured["confidence"]) == ("healthy", "confirmed")
        assert sizes(measured) == sizes(first)
        _repaired(w, first["fixes"][0])


def _nothing_left(w: Weave) -> None:
    """The kernel itself refused each heartbeat: it was counted as dropped, and as not to be cut."""
    for host in w.hosts:
        assert counters(host, "vxlan-6784")["tx_dropped"] > 0
        assert frag_fails(host) > 0
        assert "timed out waiting for vxlan heartbeat" in w.log(host)


def _both_ends(w: Weave) -> dict[str, Any]:
    """Each host's own scan, and one of both hosts' snapshots: the same of both. The first host's finding."""
    scans = [w.json(host, "scan") for host in w.hosts]
    assert [[(x["where"], x["verdict"]) for x in s["workloads"]] for s in scans] == [[("netns:app", "degraded")]] * 2
    said = [slow(s) for s in scans]
    for (finding,) in said:
        assert (finding["severity"], finding["confidence"], finding["where"][0]["link"]) == (
            "warning",
            "likely",
            "datapath",
        )
        assert sizes(finding) == {"overlay": 1410, "heartbeat": 1460, "room": 1450, "short": 10, "fits": 1400}
        (fix,) = finding["fixes"]
        assert (fix["id"], fix["value"], fix["effective"], fix["applicability"]) == ("weave-mtu", 1400, 1400, "manual")
        assert fix["untried"] and "weave 2.8.1" in fix["source"]
        assert fix["interrupts"] == ["netns:app"]
    files = [word for host in w.hosts for word in ("--in", str(w.snapshot(host)))]
    together = slow(w.json(w.hosts[0], "scan", *files))
    assert sorted(f["where"][0]["host"] for f in together) == ["n1", "n2"]
    text = w.pathfit(w.hosts[0], "scan").stdout
    assert "env WEAVE_MTU=1400 weave launch" in text
    assert "not tried on a live system" in text
    first: dict[str, Any] = said[0][0]
    return first


def _as_seen_from_a_container(w: Weave, verdict: str, codes: list[str]) -> None:
    """Never a fault of severity error: it works. (A busy machine may lose a packet on its slow way, which is said.)"""
    report = w.json(w.hosts[0], "diagnose", "--from", "netns:app", "--to", WEB.format(OVERLAY.format(2)))
    said = {f["code"]: f for f in report["findings"] if f["code"] != "NET151"}
    assert (report["verdict"], [code for code in said if said[code]["severity"] != "info"]) == (verdict, codes)
    assert not [f for f in report["findings"] if f["severity"] == "error"]
    assert report["measured"]["target"]["http"] == "200"


def _repaired(w: Weave, fix: dict[str, Any]) -> None:
    """Type what is proposed, on both hosts: the heartbeat then is a packet of 1450 with DF, and arrives."""
    watch = w.sniffing(w.rooms[0], "edge")
    reset, launch = fix["commands"]
    for host in w.hosts:
        w.run(host, *reset)
    w.typed(tuple(launch), tuple(launch))
    w.becomes(FAST)
    seen = json.loads(watch.communicate(timeout=PATIENCE)[0])
    assert seen == {
        "size": 1450,
        "df": True,
        "more": False,
        "ttl": 64,
        "vxlan": True,
        "frame": 1414,
    }
    for host in w.hosts:
        assert counters(host, "vxlan-6784")["tx_dropped"] == 0
        assert w.json(host, "scan")["findings"] == []
    _as_seen_from_a_container(w, "healthy", [])


@pytest.mark.parametrize(("near", "fits"), [(1450, None), (1400, 1350)])
def test_what_weave_does_without_a_word(near: int, fits: int | None) -> None:
    """The default of 1376 needs packets of 1426."""
    with stage(near, near) as w:
        w.launch()
        w.becomes(SLOW if fits else FAST)
        for host in w.hosts:
            found = slow(w.json(host, "scan"))
            assert [f["facts"]["fits"] for f in found] == ([fits] if fits else [])
            assert [f["facts"]["short"] for f in found] == ([26] if fits else [])


def test_a_limit_beyond_both_hosts_is_measured() -> None:
    """Both hosts have 1500 and are told nothing: the heartbeat of 1460 leaves whole, with DF, and is lost on the way.
    State alone can only guess; a diagnosis of the way to the peer proves it."""
    with stage(1500, 1450) as w:
        watch = w.sniffing(w.rooms[0], "edge")
        w.launch(1410)
        w.serve()
        assert w.modes() == SLOW
        seen = json.loads(watch.communicate(timeout=PATIENCE)[0])
        assert (seen["size"], seen["df"], seen["frame"]) == (1460, True, 1424)
        (guessed,) = slow(w.json(w.hosts[0], "scan"))
        assert (guessed["confidence"], guessed["facts"]["case"], guessed["fixes"]) == ("possible", "beyond", [])
        report = w.json(w.hosts[0], "diagnose", "--from", "host", "--to", WEB.format(ADDRESS.format(2)))
        (proven,) = slow(report)
        assert (proven["confidence"], proven["facts"]["place"]) == ("confirmed", ADDRESS.format(2))
        assert sizes(proven) == {"overlay": 1410, "heartbeat": 1460, "room": 1450, "short": 10, "fits": 1400}
        assert [x["value"] for x in proven["fixes"]] == [1400]
        assert report["findings"][0]["code"] == "MTU101", "what fails for the asker stands first"


ANSWERS = {
    "endless": "h()\nwhile True: c.sendall(b'{' * 4096)",
    "wrong types": 'b = b\'{"Router": {"Connections": {"a": [1e999]}, "OverlayDiagnostics": 7}}\'\n'
    "h(len(b)); c.sendall(b); c.close()",
    "huge": "h(64 << 20)\nwhile True: c.sendall(b' ' * 65536)",
    "silent": "time.sleep(60)",
}
IMPOSTOR = """
import os, socket, sys, threading, time
open("/proc/self/comm", "w").write("weaver")
def serve(c):
    def h(n=None):
        c.recv(65536)
        more = f"Content-Length: {n}\\r\\n" if n is not None else ""
        c.sendall(f"HTTP/1.1 200 OK\\r\\n{more}\\r\\n".encode())
    try: exec(sys.argv[1])
    except OSError: pass
with socket.create_server(("127.0.0.1", 6784)) as s:
    print("up", os.getpid(), flush=True)
    while True:
        c, _ = s.accept()
        threading.Thread(target=serve, args=(c,), daemon=True).start()
"""


def test_what_calls_itself_weaver_may_answer_anything() -> None:
    """The scan goes on, says what is missing, and everything else is kept."""
    with stage(1450, 1450) as w:
        w.launch(1410)
        host = w.hosts[0]
        host.run("kill", host.path("/run/weave/pid").read_text())
        until(lambda: not host.run("ss", "-Hltn", "sport = :6784"), "the router's end")
        for name, answer in ANSWERS.items():
            log = w.lab.folder / f"{name}.log"
            impostor = host.start("python3", "-c", IMPOSTOR, answer, log=log)
            until(lambda at=log: "up" in at.read_text(), name, detail=log.read_text)  # type: ignore[misc]
            report = w.json(host, "scan")
            host.run("kill", "-9", log.read_text().split()[1])
            impostor.wait(10)
            assert (report["verdict"], slow(report)) == ("healthy", []), name
            assert [x["where"] for x in report["workloads"]] == ["netns:app"], name
            assert name == "wrong types" or [m["what"] for m in report["missing"]] == ["Weave's connections"], name
