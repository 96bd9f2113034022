"""What a number resembles: a hint for people, never evidence."""

_V4: dict[int, str] = {
    1492: "pppoe",
    1480: "ipip",
    1476: "gre",
    1462: "gretap",
    1460: "gcp",
    1450: "vxlan",
    1442: "geneve-ovn",
    1440: "wireguard-v4",
    1430: "vxlan-v6",
    1424: "vxlan-ipsec",
    1420: "wireguard",
    1400: "azure",
    1376: "weave",
    1370: "vxlan-wireguard",
    1280: "tailscale",
}
# Sizes are of the IP packet inside, so the same table serves IPv4 and IPv6; below 1280 nothing is typical of IPv6.


def resembles(size: int, family: int = 4) -> str | None:
    """The name of a widespread encapsulation or provider whose packets have this size; a word of section hint."""
    if family == 6 and size < 1280:
        return None
    return _V4.get(size)
