"""One dockerd, read: its API by GETs alone, its configuration as text, its command line.

State.Pid is a number in dockerd's own pid namespace and SandboxKey a path in its mount namespace, so a container's
namespace is found by the nsfs file at SandboxKey as dockerd sees it, and checked by being one; only where there is
none (``--network host``) by the process. Our number of that process is the one which lives in that namespace and has
the container's id in its cgroup path.

An overlay of a swarm has a namespace of its own on every node with a member, where its bridge and VXLAN device are:
the file EXEC-ROOT/netns/N-ID, with the first ten characters of the network's id (libnetwork, overlay driver,
initSandbox(); osl.GenerateKey()).
"""

import os
import re

import msgspec
from msgspec.structs import replace

from pathfit.core.engine import Container, Engine, EngineNetwork
from pathfit.core.evidence_base import AS_ROOT, Missing
from pathfit.host import procfs, within
from pathfit.host.unixhttp import Client, Late
from pathfit.observe import discover
from pathfit.observe.engines import answers, daemons, parse, spaces, surroundings
from pathfit.observe.engines.daemons import CONFIG, Daemon, Homes, option
from pathfit.observe.engines.parse import number, rows, table, text
from pathfit.wire.daemonjson import mtu_of

TEXT = 1 << 20  # bytes of a configuration file
INSPECTED = 128  # containers looked at one by one; each costs dockerd and us about half a millisecond
RUNS = ("running", "paused")
OVERLAYS = 64  # looked at one by one for the hosts that are members
EXEC_ROOT = "/var/run/docker"
LIBPOD = "Libpod/"  # how Podman's service calls itself where it stands in for Docker's
_UNIT = re.compile(r"/([^/\n]+\.service)(?:/|$)", re.MULTILINE)


def read(daemon: Daemon, homes: Homes, budget: float) -> Engine | Missing:
    """Everything a rule or a remedy asks of one engine, in at most ``budget`` seconds. Never raises."""
    engine = _outside(daemon)
    try:
        with Client(daemon.path, daemons.patience(daemon, budget)) as client:
            found = _ask(client, engine, daemon, homes)
        daemons.answered(daemon, in_time=True)
        return found
    except (ConnectionRefusedError, FileNotFoundError):
        return _missing(daemon, "nobody answers at its socket", "absent")
    except PermissionError:
        return _missing(daemon, "its socket is not ours to use", "permission")
    except Late as e:
        daemons.answered(daemon, in_time=False)
        return _missing(daemon, str(e), "timeout")
    except OSError as e:
        return _missing(daemon, e.strerror or str(e), "absent")
    except ValueError as e:
        return _missing(daemon, str(e), "malformed")


def _missing(daemon: Daemon, why: str, code: str) -> Missing:
    if code == "permission":
        how = AS_ROOT if os.geteuid() else f"ls -l {daemon.socket}"
    else:
        how = f"docker -H unix://{daemon.socket} info"
    return Missing(what=f"{daemon.kind} at {daemon.socket}", why=why, how=how, code=code)


# --- its API ---------------------------------------------------------------------------------------------------------


def _ask(client: Client, engine: Engine, daemon: Daemon, homes: Homes) -> Engine:
    """Raises OSError, Late, ValueError only as long as nothing is known of it.

    /version and /info cost dockerd four milliseconds each (they run other programs), so the version is taken from the
    header of an answer, and /info is asked only where it may say something.
    """
    answer = client.get("/networks")
    if answer.server.startswith(LIBPOD):
        from pathfit.observe.engines import podman

        return podman.asked(client, replace(engine, kind="podman"), daemon, homes)
    listed = rows(answers.decoded(answer.body)) if answer.status == 200 else []
    engine = replace(engine, version=answer.server.partition("/")[2].partition(" ")[0])
    missing: list[Missing] = []
    containers: tuple[Container, ...] = ()
    stays = False
    try:
        stays = _may_live_restore(engine) and table(answers.document(client, "/info")).get("LiveRestoreEnabled") is True
        containers = tuple(
            parse.container(x, engine.kind) for x in rows(answers.document(client, "/containers/json?all=1"))
        )
        containers, left_out = _inspected(client, containers, daemon, homes)
        missing += left_out
    except (OSError, ValueError) as e:
        code = "timeout" if isinstance(e, Late) else "malformed" if isinstance(e, ValueError) else "absent"
        missing.append(_missing(daemon, getattr(e, "strerror", None) or str(e), code))
    members: dict[str, list[str]] = {}
    for one in containers:
        for endpoint in one.endpoints if one.state in RUNS else ():
            members.setdefault(endpoint.network, []).append(one.id)
    networks = tuple(parse.network(x, members.get(text(x.get("Id")), ())) for x in listed)
    networks = _overlays(client, networks, daemon, engine)
    live = next((n.mtu for n in networks if n.default), None)
    return replace(
        engine,
        networks=networks,
        containers=containers,
        live_restore=stays,
        mtu=live,
        mtu_from=_from(live, engine),
        missing=tuple(missing),
    )


