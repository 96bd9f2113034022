"""The MTU of a device, and all that the kernel changes with it.

* **Below 1280 the kernel takes IPv6 from the device** (addrconf_notify(), NETDEV_CHANGEMTU): addresses, routes,
  neighbours, per-device sysctls. Back above, it starts with fresh ones. Undo puts back what was read before
  (:mod:`~pathfit.apply.ipv6`).
* **IPv6 routes with an MTU of their own follow** (rt6_mtu_change_route()): down with the device, and up with it again
  when they had been pressed down.
* **Bridges follow their smallest port** until somebody writes the bridge's own MTU (br_mtu_auto_adjust(),
  BROPT_MTU_SET_BY_USER, which no message shows). So a bridge's MTU is written only when its ports did not take it
  along, neither by us nor in undo, and bridges are undone last: the hidden flag stays as it was. One that a smaller
  port joined meanwhile is left to that one.
* **VLANs and macvlans are pressed down** to the device below and do not come up again by themselves.
"""

from pathfit.apply import ipv6, places
from pathfit.apply.step import Foreign, Gone, Impossible
from pathfit.core.change import SetLinkMtu
from pathfit.core.journal import LinkBefore
from pathfit.core.snapshot import Link
from pathfit.host.clock import since_boot
from pathfit.host.nlsocket import NetlinkSocket
from pathfit.wire import rtnl, rtnl_link, rtnl_write

STACKED = ("vlan", "macvlan", "macvtap", "ipvlan", "ipvtap")  # devices whose MTU is pressed down with the lower one's


class LinkMtu:
    """Step of :class:`~pathfit.core.change.SetLinkMtu`."""

    lasting = False

    def late(self, prepared: LinkBefore) -> bool:
        return prepared.bridge

    def prepare(self, change: SetLinkMtu, tag: str) -> LinkBefore:
        place = places.place(change.netns, change.where)
        with places.entered(place) as sock:
            links = {x.index: x for x in sock.dump(rtnl.links(), rtnl_link.link)}
            link = _link(links, change.index, change.link)
            touched = _followers(links, link, change.mtu)
            state = ipv6.read(sock, {i: links[i].name for i in touched})
            if change.mtu < ipv6.MINIMUM <= link.mtu and state.temporary:
                raise Impossible(
                    f"{link.name} has temporary IPv6 addresses (RFC 8981), which nobody but the kernel can make",
                    f"sysctl net.ipv6.conf.{link.name}.use_tempaddr",
                )
        return LinkBefore(
            place=place,
            index=link.index,
            link=link.name,
            mtus=tuple((i, links[i].mtu) for i in sorted(touched)),
            after=change.mtu,
            at=since_boot(),
            bridge=link.kind == "bridge",
            addresses=state.addresses,
            routes=state.routes,
            neighbours=state.neighbours,
            sysctls=state.sysctls,
        )

    def perform(self, change: SetLinkMtu, prepared: LinkBefore, tag: str) -> None:
        with places.entered(prepared.place) as sock:
            now = _link(_links(sock), prepared.index, prepared.link)
            if now.mtu == change.mtu:
                return
            if now.mtu != dict(prepared.mtus)[prepared.index] and not prepared.bridge:
                raise Foreign(f"somebody else has set the MTU of {now.name} to {now.mtu} meanwhile")
            _set(sock, now, change.mtu)

    def undo(self, change: SetLinkMtu, prepared: LinkBefore, tag: str) -> None:
        with places.entered(prepared.place) as sock:
            link = _link(_links(sock), prepared.index, prepared.link)
            before = dict(prepared.mtus)[prepared.index]
            if link.mtu not in (prepared.after, before) and not (prepared.bridge and link.mtu > prepared.after):
                raise Foreign(
                    f"somebody else has set the MTU of {link.name} to {link.mtu} since",
                    (f"ip link set dev {link.name} mtu {before}",),
                )
            standing = ipv6.read(sock, _names(sock, prepared))
            if link.mtu != before and not _kept_small(_links(sock), link, before):
                _set(sock, link, before)
            self._followers(sock, prepared)
            ipv6.restore(sock, prepared, standing, _raised(sock, prepared))

    def _followers(self, sock: NetlinkSocket, prepared: LinkBefore) -> None:
        """What was pressed down with the device comes up again; a bridge does by itself, when it is to."""
        for index, link in sorted(_links(sock).items()):
            before = dict(prepared.mtus).get(index, link.mtu)
            if index != prepared.index and link.kind != "bridge" and link.mtu == prepared.after != before:
                _set(sock, link, before)

    def holds(self, change: SetLinkMtu, prepared: LinkBefore) -> bool:
        with places.entered(prepared.place) as sock:
            return _link(_links(sock), prepared.index, prepared.link).mtu == change.mtu


def _links(sock: NetlinkSocket) -> dict[int, Link]:
    return {x.index: x for x in sock.dump(rtnl.links(), rtnl_link.link)}


def _link(links: dict[int, Link], index: int, name: str) -> Link:
    """Raises Gone: an index is used again only after a wrap, a name at once; both must fit."""
    found = links.get(index)
    if found is None or found.name != name:
        raise Gone(f"the device {name} does not exist any more")
    return found


def _kept_small(links: dict[int, Link], link: Link, before: int) -> bool:
    """Has a bridge a port that is smaller than it was itself? Ours are as they were by then: it is one that came since.
    What the bridge sent above that would vanish in the port; it grows by itself when that one goes."""
    return link.kind == "bridge" and any(x.master == link.index and x.mtu < before for x in links.values())


def _set(sock: NetlinkSocket, link: Link, mtu: int) -> None:
    try:
        sock.change(rtnl_write.SETLINK, rtnl_write.link_mtu(link.index, mtu))
    except OSError as e:
        raise OSError(e.errno, f"{link.name} does not take MTU {mtu} ({e.strerror})") from None


def _followers(links: dict[int, Link], link: Link, mtu: int) -> set[int]:
    """The device, the bridge it is a port of, and what stands on it and is larger than the new MTU."""
    touched = {link.index}
    grew = True
    while grew:
        more = {
            x.index
            for x in links.values()
            if x.kind in STACKED and x.peer in touched and x.peer_nsid is None and x.mtu > mtu
        }
        more |= {x.master for i in touched if (x := links[i]).master in links and links[x.master].kind == "bridge"}
        grew = not more <= touched
        touched |= more
    return touched


def _names(sock: NetlinkSocket, prepared: LinkBefore) -> dict[int, str]:
    return {i: x.name for i, x in _links(sock).items() if i in dict(prepared.mtus)}


def _raised(sock: NetlinkSocket, prepared: LinkBefore) -> dict[int, str]:
    """Those of the devices that have their old MTU again; the others belong to a later step."""
    return {i: x.name for i, x in _links(sock).items() if dict(prepared.mtus).get(i) == x.mtu}
