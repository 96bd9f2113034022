"""A host that can be shown to strangers: :func:`redact` puts pseudonyms where addresses, names, ids and secrets stood.

What the model decides by stays (sizes, kinds, states, numbers, prefix lengths, ports), so that a prediction on the
redacted host is the same. What every field is stands in :data:`FIELDS`; text of a field that stands nowhere is
replaced, never kept. Rule texts, comments, messages and configuration go, but for what of it concerns the MTU.
"""

import json
import re
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any, TypeVar

import msgspec
from msgspec.structs import fields, replace

from pathfit.core.evidence_base import Missing
from pathfit.core.filters import Choice, Concat, FilterRule, Match, Nat
from pathfit.core.pseudonyms import Pseudonyms
from pathfit.core.snapshot import HostSnapshot, PolicyRule, Route, XfrmPolicy

T = TypeVar("T")
Selector = TypeVar("Selector", PolicyRule, XfrmPolicy)


def these(text: str) -> list[str]:
    """The words of a text."""
    return text.split()


ADDRESSES = frozenset({"saddr", "daddr", "origsaddr", "origdaddr", "replsaddr", "repldaddr"})
DEVICES = frozenset({"iifname", "oifname", "bridgeport"})
_NUMBERS = re.compile(r"[0-9a-fx]*\Z")
_TOKENS = re.compile(r"[A-Za-z]+|[0-9][0-9a-fx]*")
WORDS = frozenset(
    these(
        """any all local unicast broadcast multicast anycast blackhole unreachable prohibit throw nat other
        host later set clear ok failed src dst in out ipv iip new established related invalid untracked snat
        dnat expected assured confirmed seen reply dying original fin syn rst psh ack urg ece cwr mss second
        minute hour day burst mode bridge vepa private passthru source l none inherit auto stp rstp true
        false yes no on off tcp udp icmp default fq codel pfifo fast noqueue vxlan geneve gre ipip sit
        wireguard fou gue overlay macvlan ipvlan null ingress podman docker containerd unset active backup
        balance rr xor tlb alb fast slow ad"""
    )
)
PATHS = frozenset(
    these(
        """/var/run/docker.sock /run/docker.sock /run/podman/podman.sock /run/containerd/containerd.sock
        /etc/docker/daemon.json /etc/containers/containers.conf /etc/cni/net.d /run/crio/crio.sock"""
    )
)
TERMS = frozenset(
    these(
        """l2 l3 l3s 802.1Q 802.1ad 802.3ad balance-rr active-backup balance-xor balance-tlb balance-alb layer2 layer2+3
        layer3+4 encap2+3 encap3+4 ip6ip6 strict check disabled esp ah comp tunnel transport beet iptfs tun tap forward
        udp-non-ike route-optimization netdev internal"""
    )
)  # values of link facts (iproute2's words)
UNITS = re.compile(r"(docker|podman|containerd|crio|snap\.docker\.dockerd)(\.service|\.socket)?\Z")
PARTS = frozenset(these("links addresses routes neighbours filters sockets counters")) | {
    "routing rules", "path MTU exceptions", "forwarding entries", "offload features", "bridge VLANs",
    "next hop objects", "all links", "all routes", "all neighbours", "all forwarding entries",
}  # fmt: skip
CHAINS = frozenset(
    these(
        """INPUT OUTPUT FORWARD PREROUTING POSTROUTING DOCKER DOCKER-USER DOCKER-FORWARD DOCKER-BRIDGE DOCKER-
        CT DOCKER-INTERNAL DOCKER-ISOLATION-STAGE-1 DOCKER-ISOLATION-STAGE-2 DOCKER-INGRESS filter nat
        mangle raw security input output forward prerouting postrouting ingress egress KUBE-FORWARD KUBE-
        SERVICES KUBE-POSTROUTING KUBE-MARK-MASQ KUBE-FIREWALL CNI-FORWARD NETAVARK_FORWARD NETAVARK-
        ISOLATION-1 NETAVARK-ISOLATION-2 NETAVARK-ISOLATION-3 WEAVE WEAVE-NPC FLANNEL-FWD FLANNEL-POSTRTG"""
    )
)
NETWORKS = frozenset(these("default bridge host none null ingress docker_gwbridge podman private pasta slirp4netns"))


