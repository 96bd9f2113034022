"""A WHERE and the namespace it means.

=======================  ==========================================================================================
``host``                 the namespace pathfit runs in
``netns:NAME``           a name under /run/netns, /var/run/netns or /run/docker/netns
``netns:/path``          any nsfs file
``pid:N``                the namespace process N lives in
``container:NAME|ID``    by the name or id its engine knows; without an engine by id (at least 6 hex digits), or by
                         the hostname its processes see; "OUTER/NAME" of an engine in the container OUTER
``docker:NAME|ID``       the same, of that engine alone; so with ``podman:`` and ``containerd:``
``pod:NAMESPACE/NAME``   by what a kubelet (or Podman: ``pod:NAME``) called it
``network:NAME``         a fresh member of a network: cannot be made yet
=======================  ==========================================================================================

Whatever is not found says what was looked for, and which names there are.
"""

import errno
import os
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from pathfit.core.engine import Container
from pathfit.core.evidence import PlaceFact
from pathfit.core.evidence_base import Missing
from pathfit.host import netns, procfs
from pathfit.host.netns import NetnsHandle
from pathfit.host.nlsocket import NETLINK_ROUTE, NetlinkSocket
from pathfit.observe import discover
from pathfit.wire import rtnl, rtnl_near

if TYPE_CHECKING:
    from pathfit.observe.engines import names

__all__ = ["NetnsHandle", "Where", "WhereError", "locate", "parse_where"]

KINDS = ("host", "netns", "pid", "container", "docker", "podman", "containerd", "network", "pod")
_CONTAINERS = ("container", "docker", "podman", "containerd")
_ENGINES = (*_CONTAINERS, "cri-o")
OR = "   or   "  # between two lines that could both be typed (pathfit.render.command)
_PROXY_LIMIT = 4096  # bytes of one proxy variable


class Where(NamedTuple):
    """A WHERE taken apart. ``host`` is what stands before "!", "" for this machine."""

    kind: str
    name: str
    host: str = ""


class WhereError(ValueError):
    """The text is no WHERE; the message says why, ``how`` what to type instead."""

    def __init__(self, why: str, how: str) -> None:
        super().__init__(why)
        self.how = how


def _from(*places: str) -> str:
    """Ways to ask again, as pathfit.render.command takes them."""
    return "   or   ".join(f"--from {p}" for p in places)


def parse_where(text: str) -> Where:
    """Take a WHERE apart. Raises WhereError."""
    if "!" in text:
        host, _, rest = text.partition("!")
        inner = parse_where(rest)
        return Where(inner.kind, inner.name, host)
    kind, colon, name = text.partition(":")
    if kind == "host" and not colon:
        return Where("host", "")
    if not colon:
        near = (f"netns:{text}", f"container:{text}") if text and not text.isdigit() else (f"pid:{text or 'N'}",)
        raise WhereError(f"{text!r} does not say what it is", _from(*near, "host"))
    if kind not in KINDS or kind == "host":
        from difflib import get_close_matches

        meant = (get_close_matches(kind, KINDS, 1) or ["netns"])[0]
        raise WhereError(f"{kind!r} is no kind of place", _from(f"{meant}:{name}" if meant != "host" else "host"))
    if not name:
        raise WhereError(f"{text!r} names nothing", _from(f"{kind}:{'N' if kind == 'pid' else 'NAME'}"))
    if kind == "pid" and not (name.isascii() and name.isdigit() and 0 < int(name) < 1 << 31):
        raise WhereError(f"{name!r} is no process number", _from("pid:1234"))
    return Where(kind, name)


def locate(where: str, ref: str = "") -> tuple[NetnsHandle, PlaceFact] | Missing:
    """Find a WHERE and open it. The caller closes the handle. Never raises for what people type.

    Where the source (``ref`` "source") may not be entered, a line that measures beside it is among the ways on.
    """
    try:
        asked = parse_where(where)
    except WhereError as e:
        return Missing(ref=ref, what=where or "an empty WHERE", why=str(e), how=e.how, code="malformed")
    found = _located(asked, where, ref)
    if isinstance(found, Missing) and found.code in ("permission", "absent") and ref == "source":
        ways = [way for way in (found.how, _beside(asked, denied=found.code == "permission")) if way]
        return msgspec.structs.replace(found, how=OR.join(ways))
    return found


