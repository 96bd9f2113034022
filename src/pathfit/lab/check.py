"""What a well-formed scenario can still get wrong: names of hosts that are not there, two values that exclude
each other. Every problem is (place in the document, what is wrong and what is allowed)."""

import ipaddress
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import msgspec

from pathfit.lab.filters import fault_of, fill
from pathfit.lab.scenario import Cable, Expect, Lines, Nat, Scenario, Service

MAX_HOSTS = 64
Problem = tuple[str, str]


def problems(s: Scenario) -> Iterator[Problem]:
    """All problems, the most basic first."""
    yield from _names(s)
    yield from _cables(s)
    yield from _references(s)
    yield from _details(s)
    yield from _expectations(s)
    yield from _plan(s)


def all_hosts(s: Scenario) -> list[str]:
    return [*s.hosts, *s.switches, *s.containers]


def _names(s: Scenario) -> Iterator[Problem]:
    hosts = all_hosts(s)
    if not hosts:
        yield "hosts", "no host at all"
    if len(hosts) > MAX_HOSTS:
        yield "hosts", f"{len(hosts)} namespaces; at most {MAX_HOSTS}"
    for name in {h for h in hosts if hosts.count(h) > 1}:
        yield "hosts", f"{name!r} stands twice among hosts, switches and containers"
    for name, c in s.containers.items():
        at, seen = name, set[str]()
        while at in s.containers and at not in seen:
            seen.add(at)
            at = s.containers[at].inside
        if at in seen:
            yield f"containers.{name}.in", "containers that contain each other"
        if c.inside in s.switches:
            yield f"containers.{name}.in", f"{c.inside!r} is a switch; a container is in a host or a container"


def _known(s: Scenario, host: str, place: str) -> Iterator[Problem]:
    hosts = all_hosts(s)
    if host.partition(".")[0] not in hosts:
        yield place, f"no host {host.partition('.')[0]!r}; there are: {', '.join(hosts)}"


def _cables(s: Scenario) -> Iterator[Problem]:
    for i, c in enumerate(s.cables):
        at = f"cables[{i}]"
        for j, end in enumerate(c.ends):
            yield from _known(s, end, f"{at}.ends[{j}]")
        if c.ends[0].partition(".")[0] == c.ends[1].partition(".")[0]:
            yield f"{at}.ends", "both ends are the same host"
        yield from _cable(c, at)
    links = [e for c in s.cables for e in c.ends if "." in e]
    bridges = {f"{b.host}.{b.name}" for b in s.bridges} | {f"{c.inside}.{c.bridge}" for c in s.containers.values()}
    bridges |= {f"{h}.{t.bridge}" for t in s.tunnels if t.bridge for h in t.ends}
    for i, c in enumerate(s.cables):
        for j, end in enumerate(c.ends):
            if links.count(end) > 1 and end not in bridges:
                yield f"cables[{i}].ends[{j}]", f"two cables end at {end}"


def _cable(c: Cable, at: str) -> Iterator[Problem]:
    tap = [k for k in ("rtt", "loss", "carries", "carries_b") if getattr(c, k) is not None]
    nic = [k for k in ("receives", "receives_b") if getattr(c, k) is not None]
    if tap and nic:
        yield f"{at}.{nic[0]}", f"not together with {tap[0]}: such a cable receives anything already"
    for key, own in (("receives", c.mtu), ("receives_b", c.mtu_b or c.mtu)):
        value = getattr(c, key)
        if value is not None and value < own + 4:
            yield f"{at}.{key}", f"at least the end's own MTU + 4 = {own + 4}; for less, put a switch in between"


_HOST_LISTS = ("bridges", "nat", "clamps", "routes", "services", "sidecars")


def _references(s: Scenario) -> Iterator[Problem]:
    for name, c in s.containers.items():
        yield from _known(s, c.inside, f"containers.{name}.in")
    for key in _HOST_LISTS:
        for i, item in enumerate(getattr(s, key)):
            yield from _known(s, item.host, f"{key}[{i}].host")
    for i, t in enumerate(s.tunnels):
        for j, end in enumerate(t.ends):
            yield from _known(s, end, f"tunnels[{i}].ends[{j}]")
    for i, name in enumerate(s.sees):
        yield from _known(s, name, f"sees[{i}]")
    for key in ("truth", "truth_after", "busy"):
        for i, t in enumerate(getattr(s, key) or ()):
            yield from _known(s, t.source, f"{key}[{i}].from")
    yield from _known(s, s.ask.source, "ask.from")
    yield from _faults(s)


def _faults(s: Scenario) -> Iterator[Problem]:
    for i, fault in enumerate(s.faults):
        at = f"faults[{i}]"
        try:
            name, value = fault_of(fault)
        except ValueError as e:
            yield at, str(e)
            continue
        if isinstance(value, str):
            yield from _known(s, value, f"{at}.{name}")
        elif hasattr(value, "host"):
            yield from _known(s, value.host, f"{at}.{name}.host")


def _details(s: Scenario) -> Iterator[Problem]:
    for i, n in enumerate(s.nat):
        yield from _nat(s, n, f"nat[{i}]")
    for i, v in enumerate(s.services):
        yield from _service(v, f"services[{i}]")
    for key in ("net", "net6"):
        for kind in ("bridges", "cables", "tunnels"):
            for i, item in enumerate(getattr(s, kind)):
                yield from _net(getattr(item, key), 4 if key == "net" else 6, f"{kind}[{i}].{key}")
    yield from _settings(s)


