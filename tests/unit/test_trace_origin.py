"""Who made a reset or an ICMP error: built, and then said, by `pathfit trace`; articles 003 and 001 of the seeds."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
from netlab import Net, nets
from pcapng_comments import comments
from weblab import HANGS_UP, PATHFIT, stamped, web

from pathfit import examine
from pathfit.cli import target
from pathfit.core.ask import Ask
from pathfit.core.case import Case
from pathfit.core.evidence import TraceFact
from pathfit.core.followed import Followed
from pathfit.core.net import Point
from pathfit.core.tracing import Lost
from pathfit.follow import followed
from pathfit.live import LiveWorld
from pathfit.render.answered import answer_text, proof_texts

pytestmark = [pytest.mark.lab, pytest.mark.real_root]

DEAF = """
import sys
from pathfit.capture import watch
from pathfit.host import bpf
from pathfit.cli.entry import main
def refused(*words):
    raise bpf.Unable("no")
watch.Drops = refused
sys.exit(main())
"""
HIDE = 'umount -l /run/netns; mount -t tmpfs tmpfs /run; exec "$@"'
ALONE = ("unshare", "--pid", "--fork", "--mount", "--mount-proc", "sh", "-c", HIDE, "sh")
AT = {4: "198.51.100.2", 6: "[2001:db8:2::2]"}


@pytest.fixture
def net() -> Iterator[Net]:
    """c - r - s."""
    with nets() as net:
        net.routed(("192.0.2", "198.51.100"), ("2001:db8:1", "2001:db8:2"), 2)
        yield net


def case_of(net: Net, to: str, source: str = "c") -> Case:
    goal = target.target(to, "--to")
    ask = Ask(command="trace", source=f"netns:{net(source)}", target=goal, timeout=15.0)
    with LiveWorld(timeout=15.0) as world:
        return examine.run(ask, world)


def seen(net: Net, to: str, source: str = "c") -> Followed:
    done = followed(case_of(net, to, source))
    assert not [f for f in done.report.findings if f.code == "SYS902"] if done.report else False
    for one in done.answers:
        for lang in ("en", "zh"):
            said = [answer_text(one, lang), *proof_texts(one, lang)]
            assert all(said) and not any("?" in x or "{" in x for x in said), said
    return done


def resets(done: Followed) -> list[tuple[str, str, str, str, str]]:
    """(by, how sure, code, phase, namespace it was made in) of resets that mean something."""
    return [
        (x.by, x.confidence, x.code, x.phase, x.made.netns.rpartition("-")[2] if x.made else "")
        for x in done.answers
        if x.kind == "reset" and (x.code or x.by != "end")
    ]


def codes(done: Followed) -> list[str]:
    assert done.report is not None
    return [f.code for f in done.report.findings if f.code.startswith("RST")]


def lossy(net: Net) -> None:
    """Three of a hundred packets, where they come in at either end."""
    for name in "cs":
        rule = "type filter hook ingress device eth0 priority 0; numgen random mod 100 < 3 drop"
        net.inside(name, "nft", "-f", "-", stdin=f"table netdev lossy {{ chain i {{ {rule}\n }}\n }}\n")


# --- who made it, all of the way in sight ----------------------------------------------------------------------------

CASES: dict[str, tuple[Callable[[Net], object], str, tuple[str, str, str, str, str]]] = {
    "a firewall on the way": (
        lambda n: n.drop("r", "forward", "tcp dport 8081 reject with tcp reset"),
        "http://{}:8081/", ("filter", "confirmed", "RST202", "syn", "r"),
    ),
    "a firewall on the way, later": (
        lambda n: n.drop("r", "forward", "tcp dport 8081 meta length > 100 reject with tcp reset"),
        "http://{}:8081/", ("filter", "confirmed", "RST202", "later", "r"),
    ),
    "a closed port": (lambda n: None, "tcp://{}:9", ("end", "confirmed", "RST201", "syn", "s")),
    "the server's own firewall": (
        lambda n: n.drop("s", "input", "tcp dport 8081 reject with tcp reset"),
        "http://{}:8081/", ("filter", "confirmed", "RST202", "syn", "s"),
    ),
    "the server hangs up": (lambda n: None, "http://{}:8081/", ("end", "confirmed", "RST201", "later", "s")),
}  # fmt: skip


@pytest.mark.parametrize("loss", [False, True])
@pytest.mark.parametrize(("case", "family"), [(c, f) for n, c in enumerate(CASES) for f in ((4, 6) if n < 3 else (4,))])
def test_who_reset_it(net: Net, case: str, family: int, loss: bool) -> None:
    build, to, expected = CASES[case]
    build(net)
    if loss:
        lossy(net)
    with net.serving("s", HANGS_UP):
        done = seen(net, to.format(AT[family]))
        if loss and not done.answers:  # the only SYN of a doomed connection was one of the three: nobody answered
            done = seen(net, to.format(AT[family]))
    assert resets(done) == [expected], [answer_text(x, "en") for x in done.answers]
    assert codes(done) == [expected[2]]
    one = next(x for x in done.answers if x.code)
    assert one.claims == AT[family].strip("[]") and one.count > 1
    if expected[4] == "r":
        assert f"{net('s')}/eth0" in " ".join(proof_texts(one, "en")), "the server's own device has not seen it"


def test_a_tap_that_lost_packets_proves_nothing(net: Net) -> None:
    """Without the kernel's word, and with taps that were full: what is left is how it looks."""
    net.drop("r", "forward", "tcp dport 8081 meta length > 100 reject with tcp reset")
    with net.serving("s", HANGS_UP):
        case = case_of(net, "http://198.51.100.2:8081/")
    fact = next(iter(case.all(TraceFact)))
    reset = lambda done: next(x for x in done.answers if x.code)  # noqa: E731
    bare = reset(followed(changed(case, dropped=())))
    assert (bare.by, bare.confidence) == ("filter", "confirmed"), "the taps show where, state shows the rule"
    full = tuple(Lost(tap=n, kept=1, lost=1) for n, t in enumerate(fact.taps) if t.netns != fact.taps[0].netns)
    blind = reset(followed(changed(case, dropped=(), lost=full)))
    assert (blind.by, blind.confidence, blind.unseen) == ("other", "likely", ())
    assert "ttl" in [x.name for x in blind.signs if x.says == "other"]


