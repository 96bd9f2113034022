"""Other makers' tunnels on this kernel: it shows a tun or tap device and nothing of what the tunnel takes. Measured to
the byte in both directions, against the kernel's own ping; the program that holds the device named, and the resemblance
said, behind that device; and what state cannot know is unknown."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from engine import required
from labhost import Lab, LabHost
from recipes.tunnels import OVS, PATHFIT, PROGRAMS, VPN, WG, Pair, Row, Whole, behind, fits, pathfit

pytestmark = [pytest.mark.slow, pytest.mark.lab]

ROWS = (*OVS, *WG, *VPN)
ATTEMPTS = 3  # a search disturbed by what Open vSwitch drops beside a packet too large says "unproven" now and then


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    """All tunnels of the table at once; devices of 1500, and OpenVPN told to leave TCP alone."""
    required(*PROGRAMS)
    with Lab() as lab:
        made = Pair(lab)
        made.open_ovs(OVS)
        made.open_wireguard(WG)
        made.open_vpn(VPN, "mssfix 0")
        for row in WG:
            assert made.mtu_of(row) == 1420, "its own default"
            made.mtu(row, 1500)
        yield made


def diagnosed(host: LabHost, where: str, target: str) -> dict[str, Any]:
    """The report, as soon as both directions were measured. Only what says itself that it is no proof is repeated."""
    report: dict[str, Any] = {}
    for _ in range(ATTEMPTS):
        report = json.loads(pathfit(host, "diagnose", "--from", where, "--to", target, "--json"))
        ways = [report["measured"][x] for x in ("forward", "reverse")]
        if all(w["evidence"] in ("proof", "step") for w in ways):
            break
    return report


def sizes(report: dict[str, Any]) -> list[tuple[int | None, int | None]]:
    return [(report["measured"][x]["pass"], report["measured"][x]["fail"]) for x in ("forward", "reverse")]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_what_fits_is_measured_to_the_byte(pair: Pair, row: Row) -> None:
    limited = row.fits < 1500
    pair.watch(drop=row.pieces)
    for host, far in ((pair.a, row.far), (pair.b, row.near)):
        assert fits(host, far, row.fits), "the kernel agrees"
        assert not limited or not fits(host, far, row.fits + 1), "and not a byte more"
    report = diagnosed(pair.a, behind(pair.a, f"c-{row.name}", row.number), row.url)
    first = report["findings"][0]
    assert report["predicted"]["forward"]["fate"] == "unknown"
    assert f"{row.name} (held by {row.program}[" in report["predicted"]["forward"]["why"]
    if not limited:
        assert (report["verdict"], sizes(report)) == ("healthy", [(1500, None)] * 2)
        return
    assert sizes(report) == [(row.fits, row.fits + 1)] * 2
    assert (report["verdict"], first["code"], first["confidence"]) == ("broken", "MTU101", "confirmed")
    assert [f["severity"] for f in report["findings"] if f["code"] == "MTU102"] == ["warning"], "one fault, one error"
    assert (first["where"][0]["netns"], first["where"][0]["link"]) == ("host", row.name)
    facts = first["facts"]
    assert (facts["beyond"], facts["device"], facts["resembles"]) == (True, row.device, row.like)
    assert facts["holder"].startswith(f"{row.program}[")


@pytest.mark.parametrize("row", [WG[0], VPN[0]], ids=lambda row: row.name)
def test_outer_fragments_that_arrive_are_no_fault(pair: Pair, row: Row) -> None:
    pair.watch()
    assert fits(pair.a, row.far, row.fits) and pair.pieces() == 0
    assert fits(pair.a, row.far, row.fits + 1) and pair.pieces() > 0
    report = diagnosed(pair.a, behind(pair.a, f"w-{row.name}", row.number + 100), row.url)
    assert (report["verdict"], sizes(report)) == ("healthy", [(1500, None)] * 2)


def test_the_machine_says_who_holds_what(pair: Pair) -> None:
    """No false alarm from state alone, and nothing predicted that only measurement can know."""
    a, where = pair.a, behind(pair.a, "asker", 200)
    scan = json.loads(pathfit(a, "scan", "--json", status=0))
    assert [f for f in scan["findings"] if f["severity"] == "error"] == []
    mapped = json.loads(pathfit(a, "map", "--json"))
    devices = {d["name"]: d for h in mapped["hosts"] for s in h["namespaces"] for d in s["devices"]}
    for row in ROWS:
        assert devices[row.name]["type"] == row.device
        assert devices[row.name]["holder"].startswith(f"{row.program}[")
    text = pathfit(a, "map")
    assert re.search(r"tap x\d+ +held by ovs-vswitchd\[", text) and re.search(r"tun .* held by openvpn\[", text)
    file = str(a.folder / "snapshot.json")
    a.call(str(PATHFIT), "snapshot", "-o", file, env=None)
    for row in (OVS[0], OVS[-1], WG[0], VPN[0]):
        said = json.loads(pathfit(a, "predict", "--in", file, "--from", where, "--to", f"{row.far}:8443", "--json"))
        assert (said["verdict"], said["predicted"]["forward"]["limits"]) == ("unknown", [])


@pytest.mark.parametrize("row", [OVS[0], WG[0], VPN[0]], ids=lambda row: row.name)
def test_between_both_ends_of_ours(row: Row) -> None:
    """Both ends on one host, their devices of one name: each has its own holder."""
    required(*PROGRAMS)
    with Lab() as lab:
        whole = Whole(lab)
        whole.open(row)
        report = diagnosed(whole.h, "netns:near", "netns:inner:8443")
        assert sizes(report) == [(row.fits, row.fits + 1)] * 2
        assert {report["measured"][x]["method"] for x in ("forward", "reverse")} == {"tcp-pair"}
        first = report["findings"][0]
        assert (report["verdict"], first["code"], first["confidence"]) == ("broken", "MTU101", "confirmed")
        assert (first["facts"]["resembles"], first["where"][0]["link"]) == (row.like, row.name)
        mapped = json.loads(pathfit(whole.h, "map", "--json"))
        held = [d["holder"] for h in mapped["hosts"] for s in h["namespaces"] for d in s["devices"] if d["holder"]]
        assert len(set(held)) == 2 and {x.partition("[")[0] for x in held} == {row.program}
