"""Every repair is registered, said in both languages, and either done by apply/ or shown. The page is made from it:

.venv/bin/python tests/unit/test_remedies_known.py > docs/repairs.md
"""

import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import msgspec
import nodehosts
import pytest
import swarms
import test_kernels as kernels
import test_platform as platform
import test_remedies_docker as docker
import test_remedies_kubernetes as kubernetes
import test_remedies_nested as nested
import test_remedies_podman as podman
import test_remedies_tunnels as tunnels
import test_weave_paths as weave_paths
from cases import ADDRESS, BLIND, NARROW, PLAIN, case, drop, failed, hole, no_too_big, probe, table, untracked
from test_remedies import HOLE, UNREACHED

from pathfit import diagnose
from pathfit.core.case import Case
from pathfit.core.finding import Fix
from pathfit.remedies.known import KNOWN, UNTRIED, Known
from pathfit.render import json as shown
from pathfit.words.render import by_hand, title

PAGE = Path(__file__).parents[2] / "docs" / "repairs.md"
COMPOSE = msgspec.structs.replace(docker.FRONT, compose_project="shop")
CASES: tuple[Case, ...] = (
    case(BLIND, HOLE),
    case(BLIND, probe(reverse=(hole(1200),))),
    case(PLAIN + f"c cached {ADDRESS} 1400\n", probe()),
    case(PLAIN.replace("c route default via 198.18.1.1", "c route default via 198.18.1.1 mtu lock 1300"), probe()),
    case(NARROW, HOLE, tables={"s": (table("input", no_too_big(), name="noptb"),)}),
    case(PLAIN, failed("timeout"), tables={"h": (table("forward", drop()),)}),
    case(PLAIN + "h sysctl ipv4.conf.br0.rp_filter=1\nh route 198.18.1.2/32 via 198.18.2.1\n", failed("timeout")),
    case(PLAIN.replace("h forward\n", ""), failed("timeout")),
    case(PLAIN.replace("h eth0 1500", "h eth0 1500 off"), failed("timeout")),
    case(PLAIN + "c route blackhole 198.18.3.0/24\n", failed("unreachable", error="EINVAL")),
    case(PLAIN.replace("c route default via 198.18.1.1\n", ""), UNREACHED),
    case(nodehosts.neutron(1500, 8950, name="c", global_physnet_mtu=9000), HOLE),
    swarms.asked(swarms.stale(), failed("refused", rst_phase="syn")),
    swarms.asked((swarms.node(1), swarms.node(2), swarms.closed(3)), failed("timeout")),
    docker.run(docker.engine()),
    docker.run(docker.engine(docker.FRONT)),
    docker.run(docker.engine(COMPOSE)),
    docker.run(docker.engine(live_restore=True)),
    docker.run(docker.engine(config='{"mtu": 1400}', mtu=1400)),
    weave_paths.asked(weave_paths.weaving("sleeve"), "c", weave_paths.MATE, **weave_paths.SMALL),
    kernels.looked(812, 812),
    podman.run(podman.engine()),
    podman.run(podman.engine(rootless=1000)),
    podman.run(podman.engine(root="/proc/7/root")),
    podman.run(podman.engine(msgspec.structs.replace(podman.WEB, mtu=1400))),
    podman.run(podman.engine(podman.LAB, "containerd")),
    podman.run(podman.engine(podman.LAB, "containerd", root="/proc/7/root")),
    podman.run(podman.engine(podman.LAB, "cri-o", pod="shop/web")),
    podman.run(podman.engine(msgspec.structs.replace(podman.LAB, mtu=1400), "containerd")),
    nested.run(nested.inside(), nested.around()),
    nested.run(nested.inside(inner=False), nested.around()),
    *(nested.run(nested.inside(signs=(sign,)), nested.around()) for sign in nested.KNOWN),
    *(nested.run(nested.inside(signs=(sign,), network=docker.FRONT), nested.around()) for sign in nested.KNOWN),
    platform.asked_from_host(platform.fact("networkd", "/x/20-lan.network")),
    platform.asked_from_host(platform.fact("netplan")),
    platform.asked_from_host(platform.fact("networkmanager", platform.UUID, mtu=0)),
    platform.asked_from_host(platform.fact("networkmanager", platform.UUID, mtu=9000)),
    platform.asked_from_host(platform.fact("ifupdown", text=platform.STATIC)),
    *kubernetes.EXAMPLES,
    *tunnels.EXAMPLES,
)


