"""Labs of tests/accept inside guests: on Debian's 6.1 and 6.12, all of pathfit, from the hang to the repair and back.

Their time is not judged (Python is seven times slower there, and the machine may be busy), all else is, to the byte.
"""

import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import vm

pytestmark = [pytest.mark.slow, pytest.mark.lab]

HERE = Path(__file__).parent
ACCEPT = HERE.parent / "accept"
SECONDS = 50  # what pathfit may take
LIMIT = 300  # seconds after which a command of pathfit's hangs; tests/accept/run says 60
WRAPPER = f"""#!/bin/sh
verb=$1; shift
case $verb in diagnose | fix) set -- --timeout {SECONDS} "$@" ;; esac
exec {vm.CHECKOUT}/.venv/bin/pathfit "$verb" "$@"
"""
# The case of tests/accept or of this folder, whose expectations say nothing of time. What curl is asked for, with
# seconds for it, may take longer: it is asked again. (:20FB is port 8443, 0A that it listens; each process that looks
# takes from the server that is awaited.)
UNTIMED = """. {case}
timeout() {{ shift 3; command timeout -k 3 {limit} "$@"; }}
up8443() {{ in_ "$1" bash -c 'until grep -q ":20FB 0*:0000 0A" /proc/net/tcp /proc/net/tcp6; do sleep .2; done'; }}
for what in truth cured; do
  eval "once_$(declare -f $what)"; eval "$what() {{ for _ in {{1..8}}; do once_$what && return; done; return 1; }}"
done
untimed() {{ sed -E 's/"ms":[0-9]+,?//; s/^\\{{/{{"ms":600000,/' <<<"$1"; }}
EXPECT=$(untimed "$EXPECT")
[ -z "$EXPECT_BLIND" ] || EXPECT_BLIND=$(untimed "$EXPECT_BLIND")
"""
BOTH = vm.SERIES
OLD, NEW = vm.SERIES
LABS = (  # case, what of it pathfit sees, whether it is repaired and undone, on which kernels: each takes half a minute
    ("a2-healthy", "open", False, (OLD,)),
    ("a1-uplink-1420", "blind", False, (OLD,)),
    ("a4-vxlan-1500", "blind", False, (NEW,)),
    ("outbound-1400", "open", False, (NEW,)),
    ("wireguard-1500", "open", False, BOTH),
    ("geneve-1500", "open", True, BOTH),
)


@pytest.fixture(scope="module")
def equipped(guests: dict[str, vm.Guest], tmp_path_factory: pytest.TempPathFactory) -> dict[str, vm.Guest]:
    """With what the labs need from outside: certificates, whose keys take a minute to make in there."""
    words = [
        "bash",
        "-c",
        f"P=none LAB_TMP=$1; cd {ACCEPT} && . ./kit.sh && pki",
        "bash",
        str(tmp_path_factory.mktemp("kit")),
    ]
    subprocess.run(words, check=True, timeout=vm.PATIENCE)
    for guest in guests.values():
        (guest.folder / "pathfit").write_text(WRAPPER)
        (guest.folder / "pathfit").chmod(0o755)
        for name, *_ in LABS:
            case = next(x for x in (ACCEPT / f"cases/{name}.sh", HERE / f"cases/{name}.sh") if x.exists())
            (guest.folder / f"{name}.sh").write_text(UNTIMED.format(case=case, limit=LIMIT))
    return guests


@pytest.fixture(scope="module")
def said(equipped: dict[str, vm.Guest]) -> dict[tuple[str, str], vm.Done]:
    """What every lab said: one after the other on each kernel, both kernels at once."""

    def lane(series: str) -> dict[tuple[str, str], vm.Done]:
        found = {}
        for name, mode, cured, _ in (lab for lab in LABS if series in lab[3]):
            words = f"cd {ACCEPT} && CURE={'1' if cured else ''} KEEP=/out PATHFIT=/out/pathfit MODES={mode}"
            found[series, name] = equipped[series].run(f"{words} ./run /out/{name}.sh", check=False)
        return found

    with ThreadPoolExecutor() as pool:
        return {key: done for one in pool.map(lane, equipped) for key, done in one.items()}


def test_both_kernels_have_as_much_to_do() -> None:
    assert len({sum(series in lab[3] for lab in LABS) for series in vm.SERIES}) == 1


CASES = [(series, *lab[:3]) for lab in LABS for series in lab[3]]


@pytest.mark.parametrize(("series", "name", "mode", "cured"), CASES, ids=[f"{x[1]}-{x[0]}" for x in CASES])
def test_a_lab_is_judged_as_here(
    said: dict[tuple[str, str], vm.Done], series: str, name: str, mode: str, cured: bool
) -> None:
    done = said[series, name]
    assert done.status == 0, done.out + done.err
    assert f"{name} {mode}: right" in done.out
    assert (f"{name} {mode} cured and undone" in done.out) is cured
