"""What other hosts' snapshots add to a path that fails, and what they must never do."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
import swarms
from cases import failed, hole, out, passing, probe, rule, table
from msgspec.structs import replace
from swarms import HOSTS, TARGET, asked, end, leads, left_behind, mac, node, stale

from pathfit import diagnose
from pathfit.core.case import Case
from pathfit.core.evidence import FleetFact, StateFact
from pathfit.core.filters import Match, Verdict
from pathfit.core.finding import Finding
from pathfit.core.report import Report
from pathfit.core.request import ReadRules
from pathfit.core.snapshot import FdbEntry, HostSnapshot
from pathfit.observe import others, recorded
from pathfit.remedies.overlay import inside, option_for
from pathfit.render import text
from pathfit.survey import judge, report_of
from pathfit.words import render as words

REFUSED = failed("refused", rst_ttl=64, rst_phase="syn")
SILENT = failed("timeout", handshake_retrans=1)
RST = rule(Match(field="l4proto", values=("6",)), Match(field="tcpflags", values=("rst/fin,syn,rst",)),
           Verdict(kind="drop"))  # fmt: skip


def report(run: Case) -> Report:
    done = diagnose.report(run)
    assert not [f for f in done.findings if f.code == "SYS902"], done.findings
    for f in done.findings:
        for lang in ("en", "zh"):
            assert words.summary(f, lang, strict=True)
            assert all(words.evidence(e, lang, strict=True) for e in f.evidence)
    return done


def by_code(done: Report) -> dict[str, Finding]:
    return {f.code: f for f in done.findings}


def lines(f: Finding) -> list[str]:
    typed = [pair for x in f.fixes for pair in zip(x.hosts or ("",) * len(x.commands), x.commands, strict=True)]
    return [f"{host or 'here'}: {' '.join(argv)}" for host, argv in typed]


def codes(done: Report) -> list[str]:
    return [f.code for f in done.findings]


# --- who answered ----------------------------------------------------------------------------------------------------


def test_a_leftover_of_another_host_refused() -> None:
    done = report(asked(stale(), REFUSED))
    first = done.findings[0]
    assert (first.code, first.severity, first.confidence) == ("RST203", "error", "confirmed")
    assert first.because == ("OVL301", "OVL302")
    assert (first.facts["by"], first.facts["by_host"]) == ("old", "two")
    assert (first.facts["member"], first.facts["home"]) == ("e", "three")
    assert "RST201" not in codes(done)
    entry = by_code(done)["OVL301"]
    assert (entry.severity, entry.facts["host"], entry.facts["named"], entry.facts["home"]) == (
        "warning", "one", "two", "three")  # fmt: skip
    fix = first.fixes[0]
    assert (fix.id, fix.applicability, fix.hosts) == ("fdb-entry", "safe", ())
    line = f"ip netns exec one bridge fdb replace {mac(3)} dev vx0 dst"
    assert lines(first)[:1] == [f"here: {line} {end(3)} self permanent"]
    assert [" ".join(x) for x in fix.undo] == [f"{line} {end(2)} self permanent"]
    assert "two: ip -n old link set dev eth0 down" in lines(first)
    ages = [e.facts for f in done.findings for e in f.evidence if e.message == "evidence.snapshot-age"]
    assert {(a["host"], a["age"]) for a in ages} == {("two", 5), ("three", 5)}


@pytest.mark.parametrize("age", [None, 3600.0])
def test_an_old_snapshot_proves_nothing(age: float | None) -> None:
    done = report(asked(stale(), REFUSED, age=age))
    assert (done.findings[0].code, done.findings[0].confidence) == ("RST203", "likely")


def test_without_an_engine_two_have_the_same_right() -> None:
    done = report(asked(stale(told=False), REFUSED))
    assert (done.findings[0].code, done.findings[0].confidence) == ("RST203", "likely")
    assert done.findings[0].facts["case"] == "twin"
    assert not [x for x in lines(done.findings[0]) if "down" in x], "nobody is taken off whose right is not known"


def test_a_far_end_that_only_a_file_names_is_for_people() -> None:
    here, second, third = stale()
    made = here.engines[0]
    alone = replace(here, engines=(replace(made, networks=tuple(replace(x, nodes=()) for x in made.networks)),))
    fix = report(asked((alone, second, third), REFUSED)).findings[0].fixes[0]
    assert (fix.id, fix.applicability, fix.changes) == ("fdb-entry", "manual", ())
    assert words.by_hand(fix, strict=True) and words.by_hand(fix, "zh", strict=True)


def test_two_that_were_not_seen_at_one_time_dispute_nothing() -> None:
    """An hour ago it was there, now it is here: it may have moved."""
    hosts = (left_behind(1, told=False), node(2, told=False), node(3, told=False))
    assert codes(report(asked(hosts, REFUSED, age=3600.0)))[0] == "RST201"
    assert codes(report(asked(hosts, REFUSED, age=9.0)))[0] == "RST203"


def test_a_name_that_is_an_option_is_not_typed() -> None:
    third = node(3)
    made = third.engines[0]
    bad = replace(
        third, engines=(replace(made, containers=tuple(replace(c, name="--force") for c in made.containers)),)
    )
    fixes = by_code(report(asked((node(1), node(2), bad), NARROW)))["MTU101"].fixes
    assert "docker-network-mtu" not in [x.id for x in fixes]


def test_the_line_to_type_keeps_the_files() -> None:
    run = asked(stale(), REFUSED)
    run = replace(run, ask=replace(run.ask, snapshots=("n2.json", "n3.json")))
    assert "--in n2.json --in n3.json" in " ".join(text.render(report(run), width=300).split())


def test_nobody_is_seen_where_it_is_sent() -> None:
    here, _, third = stale()
    done = report(asked((here, node(2), third), REFUSED))
    assert (done.findings[0].code, done.findings[0].confidence, done.findings[0].facts["case"]) == (
        "RST203", "likely", "entry")  # fmt: skip


def test_a_local_twin_refused() -> None:
    """The bridge has learned it here; the address was given to the one on the third."""
    here = left_behind(1)
    port = next(x.index for x in swarms.space(here, 1).links if x.name == "vold")
    learned = FdbEntry(link=port, mac=mac(3))
    here = swarms.changed(here, "one", fdb=(*swarms.space(here, 1).fdb, learned))
    done = report(asked((here, node(2), node(3)), REFUSED))
    assert (done.findings[0].code, done.findings[0].because) == ("RST203", ("OVL302",))
    assert done.findings[0].confidence == "likely", "a flooded question reaches both: who was first is not known"
    assert lines(done.findings[0]) == ["here: ip -n old link set dev eth0 down"]


def test_a_closed_port_stays_one() -> None:
    done = report(asked((node(1), node(2), node(3)), REFUSED))
    assert codes(done) == ["RST201"]


def test_a_reset_from_behind_a_router_is_no_member_s() -> None:
    done = report(asked(stale(), failed("refused", rst_ttl=61, rst_phase="syn")))
    assert done.findings[0].confidence == "likely"


# --- what snapshots may not do ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("hosts", [stale(), (node(1), node(2, mtu=1400), node(3, vni=78))])
def test_what_works_stays_well(hosts: tuple[HostSnapshot, ...]) -> None:
    well = probe(forward=(out(1450),), reverse=(passing(1450),),
                 contact={"promised": 1450, "offered": 1450, "sendable": 1450})  # fmt: skip
    done = report(asked(hosts, well))
    assert (done.verdict, done.findings) == ("healthy", ())


def test_a_snapshot_of_this_host_is_not_believed() -> None:
    """What we read ourselves counts: a file that claims to be us says nothing."""
    lie = leads(node(1), 1, mac(3), end(2))
    done = report(asked((node(1), node(3), lie), REFUSED))
    assert codes(done) == ["RST201"]


def test_a_case_with_other_hosts_is_opened_again() -> None:
    run = asked(stale(), REFUSED)
    again = msgspec.json.decode(msgspec.json.encode(run), type=Case)
    assert diagnose.report(again) == diagnose.report(run)


# --- causes of silence -----------------------------------------------------------------------------------------------


def silent(*hosts: HostSnapshot) -> Finding:
    done = report(asked(hosts, SILENT))
    assert done.findings[0].code == "NET152"
    return done.findings[0]


def test_the_port_is_closed_on_the_other_host() -> None:
    first = silent(node(1), node(2), swarms.closed(3))
    assert first.because == ("OVL303",)
    assert lines(first) == ["three: ip netns exec three nft insert rule inet fw in udp dport 4789 accept"]
    other = silent(node(1), swarms.closed(2), node(3))
    assert other.because == (), "that of a third host is not on the way"


@pytest.mark.parametrize("names", [("fw", "in; flush ruleset"), ("fw\nflush ruleset", "in"), ("fw", "-f")])
def test_a_name_that_would_be_a_command_is_not_typed(names: tuple[str, str]) -> None:
    """nft reads all its words as one text, whatever a shell makes of the quotes."""
    first = silent(node(1), node(2), swarms.closed(3, *names))
    assert (first.because, first.fixes) == (("OVL303",), ())


def test_another_number_on_the_other_host() -> None:
    first = silent(node(1), node(2), node(3, vni=78))
    assert first.because == ("OVL304",)
    assert lines(first) == ["three: docker network disconnect app e", "three: docker network connect app e"]
    assert silent(node(1), node(2, vni=78), node(3)).because == ()


def test_another_number_here() -> None:
    first = silent(node(1, vni=78), node(2), node(3))
    assert first.because == ("OVL304",)
    assert lines(first) == ["here: docker network disconnect app c", "here: docker network connect app c"]


def test_the_answers_are_sent_elsewhere() -> None:
    """The other host's entry for us is the stale one: it is for somebody there."""
    first = silent(node(1), node(2), leads(node(3), 3, mac(1), end(2)))
    assert first.because == ("OVL301",)
    assert lines(first)[0].startswith(f"three: ip netns exec three bridge fdb replace {mac(1)} dev vx0 dst {end(1)}")
    assert first.fixes[0].applicability == "manual" and words.by_hand(first.fixes[0], strict=True)


