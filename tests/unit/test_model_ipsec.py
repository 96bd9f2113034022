"""IPsec from snapshots: what was measured on other kernels again, through the model; gateways; what cannot be known."""

from typing import Any

import pytest
import topo
from msgspec.structs import replace
from test_model_tunnels import CABLE, ENDS, FIGURES, IN, TO, ask, flat

from pathfit.core.net import UDP, Flow
from pathfit.core.path import Encap, Fate, Predicted
from pathfit.core.snapshot import HostSnapshot, XfrmPolicy, XfrmState, XfrmTemplate
from pathfit.model import Network, predict, predict_both
from pathfit.model.tunnels.overhead import Layer
from pathfit.model.tunnels.stacks import parse


def ipsec(layer: Layer, host: HostSnapshot, inner: int = 4) -> HostSnapshot:
    """Both hosts wrap what goes between their inner networks (transport mode: between themselves)."""
    transport, cbc = layer.has("transport"), layer.kind == "esp-cbc"
    spaces = []
    for one in host.namespaces:
        ns = one.where.removeprefix("netns:")
        if ns not in ("a", "b"):
            spaces.append(one)
            continue
        ends = {"a": ENDS[layer.family][0], "b": ENDS[layer.family][1]}
        states, policies = [], []
        for src, dst in (("a", "b"), ("b", "a")):
            states.append(XfrmState(
                family=layer.family, src=ends[src], dst=ends[dst], spi=256 + ord(src), reqid=1,
                if_id=int(layer.has("if")), mode="transport" if transport else "tunnel",
                cipher="cbc(aes)" if cbc else "rfc4106(gcm(aes))",
                auth="hmac(sha256)" if cbc else "", icv_bits=128, encap="udp" if layer.has("natt") else "",
                encap_sport=4500, encap_dport=4500,
                any_family=layer.family != inner,
            ))  # fmt: skip
            wide = transport or layer.has("if")
            side = {"a": "61", "b": "60"}
            nets = [
                {4: ("198.18.0.0", 16), 6: ("2001:db8::", 32)}[inner] if wide
                else {4: (f"198.18.{side[x]}.0", 24), 6: (f"2001:db8:{side[x]}::", 64)}[inner]
                for x in (src, dst)
            ]  # fmt: skip
            wants = XfrmTemplate(src=ends[src], dst=ends[dst], mode=states[-1].mode, reqid=1)
            directions = ("out",) if src == ns else ("in", "fwd")
            policies += [
                XfrmPolicy(
                    family=inner, direction=d, src=nets[0][0], src_prefix=nets[0][1], dst=nets[1][0],
                    dst_prefix=nets[1][1],
                    templates=(wants,), if_id=int(layer.has("if")),
                )
                for d in directions
            ]  # fmt: skip
        spaces.append(replace(one, xfrm_states=tuple(states), xfrm_policies=tuple(policies)))
    return replace(host, namespaces=tuple(spaces))


def secured(layer: Layer, inner: int) -> tuple[HostSnapshot, str]:
    """Hosts with IPsec between them, and the address asked for."""
    if layer.has("if"):
        text = CABLE + f"a tun xfrm 1700 if_id=1 {IN['a']}\nb tun xfrm 1700 if_id=1 {IN['b']}\n"
        return ipsec(layer, flat(topo.host(text)), inner), TO[inner]
    if layer.has("transport"):
        return ipsec(layer, topo.host(CABLE), inner), ENDS[inner][1]
    text = CABLE + f"a lan dummy 1500 {IN['a'].replace('.60.1', '.61.1').replace(':60::', ':61::')}\n"
    text += f"b lan dummy 1500 {IN['b']}\n"
    text += "a route 198.18.60.0/24 via 198.18.9.2 src 198.18.61.1\nb route 198.18.61.0/24 via 198.18.9.1\n"
    text += "a route 2001:db8:60::/64 via 2001:db8:9::2 src 2001:db8:61::1\n"
    text += "b route 2001:db8:61::/64 via 2001:db8:9::1\n"
    return ipsec(layer, topo.host(text), inner), TO[inner]


ESP = [r for r in FIGURES["kernel"] if parse(r["stack"]).layers[0].kind.startswith("esp-")]


@pytest.mark.parametrize("row", ESP, ids=lambda r: f"{r['case']}-v{r['inner']}")
def test_ipsec_carries_what_was_measured(row: dict[str, Any]) -> None:
    layer = parse(row["stack"]).layers[0]
    host, to = secured(layer, row["inner"])
    for size, large in ((row["whole"], Fate.DELIVERED), (row["whole"] + 1, Fate.TOO_BIG_TOLD)):
        flow = Flow(src="", dst=to, proto=UDP, sport=40000, dport=5353, size=size)
        said = predict(Network.of(host), "netns:a", flow)
        assert (said.fate, said.large, said.complete, said.mtu) == (Fate.DELIVERED, large, True, row["whole"]), said.why
    assert said.limits[0].then == "error"


