"""Repairs for good where CNI plugins made the network: `mtu` in its configuration, and on the devices that are there.

What the setting means (containernetworking/plugins, plugins/main/bridge and ptp):

* ``mtu`` of the plugin that makes the device, a number, counts for both halves of the veth; 0, or none: the kernel's
  default. A bridge is made with it and stays when its last container goes; since its MTU follows its smallest port
  (br_mtu_auto_adjust()), that of an old one is right as soon as a container has joined.
* The file is read whenever a container is made. Nothing changes the devices of one that runs, and nobody but whoever
  asked for it (a kubelet, `nerdctl`, `ctr`) can make it anew. So those that run get the MTU on their devices, both
  halves, at once, and those that are made from now on have it from the file: nothing is interrupted, and what is
  measured afterwards is what the running ones have.
* Below 1280 the kernel takes IPv6 from the devices (see :mod:`~pathfit.remedies.link`): then it is disruptive.
* A later plugin of the list that sets an `mtu` as well (tuning) has the last word: then we do not touch it.
* Makers of cluster networks write such files themselves, again and again: theirs are of other types, but for kindnet's.
"""

from pathfit.core.change import Change
from pathfit.core.engine import EngineNetwork
from pathfit.core.finding import Applicability, Facts, FileEdit, Fix
from pathfit.core.snapshot import Link, NetnsSnapshot
from pathfit.remedies.base import SAFE_FLOOR, UNDO, Argv, running, verified
from pathfit.remedies.files import edited
from pathfit.remedies.jsontext import JsonError, Path, parse, put
from pathfit.remedies.link import IPV6_MIN_MTU, pair, set_mtu, setting
from pathfit.remedies.untried import documented
from pathfit.rules.engines import Member, bridge, member
from pathfit.rules.places import place_text
from pathfit.rules.view import View

ENGINES = ("containerd", "cri-o")
VETHS = ("bridge", "ptp")  # plugins that make a veth and have an ``mtu``
WRITTEN = ("kindnet",)  # networks of these types whose file a program writes anew
SOURCE = "cri-o, docs/crio.conf.5.md (network_dir); CNI plugins, plugins/main/bridge 1.1, mtu"
MOST = 64  # running members whose devices we set; each is two changes in the journal
Devices = tuple[tuple[NetnsSnapshot, Link], ...]


def cni(view: View, value: int) -> tuple[Fix, ...]:
    """The repair of the network that the asking pod or container leaves by; nothing where it is not the file's."""
    found = member(view)
    if found is None or found.engine.kind not in ENGINES or found.link.mtu <= value:
        return ()
    network = found.network
    if network.driver not in VETHS or network.name in WRITTEN or not network.file:
        return ()
    if network.mtu is not None and network.mtu <= value:
        return (_anew(view, found, network.mtu),)
    try:
        edit, write = edited(network.file, network.config, with_mtu(network, value))
    except JsonError as e:
        return (_fix(view, found, value, (), (), why="by-hand.broken", error=str(e)),)
    if found.engine.kind != "containerd":
        return (_documented(view, found, value, edit),)
    devices = _devices(view, found, value)
    why = "by-hand.elsewhere" if found.engine.root is not None else "by-hand.unseen" if devices is None else ""
    if value < SAFE_FLOOR[view.family]:
        why = "by-hand.tiny"
    live = tuple(setting(ns, link, value) for ns, link in devices or ())
    return (_fix(view, found, value, devices or (), (write, *live), files=(edit,), why=why),)


def with_mtu(network: EngineNetwork, value: int) -> str:
    """Its configuration with that MTU in the plugin that makes the device. Raises JsonError."""
    if network.config is None:
        raise JsonError("it is too large, or no text")
    told = parse(network.config)
    if told.get("name") != network.name:
        raise JsonError("it is not the file of that network")
    plugins = told.get("plugins", told)
    unmistakable(told, ("plugins", "mtu") if plugins is told else ("plugins",))
    path: Path = ("mtu",)
    if plugins is not told:
        if not isinstance(plugins, list) or not all(isinstance(p, dict) for p in plugins) or not plugins:
            raise JsonError('"plugins" is no list of objects')
        unmistakable(plugins[0], ("mtu",))
        if any(name.lower() == "mtu" for plugin in plugins[1:] for name in plugin):
            raise JsonError("a later plugin of the list sets an MTU as well")
        path = ("plugins", 0, "mtu")
    return put(network.config, path, value)


