"""A container engine started again, and the containers that ran started again with it.

What was done is seen from what is: whether the daemon is another process than before, and for undoing whether its
default network has the MTU it had. So both are right after a crash anywhere between ending the old daemon and the
last container. Undone after the daemon's configuration file is as it was (:meth:`EngineRestart.late`).

A daemon in a container is ended like any other, and started again by the engine around it, which gives it the
namespaces, capabilities, filters and cgroups of that container (POST /containers/ID/exec).
"""

import errno
import time
from contextlib import suppress
from typing import NamedTuple

from pathfit.apply import unread
from pathfit.apply.dockerapi import PATIENCE as API_PATIENCE
from pathfit.apply.dockerapi import Api, NotFound, daemon_at
from pathfit.apply.step import Impossible
from pathfit.apply.store import boot_id
from pathfit.core.change import RestartEngine
from pathfit.core.engine import Engine
from pathfit.core.engined import EngineBefore, Startable
from pathfit.host import process
from pathfit.host.run import run
from pathfit.observe import processes
from pathfit.observe.engines import daemons, parse
from pathfit.observe.engines.daemons import Daemon
from pathfit.observe.engines.parse import number, table, text
from pathfit.observe.engines.surroundings import container_around, outlived

PATIENCE = 120.0  # seconds for a daemon to end its containers and itself, and for one to answer
ABSENT = 3.0  # seconds without its process, after which it is not waited for
LOOKING = 5.0  # seconds for an answer to a question whether it answers
INTO_LOG = 'exec "$@" >>/proc/1/fd/2 2>&1'
PAUSED = "paused"
RUNS = ("running", PAUSED)
LOOK = 0.02  # seconds between two looks whether it answers: nothing tells when a socket begins to listen


class EngineRestart:
    """Step of :class:`~pathfit.core.change.RestartEngine`."""

    lasting = True  # what the daemon read stays in force over a reboot, as long as its file says it

    def late(self, prepared: object) -> bool:
        return True

    def prepare(self, change: RestartEngine, tag: str) -> EngineBefore:
        daemon = _daemon(change)
        if daemon is None or not daemon.pid:
            raise Impossible(f"no {change.engine} runs at {change.socket}", f"ls -l {change.socket}")
        again = None
        if change.how == "argv":
            why = process.foreign(daemon.pid)
            if why:
                raise Impossible(f"the daemon is not ours to start again: {why}", f"ps -fp {daemon.pid}")
        elif change.how == "exec" and not outlived(daemon.pid):
            raise Impossible("the container would end with its daemon", f"ps -fp {daemon.pid}")
        if change.how in ("argv", "exec"):
            again = process.described(daemon.pid)
        unread.refuse(change, daemon)
        with _api(change) as api:
            _refuse(api)
            return EngineBefore(
                socket=change.socket,
                pid=daemon.pid,
                started=process.started(daemon.pid),
                boot=boot_id(),
                mtu=_mtu(api),
                running=_running(api),
                paused=_paused(api),
                again=again,
            )

    def perform(self, change: RestartEngine, prepared: EngineBefore, tag: str) -> None:
        daemon = _daemon(change)
        wanted = _Wanted(prepared.running, prepared.paused)
        if daemon is None or _same(daemon, prepared):
            wanted = _restart(change, prepared, daemon)
        _start(change, wanted)

    def undo(self, change: RestartEngine, prepared: EngineBefore, tag: str) -> None:
        daemon = _daemon(change)
        wanted = _Wanted(prepared.running, prepared.paused)
        if daemon is None or (not _same(daemon, prepared) and self._mtu(change) != prepared.mtu):
            wanted = _restart(change, prepared, daemon)
        _start(change, wanted)

    def holds(self, change: RestartEngine, prepared: EngineBefore) -> bool:
        daemon = _daemon(change)
        if daemon is None or _same(daemon, prepared):
            return False
        with _api(change) as api:
            return set(_existing(api, prepared.running)) <= set(_running(api))

    def _mtu(self, change: RestartEngine) -> int | None:
        with _api(change) as api:
            return _mtu(api)


def _daemon(change: RestartEngine) -> Daemon | None:
    return daemon_at(change.engine, change.socket, change.within)


def _api(change: RestartEngine, patience: float = API_PATIENCE) -> Api:
    return Api(change.engine, change.socket, patience, change.within)


def _refuse(api: Api) -> None:
    """Raises Impossible when a container would not be stopped but removed; the plan may be older than that one."""
    for one in _running(api):
        raw = api.container(one)
        if table(raw.get("HostConfig")).get("AutoRemove") is True:
            name = text(raw.get("Name")).removeprefix("/")
            raise Impossible(f"a restart would remove the container {name} (--rm)", f"docker stop {name}")


def _same(daemon: Daemon, before: EngineBefore) -> bool:
    """Is it the process that ran before?"""
    return daemon.pid == before.pid and process.started(daemon.pid) == before.started and boot_id() == before.boot


