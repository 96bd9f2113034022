"""One entry of a VXLAN device's forwarding table, by netlink, with the kernel's own dumped message.

`bridge fdb replace` puts another far end into an entry that has one (vxlan_fdb_replace()); of an entry with several far
ends it would change the first, so such a one is refused.
"""

import socket

from pathfit.apply import places
from pathfit.apply.step import Foreign, Gone, Impossible
from pathfit.core.change import SetForwarding
from pathfit.core.journal import ForwardingBefore
from pathfit.host.nlsocket import NetlinkSocket
from pathfit.wire import rtnl, rtnl_write
from pathfit.wire.rtnl_write import NEWNEIGH, REPLACE


class ForwardingEntry:
    """Step of :class:`~pathfit.core.change.SetForwarding`."""

    lasting = False

    def late(self, prepared: object) -> bool:
        return False

    def prepare(self, change: SetForwarding, tag: str) -> ForwardingBefore:
        place = places.place(change.netns, change.where)
        mac = bytes.fromhex(change.mac.replace(":", ""))
        with places.entered(place) as sock:
            found = _of(sock, change.index, mac)
        if not found:
            raise Gone(f"there is no entry for {change.mac} any more")
        if len(found) > 1:
            raise Impossible(f"frames for {change.mac} go to several far ends: which one is meant cannot be said")
        if _leads(found[0]) != _packed(change.old):
            raise Impossible(f"frames for {change.mac} do not go to {change.old} any more")
        after = rtnl_write.leading_to(found[0], _packed(change.remote))
        return ForwardingBefore(place=place, before=rtnl_write.neighbour(found[0]), after=after)

    def perform(self, change: SetForwarding, prepared: ForwardingBefore, tag: str) -> None:
        _change(prepared, prepared.before, prepared.after)

    def undo(self, change: SetForwarding, prepared: ForwardingBefore, tag: str) -> None:
        _change(prepared, prepared.after, prepared.before)

    def holds(self, change: SetForwarding, prepared: ForwardingBefore) -> bool:
        with places.entered(prepared.place) as sock:
            return _leads(_now(sock, prepared)) == _packed(change.remote)


def _change(prepared: ForwardingBefore, old: bytes, new: bytes) -> None:
    """From one far end to the other; nothing where it is so already. Raises Gone, Foreign, OSError."""
    with places.entered(prepared.place) as sock:
        now = _leads(_now(sock, prepared))
        if now == _leads(new):
            return
        if now != _leads(old):
            raise Foreign("the entry was changed by somebody else since")
        sock.change(NEWNEIGH, new, REPLACE)  # not NLM_F_CREATE: one that went since stays gone


def _of(sock: NetlinkSocket, link: int, mac: bytes) -> list[bytes]:
    """Bodies of the device's own entries for that address. Raises OSError."""
    every = sock.dump(rtnl.fdb(), rtnl_write.body)
    found = [(b, rtnl_write.forwarding(b)) for b in every]
    return [b for b, f in found if f is not None and (f.link, f.mac) == (link, mac)]


def _now(sock: NetlinkSocket, prepared: ForwardingBefore) -> bytes:
    """The entry as it is now. Raises Gone, Foreign."""
    key = rtnl_write.forwarding(prepared.before)
    found = _of(sock, key.link, key.mac) if key is not None else []
    if not found:
        raise Gone("the entry does not exist any more")
    if len(found) > 1:
        raise Foreign("somebody else has given the entry more far ends since")
    return found[0]


def _leads(body: bytes) -> bytes:
    found = rtnl_write.forwarding(body)
    return found.remote if found is not None else b""


def _packed(address: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)
