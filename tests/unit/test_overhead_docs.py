"""docs/overhead.md is made from the table. After changing it:

.venv/bin/python tests/unit/test_overhead_docs.py > docs/overhead.md
"""

import json
from pathlib import Path

import msgspec

from pathfit.core.net import Family
from pathfit.model.tunnels.overhead import (
    KINDS,
    USUAL_MTU,
    Layer,
    TooBig,
    default_mtu,
    fits,
    has_device,
    parts,
    too_big,
)
from pathfit.model.tunnels.stacks import parse
from pathfit.render.overhead import document

PAGE = Path(__file__).parents[2] / "docs" / "overhead.md"
EXAMPLE = "vxlan+wireguard/1500"
HEAD = """# What fits through a tunnel

This page is made from the one table of the code (`pathfit.model.tunnels.overhead`); `pathfit overhead STACK` computes
any stack of it, on any system. It was measured on Linux 5.10, 6.1, 6.12, 6.18 and 7.2, which agree; the raw figures are
in `tests/unit/data/tunnels.json`, and a test holds the table against every one of them. What this machine's kernel has
of them is tried again at each test run, packet by packet; what becomes of packets that are passed on was seen on 6.1
for the other kinds (`stories` in that file). Kernels below 5.10 were not measured.

Sizes are bytes of IP packet, its header included, over an underlay of 1500. *MTU* is what the kernel gives a new device
(in brackets: over an underlay of 9000); *fits* is the largest inner packet whose outer packet is not fragmented.

## A stack in words
```
STACK   = LAYER { "+" LAYER } [ "/" MTU ]     innermost first; MTU of what is underneath, 1500 without
LAYER   = KIND [ "6" ] { "," OPTION }         6: the outer header is IPv6
```
`vxlan+wireguard/1500` is VXLAN inside WireGuard over 1500, `ip6gre,key/9000` GRE with a key over IPv6. `mtu=N` is an
option of every layer that has a device: its MTU, set by hand. Other names are understood as well: `wg`, `ip6gre`,
`ip6gretap`, `ip6ip6`, `6in4`, `xfrm` (ESP by an xfrm interface), `ovs-ip6gre`.

"""
MIDDLE = """
*Too large* is what happens to a packet with DF (or of IPv6) that the device's MTU lets in but that does not fit, made
on the host of the tunnel:

* **error**: the send fails at once (EMSGSIZE). Where there is a device, its MTU cannot be raised.
* **learned**: the first is lost, the path MTU is learned from it, the next send fails.
* **both**: it arrives in outer fragments, the path MTU is learned, the next send fails.
* **fragmented**: the outer packet is sent in fragments, always; nobody is told.
* **silent**: lost, and nobody is told.
* **stream**: there is no such packet. **unknown**: not measured.

Of packets that the host passes on:

* through VXLAN or Geneve as a *bridge port* the kernel answers "too big" in the name of the destination
  (iptunnel_pmtud_check_icmp), whatever `df` says; without DF they go in fragments, or are lost where the outer header
  is IPv6 or `df` is set;
* *routed* into VXLAN or Geneve, IPv6 is told from the second packet on; IPv4 never is: its outer packets are sent in
  fragments, or lost in silence where the outer header is IPv6 or has DF (ip_forward heeds no path MTU learned by skb);
* GRE, IPIP, SIT and IP6TNL answer "too big" to the inner sender, but not to a bridged IPv4 frame (gretap as a bridge
  port): it has no route that icmp_send could use. IPv4 without DF is lost in silence, unless the tunnel is
  `nopmtudisc`: GRE and IPIP put DF on the outer packet by themselves; IP6TNL and IP6GRE answer "too big" to it as well;
* ESP, by a policy or an xfrm interface, is a smaller MTU of the route: "too big", or fragments without DF;
* WireGuard and L2TP fragment all.

## Traps
* VXLAN without `dev`, OVS ports and xfrm interfaces have MTU 1500 whatever is underneath.
* GRE, IPIP, SIT and IP6TNL without a remote end know no lower device: their MTU is as over 1500.
* WireGuard has 1420 whatever is underneath: over IPv4 1440 would fit, over an underlay of 1400 it is too much. It pads
  data to 16 bytes, but not above its device's MTU: over IPv6 and 1500, 1420 fit with an MTU of 1420, but only 1408 with
  1700. The right MTU is always the underlay's less the header.
* A VLAN tag needs no room on a cable, but 4 bytes inside a tunnel that carries frames, and the kernel's default for a
  VLAN on top of a VXLAN device forgets them. Two tags and ipvlan look roomier in a lab than on a NIC: veth passes its
  MTU + 4.
* OVS over IPv6 GRE with a key learns a path MTU 4 too high (1442 where 1438 fit): 1439 to 1442 stay lost.
* ESP without an xfrm interface has no device: no MTU shows it.
* What a program moves (OpenVPN, wireguard-go, OVS with netdev, libipsec) shows as a tun or tap: state says nothing of
  it, only measurement does. pathfit then says unknown, with a hint at most.

## JSON
`pathfit overhead STACK --json` prints one document. `largest`: what passes whole with the MTUs as they are; `best`:
with all of them set right, which is also each layer's right MTU. Per layer: `gets` the largest packet that is carried
underneath, `header` bytes of it, `fits` what is left of it, `mtu` the device's (null: no device) by `default` or
`given`; `learned` the path MTU a sender knows after the first packet that was too large, null where none is. Without
STACK: `kinds`, all rows.
```json
"""


