"""mtu_request of an interface of Open vSwitch, in its database, from where ovs-vswitchd sets the device's MTU for good.

A request that is taken back leaves the device, and the smallest MTU of the bridge that ovs-vswitchd remembers, as they
were made: `ip link set` is then undone by it (update_mtu() of ofproto.c; seen with 3.1). So where there was no request,
the old MTU is requested for a moment before the request goes.
"""

from pathfit.apply.step import Foreign, Gone, Impossible
from pathfit.core.change import SetOvsMtu
from pathfit.core.journal import OvsBefore
from pathfit.host import ovsdb


class OvsMtu:
    """Step of :class:`~pathfit.core.change.SetOvsMtu`."""

    lasting = True

    def late(self, prepared: OvsBefore) -> bool:
        return False

    def prepare(self, change: SetOvsMtu, tag: str) -> OvsBefore:
        try:
            found = ovsdb.interface(change.socket, change.interface)
        except ValueError as e:
            raise Impossible(f"{change.socket}: {e}", f"ovs-vsctl --db=unix:{change.socket} show") from None
        if found is None:
            raise Gone(f"Open vSwitch has no interface {change.interface}")
        return OvsBefore(
            socket=change.socket, interface=change.interface, uuid=found.uuid, request=found.request, mtu=found.mtu
        )

    def perform(self, change: SetOvsMtu, prepared: OvsBefore, tag: str) -> None:
        now = _request(prepared)
        if now not in (change.mtu, prepared.request):
            raise Foreign(f"somebody else has requested an MTU of {now} for {prepared.interface} meanwhile")
        if now != change.mtu:
            _set(prepared, change.mtu)

    def undo(self, change: SetOvsMtu, prepared: OvsBefore, tag: str) -> None:
        now = _request(prepared)
        old = prepared.request if prepared.request is not None else prepared.mtu
        if now == prepared.request and (now is not None or _found(prepared).mtu != change.mtu):
            return  # not performed, or undone wholly
        ours = (change.mtu,) if prepared.request is not None else (change.mtu, old, None)
        if now not in ours:
            again = f"mtu_request={prepared.request}" if prepared.request is not None else "mtu_request=[]"
            raise Foreign(
                f"somebody else has requested an MTU of {now} for {prepared.interface} since",
                (f"ovs-vsctl --db=unix:{prepared.socket} set interface {prepared.interface} {again}",),
            )
        if old is not None:
            _set(prepared, old)
        if prepared.request is None:
            _set(prepared, None)

    def holds(self, change: SetOvsMtu, prepared: OvsBefore) -> bool:
        return _request(prepared) == change.mtu


def _request(prepared: OvsBefore) -> int | None:
    return _found(prepared).request


def _found(prepared: OvsBefore) -> ovsdb.Interface:
    """Raises Gone: a name may be given to another interface, its uuid never."""
    try:
        found = ovsdb.interface(prepared.socket, prepared.interface)
    except ValueError as e:
        raise OSError(f"{prepared.socket}: {e}") from None
    if found is None or found.uuid != prepared.uuid:
        raise Gone(f"Open vSwitch has no such interface {prepared.interface} any more")
    return found


def _set(prepared: OvsBefore, mtu: int | None) -> None:
    try:
        ovsdb.request_mtu(prepared.socket, prepared.uuid, mtu)
    except ValueError as e:
        raise OSError(f"{prepared.socket}: {e}") from None
