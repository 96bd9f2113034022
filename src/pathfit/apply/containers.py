"""Containers of Podman stopped and started again, so that their devices are made anew from what its files say by then.

What was done is seen from what is: whether a container is another process than before and, for undoing, whether its
devices have the MTUs they had. So both are right after a crash anywhere between the first stop and the last start.
Undone after the network's file is as it was (:meth:`ContainersAgain.late`); where it was right before, starting them
once more would change nothing, and only what does not run is started.

Podman has no daemon: each command is a process that goes on when we are killed. So whoever looks at the containers
first waits for those that an earlier run of the same repair has left (:func:`_settled`).
"""

import errno
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from pathfit.apply import places
from pathfit.apply.step import Foreign, Gone, Impossible
from pathfit.apply.store import boot_id
from pathfit.core.change import RestartContainers
from pathfit.core.engined import ContainersBefore, StoodBefore
from pathfit.host import process, procfs
from pathfit.host.run import run
from pathfit.observe import processes
from pathfit.observe.engines import conmon
from pathfit.observe.engines.parse import number, rows, table, text
from pathfit.wire import rtnl, rtnl_link

PATIENCE = 600.0  # seconds for one command: containers may take their whole stop timeouts to end
LOOK = 0.02  # seconds between two looks whether a command of an earlier run has ended
MARK = "PATHFIT_REPAIR"  # the environment variable that says for which repair a command runs
ENGINE = "podman"
UNIT = "PODMAN_SYSTEMD_UNIT"  # label of what a systemd unit keeps running (podman-generate-systemd(1), quadlet)
RUNNING, PAUSED = "running", "paused"
RUNS = (RUNNING, PAUSED)
UNTOLD = ("created", "options", "containers")
"""Of a network as it is told: when it was looked at, for one without a file; what we change; members (Podman 5)."""
LONGEST = 2048  # containers in one change


class ContainersAgain:
    """Step of :class:`~pathfit.core.change.RestartContainers`."""

    lasting = True  # what was started with the edited file stays so

    def late(self, prepared: object) -> bool:
        return True

    def prepare(self, change: RestartContainers, tag: str) -> ContainersBefore:
        _refuse(change)
        podman = _Podman(change, tag)
        seen = podman.containers()
        gone = [one for one in change.containers if one not in seen]
        if gone:
            raise Impossible(f"the container {gone[0][:12]} went meanwhile", "podman ps")
        whole = podman.network()
        before = []
        owners: dict[str, str] = {}
        for one in change.containers:
            raw = seen[one]
            _refuse_one(raw)
            pid = _pid(raw)
            space = processes.namespace_of(pid)
            before.append(
                StoodBefore(
                    id=one,
                    name=_name(raw),
                    owner=owners.setdefault(space, one),
                    pid=pid,
                    started=process.started(pid),
                    paused=_state(raw) == PAUSED,
                    mtus=_mtus(pid),
                )
            )
        made = msgspec.json.encode({k: v for k, v in whole.items() if k not in UNTOLD}).decode()
        return ContainersBefore(boot=boot_id(), network=made, mtu=_mtu(whole), containers=tuple(before))

    def perform(self, change: RestartContainers, prepared: ContainersBefore, tag: str) -> None:
        podman = _Podman(change, tag)
        podman.settled()
        _accepted(podman.network(), change, prepared)
        seen = podman.containers()
        old = {b.id for b in prepared.containers if b.id in seen and _same(seen[b.id], b)}
        _again(podman, prepared, seen, old)

    def undo(self, change: RestartContainers, prepared: ContainersBefore, tag: str) -> None:
        podman = _Podman(change, tag)
        podman.settled()
        seen = podman.containers()
        runs = [b for b in prepared.containers if b.id in seen and _state(seen[b.id]) in RUNS]
        edited = prepared.mtu != str(change.mtu)
        other = {b.id for b in runs if edited and not _same(seen[b.id], b) and _mtus_of(seen[b.id]) != b.mtus}
        _again(podman, prepared, seen, other, start=prepared.boot == boot_id())

    def holds(self, change: RestartContainers, prepared: ContainersBefore) -> bool:
        podman = _Podman(change, "")
        seen = podman.containers()
        there = [b for b in prepared.containers if b.id in seen]
        runs = all(_state(seen[b.id]) in RUNS and not _same(seen[b.id], b) for b in there)
        return runs and _mtu(podman.network()) == str(change.mtu)


def _again(
    podman: "_Podman", before: ContainersBefore, seen: Mapping[str, Any], wanted: set[str], *, start: bool = True
) -> None:
    """Stop those of ``wanted`` that run, and whoever lives with one of them; start what does not run; pause what was
    paused. All are stopped before the first is started: none meets another of the old size on their bridge. ``start``
    False: what does not run stays so (the machine was started again since)."""
    there = [b for b in before.containers if b.id in seen]
    state = {b.id: _state(seen[b.id]) for b in there}
    owners = {b.owner for b in there if b.id in wanted}
    stop = [b.id for b in reversed(there) if b.owner in owners and state[b.id] in RUNS]
    podman.do("unpause", [one for one in stop if state[one] == PAUSED])
    podman.do("stop", stop)
    begin = [b.id for b in there if b.id in stop or (start and state[b.id] not in RUNS)]
    podman.do("start", begin)
    state.update(dict.fromkeys(begin, RUNNING))
    podman.do("pause", [b.id for b in there if b.paused and state[b.id] == RUNNING])


