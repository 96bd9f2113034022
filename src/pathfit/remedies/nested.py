"""Repairs for good where the engine itself runs in a container: how it is reached, and the words of whoever runs it.

A container is made again from what its runner was told, so a file in it lasts as long as the container. What lasts is
the runner's own setting, and which runner that is comes from evidence (:mod:`~pathfit.model.runners`); where there is
none, only the command line of dockerd is said. All of them mean the MTU of the inner containers: value = effective.

``--mtu`` counts for the inner daemon's default network; networks that are made from then on get
``--default-network-opt`` since Docker 24 (moby#43197), or what the runner gives to those it makes itself.
"""

from collections.abc import Callable
from typing import NamedTuple

from pathfit.core.engine import Container, Engine
from pathfit.core.finding import Facts, FileEdit, Fix
from pathfit.model.runners import recognised
from pathfit.remedies.base import Argv
from pathfit.remedies.files import added
from pathfit.remedies.moby import OPTION, client, knows_defaults
from pathfit.remedies.untried import documented
from pathfit.rules.engines import Member, bridge
from pathfit.rules.view import View

GITLAB = "label com.gitlab.gitlab-runner."  # of a container that the runner made itself

DIND = "docs.docker.com/reference/cli/dockerd; docker-library/docker, 29/dind/dockerd-entrypoint.sh"
DRONE = "drone-plugins/drone-docker, docker.go at 001de459 (commandDaemon); DOCS.md"
DRONE_RUNNER = "drone-runner-docker, command/daemon/config.go, CHANGELOG.md (since 1.5.0)"
DRONE_CHART = "drone/charts, drone-runner-docker, docs/install.md"
GITLAB_DIND = "gitlab-runner, docs/executors/docker.md as of merge request 6737"
GITLAB_NETWORK = "gitlab-runner, merge request 3576 (network_mtu, with FF_NETWORK_PER_BUILD)"
SCALE_SET = "actions-runner-controller, charts/gha-runner-scale-set/values.yaml at 00415592; issue 3691"
SUMMERWIND = "actions-runner-controller, TROUBLESHOOTING.md (actions.summerwind.dev/v1alpha1)"


# -- where it lives -----------------------------------------------------------------------------------------------


class Home(NamedTuple):
    """The container that an engine runs in, as it is reached from here. ``enter``: words before a command that shall
    run in it. ``pid``: its first process, 0 = not known. ``socket``: of the dockerd around it, in our own mount
    namespace; "" = there is none."""

    name: str
    enter: Argv
    container: Container | None = None
    pid: int = 0
    socket: str = ""


def home(view: View, engine: Engine) -> Home | None:
    """None for an engine of the host, and for one that shares our mount namespace: nothing stands between."""
    if not engine.depth or engine.root is None:
        return None
    outer, container = around(view, engine)
    name = engine.inside_name or engine.inside[:12]
    enter = _enter(name, outer, container) or ("nsenter", "-t", str(engine.pid), "-m", "-u", "-i", "-n", "-p", "--")
    ours = outer is not None and outer.kind == "docker" and outer.root is None and not outer.depth
    pid = container.pid if container is not None and container.pid != engine.pid else 0
    return Home(name, enter, container, pid, outer.socket if outer is not None and ours else "")


def around(view: View, engine: Engine) -> tuple[Engine | None, Container | None]:
    """The engine around an engine, and its container; None where nobody told of it."""
    engines = view.state.engines if view.state is not None else ()
    for outer in engines:
        for one in outer.containers:
            if engine.inside and one.id == engine.inside:
                return outer, one
    return None, None


def _enter(name: str, outer: Engine | None, container: Container | None) -> Argv:
    if outer is None or container is None:
        return ()
    if container.pod and "/" in container.pod:
        space, _, pod = container.pod.partition("/")
        which = () if container.sandbox else ("-c", container.name)
        return ("kubectl", "-n", space, "exec", pod, *which, "--")
    if outer.kind not in ("docker", "podman") or outer.rootless:
        return ()
    at = client(outer) if outer.kind == "docker" else ("podman",)
    words: Argv = ()
    for n, part in enumerate(name.split("/")):
        words = (*words, *(at if n == 0 else (outer.kind,)), "exec", part)
    return words


