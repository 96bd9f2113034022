"""Docker's API with words that change something: a few POSTs and DELETEs, with its own complaint when it refuses."""

import errno
from typing import Any
from urllib.parse import quote

import msgspec

from pathfit.apply.step import Impossible
from pathfit.host.unixhttp import Answer, Client
from pathfit.observe.engines import daemons
from pathfit.observe.engines.daemons import Daemon
from pathfit.observe.engines.parse import rows, table, text
from pathfit.observe.engines.surroundings import container_around

PATIENCE = 150.0  # seconds for one step: a container may take its whole stop timeout to end


class NotFound(OSError):
    """There is no such container or network."""


def daemon_at(engine: str, socket: str, within: str = "") -> Daemon | None:
    """The daemon that listens at ``socket`` (as itself sees it) in our own mount namespace, or in the container
    ``within`` (an id); None: none is running."""
    wanted = (socket, f"/var{socket}", socket.removeprefix("/var"))  # /var/run is /run (FHS 3.0, 5.13)
    found = (d for d in daemons.find() if d.kind == engine and d.socket in wanted)
    if not within:
        return next((d for d in found if d.root is None), None)
    return next((d for d in found if d.root is not None and container_around(d.engine(), d.pid) == within), None)


class Api:
    """One conversation. A context manager. Every method raises OSError, with what the engine says."""

    def __init__(self, engine: str, socket: str, patience: float = PATIENCE, within: str = "") -> None:
        daemon = daemon_at(engine, socket, within)
        if daemon is None:  # it may be started again: what was changed is still there
            raise ConnectionRefusedError(errno.ECONNREFUSED, f"no {engine} runs at {socket}")
        self.daemon = daemon
        self._client = Client(daemon.path, patience)

    def __enter__(self) -> "Api":
        self._client.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def get(self, *path: str, query: str = "") -> Any:
        return self._ask("GET", path, query)

    def post(self, *path: str, document: object = None) -> Any:
        return self._ask("POST", path, "", document)

    def delete(self, *path: str) -> None:
        self._ask("DELETE", path, "")

    def _ask(self, method: str, path: tuple[str, ...], query: str, document: object = None) -> Any:
        where = "".join(f"/{quote(p, safe='')}" for p in path)
        body = None if document is None else msgspec.json.encode(document)
        try:
            answer = self._client.request(method, f"{where}?{query}" if query else where, body)
            return _document(answer, path)
        except ValueError as e:  # no HTTP, or no JSON
            raise OSError(errno.EPROTO, f"{self.daemon.kind}: {e}") from None

    def network(self, name: str) -> dict[str, Any] | None:
        """The network of exactly that name or id; None when there is none."""
        listed = [x for x in rows(self.get("networks")) if name in (x.get("Name"), x.get("Id"))]
        if len(listed) > 1:
            raise Impossible(f"there are {len(listed)} networks named {name}", "docker network ls")
        return table(self.get("networks", text(listed[0].get("Id")))) if listed else None

    def containers(self) -> list[dict[str, Any]]:
        """All of them, also those that do not run."""
        return rows(self.get("containers", "json", query="all=1"))

    def container(self, container: str) -> dict[str, Any]:
        """Raises NotFound."""
        return table(self.get("containers", container, "json"))


def _document(answer: Answer, path: tuple[str, ...]) -> Any:
    found = msgspec.json.decode(answer.body) if answer.body.strip() else None
    if answer.status in (200, 201, 204, 304):  # 304: it is so already (start, stop)
        return found
    said = text(table(found).get("message"), 500) or f"{'/'.join(path)}: it answers {answer.status}"
    if answer.status == 404:
        raise NotFound(errno.ENOENT, said)
    raise OSError(errno.EIO, said)
