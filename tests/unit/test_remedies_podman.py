"""The repairs of Podman's and CNI's networks: every way their files can be, and the plan that is expected of it."""

import json
from typing import Any

import msgspec
import pytest
from cases import BLIND, case, hole, probe
from topo import host

from pathfit import diagnose
from pathfit.core.case import Case
from pathfit.core.change import RestartContainers, SetLinkMtu, WriteFile
from pathfit.core.engine import Container, Endpoint, Engine, EngineNetwork
from pathfit.core.finding import Finding, Fix
from pathfit.remedies.cni import with_mtu
from pathfit.remedies.jsontext import JsonError, put
from pathfit.words.render import by_hand, summary, title

LIMIT = 1420
HOLE = probe(reverse=(hole(LIMIT),))
CLIENT = ("/usr/bin/podman", "--root", "/srv/c", "--runroot", "/run/containers/storage", "--network-config-dir", "")
WEB_TEXT = '{\n     "name": "web",\n     "id": "77",\n     "driver": "bridge",\n     "dns_enabled": true\n}\n'
WEB = EngineNetwork(
    id="77", name="web", driver="bridge", bridge="br0", file="/etc/containers/networks/web.json", config=WEB_TEXT
)
LIST_TEXT = '{"cniVersion": "0.4.0", "name": "lab", "plugins": [{"type": "bridge"}, {"type": "portmap"}]}'
LAB = EngineNetwork(
    id="lab", name="lab", driver="bridge", bridge="br0", file="/etc/cni/net.d/1.conflist", config=LIST_TEXT
)
PODMAN0 = """
c eth0 1500 198.18.1.2/24 -- h vc 1500 @podman0
h podman0 bridge 1500 198.18.1.1/24
h eth0 phys 1500 198.18.2.2/24
c route default via 198.18.1.1
h route default via 198.18.2.1
h forward
"""
DEFAULT = EngineNetwork(id="podman", name="podman", driver="bridge", bridge="podman0", default=True)


def engine(network: EngineNetwork = WEB, kind: str = "podman", more: tuple[Container, ...] = (), **set_: Any) -> Engine:
    end = Endpoint(network=network.id, name=network.name, addresses=("198.18.1.2/24",), link="eth0")
    one = Container(id="c1", name="ci", engine=kind, netns="4:1", endpoints=(end,), pod=set_.pop("pod", ""))
    usual: dict[str, Any] = {"kind": kind, "socket": "", "netns": "4:2", "client": CLIENT if kind == "podman" else ()}
    return Engine(networks=(network,), containers=(one, *more), **{**usual, **set_})


def run(e: Engine, text: str = BLIND) -> Case:
    return case(msgspec.structs.replace(host(text), engines=(e,)), HOLE)


def findings(e: Engine, text: str = BLIND) -> dict[str, Finding]:
    return {f.code: f for f in diagnose.report(run(e, text)).findings}


def fixes(e: Engine, text: str = BLIND) -> dict[str, Fix]:
    return {x.id: x for x in findings(e, text)["MTU101"].fixes}


def told(network: EngineNetwork, text: str) -> EngineNetwork:
    return msgspec.structs.replace(network, config=text)


GUEST = Container(id="c2", name="side", engine="podman", netns="4:1", network_mode="container:")
ELSEWHERE = Container(id="c3", name="far", engine="podman", netns="4:9")
GONE = Container(id="c4", name="old", engine="podman", state="exited", netns="4:1")
ENDS = msgspec.structs.replace(GUEST, auto_remove=True)


def test_a_network_s_file_and_all_that_live_in_it() -> None:
    fix = fixes(engine(more=(GUEST, ELSEWHERE, GONE)))["podman-network-mtu"]
    new = WEB_TEXT.replace('{\n     "name"', '{\n     "options": {\n          "mtu": "1420"\n     },\n     "name"')
    restart = RestartContainers(engine="podman", client=CLIENT, network="web", mtu=LIMIT, containers=("c1", "c2"))
    assert fix.changes == (WriteFile(path=WEB.file, old=WEB_TEXT, new=new), restart)
    assert (fix.value, fix.effective, fix.applicability, fix.lasts) == (LIMIT, LIMIT, "disruptive", "permanent")
    assert fix.interrupts == ("container:ci", "container:side")
    podman = ("podman", "--root", "/srv/c")
    assert fix.commands == ((*podman, "stop", "side", "ci"), (*podman, "start", "ci", "side"))
    assert (fix.verify, fix.undo) == ("measured", (("pathfit", "fix", "--undo", "last"),))


@pytest.mark.parametrize("rootless", [None, 1000])
def test_a_name_that_is_an_option_is_not_typed(rootless: int | None) -> None:
    strange = msgspec.structs.replace(GUEST, id="2" * 64, name="--all")
    fix = fixes(engine(more=(strange,), rootless=rootless))["podman-network-mtu"]
    assert [c[-2:] for c in fix.commands] == [("2" * 64, "ci"), ("ci", "2" * 64)]