def _located(asked: Where, where: str, ref: str) -> tuple[NetnsHandle, PlaceFact] | Missing:
    try:
        handle, label = _open(asked, where)
    except _NotThere as e:
        return Missing(ref=ref, what=where, why=str(e), how=e.how, code=e.code)
    except OSError as e:
        return _refused(where, e, ref)
    try:
        return handle, _fact(handle, asked, ref, label)
    except OSError as e:  # it may be opened, but not entered
        handle.close()
        return _refused(where, e, ref)
    except BaseException:
        handle.close()
        raise


class _NotThere(Exception):
    def __init__(self, why: str, how: str, code: str = "absent") -> None:
        super().__init__(why)
        self.how = how
        self.code = code


def _refused(where: str, e: OSError, ref: str) -> Missing:
    if e.errno in (errno.EPERM, errno.EACCES):
        how = "sudo pathfit …" if os.geteuid() else "docker run --cap-add SYS_ADMIN --cap-add SYS_PTRACE …"
        return Missing(
            ref=ref, what=where, why="it belongs to somebody else (not permitted)", how=how, code="permission"
        )
    return Missing(ref=ref, what=where, why=e.strerror or str(e), how="ip netns list")


def _beside(asked: Where, *, denied: bool) -> str:
    """A line that measures beside a container whose engine knows it and that we may not enter, "" when there is none.

    ``denied``: there is something, and the kernel or an engine tells us nothing of it.
    """
    from pathfit.observe import beside
    from pathfit.observe.engines import names

    if asked.kind not in (*_CONTAINERS, "pod"):
        return ""
    wanted = _ENGINES if asked.kind == "container" else (asked.kind,)
    said = names.pods(asked.name) if asked.kind == "pod" else names.search(asked.name, wanted)
    known = said.found[0].container if len(said.found) == 1 else None
    if known is None and not said.unseen and not denied:
        return ""
    if known is None and said.unseen:
        known = Container(id="", name=asked.name, engine=asked.kind)
    return beside.line(asked.kind, asked.name, known)


def _open(asked: Where, where: str) -> tuple[NetnsHandle, str]:
    """The namespace, and how people call it ("" for the host, which goes by its own name)."""
    if asked.host:
        raise _NotThere(
            "other hosts need a fleet",
            f"ssh {asked.host} pathfit diagnose --from {_plain(asked)} --to TARGET",
            "unsupported",
        )
    if asked.kind == "host":
        return netns.own(), ""
    if asked.kind == "netns":
        return _named(asked.name, where), asked.name
    if asked.kind == "pid":
        return _of_process(int(asked.name), where), asked.name
    if asked.kind in _CONTAINERS:
        pid, label = _container(asked)
        return _of_process(pid, where), label
    if asked.kind == "pod":
        pid, label = _pod(asked)
        return _of_process(pid, where), label
    raise _NotThere(f"{asked.kind}: cannot be found yet", "docker ps   or   --from container:NAME", "unsupported")


def _plain(asked: Where) -> str:
    return f"{asked.kind}:{asked.name}" if asked.name else asked.kind


def _named(name: str, where: str) -> NetnsHandle:
    if name.startswith("/"):
        if not os.path.exists(name):
            raise _NotThere("there is no such file", "ip netns list")
        return _checked(name, where)
    for folder in discover.NAMED:
        path = f"{folder}/{name}"
        if "/" not in name and name not in (".", "..") and os.path.exists(path):
            return _checked(path, where)
    names = list(dict.fromkeys(procfs.printable(n) for folder in discover.NAMED for n in procfs.names(folder)))
    raise _NotThere("there is no namespace of that name", _suggest("netns", name, names))


