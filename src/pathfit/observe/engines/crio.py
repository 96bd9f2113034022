"""cri-o by its files alone: RUNROOT/overlay-containers/ID/userdata has config.json and pidfile of each container.

RUNROOT is /run/containers/storage, or what the command line (``--runroot``) or /etc/crio/crio.conf says. It may be
Podman's as well: cri-o's own are those with its annotations. Networks are CNI's (ocicni).
"""

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress

from msgspec.structs import replace

from pathfit.core.engine import Container, Engine
from pathfit.core.evidence_base import Missing
from pathfit.host import clock, within
from pathfit.observe import processes
from pathfit.observe.engines import cni, cri
from pathfit.observe.engines.daemons import Daemon, Homes, option
from pathfit.observe.engines.parse import MANY, table, text
from pathfit.observe.processes import argv_of

PROCESSES = ("crio",)
CONFIG = "/etc/crio/crio.conf"
MORE = "/etc/crio/crio.conf.d"
RUNROOT = "/run/containers/storage"
CONTAINERS = "overlay-containers"  # of the storage driver that everybody has (containers/storage)
TEXT = 1 << 20  # bytes of a configuration
FILES = 64  # of MORE


def found(seen: Mapping[str, Sequence[int]]) -> Iterator[Daemon]:
    """Every cri-o that runs."""
    for pid in seen.get("crio", ()):
        root, argv = processes.root_of(pid), argv_of(pid)
        told = (option(argv, "--runroot") or [_setting(root, "runroot")])[-1]
        state = told if told.startswith("/") else RUNROOT
        here, user = processes.namespace_of(pid), processes.user_of(pid)
        yield Daemon("cri-o", "", "", pid, root, argv, here, (), user, state)


def _setting(root: str | None, key: str, *, section: str = "") -> str:
    """What its configuration says of ``[crio]`` or a part of it; a later file counts (crio.conf.d)."""
    paths = [CONFIG]
    with suppress(OSError, ValueError):
        paths += [f"{MORE}/{name}" for name in within.listed(root, MORE)[:FILES]]
    value = ""
    for path in paths:
        try:
            told = table(tomllib.loads(within.read(root, path, TEXT).decode()).get("crio"))
        except (OSError, ValueError, RecursionError):
            continue
        value = text((table(told.get(section)) if section else told).get(key), 4096) or value
    return value


def read(daemon: Daemon, homes: Homes, budget: float) -> Engine | Missing:
    """In at most ``budget`` seconds. Never raises."""
    end = clock.now() + budget
    folder = f"{daemon.state}/{CONTAINERS}"
    try:
        names = within.listed(daemon.root, folder)
    except (OSError, ValueError) as e:
        return cri.closed(daemon, folder, getattr(e, "strerror", None) or str(e))
    attached = cni.attachments(daemon)
    devices = cri.attached(attached)
    containers: list[Container] = []
    missing: tuple[Missing, ...] = ()
    for one in names:
        if clock.now() > end or len(containers) >= MANY:
            what = f"more of cri-o's containers in {folder}"
            missing = (Missing(what=what, why="no time was left", how="crictl ps", code="limit"),)
            break
        where = f"{folder}/{one}/userdata"
        try:
            bundle = cri.bundle(daemon, one, f"{where}/config.json", f"{where}/pidfile")
        except OSError:
            continue  # it ended, or it is Podman's, which keeps this file elsewhere
        if cri.CRIO.kind in bundle.spec.annotations:
            containers.append(cri.container(daemon, bundle, cri.CRIO, devices, homes))
    configs = _setting(daemon.root, "network_dir", section="network") or cni.CONFIGS
    networks = cni.joined(cni.networks(daemon, configs), attached) if containers else ()
    engine = daemon.engine()
    return replace(
        engine, containers=tuple(containers), networks=cri.with_members(networks, containers), missing=missing
    )
