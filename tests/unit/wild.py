"""Any HostSnapshot that can be decoded, as a hypothesis strategy: built from the types alone, so that a new field is
tried as soon as it exists. Small pools of indices, names and addresses make the parts meet; the rest is nonsense."""

import types
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec
from hypothesis import strategies as st

from pathfit.core.sane import Impossible, check
from pathfit.core.snapshot import HostSnapshot

ADDRESSES = ("198.18.1.1", "198.18.1.2", "198.18.2.1", "10.0.0.1", "172.17.0.2", "224.0.0.1", "127.0.0.1",
             "2001:db8::1", "2001:db8::2", "fe80::1", "ff02::1", "::", "0.0.0.0", "::1")  # fmt: skip
NONSENSE = ("", "x", "1.2.3", "1.2.3.4.5", "999.1.1.1", "fe80::1%eth0", ":", ":::", "\x00", "-1", "²", "1e9", "a" * 300)
NUMBERS = (0, 1, 2, 3, 4, 6, 24, 32, 64, 128, 254, 255, 1280, 1500, 65536)
ODD = (-1, -(2**63), 2**63 - 1, 2**64 - 1, 10**40)
NAMES = ("eth0", "br0", "vx0", "lo", "veth1", "host", "netns:a", "4:1", "4:2")
KINDS = ("", "veth", "bridge", "vxlan", "geneve", "gre", "gretap", "ipip", "sit", "wireguard", "vlan", "macvlan",
         "ipvlan", "bond", "tun", "dummy", "macsec", "vrf", "nonsense")  # fmt: skip
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "kind": st.sampled_from(KINDS),
    "mac": st.sampled_from(("02:00:00:00:00:01", "02:00:00:00:00:02", "00:00:00:00:00:00", "", "x")),
    "schema": st.just("pathfit.snapshot/1"),
    "id": st.sampled_from(("4:1", "4:2", "4:3", "")),
    "peer_ns": st.sampled_from(("4:1", "4:2", "4:3", None)),
    "prefix": st.sampled_from((0, 8, 16, 24, 32, 64, 128, -1, 10**40)),
    "mtu": st.one_of(st.sampled_from((1500, 1400, 1280, 68, 0, -5)), st.sampled_from(ODD)),
    "sysctls": st.dictionaries(
        st.sampled_from(("ipv4.ip_forward", "ipv6.conf.all.forwarding", "ipv4.conf.all.rp_filter",
                         "ipv6.conf.eth0.mtu", "bridge.bridge-nf-call-iptables", "nonsense")),
        st.sampled_from(("1", "0", "2", "", "-1", "x", "²", "9" * 5000)), max_size=4,
    ),
    "field": st.sampled_from(("iifname", "saddr", "daddr", "sport", "dport", "l4proto", "tcpflags", "ctstate", "mark",
                              "length", "tcpmss", "limit", "random", "hash", "nth", "fibx")),
}  # fmt: skip
IP = st.sampled_from(ADDRESSES)
SMALL = st.sampled_from((0, 1, 2, 3, 4))
FIELDS |= {
    **dict.fromkeys(("address", "dst", "src"), st.sampled_from((*ADDRESSES, ""))),
    **dict.fromkeys(("peer", "via", "prefsrc", "local", "remote", "endpoint"), st.one_of(st.none(), IP)),
    **dict.fromkeys(("link", "index", "master", "lower"), SMALL),
    "allowed": st.lists(st.sampled_from(("10.0.0.0/8", "::/0", "198.18.1.2/32")), max_size=2).map(tuple),
}
BY_STRUCT: dict[str, st.SearchStrategy[Any]] = {
    "Link.peer": SMALL, "WeaveConnection.peer": st.text(max_size=3), "InstanceNetwork.link": st.text(max_size=3),
    "Endpoint.link": st.text(max_size=3), "Address.address": IP, "Neighbour.address": IP,
    "Address.prefix": st.sampled_from((0, 8, 24, 32)), "NetnsSnapshot.own": st.just("4:1"),
}  # fmt: skip
TEXT = st.one_of(st.sampled_from(ADDRESSES), st.sampled_from(NAMES), st.sampled_from(NONSENSE), st.text(max_size=4))
NUMBER = st.one_of(st.sampled_from(NUMBERS), st.sampled_from(NUMBERS), st.sampled_from(ODD))


@cache
def of(kind: Any) -> st.SearchStrategy[Any]:
    """Values of a type."""
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        return st.one_of(*map(of, get_args(kind)))
    if origin is tuple:
        inner, *rest = get_args(kind)
        if rest == [Ellipsis]:
            return st.lists(of(inner), max_size=3).map(tuple)
        return st.tuples(of(inner), *map(of, rest))
    if origin is dict:
        key, value = get_args(kind)
        return st.dictionaries(of(key), of(value), max_size=3)
    if origin is Literal:
        return st.sampled_from(get_args(kind))
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return st.deferred(lambda: _struct(kind))
    plain: dict[Any, st.SearchStrategy[Any]] = {
        str: TEXT, int: NUMBER, bool: st.booleans(), type(None): st.none(),
        float: st.floats(allow_nan=False, allow_infinity=False),
    }  # fmt: skip
    return plain[kind]


def _struct(kind: type[msgspec.Struct]) -> st.SearchStrategy[Any]:
    hints = get_type_hints(kind)
    required, optional = {}, {}
    for f in msgspec.structs.fields(kind):
        chosen = of(hints[f.name])
        plain = f.name not in ("kind", "remote") or kind.__name__ in ("Link", "Vxlan", "FdbEntry")
        if f"{kind.__name__}.{f.name}" in BY_STRUCT:
            chosen = BY_STRUCT[f"{kind.__name__}.{f.name}"]
        elif f.name in FIELDS and plain and not isinstance(f.default, bool):
            chosen = FIELDS[f.name]
        (required if f.required else optional)[f.name] = chosen
    return st.fixed_dictionaries(required, optional=optional).map(lambda d: kind(**d))


def _possible(host: HostSnapshot) -> bool:
    try:
        check(host)
    except Impossible:
        return False
    return True


ANY = of(HostSnapshot)
HOSTS = st.lists(ANY.filter(_possible), min_size=1, max_size=3)
"""Hosts that a file may hold: everything the codec and :mod:`pathfit.core.sane` let pass."""