# --- sizes -----------------------------------------------------------------------------------------------------------

NARROW = probe(forward=(out(1400, fails=1401),), reverse=(hole(1400),),
               contact={"promised": 1450, "offered": 1450, "sendable": 1450, "http": "stalled"})  # fmt: skip


def test_the_network_beneath_is_to_blame() -> None:
    alone = by_code(report(asked((node(1),), NARROW)))
    assert (alone["MTU104"].confidence, alone["MTU104"].facts["underlay"]) == ("likely", 1450)
    assert "MTU104" in alone["MTU101"].because
    seen = by_code(report(asked((node(1), node(2), node(3)), NARROW)))
    assert (seen["MTU104"].confidence, seen["MTU104"].severity) == ("confirmed", "warning")
    fix = next(x for x in seen["MTU101"].fixes if x.id == "docker-network-mtu")
    assert (fix.value, fix.effective, fix.applicability) == (1450, 1400, "manual")
    typed = [(h, " ".join(c)) for h, c in zip(fix.hosts, fix.commands, strict=True)]
    assert typed[:4] == [
        ("", "docker network disconnect app c"), ("two", "docker network disconnect app d"),
        ("three", "docker network disconnect app e"), ("manager", "docker network rm app"),
    ]  # fmt: skip
    assert "--opt com.docker.network.driver.mtu=1450" in typed[4][1]
    assert typed[5:] == [("", "docker network connect app c"), ("two", "docker network connect app d"),
                         ("three", "docker network connect app e")]  # fmt: skip