def test_an_option_that_is_there_is_changed_and_stays_a_string() -> None:
    old = WEB_TEXT.replace('"77",', '"77", "options": {"isolate": "true", "mtu": "1500"},')
    write = fixes(engine(msgspec.structs.replace(told(WEB, old), mtu=1500)))["podman-network-mtu"].changes[0]
    assert write == WriteFile(path=WEB.file, old=old, new=old.replace('"1500"', '"1420"'))


def test_a_network_that_compose_made_lasts_until_it_is_made_again() -> None:
    fix = fixes(engine(msgspec.structs.replace(WEB, compose_project="shop")))["podman-network-mtu"]
    assert (fix.applicability, fix.lasts) == ("disruptive", "recreate")


def test_the_default_network_gets_a_file() -> None:
    fix = fixes(engine(DEFAULT), PODMAN0)["podman-network-mtu"]
    write = fix.changes[0]
    assert isinstance(write, WriteFile)
    assert (write.path, write.old) == ("/etc/containers/networks/podman.json", None)
    made = json.loads(write.new)
    assert made["subnets"] == [{"subnet": "198.18.1.0/24", "gateway": "198.18.1.1"}]
    assert (made["options"], made["network_interface"]) == ({"mtu": "1420"}, "podman0")
    other = (*CLIENT[:-1], "/srv/networks")
    write = fixes(engine(DEFAULT, client=other), PODMAN0)["podman-network-mtu"].changes[0]
    assert isinstance(write, WriteFile) and write.path == "/srv/networks/podman.json"


def test_a_default_network_that_we_cannot_write_down_is_left_to_people() -> None:
    fix = fixes(engine(DEFAULT), PODMAN0.replace("198.18.1.1/24", "198.18.1.1/24 198.18.7.1/24"))["podman-network-mtu"]
    assert (fix.applicability, fix.changes) == ("manual", ())
    assert "other addresses" in (by_hand(fix) or "")


def test_with_the_cni_backend_it_is_the_plugin_s() -> None:
    write = fixes(engine(LAB))["podman-network-mtu"].changes[0]
    new = LIST_TEXT.replace('{"type": "bridge"}', '{"mtu": 1420, "type": "bridge"}')
    assert write == WriteFile(path=LAB.file, old=LIST_TEXT, new=new)


@pytest.mark.parametrize("kind", ["podman", "containerd"])
def test_where_the_file_says_it_by_now_the_container_is_older(kind: str) -> None:
    network = msgspec.structs.replace(WEB if kind == "podman" else LAB, mtu=1400)
    found = findings(engine(network, kind))
    older = found["CFG603"]
    assert (older.facts["case"], older.facts["wanted"], older.confidence) == ("network", 1400, "confirmed")
    assert "CFG603" in found["MTU101"].because and "CFG601" not in found
    assert "older" in summary(older)
    by_id = {x.id: x for x in found["MTU101"].fixes}
    if kind == "podman":
        fix = by_id["podman-restart"]
        assert [type(c) for c in fix.changes] == [RestartContainers]
        assert (fix.value, fix.applicability) == (1400, "disruptive")
    else:
        assert by_id["cni-container-anew"].applicability == "manual"
        assert by_id["cni-container-anew"].value == 1400


@pytest.mark.parametrize(
    ("engine_", "why"),
    [
        (engine(root="/proc/7/root"), "mount namespace"),
        (engine(more=(ENDS,)), "remove side"),
        (engine(told(WEB, WEB_TEXT.replace('"web"', '"shop"'))), "not the file"),
        (engine(told(WEB, WEB_TEXT.replace('"driver"', '"Options": {}, "driver"'))), '"Options" stands for'),
        (engine(msgspec.structs.replace(WEB, config=None)), "too large"),
        (engine(rootless=1000), "another user"),
    ],
    ids=["another root", "--rm", "another's file", "two spellings", "too large", "rootless"],
)
def test_what_is_not_ours_is_left_to_people(engine_: Engine, why: str) -> None:
    fix = fixes(engine_)["podman-network-mtu"]
    assert (fix.applicability, fix.changes, fix.verify) == ("manual", (), "")
    assert why in (by_hand(fix) or "")
    assert fix.untried == (engine_.rootless is not None)


def test_a_network_that_other_devices_make_has_no_such_repair() -> None:
    assert "podman-network-mtu" not in fixes(engine(msgspec.structs.replace(WEB, driver="macvlan")))
    assert "cni-network-mtu" not in fixes(engine(msgspec.structs.replace(LAB, driver="flannel"), "containerd"))
    assert "cni-network-mtu" not in fixes(engine(msgspec.structs.replace(LAB, file=""), "containerd"))


# -- CNI ------------------------------------------------------------------------------------------------------------


def test_a_conflist_and_the_devices_that_are_there() -> None:
    fix = fixes(engine(LAB, "containerd", pod="shop/web"))["cni-network-mtu"]
    write, *live = fix.changes
    new = LIST_TEXT.replace('{"type": "bridge"}', '{"mtu": 1420, "type": "bridge"}')
    assert write == WriteFile(path=LAB.file, old=LIST_TEXT, new=new)
    assert [(c.link, c.mtu) for c in live if isinstance(c, SetLinkMtu)] == [("eth0", 1420), ("vc", 1420), ("br0", 1420)]
    assert (fix.applicability, fix.lasts, fix.interrupts, fix.platform) == ("safe", "permanent", (), "containerd")
    assert title(fix, "en") != title(fix, "zh")


