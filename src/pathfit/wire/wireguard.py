"""WireGuard devices by generic netlink (include/uapi/linux/wireguard.h): peers, their endpoints and allowed addresses.

The kernel gives private and preshared keys to whoever may ask (CAP_NET_ADMIN): they are passed over here and never
become a value.
"""

from base64 import b64encode
from collections.abc import Iterable
from struct import Struct

from msgspec.structs import replace

from pathfit.core.snapshot import Wireguard, WireguardPeer
from pathfit.wire import genl
from pathfit.wire.addresses import AF_INET, AF_INET6, ip
from pathfit.wire.netlink import Malformed, attribute, attributes, chosen, every, u8, u16, u32

FAMILY = "wireguard"
_GET_DEVICE = 0
_IFINDEX, _PUBLIC_KEY, _LISTEN_PORT, _FWMARK, _PEERS = 1, 4, 6, 7, 8
_PEER_KEY, _PEER_ENDPOINT, _PEER_ALLOWED = 1, 4, 9
_ALLOWED_FAMILY, _ALLOWED_ADDRESS, _ALLOWED_MASK = 1, 2, 3
_DEVICE_WANTED = frozenset((_PUBLIC_KEY, _LISTEN_PORT, _FWMARK, _PEERS))
_PEER_WANTED = frozenset((_PEER_KEY, _PEER_ENDPOINT, _PEER_ALLOWED))
_SOCKADDR = Struct("=H2s4s")  # the port in network order; IPv4 address, or the flow label of IPv6
_U32 = Struct("=I")
_ADDRESS_SIZES = {AF_INET: 4, AF_INET6: 16}


def request(family: int, index: int) -> bytes:
    """One device, by its ifindex: several messages when it has many peers."""
    return genl.command(family, _GET_DEVICE, attribute(_IFINDEX, _U32.pack(index)))


def device(data: bytes, at: int, end: int) -> Wireguard:
    """One message of the answer to :func:`request`. Raises Malformed."""
    found = chosen(data, at + genl.HEADER, end, _DEVICE_WANTED)
    peers = found.get(_PEERS, b"")
    return Wireguard(
        public_key=_key(found.get(_PUBLIC_KEY, b"")),
        port=u16(found, _LISTEN_PORT),
        mark=u32(found, _FWMARK),
        peers=tuple(_peer(value) for _, value in every(peers, 0, len(peers))),
    )


def joined(parts: Iterable[Wireguard]) -> Wireguard | None:
    """All messages of one device as one; a peer that did not fit into one goes on in the next, with its key again."""
    first: Wireguard | None = None
    peers: dict[str, WireguardPeer] = {}
    for part in parts:
        first = first or part
        for peer in part.peers:
            known = peers.get(peer.public_key)
            peers[peer.public_key] = replace(known, allowed=known.allowed + peer.allowed) if known else peer
    return replace(first, peers=tuple(peers.values())) if first else None


def _peer(raw: bytes) -> WireguardPeer:
    found = chosen(raw, 0, len(raw), _PEER_WANTED)
    endpoint, port = _endpoint(found.get(_PEER_ENDPOINT, b""))
    allowed = found.get(_PEER_ALLOWED, b"")
    return WireguardPeer(
        public_key=_key(found.get(_PEER_KEY, b"")),
        endpoint=endpoint,
        port=port,
        allowed=tuple(_allowed(value) for _, value in every(allowed, 0, len(allowed))),
    )


def _endpoint(raw: bytes) -> tuple[str | None, int]:
    """struct sockaddr_in or sockaddr_in6; one of zeros: it has not called yet."""
    if len(raw) < _SOCKADDR.size:
        return None, 0
    family, port, address = _SOCKADDR.unpack_from(raw)
    if family == AF_INET6 and len(raw) >= 24:
        address = raw[8:24]
    elif family != AF_INET:
        return None, 0
    return (ip(address), int.from_bytes(port, "big")) if any(address) else (None, 0)


def _allowed(raw: bytes) -> str:
    found = attributes(raw, 0, len(raw))
    address = found.get(_ALLOWED_ADDRESS, b"")
    if len(address) != _ADDRESS_SIZES.get(u16(found, _ALLOWED_FAMILY)):
        raise Malformed(f"an allowed address of {len(address)} bytes")
    return f"{ip(address)}/{u8(found, _ALLOWED_MASK)}"


def _key(raw: bytes) -> str:
    return b64encode(raw).decode("ascii")
