"""What text and page say alike: kinds, states, remarks, what becomes of a packet."""

from pathfit.render.map.graph import Device, Map, Remark, Way
from pathfit.render.map.shapes import names
from pathfit.words.render import say as _say

FATES = {
    "delivered": "map.fate-delivered",
    "too_big_told": "map.fate-too_big_told",
    "too_big_silent": "map.fate-too_big_silent",
    "fragmented": "map.fate-fragmented",
    "unknown": "map.fate-unknown",
}
NAMED = {"physical": "map.kind-physical", "loopback": "map.kind-loopback"}
STATES = {"up": "map.state-up", "no-carrier": "map.state-no-carrier", "down": "map.state-down"}


def say(message: str, lang: str, **facts: object) -> str:
    return _say(message, facts, lang)


def kind(d: Device, lang: str) -> str:
    """ "vxlan 77", "bridge", "tap", "physical"."""
    word = say(NAMED[d.kind], lang) if d.kind in NAMED else d.type or d.kind
    return word if d.vni is None else f"{word} {d.vni}"


def said(r: Remark, lang: str) -> str:
    """A remark; a finding with its code in front."""
    text = say(r.message, lang, **r.facts)
    return f"{r.code} {text}" if r.code else text


def about(d: Device, lang: str, *, addresses: bool = True) -> list[str]:
    """What else is to be said of a device, in a few words each; what is usual is not said."""
    words = addressed(d) if addresses else []
    words += [say("map.network", lang, name=d.network)] if d.network else []
    words += [say("map.takes", lang, overhead=d.overhead)] if d.overhead is not None else []
    if d.far:
        shown, more = names(d.far)
        words.append(say("map.to-far", lang, what=shown + (" " + say("map.more", lang, count=more) if more else "")))
    words += [say("map.held", lang, what=d.holder)] if d.holder else []
    words += [say("map.unseen", lang)] if d.unseen else []
    words += [say(STATES[d.state], lang)] if d.state != "up" else []
    return words


def addressed(d: Device, most: int = 2) -> list[str]:
    """Its first addresses, without the link-local ones that every device has."""
    real = [a for a in d.addresses if not a.startswith("fe80:")]
    return [*real[:most], *([f"+{len(real) - most}"] if len(real) > most else [])]


def outcome(way: Way, lang: str) -> str:
    """What becomes of the packets of a way, in one sentence."""
    mtu = way.mark.mtu if way.mark else way.mtu
    if way.fate not in FATES:
        return say("map.fate-ends", lang, fate=way.why or way.fate.replace("_", " "))
    if mtu is None:
        return say("map.fate-nothing", lang, why=way.why or way.fate)
    if way.large == "delivered" and way.limits and way.limits[0].then == "pass-gso":
        return say("map.fate-gso", lang, mtu=min(x.mtu for x in way.limits))
    if not way.complete and way.large not in ("too_big_told", "too_big_silent"):
        seen = say("map.fate-unknown", lang, mtu=mtu)
        return f"{seen} {say('map.but', lang, what=way.why)}" if way.why else seen
    if way.large == "too_big_told":
        home = {x.told_home for x in way.limits if x.then == "icmp"}
        message = "map.fate-untold" if False in home else "map.fate-unsure" if None in home else FATES["too_big_told"]
        return say(message, lang, mtu=mtu)
    return say(FATES.get(way.large, FATES["unknown"]), lang, mtu=mtu, size=way.size)


def counts(m: Map, lang: str, host: int | None = None) -> tuple[str, str]:
    """How many namespaces and devices there are, of one host or of all."""
    hosts = m.hosts if host is None else m.hosts[host : host + 1]
    spaces = sum(len(h.spaces) for h in hosts)
    devices = sum(len(s.devices) for h in hosts for s in h.spaces)
    return (
        say("map.spaces-one" if spaces == 1 else "map.spaces", lang, count=spaces),
        say("map.devices-one" if devices == 1 else "map.devices", lang, count=devices),
    )
