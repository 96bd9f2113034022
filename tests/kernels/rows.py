"""Encapsulations that kernels have, one row each: how both ends are made. Read inside the guest and outside of it.

Two namespaces, ``a`` and ``b``, on a cable of MTU 1500 (their eth0). The device that takes the inner packets is ``t0``;
ESP by policies and MPLS have none.
"""

from dataclasses import dataclass

CABLE = {4: ("198.18.9.1", "198.18.9.2"), 6: ("2001:db8:9::1", "2001:db8:9::2")}
INNER = {4: "198.18.60.", 6: "2001:db8:60::"}
NETS = {4: "198.18.60.0/24", 6: "2001:db8:60::/64"}
TARGETS = (2, 3)  # b's inner addresses end in these (a's in 1): one for each state of the device's MTU
MACS = ("02:00:00:00:00:01", "02:00:00:00:00:02")


@dataclass(frozen=True)
class Row:
    """``stack`` as model/tunnels/stacks.py writes it; ``inner``: families that go through.

    ``lines`` of `ip -batch` make one end (and "!…" lines, commands of their own). In braces: {me}, {peer} the ends'
    addresses of the family ``outer``; {mac} the other's on the cable; {n}, {o} 1 and 2, the own and the other's; {key},
    {pub} a private key and the other's public one.
    ``on`` says where the inner addresses are: "t0"; "lo", with routes over the cable; "cable": they are the cable's.
    ``alone``: whether the lines make the device over any other cable, too. ``far``: lines of b, where they are others.
    """

    name: str
    stack: str
    lines: str
    outer: int = 4
    inner: tuple[int, ...] = (4,)
    on: str = "t0"
    alone: bool = True
    far: str = ""

    @property
    def switched(self) -> bool:
        """Open vSwitch has the device, and its MTU."""
        return self.stack.startswith("ovs-")

    @property
    def device(self) -> bool:
        return self.on == "t0"

    def filled(self, end: int, keys: list[tuple[str, str]]) -> list[str]:
        """The lines of one end, 0 or 1. ``keys``: private and public one, of both ends."""
        text = self.far if end and self.far else self.lines
        me, peer = CABLE[self.outer][end], CABLE[self.outer][1 - end]
        words = {"n": end + 1, "o": 2 - end, "mac": MACS[1 - end], "key": keys[end][0], "pub": keys[1 - end][1]}
        return [x.strip().format(me=me, peer=peer, **words) for x in text.strip().splitlines()]


def tunnel(name: str, stack: str, kind: str, words: str, outer: int = 4, inner: tuple[int, ...] = (4,)) -> Row:
    """A device of one kind between the two ends; a line of ``words`` before the last comes before it is made."""
    *before, last = words.splitlines() or [""]
    return Row(name, stack, "\n".join([*before, f"link add t0 type {kind} {last}"]), outer, inner)


_ENDS = "local {me} remote {peer}"
_VXLAN = f"id 77 {_ENDS} dstport 4789"
_VXLAN_OF = f"vxlan {_VXLAN}"
_KEYED = "ikey 7 okey 7 icsum ocsum iseq oseq"
_FOU, _GUE = "!modprobe fou\nfou add port 5555 ipproto 4", "!modprobe fou\nfou add port 5555 gue"
_ENCAP = "encap-sport auto encap-dport 5555"
_WIREGUARD = f"""
link add t0 type wireguard
!wg set t0 private-key {{key}} listen-port 51820 peer {{pub}} endpoint {{end}}:51820 allowed-ips {NETS[4]},{NETS[6]}
"""
_MACSEC = """
link add link eth0 name t0 type macsec
macsec add t0 tx sa 0 pn 1 on key 0{n} 0{n}0102030405060708090a0b0c0d0e0f
macsec add t0 rx port 1 address {mac}
macsec add t0 rx port 1 address {mac} sa 0 pn 1 on key 0{o} 0{o}0102030405060708090a0b0c0d0e0f
"""
_L2TP = f"""
l2tp add tunnel tunnel_id 1 peer_tunnel_id 1 encap {{encap}} {_ENDS} {{ports}}
l2tp add session name t0 tunnel_id 1 session_id 1 peer_session_id 1
"""
_GCM = "aead rfc4106(gcm(aes)) 0x" + "1b" * 20 + " 128"
_CBC = "enc cbc(aes) 0x" + "2c" * 16 + " auth-trunc hmac(sha256) 0x" + "3d" * 32 + " 128"
_NATT = "encap espinudp 4500 4500 0.0.0.0"


def _wireguard(outer: int) -> str:
    return _WIREGUARD.replace("{end}", "[{peer}]" if outer == 6 else "{peer}")


def _l2tp(encap: str) -> str:
    ports = "udp_sport 5000 udp_dport 5000" if encap == "udp" else ""
    return _L2TP.replace("{encap}", encap).replace("{ports}", ports)


