"""ICMP errors that are made and do not arrive: a loss of their own, and the cause beside the one they leave behind."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from netlab import Net, nets
from pcapng_comments import comments
from weblab import PATHFIT, traced, web

pytestmark = [pytest.mark.lab, pytest.mark.real_root]

AT = {4: "203.0.113.2", 6: "[2001:db8:3::2]"}
TOO_BIG = {4: "icmp type destination-unreachable", 6: "icmpv6 type packet-too-big"}
WITHOUT_WORD = ("text", "count", "rule", "reason", "function")


@pytest.fixture
def net() -> Iterator[Net]:
    """c - r - s - t: s routes as well, and carries 1400 towards c alone; t serves, and is told "too big" by s."""
    with nets() as net:
        net.routed(("192.0.2", "198.51.100"), ("2001:db8:1", "2001:db8:2"), 2)
        net.add("t")
        net.batch("s", f"""
            link add vt type veth peer name eth0 netns {net("t")}
            addr add 203.0.113.1/24 dev vt
            addr add 2001:db8:3::1/64 dev vt
            link set vt up
        """)  # fmt: skip
        net.batch("t", """
            addr add 203.0.113.2/24 dev eth0
            addr add 2001:db8:3::2/64 dev eth0
            link set eth0 up
            route add default via 203.0.113.1
        """)  # fmt: skip
        net.ip("t", "-6 route add default via 2001:db8:3::1")
        net.ip("r", "route add 203.0.113.0/24 via 198.51.100.2")
        net.ip("r", "-6 route add 2001:db8:3::/64 via 2001:db8:2::2")
        net.plain("t", "eth0")
        net.plain("s", "vt")
        net.inside("s", "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
        with web(net, "t"):
            yield net


def narrow_in(net: Net) -> None:
    """Towards c no more than 1400 leave s: t is to be told."""
    net.ip("s", "link set eth0 mtu 1400")
    net.ip("r", "link set vs mtu 1500")


def narrow_out(net: Net) -> None:
    """Towards t no more than 1400 leave s: c is to be told."""
    net.ip("s", "link set vt mtu 1400")


def untracked(net: Net) -> None:
    """r gives c its address, and does not track the errors that come back."""
    narrow_out(net)
    hidden = "chain p { type nat hook postrouting priority 100; oifname vs masquerade\n }\n"
    net.inside("r", "nft", "-f", "-", stdin=f"table ip n {{ {hidden} }}\n")
    notrack = "type filter hook prerouting priority -300; icmp type destination-unreachable notrack"
    net.inside("r", "nft", "-f", "-", stdin=f"table ip raw {{ chain p {{ {notrack}\n }}\n }}\n")


def dropping(build: Callable[[Net], None], name: str, hook: str) -> Callable[[Net, int], None]:
    def made(net: Net, family: int) -> None:
        build(net)
        net.drop(name, hook, f"{TOO_BIG[family]} drop")

    return made


CASES: dict[str, tuple[Callable[[Net, int], None], str, str, str | None, str | None]] = {
    # what is built; the way the error goes; its cause; where it was last, and not any more
    "its receiver's own filter": (dropping(narrow_in, "t", "input"), "forward", "filtered", "t/eth0", None),
    "a filter on its way": (dropping(narrow_out, "r", "forward"), "reverse", "filtered", "r/vs", "r/vc"),
    "its sender's own filter": (dropping(narrow_out, "s", "output"), "reverse", "filtered", None, None),
    "a translator that does not know it": (lambda n, _: untracked(n), "reverse", "kept", "r/vs", "r/vc"),
}  # fmt: skip


def name(net: Net, at: dict[str, str] | None) -> str | None:
    return f"{at['netns']}/{at['link']}".replace(f"netns:{net.prefix}-", "") if at else None


def errors(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [x for x in document["losses"] if x["error"]]


@pytest.mark.parametrize(("case", "family"), [(c, f) for n, c in enumerate(CASES) for f in ((4, 6) if n < 3 else (4,))])
def test_what_took_it(net: Net, tmp_path: Path, case: str, family: int) -> None:
    build, way, why, after, before = CASES[case]
    build(net, family)
    path = tmp_path / "packets.pcapng"
    status, document = traced(net, "-w", str(path), to=f"https://{AT[family]}:8443/50000")
    assert (status, document["verdict"]) == (1, "lost")
    (one,) = errors(document)
    assert (one["direction"], name(net, one["after"]), name(net, one["before"])) == (way, after, before)
    cause = one["causes"][0]  # of some the rule may not be known
    assert cause["why"] == why
    error = one["error"]
    assert (error["what"], error["mtu"]) == ("too-big", 1400) and error["size"] > 1400
    assert error["about"].startswith("tcp ") and ":8443" in error["about"]
    if why == "filtered":
        assert cause["rule"]["table"] == "hole" and cause["rule"]["netns"] == cause["at"]["netns"]
    # What it was about is lost, and the second cause of that is this.
    (left,) = [x for x in document["losses"] if x["direction"] != way and any(c["told"] for c in x["causes"])]
    first, second = left["causes"][:2]
    assert (first["why"], second["why"]) == ("too-big", f"untold-{why}")
    assert {k: v for k, v in second.items() if k not in ("why", "told", *WITHOUT_WORD)} == {
        k: v for k, v in cause.items() if k not in ("why", "told", *WITHOUT_WORD)
    }
    # In the file of packets, and in the ladder.
    told = [
        text for _, text in comments(path.read_bytes()) if text.startswith("last seen at") and 'times "too big' in text
    ]
    rows = [x for x in document["ladder"] if x["what"] == "icmp too-big 1400"]
    assert bool(told) == bool(rows) == (after is not None)
    assert all("all" in x["seen"] and x["direction"] == way for x in rows)


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("build", [narrow_in, narrow_out])
def test_one_that_arrives_is_no_loss(net: Net, build: Callable[[Net], None], family: int) -> None:
    """Beside a rule that drops others of the kind."""
    build(net)
    net.drop("r", "forward", "icmp type time-exceeded drop")
    _, document = traced(net, to=f"https://{AT[family]}:8443/50000")
    assert [x for x in document["answers"] if x["what"] == "too-big"], "it was made"
    assert errors(document) == []
    assert not [c for x in document["losses"] for c in x["causes"] if c["why"].startswith("untold")]


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_in_words(net: Net, lang: str) -> None:
    narrow_out(net)
    net.drop("r", "forward", f"{TOO_BIG[4]} drop")
    argv = [PATHFIT, "trace", "--from", f"netns:{net('c')}", "--to", f"https://{AT[4]}:8443/50000", "--lang", lang]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    said = "".join(done.stdout.split())
    wanted = {
        "en": ('times"toobig,1400"from198.51.100.2', 'a"toobig"wassentback,andlost', "themessagetothesender:"),
        "zh": ("“包太大，1400”", "发回了“包太大”，但它丢失了", "给发送方的消息："),
    }
    assert all(x in said for x in wanted[lang]), done.stdout
    assert "inethole" in said
