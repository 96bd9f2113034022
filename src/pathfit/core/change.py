"""What a repair changes, as data: the logical half of :class:`~pathfit.core.finding.Fix`.

A Change says *what shall be so*; ``apply/`` finds out what is so now, writes that to its journal, makes the change,
and can make it as it was. Every Change names its namespace by id (device and inode of the nsfs file), for a name may
be given to another namespace between the diagnosis and the repair; ``where`` is only the way to find it.
``Fix.commands`` are the same changes in words that can be typed.
"""

from pathfit.core.base import Tagged
from pathfit.core.net import Family


class SetRouteMtu(Tagged, frozen=True, kw_only=True):
    """The MTU (bytes) of one route; every other attribute stays. ``dst`` "" with ``prefix`` 0 = default."""

    netns: str
    where: str
    family: Family
    table: int
    dst: str
    prefix: int
    mtu: int
    link: int = 0  # ifindex of its way out
    via: str | None = None
    metric: int = 0
    tos: int = 0


class SetLinkMtu(Tagged, frozen=True, kw_only=True):
    """The MTU (bytes) of a device. Below 1280 the kernel takes IPv6 from it: undo brings that back."""

    netns: str
    where: str
    link: str
    index: int
    mtu: int


class AddNftTable(Tagged, frozen=True, kw_only=True):
    """An nft table of our own. ``script`` is what `nft -f -` reads; undo deletes the table."""

    netns: str
    where: str
    family: str
    name: str
    script: str


class FlushRouteCache(Tagged, frozen=True, kw_only=True):
    """Forget the cached path MTUs of a namespace. No undo: the kernel learns again what is true."""

    netns: str
    where: str
    family: Family


class WriteFile(Tagged, frozen=True, kw_only=True):
    """A text file of the host. ``old`` is what was read when the repair was planned (None: there was none): a file
    that has changed since is not written. ``mode`` only for a file that is made new."""

    path: str
    new: str
    old: str | None = None
    mode: int = 0o644


class RestartEngine(Tagged, frozen=True, kw_only=True):
    """Restart a container engine's daemon so that it reads its configuration.

    ``how``: "systemctl", "service", or "argv" (end ``pid`` and start its command line again). ``running`` are the
    ids of the containers that ran before: those that do not come back by themselves are started. "argv" comes only
    with a daemon that is ``Engine.inner``; of any other the repair is ``manual`` and holds no changes.

    "exec": the same of a daemon in the container ``within`` (its id) of the dockerd at the socket ``through``, which
    starts it there as `docker exec --detach` would.
    """

    engine: str
    socket: str
    how: str
    unit: str = ""  # of systemctl and service
    pid: int = 0
    argv: tuple[str, ...] = ()
    running: tuple[str, ...] = ()
    within: str = ""
    through: str = ""


class RecreateNetwork(Tagged, frozen=True, kw_only=True):
    """Make an engine's network again with another MTU option; its members are taken off and put back as they were.
    ``within``: the id of the container that the engine runs in, "" = it is in our own mount namespace."""

    engine: str
    socket: str
    network: str  # id
    name: str
    mtu: int  # the option's value
    within: str = ""


class RestartContainers(Tagged, frozen=True, kw_only=True):
    """Containers of an engine without a daemon, stopped together and started again: a device's MTU comes with it.

    ``client``: the words before a command of the engine's. ``network``: what it is done for; the engine itself has to
    see the MTU ``mtu`` there before anything is stopped. ``containers``: ids; whoever lives in another's namespace
    stands after that one.
    """

    engine: str
    client: tuple[str, ...]
    network: str  # name
    mtu: int
    containers: tuple[str, ...]


class SetOvsMtu(Tagged, frozen=True, kw_only=True):
    """mtu_request (bytes) of an interface in the database of Open vSwitch, which listens at ``socket``."""

    socket: str
    interface: str
    mtu: int


class SetForwarding(Tagged, frozen=True, kw_only=True):
    """Where a VXLAN device sends the frames for one MAC address; every other attribute of the entry stays. ``old``: the
    far end that was read when the repair was planned; an entry that leads elsewhere by now is not touched."""

    netns: str
    where: str
    link: str
    index: int
    mac: str
    remote: str
    old: str


Change = (
    SetRouteMtu
    | SetLinkMtu
    | AddNftTable
    | FlushRouteCache
    | WriteFile
    | RestartEngine
    | RecreateNetwork
    | RestartContainers
    | SetOvsMtu
    | SetForwarding
)
