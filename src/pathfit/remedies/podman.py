"""Repairs for good where Podman made the network: its file, and the containers started again.

What the settings mean (containers/common, libnetwork; netavark):

* A network of netavark's is one JSON file; ``options.mtu`` is a string of digits (a number makes Podman ignore the
  whole file) and counts for the bridge and both halves of each veth. 0, or none: the kernel's default; since netavark
  1.16 the MTU of the default route's device (netavark#1281).
* With the CNI backend it is the ``mtu`` of the bridge plugin in a .conflist (:mod:`~pathfit.remedies.cni`).
* The default network "podman" has no file: it is made up from containers.conf. A file of that name takes its place
  (loadNetworks(), then createDefaultNetwork() only where there is none).
* Files are read by every command; a container gets its devices when it starts. netavark takes the bridge away with the
  last one, so all members stop before the first is started again: none of them meets one of another size.
"""

import ipaddress
import json

from pathfit.core.change import Change, RestartContainers, WriteFile
from pathfit.core.engine import Container, Engine, EngineNetwork
from pathfit.core.finding import Applicability, Facts, FileEdit, Fix, Lasts
from pathfit.model.workloads import plain_name
from pathfit.remedies import cni
from pathfit.remedies.base import SAFE_FLOOR, UNDO, Argv, running, verified
from pathfit.remedies.files import edited
from pathfit.remedies.jsontext import JsonError, parse, put
from pathfit.remedies.untried import documented
from pathfit.rules.engines import Member, bridge, member
from pathfit.rules.view import View

DEFAULT = "podman"  # the network that is there without a file
BRIDGE = "podman0"  # and its device (netavark; the CNI backend calls it cni-podman0)
ID = "2f259bab93aaaaa2542ba43ef33eb990d0999ee1b9924b557b7be53c0b7a1bb9"  # sha256 of its name, in every version
FOLDER = "/etc/containers/networks"
PLACES = {"--root": "/var/lib/containers/storage", "--runroot": "/run/containers/storage"}  # where root's are kept
SOURCE = "podman-network-create(1), --opt mtu; containers/common, libnetwork/netavark, of Podman 4.3"


def podman(view: View, value: int) -> tuple[Fix, ...]:
    """The repair of the network that the asking container leaves by; nothing when it is in none we know."""
    found = member(view)
    if found is None or found.engine.kind != "podman" or found.network.driver != "bridge" or found.link.mtu <= value:
        return ()
    network = found.network
    if network.mtu is not None and network.mtu <= value:
        return (_again(view, found, network.mtu),)
    try:
        path, old, new = _written(view, found, value)
    except JsonError as e:
        return (_by_hand(view, found, value, "by-hand.broken", network.file or FOLDER, str(e)),)
    edit, write = edited(path, old, new)
    if found.engine.rootless is not None:
        return (_documented(view, found, value, edit),)
    why = _why_by_hand(view, found, value)
    if why is not None:
        return (_by_hand(view, found, value, why, path, "", edit),)
    return (_edited(view, found, value, edit, write),)


def _written(view: View, found: Member, value: int) -> tuple[str, str | None, str]:
    """Path, text and new text of the network's file. Raises JsonError where we do not understand it."""
    network = found.network
    if not network.file:
        return _made(view, found, value)
    if network.config is None:
        raise JsonError("it is too large, or no text")
    if network.file.endswith(".json") and _netavark_s(network):
        cni.unmistakable(parse(network.config), ("options", "mtu"))
        return network.file, network.config, put(network.config, ("options", "mtu"), str(value))
    return network.file, network.config, cni.with_mtu(network, value)


def _netavark_s(network: EngineNetwork) -> bool:
    """Is it a file of netavark's? Of CNI's there are some that end so as well; they say "type", and "cniVersion"."""
    told = parse(network.config or "")
    if told.get("name") != network.name:
        raise JsonError("it is not the file of that network")
    return "driver" in told and "type" not in told and "plugins" not in told


def _made(view: View, found: Member, value: int) -> tuple[str, str | None, str]:
    """A file for the default network, which has none: what `podman network inspect podman` shows. Raises JsonError."""
    network = found.network
    ns = next((n for n in view.namespaces if n.id == found.engine.netns), None)
    device = next((x for x in ns.links if x.name == BRIDGE), None) if ns else None
    if not network.default or network.bridge != BRIDGE or ns is None or device is None:
        raise JsonError("there is no such file")
    here = [a for a in ns.addresses if a.link == device.index and a.scope == 0]
    if len(here) != 1 or ":" in here[0].address:
        raise JsonError(f"there is no such file, and {BRIDGE} has other addresses than one of IPv4")
    subnet = ipaddress.ip_interface(f"{here[0].address}/{here[0].prefix}").network
    whole = {
        "name": DEFAULT,
        "id": ID,
        "driver": "bridge",
        "network_interface": BRIDGE,
        "subnets": [{"subnet": str(subnet), "gateway": here[0].address}],
        "ipv6_enabled": False,
        "internal": False,
        "dns_enabled": False,
        "options": {"mtu": str(value)},
        "ipam_options": {"driver": "host-local"},
    }
    folder = _option(found.engine.client, "--network-config-dir") or FOLDER
    return f"{folder}/{DEFAULT}.json", None, json.dumps(whole, indent=5) + "\n"