def changed(case: Case, **more: Any) -> Case:
    from msgspec.structs import replace

    exchanges = tuple(
        replace(x, answers=tuple(replace(a, **more) if isinstance(a, TraceFact) else a for a in x.answers))
        for x in case.exchanges
    )
    return replace(case, exchanges=exchanges)


# --- from one end only -----------------------------------------------------------------------------------------------


def from_inside(net: Net, to: str, *, kernel: bool) -> dict[str, Any]:
    """As it is seen from the container's own namespace alone; ``kernel``: drops are told."""
    words = [PATHFIT] if kernel else [sys.executable, "-c", DEAF]
    argv = ["ip", "netns", "exec", net("c"), *ALONE, *words, "trace", "--to", to, "--json"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize(
    ("rule", "port", "expected"),
    [
        ("tcp dport 8081 reject with tcp reset", 8081, ("other", "likely", "RST202")),
        ("tcp dport 8081 meta length > 100 reject with tcp reset", 8081, ("other", "likely", "RST202")),
        ("", 9, ("end", "likely", "RST201")),
        ("", 8081, ("end", "likely", "RST201")),
    ],
)
def test_by_its_looks(net: Net, family: int, rule: str, port: int, expected: tuple[str, ...]) -> None:
    if rule:
        net.drop("r", "forward", rule)
    with net.serving("s", HANGS_UP):
        document = from_inside(net, f"http://{AT[family]}:{port}/", kernel=False)
    (one,) = [x for x in document["answers"] if x["code"]]
    assert (one["by"], one["confidence"], one["code"]) == expected, one
    assert [f["code"] for f in document["report"]["findings"] if f["code"].startswith("RST")] == [expected[2]]
    assert "ttl" in [s["sign"] for s in one["signs"]]


def test_the_kernel_tells_of_namespaces_that_are_not_seen(net: Net) -> None:
    net.drop("r", "forward", "tcp dport 8081 reject with tcp reset")
    with net.serving("s", HANGS_UP):
        document = from_inside(net, "http://198.51.100.2:8081/", kernel=True)
    (one,) = document["answers"]
    inode = Path(f"/run/netns/{net('r')}").stat().st_ino
    assert (one["by"], one["confidence"], one["made"]["netns"]) == ("filter", "confirmed", f"netns inode {inode}")
    first = document["report"]["findings"][0]
    assert (first["code"], first["confidence"]) == ("RST202", "confirmed")


# --- ICMP ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", [4, 6])
def test_too_big_from_a_router(net: Net, family: int) -> None:
    net.ip("r", "link set vc mtu 1400")
    net.ip("c", "link set eth0 mtu 1500")
    with web(net):
        done = seen(net, f"https://{AT[family]}:8443/50000")
    (one,) = [x for x in done.answers if x.kind == "too-big" and x.direction == "forward"]
    assert (one.by, one.confidence, one.mtu, one.code) == ("end", "confirmed", 1400, "")
    assert one.made is not None and one.made.netns == f"netns:{net('r')}"
    assert one.claims == {4: "198.51.100.1", 6: "2001:db8:2::1"}[family]


@pytest.mark.parametrize("family", [4, 6])
def test_unreachable_from_a_filter(net: Net, family: int) -> None:
    net.drop("r", "forward", "tcp dport 8443 reject with icmpx admin-prohibited")
    done = seen(net, f"https://{AT[family]}:8443/")
    (one,) = done.answers
    assert (one.kind, one.by, one.confidence) == ("unreachable", "filter", "confirmed")
    assert one.made is not None and one.made.netns == f"netns:{net('r')}"


# --- hosts of one overlay, by hand (article 003) ---------------------------------------------------------------------


class Swarm:
    """Three hosts with a VXLAN device each on one underlay, as in the article; what is where is told to everybody."""

    def __init__(self, net: Net, hosts: int = 3, tunnel: str = "mtu 1450") -> None:
        self.net, self.where = net, dict[str, tuple[int, int, str]]()
        mtu, _, df = tunnel.partition(" df")
        net.add("sw", *(f"h{n}" for n in range(hosts)))
        net.batch("sw", "link add lan type bridge\nlink set lan up")
        for n in range(hosts):
            net.batch(f"h{n}", f"""
                link add eth0 type veth peer name p{n} netns {net("sw")}
                addr add 192.0.2.{n + 1}/24 dev eth0
                link set eth0 up
                link add br0 type bridge
                link set br0 up
                link add vx0 {mtu} type vxlan id 42 local 192.0.2.{n + 1} dstport 4789 nolearning {df and "df set"}
                link set vx0 master br0 up
            """)  # fmt: skip
            net.ip("sw", f"link set p{n} master lan up")
            net.plain(f"h{n}", "eth0")

    def container(self, name: str, host: int, number: int, mtu: int = 1450, *, known: bool = True) -> None:
        """One with the address 10.0.0.``number``; ``known``: the others are told where it is."""
        net, mac = self.net, f"02:42:0a:00:00:{number:02x}"
        net.add(name)
        net.ip(f"h{host}", f"link add v{name} mtu {mtu} type veth peer name eth0 netns {net(name)}")
        net.ip(f"h{host}", f"link set v{name} master br0 up")
        net.batch(name, f"link set eth0 address {mac} mtu {mtu} up\naddr add 10.0.0.{number}/24 dev eth0")
        net.plain(name, "eth0")
        if known:
            self.where[name] = (host, number, mac)

    def tell(self, hosts: int = 3) -> None:
        """Forwarding entries on hosts, neighbours in containers, as an engine writes them."""
        for at, number, mac in self.where.values():
            for n in (x for x in range(hosts) if x != at):
                self.entry(n, mac, at, "append")
            for name in self.net.names[1 + hosts :]:
                self.net.ip(name, f"neigh replace 10.0.0.{number} lladdr {mac} dev eth0 nud permanent")

    def entry(self, host: int, mac: str, leads_to: int, how: str = "replace") -> None:
        words = ("dev", "vx0", "dst", f"192.0.2.{leads_to + 1}", "self", "permanent")
        self.net.inside(f"h{host}", "bridge", "fdb", how, mac, *words)


@contextmanager
def swarms() -> Iterator[Swarm]:
    """``web`` and ``two`` on the first host, ``near`` beside them, ``ask`` on the third; what once was ``web`` is left
    on the second, and the third still sends there."""
    with nets() as net:
        it = Swarm(net)
        for name, host, number in (("web", 0, 31), ("two", 0, 32), ("near", 0, 33), ("ask", 2, 41)):
            it.container(name, host, number)
        it.container("old", 1, 31, known=False)
        it.tell()
        mac = it.where["web"][2]
        net.inside("h1", "bridge", "fdb", "replace", mac, "dev", "vold", "master", "static")
        it.entry(2, mac, 1)
        with web(net, "web"), web(net, "two"):
            yield it


@pytest.mark.parametrize("stamps", [False, True])
def test_article_003(tmp_path: Path, stamps: bool) -> None:
    """swarm02 gets RST from container-1; others do not, nor does it from container-2. Nobody's rules are to blame: one
    host's forwarding entry is stale, and who answers there is not the one who was asked for."""
    with stamped() if stamps else nullcontext(), swarms() as it:
        net = it.net
        case = case_of(net, "https://10.0.0.31:8443/5000", "ask")
        done = followed(case)
        assert resets(done) == [("end", "confirmed", "RST203", "syn", "old")]
        (one,) = [x for x in done.answers if x.code]
        assert one.because[0] == "OVL301" and codes(done) == ["RST203"]
        assert done.report is not None
        first, cause = done.report.findings[:2]
        assert (first.code, first.confidence, first.because[0], cause.code) == (
            "RST203",
            "confirmed",
            "OVL301",
            "OVL301",
        )
        assert (cause.facts["remote"], cause.facts["right"]) == ("192.0.2.2", "192.0.2.1")
        assert first.fixes and first.fixes[0].id == "fdb-entry"
        assert [f"{p.netns}/{p.link}" for p in one.unseen] == [f"netns:{net('web')}/eth0"]
        _in_the_file(net, case, done, tmp_path)
        for source, to in (("ask", "10.0.0.32"), ("near", "10.0.0.31")):
            well = seen(net, f"https://{to}:8443/5000", source)
            assert (well.verdict, codes(well), resets(well)) == ("arrives", [], [])
        it.entry(2, it.where["web"][2], 0)
        cured = seen(net, "https://10.0.0.31:8443/5000", "ask")
        assert (cured.verdict, codes(cured), resets(cured)) == ("arrives", [], [])


def _in_the_file(net: Net, case: Case, done: Followed, tmp_path: Path) -> None:
    """As with tcpdump in the container and on its host at once, but each reset says who made it."""
    from pathfit.render.followed_files import document, packets

    fact = next(iter(case.all(TraceFact)))
    told = comments(packets(done, fact))
    mine = {link for link, text in told if "made by" in text and "RST203" in text}
    assert {f"{net('ask')}/eth0", f"{net('h2')}/vask", f"{net('h2')}/vx0", f"{net('old')}/eth0"} <= mine
    written = json.loads(document(done))["answers"]
    assert written[0]["code"] == "RST203" and written[0]["unseen"][0]["netns"] == f"netns:{net('web')}"


def test_article_003_from_one_host_with_the_others_snapshots(tmp_path: Path) -> None:
    """Only the asking host is seen, and files say how the others are; where the answers come in is on no way that was
    predicted, and one moment is told of several devices."""
    with stamped(), swarms() as it:
        net, files = it.net, []
        for host, mine in (("h0", ("web", "two", "near")), ("h1", ("old",))):
            files.append(tmp_path / f"{host}.json")
            _as_host(net, host, mine, [PATHFIT, "snapshot", "-o", str(files[-1])])
        given = [word for file in files for word in ("--in", str(file))]
        to = ["--from", f"netns:{net('ask')}", "--to", "https://10.0.0.31:8443/5000"]
        text = _as_host(net, "h2", ("ask",), [PATHFIT, "trace", *to, *given, "--json"])
        document = json.loads(text)
        (one,) = [x for x in document["answers"] if x["code"]]
        assert (one["code"], one["because"][0], one["first"]["link"]) == ("RST203", "OVL301", "eth0")
        first = document["report"]["findings"][0]
        assert (first["code"], first["because"][0]) == ("RST203", "OVL301")


def _as_host(net: Net, host: str, others: tuple[str, ...], words: list[str]) -> str:
    """Run it as on a host of that name, which has these namespaces and no other."""
    names = " ".join(net(name) for name in others)
    script = (
        f"hostname {host}; mkdir /tmp/keep.$$; for n in {names}; do touch /tmp/keep.$$/$n; "
        "mount --bind /run/netns/$n /tmp/keep.$$/$n; done; umount -l /run/netns; mount -t tmpfs tmpfs /run; "
        "mkdir -p /run/netns; for n in /tmp/keep.$$/*; do touch /run/netns/${n##*/}; "
        'mount --bind $n /run/netns/${n##*/}; umount -l $n; done; rm -r /tmp/keep.$$; exec "$@"'
    )
    alone = ("unshare", "--uts", "--pid", "--fork", "--mount", "--mount-proc", "sh", "-ec", script, "sh")
    argv = ["ip", "netns", "exec", net(host), *alone, *words]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode < 2, done.stderr
    return done.stdout


def test_a_tunnel_answers_in_the_name_of_its_far_end() -> None:
    """A bridged container over VXLAN sends what is too large with DF: nothing is dropped, and "too big" comes in the
    name of the container that was asked for, which has never heard of it (skb_tunnel_check_pmtu())."""
    with nets() as net:
        it = Swarm(net, tunnel="mtu 1500 df set")
        it.container("web", 0, 31, 1500)
        it.container("ask", 2, 41, 1500)
        it.tell()
        with web(net, "web"):
            done = seen(net, "https://10.0.0.31:8443/5000", "ask")
        mine = [x for x in done.answers if x.kind == "too-big"]
        assert {(x.by, x.confidence, x.code) for x in mine} == {("tunnel", "confirmed", "")}
        back = next(x for x in mine if x.direction == "reverse")
        assert (back.claims, back.mtu) == ("10.0.0.31", 1450)
        assert back.made is not None and (back.made.netns, back.made.link) == (f"netns:{net('h2')}", "vx0")
        assert f"netns:{net('web')}" in {p.netns for p in back.unseen}


# --- a virtual machine on a tenant's network (article 001) -----------------------------------------------------------


def test_article_001_with_four_taps() -> None:
    """The answer is seen at the border and not at the host; when the host takes it, the machine's port is next."""
    with nets() as net:
        tenant(net)
        with web(net):
            first = followed(case_of(net, "https://198.51.100.2:8443/50000", "ci"))
            assert _lost(net, first) == [("border/eth0", "kvm/eth0", "peer-too-small", 1500, 1450)]
            assert _ahead(net, first) == [("kvm/tap0", 1454), ("vm/eth0", 1454)], "the second, seen or not"
            net.ip("kvm", "link set eth0 mtu 1600")
            second = followed(case_of(net, "https://198.51.100.2:8443/50000", "ci"))
            assert _ahead(net, second) == [("vm/eth0", 1454)], "the far half of that cable"
            assert _lost(net, second) == [("kvm/vx0", "kvm/tap0", "port-too-small", 1454, 1454)]
            net.ip("ci", "link set eth0 mtu 1450")
            third = followed(case_of(net, "https://198.51.100.2:8443/50000", "ci"))
            assert _ahead(net, third) == []
            assert (third.verdict, third.losses) == ("arrives", ())


def tenant(net: Net) -> None:
    """s - border ==(VXLAN)== kvm -[bridge's port, 1450]- vm - docker0 - ci 1500."""
    net.add("s", "border", "kvm", "vm", "ci")
    net.batch("border", f"""
        link add eth1 type veth peer name eth0 netns {net("s")}
        link add eth0 mtu 1600 type veth peer name eth0 netns {net("kvm")}
        addr add 198.18.1.1/24 dev eth0
        addr add 198.51.100.1/24 dev eth1
        link set eth0 up
        link set eth1 up
        link add vx0 mtu 1500 type vxlan id 77 local 198.18.1.1 remote 198.18.1.2 dstport 4789
        addr add 198.18.2.1/24 dev vx0
        link set vx0 up
    """)  # fmt: skip
    net.batch("s", "addr add 198.51.100.2/24 dev eth0\nlink set eth0 up\nroute add default via 198.51.100.1")
    net.batch("kvm", f"""
        link set eth0 mtu 1496 up
        addr add 198.18.1.2/24 dev eth0
        link add brq type bridge
        link set brq up
        link add vx0 mtu 1500 type vxlan id 77 local 198.18.1.2 remote 198.18.1.1 dstport 4789
        link set vx0 master brq up
        link add tap0 mtu 1450 type veth peer name eth0 netns {net("vm")}
        link set tap0 master brq up
    """)  # fmt: skip
    net.batch("vm", f"""
        link set eth0 mtu 1450 up
        addr add 198.18.2.10/24 dev eth0
        route add default via 198.18.2.1
        link add docker0 type bridge
        addr add 172.17.0.1/16 dev docker0
        link set docker0 up
        link add vci type veth peer name eth0 netns {net("ci")}
        link set vci master docker0 up
    """)  # fmt: skip
    net.batch("ci", "addr add 172.17.0.2/16 dev eth0\nlink set eth0 up\nroute add default via 172.17.0.1")
    for name, links in (
        ("s", "eth0"),
        ("border", "eth0 eth1 vx0"),
        ("kvm", "eth0 tap0 vx0"),
        ("vm", "eth0 vci"),
        ("ci", "eth0"),
    ):
        for link in links.split():
            net.plain(name, link)
    # Where br_netfilter is loaded, ports take exactly their MTU.
    whole = "[ ! -e /proc/sys/net/bridge ] || sysctl -qw net.bridge.bridge-nf-call-iptables=0"
    net.inside("kvm", "sh", "-c", whole)
    for name in ("border", "vm"):
        net.inside(name, "sysctl", "-qw", "net.ipv4.ip_forward=1")
    masquerade = "table ip n { chain p { type nat hook postrouting priority 100; oifname eth0 masquerade\n }\n }\n"
    net.inside("vm", "nft", "-f", "-", stdin=masquerade)


def _lost(net: Net, done: Followed) -> list[tuple[Any, ...]]:
    """(last point, next point, why, what passes there, the largest that came through) on the way in."""
    found = [x for x in done.losses if x.direction == "reverse"]

    def name(at: Point | None) -> str:
        return f"{at.netns}/{at.link}".replace(f"netns:{net.prefix}-", "") if at else ""

    return [(name(x.after), name(x.before), x.causes[0].word, x.causes[0].most, x.passed) for x in found]


def _ahead(net: Net, done: Followed) -> list[tuple[str, int]]:
    """Limits behind losses on the way in."""
    them = [y for x in done.losses if x.direction == "reverse" for y in x.ahead]
    return [(f"{y.at.netns}/{y.at.link}".replace(f"netns:{net.prefix}-", ""), y.mtu) for y in them]
