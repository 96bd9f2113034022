"""A redacted host: the model says the same of it, and nothing of what it was called is left in it."""

import ipaddress
import itertools
import json
import re
from typing import Any, get_args, get_origin, get_type_hints

import msgspec
import pytest
import topo
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from test_model_join import node, overlay
from test_model_walk import HOST, chain

from pathfit.core import redact as module
from pathfit.core.codec import pack
from pathfit.core.engine import Container, Endpoint, Engine, EngineNetwork
from pathfit.core.evidence_base import Missing
from pathfit.core.filters import Clamp, Match, Nat, Table, Verdict
from pathfit.core.path import Predicted
from pathfit.core.pseudonyms import Pseudonyms
from pathfit.core.redact import FIELDS, Redactor, redact
from pathfit.core.snapshot import HostSnapshot
from pathfit.model import Network, predict_both

KEY = b"a key of thirty-two bytes, maybe"
NAMES = Pseudonyms(KEY)
V4 = st.integers(0, 2**32 - 1).map(lambda n: str(ipaddress.IPv4Address(n)))
V6 = st.integers(0, 2**128 - 1).map(lambda n: str(ipaddress.IPv6Address(n)))
SPECIAL = st.sampled_from(
    ["10.0.0.0", "172.16.0.0", "192.168.1.0", "100.64.0.0", "169.254.1.1", "127.0.0.1", "224.0.0.5", "198.18.0.0"]
).flatmap(lambda a: st.integers(0, 2**12).map(lambda n: str(ipaddress.ip_address(a) + n)))
ADDRESS = st.one_of(V4, SPECIAL, V6)


def shared(a: str, b: str) -> int:
    """Bits two addresses begin with in common."""
    x, y = ipaddress.ip_address(a), ipaddress.ip_address(b)
    return x.max_prefixlen - (int(x) ^ int(y)).bit_length()


@given(ADDRESS, ADDRESS)
@settings(max_examples=300, deadline=None)
def test_addresses_keep_what_they_share_and_what_they_are(a: str, b: str) -> None:
    x, y = NAMES.address(a), NAMES.address(b)
    if (":" in a) == (":" in b):
        assert shared(x, y) == shared(a, b)
    for old, new in ((a, x), (b, y)):
        was, now = ipaddress.ip_address(old), ipaddress.ip_address(new)
        for what in ("is_global", "is_private", "is_loopback", "is_multicast", "is_link_local", "is_unspecified"):
            assert getattr(was, what) == getattr(now, what), (old, new, what)


@given(V4, V4)
@settings(max_examples=100, deadline=None)
def test_a_range_becomes_the_networks_it_holds(a: str, b: str) -> None:
    first, last = sorted((a, b), key=lambda x: int(ipaddress.ip_address(x)))
    nets = [ipaddress.ip_network(n) for n in NAMES.ranges(f"{first}-{last}")]
    assert sum(n.num_addresses for n in nets) == int(ipaddress.ip_address(last)) - int(ipaddress.ip_address(first)) + 1
    assert any(ipaddress.ip_address(NAMES.address(a)) in n for n in nets)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("00:00:00:00:00:00", "00:00:00:00:00:00"),
        ("ff:ff:ff:ff:ff:ff", "ff:ff:ff:ff:ff:ff"),
        ("01:00:5e:00:00:01", "01:00:5e:00:00:01"),
        ("c6:12:01:02", NAMES.mac("c6:12:01:02")),
    ],
)
def test_hardware_addresses_that_mean_something(old: str, new: str) -> None:
    assert NAMES.mac(old) == new


def test_hardware_addresses_keep_their_two_bits() -> None:
    for first in ("00", "02", "52", "aa", "fe"):
        made = NAMES.mac(f"{first}:11:22:33:44:55")
        assert int(made[:2], 16) & 3 == int(first, 16) & 3 and made[3:] != "11:22:33:44:55"
    tunnel = NAMES.mac("c6:12:01:02")  # an ipip device's own address, as its hardware address
    assert ".".join(str(int(x, 16)) for x in tunnel.split(":")) == NAMES.address("198.18.1.2")


