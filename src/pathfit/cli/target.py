"""The grammar of WHERE and TARGET (CONTRACT), pure: text in, value out, or a :class:`Stop` that says what to type.

::

    WHERE   host | netns:NAME | netns:/path | pid:N | container:NAME | docker: podman: containerd: NAME
            | network:NAME | pod:NAMESPACE/NAME | HOST!WHERE
            NAME of a container may be OUTER/NAME: of the engine that runs in the container OUTER
    TARGET  https://H[:P][/path] | http://… | tcp://H:P | udp://H:P[/NAME[/TYPE]] | H:P | [v6]:P | H | WHERE[:PORT]

NAME and TYPE of a record: what to ask a DNS server for, where its large answers are in question.
A target without a port is examined by echo and UDP alone (protocol "icmp"); H:P is "any": find out what it speaks.
Names are checked for shape only (RFC 1123, underscores allowed); whether they resolve is the world's business.
"""

import re
from ipaddress import IPv6Address, ip_address

from pathfit.cli.stop import Stop
from pathfit.core.ask import Protocol, Target
from pathfit.core.net import endpoint

KINDS = ("netns", "pid", "container", "docker", "podman", "containerd", "network", "pod")
NESTED = ("container", "docker", "podman", "containerd")  # OUTER/NAME: of the engine in the container OUTER
DEEPEST = 16  # nobody nests so far
LONGEST_PLACE = 4096  # PATH_MAX
LONGEST_TARGET = 8000  # RFC 9110 section 4.1: what every server and proxy on the way should take
DEFAULT_PORT = {"https": 443, "http": 80}
_LABEL = r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\Z"  # compiled when first used, and kept (re.match)
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)\Z", re.DOTALL)
_WHERE_NAME = r"[A-Za-z0-9][A-Za-z0-9_.@+-]*\Z"
# IDNA 2003 (the codec) and 2008 (what registries use) read these four differently: RFC 5894 section 7.2
_DEVIATE = "ß\u03c2\u200c\u200d"
_SAFE = frozenset(b"!#$%&'()*+,/:;=?@[]~-._ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789")


def where(text: str, option: str = "--from") -> str:
    """A WHERE, checked for shape. Raises Stop (2) with a line to type."""
    if len(text) > LONGEST_PLACE or any("\ud800" <= c <= "\udfff" for c in text):
        why = "it is not UTF-8" if len(text) <= LONGEST_PLACE else f"it has {len(text)} characters"
        raise Stop(f"{_q(text)} cannot be a place: {why}", f"{option} pid:1234")
    kind, colon, name = text.rpartition("!")[2].partition(":")
    far, bang, near = text.rpartition("!")
    if bang:
        if not re.match(_WHERE_NAME, far):
            raise Stop(f"{_q(text)}: no host name before the '!'", f"{option} HOST!{near or 'host'}")
        return f"{far}!{where(near, option)}"
    if text == "host":
        return text
    if not colon:
        shown = text if re.match(_WHERE_NAME, text) else "NAME"
        raise Stop(
            f"{_q(text)} is no place: say what kind of place it is",
            f"{option} container:{shown}   or   {option} netns:{shown}",
        )
    if kind not in KINDS:
        shown = name if re.match(_WHERE_NAME, name) else "NAME"
        raise Stop(
            f"{_q(text)}: a place cannot begin with {_q(kind + ':')}",
            f"{option} container:{shown}   or   {option} netns:{shown}",
        )
    _check_place(text, kind, name, option)
    return text


def _check_place(text: str, kind: str, name: str, option: str) -> None:
    if not name:
        raise Stop(f"{_q(text)}: the name is missing", f"{option} {kind}:{'1234' if kind == 'pid' else 'NAME'}")
    if kind == "pid":
        if not (name.isascii() and name.isdigit() and 0 < int(name) < 1 << 22):  # PID_MAX_LIMIT, linux/threads.h
            raise Stop(f"{_q(text)}: a process number is 1 to 4194303", f"{option} pid:1234")
        return
    if kind == "netns":  # a file of any name below /run/netns, or a path
        if "\0" in name or (not name.startswith("/") and ("/" in name or name in (".", ".."))):
            raise Stop(f"{_q(text)}: {_q(name)} cannot be the name of a namespace", "ip netns list")
        return
    if kind == "pod":
        space, slash, pod = name.partition("/")  # of Podman, or where one namespace has it: the name alone
        if not (re.match(_WHERE_NAME, space) and (re.match(_WHERE_NAME, pod) or not slash)):
            raise Stop(f"{_q(text)}: a pod is NAMESPACE/NAME", f"{option} pod:default/{pod or space or 'NAME'}")
        return
    parts = name.split("/") if kind in NESTED else [name]
    if len(parts) > DEEPEST or not all(re.match(_WHERE_NAME, part) for part in parts):
        raise Stop(f"{_q(text)}: {_q(name)} cannot be a name", f"{option} {kind}:NAME")


