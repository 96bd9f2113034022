"""Reads the packet filters of the network namespace this thread stands in: nftables and iptables-legacy.
What translates rules is loaded where there are any.

Nothing is asked for that is not there: a namespace without tables costs one dump request. Nothing is loaded by
reading: a request to nf_tables would make the kernel load that module (nfnetlink_rcv_msg, request_module), and
getsockopt(IPT_SO_GET_INFO) a legacy table (xt_request_find_table_lock), so both are asked only where they exist.
"""

import errno
import os
import socket
from collections.abc import Callable, Iterator
from functools import cache
from struct import pack
from typing import TYPE_CHECKING, Any, TypeVar

from pathfit.core.evidence_base import AS_ROOT, Missing
from pathfit.core.filters import Table
from pathfit.wire.netlink import Malformed, split
from pathfit.wire.nft import messages as m

if TYPE_CHECKING:
    from pathfit.wire.nft.sets import SetContent
    from pathfit.wire.nft.tables import RawRuleset

RECEIVE = 1 << 20  # larger than any message; the kernel fills at most what one recv offers
TRIES = 5  # of a dump during which the ruleset changed; busy hosts (kube-proxy) change it a few times a second
MOST_ELEMENTS = 65536  # of one set: 10 000 take about 20 ms; larger lists (blocklists) are marked as cut
TIMEOUT = 2.0  # seconds for one answer of the kernel: it answers in microseconds or never

T = TypeVar("T")


class _Changed(Exception):
    """The ruleset changed while it was read."""


def read_tables() -> tuple[tuple[Table, ...], tuple[Missing, ...]]:
    """All filter tables of this thread's network namespace, nftables first, and what could not be read.

    Never raises OSError: what cannot be read is a Missing.
    """
    found, missing = read_nft() if nf_tables_present() else ((), ())
    legacy, missing_legacy = read_legacy()
    if not found and not legacy:
        return (), missing + missing_legacy
    from pathfit.observe import ipsets

    resolved, missing_sets = ipsets.resolve(found + legacy)
    return resolved, missing + missing_legacy + missing_sets


@cache
def nf_tables_present() -> bool:
    """Is nf_tables in this kernel now? Without /sys or a list of built-in modules: yes, ask it."""
    if os.path.isdir("/sys/module/nf_tables"):
        return True
    try:
        with open(f"/lib/modules/{os.uname().release}/modules.builtin", "rb") as f:
            return b"/nf_tables.ko" in f.read()
    except OSError:
        return True


# --- nftables ----------------------------------------------------------------------------------------------------


def read_nft() -> tuple[tuple[Table, ...], tuple[Missing, ...]]:
    """nftables over netlink; repeated while the ruleset changes under our hands."""
    missing: list[Missing] = []
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, m.NETLINK_NETFILTER) as s:
            s.settimeout(TIMEOUT)
            if _untouched(s):
                return (), ()
            from pathfit.wire.nft.tables import tables

            for attempt in range(TRIES):
                missing = []
                try:
                    raw = _ruleset(_Reader(s, missing, strict=attempt < TRIES - 1))
                except _Changed:
                    continue
                found, problems = tables(raw)
                return found, (*missing, *problems)
    except OSError as e:
        return (), (_refused(e),) if e.errno not in _ABSENT else ()
    return (), (*missing,)


def _untouched(s: socket.socket) -> bool:
    """Whether no rule was ever made in this namespace: a fifth of the time of asking for its tables. Raises OSError
    where we may not know: what would read them need not be imported."""
    s.send(m.getgen())
    data = s.recv(4096)
    batch = split(data)
    if batch.errno in (errno.EPERM, errno.EACCES):
        raise OSError(batch.errno, os.strerror(batch.errno))
    return not batch.errno and any(m.gen_id(data, start, end) == m.FIRST_GENERATION for _, start, end in batch.bodies)


_ABSENT = (errno.EPROTONOSUPPORT, errno.EAFNOSUPPORT, errno.EINVAL, errno.EOPNOTSUPP)  # no nfnetlink, no nf_tables


