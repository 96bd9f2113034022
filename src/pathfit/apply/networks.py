"""A bridge network of Docker's made again with another MTU: its option cannot be changed otherwise.

Members are taken off, the network is removed and made again with the same name, driver, address ranges, options and
labels, and the members are put back with the settings they had, at the addresses they had. What remains different is
what nobody chose: the network's id, the name of its bridge device when that follows from the id, and the name of the
device in a container (Docker counts on).

Each call looks first at what is there, so it goes on wherever an earlier one was ended.
"""

import errno
from typing import Any

import msgspec

from pathfit.apply.dockerapi import Api, NotFound
from pathfit.apply.step import Foreign, Gone, Impossible
from pathfit.core.change import RecreateNetwork
from pathfit.core.engined import MemberBefore, NetworkBefore
from pathfit.observe.engines.parse import DEFAULT, MTU, address, table, text

MADE_BY = ("Name", "Driver", "EnableIPv6", "IPAM", "Internal", "Attachable", "Ingress", "Options", "Labels")
"""What POST /networks/create takes and GET /networks/ID shows under the same name."""
CHOSEN = ("IPAMConfig", "Links", "Aliases", "DriverOpts")
"""The same of an endpoint: what people may give it."""


class NetworkAgain:
    """Step of :class:`~pathfit.core.change.RecreateNetwork`."""

    lasting = True

    def late(self, prepared: object) -> bool:
        return False

    def prepare(self, change: RecreateNetwork, tag: str) -> NetworkBefore:
        with Api(change.engine, change.socket, within=change.within) as api:
            raw = api.network(change.network)
            if raw is None:
                raise Gone(f"there is no network {change.name} any more")
            _refuse(raw, change.name)
            members = _members(api, raw)
            made = {key: raw[key] for key in MADE_BY if key in raw}
            return NetworkBefore(
                socket=change.socket,
                id=text(raw.get("Id")),
                name=text(raw.get("Name")),
                made=msgspec.json.encode(made).decode(),
                mtu=table(raw.get("Options")).get(MTU),
                members=members,
            )

    def perform(self, change: RecreateNetwork, prepared: NetworkBefore, tag: str) -> None:
        _become(change, prepared, str(change.mtu), prepared.mtu)

    def undo(self, change: RecreateNetwork, prepared: NetworkBefore, tag: str) -> None:
        _become(change, prepared, prepared.mtu, str(change.mtu))

    def holds(self, change: RecreateNetwork, prepared: NetworkBefore) -> bool:
        with Api(change.engine, change.socket, within=change.within) as api:
            raw = api.network(prepared.name)
            if raw is None or table(raw.get("Options")).get(MTU) != str(change.mtu):
                return False
            return all(_attached(api, m, prepared.name, text(raw.get("Id"))) is not False for m in prepared.members)


def _refuse(raw: dict[str, Any], name: str) -> None:
    """Raises Impossible for a network that is not ours to make again."""
    why = ""
    if raw.get("Driver") != "bridge" or raw.get("Scope") != "local":
        why = f"is of the kind {text(raw.get('Driver'))}, {text(raw.get('Scope'))}"
    elif table(raw.get("Options")).get(DEFAULT) == "true":
        why = "is the engine's own"
    elif raw.get("Ingress") or raw.get("ConfigOnly") or table(raw.get("ConfigFrom")).get("Network"):
        why = "is made from a configuration that others use"
    if why:
        raise Impossible(f"the network {name} {why}", f"docker network inspect {name}")


def _members(api: Api, raw: dict[str, Any]) -> tuple[MemberBefore, ...]:
    """Every container in it, running or not; those whose address somebody chose first, the others by address: so each
    gets its own again when addresses are handed out in order. One that knows it by its name alone (connected while it
    did not run) will find the new one by itself. Raises OSError, Impossible."""
    network, name = text(raw.get("Id")), text(raw.get("Name"))
    found: list[MemberBefore] = []
    for listed in api.containers():
        one = api.container(text(listed.get("Id")))
        if text(table(one.get("HostConfig")).get("NetworkMode")) == network:
            label = text(one.get("Name")).removeprefix("/")
            raise Impossible(f"the container {label} names the network {name} by its id", f"docker inspect {label}")
        end = table(table(table(one.get("NetworkSettings")).get("Networks")).get(name))
        if end.get("NetworkID") == network:
            found.append(_member(one, end))
    seen = {m.id for m in found}
    strange = [key for key in table(raw.get("Containers")) if key not in seen]
    if strange:
        raise Impossible(f"the network {name} has members that are no containers", f"docker network inspect {name}")
    return tuple(sorted(found, key=lambda m: (not m.given, [_order(a) for a in m.addresses])))


