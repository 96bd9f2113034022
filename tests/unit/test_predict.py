"""`predict`: what each direction comes to, the exit status, what if, and what it says when it cannot."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import topo
from msgspec.structs import replace
from test_model_join import node, overlay
from test_model_walk import HOST, chain

from pathfit.cli.app import run
from pathfit.cli.stop import Stop
from pathfit.core.engine import Container, Engine
from pathfit.core.filters import Clamp, Match, Table, Verdict
from pathfit.core.snapshot import HostSnapshot
from pathfit.host import whole
from pathfit.observe import recorded

VETH = """
c eth0 1500 198.18.1.2/24 -- h vc 1300 @br0
h br0 bridge 1500 198.18.1.1/24
h eth0 phys 1500 198.18.2.2/24
c route default via 198.18.1.1
h route default via 198.18.2.1
h forward
"""
HONEST = HOST.replace("c eth0 1500", "c eth0 1400").replace("s eth0 1500", "s eth0 1400")
LOST = chain("output", (Match(field="icmptype", values=("3",)), Verdict(kind="drop")))
CLAMP = chain("forward", (Match(field="tcpflags", values=("syn/syn,rst",)), Clamp(size=1360)))


def hosts(text: str, **tables: Table) -> tuple[HostSnapshot, ...]:
    return (topo.host(text, tables={ns: (table,) for ns, table in tables.items()}),)


CASES: dict[str, tuple[tuple[HostSnapshot, ...], str, str, tuple[str, int | None], tuple[str, int | None], int]] = {
    "as large as promised": (hosts(HONEST), "netns:c", "netns:s:443", ("fits", 1400), ("fits", 1400), 0),
    "its sender is told": (hosts(HOST), "netns:c", "198.18.3.2:443", ("told", 1400), ("told", 1400), 0),
    "too big does not get home": (hosts(HOST, r=LOST), "netns:c", "198.18.3.2:443", ("told", 1400), ("hole", 1400), 1),
    "both SYNs are clamped": (hosts(HOST, h=CLAMP), "netns:c", "198.18.3.2:443", ("fits", 1400), ("fits", 1400), 0),
    "a veth half of 1300": (hosts(VETH), "netns:c", "netns:h:443", ("hole", 1304), ("hole", 1304), 1),
    "a hole, and beyond it out of sight": (
        hosts(VETH), "netns:c", "192.0.2.1:443", ("hole", 1304), ("unknown", 1304), 1
    ),
    "out of sight": (
        hosts(VETH.replace("vc 1300", "vc 1500")), "netns:c", "192.0.2.1:443", ("unknown", 1500), ("unknown", 1500), 3
    ),
    "no route": (hosts("c eth0 1500 198.18.1.2/24 -- h vc 1500"), "netns:c", "192.0.2.1:443", ("lost", None),
                 ("unknown", None), 1),
    "another one's address": (
        (node("a", last=1), node("b", last=2)), "a!netns:c", "b!netns:c:443", ("lost", None), ("unknown", None), 1
    ),
    "over a wire": (
        (node("a", last=1), node("b", last=2)), "a!netns:h", "b!netns:h:443", ("unknown", 1500), ("unknown", 1500), 3
    ),
    "an overlay of two": (
        (overlay("a", 1, (2,)), overlay("b", 2, (1,))), "a!netns:c", "b!netns:c:443", ("unknown", 1450),
        ("unknown", 1450), 3,
    ),
    "a datagram": (hosts(HOST), "netns:c", "udp://198.18.3.2:53", ("told", 1400), ("told", 1400), 0),
}  # fmt: skip


@pytest.fixture
def files(tmp_path: Path) -> Any:
    def write(*them: HostSnapshot) -> list[str]:
        words = []
        for n, host in enumerate(them):
            whole.write(tmp_path / f"{n}.json", recorded.pack(host))
            words += ["--in", str(tmp_path / f"{n}.json")]
        return words

    return write


@pytest.mark.parametrize("case", CASES)
def test_what_each_direction_comes_to(case: str, files: Any, capsys: pytest.CaptureFixture[str]) -> None:
    them, source, target, forward, reverse, status = CASES[case]
    words = [*files(*them), "--from", source, "--to", target]
    assert run(["predict", *words, "--json"]) == status
    said = json.loads(capsys.readouterr().out)
    assert said["schema"] == "pathfit.report/1"
    got = [(said["predicted"][d]["state"], said["predicted"][d]["size"]) for d in ("forward", "reverse")]
    assert got == [forward, reverse]
    assert said["measured"]["addresses"] == [] and said["measured"]["forward"]["evidence"] == "none"
    for lang in ("en", "zh"):
        assert run(["predict", *words, "--lang", lang, "-v"]) == status
        assert "?" not in capsys.readouterr().out.replace("  ?\n", "\n")


def test_what_if(files: Any, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*files(*hosts(VETH)), "--from", "netns:c", "--to", "netns:h:443"]
    assert run(["predict", *words, "--set", "netns:h/vc.mtu=1500", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["verdict"] == "broken" and said["predicted"]["forward"]["state"] == "hole"
    assert said["what_if"]["set"] == ["netns:h/vc.mtu=1500"]
    now = said["what_if"]["predicted"]["forward"]
    assert (now["state"], now["size"]) == ("fits", 1500)
    run(["predict", *words, "--set", "netns:h/vc.mtu=1500"])
    shown = capsys.readouterr().out
    assert "was  1304 fit" in shown and "now  1500 fit" in shown and "with that: HEALTHY" in shown


@pytest.mark.parametrize(
    ("setting", "sizes"),
    [
        ("netns:c/eth0.mtu=1200", (1200, 1200)),  # c knows, and invites no more
        ("netns:c/route:default.mtu=1300", (1300, 1300)),
        ("netns:s/route:default.mtu=1280", (1280, 1280)),
        ("h!netns:s/eth0.mtu=1350", (1350, 1350)),
    ],
)
def test_settings_are_in_force(setting: str, sizes: tuple[int, int], files: Any, capsys: Any) -> None:
    run(["predict", *files(*hosts(HONEST)), "--from", "netns:c", "--to", "netns:s:443", "--set", setting, "--json"])
    now = json.loads(capsys.readouterr().out)["what_if"]["predicted"]
    assert (now["forward"]["size"], now["reverse"]["size"]) == sizes


def test_devices_on_top_follow_theirs(files: Any, capsys: Any) -> None:
    """vlan_device_event(): a VLAN device may not be larger than the one below it."""
    text = """
    a eth0 1500 -- b eth0 1500
    a eth0.7 vlan 1500 198.18.7.1/24 dev=eth0 vlan_id=7
    b eth0.7 vlan 1500 198.18.7.2/24 dev=eth0 vlan_id=7
    """
    words = ["--from", "netns:a", "--to", "netns:b:443", "--set", "netns:a/eth0.mtu=1400", "--json"]
    run(["predict", *files(topo.host(text)), *words])
    now = json.loads(capsys.readouterr().out)["what_if"]["predicted"]
    assert now["forward"]["size"] == 1400


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["--from", "netns:nobody", "--to", "netns:s:443"], 3, "netns:nobody is not in these snapshots"),
        (["--from", "netns:c", "--to", "https://example.org/"], 2, "no name is resolved"),
        (["--from", "netns:c", "--to", "netns:s:443", "--size", "0"], 2, "a packet of 0 bytes"),
        (["--from", "netns:c", "--to", "netns:s:443", "--set", "eth0.mtu=1400"], 2, "does not say where"),
        (["--from", "netns:c", "--to", "netns:s:443", "--set", "netns:c/eth0=1400"], 2, "is no setting"),
        (["--from", "netns:c", "--to", "netns:s:443", "--set", "netns:c/eth0.mtu=9999999"], 2, "an MTU of"),
        (["--from", "netns:c", "--to", "netns:s:443", "--set", "netns:c/eth9.mtu=1400"], 2, "no device eth9"),
        (["--from", "netns:c", "--to", "netns:s:443", "--set", "netns:c/route:192.0.2.0/24.mtu=1400"], 2, "no route"),
        (["--from", "netns:c", "--to", "198.18.3.2:443", "-6"], 2, "is not an IPv6 address"),
    ],
)
def test_what_cannot_be_asked(words: list[str], status: int, said: str, files: Any) -> None:
    with pytest.raises(Stop) as stop:
        run(["predict", *files(*hosts(HOST)), *words])
    assert (stop.value.status, said in stop.value.message) == (status, True), stop.value.message
    assert stop.value.how


def test_a_place_on_two_hosts_asks_which(files: Any) -> None:
    with pytest.raises(Stop, match="netns:c is in 2 places") as stop:
        run(["predict", *files(node("a", last=1), node("b", last=2)), "--from", "netns:c", "--to", "198.18.9.2:1"])
    assert stop.value.how == "--from a!netns:c   or   --from b!netns:c"


def test_containers_are_known_by_name_and_id(files: Any, capsys: Any) -> None:
    host = topo.host(HONEST)
    ident = "0123456789ab" + "0" * 52
    web = Container(id=ident, name="web", engine="docker", netns=host.namespaces[0].id)
    host = replace(host, engines=(Engine(kind="docker", socket="/run/docker.sock", containers=(web,)),))
    for word in ("container:web", "docker:web", "container:0123456789ab", f"container:{ident}", "h!container:web"):
        assert run(["predict", *files(host), "--from", word, "--to", "netns:s:443"]) == 0
        capsys.readouterr()
    with pytest.raises(Stop):
        run(["predict", *files(host), "--from", "podman:web", "--to", "netns:s:443"])


def test_a_damaged_file_among_others_is_told_and_left_out(files: Any, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "bad.json").write_bytes(b"{")
    words = [*files(*hosts(HONEST)), "--in", str(tmp_path / "bad.json"), "--from", "netns:c", "--to", "netns:s:443"]
    assert run(["predict", *words, "--json"]) == 0
    missing = json.loads(capsys.readouterr().out)["missing"]
    assert [m["what"] for m in missing] == [str(tmp_path / "bad.json")] and "not a pathfit document" in missing[0][
        "why"
    ]
    assert run(["predict", str(tmp_path), "--from", "netns:c", "--to", "netns:s:443"]) == 0
    assert "bad.json" in capsys.readouterr().out


def test_names_are_resolved_by_hand(files: Any, capsys: Any) -> None:
    words = ["--to", "https://db.example.org/", "--resolve", "db.example.org:198.18.3.2", "--from", "netns:c"]
    assert run(["predict", *files(*hosts(HONEST)), *words]) == 0
    assert "198.18.3.2" in capsys.readouterr().out


# -- what it looks like ----------------------------------------------------------------------------------------------

GOLDEN = Path(__file__).parents[1] / "golden"
HOLE = ("netns:c", "netns:h:443", "--set", "netns:h/vc.mtu=1500")
TEXTS: dict[str, tuple[tuple[HostSnapshot, ...], tuple[str, ...]]] = {
    "predict-told-80.txt": (hosts(HOST, h=CLAMP, r=LOST), ("netns:c", "198.18.3.2:443")),
    "predict-what-if-80.txt": (hosts(VETH), HOLE),
    "predict-what-if-zh-80.txt": (hosts(VETH), (*HOLE, "--lang", "zh")),
    "predict-hosts-80.txt": ((overlay("a", 1, (2,), mtu=1500), overlay("b", 2, (1,), mtu=1500)),
                             ("a!netns:c", "b!netns:c:443", "-v")),
}  # fmt: skip


@pytest.mark.parametrize("name", TEXTS)
def test_golden(name: str, files: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """PATHFIT_GOLDEN=write makes the files anew; the difference is then reviewed, not believed."""
    them, (source, target, *more) = TEXTS[name]
    run(["predict", *files(*them), "--from", source, "--to", target, "--lang", "en", *more])
    found = capsys.readouterr().out
    if os.environ.get("PATHFIT_GOLDEN") == "write":
        (GOLDEN / name).write_text(found, encoding="utf-8")
    assert found == (GOLDEN / name).read_text(encoding="utf-8")
