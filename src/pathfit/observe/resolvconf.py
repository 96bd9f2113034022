"""/etc/resolv.conf and /etc/hosts as text to values (resolv.conf(5), hosts(5)); as glibc reads them, bounded. Pure."""

import ipaddress
from collections.abc import Iterator
from typing import NamedTuple

SERVERS = 3  # MAXNS of resolv.h: glibc uses no more
SEARCH = 32
TEXT = 1 << 20  # bytes of a file looked at


class ResolvConf(NamedTuple):
    """Whom to ask, and what to append. ``timeout`` seconds per try, ``attempts`` rounds."""

    servers: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    ndots: int = 1
    timeout: int = 5
    attempts: int = 2


def parse(text: str) -> ResolvConf:
    """Lines nobody understands are left out, as the C library does."""
    servers: list[str] = []
    search: tuple[str, ...] = ()
    options = {"ndots": 1, "timeout": 5, "attempts": 2}
    for line in text[:TEXT].splitlines():
        words = line.split()
        if len(words) < 2 or words[0][0] in "#;":
            continue
        match words[0]:
            case "nameserver" if (server := canonical(words[1])) and len(servers) < SERVERS:
                servers.append(server)
            case "search":
                search = tuple(w.rstrip(".").lower() for w in words[1 : SEARCH + 1] if w != ".")
            case "domain":
                search = (words[1].rstrip(".").lower(),)
            case "options":
                for word in words[1:]:
                    name, _, value = word.partition(":")
                    if name in options and value.isdigit():
                        options[name] = min(int(value), 30)
    return ResolvConf(tuple(servers), search, options["ndots"], options["timeout"], options["attempts"])


def canonical(text: str) -> str | None:
    """An address as core writes it, or None. A zone ("fe80::1%eth0") stays."""
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return None


def hosts(text: str, name: str) -> tuple[str, ...]:
    """Addresses the hosts file gives for ``name`` (any case, without the final dot), in its order."""
    wanted = name.rstrip(".").lower()
    found = [address for address, names in _entries(text) if wanted in names]
    return tuple(dict.fromkeys(found))


def _entries(text: str) -> Iterator[tuple[str, list[str]]]:
    for line in text[:TEXT].splitlines():
        words = line.partition("#")[0].split()
        if len(words) > 1 and (address := canonical(words[0])):
            yield address, [w.rstrip(".").lower() for w in words[1:]]


def candidates(name: str, conf: ResolvConf) -> tuple[str, ...]:
    """Full names to try, in order (res_search(3)): as given first when it has ``ndots`` dots or ends in one."""
    bare = name.rstrip(".")
    if name.endswith("."):
        return (bare,)
    longer = [f"{bare}.{suffix}" for suffix in conf.search]
    order = [bare, *longer] if bare.count(".") >= conf.ndots else [*longer, bare]
    return tuple(dict.fromkeys(order))
