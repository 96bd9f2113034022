"""What a container engine was told, and what its containers got.

Both are causes: warnings that explain an MTU fault of a container, said only when its way really carries less.
"""

from collections.abc import Iterable

from pathfit.core.finding import Confidence, EvidenceLine, Facts, Finding
from pathfit.core.net import Point
from pathfit.rules.base import found, line
from pathfit.rules.engines import Member, bridge, member
from pathfit.rules.view import DIRECTIONS, View
from pathfit.wire.daemonjson import mtu_of

MAIN = 254  # RT_TABLE_MAIN
USUAL = 1500  # bytes: ETH_DATA_LEN, what the kernel gives a veth or a bridge by itself (ether_setup())


def not_inherited(view: View) -> Iterable[Finding]:
    """A network of the engine has no MTU of its own: the daemon's setting counts for its default network only.

    Why it hurts: one sets `mtu` in daemon.json, the containers of the default network are well, and those of every
    network made by hand or by compose hang as before. Podman and CNI plugins have no such setting at all.
    Example: daemon.json says 1400; `docker network create web` makes a network of 1500 behind an uplink of 1400.
    Repair: Docker: make the network again with the option com.docker.network.driver.mtu; since version 24
    default-network-opts gives it to networks made from then on. Podman: `mtu` among the options in the network's file,
    and its containers start again. CNI: `mtu` of the bridge plugin, and pods are made anew.
    Severity: warning; it is the cause of MTU101, MTU102, MTU103 or MTU106.
    Possible: never said.
    Likely: nothing was measured; state shows a way out that is smaller than the network.
    Confirmed: measurement found a limit below the network's MTU.
    References: docs.docker.com/engine/network/drivers/bridge; moby, parseNetworkOptions(); moby#43197
    (default-network-opts); podman-network-create(1), mtu; netavark#111, netavark#1281; cni.dev/plugins/current/main/
    bridge, mtu ("Defaults to the value chosen by the kernel").
    """
    at = member(view)
    if at is None or at.network.mtu is not None or not _unset_means_usual(view, at):
        return
    limit = _limit(view, at)
    if limit is None or at.link.mtu <= limit:
        return
    daemon = at.engine.mtu
    told = daemon is not None and daemon < at.link.mtu
    facts: Facts = {
        "case": "daemon" if told else "unset",
        "source": view.source_label,
        "network": at.network.name,
        "own": at.link.mtu,
        "limit": limit,
        "daemon": daemon,
    }
    lines = [line(view.state_ref, "network-unset", network=at.network.name, own=at.link.mtu)]
    if told:
        lines.append(line(view.state_ref, "daemon-mtu", mtu=daemon))
    yield found("CFG601", "warning", _sure(view), bridge(view, at), facts, *lines, *_measured(view, limit))


def _unset_means_usual(view: View, at: Member) -> bool:
    """Does a container have this MTU because its network says none? Docker's default network has the daemon's. Podman
    and CNI plugins leave it to the kernel then; netavark since 1.16 takes the way out's. Any other was set by hand."""
    if at.engine.kind == "docker":
        return at.network.driver == "bridge" and not at.network.default
    made = at.network.driver in ("bridge", "ptp") and (at.network.default or bool(at.network.file))
    return made and at.link.mtu in (USUAL, _way_out(view, at) if at.engine.kind == "podman" else USUAL)