def redact(host: HostSnapshot, key: bytes) -> HostSnapshot:
    """``host`` with pseudonyms made from ``key``. The same host and key give the same result."""
    return Redactor(host, key).host()


class Redactor:
    """One host on its way; :attr:`names` has the pseudonyms, for whoever must find something again."""

    def __init__(self, host: HostSnapshot, key: bytes, *others: HostSnapshot) -> None:
        self._host = host
        self.names = Pseudonyms(key, (p for one in (host, *others) for p in _patterns(one)))

    def host(self) -> HostSnapshot:
        made = self._value(self._host)
        assert isinstance(made, HostSnapshot)
        return made

    # -- structure ----------------------------------------------------------------------------------------------

    def _value(self, value: Any) -> Any:
        """A struct, field by field."""
        special = self.special(type(value))
        if special is not None:
            return special(self, value)
        return self._plain(value)

    def _plain(self, value: T) -> T:
        changes = {}
        for f in fields(value):  # type: ignore[arg-type]
            old = getattr(value, f.name)
            if isinstance(old, (str, tuple, dict, msgspec.Struct)) and old:
                what = self.meaning(type(value), f.name)
                changes[f.name] = self._any(old, what)
        return replace(value, **changes) if changes else value  # type: ignore[type-var]

    def special(self, kind: type) -> "Callable[[Any, Any], Any] | None":
        """What is done to a struct that is more than its fields."""
        return SPECIAL.get(kind)

    def meaning(self, kind: type, field: str) -> "Meaning":
        """What text in a field of a struct is."""
        return FIELDS.get(f"{kind.__name__}.{field}") or FIELDS.get(field) or _auto

    def _any(self, old: Any, what: "Meaning") -> Any:
        if isinstance(old, str):
            return what(self, old)
        if isinstance(old, tuple):
            return tuple(self._any(x, what) for x in old)
        if isinstance(old, dict):
            if what is _sysctl:
                return {_sysctl(self, k): v if v.lstrip("-").isdigit() else _auto(self, v) for k, v in old.items()}
            return {_key(self, k): self._any(v, what) for k, v in old.items()}
        return self._value(old) if isinstance(old, msgspec.Struct) else old

    # -- structs that are more than their fields ------------------------------------------------------------------

    def _route(self, r: Route) -> Route:
        made = self._plain(r)
        return replace(made, dst=self._network(r.dst, r.prefix), src=self._network(r.src, r.src_prefix))

    def _policy(self, r: Selector) -> Selector:
        made = self._plain(r)
        return replace(made, dst=self._network(r.dst, r.dst_prefix), src=self._network(r.src, r.src_prefix))

    def _network(self, address: str, length: int) -> str:
        try:
            return self.names.network(address, length) if address else ""
        except ValueError:
            return self.names.word(address)

    def _match(self, m: Match) -> Match:
        values = tuple(x for v in m.values for x in self._tested(m.field, v))
        return replace(m, field=_word(self, m.field), values=values)

    def _concat(self, c: Concat) -> Concat:
        return replace(c, fields=tuple(_word(self, f) for f in c.fields),
                       rows=tuple(row for old in c.rows for row in self._row(c.fields, old)))  # fmt: skip

    def _choice(self, c: Choice) -> Choice:
        rows, then = [], []
        for old, action in zip(c.rows, c.then, strict=False):
            made = list(self._row(c.fields, old))
            rows += made
            then += [self._value(action)] * len(made)
        other = self._value(c.otherwise) if c.otherwise is not None else None
        return replace(c, fields=tuple(_word(self, f) for f in c.fields), rows=tuple(rows), then=tuple(then),
                       otherwise=other)  # fmt: skip

    def _row(self, names: tuple[str, ...], row: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        """A range of addresses becomes several networks, and then several rows."""
        named = (*names, *[""] * len(row))
        yield from product(*(self._tested(field, value) for field, value in zip(named, row, strict=False)))

    def _tested(self, field: str, value: str) -> list[str]:
        if field in ADDRESSES:
            try:
                return self.names.ranges(value)
            except ValueError:
                return [self.names.word(value)]
        if field in DEVICES:
            side, colon, name = value.partition(":")
            head, name = (f"{side}:", name) if colon else ("", value)
            made = (
                self.names.beginning(name[:-1]) + "*" if name.endswith("*") and name[:-1] else self.names.device(name)
            )
            return [head + (name if name == "*" else made)]
        return [value if _harmless(value) else _auto(self, value)]

    def _nat(self, n: Nat) -> Nat:
        lo, hi = _address(self, n.lo or "") or None, _address(self, n.hi or "") or None
        return replace(n, lo=lo, hi=hi)

    def _rule(self, r: FilterRule) -> FilterRule:
        made = self._plain(r)
        return replace(made, text="", comment=None)

    def _missing(self, m: Missing) -> Missing:
        part, of, where = m.what.rpartition(" of ")
        what = f"{part} of {_where(self, where)}" if of and part in PARTS else "something"
        errno = re.search(r"\((E[A-Z0-9]+)\)", m.why)
        return replace(m, what=what, why=errno[1] if errno else "redacted", how="", ref="")


Meaning = Callable[[Redactor, str], str]
SPECIAL: dict[type, Callable[[Redactor, Any], Any]] = {
    Route: Redactor._route,
    PolicyRule: Redactor._policy,
    XfrmPolicy: Redactor._policy,
    Match: Redactor._match,
    Concat: Redactor._concat,
    Choice: Redactor._choice,
    Nat: Redactor._nat,
    FilterRule: Redactor._rule,
    Missing: Redactor._missing,
}


def _patterns(host: HostSnapshot) -> Iterator[str]:
    """What stands before the ``*`` of device names in filters."""
    rows = (
        (e.fields, row) if isinstance(e, (Concat, Choice)) else ((e.field,), (v,))
        for n in host.namespaces
        for t in n.tables
        for c in t.chains
        for r in c.rules
        for e in r.exprs
        if isinstance(e, (Concat, Choice, Match))
        for v in (e.values if isinstance(e, Match) else ("",))
        for row in (e.rows if isinstance(e, (Concat, Choice)) else ((),))
    )
    for names, row in rows:
        for field, value in zip(names, row, strict=False):
            if field in DEVICES and value.endswith("*"):
                yield value.rpartition(":")[2][:-1]


# -- what a piece of text is -----------------------------------------------------------------------------------------


def _keep(r: Redactor, text: str) -> str:
    return text


def _gone(r: Redactor, text: str) -> str:
    return ""


def _address(r: Redactor, text: str) -> str:
    try:
        return r.names.ranges(text)[0] if text else text
    except ValueError:
        return r.names.word(text)


def _device(r: Redactor, text: str) -> str:
    return r.names.device(text)


def _mac(r: Redactor, text: str) -> str:
    return r.names.mac(text)


def _name(r: Redactor, text: str) -> str:
    """A name, or several with "/" or "," between them; the engines' own names of networks stay."""
    if text in NETWORKS:
        return text
    return "/".join(r.names.identity(x) for x in text.split("/"))


def _chain(r: Redactor, text: str) -> str:
    return text if text in CHAINS else r.names.word(text)


def _space(r: Redactor, text: str) -> str:
    """NetnsSnapshot.id: numbers of this boot alone."""
    return text if re.match(r"\d+:\d+\Z", text) else r.names.identity(text)


def _where(r: Redactor, text: str) -> str:
    """A WHERE."""
    far, bang, near = text.rpartition("!")
    kind, colon, name = near.partition(":")
    head = f"{r.names.word(far)}!" if bang else ""
    if near == "host" or not colon or kind in ("pid", "netns-id"):
        return head + (near if near == "host" or colon else r.names.word(near))
    if kind not in ("netns", "container", "docker", "podman", "containerd", "network", "pod"):
        return head + r.names.word(near)
    return f"{head}{kind}:{_path(r, name) if name.startswith('/') else _name(r, name)}"


def _path(r: Redactor, text: str) -> str:
    """A path: what engines and the kernel call so stays; of others only the folders where namespaces lie."""
    if text in PATHS or re.match(r"/proc/\d+/(fd/\d+|ns/net)\Z", text):
        return text
    folder, _, last = text.rpartition("/")
    if folder.endswith(("/netns", "/rootless-netns")):
        special = re.match(r"(\d-|lb_)([0-9a-z]{9,})\Z", last)
        if special:
            last = special[1] + r.names.word(special[2])[1:].ljust(len(special[2]), "0")[: max(10, len(special[2]))]
        elif last not in ("ingress_sbox", "default"):
            last = r.names.identity(last)
        root = folder if folder in ("/run/netns", "/var/run/netns", "/run/docker/netns") else "/run/docker/netns"
        return f"{root if 'rootless' not in folder else '/run/rootless-netns'}/{last}"
    kind = re.search(r"\.(sock|json|conf|conflist|toml|yaml|yml|lease|leases)\Z", last)
    return f"/{r.names.word(text)}{kind[0] if kind else ''}"


def _unit(r: Redactor, text: str) -> str:
    return text if UNITS.match(text) else r.names.word(text)


def _process(r: Redactor, text: str) -> str:
    """ "openvpn[812]"."""
    named = re.match(r"(.*)(\[\d+\])\Z", text, re.DOTALL)
    return r.names.word(named[1]) + named[2] if named else r.names.word(text)


def _mode(r: Redactor, text: str) -> str:
    kind, colon, name = text.partition(":")
    return f"{kind}:{r.names.identity(name)}" if colon and kind in ("container", "ns") else _name(r, text)


def _opaque(r: Redactor, text: str) -> str:
    """What is not understood: the kernel's word for it, without its arguments."""
    known = re.match(r"-[mj] [A-Za-z0-9_]+|flow add|ct (?=\S)|[a-z]{2,12}(?= |\Z)", text)
    return f"{known[0]} redacted" if known else "redacted"


def _release(r: Redactor, text: str) -> str:
    """Numbers of the kernel's version; who built it is nobody's business."""
    number = re.match(r"\d+(\.\d+)*(-\d+)*", text)
    return number[0] if number else ""


def _config(r: Redactor, text: str) -> str:
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError):
        return "{}"
    return json.dumps(_sized(whole) or {}, sort_keys=True)