def _refused(e: OSError) -> Missing:
    if e.errno in (errno.EPERM, errno.EACCES):
        return Missing(what="nftables rules", why="not permitted", how=AS_ROOT, code="permission")
    if isinstance(e, TimeoutError):
        return Missing(what="nftables rules", why="the kernel did not answer", code="timeout")
    return Missing(what="nftables rules", why=os.strerror(e.errno or 0), code="unsupported")


class _Reader:
    """Dumps over one socket that must all be of one generation."""

    def __init__(self, s: socket.socket, missing: list[Missing], strict: bool) -> None:
        self.socket = s
        self.missing = missing
        self.strict = strict
        self.generation: int | None = None
        self.sequence = 0

    def bodies(self, what: str, request: bytes) -> Iterator[tuple[bytes, int, int]]:
        """(buffer, start, end) of every message. Raises OSError when refused, _Changed when the ruleset changed."""
        self.sequence += 1
        self.socket.send(request[:8] + pack("=I", self.sequence) + request[12:])
        while True:
            data = self.socket.recv(RECEIVE)
            try:
                batch = split(data, self.sequence)
            except Malformed as e:
                self.note(what, str(e))
                return
            if batch.interrupted:
                self.changed(what)
            for _, start, end in batch.bodies:
                self.same(what, m.generation(data, start))
                yield data, start, end
            if batch.errno:
                raise OSError(batch.errno, os.strerror(batch.errno))
            if batch.done:
                return

    def same(self, what: str, generation: int) -> None:
        """All messages of one reading belong to one generation."""
        if self.generation is None:
            self.generation = generation
        elif self.generation != generation:
            self.generation = generation
            self.changed(what)

    def changed(self, what: str) -> None:
        """Read again, or say that it may not be one state."""
        if self.strict:
            raise _Changed
        why = "rules kept changing while they were read"
        if not any(x.why == why for x in self.missing):
            self.missing.append(Missing(what=f"nftables {what}", why=why, code="vanished"))

    def note(self, what: str, why: str) -> None:
        self.missing.append(Missing(what=f"nftables {what}", why=why, code="malformed"))

    def read(self, what: str, request: bytes, decode: Callable[[bytes, int, int], T]) -> list[T]:
        """A dump, decoded; what contradicts itself is left out and noted."""
        found: list[T] = []
        for data, start, end in self.bodies(what, request):
            try:
                found.append(decode(data, start, end))
            except Malformed as e:
                self.note(what, str(e))
        return found


def _ruleset(r: _Reader) -> "RawRuleset":
    from pathfit.wire.nft.tables import RawRuleset

    raw = RawRuleset(tables=r.read("tables", m.dump(m.GETTABLE), m.table))
    if not raw.tables:
        return raw
    raw.chains = r.read("chains", m.dump(m.GETCHAIN), m.chain)
    if not raw.chains:
        return raw
    raw.rules = r.read("rules", m.dump(m.GETRULE), m.rule)
    wanted, flowtables = _referenced(raw.rules)
    if wanted:
        for s in r.read("sets", m.dump(m.GETSET), m.set_):
            if (key := (s.family, s.table, s.name)) in wanted:
                raw.sets[key] = _elements(r, s)
    if flowtables:
        for family, name, _, devices in r.read("flowtables", m.dump(m.GETFLOWTABLE), m.flowtable):
            raw.flowtables[family, name] = raw.flowtables.get((family, name), ()) + devices
    return raw


def _referenced(rules: list[m.RawRule]) -> tuple[set[tuple[str, str, str]], bool]:
    """Which sets are looked up by a rule; is any flow table used?"""
    wanted, flowtables = set(), False
    for rule in rules:
        for e in rule.exprs:
            if e.name == "lookup" and 1 in e.data:
                name = e.data[1].rstrip(b"\0").decode("utf-8", "backslashreplace")
                wanted.add((rule.family, rule.table, name))
            elif e.name == "flow_offload":
                flowtables = True
    return wanted, flowtables


