"""Other names for the same things: what stands for an address, a MAC address, an id, a name in a redacted file.

Everything follows from a key, so that the same thing has the same pseudonym wherever it stands, also in other files
made with that key; without the key nothing leads back. What the kernel decides by is kept:

* *addresses*: two that share their first N bits share N bits afterwards (prefix-preserving, as in Crypto-PAn), so that
  subnets and the longest match hold; each special block (RFC 6890: private, shared, link-local, documentation …) is
  mapped into itself. 0.0.0.0/8, 127.0.0.0/8, 169.254.0.0/16, 224.0.0.0/3, ``::``, ``::1`` and multicast stay;
* *MAC addresses*: the bits for groups and for local administration; broadcast, zero and multicast ones stay;
* *ids* (hexadecimal): the beginning of one is the beginning of its pseudonym;
* *devices*: names a kernel or an engine gives (eth0, docker0, veth…) stay, and so does what a ``wg*`` of a filter
  matches.
"""

import base64
import hashlib
import re
from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network, summarize_address_range

_BITS = {4: 32, 6: 128}
_SAME = (
    "0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "240.0.0.0/4", "192.0.0.0/24",
    "::/128", "::1/128", "ff00::/12", "ff02::/112",
)  # fmt: skip
_INTO_ITSELF = (
    "10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.168.0.0/16", "192.0.2.0/24", "198.18.0.0/15",
    "198.51.100.0/24", "203.0.113.0/24", "192.88.99.0/24",
    "fe80::/64", "fe80::/10", "fc00::/8", "fd00::/8", "2001:db8::/32", "2001::/23", "2001:2::/48", "2001:10::/28",
    "2002::/16", "64:ff9b::/96", "100::/64", "2000::/3", "::ffff:0:0/96", "ff00::/8", "ff02::1:ff00:0/104",
)  # fmt: skip
_SPECIAL = [ip_network(x) for x in (*_SAME, *_INTO_ITSELF)]
_UNMOVED = [ip_network(x) for x in _SAME]


def _nodes() -> frozenset[tuple[int, int, int]]:
    """(family, length, bits) of every prefix with a special block below it: nothing may be flipped there."""
    return frozenset(
        (net.version, n, int(net.network_address) >> (_BITS[net.version] - n))
        for net in _SPECIAL
        for n in range(net.prefixlen)
    )


_FIXED = _nodes()
_HEX = re.compile(r"[0-9a-f]{12,64}\Z")
_OCTETS = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2})+\Z")
_GIVEN = re.compile(
    r"(lo|(eth|wlan|wwan|br|bond|team|dummy|ifb|vlan|tun|tap|wg|ppp|ipsec|vrf|virbr|podman|cni|vmbr|vnet|macvtap|macvlan"
    r"|ipvlan|gre|gretap|erspan|sit|tunl|ip6tnl|ip6gre|ip_vti|ip6_vti|vxlan|geneve|flannel\.|flannel-v6\.|vxlan_sys_"
    r"|genev_sys_|antrea-gw|vxlan-v6\.)\d+|virbr\d+-nic|en[ops][0-9a-z]{1,10}|docker0|docker_gwbridge|veth[0-9a-f]{0,11}"
    r"|vethwe-bridge|vethwe-datapath|vethwe[a-z0-9-]{0,9}|weave|datapath|cilium_(host|net|vxlan|geneve|wg0)|lxc_health"
    r"|vxlan\.calico|vxlan-v6\.calico|wireguard\.cali|wg-v6\.cali|kube-ipvs0|nodelocaldns|cbr0|kube-bridge|ovs-system"
    r"|br-(int|ex|tun|provider)|flannel-wg|kilo0|lxdbr\d+|incusbr\d+|lxcbr\d+|k8s-pod-network)\Z"
)
_BRIDGE = re.compile(r"(br-)([0-9a-f]{12})\Z")  # Docker: the network's id
_TAGGED = re.compile(r"(.+)\.(\d{1,4})\Z")
CHUNK = 4  # bytes of a payload that are replaced together
_WORD = 9  # characters of a pseudonym: 45 bits