def not_live(view: View) -> Iterable[Finding]:
    """The engine's configuration asks for an MTU that is not in force.

    Why it hurts: the file says that all is well, and nothing is: the daemon reads it when it starts, and a container
    gets its device's MTU when it starts.
    Example: `mtu` 1400 was written into daemon.json; dockerd was not restarted since, so docker0's containers have
    1500. Or it was, and an old container still runs (live-restore). Or the file of a network of Podman's, or of CNI's,
    says 1400, and a container was started before it did.
    Repair: restart the daemon; then restart the containers that are older. With live-restore a daemon keeps its
    networks as they are while any container runs: stop them all first. A pod is made anew.
    Severity: warning; it is the cause of MTU101, MTU102, MTU103 or MTU106.
    Possible: never said.
    Likely: nothing was measured; state shows a way out that is smaller than the container's device.
    Confirmed: measurement found a limit below the container's MTU.
    References: docs.docker.com/reference/cli/dockerd (daemon.json; `mtu` is not among the options a reload takes).
    """
    at = member(view)
    if at is not None and at.engine.kind != "docker":
        yield from _older(view, at)
    if at is None or not at.network.default or at.engine.kind != "docker":
        return
    wanted, limit = mtu_of(at.engine.config), _limit(view, at)
    if wanted is None or limit is None or at.link.mtu <= limit or at.link.mtu <= wanted:
        return
    live = at.engine.mtu
    if live is None or (live == wanted and at.engine.mtu_from == "flag"):
        return
    facts: Facts = {
        "case": "container" if live == wanted else "kept" if at.engine.live_restore else "daemon",
        "source": view.source_label,
        "path": at.engine.config_path,
        "wanted": wanted,
        "live": live,
        "own": at.link.mtu,
        "limit": limit,
    }
    lines = [
        line(view.state_ref, "configured", path=at.engine.config_path, mtu=wanted),
        line(view.state_ref, "daemon-mtu", mtu=live),
    ]
    yield found("CFG603", "warning", _sure(view), _place(view, at), facts, *lines, *_measured(view, limit))


def _older(view: View, at: Member) -> Iterable[Finding]:
    """Of an engine that reads a network's file whenever a container starts: it is older than what the file says."""
    wanted, limit = at.network.mtu, _limit(view, at)
    if wanted is None or limit is None or at.link.mtu <= limit or at.link.mtu <= wanted or not at.network.file:
        return
    facts: Facts = {
        "case": "network",
        "source": view.source_label,
        "path": at.network.file,
        "wanted": wanted,
        "network": at.network.name,
        "own": at.link.mtu,
        "limit": limit,
    }
    proof = line(view.state_ref, "configured", path=at.network.file, mtu=wanted)
    yield found("CFG603", "warning", _sure(view), view.source_point, facts, proof, *_measured(view, limit))


def _place(view: View, at: Member) -> Point:
    return view.source_point if at.engine.mtu == mtu_of(at.engine.config) else bridge(view, at)


def _limit(view: View, at: Member) -> int | None:
    """The smallest limit of the way (bytes): measured, else what state shows; None when none was found. Where nothing
    was asked for, the way is that of the engine's default route."""
    measured = [h.passes for h in view.holes] + [t for t in map(view.told, DIRECTIONS) if t is not None]
    if measured:
        return min(measured)
    if view.measured_tcp and view.connects:
        return None
    if not view.address:
        return _way_out(view, at)
    visible = (x.mtu for d in DIRECTIONS for x in view.limits(d) if x.then in ("icmp", "silent") and x.kind != "cached")
    return min(visible, default=None)


def _way_out(view: View, at: Member) -> int | None:
    """The MTU of the device by which the engine's host leaves for everywhere; None when there is not exactly one."""
    ns = next((n for n in view.namespaces if n.id == at.engine.netns), None)
    if ns is None:
        return None
    ways = {h.link for r in ns.routes if r.prefix == 0 and r.table == MAIN and r.type == "unicast" for h in r.hops}
    return next((x.mtu for x in ns.links if x.index in ways), None) if len(ways) == 1 else None


def _was_measured(view: View) -> bool:
    return bool(view.holes) or any(view.told(d) is not None for d in DIRECTIONS)


def _sure(view: View) -> Confidence:
    return "confirmed" if _was_measured(view) else "likely"


def _measured(view: View, limit: int) -> tuple[EvidenceLine, ...]:
    return (line(view.ref, "measured-limit", limit=limit),) if _was_measured(view) else ()
