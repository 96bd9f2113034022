"""Who ends the measured connection? Reported as ``ends_at``; never guessed."""

from typing import Literal

from pathfit.core.net import hops_away
from pathfit.core.path import Translated
from pathfit.core.request import Measure
from pathfit.model import proxies
from pathfit.rules.view import View

UNHEARD_REPEATS = 2  # of one request: each may be lost once by chance, not all of them on all connections
Ends = Literal["target", "local-proxy", "terminator", "unknown"]


def ends_at(view: View) -> tuple[Ends, str]:
    """(who, why). ``why``: environment, redirect, distance, visible, same-distance, or unknown.

    * an HTTP proxy that the asked client would use ends it ("local-proxy": not the target, wherever it stands);
    * a redirection to the source's own namespace (sidecar) as well;
    * a SYN-ACK from another distance than the echo reply of the same address comes from another machine;
    * the target's namespace being visible, or equal distances, say that it is the target.
    """
    c = view.contact
    if c is None:
        return "unknown", "unknown"
    asked = [x.request for x in view.case.exchanges if isinstance(x.request, Measure)]
    if any(m.proxy for m in asked) or proxies.unfollowed(view.ask, view.place):
        return "local-proxy", "environment"
    way = view.predicted_forward
    if way is not None and view.source is not None:
        here = {a.address for a in view.source.addresses}
        moved = [s for h in way.hops for s in h.steps if isinstance(s, Translated) and s.kind in ("dnat", "redirect")]
        if any(s.after.dst in here and s.before.dst not in here for s in moved):
            return "local-proxy", "redirect"
    if view.target is not None:
        return "target", "visible"
    if c.synack_ttl is None or c.echo_ttl is None:
        return "unknown", "unknown"
    if hops_away(c.synack_ttl) != hops_away(c.echo_ttl):
        return "terminator", "distance"
    return "target", "same-distance"


def unheard(view: View) -> bool:
    """The connection opens, and then nothing we say is acknowledged, however small the packets: no connection got
    anything back, and each sent its request again at least twice."""
    c = view.contact
    if c is None or c.tcp != "ok" or c.acked or c.answered or view.holes or view.probe is None:
        return False
    stood = [a for a in view.probe.attempts if a.method == "tcp-maxseg" and a.outcome not in ("timeout", "aborted")]
    mute = [a for a in stood if a.outcome == "unacked" and a.retrans >= UNHEARD_REPEATS]
    return len(mute) >= 2 and len(mute) == len(stood)
