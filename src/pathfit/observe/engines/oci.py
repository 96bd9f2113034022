"""An OCI runtime's config.json as values (pure). Reference: opencontainers/runtime-spec, config.md and config-linux.md.

Only what says who it is and where its network is; the rest (a container's environment among it) is not even kept.
"""

from typing import Any, NamedTuple

import msgspec

from pathfit.observe.engines.parse import rows, table, text

LIMIT = 4 << 20  # bytes of a config.json; those with every seccomp rule have 100 kB


class Spec(NamedTuple):
    """``netns``: the path of the network namespace it was put into; "" when one was made for it; None: its host's."""

    hostname: str = ""
    annotations: dict[str, str] = {}
    netns: str | None = None


class _Linux(msgspec.Struct):
    namespaces: Any = None


class _Config(msgspec.Struct):
    """What is decoded; everything else is passed over unread, which is six times faster."""

    hostname: Any = None
    annotations: Any = None
    linux: _Linux | None = None


def spec(raw: bytes) -> Spec:
    """Raises ValueError for what is no JSON object. Fields of the wrong shape are left out."""
    if len(raw) >= LIMIT:
        raise ValueError(f"it is larger than {LIMIT} bytes")
    try:
        try:
            found = msgspec.json.decode(raw, type=_Config)
            hostname, notes, spaces = found.hostname, found.annotations, found.linux.namespaces if found.linux else None
        except msgspec.ValidationError:
            whole = msgspec.json.decode(raw)
            if not isinstance(whole, dict):
                raise ValueError("it is no JSON object") from None
            hostname, notes = whole.get("hostname"), whole.get("annotations")
            spaces = table(whole.get("linux")).get("namespaces")
    except (msgspec.DecodeError, RecursionError, UnicodeError) as e:
        raise ValueError(f"it is no JSON ({e})") from None
    network = next((x for x in rows(spaces) if x.get("type") == "network"), None)
    pairs = list(table(notes).items())[:1000]
    return Spec(
        hostname=text(hostname),
        annotations={k: text(v, 4096) for k, v in pairs if isinstance(v, str)},
        netns=None if network is None else text(network.get("path"), 4096),
    )
