"""Kernels, drivers and offloads that are known to lose packets: what can be told before it happens, from state alone.

Only what a version says for certain is said: a distribution's kernel carries its own patches, so a rule names the
builds for which somebody showed the fault, and asks for the other conditions (driver, feature, device) as well.
"""

import re
from collections.abc import Iterable, Iterator

import msgspec

from pathfit.core.finding import Confidence, Facts, Finding, Severity
from pathfit.core.net import Point
from pathfit.core.snapshot import Link
from pathfit.model import hung
from pathfit.model.network import Net
from pathfit.model.tunnels.makers import fitting_inner, heartbeat
from pathfit.rules.base import found, line
from pathfit.rules.places import place_text
from pathfit.rules.state import weave
from pathfit.rules.state.machine import REF, Machine
from pathfit.rules.state.mtu import about
from pathfit.rules.state.nodes import default_link, nodes
from pathfit.rules.view import View

STUCK = ("outbound-stuck", "handshake")

UFO_BROKEN = (123, 229)  # builds of el7: from that of 7.0, which lost networks, to that of 7.1, which did not
UFO_MENDED = (3, 13)  # mainline, by the same report; UFO itself is gone from virtio since 3.18 (3d0ad09412ff)
SCRUBS = (260, 514)
"""Builds of el7 whose tunnels clear ignore_df although Open vSwitch's VXLAN port sets it.

From: "tunnels: harmonize cleanup done on skb on xmit path" (963a88b31ddb, 3.10.0-260; mainline 3.12) made
iptunnel_xmit() call skb_scrub_packet(), which since "clear local_df when passing skb between namespaces" (239c78db9c41,
3.10.0-150; mainline 3.13) clears it. To: 7.3, whose Open vSwitch has the ports of mainline 4.3 (614732eaa12d): nobody
sets it there any more. No kernel since lets such a packet be cut again, so a newer one is no cure.
"""
SCRUBS_MAINLINE = ((3, 13), (4, 3))
CHECKSUM_MENDED = {(5, 6): 13, (5, 4): 41, (4, 19): 123, (4, 14): 181, (4, 9): 224}
"""Releases with "netfilter: nat: never update the UDP checksum when it's 0" (ea64d8d6c675), 5.7 and later have it."""
_RELEASE = re.compile(r"(\d+)\.(\d+)(?:\.(\d+))?(?:-(\d+))?")


class Release(tuple[int, int, int, int]):
    """(major, minor, patch, build) of `uname -r`; build 0 where the distribution has none."""


def release(text: str) -> Release | None:
    """ "3.10.0-123.el7.x86_64" -> (3, 10, 0, 123); None: it is no kernel's."""
    m = _RELEASE.match(text)
    return Release((int(m[1]), int(m[2]), int(m[3] or 0), int(m[4] or 0))) if m else None


def _ours(kernel: Release, text: str) -> bool:
    """A kernel of RHEL 7 or CentOS 7: its patches go by the build, not by the version."""
    return kernel[:3] == (3, 10, 0) and bool(kernel[3]) and ".el7" in text


def _ufo_broken(kernel: Release, text: str) -> Confidence | None:
    """How sure it is that this kernel has the fault of KRN701; None: nobody has shown it, or it is mended."""
    if _ours(kernel, text):
        return "likely" if UFO_BROKEN[0] <= kernel[3] < UFO_BROKEN[1] else None
    # The report names 3.13 as mended. A stable or distribution's kernel below may carry the repair as well.
    return "possible" if (3, 10) <= kernel[:2] < UFO_MENDED else None


