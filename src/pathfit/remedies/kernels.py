"""Kernels that lose packets with an offload on (KRN701, KRN703, KRN704): the offload off, or another kernel.

No such kernel or card is at hand to try it on: each is a line for a person, with the place where it was read.
"""

from pathfit.core.finding import Finding, Fix
from pathfit.core.snapshot import HostSnapshot, NetnsSnapshot
from pathfit.remedies.base import Argv, enter, reachable
from pathfit.remedies.untried import documented

OFFLOADS = {
    "KRN701": ("ufo", "weave issue 2289 (CentOS 7.0, 3.10.0-123.4.4.el7); ethtool(8) 6.1"),
    "KRN703": ("tx-checksum-ip-generic", "flannel issues 1279 and 1282 (RHEL 7, Flatcar); ethtool(8) 6.1"),
    "KRN704": ("lro", "dev_disable_lro() of Linux 6.1; ethtool(8) 6.1"),
}
"""The feature as `ethtool -K` calls it, and where that is said to help."""
UPDATES = {"KRN701": "kernel-3.10.0-229.el7 (CentOS 7.1); weave issue 2289: well with a more recent kernel"}


def offload(finding: Finding, host: HostSnapshot) -> tuple[Fix, ...]:
    """The offload off now; for good a newer kernel, where its package has a name."""
    at = finding.where[0]
    ns = next((n for n in host.namespaces if at.netns in (n.where, *n.names)), None)
    if ns is None or not at.link or not reachable(ns):
        return ()
    feature, source = OFFLOADS[finding.code]
    now = documented(
        "offload-off",
        "fix.offload-off",
        "linux",
        source=source,
        lasts="reboot",
        commands=(_ethtool(ns, at.link, feature, "off"),),
        undo=(_ethtool(ns, at.link, feature, "on"),),
        where=at,
        facts={"feature": feature},
    )
    return (now, *_update(finding, host))


def _update(finding: Finding, host: HostSnapshot) -> tuple[Fix, ...]:
    if finding.code not in UPDATES or ".el7" not in host.kernel.release:
        return ()
    again = (("yum", "update", "kernel"), ("reboot",))
    told, where = UPDATES[finding.code], finding.where[0]
    return (documented("kernel-update", "fix.kernel-update", "linux", source=told, where=where, commands=again),)


def _ethtool(ns: NetnsSnapshot, link: str, feature: str, to: str) -> Argv:
    return (*enter(ns), "ethtool", "-K", link, feature, to)
