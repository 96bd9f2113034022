"""Repairs for good where Docker made the network: daemon.json, one network's option, a compose file.

What the settings mean (moby, libnetwork):

* ``mtu`` of the daemon is that of the default bridge alone; other networks have their own option, and since 24
  ``default-network-opts`` gives it to those that are made from then on.
* The same option in daemon.json and on the command line: the daemon refuses to start (findConfigurationConflicts()).
* With live-restore the daemon leaves its networks alone while any container runs ("updated network configuration will
  not take affect", initNetworkController()): a restart interrupts nothing and changes nothing. All must stop first.
* On an overlay network the option is the underlay's MTU (:mod:`pathfit.remedies.overlay`).
* A network's option cannot be changed: the network is made again, and its members lose it meanwhile.

A daemon in a container of another one's is reached through that one; how, and what its runner calls all this, is in
:mod:`~pathfit.remedies.nested`.
"""

import msgspec

from pathfit.core.change import RecreateNetwork, RestartEngine
from pathfit.core.engine import Container, Engine, EngineNetwork
from pathfit.core.finding import Applicability, Facts, FileEdit, Fix
from pathfit.remedies import moby, nested, overlay
from pathfit.remedies.base import SAFE_FLOOR, UNDO, Argv, running, verified
from pathfit.remedies.files import added, edited
from pathfit.remedies.jsontext import JsonError, parse, put
from pathfit.remedies.moby import OPTION, knows_defaults, made_as
from pathfit.rules.engines import Member, bridge, member, on_host
from pathfit.rules.view import View
from pathfit.wire.daemonjson import mtu_of

DEFAULTS = "default-network-opts"
GUEST = "container:"  # begins the network mode of one that lives in another's namespace; the other's id follows
RETURNS = ("always", "unless-stopped")  # restart policies that bring a container back with the daemon


def docker(view: View, value: int) -> tuple[Fix, ...]:
    """Repairs for good of the network that the asking container is in; nothing when it is in none we know."""
    found = member(view)
    if found is None or found.engine.kind != "docker":
        return ()
    network = found.network
    if network.driver == "overlay":
        return overlay.made_again(view, found, value)
    if network.driver != "bridge" or found.link.mtu <= value:
        return ()
    if not network.default:
        return (*of_network(view, found.engine, network, value), *nested.platforms(view, found, value))
    engine = found.engine
    if not engine.depth:
        return _daemon(view, found, value)
    typed = _flag(engine, "--mtu") and (engine.mtu is None or engine.mtu > value)
    lost = not engine.inner and (nested.in_pod(view, engine) or typed)  # a restart would change nothing
    own, runners = () if lost else _daemon(view, found, value), nested.platforms(view, found, value)
    return (*runners, *own) if len(runners) > 1 else (*own, *runners)


# -- the daemon's own default bridge ------------------------------------------------------------------------------


def _daemon(view: View, found: Member, value: int) -> tuple[Fix, ...]:
    """``mtu`` of the daemon. Where somebody else must decide, the same as lines to do by hand, and why."""
    engine = found.engine
    flag = _flag(engine, "--mtu")
    set_to, live = mtu_of(engine.config), engine.mtu or found.network.mtu
    if flag and live is not None and live <= value:
        return (_restart_container(view, found, live),)  # in force: the container is older
    if flag:
        facts: Facts = {"path": _path(engine), "flag": flag, "wanted": f"--mtu={value}"}
        edit: tuple[Argv, ...] = ()
        if engine.restart == "systemctl":
            edit = (("systemctl", "edit", "--full", engine.unit),)
        fix = _of_daemon(view, found, value, "fix.docker-daemon-flag", "by-hand.flag", facts)
        typed = msgspec.structs.replace(engine, flags=_with_mtu(engine.flags, value))
        return (msgspec.structs.replace(fix, commands=(*edit, *_restart_commands(view, typed))),)
    try:
        parse(engine.config or "")
    except JsonError as e:
        return (_broken(view, found, value, str(e)),)
    if engine.config_error is not None:
        return (_broken(view, found, value, engine.config_error),)
    if set_to is None or set_to > value:
        why = _why_by_hand(view, engine, value)
        title = "fix.nested-daemon-mtu" if engine.depth else "fix.docker-daemon-mtu"
        fix = _of_daemon(view, found, value, title, why, {"path": _path(engine)})
        return (_with_file(view, fix, engine, value),)
    if live is not None and live <= value:
        return (_restart_container(view, found, live),)  # configured and in force: the container is older
    why = _why_by_hand(view, engine, set_to)
    return (_of_daemon(view, found, set_to, "fix.docker-daemon-restart", why, {"path": _path(engine)}),)