def ufo_stall(machine: Machine) -> Iterable[Finding]:
    """This kernel stops sending for ever when a raw socket sends more than fits and UDP fragmentation offload is on.

    Why it hurts: the network card goes dead, for everybody; transmit counters stand still, until the driver is loaded
    again.
    Example: Weave sends a packet of 60000 bytes over a raw socket when it starts, to learn the path MTU; CentOS 7.0 in
    a virtual machine with virtio_net loses its network.
    Repair: kernel 3.10.0-229 (7.1) or newer, mainline 3.13; until then `ethtool -K eth0 ufo off`.
    Severity: warning; info where nothing on the host is known to send so, and beside a path that fails without anybody
    having looked at the card's counters. Never said there of a card whose counter moves.
    Possible: kernel, driver and offload are those of the fault; or the kernel is one of mainline 3.10 to 3.12, whose
    stable and distribution releases may carry the repair.
    Likely: the build is one that was seen to fail, and something that is known to send so runs there.
    Confirmed: and the card's transmit counter stood still while we sent by it and nothing came back.
    References: weave issue 2289 (CentOS 7.0, 3.10.0-123.4.4.el7, virtio_net); weave router/sleeve.go
    (PMTUDiscoverySize), udp_sender.go; ip_ufo_append_data(); virtio_net.
    """
    text = machine.host.kernel.release
    kernel = release(text)
    sure = _ufo_broken(kernel, text) if kernel is not None else None
    if sure is None:
        return
    sends = _weave(machine)
    for net, link in _cards(machine):
        if link.driver != "virtio_net" or not (link.features or {}).get("ufo"):
            continue
        facts: Facts = {
            "case": "weave" if sends else "any",
            "place": place_text(net.point(link.name)),
            "kernel": text,
            "driver": link.driver,
        }
        proof = line(REF, "kernel-offload", kernel=text, driver=link.driver, feature="ufo")
        severity: Severity = "warning" if sends else "info"
        yield found("KRN701", severity, sure if sends else "possible", net.point(link.name), facts, proof)


def stalled(f: Finding, view: View) -> Finding | None:
    """KRN701 beside a path that fails, with what two looks at the counters of the asked client's own card show: it
    sent, nothing left, nothing came back. None: the card does send, so that this is not why. Where the client has
    another card (a container's), nobody looked, and it is only possible."""
    at, c = f.where[0], view.contact
    link = view.source_link
    mine = view.source is not None and at.netns in (view.source.where, *view.source.names)
    if not mine or link is None or link.name != at.link:
        return msgspec.structs.replace(f, severity="info", confidence="possible")
    name = f"Dev.{at.link}.tx_packets"
    if view.counters.get(name):
        return None
    count = view.stood(name)
    if count is None or not link.up or c is None or c.tcp != "timeout" or view.explained:
        return msgspec.structs.replace(f, severity="info", confidence="possible")
    stuck = sum(1 for s in view.sockets if s.wqueue and (hang := hung.look(s)) is not None and hang.kind in STUCK)
    lines = [line("counters:after", "tx-stands", place=place_text(at), count=count, tries=1 + c.handshake_retrans)]
    lines += [line("sockets", "sockets-stuck", count=stuck)] if stuck else []
    return msgspec.structs.replace(
        f, severity="warning", confidence="confirmed" if _ours_by(f) else "likely",
        facts={**f.facts, "case": "stalled"}, evidence=(*f.evidence, *lines),
    )  # fmt: skip


def _ours_by(f: Finding) -> bool:
    text = str(f.facts.get("kernel", ""))
    kernel = release(text)
    return kernel is not None and _ufo_broken(kernel, text) == "likely"


def _scrubs(kernel: Release, text: str) -> Confidence | None:
    if _ours(kernel, text):
        return "likely" if SCRUBS[0] <= kernel[3] < SCRUBS[1] else None
    return "possible" if SCRUBS_MAINLINE[0] <= kernel[:2] < SCRUBS_MAINLINE[1] else None