def _settings(s: Scenario) -> Iterator[Problem]:
    for key, table in _sysctls(s):
        for name in table:
            if not re.fullmatch(r"net\.[a-z0-9_]+(\.[A-Za-z0-9_-]+)+", name):
                yield key, f"{name!r} is not a setting of a network namespace (net.…)"
    for host in (v for v in (s.hosts.values() if isinstance(s.hosts, dict) else ()) if v):
        for addresses in host.addresses.values():
            for a in addresses:
                try:
                    ipaddress.ip_interface(a)
                except ValueError as e:
                    yield "hosts", str(e)


def _sysctls(s: Scenario) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, host in s.hosts.items() if isinstance(s.hosts, dict) else ():
        if host:
            yield f"hosts.{name}.sysctl", host.sysctl
    for name, c in s.containers.items():
        yield f"containers.{name}.sysctl", c.sysctl
    for i, f in enumerate(s.faults):
        if f.sysctl:
            yield f"faults[{i}].sysctl.set", f.sysctl.set


def _net(text: str | None, family: int, at: str) -> Iterator[Problem]:
    if text is None:
        return
    try:
        net = ipaddress.ip_network(text)
    except ValueError as e:
        yield at, f"{e}; a prefix such as {'203.0.113.0/24' if family == 4 else '2001:db8:7::/64'}"
        return
    if net.version != family:
        yield at, f"{text} is not IPv{family}"
    elif net.num_addresses < 4:
        yield at, f"{text} has no room for two hosts"


def _nat(s: Scenario, n: Nat, at: str) -> Iterator[Problem]:
    for j, to in enumerate(n.balance):
        yield from _known(s, to, f"{at}.balance[{j}]")
    if n.kind == "dnat" and bool(n.to) == bool(n.balance):
        yield at, "dnat needs either to: HOST or balance: [HOST, …]"
    if n.to:
        yield from _known(s, n.to, f"{at}.to")
    if n.kind == "redirect" and not n.to_port:
        yield at, "redirect needs to_port"


_BEHAVES = {
    "dns": {"answer", "silent", "nxdomain", "refused"},
    "udp": {"answer", "silent"},
    "relay": {"answer"},
    "tcp": {"answer", "silent", "late", "drip", "garbage", "reset", "close", "banner"},
    "smtp": {"answer", "silent", "reset", "close", "banner"},
    "http": {"answer", "silent", "late", "drip", "endless-headers", "garbage", "reset", "close"},
}
_BEHAVES["https"] = _BEHAVES["web"] = _BEHAVES["http"] | {"alert", "client-cert"}


def _service(v: Service, at: str) -> Iterator[Problem]:
    if v.behave not in _BEHAVES[v.kind]:
        yield f"{at}.behave", f"{v.behave} is not for {v.kind}; allowed: {', '.join(sorted(_BEHAVES[v.kind]))}"
    if v.kind in ("smtp", "tcp", "relay", "udp") and v.port is None:
        yield at, f"{v.kind} needs a port"
    if v.kind == "web" and v.port is not None:
        yield f"{at}.port", "web has two ports, 8443 and 8080; say kind: https or http"


def _expectations(s: Scenario) -> Iterator[Problem]:
    try:
        msgspec.convert(s.blind, Expect)
    except msgspec.ValidationError as e:
        yield "blind", str(e)
    for name, expect in (("expect", s.expect), ("blind", s.expected(blind=True) if s.blind else s.expect)):
        for key in ("fwd", "rev", "fix"):
            value = getattr(expect, key)
            if value and value[0] > value[1]:
                yield f"{name}.{key}", f"the first of {list(value)} is the smaller one"
        if expect.says is not None:
            try:
                re.compile(expect.says)
            except re.error as e:
                yield f"{name}.says", f"not a regular expression: {e}"
    if s.sees and s.ask.source.partition(".")[0] not in s.sees:
        yield "sees", f"the asking host {s.ask.source!r} must be visible"
    for key in ("truth", "truth_after", "busy"):
        for i, t in enumerate(getattr(s, key) or ()):
            if urlsplit(t.get).scheme not in ("http", "https"):
                yield f"{key}[{i}].get", f"{t.get!r} is not an http(s) URL"


def _plan(s: Scenario) -> Iterator[Problem]:
    """Working it out finds what is left: a route without a way, a tunnel without an underlay, a wrong placeholder."""
    from pathfit.lab.make import make  # make -> layout -> scenario; only needed here

    for i, fault in enumerate(s.faults):
        for key in ("nft", "iptables", "iptables_legacy", "ip6tables", "ip"):
            value: Lines | None = getattr(fault, key)
            for line in value.lines if value else ():
                if "\n" in line and key != "nft":
                    yield f"faults[{i}].{key}.lines", "one command a line"
    try:
        make(s)
    except (KeyError, ValueError, StopIteration) as e:
        yield "document", str(e.args[0]) if e.args else "cannot be worked out"


__all__ = ["MAX_HOSTS", "all_hosts", "fill", "problems"]