def test_what_a_filter_matches_it_still_matches() -> None:
    names = ["corp-lan", "corp-dmz", "office0", "wg-office", "wg0", "eth0", "corp", "x"]
    patterns = ["corp", "corp-l", "wg", "o", "eth"]
    made = Pseudonyms(KEY, patterns)
    for name, pattern in itertools.product(names, patterns):
        assert made.device(name).startswith(made.beginning(pattern)) == name.startswith(pattern), (name, pattern)
    assert len({made.device(n) for n in names}) == len(names)
    assert all(len(made.device(n)) <= 15 for n in names) and made.device("eth0") == "eth0"


def test_ids_and_their_beginnings_go_together() -> None:
    whole = "0123456789abcdef" * 4
    assert NAMES.identity(whole).startswith(NAMES.identity(whole[:12])) and len(NAMES.identity(whole)) == 64
    assert NAMES.device("br-0123456789ab") == "br-" + NAMES.identity("0123456789ab")
    assert NAMES.device("eth0.100") == "eth0.100" and NAMES.device("secret.7").endswith(".7")


# -- whole hosts -----------------------------------------------------------------------------------------------------

DROP = (
    Match(field="saddr", values=("198.18.1.2-198.18.1.9",)),
    Match(field="dport", values=("444",)),
    Verdict(kind="drop"),
)
TABLES: dict[str, tuple[Table, ...]] = {
    "h": (
        chain("forward", DROP, (Match(field="tcpflags", values=("syn/syn",)), Clamp(size=1300))),
        chain("postrouting", (Match(field="oifname", values=("eth*",)), Nat(kind="masquerade")), kind="nat"),
    )
}
CASES: dict[str, tuple[tuple[HostSnapshot, ...], str, str]] = {
    "told on the way": ((topo.host(HOST),), "netns:c", "198.18.3.2"),
    "NAT, clamp, filter": ((topo.host(HOST, tables=TABLES),), "netns:c", "198.18.3.2"),
    "nobody there": ((topo.host(HOST),), "netns:c", "203.0.113.9"),
    "two hosts": ((node("alpha", last=1), node("beta", last=2)), "alpha!netns:h", "198.18.9.2"),
    "an overlay": (
        (overlay("alpha", 1, (2,), mtu=1500), overlay("beta", 2, (1,), mtu=1500)), "alpha!netns:c", "10.0.0.2"
    ),
}  # fmt: skip


def said(way: Predicted) -> list[object]:
    """What a prediction says, without names."""
    limits = [(x.mtu, x.kind, x.then, x.told_home, x.device, x.overhead) for x in way.limits]
    return [
        way.fate,
        way.large,
        way.mtu,
        way.mss,
        way.complete,
        limits,
        len(way.hops),
        [c.mss_after for c in way.clamps],
    ]


@pytest.mark.parametrize("port", [443, 444])
@pytest.mark.parametrize("case", CASES)
def test_the_model_says_the_same(case: str, port: int) -> None:
    hosts, source, target = CASES[case]
    before = Network.of(*hosts)
    made = [Redactor(h, KEY) for h in hosts]
    after = Network.of(*(m.host() for m in made))
    net = before.find(source)
    assert net is not None
    index = list(before.nets).index(net.key)
    old = predict_both(before, net.key, target, dport=port)
    new = predict_both(after, list(after.nets)[index], made[0].names.address(target), dport=port)
    assert [said(w) for w in old] == [said(w) for w in new]


