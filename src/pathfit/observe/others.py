"""Snapshots of other hosts, beside a live examination: opened within bounds for all of them together, and how old.

They come from strangers, and from another time. What cannot be opened, or would be too much, is told and left out; the
examination goes on without it.
"""

import os
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

from pathfit.core.evidence import FleetFact, OtherHost
from pathfit.core.evidence_base import Missing
from pathfit.core.snapshot import HostSnapshot
from pathfit.host.clock import wall
from pathfit.observe import recorded

MOST_HOSTS = 64  # beside one path; `scan --in` compares thousands
SKEW = 60.0  # seconds by which another host's clock may be ahead


def read(ref: str, paths: Sequence[str]) -> FleetFact:
    """The hosts in these files and folders, the newest of each. Never raises on what a file holds."""
    found: dict[tuple[str, str], OtherHost] = {}
    missing: list[Missing] = []
    room = recorded.MOST_MEMORY
    for path in _named(paths, missing):
        if len(found) >= MOST_HOSTS:
            missing.append(_left_out(path, f"more than {MOST_HOSTS} hosts: the rest is left out", "limit"))
            break
        try:
            data = recorded.text(path)
            room -= max(recorded.weight(data), len(data))
            if room < 0:
                most = recorded.MOST_MEMORY >> 20
                missing.append(_left_out(path, f"all files together would take more than {most} MB", "limit"))
                break
            host = recorded.decode(data)
        except recorded.OpenError as e:
            missing.append(_left_out(path, str(e), "malformed"))
            continue
        one = OtherHost(host=host, age=_age(host, path))
        key = (host.boot_id, host.host)
        if key not in found or _rank(one) < _rank(found[key]):
            found[key] = one
    return FleetFact(ref=ref, hosts=tuple(found.values()), missing=tuple(missing))


def _named(paths: Sequence[str], missing: list[Missing]) -> Iterator[Path]:
    for path in paths:
        try:
            files = recorded.files([path])
        except OSError as e:
            missing.append(_left_out(path, f"cannot be listed: {e.strerror}", "permission"))
            continue
        if not files:
            missing.append(_left_out(path, "no snapshot in it", "absent"))
        yield from files


def _left_out(path: str | Path, why: str, code: str) -> Missing:
    return Missing(what=str(path), why=why, how=shlex.join(["ls", "-l", str(path)]), code=code)


def _age(host: HostSnapshot, path: Path) -> float | None:
    """Seconds since it was taken: as it says itself, else since the file was last written. None where the clocks of
    the two hosts do not agree."""
    try:
        then = host.taken if host.taken is not None else os.stat(path).st_mtime
    except OSError:
        return None
    age = wall() - then
    return round(max(age, 0.0), 1) if age > -SKEW else None


def _rank(one: OtherHost) -> float:
    return one.age if one.age is not None else float("inf")
