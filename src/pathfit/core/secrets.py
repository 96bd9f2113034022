"""What is taken out of whatever is shown or saved: a report and a case folder go to strangers."""

import re

_CREDENTIALS = re.compile(r"(://)[^/\s\"'@]+@")
MASK = "***"


def masked(text: str) -> str:
    """``text`` with the user information of URLs replaced (RFC 3986 section 3.2.1): "http://***@proxy:3128"."""
    return _CREDENTIALS.sub(rf"\1{MASK}@", text)
