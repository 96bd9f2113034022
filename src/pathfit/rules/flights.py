"""First flights: a ClientHello that is too large for the way, or for who reads it."""

from collections.abc import Iterable

import msgspec

from pathfit.core.finding import Facts, Finding
from pathfit.rules.base import found, line
from pathfit.rules.view import SAID, View

WORDS = {"lost": "dropped", "garbage": "alert"}  # which sentence says it, where it is not that of its name


def too_big(view: View) -> Iterable[Finding]:
    """A large ClientHello is not answered where a small one is: TLS ends before it began.

    Why it hurts: since 2024 browsers, Go and OpenSSL send about 1.7 kB (a key share of X25519MLKEM768), which is two
    packets, the first of full size. Older clients beside them send 300 to 500 bytes and work.
    Example: after an update of the client every https:// hangs or is reset; `curl` of the distribution still works.
    Repair: where the way out loses packets of that size, as for MTU102. Where somebody does not bear a ClientHello in
    two packets: update that firewall, balancer or server; until then the client may leave the new group out
    (`GODEBUG=tlsmlkem=0`; `Groups = X25519:P-256` in openssl.cnf).
    Severity: error where it is not borne although packets of its size pass; warning where the way out loses them, which
    is MTU102.
    Possible: never said.
    Likely: never said.
    Confirmed: a ClientHello of 1.7 kB failed alike on three connections, and a small one in each round was answered.
    For the error besides: packets of its size were shown to get out, and a ClientHello of the same length without the
    new key share failed as well, so it is not what the server thinks of that group.
    References: RFC 8446 section 4.1.2; draft-ietf-tls-ecdhe-mlkem; draft-ietf-tls-hybrid-design; RFC 7685.
    """
    flight = view.probe.flight if view.probe is not None else None
    if flight is None or flight.verdict not in ("lost", "intolerant"):
        return
    large = [t for t in flight.tries if t.kind == "large" and t.outcome == flight.how]
    small = [t for t in flight.tries if t.kind == "small" and t.outcome == "answered"]
    facts: Facts = {
        "direction": SAID["forward"],
        "source": view.source_label,
        "target": view.target_label,
        "hello": flight.hello,
        "packet": flight.packet,
    }
    lines = [
        line(view.ref, "flight-large", times=len(large), hello=flight.hello, packet=flight.packet),
        line(view.ref, "flight-small", times=len(small), hello=min((t.hello for t in small), default=0)),
    ]
    if flight.verdict == "lost":
        hole = view.hole_out
        if hole is None or hole.fails > flight.packet:
            return
        facts["limit"] = hole.passes
        finding = found("MTU115", "warning", "confirmed", view.edge, facts, *lines)
        yield msgspec.structs.replace(finding, because=("MTU102",))
        return
    padded = [t for t in flight.tries if t.kind == "padded" and t.outcome == flight.how]
    facts["case"] = WORDS.get(flight.how, flight.how)
    lines.append(line(view.ref, "flight-padded", times=len(padded), packet=flight.packet))
    if flight.split and flight.split != "answered":
        lines.append(line(view.ref, "flight-split"))
    yield found("MTU115", "error", "confirmed", view.edge, facts, *lines)