def _checked(path: str, where: str) -> NetnsHandle:
    if not discover.is_namespace(path):
        raise _NotThere("it is not a network namespace (any more)", "ip netns list")
    handle = netns.open_handle(path, where)
    homes, _, _ = discover.processes_by_namespace()
    pids = homes.get(handle.id)
    named = path.rpartition("/")[2] if path.startswith("/run/netns/") else None
    root = None if named else _root(pids[0] if pids else None)
    return NetnsHandle(fd=handle.fd, id=handle.id, where=where, pid=pids[0] if pids else None, mount_root=root)


def _of_process(pid: int, where: str) -> NetnsHandle:
    try:
        return netns.open_handle(f"/proc/{pid}/ns/net", where, pid, _root(pid))
    except FileNotFoundError:
        if os.path.exists(f"/proc/{pid}"):
            raise _NotThere(f"process {pid} is ending", "ps -e") from None
        raise _NotThere(f"there is no process {pid}", "ps -e") from None


def _root(pid: int | None) -> str | None:
    """What the process sees as "/", None when that is what we see."""
    if pid is None or pid == os.getpid():
        return None
    same = procfs.link(f"/proc/{pid}/ns/mnt") == procfs.link("/proc/self/ns/mnt")
    if same and procfs.link(f"/proc/{pid}/root") == procfs.link("/proc/self/root"):
        return None
    return f"/proc/{pid}/root"


# --- containers ------------------------------------------------------------------------------------------------------


def _container(asked: Where) -> tuple[int, str]:
    """A process of the container and its name, as its engine says; without one by its id or hostname.

    Raises _NotThere.
    """
    from pathfit.observe.engines import names

    wanted = _ENGINES if asked.kind == "container" else (asked.kind,)
    said = names.search(asked.name, wanted)
    if len(said.found) == 1:
        return said.found[0].pid, said.found[0].container.name or asked.name
    _sort_out(asked, said, "container")
    return _without_engine(asked, said), asked.name


def _pod(asked: Where) -> tuple[int, str]:
    """A process of the pod and its name. Raises _NotThere."""
    from pathfit.observe.engines import names

    said = names.pods(asked.name)
    if len(said.found) == 1:
        return said.found[0].pid, said.found[0].container.pod
    _sort_out(asked, said, "pod")
    if said.trouble:
        raise _NotThere(f"no pod of that name was found, and {said.trouble[0]}", said.how, "permission")
    how = _suggest("pod", asked.name, list(said.others)) if said.others else "crictl pods   or   --from container:ID"
    raise _NotThere("no running pod has that name", how)


def _sort_out(asked: Where, said: "names.Search", what: str) -> None:
    """Raises _NotThere where engines know of something, and it is not one that can be entered."""
    if said.found:
        several = [one.where if what == "container" else f"pod:{one.container.pod}" for one in said.found[:4]]
        if asked.kind not in ("container", "pod"):
            several = [x.replace("container:", f"{asked.kind}:", 1) for x in several]
        raise _NotThere(f"{len(said.found)} {what}s are called {asked.name}", _from(*several))
    if said.stopped:
        raise _NotThere(f"that {what} does not run", said.stopped[0])
    if said.unseen:
        raise _NotThere("its engine knows it, but its processes cannot be seen from here", "run pathfit where they are")