def in_pod(view: View, engine: Engine) -> bool:
    """Does it run in a pod? Such a container is made anew whenever it ends."""
    container = around(view, engine)[1]
    return container is not None and bool(container.pod)


# -- what its runner calls it ---------------------------------------------------------------------------------------


class _Asked(NamedTuple):
    """``args``: words for the dockerd inside. ``seen``: the sign by which the runner is known."""

    view: View
    member: Member
    value: int
    args: tuple[str, ...]
    seen: str = ""

    def fix(self, id_: str, title: str, platform: str, source: str, *files: FileEdit, **more: tuple[Argv, ...]) -> Fix:
        engine = self.member.engine
        facts: Facts = {
            "engine": engine.inside_name or engine.inside[:12],
            "seen": self.seen,
            "args": " ".join(self.args),
            "network": self.member.network.name,
        }
        return documented(
            id_,
            title,
            platform,
            source=source,
            value=self.value,
            effective=self.value,
            where=bridge(self.view, self.member),
            files=files,
            commands=more.get("commands", ()),
            interrupts=_stopped(engine, self.member),
            facts=facts,
        )


def platforms(view: View, member: Member, value: int) -> tuple[Fix, ...]:
    """The settings of the runner that an engine works for, or of the network that one made; those of dockerd last."""
    args = arguments(member, value)
    asked = _Asked(view, member, value, args)
    found: list[Fix] = []
    if GITLAB in member.container.signs and not member.network.default:
        found.append(_gitlab_network(asked._replace(seen=GITLAB)))
    if not member.engine.depth or view.state is None:
        return tuple(found)
    for name, seen in recognised(view.state, member.engine):
        made = _BY_NAME[name](asked._replace(seen=seen))
        found += [made] if made is not None else []
    return (*found, _dockerd(asked)) if args else tuple(found)


def arguments(member: Member, value: int) -> tuple[str, ...]:
    """Words for dockerd that give the member's network that MTU; none where its version has none."""
    others = (f"--default-network-opt=bridge={OPTION}={value}",) if knows_defaults(member.engine) else ()
    return (f"--mtu={value}", *others) if member.network.default else others


def _dockerd(asked: _Asked) -> Fix:
    """The command line of the dockerd inside, where its container is made."""
    outer, container = around(asked.view, asked.member.engine)
    quoted = ", ".join(f'"{word}"' for word in asked.args)
    if container is not None and container.pod and "/" in container.pod:
        space, _, pod = container.pod.partition("/")
        lines = f"containers:\n- name: {container.name}\n  args: [{quoted}]\n"
        look: Argv = ("kubectl", "-n", space, "get", "pod", pod, "-o", "yaml")
        return asked.fix("dind-mtu", "fix.dind-mtu", "docker", DIND, added("pod template", lines), commands=(look,))
    if container is not None and container.compose_project and container.compose_service:
        lines = f"services:\n  {container.compose_service}:\n    command: [{quoted}]\n"
        path = container.compose_files[-1] if container.compose_files else "compose.yaml"
        given = tuple(w for f in container.compose_files for w in ("-f", f))
        up: Argv = ("docker", "compose", "-p", container.compose_project, *given, "up", "-d", container.compose_service)
        return asked.fix("dind-mtu", "fix.dind-mtu", "docker", DIND, added(path, lines), commands=(up,))
    engine = asked.member.engine
    name = container.name if container is not None else engine.inside[:12]
    client = "podman" if outer is not None and outer.kind == "podman" else "docker"
    look = (client, "inspect", "--format", "{{.Path}} {{.Args}}", name)
    return asked.fix("dind-mtu", "fix.dind-mtu", "docker", DIND, commands=(look,))