def _elements(r: _Reader, s: m.RawSet) -> "SetContent":
    from pathfit.wire.nft.sets import SetContent

    found: list[m.RawElement] = []
    what, complete = f"set {s.family} {s.table} {s.name}", True
    for data, start, end in r.bodies(what, m.dump(m.GETSETELEM, family=s.family, table=s.table, set_name=s.name)):
        if not complete:
            continue  # the dump has to be taken to its end: the next one waits for it
        try:
            found += m.elements(data, start, end)
        except Malformed as e:
            r.note(what, str(e))
            complete = False
        if len(found) > MOST_ELEMENTS:
            complete = False
            r.missing.append(Missing(what=f"nftables {what}", why=f"more than {MOST_ELEMENTS} elements", code="limit"))
    return SetContent(s, tuple(found), complete)


# --- iptables-legacy ---------------------------------------------------------------------------------------------

_LEGACY = (
    ("ip_tables_names", "ip", socket.AF_INET, socket.IPPROTO_IP),
    ("ip6_tables_names", "ip6", socket.AF_INET6, socket.IPPROTO_IPV6),
)


def read_legacy() -> tuple[tuple[Table, ...], tuple[Missing, ...]]:
    """Tables of iptables-legacy that exist here (they are listed in /proc/net/ip_tables_names)."""
    found: list[Table] = []
    missing: list[Missing] = []
    for names_file, family, domain, level in _LEGACY:
        try:
            names = _read_names(f"/proc/thread-self/net/{names_file}")
        except FileNotFoundError:
            continue  # no legacy iptables in this kernel, or not loaded
        except OSError as e:
            missing.append(_legacy_missing(family, e))
            continue
        if not names:
            continue
        try:
            with socket.socket(domain, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.IPPROTO_RAW) as s:
                for name in names:
                    _read_table(s, level, family, name, found, missing)
        except OSError as e:
            missing.append(_legacy_missing(family, e))
    return tuple(found), tuple(missing)


def _read_names(path: str) -> list[str]:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, 4096).decode("ascii", "replace").split()
    finally:
        os.close(fd)


def _legacy_missing(family: str, e: OSError, table: str = "") -> Missing:
    what = f"iptables-legacy rules ({family}{' ' + table if table else ''})"
    if e.errno in (errno.EPERM, errno.EACCES):
        return Missing(what=what, why="not permitted", how=AS_ROOT, code="permission")
    return Missing(what=what, why=os.strerror(e.errno or 0), code="vanished")


def _read_table(
    s: socket.socket, level: int, family: str, name: str, found: list[Table], missing: list[Missing]
) -> None:
    """One table. Between the two calls it may have been replaced by a larger one (EAGAIN): ask again."""
    from pathfit.wire.xt.blobs import ENTRIES, INFO, info, info_request, table

    for _ in range(TRIES):
        try:
            facts = info(_getsockopt(s, level, INFO, info_request(name)))
            blob = _getsockopt(s, level, ENTRIES, facts.request())
        except OSError as e:
            if e.errno == errno.EAGAIN:
                continue
            missing.append(_legacy_missing(family, e, name))
            return
        except ValueError as e:
            missing.append(Missing(what=f"iptables-legacy {family} {name}", why=str(e), code="malformed"))
            return
        one, why = table(family, facts, blob)
        if one is not None:
            found.append(one)
        if why:
            missing.append(Missing(what=f"iptables-legacy {family} {name}", why=why, code="malformed"))
        return
    missing.append(_legacy_missing(family, OSError(errno.EAGAIN, "kept changing"), name))


def _getsockopt(s: socket.socket, level: int, option: int, buffer: bytearray) -> bytes:
    """getsockopt(2) with input: Python's own cannot pass any, so through libc. Raises OSError."""
    import ctypes

    libc = _libc()
    size = ctypes.c_uint32(len(buffer))
    raw = (ctypes.c_char * len(buffer)).from_buffer(buffer)
    if libc.getsockopt(s.fileno(), level, option, raw, ctypes.byref(size)) != 0:
        e = ctypes.get_errno()
        raise OSError(e, os.strerror(e))
    return bytes(buffer[: size.value])


@cache
def _libc() -> Any:
    import ctypes

    return ctypes.CDLL(None, use_errno=True)


__all__ = ["nf_tables_present", "read_legacy", "read_nft", "read_tables"]
