"""What every answer of the world can be instead of an answer."""

from pathfit.core.base import Tagged

AS_ROOT = "run as root (sudo pathfit …)"  # how to get what is missing for want of rights; render/command.py types it


class Missing(Tagged, frozen=True, kw_only=True):
    """Something we could not see. ``what`` was wanted, ``why`` it is not there, ``how`` to get it (a line to type).

    ``code``: "permission", "absent", "unsupported", "vanished", "timeout", "malformed", "limit",
    "disturbed" (it was seen, but somebody changed it while we looked).
    """

    what: str
    why: str
    how: str = ""
    code: str = "absent"
    ref: str = ""