def _member(one: dict[str, Any], end: dict[str, Any]) -> MemberBefore:
    given = table(end.get("IPAMConfig"))
    return MemberBefore(
        id=text(one.get("Id")),
        name=text(one.get("Name")).removeprefix("/"),
        settings=msgspec.json.encode({k: end[k] for k in CHOSEN if end.get(k) is not None}).decode(),
        addresses=(address(end.get("IPAddress")), address(end.get("GlobalIPv6Address"))),
        mac=text(end.get("MacAddress"), 17),
        given=bool(given.get("IPv4Address") or given.get("IPv6Address")),
    )


def _order(address_: str) -> tuple[int, ...]:
    parts = address_.split(".")
    return tuple(int(p) for p in parts) if len(parts) == 4 else ()


def _become(change: RecreateNetwork, before: NetworkBefore, wanted: str | None, other: str | None) -> None:
    """The network with option ``wanted`` (None: without), and all members in it. ``other`` is what we may find."""
    with Api(change.engine, change.socket, within=change.within) as api:
        raw = api.network(before.name)
        has = table((raw or {}).get("Options")).get(MTU)
        if raw is not None and has != wanted:
            if has != other:
                raise Foreign(f"the network {before.name} was made again by somebody else, with MTU {has}")
            _remove(api, raw, before)
            raw = None
        if raw is None:
            raw = table(api.post("networks", "create", document=_request(before, wanted)))
        network = text(raw.get("Id"))
        for member in before.members:
            _put_back(api, member, before.name, network)


def _request(before: NetworkBefore, mtu: str | None) -> dict[str, Any]:
    made: dict[str, Any] = msgspec.json.decode(before.made)
    options = {k: v for k, v in table(made.get("Options")).items() if k != MTU}
    if mtu is not None:
        options[MTU] = mtu
    return {**made, "Options": options, "CheckDuplicate": True}


def _remove(api: Api, raw: dict[str, Any], before: NetworkBefore) -> None:
    """Members off, and the network away. One that joined after we looked is not ours to throw out."""
    network = text(raw.get("Id"))
    known = {m.id for m in before.members}
    newcomers = [text(table(v).get("Name")) for k, v in table(raw.get("Containers")).items() if k not in known]
    if newcomers:
        raise Foreign(f"{', '.join(newcomers)} joined the network {before.name} meanwhile")
    for member in before.members:
        if _attached(api, member, before.name, network):
            api.post("networks", network, "disconnect", document={"Container": member.id, "Force": False})
    api.delete("networks", network)


def _attached(api: Api, member: MemberBefore, name: str, network: str) -> bool | None:
    """Is the container in that network? None: there is no such container any more.

    One that was connected while it did not run has its settings under the network's name, and no id of it yet.
    """
    try:
        one = api.container(member.id)
    except NotFound:
        return None
    ends = table(table(one.get("NetworkSettings")).get("Networks"))
    return name in ends and table(ends[name]).get("NetworkID") in (network, "", None)


def _put_back(api: Api, member: MemberBefore, name: str, network: str) -> None:
    """A member into the network with the settings it had; at its old address, which is chosen for it only when it does
    not come by itself. Raises OSError."""
    attached = _attached(api, member, name, network)
    if attached is None:
        return
    settings: dict[str, Any] = msgspec.json.decode(member.settings)
    if not attached:
        _connect(api, member, network, settings)
    if member.given or _at_home(api, member, name):
        return
    api.post("networks", network, "disconnect", document={"Container": member.id, "Force": False})
    four, six = member.addresses
    chosen = {"IPv4Address": four, **({"IPv6Address": six} if six else {})}
    _connect(api, member, network, {**settings, "IPAMConfig": chosen})


def _connect(api: Api, member: MemberBefore, network: str, settings: dict[str, Any]) -> None:
    api.post("networks", network, "connect", document={"Container": member.id, "EndpointConfig": settings})


def _at_home(api: Api, member: MemberBefore, name: str) -> bool:
    """Has it the address it had? One that does not run has none, and had none."""
    try:
        one = api.container(member.id)
    except NotFound as e:
        raise OSError(errno.ENOENT, f"the container {member.name} went meanwhile") from e
    end = table(table(table(one.get("NetworkSettings")).get("Networks")).get(name))
    return address(end.get("IPAddress")) in ("", member.addresses[0]) or not member.addresses[0]
