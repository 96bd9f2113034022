"""How the asked client fares: the facts of the plain connections, put together."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Literal

from pathfit.core.measured import Contact
from pathfit.core.net import IP_HEADER, TCP_HEADER, TIMESTAMPS, packet_of

if TYPE_CHECKING:
    from pathfit.probe.tcp.conn import Conn
    from pathfit.probe.tcp.engine import Engine

PHASES = ("", "hello-sent", "server-hello", "certificates", "finished")  # of TLS, in order
Tcp = Literal["ok", "refused", "reset", "timeout", "unreachable", "n/a"]
Tls = Literal["ok", "stalled", "failed", "n/a"]


def contact_of(engine: Engine, now: float) -> Contact:
    """Facts about ``engine``'s plain connections; sized ones stand in where no plain one says anything."""
    plain = [c for c in engine.all if c.keep]
    every = engine.all
    best = _best(plain) or _best(every)
    family: Literal[4, 6] = 6 if engine.family == 6 else 4
    rtts = [c.track.rtt for c in every if c.track.rtt]
    head = IP_HEADER[family] + TCP_HEADER
    t = best.track if best is not None else None
    tcp: Tcp = _tcp(every)
    look = engine.lookout
    # What a SYN-ACK invites does not depend on what we asked for (tcp_make_synack()); the first ones come before the
    # peer may have learned a smaller path MTU.
    heard = (look.synacks[c.track.port] for c in (*plain, *every) if c.track.port in look.synacks) if look else ()
    synack = next(iter(heard), None)
    reset = _reset(engine)
    trouble = next((c.trouble for c in every if c.trouble is not None and c.trouble.code), None)
    icmp = _icmp(engine)
    return Contact(
        address=engine.request.address,
        family=family,
        port=engine.request.port,
        tcp=tcp,
        tls=_tls(plain, every),
        http=_http(plain),
        protocol=engine.script.protocol,
        rtt=min(rtts) if rtts else None,
        promised=engine.promised,
        offered=_offered(engine, synack.tcp.mss if synack else None, best),
        sendable=t.snd_mss + head + (TIMESTAMPS if t.timestamps else 0)
        if t and t.plain and t.snd_mss and t.connected
        else None,
        timestamps=bool(t and t.timestamps),
        answered=max((c.track.got for c in plain), default=0),
        acked=any(c.track.heard for c in plain),
        largest=max((c.track.arrived for c in plain), default=0),
        local_address=_local(every),
        local_ports=tuple(c.track.port for c in plain if c.track.port),
        # What the peer said counts more than what the asked client may think of its certificate.
        alert=next((c.talk.alert for c in plain if c.talk.alert), engine.certificate),
        alert_kind=next(
            (c.talk.alert_kind for c in plain if c.talk.alert_kind), "certificate" if engine.certificate else None
        ),
        error=errno.errorcode.get(trouble.code) if trouble and tcp != "ok" else None,
        error_from=icmp[0] if icmp else (engine.request.address if reset else None),
        icmp=icmp[1] if icmp else None,
        synack_ttl=synack.ttl if synack else None,
        rst_ttl=reset[0] if reset else None,
        rst_unheard=_unheard(engine) if tcp == "timeout" else None,
        rst_after=reset[1] if reset else None,
        rst_phase=reset[2] if reset else None,
        echo_ttl=engine.pinger.ttl() if engine.pinger is not None else None,
        handshake_retrans=max((c.track.syn_retrans for c in plain), default=0),
        alpn=next((c.talk.alpn for c in plain if c.talk.alpn), None),
        sizes_first=best.sizes_first if best is not None else None,
        sizes_last=best.sizes_now() if best is not None else None,
        phase=max((c.talk.phase for c in plain), key=PHASES.index, default=""),
    )


def _best(conns: list[Conn]) -> Conn | None:
    """The connection that got furthest."""
    live = [c for c in conns if c.track.connected is not None]
    return max(live, key=lambda c: (c.talk.done, c.track.got), default=None)


def _tcp(conns: list[Conn]) -> Tcp:
    connected = [c for c in conns if c.track.connected is not None]
    if connected:
        # A reset is how TCP ended only when no connection brought anything.
        if all(c.track.ended == "reset" and not c.track.got for c in connected):
            return "reset"
        return "ok"
    ended = [c.track.ended for c in conns if c.track.ended is not None]
    for kind in ("refused", "unreachable", "reset"):
        if kind in ended:
            return kind
    return "timeout" if conns else "n/a"


def _tls(plain: list[Conn], every: list[Conn]) -> Tls:
    spoken = [c for c in plain if c.talk.stage not in ("", "connect", "banner", "prelude") and c.talk.tls != "n/a"]
    for state in ("ok", "failed", "stalled"):
        if any(c.talk.tls == state for c in spoken):
            return state
    return "n/a"


def _http(plain: list[Conn]) -> str:
    said = [c.talk.http for c in plain if c.talk.http != "n/a"]
    for s in said:
        if s.isdigit():
            return s
    return said[0] if said else "n/a"


def _offered(engine: Engine, mss: int | None, best: Conn | None) -> int | None:
    """What their SYN-ACK invites. Without a packet socket it is known only when it, not our route, bounds us."""
    family: Literal[4, 6] = 6 if engine.family == 6 else 4
    if mss is not None:
        return packet_of(family, mss)
    if best is None or best.track.connected is None or not best.track.plain:
        return None  # TCP_MAXSEG bounds what the others send, whatever they were invited to
    t = best.track
    sendable = packet_of(family, t.snd_mss) + (TIMESTAMPS if t.timestamps else 0)
    return sendable if t.extra.get("route_mtu", "") != str(sendable) else None


def _local(conns: list[Conn]) -> str | None:
    return next((c.local for c in conns if c.local), None)


def _reset(engine: Engine) -> tuple[int | None, float, str] | None:
    """TTL, seconds after the SYN, and phase of the first RST. Where the asked client's connections stand, only theirs
    count: a burst of others may be more than a backlog of five holds, and what overflows is reset (SYN cookies). Nor
    does one that answers a row of requests: the server has hung up after the first of them (RFC 9112 9.6)."""
    plain = [c for c in engine.all if c.keep]
    for c in plain if any(c.track.connected is not None for c in plain) else engine.all:
        if c.talk.stage == "many" or c.trouble is None:
            continue
        if c.trouble.code in (errno.ECONNRESET, errno.ECONNREFUSED, errno.EPIPE):
            heard = engine.lookout.resets.get(c.local_port) if engine.lookout else None
            return heard.ttl if heard else None, round(c.trouble.after, 6), c.trouble.phase
    return None


def _unheard(engine: Engine) -> int | None:
    """TTL of a RST for one of our connections that a packet socket saw. TCP did not hear it: all of them wait still."""
    ports = {c.local_port for c in engine.all}
    heard = engine.lookout.resets if engine.lookout else {}
    return next((h.ttl for port, h in heard.items() if port in ports), None)


def _icmp(engine: Engine) -> tuple[str, tuple[int, int]] | None:
    """Who said "unreachable" about one of our connections, and how."""
    if engine.lookout is None:
        return None
    ports = {c.local_port for c in engine.all}
    for e in engine.lookout.errors:
        if e.port in ports and e.type == (3 if engine.family == 4 else 1):
            return e.by, (e.type, e.code)
    return None