def _drone_plugin(asked: _Asked) -> Fix | None:
    """`mtu` of the plugin is its dockerd's --mtu: it builds in the default network."""
    if not asked.member.network.default:
        return None
    lines = f"steps:\n- image: plugins/docker\n  settings:\n    mtu: {asked.value}\n"
    return asked.fix("drone-mtu", "fix.drone-plugin-mtu", "drone", DRONE, added(".drone.yml", lines))


def _drone_runner(asked: _Asked) -> Fix:
    """The runner makes a network for each pipeline, with options of its own; the dockerd beside it has its own."""
    if asked.member.network.default:
        quoted = ", ".join(f'"{word}"' for word in ("--host", "tcp://localhost:2375", *asked.args))
        lines = f"dind:\n  commandArgs: [{quoted}]\n"
        return asked.fix("drone-mtu", "fix.drone-runner-dind", "drone", DRONE_CHART, added("values.yaml", lines))
    lines = f"env:\n  DRONE_RUNNER_NETWORK_OPTS: {OPTION}:{asked.value}\n"
    return asked.fix("drone-mtu", "fix.drone-runner-mtu", "drone", DRONE_RUNNER, added("values.yaml", lines))


def _gitlab(asked: _Asked) -> Fix | None:
    """The service docker:dind of a job hands its command to dockerd."""
    if not asked.args:
        return None
    quoted = ", ".join(f'"{word}"' for word in asked.args)
    lines = f"services:\n- name: docker:dind\n  command: [{quoted}]\n"
    return asked.fix("gitlab-mtu", "fix.gitlab-dind-mtu", "gitlab", GITLAB_DIND, added(".gitlab-ci.yml", lines))


def _gitlab_network(asked: _Asked) -> Fix:
    """The networks that the runner's Docker executor makes, one for each job."""
    lines = f"[runners.docker]\n  network_mtu = {asked.value}\n"
    edit = added("/etc/gitlab-runner/config.toml", lines)
    return asked.fix("gitlab-mtu", "fix.gitlab-network-mtu", "gitlab", GITLAB_NETWORK, edit)


def _scale_set(asked: _Asked) -> Fix | None:
    """containerMode "dind" has fixed arguments: it is left empty, and the container is written out (values.yaml)."""
    if not asked.args:
        return None
    words = ("dockerd", "--host=unix:///var/run/docker.sock", "--group=$(DOCKER_GROUP_GID)", *asked.args)
    args = "".join(f"      - {word}\n" for word in words)
    lines = f"template:\n  spec:\n    initContainers:\n    - name: dind\n      image: docker:dind\n      args:\n{args}"
    edit = added("values.yaml", lines)
    return asked.fix("github-mtu", "fix.github-scale-set-mtu", "github", SCALE_SET, edit)


def _summerwind(asked: _Asked) -> Fix:
    """dockerMTU is the dockerd's --mtu; networks of a job get it when the runner's image is told to hand it on."""
    lines = f"spec:\n  template:\n    spec:\n      dockerMTU: {asked.value}\n"
    if not asked.member.network.default:
        lines += '      env:\n      - name: ARC_DOCKER_MTU_PROPAGATION\n        value: "true"\n'
    edit = added("RunnerDeployment", lines)
    return asked.fix("github-mtu", "fix.github-summerwind-mtu", "github", SUMMERWIND, edit)


_BY_NAME: dict[str, Callable[[_Asked], Fix | None]] = {
    "drone-plugin": _drone_plugin,
    "drone-runner": _drone_runner,
    "gitlab": _gitlab,
    "github-scale-set": _scale_set,
    "github-summerwind": _summerwind,
}


def _stopped(engine: Engine, member: Member) -> tuple[str, ...]:
    """A runner's setting counts for what it makes from then on: what runs now is made again."""
    around_ = (f"container:{engine.inside_name or engine.inside[:12]}",) if engine.depth else ()
    return (*around_, f"container:{member.container.name}")
