"""The proof before the change: the asked connection as it would be with a smaller MTU.

TCP_MAXSEG lowers what both ends send, so it proves a fix that acts both ways (a link's or route's MTU), not a
one-sided clamp, and nothing for UDP (probing.md 13).
"""

from __future__ import annotations

import errno
import time

from pathfit.core.evidence import Missing, TrialFact
from pathfit.core.net import packet_of
from pathfit.core.request import TryFix
from pathfit.probe.speech.talk import Script, Talk
from pathfit.probe.tcp.simple import Where, converse

clock = time.monotonic


def try_fix(fd: int | None, request: TryFix) -> TrialFact | Missing:
    """Connect with ``request.mss``, finish TLS, GET the asked path, at most ``body_limit`` bytes of its body.

    ``ok``: TLS and an HTTP answer came whole (or ``body_limit`` bytes of it); of a server with a language of its own
    what makes it fill packets: the handshake, or a row of answers; for other protocols that the connection stands.
    Missing when it cannot be tried here.
    """
    start = clock()
    family = 6 if ":" in request.address else 4
    script = Script(
        protocol=request.speaks or (request.protocol if request.protocol in ("https", "http") else "tcp"),
        host=request.host or request.address,
        path=request.path,
        sni=request.sni,
        proxy=request.proxy,
    )
    size = packet_of(6 if family == 6 else 4, request.mss)
    talk = Talk(script, size if request.speaks else 0, plain=True, body_limit=request.body_limit)
    where = Where(fd, request.address, request.port)
    quiet = 0.0 if script.protocol == "tcp" else None
    try:
        conn = converse(where, talk, request.mss, start + request.budget, quiet=quiet)
    except OSError as e:
        return Missing(ref=request.ref, what="a trial of the fix", why=str(e), code="unsupported")
    ok, why = _judge(talk, conn.track.connected is not None, script.protocol)
    if not ok and conn.trouble is not None and conn.trouble.code:
        why = errno.errorcode.get(conn.trouble.code, str(conn.trouble.code))
    return TrialFact(
        ref=request.ref,
        size=size,
        ok=ok,
        tls=talk.tls,
        http=talk.http,
        body=talk.body,
        arrived=conn.track.arrived,
        took=round(clock() - start, 4),
        why=why,
    )


def _judge(talk: Talk, connected: bool, protocol: str) -> tuple[bool, str | None]:
    if not connected:
        return False, "no connection"
    if protocol == "tcp":
        return True, None
    if talk.tls == "failed":
        return False, talk.alert or "TLS failed"
    if talk.tls == "stalled":
        return False, "TLS stalled"
    if talk.prelude is not None:
        return (True, None) if talk.whole else (False, "no whole answer")
    if talk.http.isdigit():
        return True, None
    return False, "no HTTP answer" if talk.http == "stalled" else "an answer that is not HTTP"
