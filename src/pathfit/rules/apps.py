"""What wears the mask of a network fault and is none: applications, certificates, proxies."""

from collections.abc import Iterable

from pathfit.core.finding import Facts, Finding, Severity
from pathfit.model import proxies
from pathfit.rules.base import found, line
from pathfit.rules.ends import ends_at
from pathfit.rules.resets import untranslated
from pathfit.rules.view import View

UNKNOWN_ISSUER = ("self-signed", "self signed", "issuer certificate")  # X509_verify_cert_error_string(3)
SENTINEL = 576  # bytes: a size at which silence cannot be a size fault (RFC 791: every host must accept it)


def target_silent(view: View) -> Iterable[Finding]:
    """The target takes the request and says nothing, at any size.

    Why it hurts: it hangs exactly like a black hole, but no MTU will help.
    Example: a process that accepts and is stuck before it reads; a thread pool that is used up.
    Repair: look at the application.
    Severity: error when confirmed; otherwise a warning, and the verdict is "unknown": a slow application, or a box
    that ends connections on its behalf, looks the same.
    Possible: never said.
    Likely: handshake and request were acknowledged, and nothing came back even where answers were bounded to 576
    bytes.
    Confirmed: besides, the target's own socket is visible and our request lies there unread.
    References: tcp(7); sock_diag(7) idiag_rqueue.
    """
    c = view.contact
    if c is None or c.tcp != "ok" or not c.acked or c.answered or view.holes or untranslated(view):
        return
    if ends_at(view)[0] == "local-proxy":
        return  # it was the proxy that took the request; the target may never have seen it
    quiet = [a for a in (view.probe.attempts if view.probe else ()) if a.outcome == "silent"]
    small = [a for a in quiet if a.size <= SENTINEL]
    heard = any(a.got for a in (view.probe.attempts if view.probe else ()))
    if heard or not small:
        return
    unread = [(ref, s) for ref, s in view.target_sockets if s.rqueue > 0]
    facts: Facts = {"target": view.target_label, "port": c.port, "smallest": min(a.size for a in small)}
    lines = [line(view.ref, "silent-at-all-sizes", smallest=min(a.size for a in small), times=len(quiet))]
    if unread:
        ref, s = unread[0]
        facts["case"], facts["unread"] = "unread", s.rqueue
        facts["process"] = s.process or "-"
        lines.append(line(ref, "unread", count=s.rqueue, process=s.process or "-"))
    yield found(
        "APP801", "error" if unread else "warning", "confirmed" if unread else "likely", view.edge, facts, *lines
    )


def tls_alert(view: View) -> Iterable[Finding]:
    """TLS ends with an alert, a certificate that is not trusted, or something that is no TLS.

    Why it hurts: the client gives up; the packets themselves are fine.
    Example: a self-signed certificate, a missing client certificate, plain HTTP on port 443.
    Repair: in the TLS configuration of either side.
    Severity: warning (exit 0): the network carries it. Info when only the issuer is unknown here.
    Possible: the issuer is not among the roots of this machine; the asking side may know it (a company's own root).
    Likely: never said.
    Confirmed: the alert was seen, or a certificate that nobody can accept (expired, another name).
    References: RFC 8446 section 6; RFC 5280 section 6.
    """
    c = view.contact
    if c is None or (c.tls != "failed" and c.alert_kind is None):
        return
    kind = c.alert_kind if c.alert_kind in ("alert", "certificate", "garbage", "closed") else "alert"
    if kind == "certificate" and any(words in (c.alert or "") for words in UNKNOWN_ISSUER):
        facts: Facts = {"case": "issuer", "target": view.target_label, "alert": c.alert}
        yield found("APP802", "info", "possible", view.edge, facts, line(view.ref, "tls", alert=c.alert))
        return
    facts = {"case": kind, "target": view.target_label, "alert": c.alert or "-"}
    yield found("APP802", "warning", "confirmed", view.edge, facts, line(view.ref, "tls", alert=c.alert or kind))


def http_error(view: View) -> Iterable[Finding]:
    """The server answers with an HTTP error, or with something that is no HTTP.

    Why it hurts: the asked page does not come; the path is fine, for the answer came.
    Example: 502 from a proxy whose backend is down; 404 for a wrong path.
    Repair: at the server, or the URL.
    Severity: warning (exit 0).
    Possible: never said.
    Likely: never said.
    Confirmed: the answer was seen.
    References: RFC 9110 section 15.
    """
    c = view.contact
    if c is None or proxies.unfollowed(view.ask, view.place):
        return  # what a proxy says to a request that was not meant for it is no news
    if not (c.http == "garbage" or (c.http.isdigit() and int(c.http) >= 400)):
        return
    facts: Facts = {"target": view.target_label, "status": c.http}
    facts["case"] = "garbage" if c.http == "garbage" else "status"
    yield found("APP803", "warning", "confirmed", view.edge, facts, line(view.ref, "http", status=c.http))


def proxy_in_path(view: View) -> Iterable[Finding]:
    """Somebody between ends the connection: a proxy, a sidecar, a balancer.

    Why it hurts: what was measured is the path up to there; the path behind it may be another story.
    Example: HTTPS_PROXY in the container's environment; a service mesh that redirects every connection; all_proxy with
    a SOCKS proxy, through which nothing is sent here.
    Repair: none needed; measure from the proxy, or with `--proxy none`.
    Severity: info; a local proxy is a warning, since the asked target was not measured at all.
    Possible: never said.
    Likely: the handshake and the echo come from different distances.
    Confirmed: the environment names the proxy, or state shows the redirection.
    References: RFC 9110 section 3.7; curl(1) ENVIRONMENT; nft(8) redirect.
    """
    where, why = ends_at(view)
    if where not in ("local-proxy", "terminator") or view.contact is None:
        return
    sure = why in ("environment", "redirect")
    facts: Facts = {"case": why, "ends_at": where, "target": view.target_label, "proxy": view.address}
    severity: Severity = "warning" if where == "local-proxy" else "info"
    named = proxies.proxy(view.ask, view.place)
    if named is not None and why == "environment":
        facts.update({"said": named.said, "scheme": named.scheme})
        facts["case"] = "environment" if named.scheme == proxies.FOLLOWED else "not-followed"
    seen = line(view.ref, "ends", ends_at=where, why=why)
    yield found("APP804", severity, "confirmed" if sure else "likely", view.edge, facts, seen)