class _Wanted(NamedTuple):
    """Ids of the containers that shall run, and of those among them that shall stand still (`docker pause`)."""

    running: tuple[str, ...]
    paused: tuple[str, ...]


def _restart(change: RestartEngine, before: EngineBefore, daemon: Daemon | None) -> _Wanted:
    """The containers to start: those that ran before, and those that were started since (these are known to this call
    alone: one ended here leaves them to their restart policies). Raises OSError, Impossible."""
    since: tuple[str, ...] = ()
    still: tuple[str, ...] = ()
    if daemon is not None:
        with _api(change) as api:
            since, still = _running(api), _paused(api)
    if change.how == "systemctl":
        _told("systemctl", "restart", change.unit)
    elif change.how == "service":
        _told("service", change.unit, "restart")
    elif before.again is None:
        raise Impossible(f"how {change.engine} was started is not known")
    else:
        if daemon is not None:
            process.end(daemon.pid, process.started(daemon.pid), PATIENCE)
        if change.how == "exec":
            _start_within(change, before.again)
        else:
            process.start(before.again)
    _wait(change, f"{change.engine} does not answer after its restart")
    return _Wanted(*(tuple(dict.fromkeys(x)) for x in ((*before.running, *since), (*before.paused, *still))))


def _start_within(change: RestartEngine, how: Startable) -> None:
    """Start it in its container. What it writes goes where the container's first process writes: `docker logs` shows
    it as before. Raises OSError."""
    argv = [w.decode("utf-8", "surrogateescape") for w in how.argv]
    env = [w.decode("utf-8", "surrogateescape") for w in how.env]
    command = ["sh", "-c", INTO_LOG, "sh", how.exe, *argv[1:]]
    made = {"Cmd": command, "Env": env, "WorkingDir": how.cwd, "User": "0:0"}
    with Api(change.engine, change.through) as api:
        one = text(table(api.post("containers", change.within, "exec", document=made)).get("Id"))
        api.post("exec", one, "start", document={"Detach": True, "Tty": False})


def _told(*words: str) -> None:
    done = run(words, patience=PATIENCE)
    if done.status:
        raise OSError(errno.EIO, f"{' '.join(words)}: {done.said.splitlines()[-1] if done.said else done.status}")


def _answers(change: RestartEngine) -> bool:
    try:
        with _api(change, LOOKING) as api:
            api.get("networks")  # /_ping speaks no JSON
    except OSError:
        return False
    return True


def _wait(change: RestartEngine, what: str) -> None:
    """Until it answers. Raises OSError: it takes too long, or its process is not there (any more)."""
    begun = seen = time.monotonic()
    while not _answers(change):
        now = time.monotonic()
        if any(_is_there(change, pid) for pid in processes.of_name(daemons.DAEMON)):
            seen = now
        if now - seen > ABSENT:
            raise OSError(errno.ESRCH, f"{change.engine} does not run after its restart: its log says why")
        if now - begun > PATIENCE:
            raise TimeoutError(errno.ETIMEDOUT, what)
        time.sleep(LOOK)


def _is_there(change: RestartEngine, pid: int) -> bool:
    """Does a process live where the daemon does?"""
    root = processes.root_of(pid)
    if not change.within:
        return root is None
    return root is not None and container_around(Engine(kind=change.engine, socket=""), pid) == change.within


def _start(change: RestartEngine, wanted: _Wanted) -> None:
    """Start those that did not come back by themselves. One that was removed (`--rm`) is gone; the others must run.
    What was paused was ended by the restart like all others: it is started as well, and paused again.

    The daemon answers before it has started those of restart policy "always": starting one twice does no harm.
    """
    with _api(change) as api:
        running = _running(api)
        for one in wanted.running:
            if one not in running:
                with suppress(NotFound):
                    api.post("containers", one, "start")
        still = _paused(api) if wanted.paused else ()
        for one in wanted.paused:
            if one not in still:
                with suppress(NotFound):
                    api.post("containers", one, "pause")


def _existing(api: Api, ids: tuple[str, ...]) -> list[str]:
    known = {text(c.get("Id")) for c in api.containers()}
    return [i for i in ids if i in known]


def _running(api: Api) -> tuple[str, ...]:
    """Ids of the containers that run or are paused, oldest first (so addresses are handed out as they were, mostly);
    those in another's namespace after their owners."""
    found = [c for c in api.containers() if c.get("State") in RUNS]
    found.sort(key=lambda c: number(c.get("Created"), 1 << 40) or 0)
    found.sort(key=lambda c: text(table(c.get("HostConfig")).get("NetworkMode")).startswith("container:"))
    return tuple(text(c.get("Id")) for c in found)


def _paused(api: Api) -> tuple[str, ...]:
    return tuple(text(c.get("Id")) for c in api.containers() if c.get("State") == PAUSED)


def _mtu(api: Api) -> int | None:
    """The MTU its default network was made with."""
    networks = (parse.network(raw) for raw in parse.rows(api.get("networks")))
    return next((n.mtu for n in networks if n.default), None)
