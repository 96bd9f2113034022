"""Many examinations: rounds, several sources, all pairs of some places."""

import json
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
import reports
from netlab import Net, nets

from pathfit.cli import examining, many, rounds
from pathfit.cli.app import run
from pathfit.cli.matrix import members, pairs
from pathfit.cli.rounds import Round
from pathfit.cli.stop import Stop
from pathfit.cli.talk import Style
from pathfit.core.engine import Container, Endpoint, Engine, EngineNetwork
from pathfit.core.measured import Bracket
from pathfit.core.remembered import Remembered
from pathfit.core.report import Report
from pathfit.core.snapshot import PmtuException
from pathfit.render import matrix, rows
from pathfit.render.layout import columns, painter
from pathfit.render.matrix import Matrix, Place
from pathfit.render.rows import Row, Size

BROKEN, HEALTHY = reports.article_000(), reports.healthy()
PATHFIT = str(Path(sys.executable).with_name("pathfit"))


def sized(out: int, back: int, *, fails: bool = False) -> Report:
    """A report of one pair; what is larger vanishes, if it ``fails``."""
    m = HEALTHY.measured[0]

    def bracket(tests: str, passes: int) -> Bracket:
        return Bracket(
            method="udp-pair", tests=tests, passes=passes, fails=passes + 1 if fails else None, grade="proof"
        )

    m = msgspec.structs.replace(m, forward=bracket("forward", out), reverse=bracket("reverse", back))
    return msgspec.structs.replace(BROKEN if fails else HEALTHY, measured=(m,))


# -- a line -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("report", "out", "back"),
    [
        (BROKEN, "1400~", "1450!"),
        (HEALTHY, "1500", "1500"),
        (sized(1400, 1404, fails=True), "1400!", "1404!"),
        (msgspec.structs.replace(HEALTHY, measured=()), "?", "?"),
    ],
)
def test_a_line_says_what_passes_and_what_happens_above(report: Report, out: str, back: str) -> None:
    line = rows.row(report)
    assert (str(line.out), str(line.back)) == (out, back)


@pytest.mark.parametrize(
    ("bracket", "mark"),
    [
        (Bracket(method="m", tests="reverse", passes=900, note="answers-too-short"), "?"),
        (Bracket(method="m", tests="reverse", passes=1400, fails=1401, grade="none"), "?"),
        (Bracket(method="m", tests="reverse", passes=1500, fails=1501, grade="proof"), ""),  # more is not promised
        (Bracket(method="m", tests="reverse", passes=1400, fails=1401, grade="told"), "~"),
        (Bracket(method="m", tests="reverse", passes=1500, note="uneven"), "!"),
        (Bracket(method="m", tests="reverse", fails=576, grade="step"), "!"),
    ],
)
def test_no_mark_says_more_than_was_measured(bracket: Bracket, mark: str) -> None:
    m = msgspec.structs.replace(HEALTHY.measured[0], reverse=bracket)
    assert rows.size(m, "reverse").mark == mark


def test_what_changed_is_marked_and_what_was_is_said() -> None:
    before, now = rows.row(HEALTHY), rows.row(BROKEN)
    assert rows.changes(None, now) == ()
    assert rows.changes(now, now) == ()
    assert rows.changes(before, now) == ("verdict", "out", "in", "finding")
    line = rows.round_line("17:15:33", before, now, "en", painter(False))
    assert line.startswith("17:15:33  BROKEN") and "MTU101 inbound-black-hole" in line
    assert "was out 1500" in line and "was in 1500" in line
    assert "was" not in rows.round_line("17:15:33", now, now, "en", painter(False))
    coloured = rows.round_line("17:15:33", before, now, "en", painter(True))
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == line != coloured


def test_what_the_host_remembers_from_before_is_said() -> None:
    kept = PmtuException(family=4, dst="198.51.100.2", mtu=1400, expires=300.0)
    here = Remembered(address="198.51.100.2", believed=1400, exceptions=(kept,))
    m = msgspec.structs.replace(HEALTHY.measured[0], here=(here, here))
    line = rows.row(msgspec.structs.replace(HEALTHY, measured=(m,)))
    assert line.remembered == 1400
    assert "1400" in rows.round_line("x", None, line, "en", painter(False))