@cache
def every() -> tuple[Fix, ...]:
    return tuple(_every())


def _every() -> Iterator[Fix]:
    watched = diagnose.report(case(PLAIN, failed("reset", rst_phase="request")), seen=untracked("outside"))
    for one in (*map(diagnose.report, CASES), watched):
        for finding in one.findings:
            yield from finding.fixes


def test_every_repair_is_registered_and_every_registered_one_has_an_example() -> None:
    assert {f.id for f in every()} == {k.id for k in KNOWN}


@pytest.mark.parametrize("known", KNOWN, ids=lambda k: k.id)
def test_a_repair_is_whole(known: Known) -> None:
    for fix in (f for f in every() if f.id == known.id):
        assert title(fix, "en", strict=True) and title(fix, "zh", strict=True)
        assert title(fix, "en") != title(fix, "zh")
        assert (by_hand(fix, "en", strict=True) is None) == (by_hand(fix, "zh", strict=True) is None)
        assert (fix.applicability == "manual") == (not fix.changes) == (fix.verify == ""), fix
        assert not known.by_hand or fix.applicability == "manual"
        assert fix.verify in ("measured", "state", "")
        assert (fix.applicability == "disruptive") <= bool(fix.interrupts)
        assert (fix.applicability == "safe") <= (not fix.interrupts)
        assert fix.commands or fix.files, "nothing to type"
        assert fix.undo or not fix.changes or fix.id == "flush-cache"
        assert fix.where is not None


def test_the_page_says_of_each_that_was_never_tried_that_it_was_not() -> None:
    tried = {f.id for f in every() if not f.untried}
    assert {k.id for k in KNOWN if k.undo == UNTRIED} == {k.id for k in KNOWN} - tried


@pytest.mark.parametrize("known", [k for k in KNOWN if not k.by_hand], ids=lambda k: k.id)
def test_what_pathfit_can_do_is_done_somewhere(known: Known) -> None:
    assert [f for f in every() if f.id == known.id and f.changes]


def test_the_json_has_every_key_of_the_contract() -> None:
    keys = ["id", "title", "platform", "value", "effective", "applicability", "lasts", "interrupts"]
    keys += ["commands", "hosts", "files", "undo", "proof", "by_hand", "untried", "source"]
    for one in CASES:
        for finding in shown.document(diagnose.report(one))["findings"]:
            assert all(list(x) == keys for x in finding["fixes"])


def test_a_manual_repair_comes_with_its_reason_where_it_could_have_been_otherwise() -> None:
    could = {k.id for k in KNOWN if not k.by_hand}
    assert all(by_hand(f) for f in every() if f.id in could and f.applicability == "manual")


HEAD = """# Repairs

This page is made from `src/pathfit/remedies/known.py`. A repair is proposed beside a finding (`pathfit diagnose`), and
done by `pathfit fix`. The first one of a finding is recommended: it helps *now* and interrupts nothing. The first one
that is permanent stands second in the report: *for good*. The value is the smallest of what was measured and what
every visible device on the way is set to.

* **safe** interrupts nothing. **disruptive** names what it interrupts and needs `--interrupt`. **manual** is shown,
  with the reason, and never done. A platform's setting counts as tried when the platform's own parser took it and the
  device then showed the MTU; every other one is manual, marked "not tried on a live system", with source and version.
* A trial comes before the proposal: the same connection, from the same namespace, with packets as the repair would
  allow them. It bounds both directions at one end, so it proves a route or a device; not a clamp on another box, and
  nothing for UDP.
* After the change the path is measured again. Where nothing was asked (`fix CODE --from WHERE`), only the values are
  checked.

| id | what it does | when it is proposed | undo |
|---|---|---|---|
"""
TAIL = """
Nothing is proposed where it could not work or where the ground is not certain: several routes that carry the flow, a
device that two managers claim, a file that would be read after ours, a network of macvlan.
"""


def page() -> str:
    rows = [f"| {k.id} | {k.does} | {k.when} | {k.undo} |\n" for k in KNOWN]
    return HEAD + "".join(rows) + TAIL


def test_the_page_is_what_the_registry_says() -> None:
    assert PAGE.read_text(encoding="utf-8") == page()


if __name__ == "__main__":
    print(page(), end="")
