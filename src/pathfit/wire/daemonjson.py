"""What dockerd's daemon.json asks for, as far as a rule needs it. Source: moby, daemon/config/config.go."""

import msgspec

MOST = 65_535  # bytes an MTU may say


def mtu_of(config: str | None) -> int | None:
    """The ``mtu`` (bytes) of the text of a daemon.json; None when it says none, 0 (the default), or no sense."""
    try:
        told = msgspec.json.decode(config or "{}")
    except (msgspec.DecodeError, RecursionError):
        return None
    value = told.get("mtu") if isinstance(told, dict) else None
    if isinstance(value, bool) or not isinstance(value, int):
        return None  # "1400" in quotes: the daemon does not start with it (json: cannot unmarshal string)
    return value if 0 < value <= MOST else None
