"""How much of what politeness allows each address of a target may have (probing.md 12). Pure.

The limits hold for all addresses together. The first is the one the asked client would take: it may use nearly all.
The others are measured in full as long as something is left that suffices, then looked in on by one or two
connections, then left out; and nobody waits for addresses longer than for the answer.
"""

from typing import NamedTuple

PUBLIC, OTHERS = 24, 120  # connections in all: towards addresses that are routed between owners, and towards others
PUBLIC_AT_ONCE, AT_ONCE = 4, 14
AFTERWARDS = 3  # of the public ones: for the certificate, the places on the way, and the trial of a repair
ENOUGH = 7  # connections by which a way that carries all is seen to do so, and the way out to the byte
EVEN, FEW_EVEN = 12, 5  # connections at the promised size before a path is called even; where others need some, too
GLANCE = 2  # connections that show how the asked client would fare
KEPT = 3 * GLANCE  # of the first address's share, for a look at some others
FULL, MOST = 8, 16  # addresses measured in full, and addresses looked at in all
FULL_TIME, ALL_TIME = 0.4, 0.6  # parts of the whole time after which no further address is measured in full, or at all


class Share(NamedTuple):
    """What one address gets: ``total`` connections, ``at_once`` of them, whether only a contact is made, and how many
    connections at the promised size are to show that the path is even."""

    total: int
    at_once: int
    contact_only: bool
    even: int = EVEN


def share(n: int, more: int, *, public: bool, spent: int, took: float, timeout: float) -> Share | None:
    """For address number ``n`` (from 0), ``more`` behind it; None: it is left out.

    ``spent`` connections and ``took`` seconds went to those before it, of ``timeout`` seconds for everything.
    """
    all_of, at_once = (PUBLIC, PUBLIC_AT_ONCE) if public else (OTHERS, AT_ONCE)
    even = FEW_EVEN if public and (more or n) else EVEN
    if n == 0:
        return Share(all_of - (min(KEPT, GLANCE * more) if public else 0), at_once, False, even)
    left = all_of - spent - (AFTERWARDS if public else 0)
    if n >= MOST or left < GLANCE or took > ALL_TIME * timeout:
        return None
    full = n < FULL and left >= ENOUGH and took <= FULL_TIME * timeout
    return Share(left if full else GLANCE, at_once, not full, even)
