"""Which proxy the asked client would use: what its environment says, read as curl reads it (curl(1), ENVIRONMENT).

A proxy that is spoken to in plain HTTP is followed: asked for a tunnel, or for the page. Through one that speaks TLS or
SOCKS nothing is sent; the way to it is measured, and the report says so.
"""

import ipaddress
from typing import NamedTuple

from pathfit.core.ask import Ask
from pathfit.core.evidence import PlaceFact

FOLLOWED = "http"
# Without a port in it (curl: CURL_DEFAULT_PROXY_PORT, CURL_DEFAULT_HTTPS_PROXY_PORT)
PORTS = {"https": 443}
PORT = 1080


class Proxy(NamedTuple):
    """``scheme`` http, https, socks5, …; ``said``: the variable or option that names it."""

    scheme: str
    host: str
    port: int
    said: str


def proxy(ask: Ask, place: PlaceFact | None) -> Proxy | None:
    """The proxy the asked client would use; None when it goes straight, or names none that makes sense."""
    if ask.target.protocol not in ("http", "https") or not ask.target.host or ask.proxy == "none":
        return None
    if ask.proxy is not None:
        return parsed(ask.proxy, "--proxy")
    if place is None:
        return None
    env = place.environ
    said = _chosen(env, f"{ask.target.protocol}_proxy")
    if said is None or excluded(ask.target.host, env.get("no_proxy", env.get("NO_PROXY", ""))):
        return None
    return parsed(env[said], said)


def unfollowed(ask: Ask, place: PlaceFact | None) -> Proxy | None:
    """The proxy the asked client would use and through which nothing is sent."""
    found = proxy(ask, place)
    return found if found is not None and found.scheme != FOLLOWED else None


def _chosen(env: dict[str, str], name: str) -> str | None:
    """The variable that counts. HTTP_PROXY does not: in a CGI it is a header a stranger sent (CVE-2016-5385)."""
    names = [name, "all_proxy", "ALL_PROXY"] if name == "http_proxy" else [name, name.upper(), "all_proxy", "ALL_PROXY"]
    found = next((n for n in names if n in env), None)
    return found if found is not None and env[found].strip() else None


def parsed(text: str, said: str) -> Proxy | None:
    """``[scheme://][user:password@]host[:port][/]``; None for what names no host or no port there is."""
    scheme, sep, rest = text.strip().partition("://")
    scheme, rest = (scheme.lower(), rest) if sep else (FOLLOWED, scheme)
    rest = rest.split("/", 1)[0].rpartition("@")[2]
    host, colon, port = rest.rpartition(":")
    if not colon or rest.endswith("]") or (":" in host and not host.startswith("[")):
        host, port = rest, ""
    host = host.removeprefix("[").removesuffix("]")
    if not host or (port and not (port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) < 65536)):
        return None
    return Proxy(scheme, host, int(port) if port else PORTS.get(scheme, PORT), said)


def excluded(host: str, no_proxy: str) -> bool:
    """Does ``no_proxy`` take this host out? Names and their subdomains, addresses, networks, or ``*``; ports and the
    addresses that names resolve to do not count (curl: Curl_check_noproxy())."""
    name = host.lower().rstrip(".")
    address = literal(host)
    for raw in no_proxy.replace(",", " ").split():
        entry = raw.lower().removeprefix("[").removesuffix("]")
        if entry == "*":
            return True
        if address is not None:
            if _holds(entry, address):
                return True
            continue
        entry = entry.lstrip(".").rstrip(".")
        if entry and (name == entry or name.endswith("." + entry)):
            return True
    return False


def _holds(entry: str, address: str) -> bool:
    try:
        return ipaddress.ip_address(address) in ipaddress.ip_network(entry, strict=False)
    except (ValueError, TypeError):
        return False


def literal(host: str) -> str | None:
    """The host as a canonical address when it is one (a zone like %eth0 is kept), else None."""
    try:
        return str(ipaddress.ip_address(host.strip("[]")))
    except ValueError:
        return None
