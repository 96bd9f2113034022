"""neutron's options, where they say something else than the network that its tunnels go through.

All of them are physical values (:func:`pathfit.model.tunnels.makers.neutron_mtu`): what is written is the MTU of the
network below, instances get it less the overhead. For networks that are too large ``path_mtu`` alone is lowered: it
counts for overlay networks, and the smaller of it and global_physnet_mtu wins, so that provider networks keep theirs.
Where the instances' own size was written, each option that holds it is raised.

For a person to do: the files that count are those of neutron's server, networks that exist keep their MTU until
somebody sets it, and instances learn it by their next lease. Source: docs.openstack.org/neutron/zed/admin/config-mtu.
"""

from pathfit.core.finding import Facts, FileEdit, Finding, Fix
from pathfit.core.net import Family, Point
from pathfit.core.node import Overlay
from pathfit.model.tunnels.makers import fitting_inner, neutron_mtu
from pathfit.remedies.untried import documented
from pathfit.rules.view import View

MAIN, ML2 = "/etc/neutron/neutron.conf", "/etc/neutron/plugins/ml2/ml2_conf.ini"
OVN_HEADER = 38  # the least that OVN's mechanism driver takes (mech_driver.py, OVN_MIN_GENEVE_MAX_HEADER_SIZE)
SOURCE = "docs.openstack.org/neutron/zed/admin/config-mtu, neutron 21 (Zed)"
PLACES = {
    "global_physnet_mtu": (MAIN, "DEFAULT"),
    "path_mtu": (ML2, "ml2"),
    "max_header_size": (ML2, "ml2_type_geneve"),
}


def setting(finding: Finding, view: View) -> tuple[Fix, ...]:
    """The option to write, of the node that MTU104 or CFG606 is about; nothing where its files were not read."""
    nic = finding.facts.get("nic_mtu")
    overlay = _overlay(finding, view)
    if overlay is None or not isinstance(nic, int) or not finding.where:
        return ()
    written = settings(overlay, nic)
    effective = after(overlay, written)
    if not written or effective is None or effective == overlay.granted:
        return ()
    return (_fix(overlay, written, effective, finding.where[-1]),)


def settings(overlay: Overlay, nic: int) -> dict[str, int]:
    """What must be written, by option, for networks that fit into ``nic`` to the byte. Empty: nothing helps."""
    facts, outer = overlay.facts, overlay.outer or 4
    header, ovn = _number(facts.get("max_header_size")), bool(facts.get("ovn"))
    fits = fitting_inner("neutron", overlay.backend, nic, outer, ovn=ovn)
    if fits is None or overlay.granted is None or overlay.granted == fits:
        return {}
    wanted: dict[str, int] = {}
    if overlay.backend == "geneve" and ovn and header < OVN_HEADER:
        wanted["max_header_size"] = OVN_HEADER
    if overlay.granted > fits:
        if after(overlay, wanted) != fits:
            wanted["path_mtu"] = nic
        return wanted
    low = {name: n for name in ("global_physnet_mtu", "path_mtu") if 0 < (n := _number(facts.get(name))) < nic}
    return {**wanted, **dict.fromkeys(low, nic)}


def after(overlay: Overlay, wanted: dict[str, int]) -> int | None:
    """The MTU of instances once ``wanted`` is written too (bytes), by neutron's own arithmetic."""
    if overlay.backend is None:
        return None
    facts = {**overlay.facts, **wanted}
    outer: Family = overlay.outer or 4
    named = {name: n for name in ("global_physnet_mtu", "path_mtu") if (n := _number(facts.get(name)))}
    return neutron_mtu(overlay.backend, **named, family=outer, header=_number(facts.get("max_header_size")) or 30)


def _fix(overlay: Overlay, wanted: dict[str, int], effective: int, where: Point) -> Fix:
    edits: dict[str, list[str]] = {}
    for name, value in wanted.items():
        path, section = PLACES[name]
        old = _number(overlay.facts.get(name))
        edits.setdefault(path, []).extend(
            [f" [{section}]", *([f"-{name} = {old}"] if old else []), f"+{name} = {value}"]
        )
    option, value = next(iter(wanted.items()))
    path, section = PLACES[option]
    facts: Facts = {"option": option, "value": value, "section": section, "path": path, "effective": effective}
    return documented(
        "neutron-mtu",
        "fix.neutron-mtu",
        "neutron",
        source=SOURCE,
        value=value,
        effective=effective,
        where=where,
        files=[FileEdit(path=p, diff="\n".join((f"--- {p}", f"+++ {p}", *lines, ""))) for p, lines in edits.items()],
        commands=(
            ("systemctl", "restart", "neutron-server"),
            ("openstack", "network", "set", "--mtu", str(effective), "NETWORK"),
        ),
        facts=facts,
    )


def _overlay(finding: Finding, view: View) -> Overlay | None:
    """neutron on the node that the finding names."""
    if view.state is None:
        return None
    named = {p.netns for p in finding.where}
    spaces = {n.id for n in view.state.namespaces if n.where in named}
    found = (o for n in view.state.nodes if n.netns in spaces for o in n.overlays)
    return next((o for o in found if o.maker == "neutron"), None)


def _number(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0
