"""A name resolved as the source would: its hosts file, its resolv.conf, sockets in its namespace.

getaddrinfo(3) cannot do that: it knows one namespace and one set of files. What it would do beyond these (LLMNR,
mDNS, nscd, nss modules) is not followed; systemd-resolved's stub is a nameserver like any other.

Answers are hostile until proven otherwise: at most :data:`ADDRESSES` addresses are kept, an alias chain ends after
:data:`ALIASES`, records for other names are ignored, and everything ends with the request's timeout.
"""

import errno
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from pathfit.core.evidence import NameFact
from pathfit.core.net import Family
from pathfit.core.request import ResolveName
from pathfit.host import clock, dns, procfs
from pathfit.host.netns import NetnsHandle
from pathfit.model.addr import family_of
from pathfit.observe import resolvconf
from pathfit.observe.resolvconf import ResolvConf

if TYPE_CHECKING:
    from dns.message import Message

ADDRESSES = 32
ALIASES = 16
NAME = 253  # bytes of a name (RFC 1035 section 2.3.4)
LABEL = 63

Trouble = Literal["nxdomain", "nodata", "timeout", "refused", "servfail", "no-nameserver", "malformed", "unreachable"]


class Answer(NamedTuple):
    """What one server said about one name. ``error`` None: the addresses are the answer."""

    addresses: tuple[str, ...] = ()
    error: Trouble | None = None
    server: str | None = None
    more: int = 0  # addresses beyond those kept
    large_lost: bool = False  # see ask()


def _kept(addresses: Iterable[str], server: str | None = None) -> Answer:
    every = tuple(dict.fromkeys(addresses))
    return Answer(every[:ADDRESSES], None, server, len(every[ADDRESSES:]))


def resolve(handle: NetnsHandle, request: ResolveName) -> NameFact:
    """The answer to a ResolveName request; what went wrong is in ``error``, never raised."""
    started = clock.now()
    name = request.name.strip()
    found, source = _resolve(handle, name, request.families, started + request.timeout)
    return NameFact(
        ref=request.ref,
        name=request.name,
        addresses=found.addresses,
        error=found.error,
        more=found.more,
        server=found.server,
        source=source,
        took=round(clock.now() - started, 6),
        large_lost=found.large_lost,
    )


def _resolve(handle: NetnsHandle, name: str, families: Iterable[Family], deadline: float) -> tuple[Answer, str]:
    if address := resolvconf.canonical(name.strip("[]")):
        return Answer((address,)), "literal"
    ascii_name = _ascii(name)
    if ascii_name is None:
        return Answer(error="malformed"), "literal"
    wanted = tuple(families)
    hosts = [a for a in resolvconf.hosts(_file(handle, "hosts"), ascii_name) if family_of(a) in wanted]
    if hosts:
        return _kept(hosts), "hosts"
    if ascii_name.rstrip(".") == "localhost":  # RFC 6761 section 6.3: never asked of a server
        return Answer(tuple(a for a in ("127.0.0.1", "::1") if family_of(a) in wanted)), "hosts"
    conf = resolvconf.parse(_file(handle, "resolv.conf"))
    return _search(handle, ascii_name, conf, wanted, deadline), "dns"


def _ascii(name: str) -> str | None:
    """The name as DNS carries it (IDNA), lower case; None when it cannot be one."""
    try:
        text = name if name.isascii() else name.encode("idna").decode("ascii")
    except UnicodeError:
        return None
    bare = text.removesuffix(".")
    labels = bare.split(".")
    if not bare or len(bare) > NAME or any(not 0 < len(label) <= LABEL for label in labels):
        return None
    if any(ord(c) <= 32 or ord(c) == 127 or c in "/\\" for c in text):
        return None
    return text.lower()


def _file(handle: NetnsHandle, name: str) -> str:
    """A file of /etc as the source sees it: `ip netns exec` binds /etc/netns/NAME over it."""
    if handle.mount_root:
        return procfs.maybe(f"{handle.mount_root}/etc/{name}", resolvconf.TEXT)
    kind, _, label = handle.where.partition(":")
    label = label.removeprefix("/run/netns/").removeprefix("/var/run/netns/")
    if kind == "netns" and "/" not in label and os.path.exists(path := f"/etc/netns/{label}/{name}"):
        return procfs.maybe(path, resolvconf.TEXT)
    return procfs.maybe(f"/etc/{name}", resolvconf.TEXT)


def _search(handle: NetnsHandle, name: str, conf: ResolvConf, families: tuple[Family, ...], deadline: float) -> Answer:
    if not conf.servers:
        return Answer(error="no-nameserver")
    worst = Answer(error="nxdomain", server=conf.servers[0])
    for candidate in resolvconf.candidates(name, conf):
        if len(candidate) > NAME:
            continue
        answer = _ask_all(handle, candidate, conf, families, deadline)
        if answer.error not in ("nxdomain", "nodata"):
            return answer
        if answer.error == "nodata" or worst.error == "nxdomain":
            worst = answer
        if clock.now() >= deadline:
            return Answer(error="timeout", server=answer.server)
    return worst