RICH = replace(
    topo.host(HOST.replace("c ", "frontend ").replace("h ", "gateway "), name="build-server-7", tables={
        "gateway": TABLES["h"]}),
    engines=(
        Engine(
            kind="docker", socket="/srv/secret-place/docker.sock", version="24.0.7",
            config_path="/etc/docker/daemon.json",
            config='{"mtu": 1400, "registry-mirrors": ["https://mirror.corp.example"], "default-network-opts":'
                   ' {"bridge": {"com.docker.network.driver.mtu": "1300", "other": "words"}}}',
            flags=("dockerd", "--mtu=1400", "--insecure-registry=registry.corp.example"),
            networks=(EngineNetwork(id="ab" * 32, name="intranet", driver="bridge", bridge="br-abababababab",
                                    subnets=("198.18.1.0/24",), compose_project="payroll"),),
            containers=(Container(id="0123456789ab" + "c" * 52, name="payroll-db", engine="docker",
                                  network_mode="intranet", compose_files=("/home/alice/payroll/compose.yaml",),
                                  endpoints=(Endpoint(network="ab" * 32, name="intranet",
                                                      addresses=("198.18.1.2",), mac="02:42:c6:12:01:02"),)),),
        ),
    ),
    missing=(Missing(what="filters of netns:frontend", why="Operation not permitted (EPERM)", how="sudo alice"),),
)  # fmt: skip
SECRETS = re.findall(
    r"\S+",
    "frontend gateway build-server-7 secret-place mirror registry corp payroll intranet alice 0123456789ab abababab "
    "198.18.1. 198.18.2. 198.18.3. 02:42:c6 02:00:00:00 words boot-build",
)


def test_nothing_of_what_it_was_called_is_left() -> None:
    text = pack(redact(RICH, KEY)).decode()
    assert [x for x in SECRETS if x in text] == []
    assert [x for x in SECRETS if x in pack(RICH).decode()] == SECRETS  # or this test shows nothing
    config = json.loads(json.loads(text)["engines"][0]["config"])
    assert config == {"mtu": 1400, "default-network-opts": {"bridge": {"com.docker.network.driver.mtu": "1300"}}}
    assert json.loads(text)["engines"][0]["flags"] == ["--redacted", "--mtu=1400", "--redacted"]


def test_the_same_key_gives_the_same_names_and_another_key_others() -> None:
    one, again, other = redact(RICH, KEY), redact(RICH, KEY), redact(RICH, b"another")
    assert one == again and one.host == redact(node("build-server-7", last=1), KEY).host
    assert other.host != one.host and other.namespaces[0].addresses[1] != one.namespaces[0].addresses[1]


def test_a_redacted_host_opens_again() -> None:
    assert msgspec.json.decode(pack(redact(RICH, KEY)), type=HostSnapshot) == redact(RICH, KEY)


# -- every field there is --------------------------------------------------------------------------------------------


def structs(kind: Any, found: dict[str, type] | None = None) -> dict[str, type]:
    """All structs that a type is made of."""
    found = {} if found is None else found
    if get_origin(kind) is not None:
        for part in get_args(kind):
            structs(part, found)
    elif isinstance(kind, type) and issubclass(kind, msgspec.Struct) and kind.__name__ not in found:
        found[kind.__name__] = kind
        for hint in get_type_hints(kind).values():
            structs(hint, found)
    return found


def texts() -> list[tuple[str, str]]:
    """(struct, field) of everything that may hold free text."""
    return [
        (name, field)
        for name, kind in structs(HostSnapshot).items()
        for field, hint in get_type_hints(kind).items()
        if re.search(r"\bstr\b", re.sub(r"typing.Literal\[[^]]*\]", "", str(hint)))
    ]


@pytest.mark.parametrize(("kind", "field"), texts())
def test_every_text_is_replaced_or_known_to_be_harmless(kind: str, field: str) -> None:
    """A field nobody thought of is replaced; one that is kept stands in FIELDS with that meaning."""
    what = FIELDS.get(f"{kind}.{field}") or FIELDS.get(field)
    special = {x.__name__ for x in module.SPECIAL}
    assert what is not None or kind in special or (kind, field) in GUESSED, f"say what {kind}.{field} is, in FIELDS"


GUESSED = {("Link", "info"), ("HostSnapshot", "workloads"), ("Overlay", "facts"), ("Passive", "what")}
