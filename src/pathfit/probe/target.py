"""Measure one address, by whatever it is asked to speak: which engine, then its facts."""

from __future__ import annotations

import errno
import socket

from pathfit.core.evidence import Missing, ProbeResult
from pathfit.core.request import Measure
from pathfit.probe.tcp.engine import WITHOUT_TLS, Engine, Witness, clock

SPEAK_NOT = frozenset((515, *range(9100, 9110)))  # raw printing: whatever is said to it ends up on paper
HOW = {errno.EMFILE: "ulimit -n 1024", errno.EPERM: "sudo pathfit …", errno.EACCES: "sudo pathfit …"}


def measure(fd: int | None, request: Measure, witness: Witness | None = None) -> ProbeResult | Missing:
    """Measure ``request.address`` from namespace ``fd`` (None: where we are).

    ``witness`` is called when connections stand and nothing at all has answered, before they are closed: whoever
    reads sockets then sees ours as they hang (a target that does not read; the far half of a local proxy).

    Needs no privileges for the reverse direction; with CAP_NET_RAW in the namespace also the forward one. Returns
    Missing when the request cannot be carried out at all (no such address family, no descriptors left).
    """
    try:
        family = 6 if ":" in request.address else 4
        socket.inet_pton(socket.AF_INET6 if family == 6 else socket.AF_INET, request.address)
    except OSError:
        return Missing(ref=request.ref, what=f"a measurement of {request.address}", why="not an IP address")
    try:
        if request.protocol in ("icmp", "udp") or not request.port:
            from pathfit.probe.udp.engine import measure_datagrams

            return measure_datagrams(fd, request)
        return _measured(fd, request, family, witness)
    except OSError as e:
        return Missing(
            ref=request.ref,
            what=f"a measurement of {request.address}:{request.port}",
            why=e.strerror or str(e),
            how=HOW.get(e.errno or 0, ""),
            code="permission" if isinstance(e, PermissionError) else "unsupported",
        )


def _measured(fd: int | None, request: Measure, family: int, witness: Witness | None) -> ProbeResult:
    """Raises OSError."""
    used = 0
    alone = request.methods == ("tcp-sack",)  # what is sent beside a connection needs no word on it
    if request.protocol in ("any", "tcp") and request.port not in SPEAK_NOT and not request.proxy and not alone:
        from pathfit.probe.tcp.detect import detect

        request, used = detect(fd, request)
    engine = Engine(fd, request, family, witness)
    engine.besides = used
    try:
        engine.run()
        if engine.script.protocol not in WITHOUT_TLS:
            from pathfit.probe.tcp.after import afterwards

            afterwards(engine)
        from pathfit.probe.tcp.outcome import result_of  # not before the first packet

        return result_of(engine, clock())
    finally:
        engine.close()