def unmistakable(told: dict[str, object], path: tuple[str, ...]) -> None:
    """Raises JsonError where a name stands in another spelling as well: to Go's encoding/json it is the same."""
    at: object = told
    for wanted in path:
        if isinstance(at, dict):
            if strange := [n for n in at if n.lower() == wanted and n != wanted]:
                raise JsonError(f'"{strange[0]}" stands for "{wanted}"')
            at = at.get(wanted)


def _devices(view: View, found: Member, value: int) -> Devices | None:
    """Both halves of the veth of every running member, each once, and the bridge; None when one is not visible."""
    todo: dict[tuple[str, int], tuple[NetnsSnapshot, Link]] = {}
    seen: set[str] = set()
    for one in running(found.engine):
        end = next((e for e in one.endpoints if e.network == found.network.id), None)
        if end is None or not one.netns or one.netns in seen:
            continue
        seen.add(one.netns)
        ns = next((n for n in view.namespaces if n.id == one.netns), None)
        link = next((x for x in ns.links if x.name == end.link), None) if ns is not None else None
        parts = pair(view, ns, link) if ns is not None and link is not None else None
        if parts is None or len(seen) > MOST:
            return None
        todo.update(((n.id, x.index), (n, x)) for n, x in parts if x.mtu > value)
    return tuple(sorted(todo.values(), key=lambda at: at[1].kind == "bridge"))


def _fix(
    view: View,
    found: Member,
    value: int,
    devices: Devices,
    changes: tuple[Change, ...],
    *,
    files: tuple[FileEdit, ...] = (),
    why: str = "",
    error: str = "",
) -> Fix:
    network = found.network
    facts: Facts = {"network": network.name, "path": network.file}
    if why:
        facts = {**facts, "by_hand": why, "error": error}
    breaks_v6 = value < IPV6_MIN_MTU
    applicability: Applicability = "manual" if why else "disruptive" if breaks_v6 else "safe"
    return Fix(
        id="cni-network-mtu",
        title="fix.cni-network-mtu",
        platform=found.engine.kind,
        value=value,
        effective=value,
        applicability=applicability,
        lasts="permanent",
        interrupts=tuple(dict.fromkeys(f"{ns.where} IPv6" for ns, _ in devices)) if breaks_v6 else (),
        commands=tuple(set_mtu(ns, link, value) for ns, link in devices) or _made_anew(found),
        files=files,
        undo=() if why else UNDO,
        where=bridge(view, found),
        facts=facts,
        changes=() if why else changes,
        verify="" if why else verified(view),
    )


def _documented(view: View, found: Member, value: int, edit: FileEdit) -> Fix:
    """CRI-O reads the same file by the same library; nobody has seen it do so here."""
    return documented(
        "cni-network-mtu",
        "fix.cni-network-mtu-file",
        found.engine.kind,
        source=SOURCE,
        value=value,
        effective=value,
        where=bridge(view, found),
        commands=_made_anew(found),
        files=(edit,),
        interrupts=(_name(found),),
        facts={"network": found.network.name, "path": edit.path, "by_hand": "by-hand.older"},
    )


def _anew(view: View, found: Member, effective: int) -> Fix:
    """The file has the right MTU by now; a container that is made anew takes it. Whoever made it can do that."""
    return Fix(
        id="cni-container-anew",
        title="fix.cni-container-anew",
        platform=found.engine.kind,
        value=effective,
        effective=effective,
        applicability="manual",
        lasts="permanent",
        interrupts=(_name(found),),
        commands=_made_anew(found),
        where=view.source_point,
        facts={"place": place_text(view.source_point), "network": found.network.name, "by_hand": "by-hand.older"},
    )


def _name(found: Member) -> str:
    return f"pod:{found.container.pod}" if found.container.pod else f"container:{found.container.name}"


def _made_anew(found: Member) -> tuple[Argv, ...]:
    """What makes those that run anew: a pod comes back by its controller, a container by whoever started it."""
    space, _, pod = found.container.pod.partition("/")
    if pod:
        return (("kubectl", "-n", space, "delete", "pod", pod),)
    return (("ctr", "-n", found.container.namespace or "default", "tasks", "kill", found.container.id),)
