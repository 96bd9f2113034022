"""conmon(8), the process that stays with one container of Podman or cri-o: what its command line says.

    conmon --api-version 1 -c ID -u ID -r RUNTIME -b BUNDLE -p PIDFILE -n NAME --exit-dir DIR ... --exit-command PODMAN
           --exit-command-arg --root --exit-command-arg GRAPHROOT --exit-command-arg --runroot ...

Command lines are everybody's to read, so that containers of other users can at least be named.
"""

import re
from typing import NamedTuple

from pathfit.observe.engines.daemons import option
from pathfit.observe.engines.parse import text

_ID = re.compile(r"[0-9a-f]{64}\Z")
_EXEC = ("-e", "--exec")  # a session in a container that has its monitor already
_BELOW = re.compile(r"(/.+)/[a-z0-9]+-containers/[0-9a-f]{64}/")  # RUNROOT/DRIVER-containers/ID (containers/storage)


class Monitored(NamedTuple):
    """A container as its monitor knows it. ``run``: the folder below which what runs is kept, "" when not told;
    ``graph``: the same of what stays."""

    id: str
    name: str
    bundle: str = ""
    pidfile: str = ""
    manager: str = ""  # "podman", "cri-o"
    run: str = ""
    graph: str = ""
    backend: str = ""  # "netavark", "cni"; "" of versions before 4
    configs: str = ""  # where Podman keeps its networks, "" = the usual folder
    client: tuple[str, ...] = ()  # the words with which it calls Podman, before the command
    removes: bool = False  # Podman removes the container when it ends (--rm)


def monitored(argv: tuple[str, ...]) -> Monitored | None:
    """The container of a monitor, None when it is a session's, or none (pure)."""
    first = argv.index("--exit-command") if "--exit-command" in argv else len(argv)
    own, then = argv[:first], argv[first:]
    found = option(own, "-c", "--cid")[-1:]
    if not found or not _ID.match(found[0]) or any(word in own for word in _EXEC):
        return None
    pidfile = (option(own, "-p", "--container-pidfile") or [""])[-1]
    exits = (option(own, "--exit-dir") or [""])[-1]
    ended = then[1] if len(then) > 1 else ""
    words = then[3::2]  # "--exit-command-arg" stands before each
    command = words.index("container") if "container" in words else 0  # "container cleanup ID"
    return Monitored(
        id=found[0],
        name=text((option(own, "-n", "--name") or [""])[-1]),
        bundle=(option(own, "-b", "--bundle") or [""])[-1],
        pidfile=pidfile,
        manager="cri-o" if "/crio" in exits or ended.endswith("/crio") else "podman",
        run=(option(words, "--runroot") or [below[1] if (below := _BELOW.match(pidfile)) else ""])[-1],
        graph=(option(words, "--root") or [""])[-1],
        backend=(option(words, "--network-backend") or [""])[-1],
        configs=(option(words, "--network-config-dir") or option(words, "--cni-config-dir") or [""])[-1],
        client=(ended, *words[:command]) if ended and command else (),
        removes="--rm" in words[command:],
    )