def test_the_worst_decides() -> None:
    assert rows.worst(["healthy", "broken", "degraded"]) == "broken"
    assert rows.worst(["broken", "unknown"]) == "unknown"  # as exit statuses: 3 wins over 1
    assert rows.worst([]) == "unknown"


# -- rounds -----------------------------------------------------------------------------------------------------------


def a_round(n: int, report: Report, before: Row | None) -> Round:
    line = rows.row(report)
    return Round(n, f"17:00:0{n}", f"2026-01-01T17:00:0{n}Z", report, line, rows.changes(before, line))


@pytest.mark.parametrize(("lang", "said"), [("en", "out 1400 to 1500"), ("zh", "出 1400 到 1500")])
def test_the_summary_counts_rounds_and_sizes(lang: str, said: str) -> None:
    first = a_round(1, HEALTHY, None)
    text = rounds.summary([first, a_round(2, BROKEN, first.row)], 64.0, lang)
    assert said in text and "1:04" in text


def test_each_round_is_one_document_in_one_line() -> None:
    data = rounds.document(a_round(2, BROKEN, rows.row(HEALTHY)))
    assert data.count(b"\n") == 1 and data.endswith(b"\n")
    document = json.loads(data)
    assert (document["schema"], document["n"], document["changed"]) == (
        "pathfit.round/1", 2, ["verdict", "out", "in", "finding"],
    )  # fmt: skip
    assert document["report"]["schema"] == "pathfit.report/1"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["probe", "192.0.2.1", "--every", "1"], "makes no sense"),
        (["probe", "192.0.2.1", "--every", "nan"], "makes no sense"),
        (["probe", "192.0.2.1", "--rounds", "3"], "how often"),
        (["probe", "192.0.2.1", "--every", "30", "--rounds", "0"], "makes no sense"),
        (["probe", "192.0.2.1", "--every", "30", "--save", "/nonexistent/x"], "--save"),
        (
            ["diagnose", "--from", "host", "--from", "netns:x", "--to", "192.0.2.1", "--save", "/nonexistent/x"],
            "--save",
        ),
        (["matrix"], "at least two"),
        (["matrix", "host"], "at least two"),
        (["matrix", "host", "host"], "one place"),
        (["matrix", "network:a", "host"], "stands alone"),
        (["matrix", "a", "b"], "no place"),
        (["matrix", "host", "pid:1", "--pairs", "0"], "makes no sense"),
    ],
)
def test_what_makes_no_sense_is_refused(words: list[str], said: str) -> None:
    with pytest.raises(Stop, match=said):
        run(words)


class Gone:
    """A reader that has left."""

    @property
    def buffer(self) -> "Gone":
        return self

    def write(self, text: object) -> None:
        raise BrokenPipeError

    def flush(self) -> None: ...

    def fileno(self) -> int:
        raise OSError