def test_the_network_beneath_is_not_to_blame_for_a_device_of_the_other_host() -> None:
    third = node(3)
    small = swarms.changed(third, "three", links=tuple(
        replace(x, mtu=1396) if x.name == "v0" else x for x in swarms.space(third, 3).links))  # fmt: skip
    assert "MTU104" not in by_code(report(asked((node(1), node(2), small), NARROW)))


def test_a_member_of_another_size() -> None:
    done = by_code(report(asked((node(1), node(2), node(3, mtu=1400)), NARROW)))
    assert done["MTU117"].facts["host"] == "three"


@pytest.mark.parametrize(
    ("encrypted", "wanted", "option", "effective"),
    [(False, 1400, 1450, 1400), (True, 1372, 1448, 1372), (True, 1374, 1448, 1372), (True, 1375, 1448, 1372),
     (True, 1376, 1452, 1376)],
)  # fmt: skip
def test_what_docker_makes_of_the_option(encrypted: bool, wanted: int, option: int, effective: int) -> None:
    """overlayNetwork.maxMTU(); a real daemon says the same (tests/engines/test_swarm.py)."""
    assert option_for(wanted, encrypted) == option
    assert inside(option, encrypted) == effective
    assert all(inside(x, encrypted) < effective for x in range(option - 9, option))
    assert inside(1450, True) == 1372


