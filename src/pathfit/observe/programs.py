"""Traffic control and programs at devices: what may drop a packet without any table that a snapshot shows.

Three questions to the kernel for each namespace and device; none of them changes anything. What a discipline or a
program does is not read: that there is one is reason enough to look at the packets themselves.
"""

import ctypes
import errno
import platform
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from struct import Struct

from pathfit.core.evidence import ProgramFact
from pathfit.core.tracing import Tap
from pathfit.host import netns
from pathfit.host.nlsocket import NETLINK_ROUTE, NetlinkSocket
from pathfit.wire import rtnl_stats

MOST_LINKS = 4096  # devices of a namespace
BUFFER = 1 << 16  # bytes: a dump comes in pieces of 32 KiB
# Disciplines that drop for want of room alone: no size, no port, no program decides.
PLAIN = frozenset(("noqueue", "pfifo_fast", "pfifo", "bfifo", "fq_codel", "fq", "codel", "fq_pie", "sfq", "mq", "cake"))

_BPF = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "s390x": 351, "ppc64le": 361}  # bpf(2), by architecture
_PROG_QUERY = 16
_TYPES = (46, 47, 54, 55)  # BPF_TCX_INGRESS, BPF_TCX_EGRESS, BPF_NETKIT_PRIMARY, BPF_NETKIT_PEER: since 6.6, 6.7
_LIBC = ctypes.CDLL(None, use_errno=True)
NOT_THERE = (errno.ENOENT, errno.EINVAL, errno.ENODEV, errno.EOPNOTSUPP)
_QUERY = Struct("=IIIIQI4xQQQQ")  # union bpf_attr, query: device, type, flags, flags of what is there, ids, their count


def read(ref: str, taps: Sequence[Tap], namespaces: Mapping[str, int | None]) -> ProgramFact:
    """The answer to a ReadPrograms request. ``namespaces``: descriptors by NetnsSnapshot.id, None: where we are."""
    by_net: dict[str, list[int]] = defaultdict(list)
    for number, tap in enumerate(taps):
        by_net[tap.netns].append(number)
    at: list[int] = []
    done: list[int] = []
    for name, numbers in by_net.items():
        if name not in namespaces:
            continue
        try:
            with netns.inside(namespaces[name]):
                found = _programmed({taps[n].link for n in numbers})
        except (OSError, ValueError):
            continue
        done += numbers
        at += [n for n in numbers if taps[n].link in found]
    return ProgramFact(ref=ref, at=tuple(sorted(at)), read=tuple(sorted(done)))


def _programmed(links: Iterable[int]) -> set[int]:
    """Those of the devices, of the namespace this thread is in, that have one. Raises OSError, Malformed."""
    with NetlinkSocket(NETLINK_ROUTE, bytearray(BUFFER)) as s:
        queues = list(s.dump(rtnl_stats.queues(), rtnl_stats.kind, MOST_LINKS))
    busy = {q.link for q in queues if q.ingress or q.kind not in PLAIN}
    return {link for link in links if link in busy or any(_attached(link, kind) for kind in _TYPES)}


def _attached(link: int, kind: int) -> bool:
    """Is a program attached to a device in this way? Raises OSError where that may not be asked; a kernel that does not
    know the way has none."""
    number = _BPF.get(platform.machine())
    if number is None:
        raise OSError(0, "bpf(2) has another number here")
    asked = ctypes.create_string_buffer(_QUERY.pack(link, kind, 0, 0, 0, 0, 0, 0, 0, 0))
    if _LIBC.syscall(number, _PROG_QUERY, asked, _QUERY.size) == 0:
        return bool(_QUERY.unpack_from(asked)[5])
    code = ctypes.get_errno()
    if code in NOT_THERE:
        return False
    raise OSError(code, "bpf(2), PROG_QUERY")