def _overlays(
    client: Client, networks: tuple[EngineNetwork, ...], daemon: Daemon, engine: Engine
) -> tuple[EngineNetwork, ...]:
    """With the namespaces in which overlays hide on this host, and the hosts that are members of each."""
    if not any(n.driver == "overlay" for n in networks):
        return networks
    hidden = _hidden(daemon, _exec_root(engine))
    found: list[EngineNetwork] = []
    looked = 0
    for one in networks:
        if one.driver == "overlay":
            netns = hidden.get(one.id[:10], "")
            if netns and not one.nodes and looked < OVERLAYS:
                looked += 1
                one = _with_nodes(client, one)
            one = replace(one, netns=netns)
        found.append(one)
    return tuple(found)


def _with_nodes(client: Client, one: EngineNetwork) -> EngineNetwork:
    """With what only GET /networks/ID says. What goes wrong costs this alone, and the time that is left."""
    try:
        full = parse.network(table(answers.document(client, f"/networks/{one.id}")))
    except (OSError, ValueError):
        return one
    return replace(one, nodes=full.nodes, vnis=one.vnis or full.vnis)


def _exec_root(engine: Engine) -> str:
    """The folder below which libnetwork keeps namespaces, as the daemon sees it."""
    told = (option(engine.flags, "--exec-root") or [parse.configured(engine.config, "exec-root")])[-1]
    return told if told.startswith("/") else EXEC_ROOT


def _hidden(daemon: Daemon, exec_root: str) -> dict[str, str]:
    """Namespaces by the characters of a network's id in their file names."""
    folder = f"{exec_root}/netns"
    found: dict[str, str] = {}
    try:
        names = within.listed(daemon.root, folder)
    except (OSError, ValueError):
        return found
    for name in names:
        number_, dash, prefix = name.partition("-")
        if dash and number_.isdigit() and len(prefix) == 10 and (netns := spaces.at_path(daemon, f"{folder}/{name}")):
            found[prefix] = netns
    return found


def _may_live_restore(engine: Engine) -> bool:
    """Whether its configuration speaks of live-restore, so that the running daemon is worth asking."""
    return "live-restore" in (engine.config or "") or any(w.startswith("--live-restore") for w in engine.flags)


def _inspected(
    client: Client, containers: tuple[Container, ...], daemon: Daemon, homes: Homes
) -> tuple[tuple[Container, ...], list[Missing]]:
    """The containers with what only GET /containers/ID/json says; of those that run, at most INSPECTED. The others
    keep what the list says, and their namespaces are found by their processes' cgroups."""
    found: list[Container] = []
    looked = 0
    late: str | None = None
    for one in containers:
        if one.state in RUNS and looked < INSPECTED and late is None:
            looked += 1
            try:
                one = inspected(client, one, daemon, homes)
            except (OSError, ValueError) as e:  # it went meanwhile, or the budget did
                late = str(e) if isinstance(e, Late) else None
        found.append(one)
    if any(c.state in RUNS and not c.netns for c in found):
        found = _shared(_by_cgroup(found, daemon, homes))
    blind = sum(1 for c in found if c.state in RUNS and not c.netns)
    if not blind:
        return tuple(found), []
    why = late or "they were not found among the processes we see"
    return tuple(found), [_missing(daemon, f"the namespaces of {blind} containers: {why}", "limit")]


