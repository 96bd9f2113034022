"""Real packets: the prober alone, in labs. The table is the truth per direction; nothing else of pathfit is asked."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import msgspec
import pytest

from pathfit.core.evidence import HopsFact, ProbeResult, TrialFact
from pathfit.core.request import Measure, MeasureHops, TryFix
from pathfit.lab import lab as labs
from pathfit.lab import reader
from pathfit.measure.place import accused
from pathfit.probe.target import measure
from pathfit.probe.tcp.hops import measure_hops
from pathfit.probe.tcp.trial import try_fix

pytestmark = [pytest.mark.lab, pytest.mark.skipif(os.geteuid() != 0, reason="needs root, or a user namespace")]


@contextmanager
def scene(name: str) -> Iterator[tuple[labs.Lab, int, str, int, str, str]]:
    """A lab that is up: (lab, namespace, address, port, protocol, path)."""
    scenario = reader.load(name)
    with labs.Lab.up(scenario) as lab:
        scheme, mark, _rest = lab.target().partition("://")
        url = urlsplit(lab.target() if mark else f"//{scheme}")
        where = lab.where(scenario.ask.source).removeprefix("netns:")
        fd = os.open(f"/run/netns/{where}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            yield lab, fd, url.hostname or "", url.port or 0, scheme if mark else "any", url.path or "/"
        finally:
            os.close(fd)


def ask(fd: int, address: str, port: int, protocol: str, path: str, **more: object) -> ProbeResult:
    request = Measure(
        ref="m", source="x", address=address, port=port, protocol=protocol, path=path, host=address, **more
    )  # type: ignore[arg-type]
    result = measure(fd, request)
    assert isinstance(result, ProbeResult), result
    return result


HOLE, OPEN = "hole", "open"
TABLE = {
    # scenario: (reverse passes, hole?), (forward passes, hole?)
    "healthy": ((1500, OPEN), (1500, OPEN)),
    "v6-healthy": ((1500, OPEN), (1500, OPEN)),
    "healthy-custom-mtu": ((1396, OPEN), (1396, OPEN)),
    "healthy-jumbo": ((8900, OPEN), (8900, OPEN)),
    "healthy-clamp-constant": ((1400, OPEN), (1400, OPEN)),
    "healthy-small-certificate": ((1500, OPEN), (1500, OPEN)),
    "healthy-syn-cookies": ((1500, OPEN), (1500, OPEN)),
    "healthy-no-timestamps": ((1500, OPEN), (1500, OPEN)),
    "healthy-offloads-on": ((1500, OPEN), (1500, OPEN)),
    "uplink-1420-untold": ((1420, HOLE), (1420, HOLE)),
    "inbound-only": ((1400, HOLE), (1500, OPEN)),
    "both-ways-different": ((1400, HOLE), (1450, HOLE)),
    "silent-way-back-only": ((1400, HOLE), (1500, OPEN)),
    "silent-veth-half": ((1404, HOLE), (1404, HOLE)),
    "clamp-on-syn-ack-only": ((1400, HOLE), (1400, OPEN)),
    "pmtud-works": ((1412, HOLE), (1412, HOLE)),
    "header-and-body-apart": ((1460, HOLE), (1460, HOLE)),
    "small-certificate-large-page": ((1412, HOLE), (1412, HOLE)),
    "limit-576": ((576, HOLE), (576, HOLE)),
    "jumbo-one-byte-short": ((8999, HOLE), (8999, HOLE)),
    "v6-vxlan-bridged": ((1450, HOLE), (1450, HOLE)),
    "v6-upload-hole": ((1500, OPEN), (1420, HOLE)),
    "v6-too-big-filtered-at-server": ((1400, HOLE), (1400, HOLE)),
    "vxlan-1500": ((1450, HOLE), (1450, HOLE)),
    "wan-hole": ((1400, HOLE), (1500, OPEN)),
    "lossy-hole": ((1420, HOLE), (1420, HOLE)),
}


TOLD = {"pmtud-works"}


@pytest.mark.parametrize("name", TABLE)
def test_truth_per_direction(name: str) -> None:
    with scene(name) as (_, fd, address, port, protocol, path):
        r = ask(fd, address, port, protocol, path)
        for bracket, (passes, state) in zip((r.reverse[0], r.forward[0]), TABLE[name], strict=True):
            assert bracket.grade in ("proof", "told", "step"), bracket
            assert bracket.passes == passes, bracket
            # A sender that is told at once keeps its segments small before we can see a larger one fail.
            learned = name in TOLD and bracket.note == "capped"
            assert bracket.fails == (passes + 1 if state is HOLE and not learned else None), bracket
        assert not _exceptions(fd)  # trap 1: measuring leaves no path MTU behind


def _exceptions(fd: int) -> str:
    """Cached path MTUs of the namespace."""
    out = ""
    for family in ("-4", "-6"):
        command = ["nsenter", f"--net=/proc/{os.getpid()}/fd/{fd}", "ip", family, "route", "show", "cache"]
        out += subprocess.run(command, capture_output=True, text=True, check=False).stdout
    return "\n".join(line for line in out.splitlines() if " mtu " in line)


def test_syn_cookies_give_a_true_bracket() -> None:
    with scene("hole-behind-syn-cookies") as (_, fd, address, port, protocol, path):
        b = ask(fd, address, port, protocol, path).reverse[0]
        assert b.passes is not None and b.fails is not None and b.passes <= 1400 < b.fails


def test_one_bad_backend_is_uneven() -> None:
    with scene("one-bad-backend") as (_, fd, address, port, protocol, path):
        r = ask(fd, address, port, protocol, path)
        assert r.uneven is not None and r.uneven.size == 1500 and r.reverse[0].fails is None


CONTACT = {
    "closed-port": {"tcp": "refused", "error": "ECONNREFUSED"},
    "reset-on-client-hello": {"tcp": "reset"},
    "firewall-drop": {"tcp": "timeout"},
    "reject-admin-prohibited": {"tcp": "unreachable"},
    "no-route-in-container": {"tcp": "unreachable", "error": "ENETUNREACH"},
    "target-silent": {"tcp": "ok", "tls": "stalled", "acked": True, "answered": 0},
    "http-500": {"tcp": "ok", "http": "500"},
    "tls-alert-at-once": {"tcp": "ok", "tls": "failed", "alert_kind": "alert"},
    "healthy-banner-only": {"tcp": "ok", "protocol": "tcp"},
}


@pytest.mark.parametrize("name", CONTACT)
def test_how_the_client_fares(name: str) -> None:
    with scene(name) as (_, fd, address, port, protocol, path):
        r = ask(fd, address, port, protocol, path)
        got = {k: getattr(r.contact, k) for k in CONTACT[name]}
        assert got == CONTACT[name]
        assert not any(b.fails for b in r.reverse), "no answer is no hole"


def test_where_and_whether_a_repair_would_do() -> None:
    with scene("uplink-1420-untold") as (_, fd, address, port, _, _):
        hops = measure_hops(fd, MeasureHops(ref="h", source="x", address=address, port=port, small=560, large=1500))
        assert isinstance(hops, HopsFact) and accused(hops.hops) == 2  # behind the host, on the way to r
        for mss, ok in ((1380, True), (1381, False)):
            trial = try_fix(
                fd,
                TryFix(ref="t", source="x", address=address, port=port, protocol="https", mss=mss, path="/200000"),
            )
            assert isinstance(trial, TrialFact) and trial.ok is ok, trial
            assert not ok or trial.body == 200_000


AS_NOBODY = """
import sys
import msgspec
from pathfit.core.request import Measure
from pathfit.probe.target import measure
print(msgspec.json.encode(measure(None, msgspec.json.decode(sys.argv[1], type=Measure))).decode())
"""
NOT_ASKED = None  # trap 1: behind a hole inwards nothing is sent that could teach our kernel a path MTU
UNPRIVILEGED = {
    # scenario: (reverse passes, hole?), (forward passes, hole?), forward's grade
    "healthy": ((1500, OPEN), (1500, OPEN), "proof"),
    "v6-healthy": ((1500, OPEN), (1500, OPEN), "proof"),
    "healthy-jumbo": ((8900, OPEN), (8900, OPEN), "proof"),
    "upload-too-big-dropped-at-host": ((1500, OPEN), (1400, HOLE), "proof"),
    "v6-upload-hole": ((1500, OPEN), (1420, HOLE), "proof"),
    "inbound-only": ((1400, HOLE), NOT_ASKED, None),
    "both-ways-different": ((1400, HOLE), NOT_ASKED, None),
    "silent-veth-half": ((1404, HOLE), NOT_ASKED, None),
    "uplink-1420-untold": ((1420, HOLE), NOT_ASKED, None),
    "limit-576": ((576, HOLE), NOT_ASKED, None),
}


@pytest.mark.real_root
@pytest.mark.parametrize("name", UNPRIVILEGED)
def test_an_ordinary_user_measures_both_directions(name: str) -> None:
    """Without any capability; what our kernel may have learned is said."""
    reverse, forward, grade = UNPRIVILEGED[name]
    with scene(name) as (lab, fd, address, port, protocol, path):
        request = Measure(ref="m", source="x", address=address, port=port, protocol=protocol, path=path, host=address)  # type: ignore[arg-type]
        nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all"]
        argv = [*nobody, "--inh-caps=-all", sys.executable, "-c", AS_NOBODY, msgspec.json.encode(request).decode()]
        done = lab.run(lab.scenario.ask.source, argv)
        assert done.returncode == 0, done.stderr
        r = msgspec.json.decode(done.stdout, type=ProbeResult)
        expected = [(r.reverse[0], *reverse)]
        if forward is NOT_ASKED:
            assert not r.forward
        else:
            assert (r.forward[0].method, r.forward[0].grade) == ("tcp-segments", grade)
            expected.append((r.forward[0], *forward))
        for bracket, passes, state in expected:
            assert (bracket.passes, bracket.fails) == (passes, passes + 1 if state is HOLE else None), bracket
        assert not _exceptions(fd), "nothing is left in the source's namespace"
        assert not [s for s in r.side_effects if s.where == "here"]


def test_patience_sees_the_rescue() -> None:
    """tcp_mtu_probing of the sender: seconds late, in smaller segments (MTU119)."""
    with scene("rescued-late-by-mtu-probing") as (_, fd, address, port, protocol, path):
        r = ask(fd, address, port, protocol, path, patient=8.0)
        assert r.reverse[0].fails is not None
        assert r.rescued_after is not None and 1.4 < r.rescued_after < 8.0
        assert r.rescued_size is not None and r.rescued_size <= (r.reverse[0].passes or 0)
