"""Lines that measure beside a container which may not be entered: its engine puts a container of ours into its network.

An engine, or a cluster, may let somebody do that whom the kernel lets into no namespace (the group "docker", a
kubeconfig). The image need hold no more than Python: ``dist/pathfit-probe.py`` (``make onefile``) goes in by stdin.
"""

import shlex

from pathfit.core.engine import Container
from pathfit.model.workloads import plain_name

IMAGE = "python:3-alpine"
PROBED = "PROBED"  # stands for the target and the options of the asked command (pathfit.render.command)
FILE = "dist/pathfit-probe.py"  # where `make onefile` puts it
# Docker gives raw sockets to every container, Podman (containers.conf, default_capabilities) does not.
RUN = {"docker": ("docker", "run"), "podman": ("podman", "run", "--cap-add", "NET_RAW")}
MADE = f"< {FILE}   # made by: make onefile"
# `kubectl debug` never closes the stdin of its container (no stdinOnce): the file says itself where it ends.
UNTIL_ITS_END = 'sed "/^# end of/q" | python3 - "$@"'


def line(kind: str, name: str, container: Container | None = None) -> str:
    """The line for a WHERE of ``kind`` and ``name``, "" where there is none.

    ``container``: it as its engine knows it, None when no engine could be asked.
    """
    if container is not None and container.pod and "/" in container.pod:
        return _pod(container.pod)
    if kind == "pod":
        return _pod(name) if "/" in name else ""
    if container is None or container.engine not in RUN or "/" in name:  # the engine of another container
        return ""
    called = container.name if plain_name(container.name) else container.id[:12]
    if not called:
        return ""
    words = [*RUN[container.engine], "--rm", "-i", "--network", f"container:{called}", IMAGE, "python3", "-"]
    return f"{shlex.join(words)} {PROBED} {MADE}"


def _pod(name: str) -> str:
    space, _, pod = name.rpartition("/")
    if not (plain_name(space) and plain_name(pod)):
        return ""
    words = ["kubectl", "debug", "-q", "-i", "-n", space, pod, f"--image={IMAGE}", "--", "sh", "-c", UNTIL_ITS_END, "-"]
    return f"{shlex.join(words)} {PROBED} {MADE}"