# --- resets that a filter takes --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("heard", "grew", "severity", "confidence"),
    [(64, 3, "warning", "confirmed"), (None, 3, "warning", "likely"), (None, 0, "info", "possible")],
)
def test_a_filter_takes_what_refuses(heard: int | None, grew: int, severity: str, confidence: str) -> None:
    tables = (table("input", RST),)
    here = swarms.changed(node(1), "c", tables=tables)
    counted = replace(tables[0], chains=(replace(tables[0].chains[0], rules=(replace(RST, packets=grew),)),))
    run = asked((here,), failed("timeout", rst_unheard=heard))
    later = swarms.changed(here, "c", tables=(counted,))
    run = run.add(ReadRules(ref="rules:after", source="netns:c"), (StateFact(ref="rules:after", host=later),))
    done = report(run)
    assert (done.findings[0].code, "RST205" in done.findings[0].because) == ("NET152", True)
    found = by_code(done)["RST205"]
    assert (found.severity, found.confidence) == (severity, confidence)
    assert lines(found) == ["here: ip netns exec c nft delete rule inet corp f handle 5"]
    assert done.findings[0].fixes == found.fixes


# --- files -----------------------------------------------------------------------------------------------------------


def read(*paths: Path) -> FleetFact:
    return others.read("others", [str(p) for p in paths])


def write(path: Path, host: HostSnapshot, **more: Any) -> Path:
    path.write_bytes(recorded.pack(replace(host, **more)))
    return path


def test_files_and_their_age(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(others, "wall", lambda: 1000.0)
    old = write(tmp_path / "a.json", node(2), taken=400.0)
    new = write(tmp_path / "b.json", node(2), taken=990.0)
    ahead = write(tmp_path / "c.json", node(3), taken=5000.0)
    fact = read(old, new, ahead)
    assert [(o.host.host, o.age) for o in fact.hosts] == [("two", 10.0), ("three", None)]
    assert read(tmp_path).hosts == fact.hosts, "a folder stands for what is in it"


def test_what_cannot_be_opened_is_told_and_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = write(tmp_path / "good.json", node(2))
    bad = tmp_path / "bad.json"
    bad.write_text('{"schema": "pathfit.snapshot/1", "host": 7}')
    fact = read(bad, tmp_path / "none.json", good)
    assert [o.host.host for o in fact.hosts] == ["two"]
    assert [Path(m.what).name for m in fact.missing] == ["bad.json", "none.json"]
    monkeypatch.setattr(others, "MOST_HOSTS", 1)
    more = read(good, write(tmp_path / "more.json", node(3)))
    assert (len(more.hosts), more.missing[0].code) == (1, "limit")
    monkeypatch.setattr(recorded, "MOST_MEMORY", 100)
    assert (read(good).hosts, read(good).missing[0].code) == ((), "limit")


# --- side by side, without a path ------------------------------------------------------------------------------------


def scanned(*hosts: HostSnapshot) -> dict[str, str]:
    judged = [judge(h) for h in hosts]
    run = asked((node(1),), SILENT)
    return {f.code: f.severity for f in report_of(run.ask, "0", 0.0, judged, ()).findings}


def test_one_address_with_one_mac_on_two_hosts() -> None:
    at_once = [replace(h, taken=float(n)) for n, h in enumerate((node(1), left_behind(2), node(3)))]
    assert scanned(*at_once)["OVL302"] == "error"
    apart = [replace(h, taken=5000.0 * n) for n, h in enumerate(at_once)]
    assert scanned(*apart)["OVL302"] == "warning", "somebody may have moved"
    router = [swarms.with_mac(h, name, "00:00:5e:00:01:07") for h, name in zip(at_once, "cde", strict=True)]
    router[1] = swarms.with_mac(router[1], "old", "00:00:5e:00:01:07")
    assert "OVL302" not in scanned(*router), "a virtual router is on several hosts on purpose"


def test_healthy_hosts_say_nothing() -> None:
    assert scanned(node(1), node(2), node(3)) == {}
    assert HOSTS == ("one", "two", "three") and TARGET == "10.0.0.3"
