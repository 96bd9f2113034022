"""TCP sockets of a namespace, hung ones first, by sock_diag. Opens a netlink socket there and sends no packet."""

from collections.abc import Iterable

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
            missing.append(Missing(what=f"all sockets of {handle.where}", why=f"more than {SOCKETS}", code="limit"))
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


def _named(sockets: list[Socket], handle: NetnsHandle) -> tuple[Socket, ...]:
    """The hung ones with the process that holds them."""
    wanted = {s.inode for s in sockets[:NAMED] if s.inode and hung.look(s) is not None}
    if not wanted:
        return tuple(sockets)
    homes, _, _ = discover.processes_by_namespace()
    near = homes.get(handle.id, [])  # then everybody: a helper may have made its socket there and live elsewhere
    names = holders([*near, *(p for home, pids in homes.items() if home != handle.id for p in pids)], wanted)
    return tuple(replace(s, process=names[s.inode]) if s.inode in names else s for s in sockets)


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
