"""How a container engine was before a repair: what the journal keeps of it (see :mod:`pathfit.core.journal`)."""

from pathfit.core.base import Tagged, Value


class Startable(Value, frozen=True, kw_only=True):
    """All that is needed to start a process again as it was. Bytes are as the kernel showed them (proc(5)).

    ``cgroups``: hierarchy (its controllers with commas, "" of version 2) to path. ``limits``: (RLIMIT number, soft,
    hard). ``output``: the file its output went to, "" when it was none.
    """

    exe: str
    argv: tuple[bytes, ...]
    env: tuple[bytes, ...]
    cwd: str = "/"
    umask: int = 0o022
    oom: int = 0
    output: str = ""
    cgroups: dict[str, str] = {}
    limits: tuple[tuple[int, int, int], ...] = ()


class EngineBefore(Tagged, frozen=True, kw_only=True):
    """A daemon that runs. ``started``: clock ticks after boot, so that a pid is not mistaken. ``mtu``: of its default
    network. ``running``: ids of the containers that ran, those in another's namespace last; ``paused``: of those, the
    ones that stood still (`docker pause`)."""

    socket: str
    pid: int
    started: int
    boot: str
    mtu: int | None = None
    running: tuple[str, ...] = ()
    paused: tuple[str, ...] = ()
    again: Startable | None = None


class MemberBefore(Value, frozen=True, kw_only=True):
    """A container in a network. ``settings`` is the EndpointConfig (JSON) that people gave it; ``addresses`` are those
    it had, whether given or not; ``given``: somebody chose the address."""

    id: str
    name: str
    settings: str
    addresses: tuple[str, ...] = ()  # IPv4, IPv6; "" = none
    mac: str = ""
    given: bool = False


class NetworkBefore(Tagged, frozen=True, kw_only=True):
    """An engine's network. ``made`` is the request (JSON) that would make it as it was."""

    socket: str
    id: str
    name: str
    made: str
    mtu: str | None = None  # the option as it was written
    members: tuple[MemberBefore, ...] = ()


class StoodBefore(Value, frozen=True, kw_only=True):
    """A container that ran. ``started``: clock ticks after boot, so that a pid is not mistaken. ``owner``: the id of
    the one whose namespace it lives in, its own where it has one. ``mtus``: of its devices but loopback, by name."""

    id: str
    name: str
    owner: str
    pid: int
    started: int
    paused: bool = False
    mtus: dict[str, int] = {}


class ContainersBefore(Tagged, frozen=True, kw_only=True):
    """Containers that ran, those in another's namespace last, and the network (JSON) as their engine saw it; its MTU
    option stands beside it."""

    boot: str
    network: str
    mtu: str | None = None
    containers: tuple[StoodBefore, ...] = ()