def _ask_all(handle: NetnsHandle, name: str, conf: ResolvConf, families: tuple[Family, ...], deadline: float) -> Answer:
    """Server after server until one knows; each gets its share of the time that is left."""
    last = Answer(error="timeout", server=conf.servers[0])
    for left, server in zip(range(len(conf.servers), 0, -1), conf.servers, strict=True):
        share = min((deadline - clock.now()) / left, float(conf.timeout * conf.attempts))
        if share <= 0:
            break
        last = ask(handle.fd, server, name, families, share)
        if last.error in (None, "nxdomain", "nodata"):
            return last
    return last


_REFUSED = frozenset((errno.ECONNREFUSED, errno.EPERM, errno.EACCES))


def ask(fd: int | None, server: str, name: str, families: tuple[int, ...], timeout: float) -> Answer:
    """Ask one server for the addresses of a full name, all families at once.

    Where it is silent it is asked once more as in 1987, without EDNS: answers are then small. When such an answer comes
    and is cut, and a last question with EDNS is met with silence again, it is the large ones that get lost.
    """
    end = clock.now() + timeout
    try:
        found = _asked(fd, server, name, families, timeout / 2)
        if found.error != "timeout":
            return found
        cut: set[int] = set()
        plain = _asked(fd, server, name, families, max(0.01, end - clock.now()), cut)
        left = end - clock.now()
        if plain.error == "timeout" or not cut or left < timeout / 8:
            return plain
        again = _asked(fd, server, name, families, left)
        return plain._replace(large_lost=True) if again.error == "timeout" else again
    except OSError as e:
        return Answer(error="refused" if e.errno in _REFUSED else "unreachable", server=server)


def _asked(
    fd: int | None, server: str, name: str, families: tuple[int, ...], timeout: float, cut: set[int] | None = None
) -> Answer:
    """One try: with EDNS, or without where ``cut`` takes the ids of what was cut. Raises OSError."""
    import dns.exception as dns_exception
    import dns.message as dns_message

    queries: dict[int, bytes] = {}
    asked: dict[int, Message] = {}
    edns: dict[str, Any] = {"use_edns": 0, "payload": 1232} if cut is None else {"use_edns": False}
    for family in families:
        number = _unused(queries)
        query = dns_message.make_query(name, "AAAA" if family == 6 else "A", id=number, **edns)
        asked[number], queries[number] = query, query.to_wire()
    answers = dns.exchange(fd, server, queries, timeout, cut)
    if not answers:
        return Answer(error="timeout", server=server)
    parts: list[Answer] = []
    for number, data in sorted(answers.items(), key=lambda item: list(queries).index(item[0])):
        try:
            message = dns_message.from_wire(data, ignore_trailing=True)
            valid = asked[number].is_response(message)
        except (dns_exception.DNSException, ValueError):
            valid = False
        parts.append(_read(message, server) if valid else Answer(error="malformed", server=server))
    return _together(parts, server, complete=len(answers) == len(queries))


def _unused(queries: dict[int, bytes]) -> int:
    while (number := dns.random_id()) in queries:
        pass
    return number


def _together(parts: list[Answer], server: str, *, complete: bool) -> Answer:
    """Answers for several families as one: addresses win, then the more telling error."""
    kept = _kept((a for part in parts for a in part.addresses), server)
    if kept.addresses:
        return kept._replace(more=kept.more + sum(part.more for part in parts))
    for error in ("nxdomain", "servfail", "refused", "malformed"):
        if any(part.error == error for part in parts):
            return Answer(error=error, server=server)
    return Answer(error="nodata" if complete else "timeout", server=server)


def _read(message: "Message", server: str) -> Answer:
    """The addresses of a message: aliases are followed inside it, from the name that was asked."""
    import dns.flags as flags
    import dns.rcode as rcodes
    import dns.rdatatype as types

    code = message.rcode()
    if code == rcodes.NXDOMAIN:
        return Answer(error="nxdomain", server=server)
    if code == rcodes.REFUSED:
        return Answer(error="refused", server=server)
    if code != rcodes.NOERROR:
        return Answer(error="servfail", server=server)
    question = message.question[0]
    at = question.name
    for _ in range(ALIASES):
        addresses: list[str] = []
        alias = None
        for rrset in message.answer:
            if rrset.name != at:
                continue
            if rrset.rdtype == question.rdtype:
                addresses += [r.address for r in rrset]
            elif rrset.rdtype == types.CNAME:
                alias = next(iter(rrset)).target
        if addresses:
            return _kept(addresses, server)
        if alias is None:
            cut = bool(message.flags & flags.TC)  # over TCP as well: nobody knows what it left out
            return Answer(error="malformed" if cut else "nodata", server=server)
        at = alias
    return Answer(error="servfail", server=server)  # a loop, or a chain no resolver would follow