def _esp(stack: str, suite: str, outer: int, inner: int, mode: str = "tunnel", more: str = "", before: str = "") -> str:
    """Associations and policies of one end. The association of the way out has the number of who sends."""
    lines = [before] if before else []
    any_family = f"sel src {_ALL[inner]} dst {_ALL[inner]}" if mode == "tunnel" and inner != outer else ""
    number = "if_id 7" if before else ""
    for src, dst, spi in (("{me}", "{peer}", "0x10{n}"), ("{peer}", "{me}", "0x10{o}")):
        what = f"proto esp spi {spi} reqid 1 mode {mode} {suite} {more} {number} {any_family}"
        lines.append(f"xfrm state add src {src} dst {dst} {what}")
    net = NETS[inner] if mode == "tunnel" else f"{CABLE[outer][0]}/{24 if outer == 4 else 64}"
    for way, src, dst in (("out", "{me}", "{peer}"), ("in", "{peer}", "{me}"), ("fwd", "{peer}", "{me}")):
        ends = f"src {src} dst {dst}" if mode == "tunnel" else ""
        tmpl = f"tmpl {ends} proto esp reqid 1 mode {mode}"
        lines.append(f"xfrm policy add src {net} dst {net} dir {way} {number} {tmpl}")
    return "\n".join(lines)


_ALL = {4: "0.0.0.0/0", 6: "::/0"}


def _mpls(*labels: int) -> str:
    return f"""
!modprobe -a mpls_router mpls_iptunnel
!sysctl -qw net.mpls.platform_labels=1000 net.mpls.conf.eth0.input=1 net.mpls.conf.lo.input=1
!ip -f mpls route add {labels[0]} dev lo
!ip -f mpls route add {labels[-1]} dev lo || true
route add {NETS[4]} encap mpls {"/".join(map(str, labels))} via inet {{peer}} dev eth0
"""


_OVS = """
!modprobe openvswitch
!mkdir -p /run/openvswitch && rm -f /run/openvswitch/conf.db && ovsdb-tool create /run/openvswitch/conf.db
!ovsdb-server --remote=punix:/run/openvswitch/db.sock --detach --pidfile /run/openvswitch/conf.db 2>/dev/null
!ovs-vsctl --no-wait init
!ovs-vswitchd --detach --pidfile 2>/dev/null
!ovs-vsctl add-br t0 -- add-port t0 out -- set interface out type={kind} options:remote_ip={{peer}} options:key=77
"""


def switched(name: str, kind: str, stack: str, far: str, outer: int = 4) -> Row:
    """A bridge of Open vSwitch, by the kernel's datapath, with a tunnel for a port; b has a device of its own."""
    return Row(name, stack, _OVS.replace("{kind}", kind).replace("{{", "{").replace("}}", "}"), outer, alone=False,
               far=f"link add t0 type {far}")  # fmt: skip


