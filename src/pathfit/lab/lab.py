"""A lab that is up: where its hosts are, what its target is, whether it fails as meant, and how to take it down."""

import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

from pathfit.host.netns import inside
from pathfit.lab import build, kernel, registry, stale
from pathfit.lab.filters import PROXY_MARK, fault_of
from pathfit.lab.layout import Layout, Wire
from pathfit.lab.make import make, target
from pathfit.lab.scenario import Scenario, Service, StalePmtu, Truth

READY = 20.0  # seconds for a helper to listen: 0.1 on an idle machine
HANG = 1.0  # seconds after which an answer on a path without delay counts as "does not come"
HUNG = 1.5  # seconds a busy request that ``gives: hang`` has hung before somebody looks
BUSY = 60.0  # seconds for a request that shall be hanging while somebody looks
ANSWER = 8.0  # seconds for an answer that should come
_PREFIX = re.compile(r"[a-z0-9][a-z0-9-]{0,23}")
_PACKAGE = Path(__file__).parents[2]  # the folder that holds pathfit/
_ETC_NETNS = Path("/etc/netns")
_MADE = _ETC_NETNS / ".made-by-pathfit"  # the folder was not there before our first lab


class Lab:
    """Build with :meth:`up`, or look at one that is up with :meth:`open`. A context manager: down at the end."""

    def __init__(self, plan: Layout, prefix: str) -> None:
        self.plan = plan
        self.scenario = plan.scenario
        self.prefix = prefix
        self._commands: set[subprocess.Popen[bytes]] = set()  # under way in this lab; they end with it
        self._starting = threading.Lock()
        self._over = False

    @classmethod
    def up(cls, scenario: Scenario, prefix: str | None = None, *, services: bool = True) -> Self:
        """Builds a lab. Raises FileExistsError (prefix taken), BuildError, OSError; nothing is left then."""
        plan = make(scenario)
        lab = cls(plan, prefix or f"pf{secrets.token_hex(4)}")
        if not _PREFIX.fullmatch(lab.prefix):
            raise ValueError(f"prefix {lab.prefix!r}: at most 24 of a-z, 0-9 and -")
        entry = lab._entry()
        try:
            registry.register(entry)
            lab._make(services)
            return lab
        except BaseException:  # whichever line it came at
            if registry.entered(entry):
                down(lab.prefix)
            raise

    def _entry(self) -> registry.Entry:
        taken = [h for h in self._namespaces() if os.path.lexists(f"{kernel.NETNS}/{self.prefix}-{h}")]
        if taken:
            raise FileExistsError(f"namespace {self.prefix}-{taken[0]} exists already; choose another prefix")
        named = [h.name for h in self.plan.hosts.values() if h.resolv or h.names]
        return registry.Entry(
            prefix=self.prefix,
            scenario=self.scenario.name,
            hosts=tuple(self._namespaces()),
            boot=registry.boot_id(),
            pid=os.getpid(),
            folders=tuple(f"{_ETC_NETNS}/{self.prefix}-{h}" for h in named),
            token=secrets.token_hex(8),
        )

    def _namespaces(self) -> list[str]:
        return [*self.plan.hosts, *build.wire_hosts(self.plan)]

    def _make(self, services: bool) -> None:
        taps: list[tuple[Wire, int, int]] = []
        started: list[tuple[str, int]] = []
        try:
            build.build(self.plan, self.prefix, taps)
            self._names()
            for i, (wire, a, b) in enumerate(taps):
                started.append(self._start(f"delay{i}", "pathfit.lab.delay", _delay_orders(wire, a, b), (a, b)))
            if services:
                for host, orders in self._services().items():
                    more = {"netns": f"{kernel.NETNS}/{self.prefix}-{host}", "services": orders}
                    started.append(self._start(f"serve-{host}", "pathfit.lab.services", more))
        finally:
            for _, a, b in taps:
                os.close(a)
                os.close(b)
        for name, fd in started:
            self._await(name, fd)
        self._teach()

    # -- helpers -----------------------------------------------------------------------------------------------

    def _start(self, name: str, module: str, orders: dict[str, Any], fds: tuple[int, ...] = ()) -> tuple[str, int]:
        """Starts a helper; (name, descriptor on which it will say that it is ready)."""
        folder = registry.helpers(self.prefix)
        told, tell = os.pipe()
        try:
            with open(folder / f"{name}.log", "wb") as log:
                process = subprocess.Popen(
                    [sys.executable, "-S", "-m", module, self.prefix],  # the prefix is for people reading ps
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    stderr=log,
                    pass_fds=(tell, *fds),
                    start_new_session=True,
                    cwd="/",
                    env={"PATH": os.environ.get("PATH", ""), "PYTHONPATH": str(_PACKAGE)},
                )
        finally:
            os.close(tell)
        assert process.stdin is not None
        with suppress(BrokenPipeError), process.stdin:
            process.stdin.write(json.dumps({"folder": str(folder), "name": name, "ready": tell, **orders}).encode())
        process.returncode = 0  # it outlives us: no warning when this object goes away
        return name, told

    def _await(self, name: str, fd: int) -> None:
        import select

        with open(fd, "rb") as pipe:
            readable, _, _ = select.select([pipe], [], [], READY)
            said = pipe.readline().decode(errors="replace").strip() if readable else f"silent for {READY} s"
        if said != "ok":
            log = (registry.helpers(self.prefix) / f"{name}.log").read_text(errors="replace").strip()
            raise build.BuildError(f"{name}: {said or 'ended at once'} {log[-500:]}".strip())

    def _services(self) -> dict[str, list[dict[str, Any]]]:
        """Orders per host, addresses filled in."""
        orders: dict[str, list[dict[str, Any]]] = {}
        for service in self.scenario.services:
            orders.setdefault(service.host, []).append(self._order(service))
        for sidecar in self.scenario.sidecars:
            relay = self._order(Service(host=sidecar.host, kind="relay", port=sidecar.listen))
            orders.setdefault(sidecar.host, []).append(relay | {"mark": PROXY_MARK})
        return orders

    def _order(self, service: Service) -> dict[str, Any]:
        order: dict[str, Any] = {k: getattr(service, k) for k in service.__struct_fields__}
        order["port"] = service.port or {"https": 8443, "http": 8080, "dns": 53}.get(service.kind)
        order["to"] = target(self.plan, service.to) if service.to else None
        order["records"] = {k: " ".join(self._addresses(v)) for k, v in service.records.items()}
        return order

    def _addresses(self, place: str) -> list[str]:
        """All addresses of a host of the lab; other words as they are."""
        if place.partition(".")[0] not in self.plan.hosts:
            return place.split()
        found = []
        for family in self.scenario.families:
            with suppress(KeyError):
                found.append(self.plan.address(place, family))
        return found

    def _names(self) -> None:
        """resolv.conf and hosts where `ip netns exec` and name lookups in a namespace look (ip-netns(8))."""
        for host in self.plan.hosts.values():
            if not host.resolv and not host.names:
                continue
            folder = _ETC_NETNS / f"{self.prefix}-{host.name}"
            try:
                if not _ETC_NETNS.exists():
                    _ETC_NETNS.mkdir()
                    _MADE.touch()
                folder.mkdir()
                servers = [a for r in host.resolv for a in self._addresses(r)]
                if servers:
                    (folder / "resolv.conf").write_text("".join(f"nameserver {a}\n" for a in servers))
                lines = [f"{a} {name}\n" for name, place in host.names.items() for a in self._addresses(place)]
                if lines:
                    (folder / "hosts").write_text("127.0.0.1 localhost\n::1 localhost\n" + "".join(lines))
            except OSError as e:
                raise build.BuildError(f"{folder}: {e.strerror} (names of a lab need a writable /etc/netns)") from None

    def _teach(self) -> None:
        """Stale path MTUs, which only a real ICMP makes."""
        for fault in self.scenario.faults:
            name, value = fault_of(fault)
            if name == "stale_pmtu" and value.how == "exception":
                self._stale(value)

    def _stale(self, fault: StalePmtu) -> None:
        segments = [s for s in self.plan.segments if any(p.host == fault.host for p in s.members)]
        teachers = [p.host for s in segments for p in s.members if p.host != fault.host]
        for family in self.scenario.families:
            stale.learn(self._ns(fault.host), self._ns(teachers[0]), self.plan.address(fault.to, family), fault.mtu)

    def _ns(self, host: str) -> str:
        return f"{self.prefix}-{host}"

    # -- asking ------------------------------------------------------------------------------------------------

    def where(self, host: str) -> str:
        """The WHERE of a host, for ``--from``. Raises KeyError."""
        return f"netns:{self._ns(self.plan.hosts[host.partition('.')[0]].name)}"

    def target(self) -> str:
        """What is asked, with addresses instead of the lab's host names."""
        return target(self.plan, self.scenario.ask.to, self.scenario.ask.family)

    def run(self, host: str, argv: Sequence[str], **more: Any) -> subprocess.CompletedProcess[bytes]:
        """A command inside the namespace of ``host`` (its network only); :meth:`down` kills it. Raises OSError."""
        fd = os.open(f"{kernel.NETNS}/{self._ns(host)}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            with self._starting:
                if self._over:
                    raise FileNotFoundError(f"lab {self.prefix} is down")
                with inside(fd):
                    process = subprocess.Popen(
                        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
                    )
                self._commands.add(process)
        finally:
            os.close(fd)
        try:
            with process:
                out, err = process.communicate(**more)
        finally:
            self._commands.discard(process)
        return subprocess.CompletedProcess(list(argv), process.returncode, out, err)

    def fetch(self, host: str, url: str, timeout: float = ANSWER, send: int = 0) -> tuple[str, str]:
        """curl from ``host``: (outcome as in Truth.gives, HTTP status or "000" unless the whole answer came)."""
        argv = self._curl(host, url, timeout, ["-H", "Expect:", "--data-binary", "@-"] if send else [])
        done = self.run(host, argv, input=bytes(send))
        return _outcome(done.returncode, done.stdout.decode(), done.stderr.decode(errors="replace"))

    def _curl(self, host: str, url: str, timeout: float, more: list[str]) -> list[str]:
        """The command line; through `ip netns exec` where the host has names of its own, see :meth:`_names`."""
        own = self.plan.hosts[host]
        enter = ["ip", "netns", "exec", self._ns(host)] if own.resolv or own.names else []
        argv = ["curl", "-q", "-vsSk", "-g", "--noproxy", "*", "-m", f"{timeout:.3f}", "-o", "/dev/null"]
        return [*enter, *argv, "-w", "%{http_code}", *more, target(self.plan, url)]

    @contextmanager
    def busy(self) -> Iterator[None]:
        """The scenario's ``busy`` requests are under way; they are ended when the block is left."""
        under_way: list[subprocess.Popen[bytes]] = []
        try:
            for fact in self.scenario.busy:
                host = fact.source.partition(".")[0]
                argv = self._curl(host, fact.get, BUSY, [])
                with kernel.in_netns(self._ns(host)):
                    process = subprocess.Popen(
                        argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
                    )
                under_way.append(process)
                assert process.stderr is not None
                for line in process.stderr:  # -v: what curl does, line by line
                    if b"Client hello" in line or line.startswith(b"> GET"):
                        break
                if fact.gives == "hang":
                    self._hangs(host, process)
            yield
        finally:
            for process in under_way:
                process.kill()
                process.communicate()

    def _hangs(self, host: str, process: "subprocess.Popen[bytes]") -> None:
        """Wait until a connection of that host has hung for a while, by the kernel's own account."""
        from pathfit.core.evidence import SocketFact
        from pathfit.host.netns import open_handle
        from pathfit.model import hung
        from pathfit.observe import sockets

        path = f"{kernel.NETNS}/{self._ns(host)}"
        until = time.monotonic() + READY
        with open_handle(path, self.where(host)) as handle:
            while process.poll() is None and time.monotonic() < until:
                fact = sockets.read("busy", handle)
                hangs = [hung.look(s) for s in fact.sockets] if isinstance(fact, SocketFact) else []
                if any(h is not None and h.since >= HUNG for h in hangs):
                    return
                time.sleep(0.05)  # between two looks; the socket's own clock decides
        raise RuntimeError(f"no connection of {host} hangs as the scenario means")

    def curl(self, host: str, url: str, timeout: float = ANSWER, send: int = 0) -> str:
        """The HTTP status when the whole answer came within ``timeout`` seconds, else "000"."""
        return self.fetch(host, url, timeout, send)[1]

    def truth(self, *, after: bool = False) -> list[str]:
        """What is not as the scenario says; empty: the lab fails (or works) as meant."""
        facts = self.scenario.truth
        if after and self.scenario.truth_after is not None:
            facts = self.scenario.truth_after
        with ThreadPoolExecutor(max_workers=4) as pool:
            return [c for c in pool.map(self._untrue, facts) if c]

    def _untrue(self, fact: Truth) -> str | None:
        timeout = fact.within or (HANG if fact.gives in ("hang", "fails") else ANSWER)
        outcome, status = self.fetch(fact.source.partition(".")[0], fact.get, timeout, fact.send)
        right = status == fact.gives if fact.gives.isdigit() else outcome == fact.gives
        if fact.gives == "fails":
            right = outcome != "ok"
        return None if right else f"{fact.get} from {fact.source} gives {outcome} ({status}), not {fact.gives}"

    def fresh(self) -> None:
        """Forgets what hosts have learnt (path MTUs, TCP metrics); stale path MTUs of the scenario are taught again."""
        for host in self.plan.hosts:
            with kernel.in_netns(self._ns(host)):
                for words in (["route", "flush", "cache"], ["-6", "route", "flush", "cache"], ["tcp_metrics", "flush"]):
                    subprocess.run([shutil.which("ip") or "/sbin/ip", *words], capture_output=True, check=False)
        self._teach()

    # -- blind mode --------------------------------------------------------------------------------------------

    def visible(self) -> tuple[str, ...]:
        """Namespaces that exist for a blind run; empty: this scenario is not asked blind."""
        return tuple(self._ns(h) for h in self.scenario.sees)

    def blind_command(self, argv: Sequence[str]) -> list[str]:
        """``argv`` wrapped so that only the visible namespaces and its own processes exist for it."""
        wrap = ["unshare", "-m", "-p", "-f", "--kill-child", "--mount-proc"]
        return [*wrap, "sh", "-c", _HIDE, "hide", " ".join(self.visible()), *argv]

    # -- the end -----------------------------------------------------------------------------------------------

    def down(self) -> None:
        with self._starting:  # a thread whose start was interrupted is waited for by no pool
            self._over = True
            for process in tuple(self._commands):
                process.kill()
        down(self.prefix)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.down()
        except BaseException:  # Ctrl-C came while it was taken down: finish that, then obey
            self.down()
            raise


# The private mount namespace keeps bind mounts of the visible namespaces in a tmpfs that covers /run/netns.
_HIDE = """set -e
see=$1; shift
keep=$(mktemp -d)
for n in $see; do : >"$keep/$n"; mount --bind "/run/netns/$n" "$keep/$n"; done
mount -t tmpfs tmpfs /run/netns
for n in $see; do : >"/run/netns/$n"; mount --bind "$keep/$n" "/run/netns/$n"; umount "$keep/$n"; rm "$keep/$n"; done
rmdir "$keep"
exec "$@"
"""


def _delay_orders(wire: Wire, a: int, b: int) -> dict[str, Any]:
    c = wire.cable
    assert c is not None
    return {
        "fds": [a, b],
        "delay": (c.rtt or 0.0) / 2000,
        "loss": (c.loss or 0.0) / 100,
        "seed": c.seed,
        "carries": [c.carries, c.carries_b if c.carries_b is not None else c.carries],
    }


def _outcome(code: int, status: str, complaint: str) -> tuple[str, str]:
    """curl's exit status (curl(1), EXIT CODES) in our words."""
    if code == 0:
        return ("ok" if status[:1] in "23" else "status"), status
    words = {6: "name", 7: "refused", 28: "hang", 35: "tls", 52: "empty", 56: "reset", 60: "tls", 18: "empty"}
    outcome = words.get(code, f"curl-{code}")
    told = "".join(line for line in complaint.lower().splitlines() if line.startswith("curl:"))
    early = code == 7 and "reset by peer" in complaint.lower()  # the RST was faster than curl's look at its connect()
    if early or (code in (35, 56) and "reset" in told):
        outcome = "reset"
    elif code == 56 and "alert" in told:
        outcome = "tls"
    elif code == 7 and "connection refused" not in complaint.lower():  # only -v says which errno it was
        outcome = "unreachable"
    return outcome, "000"


def down(prefix: str) -> bool:
    """Removes everything of a lab, half built or not, and nothing else. False: there is no such lab."""
    entry = registry.close(prefix)
    if entry is None:
        return False
    registry.stop_helpers(prefix)
    if entry.boot == registry.boot_id():
        for host in entry.hosts:
            kernel.drop_netns(f"{prefix}-{host}")
    for folder in entry.folders:
        shutil.rmtree(folder, ignore_errors=True)
    if entry.folders and _MADE.exists() and list(_ETC_NETNS.iterdir()) == [_MADE]:
        _MADE.unlink()
        _ETC_NETNS.rmdir()
    registry.forget(prefix)
    return True


def list_up() -> list[registry.Entry]:
    """Labs that are registered: up, half built or half removed. Sweeps away what never came so far."""
    registry.sweep()
    return registry.registered()