def target(text: str, option: str = "--to") -> Target:
    """A TARGET. User names and passwords are taken out of ``text`` as well. Raises Stop (2) with a line to type."""
    if not text or text != text.strip() or any(ord(c) < 33 or ord(c) == 127 for c in text):
        raise Stop(f"{_q(text)}: a target is one word without blanks", f"{option} https://example.org/")
    if len(text) > LONGEST_TARGET:
        raise Stop(f"{_q(text)}: a target of {len(text)} characters", f"{option} https://example.org/")
    scheme = _SCHEME.match(text)
    if scheme:
        return _url(scheme[1].lower(), scheme[2], option)
    if _is_place(text):
        return _place(text, option)
    if text.startswith("/") or "/" in text:
        raise Stop(f"{_q(text)}: a path needs a scheme in front", f"{option} https://{text.lstrip('/')}")
    name, port = _host_port(text, option)
    return Target(text=text, protocol="any" if port else "icmp", host=name, port=port or 0)


def _is_place(text: str) -> bool:
    head = text.partition(":")[0]
    return "!" in text or text == "host" or (":" in text and (head in KINDS or head == "host"))


def _place(text: str, option: str) -> Target:
    place, port = text, 0
    head, colon, last = text.rpartition(":")
    if colon and last.isascii() and last.isdigit() and head.rpartition("!")[2] not in KINDS:
        place, port = head, _port(last, text, option)
    elif colon and last.isascii() and last.isdigit() and head in ("docker", "podman", "containerd"):
        raise Stop(
            f"{_q(text)} could be the host {head}, port {last}, or the {head} container {last}",
            f"{option} tcp://{text}   or   {option} container:{last}",
        )
    return Target(text=text, protocol="any" if port else "icmp", port=port, where=where(place, option))


def _url(scheme: str, rest: str, option: str) -> Target:
    if scheme not in ("https", "http", "tcp", "udp"):
        host = re.split(r"[/?#]", rest, maxsplit=1)[0] or "example.org"
        meant = "https" if scheme[:1] == "h" else "tcp"  # htps, hhtp, httpss
        typed = f"{option} {meant}://{host.rpartition('@')[2]}{'' if meant == 'https' else ':PORT'}"
        raise Stop(f"'{scheme}://' is no protocol pathfit knows", typed)
    authority, path = rest, ""
    cut = re.search(r"[/?#]", rest)
    if cut:
        authority, path = rest[: cut.start()], rest[cut.start() :]
    authority = authority.rpartition("@")[2]  # RFC 3986 section 3.2.1: credentials are nobody's business
    if not authority:
        raise Stop(f"{_q(scheme + '://' + rest)}: the host is missing", f"{option} {scheme}://example.org/")
    name, port = _host_port(authority, option)
    path = _path(path.partition("#")[0])
    if scheme in ("tcp", "udp"):
        if port is None:
            raise Stop(f"{scheme}:// needs a port", f"{option} {scheme}://{authority}:{53 if scheme == 'udp' else 443}")
        path = _asked_name(path, option) if scheme == "udp" else path
        if path not in ("", "/") and scheme == "tcp":
            raise Stop(f"{scheme}:// has no path", f"{option} {scheme}://{authority}")
        path = path or "/"
    if not path.startswith("/"):
        path = "/" + path
    protocol: Protocol = scheme  # type: ignore[assignment]
    shown = f"{scheme}://{authority}{path if path != '/' or rest.endswith('/') else ''}"
    return Target(text=shown, protocol=protocol, host=name, port=port or DEFAULT_PORT[scheme], path=path)


def _asked_name(path: str, option: str) -> str:
    """What is to be asked of a DNS server: ``/NAME`` or ``/NAME/TYPE``; nothing when nothing was said."""
    name, _, kind = path.strip("/").partition("/")
    if not name:
        return ""
    kind = kind.upper()
    from pathfit.wire.askdns import TYPES

    if kind and kind not in TYPES:
        raise Stop(f"{_q(kind)} is no type of record pathfit asks for", f"{option} udp://192.0.2.53:53/example.org/TXT")
    labels = name.rstrip(".").split(".")
    if len(name) > 253 or not all(re.match(_LABEL, label) for label in labels):
        raise Stop(f"{_q(name)} cannot be a name to ask for", f"{option} udp://192.0.2.53:53/example.org/TXT")
    return f"/{name}/{kind}" if kind else f"/{name}"


def _path(path: str) -> str:
    """Non-ASCII and unsafe bytes percent-encoded (RFC 3987 section 3.1); what is encoded already stays."""
    return "".join(chr(b) if b in _SAFE else f"%{b:02X}" for b in path.encode("utf-8", "surrogateescape"))