def _sized(value: Any, depth: int = 0) -> Any:
    """Of a configuration only keys about the MTU, and what leads to them."""
    if not isinstance(value, dict) or depth > 4:
        return None
    kept = {}
    for k, v in value.items():
        if "mtu" in k.lower() and isinstance(v, (int, str)) and str(v).isdigit() and _known_option(k):
            kept[k] = v
        elif k in ("default-network-opts", *NETWORKS, "overlay", "macvlan") and (inner := _sized(v, depth + 1)):
            kept[k] = inner
    return kept


def _known_option(key: str) -> bool:
    return key in ("mtu", "MTU", "com.docker.network.driver.mtu")


def _flag(r: Redactor, text: str) -> str:
    return text if re.match(r"--mtu(=\d+)?\Z|\d+\Z", text) else "--redacted"


def _uuid(r: Redactor, text: str) -> str:
    return r.names.secret(text, "uuid")


def _secret(r: Redactor, text: str) -> str:
    return r.names.secret(text, "key")


def _word(r: Redactor, text: str) -> str:
    """A word of our own, or the kernel's: stays when it looks like one."""
    return text if re.match(r"[a-z0-9._-]{0,32}\Z", text) else r.names.word(text)


def _sysctl(r: Redactor, text: str) -> str:
    """ "ipv4.conf.eth0.100.rp_filter": the device's name stands between."""
    parts = re.match(r"(ipv[46]\.(?:conf|neigh)\.)(.+)(\.[a-z0-9_]+)\Z", text)
    if parts is None:
        return text if re.match(r"[a-z0-9._/-]+\Z", text) else r.names.word(text)
    device = parts[2] if parts[2] in ("all", "default") else r.names.device(parts[2])
    return parts[1] + device + parts[3]