def clears_ignore_df(machine: Machine) -> Iterable[Finding]:
    """This kernel does not let the outer packets of Open vSwitch's tunnels be cut, although the tunnel asks for it.

    Why it hurts: what travelled in two pieces with an older kernel is answered with "too big" instead. Weave's
    heartbeat has DF set and dies so, and its overlay falls back to a slow path.
    Example: CentOS 7.2 with MTU 1450 and WEAVE_MTU 1410: the heartbeat of Weave's fast datapath is a packet of 1460.
    Repair: an underlay that carries the whole packet (MTU 1500), or a smaller overlay MTU (WEAVE_MTU). A newer kernel
    is no cure: it does not cut such packets either.
    Severity: warning where Weave's packets do not fit into the device that they leave by; otherwise info.
    Possible: the kernel is one of those (3.10.0-260 to -513 of el7, 3.13 to 4.2), and Open vSwitch or Weave is there.
    Likely: it is one of el7, and Weave's packets are larger than its underlay carries.
    Confirmed: never, from state alone.
    References: CentOS 7.2, kernel 3.10.0-327; vxlan_tnl_send(), iptunnel_xmit(), skb_scrub_packet(), ip_fragment();
    commits 963a88b31ddb, 239c78db9c41, 614732eaa12d.
    """
    text = machine.host.kernel.release
    kernel = release(text)
    sure = _scrubs(kernel, text) if kernel is not None else None
    switches = [(n, x) for n, x in _links(machine) if x.kind == "openvswitch"]
    if sure is None or not (switches or _weave(machine)):
        return
    at = switches[0][0].point(switches[0][1].name) if switches else _host(machine)
    facts: Facts = {"case": "weave" if _weave(machine) else "any", "place": place_text(at), "kernel": text}
    size = next(_too_large(machine), None)
    if size is not None:
        at, more = size
        facts |= {"case": "small", **more}
    proof = line(REF, "kernel", kernel=text)
    yield found("KRN702", "warning" if size else "info", sure if size else "possible", at, facts, proof)


def _too_large(machine: Machine) -> Iterator[tuple[Point, Facts]]:
    """Where Weave's heartbeat is larger than a device it leaves by, whatever its status page says now."""
    for node in nodes(machine):
        overlay, net = weave.fast(node.facts), node.net
        if overlay is None or overlay.granted is None:
            continue
        encrypted = bool(overlay.encryption)
        size = heartbeat(overlay.granted, encrypted)
        ways = [weave.room_to(net, c.address) for c in node.facts.weave if c.address]
        known = [(room, out) for room, out in ways if room is not None and out is not None]
        card = default_link(net)
        if not ways and card is not None:
            known.append((card.mtu, card))
        room, out = min(known, key=lambda w: w[0], default=(size, None))
        if out is None or room >= size:
            continue
        device = next((n for n in ("datapath", weave.BRIDGE) if n in net.names), None)
        fits = fitting_inner("weave", "vxlan", room, 4, "ipsec" if encrypted else "")
        yield net.point(device), {
            "overlay": overlay.granted, "heartbeat": size, "room": room, "short": size - room,
            "fits": fits if fits is not None and fits >= weave.SMALLEST else None,
            "place": place_text(net.point(out.name)),
        }  # fmt: skip


def tunnel_checksum(machine: Machine) -> Iterable[Finding]:
    """This kernel breaks the outer checksum of tunnel packets that are translated (NAT) on their way out.

    Why it hurts: the far end drops them: connections from a node to a service take 1, 3 or 63 s, as many repetitions
    as it takes until one goes without offload.
    Example: flannel or Calico with VXLAN and `--random-fully` masquerading, on a kernel before 5.7.
    Repair: `ethtool -K flannel.1 tx-checksum-ip-generic off` (Felix: ChecksumOffloadBroken=true); a newer kernel.
    Severity: warning.
    Possible: never said.
    Likely: the kernel is older than the repair, transmit checksums of the tunnel device are offloaded, its outer
    packets carry no UDP checksum, and the host translates addresses.
    Confirmed: never, from state alone.
    References: commit ea64d8d6c675; flannel-io/flannel#1282; projectcalico/calico#3145.
    """
    kernel = release(machine.host.kernel.release)
    if kernel is None or not _before_repair(kernel):
        return
    for net, link in _links(machine):
        broken = link.vxlan is not None and not link.vxlan.udp_csum and (link.features or {}).get("tx-checksum")
        home = machine.network.home(net, link) if broken else None
        if home is None or not _translates(home):
            continue
        facts: Facts = {"place": place_text(net.point(link.name)), "kernel": machine.host.kernel.release}
        proof = line(REF, "kernel-offload", kernel=machine.host.kernel.release, driver="vxlan", feature="tx-checksum")
        yield found("KRN703", "warning", "likely", net.point(link.name), facts, proof)