ROWS = (
    tunnel("vxlan", "vxlan", "vxlan", f"{_VXLAN} dev eth0"),
    tunnel("vxlan no dev", "vxlan,nodev", "vxlan", _VXLAN),
    tunnel("vxlan df set", "vxlan,df=set", "vxlan", f"{_VXLAN} dev eth0 df set"),
    tunnel("vxlan df inherit", "vxlan,df=inherit", "vxlan", f"{_VXLAN} dev eth0 df inherit"),
    tunnel("vxlan v6", "vxlan6", "vxlan", f"{_VXLAN} dev eth0", 6),
    tunnel("vxlan v6 no dev", "vxlan6,nodev", "vxlan", _VXLAN, 6),
    tunnel("geneve", "geneve", "geneve", "id 77 remote {peer}"),
    tunnel("geneve df set", "geneve,df=set", "geneve", "id 77 remote {peer} df set"),
    tunnel("geneve v6", "geneve6", "geneve", "id 77 remote {peer}", 6),
    tunnel("gre", "gre", "gre", _ENDS),
    tunnel("gre nopmtudisc", "gre,nopmtudisc", "gre", f"{_ENDS} nopmtudisc"),
    tunnel("gre ignore-df", "gre,nopmtudisc,ignore-df", "gre", f"{_ENDS} nopmtudisc ignore-df"),
    tunnel("gre key csum seq", "gre,key,csum,seq", "gre", f"{_ENDS} {_KEYED}"),
    tunnel("gretap", "gretap", "gretap", _ENDS),
    tunnel("erspan v1", "erspan", "erspan", f"{_ENDS} seq key 7 erspan_ver 1 erspan 5"),
    tunnel("erspan v2", "erspan,v2", "erspan", f"{_ENDS} seq key 7 erspan_ver 2 erspan_dir ingress erspan_hwid 5"),
    tunnel("ip6gre", "gre6", "ip6gre", _ENDS, 6),
    tunnel("ip6gre key csum seq", "gre6,key,csum,seq", "ip6gre", f"{_ENDS} {_KEYED}", 6),
    tunnel("ip6gre encaplimit none", "gre6,noencaplimit", "ip6gre", f"{_ENDS} encaplimit none", 6),
    tunnel("ip6gretap", "gretap6", "ip6gretap", _ENDS, 6),
    tunnel("ip6erspan v1", "erspan6", "ip6erspan", f"{_ENDS} seq key 7 erspan_ver 1 erspan 5", 6),
    tunnel("ipip", "ipip", "ipip", _ENDS),
    tunnel("ipip fou", "ipip,fou", "ipip", f"{_FOU}\n{_ENDS} encap fou {_ENCAP}"),
    tunnel("ipip gue", "ipip,gue", "ipip", f"{_GUE}\n{_ENDS} encap gue {_ENCAP}"),
    tunnel("sit", "sit", "sit", _ENDS, 4, (6,)),
    tunnel("sit any", "sit", "sit", f"{_ENDS} mode any", 4, (4, 6)),
    tunnel("ip6tnl", "ip6tnl", "ip6tnl", f"mode any {_ENDS}", 6, (4, 6)),
    tunnel("ip6tnl encaplimit none", "ip6tnl,noencaplimit", "ip6tnl", f"mode any {_ENDS} encaplimit none", 6, (4, 6)),
    Row("wireguard", "wireguard", _wireguard(4), 4, (4, 6)),
    Row("wireguard v6", "wireguard6", _wireguard(6), 6, (4, 6)),
    Row("vlan", "vlan", "link add link eth0 name t0 type vlan id 7", 4, (4, 6)),
    Row("vlan 802.1ad", "vlan", "link add link eth0 name t0 type vlan proto 802.1ad id 7"),
    Row("qinq 802.1ad", "qinq", """link add link eth0 name q0 type vlan proto 802.1ad id 7
                                   link set q0 up
                                   link add link q0 name t0 type vlan id 8"""),
    Row("qinq 802.1Q", "qinq", """link add link eth0 name q0 type vlan id 7
                                  link set q0 up
                                  link add link q0 name t0 type vlan id 8"""),
    Row("macvlan", "macvlan", "link add link eth0 name t0 type macvlan mode bridge", 4, (4, 6)),
    Row("ipvlan l2", "ipvlan", "link add link eth0 name t0 type ipvlan mode l2", 4, (4, 6)),
    Row("macsec", "macsec", _MACSEC, 4, (4, 6)),
    Row("esp gcm", "esp-gcm", _esp("", _GCM, 4, 4), on="lo"),
    Row("esp gcm v6, inner v4", "esp-gcm6", _esp("", _GCM, 6, 4), 6, on="lo"),
    Row("esp gcm v6, inner v6", "esp-gcm6", _esp("", _GCM, 6, 6), 6, (6,), on="lo"),
    Row("esp gcm transport", "esp-gcm,transport", _esp("", _GCM, 4, 4, "transport"), on="cable"),
    Row("esp gcm transport v6", "esp-gcm6,transport", _esp("", _GCM, 6, 6, "transport"), 6, (6,), on="cable"),
    Row("esp cbc sha256", "esp-cbc", _esp("", _CBC, 4, 4), on="lo"),
    Row("esp gcm natt", "esp-gcm,natt", _esp("", _GCM, 4, 4, more=_NATT), on="lo"),
    Row("xfrm interface", "esp-gcm,if",
        _esp("", _GCM, 4, 4, before="link add t0 type xfrm dev eth0 if_id 7"), alone=False),
    Row("mpls 1 label", "mpls", _mpls(100), on="lo"),
    Row("mpls 2 labels", "mpls,labels=2", _mpls(100, 200), on="lo"),
    Row("l2tp udp", "l2tp", _l2tp("udp")),
    Row("l2tp ip", "l2tp-ip", _l2tp("ip")),
    Row("l2tp udp v6", "l2tp6", _l2tp("udp"), 6),
    switched("ovs vxlan", "vxlan", "ovs-vxlan", _VXLAN_OF),
    switched("ovs vxlan v6", "vxlan", "ovs-vxlan6", f"{_VXLAN_OF} udp6zerocsumrx", 6),
    switched("ovs geneve", "geneve", "ovs-geneve", "geneve id 77 remote {peer}"),
    switched("ovs geneve v6", "geneve", "ovs-geneve6", "geneve id 77 remote {peer} udp6zerocsumrx", 6),
    switched("ovs gre key", "gre", "ovs-gre,key", f"gretap {_ENDS} key 77"),
    switched("ovs ip6gre key", "ip6gre", "ovs-gre6,key", f"ip6gretap {_ENDS} key 77 encaplimit none", 6),
)  # fmt: skip
