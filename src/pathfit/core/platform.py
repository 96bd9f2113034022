"""Who keeps the configuration of a device of the host, so that a change can be made to last.

Only what a repair reads is kept: no file of a manager but the one a repair would write, for keyfiles and
/etc/network/interfaces may hold passwords, and a case folder is shown to others.
"""

from typing import Literal

from pathfit.core.base import Value

Manager = Literal["networkd", "networkmanager", "netplan", "ifupdown"]


class LinkOwner(Value, frozen=True, kw_only=True):
    """One manager that keeps a device.

    ``name`` is what it calls the device's configuration: networkd the path of its .network file, NetworkManager the
    connection's uuid, netplan the definition's id, ifupdown the stanza's name. ``path`` is the file that a repair
    would write, ``text`` what it holds now (None: there is none). ``later``: files read after it, whose word would
    count more. ``mtu`` is what the device's own profile sets (bytes; 0: nothing), None where that was not found.
    """

    manager: Manager
    name: str
    path: str
    text: str | None = None
    later: tuple[str, ...] = ()
    mtu: int | None = None


def own_file(manager: Manager, name: str, link: str) -> str:
    """Where a setting of ours for one device goes: a file of its own that the manager reads beside its others.

    The names sort behind the usual ones, for later files count more (systemd.network(5), netplan(5),
    NetworkManager.conf(5)). ifupdown has no such place: its file is edited.
    """
    if manager == "networkd":
        return f"/etc/systemd/network/{name.rpartition('/')[2]}.d/99-pathfit-mtu.conf"
    if manager == "netplan":
        return f"/etc/netplan/99-pathfit-{name}.yaml"
    return f"/etc/NetworkManager/conf.d/99-pathfit-{link}.conf"
