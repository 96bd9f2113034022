"""The one table of overheads against what was measured (data/tunnels.json), and the words a stack is written with."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pathfit.core.net import Family
from pathfit.model.tunnels.overhead import (
    KINDS,
    MEASURED,
    NUMBERS,
    V6_ONLY,
    Layer,
    default_mtu,
    fits,
    inner,
    outer,
    parts,
)
from pathfit.model.tunnels.stacks import NotAStack, parse

FIGURES: dict[str, Any] = json.loads((Path(__file__).parent / "data" / "tunnels.json").read_text())
KERNEL, USER = FIGURES["kernel"], FIGURES["user"]
UNDERLAY = FIGURES["underlay"]


def names(row: dict[str, Any]) -> str:
    return f"{row['case']}-v{row.get('inner', 4)}"


def raised(row: dict[str, Any]) -> str:
    return row["stack"] + (f",mtu={row['raised_to']}" if row["raised_to"] else "")


@pytest.mark.parametrize("row", KERNEL, ids=names)
def test_the_table_is_what_the_kernels_do(row: dict[str, Any]) -> None:
    made = fits(parse(row["stack"]).layers, UNDERLAY)[0]
    assert made.mtu == row["mtu"]
    assert made.largest == row["whole"]
    if "mtu_9000" in row:
        assert default_mtu(made.layer, 9000) == row["mtu_9000"]
    high = fits(parse(f"{raised(row)}/{UNDERLAY}").layers, UNDERLAY)[0]
    assert high.fits + row.get("cable", 0) == row["whole_raised"]
    assert outer(high.layer, row["whole_raised"], high.mtu) + row.get("tag", 0) == row["outer"]
    assert high.too_big == row["over"]
    assert high.learned == row.get("learned")


@pytest.mark.parametrize("row", USER, ids=names)
def test_the_table_is_what_programs_do(row: dict[str, Any]) -> None:
    made = fits(parse(row["stack"]).layers, UNDERLAY)[0]
    assert (made.mtu, made.too_big, made.best) == (row["mtu"], row["over"], row["fits"])


def test_what_is_called_measured_was_measured() -> None:
    assert {parse(r["stack"]).layers[0].name for r in (*KERNEL, *USER)} == MEASURED


STACKS = [  # stack, underlay, device MTUs as made, largest as made, largest if all were set right
    ("vxlan+wireguard", 1500, (1370, 1420), 1370, 1390),
    ("vxlan+wireguard,mtu=1440", 1500, (1390, 1440), 1390, 1390),
    ("vxlan,nodev+wireguard", 1500, (1500, 1420), 1370, 1390),
    ("vxlan+vxlan", 1500, (1400, 1450), 1400, 1400),
    ("vxlan+vxlan6", 9000, (8880, 8930), 8880, 8880),
    ("ipip+vxlan", 1500, (1430, 1450), 1430, 1430),
    ("ipip+vxlan,nodev", 1500, (1480, 1500), 1430, 1430),
    ("vxlan+esp-gcm", 1500, (1450, None), 1396, 1396),
    ("vxlan+esp-gcm,transport", 1500, (1450, None), 1416, 1416),
    ("vlan+vxlan", 1500, (1450, 1450), 1446, 1446),
    ("vlan+macvlan+vlan+vxlan", 1500, (1450, 1450, 1450, 1450), 1442, 1442),
    ("vxlan+vlan", 1500, (1450, 1500), 1450, 1450),
    ("vxlan+pppoe", 1500, (1442, 1492), 1442, 1442),
    ("wireguard6", 1450, (1420,), 1360, 1370),
    ("geneve,opt=8+wireguard6", 1500, (1362, 1420), 1362, 1362),
    ("vxlan+openvpn-tcp", 1500, (1450, 1500), 1450, 1450),
    ("gre+sit", 1000, (1256, 1280), 956, 956),
    ("vxlan", 100, (68,), 50, 50),
]


@pytest.mark.parametrize(("stack", "underlay", "mtus", "largest", "best"), STACKS, ids=[s[0] for s in STACKS])
def test_stacks(stack: str, underlay: int, mtus: tuple[int | None, ...], largest: int, best: int) -> None:
    found = fits(parse(stack).layers, underlay)
    assert tuple(x.mtu for x in found) == mtus
    assert (found[0].largest, found[0].best) == (largest, best)


@st.composite
def layers(draw: st.DrawFn) -> Layer:
    kind = draw(st.sampled_from([k for k, row in KINDS.items() if row.too_big != "stream"]))
    row = KINDS[kind]
    family: Family = draw(st.sampled_from(row.families or (4,)))
    options = {}
    for o in draw(st.sets(st.sampled_from(row.options or ("",)))) - {""} - (V6_ONLY if family == 4 else set()):
        least, most, step = NUMBERS.get(o, (1, 2 if o == "df" else 1, 1))
        options[o] = draw(st.integers(least // step, most // step)) * step
    if options.get("gue"):
        options.pop("fou", None)
    return Layer(kind, family, options)


@given(layers(), st.integers(600, 9000), st.none() | st.integers(500, 9000))
def test_inner_is_the_largest_whose_outer_fits(layer: Layer, room: int, mtu: int | None) -> None:
    most = inner(layer, room, mtu)
    assert outer(layer, most, most if mtu is None else mtu) <= room
    if most < layer.row.cap:
        assert outer(layer, most + 1, most + 1 if mtu is None else mtu) > room


@given(layers(), st.integers(68, 65535) | st.none())
def test_a_name_is_read_back(layer: Layer, underlay: int | None) -> None:
    text = layer.name + (f"/{underlay}" if underlay else "")
    stack = parse(text)
    assert stack.layers[0].name == layer.name
    assert stack.underlay == (underlay or 1500)
    assert sum(size for _, size in parts(stack.layers[0])) == sum(size for _, size in parts(layer))


@pytest.mark.parametrize(
    ("text", "why", "near"),
    [
        ("vxlna/1500", "no encapsulation 'vxlna'", "vxlan/1500"),
        ("vxlan+wiregaurd/1500", "no encapsulation 'wiregaurd'", "vxlan+wireguard/1500"),
        ("vxlan/15000000", "no MTU", "vxlan/1500"),
        ("vxlan/", "no MTU", "vxlan/1500"),
        ("vxlan/-1", "no MTU", "vxlan/1500"),
        ("vxlan/1500/1500", "no MTU", "vxlan/1500"),
        ("", "without a name", "vxlan+wireguard/1500"),
        ("vxlan++gre", "without a name", "vxlan+wireguard/1500"),
        ("gre,keys/9000", "gre has no option 'keys'", "gre,key/9000"),
        ("gre,noencaplimit", "has no option", "gre"),
        ("vlan6", "no outer IP header", "vlan"),
        ("ipip+sit6/1400", "no outer IPv6 header", "ipip+sit/1400"),
        ("geneve,opt=7", "out of range: 0 to 252, in steps of 4", "geneve,opt=8"),
        ("geneve,df=on", "df is one of", "geneve,df=set"),
        ("gre,key=7", "takes no value", "gre,key"),
        ("vxlan,mtu=1500", "refuses an MTU of 1500 for vxlan over 1500: at most 1450", "vxlan,mtu=1450/1500"),
        ("vlan,mtu=1501", "at most 1500", "vlan,mtu=1500/1500"),
        ("esp-gcm,mtu=1400", "no device", "esp-gcm/1500"),
        ("ipip,fou,gue", "exclude each other", "ipip,gue"),
        ("+".join(["gre"] * 9), "9 layers", "+".join(["gre"] * 8)),
        ("x" * 5000, "5000 characters", ""),
        ("gre/１５００", "no MTU", "gre/1500"),
        ("gre,mtu=٣٤", "out of range", "gre,mtu=1400"),
        ("\x1b[31m", "no encapsulation", ""),
    ],
)
def test_errors_name_what_was_meant(text: str, why: str, near: str) -> None:
    with pytest.raises(NotAStack) as e:
        parse(text)
    assert why in e.value.why
    assert e.value.near == near
    if near:
        parse(near)


@given(st.text(max_size=60))
def test_any_text_is_a_stack_or_an_error(text: str) -> None:
    try:
        parse(text)
    except NotAStack as e:
        assert e.why