def _of_daemon(view: View, found: Member, value: int, title: str, why: str | None, facts: Facts) -> Fix:
    """The daemon started again with what its configuration says. ``why``: the reason when it is to be done by hand."""
    engine, home = found.engine, nested.home(view, found.engine)
    restart = RestartEngine(
        engine=engine.kind,
        socket=engine.socket,
        how=engine.restart if home is None else "exec",
        unit=engine.unit,
        pid=engine.pid,
        argv=engine.flags if engine.restart == "argv" else (),
        running=tuple(c.id for c in running(engine)),
        within="" if home is None else engine.inside,
        through="" if home is None else home.socket,
    )
    facts = {**facts, "restarts": True, "engine": engine.inside_name or engine.inside[:12]}
    if why is not None:
        facts = {**facts, "by_hand": why, "ending": ", ".join(c.name for c in _lost(engine))}
    applicability: Applicability = "disruptive" if running(engine) else "safe"
    return Fix(
        id="docker-daemon-mtu",
        title=title,
        platform="docker",
        value=value,
        effective=value,
        applicability="manual" if why is not None else applicability,
        lasts="recreate" if engine.depth else "permanent",
        interrupts=(*_ended(engine), *(f"container:{c.name}" for c in running(engine))),
        commands=_restart_commands(view, engine),
        undo=() if why is not None else UNDO,
        where=bridge(view, found),
        facts=facts,
        changes=() if why is not None else (restart,),
        verify="" if why is not None else verified(view),
    )


def _with_file(view: View, fix: Fix, engine: Engine, value: int) -> Fix:
    """The same fix with daemon.json written before the daemon starts again. In a container it is found by the
    container's first process, which stays, and shown as `docker cp` has it."""
    home, path = nested.home(view, engine), _path(engine)
    shown = path if home is None else f"{home.name}:{path}"
    edit, write = edited(shown, engine.config, _config(engine, value))
    if home is not None:
        write = msgspec.structs.replace(write, path=f"/proc/{home.pid}/root{path}")
    return msgspec.structs.replace(fix, files=(edit,), changes=(write, *fix.changes) if fix.changes else ())


def _broken(view: View, found: Member, value: int, error: str) -> Fix:
    """daemon.json cannot be read: we do not write into what we do not understand, and the daemon will not start."""
    facts: Facts = {"path": _path(found.engine), "error": error}
    return _of_daemon(view, found, value, "fix.docker-daemon-mtu", "by-hand.broken", facts)


def _why_by_hand(view: View, engine: Engine, value: int) -> str | None:
    """Why we do not restart this daemon ourselves; None when we may, if told to interrupt."""
    if value < SAFE_FLOOR[view.family]:
        return "by-hand.tiny"
    if _lost(engine):
        return "by-hand.ending"
    if engine.live_restore and running(engine):
        return "by-hand.live-restore"
    if engine.depth and engine.restart == "argv" and not engine.inner and not engine.unit:
        return "by-hand.ends-container" if engine.main else "by-hand.may-end"
    if engine.root is not None:
        return _why_not_there(view, engine)
    return "by-hand.no-manager" if engine.restart == "argv" and not engine.inner else None


def _why_not_there(view: View, engine: Engine) -> str | None:
    """Why we do not reach into another mount namespace; None when the engine around it is ours to ask, and the
    container's first process, by which its files are found, goes on without this daemon."""
    home = nested.home(view, engine)
    reached = home is not None and home.socket and home.pid and not engine.rootless and not engine.unit
    return None if reached else "by-hand.elsewhere"


