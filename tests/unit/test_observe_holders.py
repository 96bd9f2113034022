"""Who holds a tun device: names are not unique, and a configuration is named only where it is certain."""

import pytest

from pathfit.core.snapshot import Link, NetnsSnapshot
from pathfit.observe import holders
from pathfit.observe.holders import _Held, _of_openvpn


def space(ident: str, *links: str) -> NetnsSnapshot:
    made = tuple(Link(index=n, name=name, mtu=1500, kind="tun") for n, name in enumerate(links, 2))
    return NetnsSnapshot(id=ident, where=f"netns:{ident[-1]}", links=(Link(index=1, name="eth0", mtu=1500), *made))


def named(monkeypatch: pytest.MonkeyPatch, *held: _Held) -> list[str | None]:
    """Holders of tun0 in namespace 1, tun0 in namespace 2, tun1 in namespace 2."""
    monkeypatch.setattr(holders, "_holders", lambda: iter(held))
    monkeypatch.setattr(holders, "_config", lambda held: None)
    found = holders.name([space("4:1", "tun0"), space("4:2", "tun0", "tun1")])
    assert all(s.links[0].holder is None for s in found)
    return [link.holder for s in found for link in s.links[1:]]


def test_two_of_one_name_are_told_apart_by_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = _Held("tun0", "4:2", 7, "openvpn"), _Held("tun0", "4:1", 8, "wireguard-go")
    assert named(monkeypatch, first, second) == ["wireguard-go[8]", "openvpn[7]", None]


def test_where_it_may_not_be_asked_a_name_that_is_there_twice_stays_unnamed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert named(monkeypatch, _Held("tun0", "", 7, "openvpn"), _Held("tun1", "", 8, "qemu")) == [None, None, "qemu[8]"]


def test_a_device_of_a_namespace_out_of_sight_is_nobodys_here(monkeypatch: pytest.MonkeyPatch) -> None:
    assert named(monkeypatch, _Held("tun1", "4:9", 7, "openvpn")) == [None, None, None]


@pytest.mark.parametrize(
    ("words", "path"),
    [
        (("/etc/vpn/a.conf",), "/etc/vpn/a.conf"),
        (("--config", "a.conf"), "/srv/a.conf"),
        (("--daemon", "--cd", "/etc/openvpn", "--config", "a.conf", "--verb", "1"), "/etc/openvpn/a.conf"),
        (("--cd", "server", "--config", "../a.conf"), "/srv/a.conf"),
        (("--config", "a.conf", "--config", "b.conf"), None),
        (("--dev", "tun0"), None),
        (("--version",), None),
        ((), None),
    ],
)
def test_the_file_openvpn_was_started_with(words: tuple[str, ...], path: str | None) -> None:
    assert _of_openvpn(words, "/srv") == path
