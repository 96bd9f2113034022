"""Namespaces, opened to be changed: found by the way they were found before, checked by what cannot be mistaken.

A name may be given to another namespace, a pid to another process, and the number of a namespace's file (its inode)
is used again once it is gone. SO_NETNS_COOKIE is not (net/core/net_namespace.c), so both are compared.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from pathfit.apply.step import Gone
from pathfit.core.evidence_base import Missing
from pathfit.core.journal import Place
from pathfit.host import netns
from pathfit.host.nlsocket import NETLINK_ROUTE, NetlinkSocket
from pathfit.observe import discover
from pathfit.observe.places import locate


def place(netns_id: str, where: str) -> Place:
    """The namespace a change names, as it will be looked for later. Raises Gone, OSError."""
    with opened(Place(id=netns_id, where=where)) as (_, cookie):
        return Place(id=netns_id, where=where, cookie=cookie)


@contextmanager
def opened(wanted: Place) -> Iterator[tuple[int, int | None]]:
    """An open file of the namespace, and its cookie. Raises Gone, OSError."""
    fd = _find(wanted)
    try:
        with netns.inside(fd), NetlinkSocket(NETLINK_ROUTE, bytearray(4096)) as sock:
            cookie = sock.cookie()
        if wanted.cookie is not None and cookie != wanted.cookie:
            raise Gone(f"the network namespace {wanted.where} was removed")
        yield fd, cookie
    finally:
        os.close(fd)


@contextmanager
def entered(wanted: Place) -> Iterator[NetlinkSocket]:
    """This thread stands in the namespace, with a socket to its routing tables. Raises Gone, OSError."""
    with opened(wanted) as (fd, _), netns.inside(fd), NetlinkSocket(NETLINK_ROUTE) as sock:
        yield sock


def _find(wanted: Place) -> int:
    found = locate(wanted.where)
    if not isinstance(found, Missing):
        handle = found[0]
        if handle.id == wanted.id:
            return handle.fd
        handle.close()
    elif found.code == "permission":
        raise PermissionError(1, found.why, wanted.where)
    for one in discover.census().found:  # its name went, or became another's; the namespace may live on
        if one.id == wanted.id:
            try:
                return discover.open_found(one)
            except FileNotFoundError:
                break
    raise Gone(f"the network namespace {wanted.where} does not exist any more")