class Pseudonyms:
    """See the module. ``patterns``: beginnings of device names that a filter tests for ("wg" of "wg*")."""

    def __init__(self, key: bytes, patterns: Iterable[str] = ()) -> None:
        self._key = hashlib.blake2b(key, digest_size=32).digest()
        self._flips: dict[tuple[int, int, int], int] = {}
        self._addresses: dict[str, str] = {}
        self._words: dict[str, str] = {}
        self._devices: dict[str, str] = {}
        self._patterns = sorted({p for p in patterns if p}, key=len)
        self._begins: dict[str, str] = {}

    def _random(self, kind: str, text: str, size: int = 16) -> bytes:
        return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=size, key=self._key,
                               person=kind.encode()).digest()  # fmt: skip

    # -- addresses ----------------------------------------------------------------------------------------------

    def address(self, text: str) -> str:
        """The pseudonym of an address. Raises ValueError when it is none."""
        found = self._addresses.get(text)
        if found is None:
            bare, percent, zone = text.partition("%")
            parsed = IPv6Address(bare) if ":" in bare else IPv4Address(bare)
            found = str(self._moved(parsed)) + (f"%{self.device(zone)}" if percent else "")
            self._addresses[text] = found
        return found

    def prefix(self, text: str) -> str:
        """The pseudonym of "address/length" (an address alone has all its bits). Raises ValueError."""
        bare, slash, length = text.partition("/")
        if not slash:
            return self.address(text)
        return f"{self.network(bare, int(length))}/{length}"

    def network(self, address: str, length: int) -> str:
        """The pseudonym of the first ``length`` bits of an address; the others are zero. Raises ValueError."""
        moved = IPv6Address(self.address(address)) if ":" in address else IPv4Address(self.address(address))
        if not 0 <= length <= moved.max_prefixlen:
            raise ValueError(f"a prefix of {length} bits")
        rest = moved.max_prefixlen - length
        return str(type(moved)(int(moved) >> rest << rest))

    def ranges(self, text: str) -> list[str]:
        """The pseudonyms of "first-last": several networks, for order is not kept. Raises ValueError."""
        first, dash, last = text.partition("-")
        if not dash:
            return [self.prefix(text)]
        pair = (IPv6Address(first), IPv6Address(last)) if ":" in first else (IPv4Address(first), IPv4Address(last))
        nets: Iterable[IPv4Network | IPv6Network] = summarize_address_range(*pair)
        return [self.prefix(str(net)) for net in nets]

    def _moved(self, address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
        if any(address.version == net.version and address in net for net in _UNMOVED):
            return address
        if isinstance(address, IPv6Address) and address.ipv4_mapped:
            inner = self._moved(address.ipv4_mapped)
            return IPv6Address(int(address) >> 32 << 32 | int(inner))
        family, bits, value = address.version, address.max_prefixlen, int(address)
        flips = 0
        for n in range(bits):
            node = (family, n, value >> (bits - n))
            flip = self._flips.get(node)
            if flip is None:
                bit = self._random("flip", f"{node}", 1)[0] & 1
                flip = self._flips[node] = 0 if node in _FIXED else bit
            flips = flips << 1 | flip
        return type(address)(value ^ flips)

    def mac(self, text: str) -> str:
        """The pseudonym of a hardware address of any length; those that are addresses themselves (tunnels) as such."""
        octets = text.split(":")
        if not _OCTETS.match(text) or (len(set(octets)) == 1 and octets[0] in ("00", "ff")):
            return text if set(text) <= set("0f:") else self.word(text)
        if len(octets) == 4:
            return ":".join(
                f"{b:02x}" for b in IPv4Address(self.address(".".join(str(int(o, 16)) for o in octets))).packed
            )
        if text.startswith(("01:00:5e", "01:80:c2", "33:33:")):
            return text if text[6:8] != "ff" or text[:2] != "33" else text[:9] + self._octets(text, 6)[9:]
        return self._octets(text, len(octets))

    def _octets(self, text: str, size: int) -> str:
        made = bytearray(self._random("mac", text, min(size, 64)))
        made[0] = made[0] & ~3 | int(text[:2], 16) & 3
        return ":".join(f"{b:02x}" for b in made)

    def packed(self, address: bytes) -> bytes:
        """The pseudonym of an address as it stands in headers: 4 or 16 bytes."""
        parsed = IPv4Address(address) if len(address) == 4 else IPv6Address(address)
        return self._moved(parsed).packed

    def octets(self, mac: bytes) -> bytes:
        """The pseudonym of a hardware address as it stands in headers."""
        return bytes.fromhex(self.mac(mac.hex(":")).replace(":", ""))

    # -- names and ids ------------------------------------------------------------------------------------------

    def word(self, text: str) -> str:
        """The pseudonym of a name: nine letters and digits, the first a letter."""
        if not text:
            return text
        found = self._words.get(text)
        if found is None:
            letters = base64.b32encode(self._random("word", text)).decode().lower()
            found = self._words[text] = "x" + letters[: _WORD - 1]
        return found

    def identity(self, text: str) -> str:
        """The pseudonym of a hexadecimal id of 12 digits or more; of anything else that of a name."""
        if not _HEX.match(text):
            return self.word(text)
        return self._random("id", text[:12], 32).hex()[: len(text)]

    def secret(self, text: str, like: str) -> str:
        """Something of the same form: "uuid" or "key" (32 bytes in base64)."""
        made = self._random(like, text, 32)
        if like == "key":
            return base64.b64encode(made).decode() if text else ""
        h = made.hex()
        return f"{h[:8]}-{h[8:12]}-{h[12:16]}-{h[16:20]}-{h[20:32]}" if text else ""

    def scrambled(self, data: bytes) -> bytes:
        """As many other bytes. Two that begin alike do so afterwards, to the last whole four of what they share."""
        state = hashlib.blake2b(digest_size=CHUNK, key=self._key, person=b"data")
        made = bytearray()
        for at in range(0, len(data), CHUNK):
            state.update(data[at : at + CHUNK])
            made += state.digest()
        return bytes(made[: len(data)])

    def device(self, text: str) -> str:
        """The pseudonym of a device's name, at most 15 characters (IFNAMSIZ)."""
        found = self._devices.get(text)
        if found is None:
            found = self._devices[text] = self._device(text)
        return found

    def _device(self, text: str) -> str:
        if not text or given(text):
            return text
        if bridge := _BRIDGE.match(text):
            return bridge[1] + self.identity(bridge[2])
        tagged = _TAGGED.match(text)
        if tagged and not any(p.startswith(f"{tagged[1]}.") for p in self._patterns):
            return f"{self.device(tagged[1])}.{tagged[2]}"
        start = next((p for p in reversed(self._patterns) if text.startswith(p)), "")
        fitting = [self.beginning(p) for p in self._patterns if text.startswith(p)]
        strange = [self.beginning(p) for p in self._patterns if not text.startswith(p)]
        for n in range(64):
            rest = base64.b32encode(self._random("device", f"{n}{text}")).decode().lower()
            made = (self.beginning(start) if start else "x") + rest[: 7 if start else 8]
            if all(made.startswith(b) for b in fitting) and not any(made.startswith(b) for b in strange):
                break
        return made[:15]

    def beginning(self, text: str) -> str:
        """The pseudonym of "wg" in "wg*". It stays when a name that stays, or the kernel, begins so."""
        found = self._begins.get(text)
        if found is None:
            shorter = next((p for p in reversed(self._patterns) if p != text and text.startswith(p)), "")
            head = self.beginning(shorter) if shorter else ""
            rest = base64.b32encode(self._random("begin", text)).decode().lower()
            found = text if may_be_given(text) else (head or "y") + rest[:3]
            self._begins[text] = found
        return found


def given(name: str) -> bool:
    """Is it a name that a kernel, systemd or an engine gives by itself?"""
    return bool(_GIVEN.match(name)) and not name.startswith("enx")  # which holds the MAC address


@lru_cache(maxsize=256)
def may_be_given(beginning: str) -> bool:
    """Do names that stay begin so?"""
    return any(x.startswith(beginning) or (beginning.startswith(x) and given(beginning + "0")) for x in _STEMS)


_STEMS = (
    "lo", "eth", "wlan", "wwan", "br", "bond", "team", "dummy", "ifb", "vlan", "tun", "tap", "wg", "ppp",
    "ipsec", "vrf", "virbr", "podman", "cni", "vmbr", "vnet", "macvtap", "macvlan", "ipvlan", "gre", "erspan",
    "sit", "ip6tnl", "vxlan", "geneve", "flannel", "genev_sys_", "antrea-gw", "eno", "enp", "ens", "docker",
    "veth", "weave", "datapath", "cilium_", "lxc_health", "kube-ipvs0", "nodelocaldns", "cbr0", "ovs-system",
    "br-", "kilo0", "lxdbr", "incusbr", "lxcbr",
)  # fmt: skip