def _rows() -> list[str]:
    lines = ["| layer | headers | MTU | fits | too large | decides |", "|---|---|---|---|---|---|"]
    for name, row in KINDS.items():
        families: tuple[Family, ...] = row.families or (4,)
        lines += [_row(Layer(name, f), row.source) for f in families]
    return lines


def _row(layer: Layer, source: str) -> str:
    made = fits((layer,), USUAL_MTU)[0]
    heads = " + ".join(f"{name} {size}" for name, size in parts(layer)) or "-"
    mtu = "no device"
    if has_device(layer):
        mtu = f"{made.mtu} ({default_mtu(layer, 9000)})"
    case: TooBig = too_big(layer)
    by = source if layer.measured else f"{source} (not measured)"
    return f"| {layer.name} | {heads} | {mtu} | {made.fits} | {case} | {by} |"


VARIANTS = (
    "vxlan,nodev", "vxlan6,nodev", "vxlan,nodev,df=set", "vxlan,gpe", "geneve,df=set", "geneve,opt=8",
    "gre,key,csum,seq", "ip6gre,key,csum,seq", "ip6gre,noencaplimit", "gre,nopmtudisc,ignore-df", "erspan,v2",
    "ipip,fou", "ipip,gue", "ip6tnl,noencaplimit", "wireguard6,mtu=1700", "esp-gcm,transport", "esp-gcm6,transport",
    "esp-gcm,natt", "esp-cbc,sha1", "xfrm", "mpls,labels=2", "l2tp,cookie=8", "ovs-gre,key", "ovs-ip6gre,key",
    "ovs-vxlan,netdev",
)  # fmt: skip


def page() -> str:
    """The whole document."""
    example = msgspec.json.format(msgspec.json.encode(document(parse(EXAMPLE))), indent=2).decode()
    variants = [_row(x.layers[0], x.layers[0].row.source) for x in map(parse, VARIANTS)]
    table = [*_rows(), *variants]
    return HEAD + "## The table\n" + "\n".join(table) + "\n" + MIDDLE + example + "\n```\n"


def test_the_page_is_the_table() -> None:
    assert PAGE.read_text(encoding="utf-8") == page()


def test_its_example_is_json() -> None:
    assert json.loads(page().split("```json\n")[1].split("```")[0])["stack"] == EXAMPLE


if __name__ == "__main__":
    print(page(), end="")
