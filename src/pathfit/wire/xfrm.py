"""IPsec as the kernel keeps it (include/uapi/linux/xfrm.h): security associations and policies, by NETLINK_XFRM.

What decides how much room ESP takes: mode, names of the algorithms, length of the check value, UDP encapsulation. The
kernel sends keys behind the names of algorithms to whoever may ask: only the names are read, keys never become a value.
"""

from struct import Struct

from pathfit.core.net import Family
from pathfit.core.snapshot import XfrmPolicy, XfrmState, XfrmTemplate
from pathfit.wire.addresses import FAMILY, ip
from pathfit.wire.netlink import Malformed, attributes, request, text, u32

NETLINK_XFRM = 6
GETSA, GETPOLICY = 18, 21

_SELECTOR = Struct("=16s16s2s2s2s2sHBBB3xiI")  # 56: daddr saddr ports family prefixlen_d prefixlen_s proto ifindex user
_STATE_ID = Struct("=16s4sBxxx")  # struct xfrm_id: daddr, spi (big endian), proto
_LIFETIMES = 64 + 32 + 12  # struct xfrm_lifetime_cfg, xfrm_lifetime_cur, xfrm_stats
# behind them: seq, reqid, family, mode, replay_window, flags
_STATE_TAIL = Struct("=4xIHBBB")
_STATE_SIZE = 224
_NOPMTUDISC, _AF_UNSPEC = 4, 32  # XFRM_STATE_*
_POLICY_TAIL = Struct("=IIBBBB")  # priority, index, dir, action, flags, share
_POLICY_SIZE = 168
_TEMPLATE = Struct("=16s4sBxxxHxx16sIBBBxIII")  # id, family, saddr, reqid, mode, share, optional, aalgos ealgos calgos
_ALG_AUTH, _ALG_CRYPT, _TMPL, _ENCAP, _ALG_AEAD, _MARK, _ALG_AUTH_TRUNC, _IF_ID = 1, 2, 5, 4, 18, 21, 20, 31
_NAME = 64  # alg_name[64], alg_key_len in bits, then for authentication and AEAD the length of the check value
_U32 = Struct("=I")
_ENCAP_LAYOUT = Struct("=H2s2s")

_MODES = {0: "transport", 1: "tunnel", 2: "route-optimization", 3: "in-trigger", 4: "beet", 5: "iptfs"}
_PROTOCOLS = {50: "esp", 51: "ah", 108: "comp"}
_DIRECTIONS = {0: "in", 1: "out", 2: "fwd"}
_ENCAPS = {1: "udp-non-ike", 2: "udp", 7: "tcp"}


def states() -> bytes:
    """All security associations."""
    return request(GETSA, b"")


def policies() -> bytes:
    """All policies, without those of sockets."""
    return request(GETPOLICY, b"")


def state(data: bytes, at: int, end: int) -> XfrmState | None:
    """One XFRM_MSG_NEWSA; None for other families. Raises Malformed."""
    if at + _STATE_SIZE > end or end > len(data):
        raise Malformed(f"an IPsec state of {end - at} bytes, {_STATE_SIZE} expected")
    dst, spi, protocol = _STATE_ID.unpack_from(data, at + _SELECTOR.size)
    saddr = at + _SELECTOR.size + _STATE_ID.size
    reqid, number, mode, _, flags = _STATE_TAIL.unpack_from(data, saddr + 16 + _LIFETIMES)
    family = FAMILY.get(number)
    if family is None:
        return None
    selected = FAMILY.get(_SELECTOR.unpack_from(data, at)[6])
    found = attributes(data, at + _STATE_SIZE, end)
    auth = found.get(_ALG_AUTH_TRUNC) or found.get(_ALG_AUTH, b"")
    cipher = found.get(_ALG_AEAD) or found.get(_ALG_CRYPT, b"")
    checked = found.get(_ALG_AEAD) or found.get(_ALG_AUTH_TRUNC, b"")
    encap, sport, dport = _encap(found.get(_ENCAP, b""))
    return XfrmState(
        family=family,
        src=_ip(data[saddr : saddr + 16], family),
        dst=_ip(dst, family),
        spi=int.from_bytes(spi, "big"),
        protocol=_PROTOCOLS.get(protocol, str(protocol)),
        mode=_MODES.get(mode, str(mode)),
        cipher=text(cipher[:_NAME].split(b"\0")[0]),
        auth=text(auth[:_NAME].split(b"\0")[0]),
        icv_bits=_U32.unpack_from(checked, _NAME + 4)[0] if len(checked) >= _NAME + 8 else None,
        inner=selected if selected != family else None,
        any_family=bool(flags & _AF_UNSPEC),
        pmtudisc=not flags & _NOPMTUDISC,
        encap=encap,
        encap_sport=sport,
        encap_dport=dport,
        reqid=reqid,
        if_id=u32(found, _IF_ID),
        mark=_U32.unpack_from(found[_MARK])[0] if len(found.get(_MARK, b"")) >= 4 else 0,
    )