@pytest.mark.parametrize("as_json", [True, False])
def test_rounds_end_when_nobody_reads(as_json: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", Gone())
    assert rounds._show(a_round(1, HEALTHY, None), None, Style(), as_json=as_json) is False


def test_what_takes_too_long_is_a_round_like_any(monkeypatch: pytest.MonkeyPatch) -> None:
    """And not the end of all rounds."""

    def late(*_: object, **__: object) -> None:
        raise examining.Slow("not done after 15 s", "--timeout 60", 3)

    monkeypatch.setattr(examining, "live", late)
    report = examining.tried(HEALTHY.ask, verbose=False)
    assert (report.verdict, rows.row(report).out, report.missing[0].how) == ("unknown", Size(None, "?"), "--timeout 60")
    assert examining.exit_status(report) == 3


# -- many sources -----------------------------------------------------------------------------------------------------


def test_a_row_for_each_place() -> None:
    stop = Stop("not done after 15 s", "--timeout 60", 3)
    text = many.text("https://x/", [HEALTHY, BROKEN], [("netns:slow", stop)], 1.2, Style())
    assert [x.split()[0] for x in text.splitlines()[2:6]] == [
        "from",
        "container:jenkins",
        "container:jenkins",
        "netns:slow",
    ]
    assert text.startswith("UNKNOWN") and "pathfit diagnose --from container:jenkins" in text
    document = json.loads(many.document("https://x/", [HEALTHY, BROKEN], [("netns:slow", stop)]))
    assert document["schema"] == "pathfit.reports/1" and document["verdict"] == "unknown"
    assert [r["verdict"] for r in document["reports"]] == ["healthy", "broken"]
    assert document["failed"] == [{"from": "netns:slow", "why": "not done after 15 s", "how": "--timeout 60"}]


# -- all pairs --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", range(2, 13))
def test_every_pair_once(count: int) -> None:
    found = list(pairs(count, 10**6))
    assert len({frozenset(p) for p in found}) == len(found) == count * (count - 1) // 2


@pytest.mark.parametrize(("count", "most"), [(50, 200), (50, 30), (1000, 200)])
def test_few_pairs_are_shared_out_evenly(count: int, most: int) -> None:
    found = list(pairs(count, most))
    assert len(found) == most and len({frozenset(p) for p in found}) == most
    each = Counter(n for p in found for n in p)
    assert max(each.values()) - min(each.get(n, 0) for n in range(count)) <= 2


THREE = tuple(Place(n, f"container:{n}") for n in ("web", "db", "worker"))
ODD = Matrix(
    "app (docker, bridge)",
    THREE,
    {(0, 1): sized(1500, 1500), (1, 2): sized(1400, 1404, fails=True), (2, 0): sized(1404, 1400, fails=True)},
    took=0.6,
    version="0.1.0",
)


def test_the_table_says_each_way_by_itself() -> None:
    text = matrix.text(ODD)
    assert text.startswith("BROKEN")
    table = [x.split() for x in text.splitlines()[2:6]]
    assert table[1:] == [
        ["1", "web", "-", "1500", "1400!"],
        ["2", "db", "1500", "-", "1400!"],
        ["3", "worker", "1404!", "1404!", "-"],
    ]
    assert "4 ways differ from the usual 1500" in text
    assert "all of them begin or end at worker" in text
    assert "db > worker 1400!" in text and "worker > db 1404!" in text
    assert "pathfit diagnose --from container:db --to container:worker" in text


def test_a_whole_network_that_is_alike_says_so() -> None:
    alike = ODD._replace(pairs={k: HEALTHY for k in ODD.pairs})
    text = matrix.text(alike)
    assert text.startswith("HEALTHY") and "The same from each to each: 1500." in text and "next:" not in text


@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_large_table_is_cut_into_blocks(width: int, lang: str) -> None:
    places = tuple(Place(f"a-container-with-a-long-name-{n}", f"container:c{n}") for n in range(30))
    some = {p: sized(1500, 1500) for p in pairs(30, 100)}
    text = matrix.text(Matrix("x", places, some, 435 - 100), lang=lang, width=width)
    body = [x for x in text.splitlines() if not x.startswith("next")]
    assert max(columns(x) for x in body) <= width
    assert text.count("\n1 a-container") == text.count("\n30 a-container") >= 2
    assert "335" in text and " . " in text


def test_the_matrix_as_json() -> None:
    document = matrix.document(ODD)
    assert document["schema"] == "pathfit.matrix/1" and document["verdict"] == "broken"
    assert [(p["from"], p["to"], p["forward"]["pass"], p["reverse"]["pass"]) for p in document["pairs"]] == [
        ("container:web", "container:db", 1500, 1500),
        ("container:db", "container:worker", 1400, 1404),
        ("container:worker", "container:web", 1404, 1400),
    ]
    assert document["left_out"] == 0 and json.dumps(document)


def test_members_of_a_network() -> None:
    """By their address in it; not those that stopped, that share another's namespace, or are elsewhere."""
    app, other = (EngineNetwork(id=i, name=n, driver="bridge") for i, n in (("n1", "app"), ("n2", "other")))

    def container(name: str, *nets: tuple[str, str, tuple[str, ...]], **more: str) -> Container:
        ends = tuple(Endpoint(network=i, name=n, addresses=a) for i, n, a in nets)
        return Container(
            **{"id": name * 12, "name": name, "engine": "docker", "netns": f"4:{name}", **more}, endpoints=ends
        )

    engine = Engine(
        kind="docker",
        socket="/run/docker.sock",
        networks=(app, other),
        containers=(
            container("b", ("n2", "other", ("172.19.0.2",)), ("n1", "app", ("172.18.0.2/16", "fd00::2/64"))),
            container("a", ("n1", "app", ("172.18.0.3",))),
            container("stopped", ("n1", "app", ()), state="exited"),
            container("sidecar", ("n1", "app", ("172.18.0.3",)), netns="4:a"),
            container("elsewhere", ("n2", "other", ("172.19.0.9",))),
            container("pod", ("n1", "app", ("172.18.0.4",)), pod="prod/web-1"),
        ),
    )
    assert list(members(engine, app)) == [
        Place("a", "container:a", "172.18.0.3"),
        Place("b", "container:b", "172.18.0.2"),
        Place("prod/web-1", "pod:prod/web-1", "172.18.0.4"),
    ]
    assert next(p for p in members(engine, app, v6=True) if p.name == "b").address == "fd00::2"
    nested = msgspec.structs.replace(engine, inside_name="outer")
    assert next(iter(members(nested, app))).where == "container:outer/a"


# -- for real ---------------------------------------------------------------------------------------------------------


@contextmanager
def bridged() -> Iterator[Net]:
    """a, b, c on one bridge of h; c's cable carries 1400."""
    with nets() as net:
        net.add("a", "b", "c", "h")
        net.ip("h", "link add br0 type bridge forward_delay 0")
        net.ip("h", "link set br0 up")
        for n, name in enumerate("abc", 1):
            net.ip("h", f"link add v{name} type veth peer name eth0 netns {net(name)}")
            net.ip("h", f"link set v{name} master br0 up")
            net.ip(name, "link set eth0 up")
            net.ip(name, f"addr add 198.18.9.{n}/24 dev eth0")
            net.inside(name, "ethtool", "-K", "eth0", "tso", "off", "gso", "off", "gro", "off")
            net.inside("h", "ethtool", "-K", f"v{name}", "tso", "off", "gso", "off", "gro", "off")
        net.ip("h", "link set vc mtu 1400")
        yield net


@pytest.mark.lab
def test_all_pairs_and_rounds_for_real() -> None:
    with bridged() as net:
        places = [f"netns:{net(n)}" for n in "abc"]
        done = subprocess.run([PATHFIT, "matrix", *places, "--json"], capture_output=True, timeout=60, check=False)
        document = json.loads(done.stdout)
        found = {(p["from"][-1], p["to"][-1]): (p["forward"]["pass"], p["reverse"]["pass"]) for p in document["pairs"]}
        # a veth takes a frame of its MTU + 4 in (is_skb_forwardable)
        assert found == {("a", "b"): (1500, 1500), ("b", "c"): (1400, 1404), ("c", "a"): (1404, 1400)}
        assert (document["verdict"], done.returncode) == ("broken", 1)

        asked = [PATHFIT, "diagnose", *(x for p in places[:2] for x in ("--from", p)), "--to", places[2]]
        many_ = subprocess.run([*asked, "--json"], capture_output=True, timeout=60, check=False)
        document = json.loads(many_.stdout)
        assert [r["measured"]["forward"]["pass"] for r in document["reports"]] == [1400, 1400]
        assert many_.returncode == 1 and document["verdict"] == "broken"

        argv = ["ip", "netns", "exec", net("a"), PATHFIT, "probe", "198.18.9.2", "--every", "3600"]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            assert process.stdout is not None
            line = process.stdout.readline().decode()
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=20) == 130
        assert re.match(r"\d\d:\d\d:\d\d  [A-Z]+ ", line), line