def _key(r: Redactor, text: str) -> str:
    """The name of a fact."""
    return text if re.match(r"[a-z0-9_-]{1,24}\Z", text) else r.names.word(text)


def _harmless(text: str) -> bool:
    """Nothing but numbers and words of ours."""
    return all(t[0].isdigit() or t in WORDS or (_NUMBERS.match(t) and len(t) < 3) for t in _TOKENS.findall(text))


def _auto(r: Redactor, text: str) -> str:
    """Text of unknown meaning: an address, an id, a word that says nothing, or else a name."""
    if text in TERMS:
        return text
    if _harmless(text) and not re.search(r"[.:]", text):
        return text
    try:
        return (
            r.names.ranges(text)[0]
            if re.match(r"[0-9a-fA-F.:/-]+\Z", text) and re.search(r"[.:]", text)
            else _rest(r, text)
        )
    except ValueError:
        return _rest(r, text)


def _rest(r: Redactor, text: str) -> str:
    if re.match(r"[0-9a-f]{2}(:[0-9a-f]{2})+\Z", text):
        return r.names.mac(text)
    return r.names.identity(text)


FIELDS: dict[str, Meaning] = {
    # of whatever struct
    **dict.fromkeys(
        these(
        """schema version kind driver qdisc state type action encap tool family hook policy machine system
        scope engine restart_policy restart mtu_from mode maker backend encryption meaning code reject_with
        into features limit_kind network_mtu note distribution"""
    ), _keep),
    **dict.fromkeys(
        these("address addresses local remote via prefsrc endpoint peer dst src allowed subnets"), _address),
    **dict.fromkeys(these("iif oif link devices flowtable_devices bridge uplink"), _device),
    **dict.fromkeys(these("mac peer_mac"), _mac),
    **dict.fromkeys(
        these(
        """name pod compose_project compose_service compose_network networks project namespace inside_name
        network"""
    ), _name),
    **dict.fromkeys(these("own peer_ns netns"), _space),
    **dict.fromkeys(these("where names"), _where),
    **dict.fromkeys(these("socket root config_path file compose_files holder_config"), _path),
    **dict.fromkeys(these("text comment config_error how ref signs"), _gone),
    "id": _name, "members": _name, "container": _name, "inside": _name, "host": _name,
    "boot_id": _uuid, "public_key": _secret, "holder": _process, "unit": _unit, "config": _config, "flags": _flag,
    "client": _flag,
    "what": _opaque, "target": _chain, "release": _release, "sysctls": _sysctl, "network_mode": _mode,
    # of one struct
    **dict.fromkeys(("XfrmState.protocol", "XfrmTemplate.protocol", "XfrmState.cipher", "XfrmState.auth"), _keep),
    "XfrmPolicy.direction": _keep,
    "NetnsSnapshot.id": _space, "Link.name": _device, "Table.name": _chain, "Chain.name": _chain,
    "Overlay.source": _path, "Overlay.option": _word, "InstanceNetwork.source": _keep,
    "WeaveConnection.peer": _process, "Rewrite.field": _word, "Rewrite.value": _address, "SetMark.source": _keep,
}  # fmt: skip
"""What text in a field is, by "Struct.field" or by the field's name alone. Not here: see :func:`_auto`."""