def _config(engine: Engine, value: int) -> str:
    """daemon.json with the MTU of the default bridge and, where the version knows it, of networks made from now on."""
    text = engine.config or ""
    if knows_defaults(engine) and not _flag(engine, "--default-network-opt"):
        text = put(text, (DEFAULTS, "bridge", OPTION), str(value))
    return put(text, ("mtu",), value)


def _restart_container(view: View, found: Member, effective: int) -> Fix:
    """The daemon has the right MTU by now, and the container was made before: it takes it when it starts again."""
    names = (found.container.name, *(c.name for c in _guests(found.engine, (found.container.id,))))
    return Fix(
        id="docker-restart-container",
        title="fix.docker-restart-container",
        platform="docker",
        value=effective,
        effective=effective,
        applicability="manual",
        lasts="permanent",
        interrupts=tuple(f"container:{n}" for n in names),
        commands=((*_client(view, found.engine), "restart", *names),),
        where=bridge(view, found),
        facts={"place": found.container.name, "by_hand": "by-hand.older", "restarts": True},
    )


def _restart_commands(view: View, engine: Engine) -> tuple[Argv, ...]:
    """The daemon again, and the containers that do not come back by themselves."""
    back = sorted(running(engine), key=lambda c: c.network_mode.startswith(GUEST))  # Docker starts them in this order
    names = tuple(c.name for c in back)
    again: tuple[Argv, ...] = {
        "systemctl": (("systemctl", "restart", engine.unit),),
        "service": (("service", engine.unit, "restart"),),
    }.get(engine.restart, (("kill", str(engine.pid)), engine.flags))
    client, home = _client(view, engine), nested.home(view, engine)
    if home is not None and engine.unit:
        again = ((*home.enter, "systemctl", "restart", engine.unit),)
    elif _ended(engine):
        again = (("docker", "restart", engine.inside_name.rpartition("/")[2] or engine.inside[:12]),)
    elif home is not None:
        detached = tuple(x for w in home.enter for x in ((w, "-d") if w == "exec" else (w,)))
        again = (("kill", str(engine.pid)), (*detached, *engine.flags))
    still = tuple(c.name for c in back if c.state == "paused" and not c.auto_remove)
    pause = ((*client, "pause", *still),) if still else ()
    if engine.live_restore and names:
        return ((*client, "stop", *names), *again, (*client, "start", *names), *pause)
    stay = tuple(c.name for c in back if c.restart_policy not in RETURNS and not c.auto_remove)
    return (*again, *(((*client, "start", *stay),) if stay else ()), *pause)


# -- networks made by hand, by compose, by swarm --------------------------------------------------------------------


def of_network(view: View, engine: Engine, network: EngineNetwork, value: int) -> tuple[Fix, ...]:
    """The MTU option of a bridge network other than the default one, which means: the network made again."""
    if network.driver != "bridge" or network.default or network.ingress:
        return ()
    if network.mtu is not None and network.mtu <= value:
        return ()
    if network.compose_project:
        return (_compose(view, engine, network, value),)
    names = tuple(c.name for c in running(engine) if c.id in network.members)
    why = _why_network(view, engine, network, value)
    safe = why is None
    applicability: Applicability = ("disruptive" if names else "safe") if safe else "manual"
    facts: Facts = {"network": network.name, "option": OPTION, **({} if why is None else {"by_hand": why})}
    change = RecreateNetwork(
        engine=engine.kind,
        socket=engine.socket,
        network=network.id,
        name=network.name,
        mtu=value,
        within=engine.inside if engine.root is not None else "",
    )
    return (
        Fix(
            id="docker-network-mtu",
            title="fix.docker-network-mtu",
            platform="docker",
            value=value,
            effective=value,
            applicability=applicability,
            lasts="permanent",
            interrupts=tuple(f"container:{c.name}" for c in _hit(engine, network)),
            commands=_made_again(view, engine, network, value, names),
            undo=UNDO if safe else (),
            where=on_host(view, engine, network.bridge),
            facts=facts,
            changes=(change,) if safe else (),
            verify=verified(view) if safe else "",
        ),
    )


def _why_network(view: View, engine: Engine, network: EngineNetwork, value: int) -> str | None:
    if value < SAFE_FLOOR[view.family]:
        return "by-hand.tiny"
    if network.scope != "local":
        return "by-hand.swarm"
    return _why_not_there(view, engine) if engine.root is not None else None