def inspected(client: Client, one: Container, daemon: Daemon, homes: Homes) -> Container:
    """One running container in full. Raises OSError, Late, ValueError."""
    raw = table(answers.document(client, f"/containers/{one.id}/json"))
    host = table(raw.get("HostConfig"))
    inner = number(table(raw.get("State")).get("Pid"), 1 << 22) or 0
    netns = spaces.namespace(daemon, text(table(raw.get("NetworkSettings")).get("SandboxKey"), 4096), inner)
    pid = spaces.process(daemon, one.id, netns, inner, homes)
    return replace(
        one,
        pid=pid,
        netns=netns,
        network_mode=text(host.get("NetworkMode")) or one.network_mode,
        restart_policy=text(table(host.get("RestartPolicy")).get("Name")),
        auto_remove=host.get("AutoRemove") is True,
    )


def _by_cgroup(containers: list[Container], daemon: Daemon, homes: Homes) -> list[Container]:
    """Those without a namespace get that of the process that has their id in its cgroup path, or the daemon's own."""
    seen: dict[str, tuple[str, int]] = {}
    for netns, pids in homes.items():
        for pid in pids[:1]:
            if (container := discover.container_of(pid)) is not None:
                seen.setdefault(container, (netns, pid))
    done = []
    for c in containers:
        if c.state in RUNS and not c.netns:
            netns, pid = seen.get(c.id, (daemon.namespace if c.network_mode == "host" else "", 0))
            c = replace(c, netns=netns, pid=pid)
        done.append(c)
    return done


def _shared(containers: list[Container]) -> list[Container]:
    """Those that live in another container's namespace (``--network container:ID``) get its namespace."""
    by_id = {c.id: c for c in containers}
    done = []
    for c in containers:
        owner = by_id.get(c.network_mode.removeprefix("container:")) if not c.netns else None
        done.append(replace(c, netns=owner.netns) if owner is not None and c.state in RUNS else c)
    return done


# --- beside its API --------------------------------------------------------------------------------------------------


def _outside(daemon: Daemon) -> Engine:
    """What its process and its files say."""
    path = (option(daemon.argv, "--config-file") or [CONFIG])[-1]
    config, error = _config(daemon, path) if daemon.pid else (None, None)
    how, unit = _restart(daemon)
    return replace(
        daemon.engine(),
        inner=surroundings.outlived(daemon.pid),
        main=surroundings.taken_along(daemon.pid),
        config_path=path,
        config=config,
        config_error=error,
        restart=how,
        unit=unit,
        network_mtu=parse.network_mtu(config, daemon.argv),
    )


def _config(daemon: Daemon, path: str) -> tuple[str | None, str | None]:
    """(text, why it cannot be understood). No file: (None, None)."""
    try:
        raw = daemon.read(path, TEXT + 1)
    except FileNotFoundError:
        return None, None
    except OSError as e:
        return None, e.strerror or str(e)
    if len(raw) > TEXT:
        return None, f"it is larger than {TEXT} bytes"
    try:
        found = raw.decode()
    except UnicodeDecodeError as e:
        return None, str(e)
    if not found.strip():
        return found, None  # as none to dockerd since 23; one of before has not read it (apply/unread.py)
    try:
        told = msgspec.json.decode(raw)
    except (msgspec.DecodeError, RecursionError) as e:
        return found, str(e)
    return found, None if isinstance(told, dict) else "it is no JSON object"


def _from(live: int | None, engine: Engine) -> str:
    flags = [number(v, parse.MOST) for v in option(engine.flags, "--mtu")]
    if live is not None and live in flags:
        return "flag"
    return "config" if live is not None and live == mtu_of(engine.config) else "default"


def _restart(daemon: Daemon) -> tuple[str, str]:
    """How to restart it, and the unit's name. Only a daemon of our own mount namespace is its init's to restart."""
    if daemon.root is None and daemon.pid:
        cgroups = procfs.maybe(f"/proc/{daemon.pid}/cgroup")
        units = _UNIT.findall(cgroups) if "/user@" not in cgroups else []  # a user's own manager is not systemctl's
        if units and os.path.isdir("/run/systemd/system"):
            return "systemctl", units[-1]
        started = procfs.maybe("/run/docker-ssd.pid", 32)  # start-stop-daemon's, Debian's /etc/init.d/docker
        if started == str(daemon.pid) and os.path.exists("/etc/init.d/docker"):
            return "service", "docker"
    return "argv", surroundings.unit(daemon.pid) if daemon.root is not None and daemon.pid else ""
