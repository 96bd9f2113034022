"""What does H:P speak? Asked with small segments, so that no hole can hide the answer, and without harm: we listen
for a banner, say a TLS ClientHello, and last a HEAD request, each on a connection of its own."""

from __future__ import annotations

import time

import msgspec

from pathfit.core.net import mss_of
from pathfit.core.request import Measure
from pathfit.measure.sizes import SENTINEL
from pathfit.probe.simple import Where, converse
from pathfit.probe.talk import Script, Talk

BANNER_WAIT = 0.15  # seconds: servers that speak first (SSH, SMTP, MySQL) do so at once
ANSWER_WAIT = 1.0  # seconds for an answer to the ClientHello, or to the HEAD
clock = time.monotonic


def detect(fd: int | None, request: Measure) -> Measure:
    """``request`` with its protocol found out: "https", "http" or "tcp" (anything else)."""
    where = Where(fd, request.address, request.port)
    mss = mss_of(6 if where.family == 6 else 4, SENTINEL)
    host = request.host or request.address
    order = ("tcp", "https", "http") if request.port not in (443, 8443, 80, 8080) else ("https", "http", "tcp")
    found, used = "tcp", 0
    for protocol in order:
        used += 1
        talk = Talk(Script(protocol=protocol, host=host, sni=request.sni), SENTINEL, plain=True)
        wait = BANNER_WAIT if protocol == "tcp" else ANSWER_WAIT
        conn = converse(where, talk, mss, clock() + wait, quiet=0.0 if protocol == "tcp" else None)
        if conn.track.connected is None:
            break  # nothing to talk to: the measurement itself will say how
        if protocol == "tcp" and talk.banner:
            break
        if protocol == "https" and (talk.tls == "ok" or talk.alert_kind in ("alert", "certificate")):
            found = "https"
            break
        if protocol == "http" and talk.http.isdigit():
            found = "http"
            break
    return msgspec.structs.replace(request, protocol=found, connections_total=request.connections_total - used)
