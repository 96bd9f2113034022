"""What a number resembles: a hint for people, never evidence.

Sizes are of the IP packet inside, so one table serves IPv4 and IPv6 inside; what counts is the header outside. The
bytes are those of model/tunnels/overhead.py (a test compares them), and the sizes that providers write down.
"""

from typing import NamedTuple

from pathfit.core.snapshot import Link


class Hint(NamedTuple):
    """``name``: a word of section hint. ``over``: what is underneath, where that is not 1500; another one."""

    name: str
    over: str | None = None


USUAL = 1500
# Bytes that an encapsulation takes, the more widespread one first where two take the same; None: no layer of the table.
TAKES: dict[str, int] = {
    "vxlan": 50,  # or Geneve without options
    "ipip": 20,  # or 6in4
    "gre": 24,
    "wireguard": 80,  # its own default, which has room for an outer IPv6 header
    "wireguard-v4": 60,
    "geneve-ovn": 58,
    "vxlan-v6": 70,
    "geneve-ovn-v6": 78,
    "gretap": 38,
    "gretap-v6": 66,
    "gre-v6": 52,
    "ip6tnl": 48,
    "esp": 54,  # tunnel mode, AES-GCM
    "esp-v6": 74,
    "esp-natt": 62,  # behind NAT; or CBC with SHA-256
    "ovs-gre": 42,
    "openvpn": 52,
    "openvpn-v6": 72,
    "vxlan-ipsec": 76,  # swarm's encrypted networks
    "vxlan-wireguard": 130,
    "ovn-kubernetes": 100,
    "weave": 124,
    "mpls": 4,
}
# What stands for itself, whatever it is made of.
KNOWN: dict[int, str] = {
    1492: "pppoe",
    1460: "gcp",
    1400: "azure",
    1376: "weave",
    1280: "tailscale",
    576: "smallest-v4",
    8500: "aws-transit",
    8896: "gcp-jumbo",
    USUAL: "ethernet",
}
# MTUs underneath, the more widespread first.
BASES: dict[str, int] = {
    "over-aws": 9001,
    "over-jumbo": 9000,
    "over-gcp-jumbo": 8896,
    "over-gcp": 1460,
    "over-pppoe": 1492,
    "over-cloud": 1400,
}
OVER_SMALL = (
    "vxlan",
    "ipip",
    "gre",
    "wireguard",
    "wireguard-v4",
    "geneve-ovn",
)  # the rest would be guessing there; and
# ESP pads, so that what it takes differs from one MTU to the other


# What programs that hold a tun or tap device take of each packet. Where the program is known, nothing else is meant.
HELD: dict[str, dict[int, str]] = {
    "ovs-vswitchd": {
        50: "ovs-udp",
        70: "ovs-udp-v6",
        58: "geneve-ovn",  # or GRE without a key over IPv6, which nobody uses
        78: "geneve-ovn-v6",
        42: "ovs-gre",
        62: "ovs-gre-v6",
    },
    "wireguard-go": {60: "wireguard-v4", 80: "wireguard-v6", 92: "wireguard-v6"},  # 92: padded above its own MTU
    "openvpn": {52: "openvpn", 72: "openvpn-v6"},
    "charon": {100: "libipsec"},
}
HELD["boringtun"] = HELD["wireguard-go"]


def hint(size: int, family: int = 4, program: str = "") -> Hint | None:
    """The widespread encapsulation or provider whose packets have this size. Below 1280 nothing is typical of IPv6.

    ``program``: holds the device behind which the limit is; of one that is not known nothing follows.
    """
    if family == 6 and size < 1280:
        return None
    if program in HELD:
        return _of_program(size, HELD[program])
    if size in KNOWN:
        return Hint(KNOWN[size])
    name = _taking(USUAL - size)
    if name is not None:
        return Hint(name)
    for base, mtu in BASES.items():
        name = _taking(mtu - size)
        if name in OVER_SMALL or (mtu > USUAL and name is not None and not name.startswith("esp")):
            return Hint(name, base)
    return None


def _of_program(size: int, takes: dict[int, str]) -> Hint | None:
    if name := takes.get(USUAL - size):
        return Hint(name)
    return next((Hint(takes[mtu - size], base) for base, mtu in BASES.items() if mtu - size in takes), None)


def _taking(size: int) -> str | None:
    return next((name for name, takes in TAKES.items() if takes == size), None)


def resembles(size: int, family: int = 4, link: Link | None = None) -> dict[str, str | None]:
    """The same as facts of a finding. ``link``: the device beyond which the limit is; its holder is a fact as well."""
    held = {"holder": link.holder, "device": "tap" if link.info.get("type") == "tap" else "tun"} if link else {}
    holder = held.get("holder") or ""
    found = hint(size, family, holder.partition("[")[0])
    facts = {"resembles": found.name if found else None, "resembles_over": found.over if found else None}
    return {**facts, **held} if holder else facts
