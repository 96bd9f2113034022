"""What a namespace remembers of addresses: learned path MTUs, tcp_metrics, and the path MTU it would use now.

Two netlink sockets and a UDP socket that is connected and never written to: no packet leaves.
"""

import errno
from collections.abc import Iterable

from msgspec.structs import replace

from pathfit.core.evidence import RememberedFact
from pathfit.core.evidence_base import Missing
from pathfit.core.remembered import Remembered, TcpMetrics
from pathfit.core.snapshot import PmtuException
from pathfit.host import netns, tcpsock
from pathfit.host.netns import NetnsHandle
from pathfit.host.nlsocket import NETLINK_GENERIC, NETLINK_ROUTE, NetlinkSocket
from pathfit.observe.namespace import refused
from pathfit.wire import genl, rtnl, rtnl_route, tcpmetrics
from pathfit.wire.netlink import Malformed

EXCEPTIONS = 50_000  # looked at
ADDRESSES = 64  # asked about
PORT = 9  # of the socket that is never written to


def read(ref: str, handle: NetnsHandle, addresses: Iterable[str]) -> RememberedFact | Missing:
    """The answer to a ReadRemembered request."""
    asked = tuple(dict.fromkeys(addresses))[:ADDRESSES]
    missing: list[Missing] = []
    try:
        with netns.inside(handle.fd):
            believed = {a: tcpsock.path_mtu(6 if ":" in a else 4, a, PORT) for a in asked}
            exceptions = _exceptions(handle.where, frozenset(asked), missing)
            metrics = _metrics(handle.where, asked, missing)
    except OSError as e:
        return replace(refused(f"what {handle.where} remembers", e), ref=ref)
    return RememberedFact(
        ref=ref,
        where=handle.where,
        of=tuple(
            Remembered(
                address=a,
                believed=believed[a],
                exceptions=tuple(e for e in exceptions if e.dst == a),
                metrics=(metrics[a],) if a in metrics else (),
            )
            for a in asked
        ),
        missing=tuple(missing),
    )


def _exceptions(where: str, wanted: frozenset[str], missing: list[Missing]) -> tuple[PmtuException, ...]:
    try:
        with NetlinkSocket(NETLINK_ROUTE) as sock:
            found = sock.dump(rtnl.routes(rtnl.AF_UNSPEC, cached=True), rtnl_route.route, EXCEPTIONS)
            if sock.limited:
                missing.append(Missing(what=f"all path MTU exceptions of {where}", why="too many", code="limit"))
    except (OSError, Malformed) as e:
        missing.append(_failed(f"path MTU exceptions of {where}", e))
        return ()
    # one may be dumped once for each way of its route
    return tuple(dict.fromkeys(e for e in found if isinstance(e, PmtuException) and e.dst in wanted))


def _metrics(where: str, asked: tuple[str, ...], missing: list[Missing]) -> dict[str, TcpMetrics]:
    found: dict[str, TcpMetrics] = {}
    try:
        with NetlinkSocket(NETLINK_GENERIC) as sock:
            known = sock.dump(genl.families(), genl.family)  # asking for one by name might load a module
            family = next((f.id for f in known if f.name == tcpmetrics.FAMILY), 0)
            for address in asked if family else ():
                try:
                    one = sock.ask(tcpmetrics.request(family, address), tcpmetrics.metrics)
                except OSError as e:
                    if e.errno != errno.ESRCH:  # nothing kept
                        raise
                    continue
                if one is not None:
                    found[address] = one
    except (OSError, Malformed) as e:
        missing.append(_failed(f"TCP metrics of {where}", e))
    return found


def _failed(what: str, e: OSError | Malformed) -> Missing:
    return Missing(what=what, why=str(e), code="malformed") if isinstance(e, Malformed) else refused(what, e)