def test_every_row_of_ipsec_is_among_them() -> None:
    assert len(ESP) == 8


def esp_asked(**changes: Any) -> Predicted:
    """Over ESP in tunnel mode, with something changed in what ``a`` or ``b`` knows."""
    host, to = secured(parse("esp-gcm").layers[0], 4)
    spaces = [
        replace(one, **{k: tuple(replace(x, **v) if v else x for x in getattr(one, k)) if v is not None else ()
                        for k, v in changes.get(one.where.removeprefix("netns:"), {}).items()})
        for one in host.namespaces
    ]  # fmt: skip
    flow = Flow(src="", dst=to, proto=UDP, sport=40000, dport=5353, size=100)
    return predict(Network.of(replace(host, namespaces=tuple(spaces))), "netns:a", flow)


@pytest.mark.parametrize(
    ("changes", "fate", "why"),
    [
        ({}, Fate.DELIVERED, ""),
        ({"a": {"xfrm_policies": {"dst": "203.0.113.0"}}}, Fate.DELIVERED, ""),
        ({"a": {"xfrm_policies": {"block": True}}}, Fate.UNKNOWN, "blocks"),
        ({"a": {"xfrm_states": {"family": 6}}}, Fate.UNKNOWN, "no security association yet"),  # only for IPv6 inside
        ({"a": {"xfrm_states": {"family": 6, "any_family": True}}}, Fate.DELIVERED, ""),
        ({"a": {"xfrm_states": None}}, Fate.UNKNOWN, "no security association yet"),
        ({"a": {"xfrm_states": {"cipher": "cbc(camellia)"}}}, Fate.UNKNOWN, "cbc(camellia)"),
        ({"a": {"xfrm_states": {"icv_bits": 64}}}, Fate.UNKNOWN, "not known"),
        ({"b": {"xfrm_states": None}}, Fate.UNKNOWN, "not read"),
        ({"b": {"xfrm_states": {"spi": 9}}}, Fate.UNREACHABLE, "no esp device takes it"),
        ({"b": {"xfrm_policies": None}}, Fate.UNKNOWN, "no IPsec policy"),
    ],
)
def test_ipsec_says_what_it_cannot_know(changes: dict[str, Any], fate: Fate, why: str) -> None:
    said = esp_asked(**changes)
    assert (said.fate, why in said.why) == (fate, True), said.why


def test_a_gateway_whose_far_end_is_out_of_sight() -> None:
    """Both ways are judged with what ESP takes, and the place is the device the packets leave by."""
    host, _ = secured(parse("esp-gcm").layers[0], 4)
    near = [x for x in host.namespaces if x.where == "netns:a"]
    flow = Flow(src="", dst=TO[4], proto=UDP, sport=40000, dport=5353, size=1500)
    said = predict(Network.of(replace(host, namespaces=tuple(near))), "netns:a", flow)
    assert (said.fate, said.complete, said.ends and said.ends.link) == (Fate.UNKNOWN, False, "eth0")
    forward, back = predict_both(
        Network.of(replace(host, namespaces=tuple(near))), "netns:a", TO[4], proto=UDP, dport=5353, size_reverse=1500
    )
    steps = [s for hop in forward.hops for s in hop.steps if isinstance(s, Encap)]
    assert [(s.at.link, s.kind, s.overhead) for s in steps] == [("eth0", "esp", 54)]
    assert back.mtu == 1504 - 54  # what the veth half takes, less what is around it


@pytest.mark.parametrize(("df", "then"), [(True, "icmp"), (False, "fragment")])
@pytest.mark.parametrize("stack", ["esp-gcm", "xfrm"])
def test_a_gateway_tells_those_behind_it(stack: str, df: bool, then: str) -> None:
    """Containers behind two gateways, as seen on 6.1: by a policy, and by xfrm interfaces."""
    text = CABLE + "a forward\nb forward\n"
    text += "c eth0 1500 198.18.61.2/24 -- a vc 1500 198.18.61.1/24\n"
    text += "d eth0 1500 198.18.60.2/24 -- b vd 1500 198.18.60.1/24\n"
    text += "c route default via 198.18.61.1\nd route default via 198.18.60.1\n"
    if stack == "xfrm":
        text += "a tun xfrm 1500 if_id=1\nb tun xfrm 1500 if_id=1\n"
        text += "a route 198.18.60.0/24 dev tun\nb route 198.18.61.0/24 dev tun\n"
    else:
        text += "a route 198.18.60.0/24 via 198.18.9.2\nb route 198.18.61.0/24 via 198.18.9.1\n"
    said = ask(ipsec(parse(stack).layers[0], flat(topo.host(text))), size=1447, df=df, ns="c")
    assert (said.fate, said.complete, said.mtu) == (Fate.DELIVERED, True, 1446), said.why
    assert (said.limits[0].then, said.limits[0].told_home) == (then, True if df else None)