def _made_again(
    view: View, engine: Engine, network: EngineNetwork, value: int, names: tuple[str, ...]
) -> tuple[Argv, ...]:
    """By hand: members off, the network away and made again, members back."""
    words = (*_client(view, engine), "network")
    return (
        *((*words, "disconnect", network.name, n) for n in names),
        (*words, "rm", network.name),
        (*words, "create", *made_as(network), "--opt", f"{OPTION}={value}", network.name),
        *((*words, "connect", network.name, n) for n in names),
    )


def _compose(view: View, engine: Engine, network: EngineNetwork, value: int) -> Fix:
    """compose makes its networks from its file: what is not written there, it takes away again. `down` ends the whole
    project, not only this network's members."""
    project = tuple(c.id for c in engine.containers if c.compose_project == network.compose_project)
    owners = [c for c in engine.containers if c.compose_project == network.compose_project and c.compose_files]
    files = owners[0].compose_files if owners else ()
    key = network.compose_network or "default"
    lines = f'networks:\n  {key}:\n    driver_opts:\n      {OPTION}: "{value}"\n'
    given = tuple(w for path in files for w in ("-f", path))
    client = (*_client(view, engine), "compose", "-p", network.compose_project, *given)
    edits: tuple[FileEdit, ...] = (added(files[-1] if files else "compose.yaml", lines),)
    return Fix(
        id="docker-compose-mtu",
        title="fix.docker-compose-mtu",
        platform="docker",
        value=value,
        effective=value,
        applicability="manual",
        lasts="permanent",
        interrupts=tuple(f"container:{c.name}" for c in _hit(engine, network, project)),
        commands=((*client, "down"), (*client, "up", "-d")),
        files=edits,
        where=on_host(view, engine, network.bridge),
        facts={"project": network.compose_project, "network": key, "by_hand": "by-hand.compose", "restarts": True},
    )


# -- words ----------------------------------------------------------------------------------------------------------


def _client(view: View, engine: Engine) -> Argv:
    home = nested.home(view, engine)
    words = moby.client(engine)
    return words if home is None else (*home.enter, *words)


def _ended(engine: Engine) -> tuple[str, ...]:
    """The container that ends with its daemon, or may, and with it whatever else runs in it."""
    alone = engine.depth and engine.restart == "argv" and not engine.inner and not engine.unit
    return (f"container:{engine.inside_name or engine.inside[:12]}",) if alone else ()


def _guests(engine: Engine, owners: tuple[str, ...]) -> tuple[Container, ...]:
    """Containers that live in the namespace of one of those (``--network container:ID``): what it loses, they lose."""
    return tuple(
        c for c in running(engine) if c.network_mode.startswith(GUEST) and c.network_mode[len(GUEST) :] in owners
    )


def _hit(engine: Engine, network: EngineNetwork, also: tuple[str, ...] = ()) -> tuple[Container, ...]:
    """What is interrupted when the network goes away for a moment: its members, ``also``, and who lives with them."""
    owners = (*network.members, *also)
    return (*(c for c in running(engine) if c.id in owners), *_guests(engine, owners))


def _lost(engine: Engine) -> tuple[Container, ...]:
    """Containers that stopping does not interrupt but remove (`docker run --rm`)."""
    return tuple(c for c in running(engine) if c.auto_remove)


def _path(engine: Engine) -> str:
    return engine.config_path or "/etc/docker/daemon.json"


def _flag(engine: Engine, name: str) -> str:
    """An option of the daemon's command line as it stands there, "" when it does not."""
    for n, word in enumerate(engine.flags):
        if word == name:
            return " ".join(engine.flags[n : n + 2])
        if word.startswith(f"{name}="):
            return word
    return ""


def _with_mtu(flags: Argv, value: int) -> Argv:
    """The command line with another ``--mtu``."""
    after = [n > 0 and flags[n - 1] == "--mtu" for n in range(len(flags))]
    return tuple(
        str(value) if follows else f"--mtu={value}" if word.startswith("--mtu=") else word
        for word, follows in zip(flags, after, strict=True)
    )
