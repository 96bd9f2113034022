"""An engine's answers over its socket: JSON documents, and what is wrong with those that are none."""

import msgspec

from pathfit.host.unixhttp import Client


def document(client: Client, path: str) -> object:
    """The document at a path. Raises OSError, Late, ValueError."""
    answer = client.get(path)
    if answer.status != 200:
        raise ValueError(f"{path.partition('?')[0]}: it answers {answer.status}")
    return decoded(answer.body)


def decoded(body: bytes) -> object:
    """A JSON document. Raises ValueError."""
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as e:
        raise ValueError(f"its answer is no JSON ({e})") from None
