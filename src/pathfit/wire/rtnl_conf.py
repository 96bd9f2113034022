"""RTM_NEWNETCONF to sysctls: what holds for all devices of a namespace (net/ipv4/devinet.c inet_netconf_fill_devconf).

One message instead of a file of /proc/sys/net for each: a fifth of the time.
"""

from functools import cache
from struct import Struct

from pathfit.wire.netlink import attribute, request
from pathfit.wire.pattern import Field, Pattern

AF_INET, AF_INET6 = 2, 10
GETNETCONF = 82
_ALL = -1  # NETCONFA_IFINDEX_ALL
_IFINDEX = 1
_HEAD = Struct("=Bxxx")
_I32 = Struct("=i")


@cache
def of_all(family: int) -> bytes:
    """What holds for all devices. No dump: send with ``ask``."""
    return request(GETNETCONF, _HEAD.pack(family) + attribute(_IFINDEX, _I32.pack(_ALL)))


def _sysctls(family: int, forwarding: int | None, rp_filter: int | None, proxy: int | None) -> dict[str, str]:
    if family == AF_INET6:
        return {} if forwarding is None else {"ipv6.conf.all.forwarding": str(forwarding)}
    values = {
        "ipv4.ip_forward": forwarding,
        "ipv4.conf.all.rp_filter": rp_filter,
        "ipv4.conf.all.proxy_arp": proxy,
    }
    return {name: str(value) for name, value in values.items() if value is not None}


sysctls: Pattern[dict[str, str]] = Pattern(_HEAD, (Field((2,), "i"), Field((3,), "i"), Field((5,), "i")), _sysctls)
"""An answer to :func:`of_all` (NETCONFA_FORWARDING, _RP_FILTER, _PROXY_NEIGH), by the names of NetnsSnapshot.sysctls.

Raises Malformed.
"""