def _before_repair(kernel: Release) -> bool:
    major, minor, patch, build = kernel
    if (major, minor) >= (5, 7) or (major, minor) < (4, 9):
        return False  # older ones were not looked at: nothing is said of them
    mended = CHECKSUM_MENDED.get((major, minor))
    # A distribution's build number says that it may carry the repair under an old number.
    return build == 0 and (mended is None or patch < mended)


def _translates(net: Net) -> bool:
    kinds = {"snat", "masquerade"}
    return any(
        getattr(e, "kind", "") in kinds for t in net.snap.tables for c in t.chains for r in c.rules for e in r.exprs
    )


def lro(machine: Machine) -> Iterable[Finding]:
    """A network card merges what it receives (LRO), and the host passes it on to others.

    Why it hurts: the merged packet is larger than any MTU and cannot be taken apart again: it is dropped, or answered
    with a "too big" that its sender does not understand.
    Example: ixgbe with LRO under docker0: large HTTP answers vanish between the card and the bridge.
    Repair: `ethtool -K eth0 lro off`.
    Severity: warning.
    Possible: never said.
    Likely: the feature is on although the host forwards: the kernel switches it off by itself where the driver lets it.
    Confirmed: never, from state alone.
    References: dev_disable_lro(), inet_forward_change(); moby/moby#32023.
    """
    for net, link in _cards(machine):
        if not (link.features or {}).get("lro") or not _passes_on(net, link):
            continue
        facts: Facts = {"place": place_text(net.point(link.name)), "driver": link.driver or "-"}
        proof = line(REF, "lro-on", place=place_text(net.point(link.name)), driver=link.driver or "-")
        keys = tuple(k for g in machine.groups if any(s[0] == net.key for s in machine.segments(g.net)) for k in g.keys)
        yield about(found("KRN704", "warning", "likely", net.point(link.name), facts, proof), keys)


def _passes_on(net: Net, link: Link) -> bool:
    """Does what comes in by this card leave by another device: routed, or as a port of a bridge?"""
    own = net.snap.sysctls.get(f"ipv4.conf.{link.name}.forwarding", net.snap.sysctls.get("ipv4.ip_forward", "0"))
    master = net.links.get(link.master)
    return own == "1" or (master is not None and master.kind == "bridge")


def _links(machine: Machine) -> Iterator[tuple[Net, Link]]:
    for net in machine.network.nets.values():
        for link in net.snap.links:
            yield net, link


def _cards(machine: Machine) -> Iterator[tuple[Net, Link]]:
    """Physical cards (and those of a VM): they have a driver and no kind."""
    return ((n, x) for n, x in _links(machine) if not x.kind and not x.loopback)


def _host(machine: Machine) -> Point:
    net = machine.network.of_id(machine.host.own)
    return net.point() if net is not None else _nowhere(machine)


def _nowhere(machine: Machine) -> Point:
    return Point(host=machine.host.host, netns="host")


def _weave(machine: Machine) -> bool:
    """Does Weave run here? Its bridge, its datapath, or what its files say."""
    if any(o.maker == "weave" for n in machine.host.nodes for o in n.overlays):
        return True
    names = {x.name for _, x in _links(machine)}
    return bool(names & {"weave", "vethwe-bridge", "vethwe-datapath"})