def _host_port(text: str, option: str) -> tuple[str, int | None]:
    if text.startswith("["):
        inner, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise Stop(f"{_q(text)}: the bracket of an IPv6 address is not closed", f"{option} [2001:db8::1]:443")
        if ":" not in inner:
            raise Stop(f"{_q(text)}: brackets are for IPv6 addresses", f"{option} {inner}{rest}")
        return host(inner, option), _port(rest[1:], text, option) if rest else None
    if text.count(":") > 1:
        try:
            return str(_address(text, option)), None
        except ValueError:
            raise Stop(
                f"{_q(text)} is no IPv6 address; one with a port stands in brackets", f"{option} [2001:db8::1]:443"
            ) from None
    name, colon, port = text.partition(":")
    if colon and not name:
        raise Stop(f"{_q(text)}: the host is missing", f"{option} example.org{text}")
    return host(name, option), _port(port, text, option) if colon else None


def _port(text: str, whole: str, option: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 9 and 0 < int(text) < 65536):
        shown = whole.removesuffix(text).rpartition("@")[2] + "443"
        raise Stop(f"port {_q(text)} is out of range: 1 to 65535", f"{option} {shown}")
    return int(text)


def _address(text: str, option: str) -> str:
    """A canonical address, or ValueError when ``text`` is none. Raises Stop for one that is no single host."""
    if "%" in text:
        raise Stop(f"{_q(text)}: link-local addresses with a zone cannot be examined", f"{option} [2001:db8::1]:443")
    address = ip_address(text)
    if address.is_unspecified or address.is_multicast or str(address) == "255.255.255.255":
        raise Stop(f"{text} is not the address of one host", f"{option} 192.0.2.1:443")
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        return str(address.ipv4_mapped)
    return str(address)


def host(text: str, option: str = "--to") -> str:
    """A host name in ASCII (IDNA for others) or a canonical address. Raises Stop (2)."""
    try:
        return _address(text, option)
    except ValueError:
        pass
    name = text.rstrip(".") if text.endswith(".") and not text.endswith("..") else text
    if not name.isascii():
        name = _idna(name, option)
    labels = name.split(".")
    if labels[-1].isdigit() or ":" in text:  # RFC 1123 section 2.1: a top label of digits means an address
        raise Stop(f"{_q(text)} is no IP address", f"{option} 192.0.2.1:443")
    if len(name) > 253 or not all(re.match(_LABEL, label) for label in labels):
        raise Stop(f"{_q(text)} cannot be a host name", f"{option} https://example.org/")
    return name.lower()


def is_address(host: str) -> bool:
    """Is a host that :func:`host` has passed an address? No name's last label is digits alone."""
    return ":" in host or host.replace(".", "").isdigit()


def _idna(name: str, option: str) -> str:
    if any(c in name for c in _DEVIATE):
        raise Stop(
            f"{_q(name)}: the two standards for such names disagree; give the xn-- form", f"{option} xn--...:443"
        )
    try:
        return name.encode("idna").decode("ascii")
    except UnicodeError:
        raise Stop(f"{_q(name)} cannot be a host name", f"{option} https://example.org/") from None


def resolve(text: str) -> tuple[str, str]:
    """``--resolve H:ADDR``. Raises Stop (2)."""
    name, colon, address = text.partition(":")
    address = address.removeprefix("[").removesuffix("]")
    try:
        if not (name and colon):
            raise ValueError
        return host(name, "--resolve"), _address(address, "--resolve")
    except ValueError:
        raise Stop(
            f"{_q(text)}: --resolve takes a name and an address", f"--resolve {name or 'example.org'}:192.0.2.1"
        ) from None


def proxy(text: str) -> str:
    """``--proxy URL|none``: "none", or ``http://host:port``. Raises Stop (2)."""
    if text == "none":
        return text
    scheme = _SCHEME.match(text)
    if scheme and scheme[1].lower() != "http":
        raise Stop(f"a proxy is spoken to in http, not {scheme[1].lower()}", "--proxy http://proxy.example.org:3128")
    authority = (scheme[2] if scheme else text).rstrip("/").rpartition("@")[2]
    name, port = _host_port(authority, "--proxy") if authority else ("", None)
    if not name or port is None:
        raise Stop(f"{_q(text)}: a proxy is a host and a port", f"--proxy http://{name or 'proxy.example.org'}:3128")
    return f"http://{endpoint(name, port)}"


def _q(text: str) -> str:
    """``text`` in quotes, shortened, nothing in it that a terminal would obey."""
    shown = text if len(text) <= 60 else text[:57] + "..."
    return "'" + "".join(c if c.isprintable() else repr(c)[1:-1] for c in shown) + "'"