def _why_by_hand(view: View, found: Member, value: int) -> str | None:
    """Why we do not do it ourselves; None when we may, if told to interrupt."""
    if value < SAFE_FLOOR[view.family]:
        return "by-hand.tiny"
    if found.engine.root is not None:
        return "by-hand.elsewhere"
    if any(c.auto_remove for c in together(found)):
        return "by-hand.ending"
    return None if found.engine.client else "by-hand.older"


def _edited(view: View, found: Member, value: int, edit: FileEdit, write: WriteFile) -> Fix:
    """compose takes away what it made, with `down`: there the edit lasts until then."""
    lasts: Lasts = "recreate" if found.network.compose_project else "permanent"
    facts: Facts = {"network": found.network.name, "path": edit.path, "restarts": True}
    changes = (write, _restart(found, value))
    return _fix(
        view, found, value, "podman-network-mtu", "fix.podman-network-mtu", facts, changes, lasts=lasts, files=(edit,)
    )


def _again(view: View, found: Member, effective: int) -> Fix:
    """The network has the right MTU by now, and the container was started before."""
    facts: Facts = {"network": found.network.name, "place": found.container.name, "restarts": True}
    why = "by-hand.older" if found.engine.rootless is not None else _why_by_hand(view, found, effective)
    if why is not None:
        facts = {**facts, **_reason(found, why, found.network.file, "")}
    changes = () if why is not None else (_restart(found, effective),)
    return _fix(view, found, effective, "podman-restart", "fix.podman-restart", facts, changes)


def _by_hand(
    view: View, found: Member, value: int, why: str, path: str, error: str, edit: FileEdit | None = None
) -> Fix:
    facts: Facts = {"network": found.network.name, "restarts": True, **_reason(found, why, path, error)}
    files = (edit,) if edit is not None else ()
    return _fix(view, found, value, "podman-network-mtu", "fix.podman-network-mtu", facts, (), files=files)


def _reason(found: Member, why: str, path: str, error: str) -> Facts:
    ending = ", ".join(c.name for c in together(found) if c.auto_remove)
    return {"by_hand": why, "path": path, "error": error, "ending": ending}


def _documented(view: View, found: Member, value: int, edit: FileEdit) -> Fix:
    """Of a user's own Podman: files and namespaces are theirs, and slirp4netns or pasta stands between."""
    return documented(
        "podman-network-mtu",
        "fix.podman-network-mtu",
        "podman",
        source=SOURCE,
        value=value,
        effective=value,
        where=bridge(view, found),
        commands=_commands(found),
        files=(edit,),
        interrupts=_interrupts(found),
        facts={"network": found.network.name, "path": edit.path, "restarts": True, "by_hand": "by-hand.rootless"},
    )


def _fix(
    view: View,
    found: Member,
    value: int,
    id_: str,
    title: str,
    facts: Facts,
    changes: tuple[Change, ...],
    *,
    lasts: Lasts = "permanent",
    files: tuple[FileEdit, ...] = (),
) -> Fix:
    applicability: Applicability = "disruptive" if changes else "manual"
    return Fix(
        id=id_,
        title=title,
        platform="podman",
        value=value,
        effective=value,
        applicability=applicability,
        lasts=lasts,
        interrupts=_interrupts(found),
        commands=_commands(found),
        files=files,
        undo=UNDO if changes else (),
        where=bridge(view, found),
        facts=facts,
        changes=changes,
        verify=verified(view) if changes else "",
    )


def _restart(found: Member, value: int) -> RestartContainers:
    return RestartContainers(
        engine="podman",
        client=found.engine.client,
        network=found.network.name,
        mtu=value,
        containers=tuple(c.id for c in together(found)),
    )


def together(found: Member) -> tuple[Container, ...]:
    """Running members of the network, then whoever lives in the namespace of one of them (in its pod, or by
    ``--network container:``): what that one loses, they lose."""
    every = running(found.engine)
    owners = [c for c in every if any(e.network == found.network.id for e in c.endpoints)]
    spaces = {c.netns for c in owners if c.netns}
    guests = [c for c in every if c.netns in spaces and c not in owners]
    return (*owners, *guests)


def _interrupts(found: Member) -> tuple[str, ...]:
    return tuple(f"container:{c.name}" for c in together(found))


def _commands(found: Member) -> tuple[Argv, ...]:
    names, client = tuple(map(_called, together(found))), _client(found.engine)
    return ((*client, "stop", *reversed(names)), (*client, "start", *names))


def _called(one: Container) -> str:
    """Its name, or its id: names come from command lines, and whoever calls a process conmon may write --all there."""
    return one.name if plain_name(one.name) else one.id


def _client(engine: Engine) -> Argv:
    """`podman`, with the folders it keeps its things in where those are not the usual ones."""
    told = ((name, _option(engine.client, name)) for name in PLACES if not engine.rootless)
    return ("podman", *(w for name, at in told if at and at != PLACES[name] for w in (name, at)))


def _option(words: Argv, name: str) -> str:
    return next((words[n + 1] for n, word in enumerate(words[:-1]) if word == name), "")