def test_below_1280_ipv6_goes_from_the_devices() -> None:
    state = msgspec.structs.replace(host(BLIND), engines=(engine(LAB, "containerd"),))
    report = diagnose.report(case(state, probe(reverse=(hole(1200),))))
    (fix,) = [x for x in report.findings[0].fixes if x.id == "cni-network-mtu"]
    assert (fix.applicability, fix.interrupts) == ("disruptive", ("netns:c IPv6", "netns:h IPv6"))


def test_of_cri_o_it_is_documented_and_not_tried() -> None:
    fix = fixes(engine(LAB, "cri-o", pod="shop/web"))["cni-network-mtu"]
    assert (fix.untried, fix.applicability, fix.interrupts) == (True, "manual", ("pod:shop/web",))
    assert fix.commands == (("kubectl", "-n", "shop", "delete", "pod", "web"),)
    assert '+{"cniVersion"' in fix.files[0].diff and "crio.conf" in fix.source


def test_a_member_that_is_not_visible_would_stay_larger() -> None:
    end = Endpoint(network="lab", name="lab", link="eth0")
    other = Container(id="c7", name="far", engine="containerd", netns="4:99", endpoints=(end,))
    fix = fixes(engine(LAB, "containerd", more=(other,)))["cni-network-mtu"]
    assert (fix.applicability, fix.changes) == ("manual", ())
    assert "different sizes" in (by_hand(fix) or "")


@pytest.mark.parametrize(
    ("text", "new"),
    [
        ('{"name": "lab", "type": "bridge"}', '{"mtu": 1400, "name": "lab", "type": "bridge"}'),
        ('{"name": "lab", "type": "bridge", "mtu": 9000}', '{"name": "lab", "type": "bridge", "mtu": 1400}'),
        (
            '{\n "name": "lab",\n "plugins": [\n  {\n   "type": "ptp"\n  }\n ]\n}\n',
            '{\n "name": "lab",\n "plugins": [\n  {\n   "mtu": 1400,\n   "type": "ptp"\n  }\n ]\n}\n',
        ),
    ],
    ids=["one plugin", "an MTU", "a list"],
)
def test_the_plugin_that_makes_the_device_gets_it(text: str, new: str) -> None:
    assert with_mtu(told(LAB, text), 1400) == new
    assert json.loads(new)["name"] == "lab"


@pytest.mark.parametrize(
    "text",
    [
        '{"name": "lab", "plugins": [',
        '{"name": "other", "plugins": [{"type": "bridge"}]}',
        '{"name": "lab", "plugins": {"type": "bridge"}}',
        '{"name": "lab", "plugins": []}',
        '{"name": "lab", "plugins": ["bridge"]}',
        '{"name": "lab", "plugins": [{"type": "bridge", "MTU": 1500}]}',
        '{"name": "lab", "Plugins": [{"type": "bridge"}]}',
        '{"name": "lab", "plugins": [{"type": "bridge"}, {"type": "tuning", "mtu": 1500}]}',
        "[]",
        "",
    ],
)
def test_a_configuration_we_do_not_understand_is_not_edited(text: str) -> None:
    with pytest.raises(JsonError):
        with_mtu(told(LAB, text), 1400)
    fix = fixes(engine(told(LAB, text), "containerd"))["cni-network-mtu"]
    assert (fix.applicability, fix.changes) == ("manual", ())
    assert by_hand(fix)


@pytest.mark.parametrize("text", ['{"a": [1, 2]}', '{"a": [{}]}', '{"a": {}}', '{"a": []}', "{}"])
def test_an_element_has_to_be_there(text: str) -> None:
    with pytest.raises(JsonError):
        put(text, ("a", 1, "b"), 7)


def test_only_that_element_changes() -> None:
    assert put('{"a": [{"b": "]"}, {"b": 1, "c": 2} ]}', ("a", 1, "b"), 7) == '{"a": [{"b": "]"}, {"b": 7, "c": 2} ]}'


# -- CFG601 ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("engine_", "text", "said"),
    [
        (engine(), BLIND, True),
        (engine(DEFAULT), PODMAN0, True),
        (engine(LAB, "containerd"), BLIND, True),
        (engine(), BLIND.replace("c eth0 1500", "c eth0 1480"), False),  # set by hand
        (engine(LAB, "containerd"), BLIND.replace("1500", "9000"), False),
        (engine(), BLIND.replace("1500", "9000"), True),  # netavark since 1.16: the way out's
        (engine(msgspec.structs.replace(LAB, driver="flannel"), "containerd"), BLIND, False),
        (engine(msgspec.structs.replace(WEB, mtu=1500)), BLIND, False),
    ],
)
def test_a_network_without_an_mtu_is_the_cause_where_that_is_certain(engine_: Engine, text: str, said: bool) -> None:
    found = findings(engine_, text)
    assert ("CFG601" in found) == said
    if said:
        assert found["CFG601"].facts["case"] == "unset"
