"""What the two ends promise each other, and whether they would hear that it does not fit (pure)."""

from collections.abc import Iterable, Iterator

from pathfit.core.ask import Ask
from pathfit.core.evidence import ProbeResult
from pathfit.core.measured import Attempt, Contact
from pathfit.core.net import Direction

PAIRS = ("udp-pair", "tcp-pair")  # methods that look at both ends


def any_traffic(ask: Ask) -> bool:
    """Is any traffic between two ends of ours asked, and not TCP to one port?"""
    return ask.target.where is not None and not ask.target.port


def promise(contact: Contact, direction: Direction) -> int | None:
    """Largest IP packet that TCP may put on the wire in that direction, bytes; None when not known.

    Inbound it is what our SYN invites (``invited``: as a clamp on the way left it, where both ends are ours). Outbound
    it is what their SYN-ACK invites, but never more than our own device or route lets out (our own promise says that,
    tcp_advmss_sock()).
    """
    said = (contact.promised, contact.invited if direction == "reverse" else contact.offered)
    return min((x for x in said if x is not None), default=None)


def deaf(probe: ProbeResult, direction: Direction, method: str) -> bool:
    """Did each "too big" about packets of ours come in, and none as far as the kernel of that end? With segments of its
    own an end has shown what it does; then nothing needs to be known of that."""
    said = [t for t in probe.too_big if t.ours and t.sane and t.tests == direction]
    return method in PAIRS and bool(said) and not any(t.heard for t in said)


def attempts(
    found: Iterable[Attempt], method: str, outcome: tuple[str, ...], size: int | None, tests: str
) -> Iterator[Attempt]:
    """Those of a method that ended in one of ``outcome``, of one size (None: any), in one direction ("": any)."""
    for a in found:
        if (
            a.method == method
            and a.outcome in outcome
            and size in (None, a.size)
            and (not tests or a.tests in ("", tests))
        ):
            yield a
