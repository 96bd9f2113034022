"""Makers of CI runners, and by what one knows them: names that stand in images, labels, processes and variables.

Of a variable only the name counts, never what it holds. A sign is one of the words below with its kind in front
("process drone-docker"): what a reader saw, and all that is kept of it. None of them is taken for another: where no
sign is seen, the runner is not known.

Sources: drone-plugins/drone-docker (cmd/), drone-runners/drone-runner-docker 1.6.1; gitlab-runner (labels of its Docker
executor, the variables of a job and its services); actions/actions-runner-controller, gha-runner-scale-set 0.12.0
(the pod of a runner), and controllers/actions.summerwind.net/runner_controller.go for the older kind.
"""

from collections.abc import Iterable

from pathfit.core.base import Value
from pathfit.core.engine import Container, Engine
from pathfit.core.snapshot import HostSnapshot


class Runner(Value, frozen=True):
    """``images``: repositories without registry and tag. ``labels``: beginnings of their keys. ``processes``: names of
    programs. ``variables``: names in the environment of the engine, or of a program of the runner beside it. ``pod``:
    the variables say so in a pod of Kubernetes alone; elsewhere others use them as well."""

    name: str
    images: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    processes: tuple[str, ...] = ()
    variables: tuple[str, ...] = ()
    pod: bool = False


IN_POD = "KUBERNETES_SERVICE_HOST"  # a variable that a kubelet gives to every container
RUNNERS = (
    Runner(
        "drone-plugin",
        images=("plugins/docker", "plugins/ecr", "plugins/gcr", "plugins/gar", "plugins/acr", "plugins/heroku"),
        processes=("drone-docker", "drone-ecr", "drone-gcr", "drone-gar", "drone-acr", "drone-heroku"),
    ),
    Runner(
        "drone-runner",
        images=("drone/drone-runner-docker",),
        processes=("drone-runner-docker",),
        variables=("DRONE_RPC_HOST",),
    ),
    Runner(
        "gitlab",
        images=("gitlab/gitlab-runner", "gitlab-org/gitlab-runner"),
        labels=("com.gitlab.gitlab-runner.",),
        processes=("gitlab-runner", "gitlab-runner-helper"),
        variables=("GITLAB_CI", "CI_RUNNER_ID"),
    ),
    Runner(
        "github-scale-set",
        labels=("actions.github.com/",),
        variables=("ACTIONS_RUNNER_INPUT_JITCONFIG",),
        pod=True,
    ),
    Runner(
        "github-summerwind",
        images=("summerwind/actions-runner", "summerwind/actions-runner-dind"),
        labels=("actions-runner-controller/",),
        variables=("DOCKERD_IN_RUNNER",),
    ),
)
STRONGEST = ("label", "image", "process", "variable")  # a job may set any variable
PROGRAMS = frozenset(p for r in RUNNERS for p in r.processes) | {"Runner.Listener"}
"""Programs worth looking at; that of GitHub alone does not say who started it, its variables do."""
VARIABLES = frozenset(v for r in RUNNERS for v in r.variables) | {IN_POD}


def of_container(image: str, labels: Iterable[str]) -> tuple[str, ...]:
    """The signs in a container's image ("registry:5000/plugins/docker:20@sha256:…") and the keys of its labels."""
    repository = _repository(image)
    found = [f"image {x}" for r in RUNNERS for x in r.images if repository == x or repository.endswith(f"/{x}")]
    keys = list(labels)
    found += [f"label {x}" for r in RUNNERS for x in r.labels if any(k.startswith(x) for k in keys)]
    return tuple(found)


def of_process(program: str, variables: Iterable[str]) -> tuple[str, ...]:
    """The signs in a program's name and the names of its variables."""
    known = set(variables)
    found = [f"process {p}" for r in RUNNERS for p in r.processes if p == program]
    found += [f"variable {v}" for v in sorted(VARIABLES & known)]
    return tuple(found)


def recognised(host: HostSnapshot, engine: Engine) -> tuple[tuple[str, str], ...]:
    """(name of the runner, the sign of it) for each that is seen around an engine in a container; of several signs the
    one that jobs cannot give themselves (:data:`STRONGEST`). Empty: not known."""
    around = _around(host, engine)
    signs = [*engine.signs, *(s for c in around for s in c.signs)]
    ranks = {f"{kind} ": n for n, kind in enumerate(STRONGEST)}
    signs.sort(key=lambda sign: next((n for kind, n in ranks.items() if sign.startswith(kind)), len(ranks)))
    pod = f"variable {IN_POD}" in signs or any(c.pod for c in around)
    found: dict[str, str] = {}
    for sign in signs:
        for runner in RUNNERS:
            if sign in _signs(runner) and (pod or not runner.pod or not sign.startswith("variable ")):
                found.setdefault(runner.name, sign)
    return tuple(found.items())


def _around(host: HostSnapshot, engine: Engine) -> list[Container]:
    """The container that an engine runs in, and those that share a pod with it."""
    everyone = [c for e in host.engines for c in e.containers]
    home = next((c for c in everyone if engine.inside and c.id == engine.inside), None)
    if home is None:
        return []
    return [home, *(c for c in everyone if home.pod and c.pod == home.pod and c is not home)]


def _signs(runner: Runner) -> set[str]:
    kinds = (
        ("image", runner.images),
        ("label", runner.labels),
        ("process", runner.processes),
        ("variable", runner.variables),
    )
    return {f"{kind} {x}" for kind, words in kinds for x in words}


def _repository(image: str) -> str:
    """Without tag and digest; a colon before a slash is the registry's port."""
    name = image.partition("@")[0]
    head, slash, last = name.rpartition("/")
    return f"{head}{slash}{last.partition(':')[0]}"
