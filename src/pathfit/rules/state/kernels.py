"""Kernels, drivers and offloads that are known to lose packets: what can be told before it happens, from state alone.

Only what a version says for certain is said: a distribution's kernel carries its own patches, so a rule names the
builds for which somebody showed the fault, and asks for the other conditions (driver, feature, device) as well.
"""

import re
from collections.abc import Iterable, Iterator

from pathfit.core.finding import Confidence, Facts, Finding, Severity
from pathfit.core.net import Point
from pathfit.core.snapshot import Link
from pathfit.model.network import Net
from pathfit.rules.base import found, line
from pathfit.rules.places import place_text
from pathfit.rules.state.machine import REF, Machine
from pathfit.rules.state.mtu import about

OVERLAYS = ("vxlan", "geneve")
UFO_BROKEN = (123, 229)  # builds of 3.10.0 (RHEL and CentOS 7.0): from the first to the one that mended it
SCRUBS = (327, 514)  # builds of 3.10.0 (7.2) that clear ignore_df, until 7.3
CHECKSUM_MENDED = {(5, 6): 13, (5, 4): 41, (4, 19): 123, (4, 14): 181, (4, 9): 224}
"""Releases with "netfilter: nat: never update the UDP checksum when it's 0" (ea64d8d6c675), 5.7 and later have it."""
_RELEASE = re.compile(r"(\d+)\.(\d+)(?:\.(\d+))?(?:-(\d+))?")


class Release(tuple[int, int, int, int]):
    """(major, minor, patch, build) of `uname -r`; build 0 where the distribution has none."""


def release(text: str) -> Release | None:
    """ "3.10.0-123.el7.x86_64" -> (3, 10, 0, 123); None: it is no kernel's."""
    m = _RELEASE.match(text)
    return Release((int(m[1]), int(m[2]), int(m[3] or 0), int(m[4] or 0))) if m else None


def ufo_stall(machine: Machine) -> Iterable[Finding]:
    """This kernel stops sending for ever when a raw socket sends more than fits and UDP fragmentation offload is on.

    Why it hurts: the network card goes dead, for everybody; transmit counters stand still.
    Example: Weave's fast datapath sends a 60000-byte probe over a raw socket when it starts; CentOS 7.0 in a VM with
    virtio_net loses its network.
    Repair: kernel 3.10.0-229 (7.1) or newer; until then `ethtool -K eth0 ufo off`.
    Severity: warning; info where nothing on the host is known to send so.
    Possible: kernel, driver and offload are those of the fault.
    Likely: and something that is known to send so runs there.
    Confirmed: never, from state alone.
    References: CentOS 7.0, kernel 3.10.0-123; weaveworks/weave#1570; ip_ufo_append_data(); virtio_net.
    """
    kernel = release(machine.host.kernel.release)
    if kernel is None or kernel[:3] != (3, 10, 0) or not UFO_BROKEN[0] <= kernel[3] < UFO_BROKEN[1]:
        return
    for net, link in _cards(machine):
        if link.driver != "virtio_net" or not (link.features or {}).get("ufo"):
            continue
        weave = _weave(machine)
        facts: Facts = {
            "case": "weave" if weave else "any",
            "place": place_text(net.point(link.name)),
            "kernel": machine.host.kernel.release,
            "driver": link.driver,
        }
        proof = line(REF, "kernel-offload", kernel=machine.host.kernel.release, driver=link.driver, feature="ufo")
        severity: Severity = "warning" if weave else "info"
        sure: Confidence = "likely" if weave else "possible"
        yield found("KRN701", severity, sure, net.point(link.name), facts, proof)


def clears_ignore_df(machine: Machine) -> Iterable[Finding]:
    """This kernel does not let a tunnel's outer packet be fragmented where the tunnel asks for it.

    Why it hurts: what should travel in two pieces is answered with "too big" instead; Weave's heartbeat dies so, and
    its overlay falls back to a slow path.
    Example: CentOS 7.2 with MTU 1450: the heartbeat of Weave's fast datapath does not fit, and is not fragmented.
    Repair: an underlay that carries the whole packet (MTU 1500), a smaller overlay MTU, or a kernel of 7.3 or newer.
    Severity: warning where Weave's overlay does not fit into the underlay; otherwise info.
    Possible: the kernel is one of those, and has tunnels.
    Likely: and a tunnel's packets are larger than its underlay carries.
    Confirmed: never, from state alone.
    References: CentOS 7.2, kernel 3.10.0-327; skb_scrub_packet(), ip_fragment().
    """
    kernel = release(machine.host.kernel.release)
    if kernel is None or kernel[:3] != (3, 10, 0) or not SCRUBS[0] <= kernel[3] < SCRUBS[1]:
        return
    tunnels = [(n, x) for n, x in _links(machine) if x.kind in OVERLAYS or x.kind == "openvswitch"]
    weave = _weave(machine)
    if not tunnels and not weave:
        return
    at = tunnels[0][0].point(tunnels[0][1].name) if tunnels else _host(machine)
    facts: Facts = {"case": "weave" if weave else "any", "place": place_text(at), "kernel": machine.host.kernel.release}
    severity: Severity = "warning" if weave else "info"
    sure: Confidence = "likely" if weave else "possible"
    proof = line(REF, "kernel", kernel=machine.host.kernel.release)
    yield found("KRN702", severity, sure, at, facts, proof)


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
    return next((n.point() for n in machine.network.nets.values() if n.snap.id == machine.host.own), _nowhere(machine))


def _nowhere(machine: Machine) -> Point:
    return Point(host=machine.host.host, netns="host")


def _weave(machine: Machine) -> bool:
    """Does Weave run here? Its bridge, its datapath, or what its files say."""
    if any(getattr(x, "maker", "") == "weave" for x in machine.host.nodes):
        return True
    names = {x.name for _, x in _links(machine)}
    return bool(names & {"weave", "vethwe-bridge", "vethwe-datapath"})
