"""TCP sockets of a namespace, hung ones first, by sock_diag. Opens a netlink socket there and sends no packet."""

from collections.abc import Callable, Iterable, Sequence

from msgspec.structs import replace

from pathfit.core.evidence import SocketFact
from pathfit.core.evidence_base import Missing
from pathfit.core.sockets import Socket
from pathfit.host import netns, procfs
from pathfit.host.netns import NetnsHandle
from pathfit.host.nlsocket import NETLINK_SOCK_DIAG, NetlinkSocket
from pathfit.model import hung
from pathfit.observe import discover
from pathfit.observe.namespace import refused
from pathfit.wire import sockdiag
from pathfit.wire.addresses import AF_INET, AF_INET6
from pathfit.wire.netlink import Malformed

SOCKETS = 50_000  # looked at
KEPT = 200  # in the answer
NAMED = 32  # of which the process is looked for
_COUNTED = (
    (AF_INET, "/proc/thread-self/net/sockstat", "TCP: inuse 0 "),
    (AF_INET6, "/proc/thread-self/net/sockstat6", "TCP6: inuse 0\n"),
)
_TALKING = (sockdiag.ESTABLISHED, sockdiag.SYN_SENT)
FILES = 20_000  # of processes looked at for that, about 2 microseconds each


def read(ref: str, handle: NetnsHandle) -> SocketFact | Missing:
    """The answer to a ReadSockets request. Missing when the kernel or our rights do not allow it."""
    found: list[Socket] = []
    ports: set[int] = set()
    missing: list[Missing] = []
    try:
        with netns.inside(handle.fd):
            sock = NetlinkSocket(NETLINK_SOCK_DIAG)
    except OSError as e:
        return replace(refused(f"sockets of {handle.where}", e), ref=ref)
    with sock:
        for family in (AF_INET, AF_INET6):
            try:
                found += sock.dump(sockdiag.tcp(family), sockdiag.socket, SOCKETS)
                listening = sockdiag.tcp(family, (sockdiag.LISTEN,), details=False)
                ports.update(one.port for one in sock.dump(listening, sockdiag.listening, SOCKETS))
            except OSError as e:
                missing.append(refused(f"IPv{4 if family == AF_INET else 6} sockets of {handle.where}", e))
            except Malformed as e:
                missing.append(Missing(what=f"sockets of {handle.where}", why=str(e), code="malformed"))
        if sock.limited:
            missing.append(_too_many(handle.where))
    if len(missing) == 2 and not found:
        return replace(missing[0], ref=ref)
    return SocketFact(
        ref=ref,
        where=handle.where,
        sockets=_named(hung.ordered(found)[:KEPT], handle),
        total=len(found),
        listening=tuple(sorted(ports)),
        missing=tuple(missing),
    )


def hanging(identity: str, where: str, pids: Sequence[int]) -> SocketFact | None:
    """The sockets that hang in the namespace this thread stands in, whose processes ``pids`` are; None when none does.

    For a look at a thousand namespaces: only established ones and those that still connect, and nothing is asked where
    the kernel counts no TCP socket. ``ref`` is ``identity``.
    """
    missing: list[Missing] = []
    found: list[Socket] = []
    families = _in_use()
    if not families:
        return None
    try:
        with NetlinkSocket(NETLINK_SOCK_DIAG) as sock:
            for family in families:
                found += sock.dump(sockdiag.tcp(family, _TALKING), sockdiag.socket, SOCKETS)
            if sock.limited:
                missing.append(_too_many(where))
    except OSError as e:
        missing.append(refused(f"sockets of {where}", e))
    except Malformed as e:
        missing.append(Missing(what=f"sockets of {where}", why=str(e), code="malformed"))
    hangs = [s for s in hung.ordered(found)[:KEPT] if hung.look(s) is not None]
    if not hangs and not missing:
        return None
    named = _with_process(hangs, lambda wanted: holders(pids, wanted))
    return SocketFact(ref=identity, where=where, sockets=named, total=len(found), missing=tuple(missing))


def _in_use() -> list[int]:
    """Families with a TCP socket in use here. A dump walks the table of all namespaces (inet_diag_dump_icsk), which
    on a large machine takes a thousand times as long as these two files."""
    return [family for family, name, word in _COUNTED if word not in procfs.maybe(name, 4096)]


def _named(sockets: list[Socket], handle: NetnsHandle) -> tuple[Socket, ...]:
    """The hung ones with the process that holds them."""

    def everywhere(wanted: set[int]) -> dict[int, str]:
        homes, _, _ = discover.processes_by_namespace()
        near = homes.get(handle.id, [])  # then everybody: a helper may have made its socket there and live elsewhere
        return holders([*near, *(p for home, pids in homes.items() if home != handle.id for p in pids)], wanted)

    return _with_process(sockets, everywhere)


def _with_process(sockets: list[Socket], find: Callable[[set[int]], dict[int, str]]) -> tuple[Socket, ...]:
    wanted = {s.inode for s in sockets[:NAMED] if s.inode and hung.look(s) is not None}
    names = find(wanted) if wanted else {}
    return tuple(replace(s, process=names[s.inode]) if s.inode in names else s for s in sockets)


def _too_many(where: str) -> Missing:
    return Missing(what=f"all sockets of {where}", why=f"more than {SOCKETS}", code="limit")


def holders(pids: Iterable[int], inodes: set[int]) -> dict[int, str]:
    """ "name[pid]" by socket inode, as far as it is found among ``pids``."""
    wanted = {f"socket:[{inode}]": inode for inode in inodes}
    found: dict[int, str] = {}
    looked = 0
    for pid in pids:
        for fd in procfs.names(f"/proc/{pid}/fd"):
            looked += 1
            inode = wanted.get(procfs.link(f"/proc/{pid}/fd/{fd}"))
            if inode is not None and inode not in found:
                found[inode] = f"{procfs.maybe(f'/proc/{pid}/comm', 64)}[{pid}]"
            if looked >= FILES or len(found) == len(wanted):
                return found
    return found