def _accepted(network: Mapping[str, Any], change: RestartContainers, before: ContainersBefore) -> None:
    """Podman's own parser has taken the edit, and sees nothing else changed. Raises Foreign; nothing has stopped."""
    if _mtu(network) != str(change.mtu):
        raise Foreign(f"podman sees mtu {_mtu(network)} in the network {change.network}, not {change.mtu}")
    now = {k: v for k, v in network.items() if k not in UNTOLD}
    was = msgspec.json.decode(before.network)
    if now != was:
        names = sorted(k for k in now.keys() | was.keys() if now.get(k) != was.get(k))
        raise Foreign(f"podman sees another network {change.network} in that file: {', '.join(names)}")


class _Podman:
    """Podman as the monitors of the containers call it."""

    def __init__(self, change: RestartContainers, tag: str) -> None:
        self.client, self.name, self.tag = change.client, change.network, tag

    def do(self, command: str, ids: Sequence[str]) -> None:
        """Nothing where there are none. Raises OSError with what it says."""
        if not ids:
            return
        done = run((*self.client, command, *ids), patience=PATIENCE, env={MARK: self.tag})
        if done.status:
            raise OSError(errno.EIO, f"podman {command}: {_last(done.said)}")

    def _told(self, *words: str) -> Any:
        done = run((*self.client, *words), patience=PATIENCE)
        if done.status:
            raise OSError(errno.EIO, f"podman {words[0]}: {_last(done.said)}")
        try:
            return msgspec.json.decode(done.out or "null")
        except msgspec.DecodeError as e:
            raise OSError(errno.EPROTO, f"podman {words[0]}: {e}") from None

    def containers(self) -> dict[str, dict[str, Any]]:
        """All there are, by id."""
        return {text(x.get("Id")): x for x in rows(self._told("ps", "--all", "--no-trunc", "--format", "json"))}

    def network(self) -> dict[str, Any]:
        """The network as Podman understands its file."""
        found = rows(self._told("network", "inspect", self.name))
        return found[0] if found else {}

    def settled(self) -> None:
        """Wait for commands that an earlier run of this repair began. Raises TimeoutError."""
        mark, end = f"{MARK}={self.tag}", time.monotonic() + PATIENCE
        while any(mark in _environment(pid) for pid in processes.of_name(ENGINE)):
            if time.monotonic() > end:
                raise TimeoutError(errno.ETIMEDOUT, "a podman of this repair does not end")
            time.sleep(LOOK)


def _refuse(change: RestartContainers) -> None:
    """Raises Impossible unless Podman's monitors are this machine's own root's, and call it as the plan does: anybody
    may call a process conmon, and give it any words."""
    if os.geteuid():
        raise PermissionError(errno.EPERM, "these containers are root's")
    if change.engine != ENGINE or len(change.containers) > LONGEST:
        raise Impossible("this version restarts containers of podman alone")
    wanted = set(change.containers)
    for pid in processes.of_name("conmon"):
        told = conmon.monitored(processes.argv_of(pid))
        if told is None or told.id not in wanted:
            continue
        if why := process.foreign(pid):
            raise Impossible(f"the container {told.name} is not ours to start again: {why}", f"ps -fp {pid}")
        if told.client != change.client or not os.path.isabs(told.client[0]):
            raise Impossible(f"the container {told.name} is kept by another podman", f"ps -fp {pid}")
        if told.removes:
            raise Impossible(f"a stop would remove the container {told.name} (--rm)", f"podman stop {told.name}")
        wanted.discard(told.id)
    if wanted:
        raise Impossible(f"the container {min(wanted)[:12]} has no monitor", "podman ps")


def _refuse_one(raw: Mapping[str, Any]) -> None:
    """Raises Impossible for a container that is not ours to stop."""
    name = _name(raw)
    if _state(raw) not in RUNS:
        raise Impossible(f"the container {name} does not run any more", "podman ps -a")
    if raw.get("AutoRemove") is True:
        raise Impossible(f"a stop would remove the container {name} (--rm)", f"podman stop {name}")
    if unit := text(table(raw.get("Labels")).get(UNIT)):
        raise Impossible(f"the container {name} is kept by the unit {unit}", f"systemctl restart {unit}")


def _same(raw: Mapping[str, Any], before: StoodBefore) -> bool:
    """Does it run as the process that it was?"""
    return _state(raw) in RUNS and _pid(raw) == before.pid and process.started(before.pid) == before.started


def _mtus_of(raw: Mapping[str, Any]) -> dict[str, int]:
    try:
        return _mtus(_pid(raw))
    except (Gone, OSError):
        return {}


def _mtus(pid: int) -> dict[str, int]:
    """MTUs of the devices in the namespace of a process, but loopback's. Raises Gone, OSError."""
    where = f"pid:{pid}"
    with places.entered(places.place(processes.namespace_of(pid), where)) as sock:
        return {x.name: x.mtu for x in sock.dump(rtnl.links(), rtnl_link.link) if not x.loopback}


def _mtu(network: Mapping[str, Any]) -> str | None:
    found = table(network.get("options")).get("mtu")
    return found if isinstance(found, str) else None


def _state(raw: Mapping[str, Any]) -> str:
    return text(raw.get("State")).lower()


def _pid(raw: Mapping[str, Any]) -> int:
    return number(raw.get("Pid"), 1 << 22) or 0


def _name(raw: Mapping[str, Any]) -> str:
    names = raw.get("Names")
    return text(names[0]) if isinstance(names, list) and names else text(raw.get("Id"))[:12]


def _environment(pid: int) -> Iterable[str]:
    return procfs.maybe(f"/proc/{pid}/environ", 1 << 17).split("\0")


def _last(said: str) -> str:
    return said.splitlines()[-1] if said else "it says nothing"