def policy(data: bytes, at: int, end: int) -> XfrmPolicy | None:
    """One XFRM_MSG_NEWPOLICY; None for other families. Raises Malformed."""
    if at + _POLICY_SIZE > end or end > len(data):
        raise Malformed(f"an IPsec policy of {end - at} bytes, {_POLICY_SIZE} expected")
    daddr, saddr, dport, dmask, sport, smask, number, dlen, slen, proto, _, _ = _SELECTOR.unpack_from(data, at)
    family = FAMILY.get(number)
    if family is None:
        return None
    priority, _, direction, action, _, _ = _POLICY_TAIL.unpack_from(data, at + _SELECTOR.size + 64 + 32)
    found = attributes(data, at + _POLICY_SIZE, end)
    return XfrmPolicy(
        family=family,
        direction=_DIRECTIONS.get(direction, str(direction)),
        src=_ip(saddr, family) if slen else "",
        src_prefix=slen,
        dst=_ip(daddr, family) if dlen else "",
        dst_prefix=dlen,
        proto=proto,
        sport=int.from_bytes(sport, "big") if any(smask) else 0,
        dport=int.from_bytes(dport, "big") if any(dmask) else 0,
        priority=priority,
        block=action == 1,
        templates=_templates(found.get(_TMPL, b"")),
        if_id=u32(found, _IF_ID),
        mark=_U32.unpack_from(found[_MARK])[0] if len(found.get(_MARK, b"")) >= 4 else 0,
    )


def _templates(raw: bytes) -> tuple[XfrmTemplate, ...]:
    if len(raw) % _TEMPLATE.size:
        raise Malformed(f"IPsec templates of {len(raw)} bytes")
    made: list[XfrmTemplate] = []
    for dst, _, protocol, number, src, reqid, mode, _, optional, *_ in _TEMPLATE.iter_unpack(raw):
        family = FAMILY.get(number, 4)
        made.append(
            XfrmTemplate(
                src=_ip(src, family),
                dst=_ip(dst, family),
                protocol=_PROTOCOLS.get(protocol, str(protocol)),
                mode=_MODES.get(mode, str(mode)),
                reqid=reqid,
                optional=bool(optional),
            )
        )
    return tuple(made)


def _encap(raw: bytes) -> tuple[str, int, int]:
    if len(raw) < _ENCAP_LAYOUT.size:
        return "", 0, 0
    kind, sport, dport = _ENCAP_LAYOUT.unpack_from(raw)
    return _ENCAPS.get(kind, str(kind)), int.from_bytes(sport, "big"), int.from_bytes(dport, "big")


def _ip(raw: bytes, family: Family) -> str:
    return ip(raw[:4] if family == 4 else raw)


GETSPDINFO = 37
_SPD_INFO = 1


def counts() -> bytes:
    """How many policies there are. No dump: send with ``ask``."""
    return request(GETSPDINFO, _U32.pack(0))


def counted(data: bytes, at: int, end: int) -> int:
    """The number of policies in an answer to :func:`counts`, without those of sockets. Raises Malformed."""
    raw = attributes(data, at + 4, end).get(_SPD_INFO, b"")
    if len(raw) < 12:
        raise Malformed(f"a count of IPsec policies of {len(raw)} bytes")
    return sum(n for (n,) in _U32.iter_unpack(raw[:12]))