def _without_engine(asked: Where, said: "names.Search") -> int:
    """A process of a container that no engine knew; what ``said`` they know helps those who mistyped."""
    seen: dict[str, int] = {}
    for pid in procfs.pids():
        if found := discover.container_of(pid):
            seen.setdefault(found, pid)
    name = asked.name.lower()
    from pathfit.observe.engines.names import SHORTEST_ID

    if len(name) >= SHORTEST_ID and all(c in "0123456789abcdef" for c in name):
        matches = [i for i in seen if i.startswith(name)]
        if len(matches) == 1:
            return seen[matches[0]]
        if matches:
            several = [f"{asked.kind}:{i[:16]}" for i in sorted(matches)[:4]]
            raise _NotThere(f"{len(matches)} containers begin with {name}", _from(*several))
    hosts = _hostnames(seen.values())
    if matching := hosts.get(asked.name):
        if len(matching) == 1:
            return matching[0]
        several = [f"pid:{pid}" for pid in matching[:4]]
        raise _NotThere(f"{len(matching)} containers call themselves {asked.name}", _from(*several))
    if said.trouble:
        why = (
            "no running container has that name, as far as could be asked"
            if said.others
            else ("no container was found without its engine")
        )
        raise _NotThere(f"{why}, and {said.trouble[0]}", _or(asked, said), "permission")
    known = [*said.others, *hosts, *(i[:12] for i in seen)] if not said.others else list(said.others)
    how = _suggest(asked.kind, asked.name, known) if known else "docker ps   or   --from pid:N"
    raise _NotThere("no running container has that name, id or hostname", how)


def _or(asked: Where, said: "names.Search") -> str:
    """Names that are nearly the asked one, and how to ask those that could not be asked."""
    from difflib import get_close_matches

    near = get_close_matches(asked.name, said.others, 3, 0.5)
    return "   or   ".join((*(f"--from {asked.kind}:{n}" for n in near), said.how))


def _hostnames(pids: Iterable[int]) -> dict[str, list[int]]:
    """Hostnames by /etc/hostname in the processes' own roots (an engine writes it; UTS namespaces cannot be read)."""
    found: dict[str, list[int]] = {}
    for pid in pids:
        if name := procfs.maybe(f"/proc/{pid}/root/etc/hostname", 256):
            found.setdefault(name.splitlines()[0], []).append(pid)
    return found


def _suggest(kind: str, name: str, names: list[str]) -> str:
    from difflib import get_close_matches

    near = get_close_matches(name, names, 3, 0.5) or names[:3]
    if not near:
        return "ip netns list" if kind == "netns" else "ps -e"
    return _from(*(f"{kind}:{n}" for n in near))


# --- facts -----------------------------------------------------------------------------------------------------------


def _fact(handle: NetnsHandle, asked: Where, ref: str, label: str) -> PlaceFact:
    own = os.stat(netns.OWN)
    inside = handle.id == f"{own.st_dev}:{own.st_ino}"
    addresses, privileged = _look(handle)
    return PlaceFact(
        ref=ref,
        where=handle.where,
        netns=handle.id,
        label=label or procfs.maybe("/proc/sys/kernel/hostname") or "host",
        pid=handle.pid,
        environ=_environ(handle, asked, inside),
        addresses=addresses,
        inside=inside,
        privileged=privileged,
    )


def _look(handle: NetnsHandle) -> tuple[tuple[str, ...], bool]:
    """Global addresses, and whether raw sockets may be opened there (CAP_NET_RAW over it): tried, not guessed.

    Raises OSError when we may not enter it.
    """
    import socket

    addresses: tuple[str, ...] = ()
    privileged = False
    with netns.inside(handle.fd):
        with suppress(OSError):
            socket.socket(socket.AF_INET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.IPPROTO_RAW).close()
            privileged = True
        with suppress(OSError, ValueError), NetlinkSocket(NETLINK_ROUTE) as sock:
            found = sock.dump(rtnl.addresses(), rtnl_near.address)
            addresses = tuple(a.address for a in found if a.scope == 0)
    return addresses, privileged


def _environ(handle: NetnsHandle, asked: Where, inside: bool) -> dict[str, str]:
    """Proxy variables alone: an environment holds secrets, and a report is shown to others."""
    if asked.kind == "host" or (inside and asked.kind == "netns"):
        raw = [f"{k}={v}" for k, v in os.environ.items()]
    elif handle.pid is not None:
        data = procfs.maybe(f"/proc/{handle.pid}/environ")
        raw = data.split("\0")
    else:
        return {}
    found = (entry.partition("=") for entry in raw)
    kept = {k: v[:_PROXY_LIMIT] for k, _, v in found if k.lower().endswith("_proxy")}
    return {procfs.printable(k): procfs.printable(v) for k, v in kept.items()}
