"""A platform's setting as its makers document it, where no run of that platform has shown that it does what they say.

Why a kind of its own: a setting that is refused, ignored or renamed costs somebody a day, and looks like ours. What was
tried (the platform's own parser took the edit, and the device then showed the MTU) may be done by us; everything else
is a line for a person, who is told that it is one, and where it was read.
"""

from collections.abc import Sequence

from pathfit.core.finding import Facts, FileEdit, Fix, Lasts
from pathfit.core.net import Point
from pathfit.remedies.base import Argv
from pathfit.rules.places import place_text


def documented(
    id_: str,
    title: str,
    platform: str,
    *,
    source: str,
    where: Point,
    value: int | None = None,
    effective: int | None = None,
    lasts: Lasts = "permanent",
    commands: Sequence[Argv] = (),
    files: Sequence[FileEdit] = (),
    undo: Sequence[Argv] = (),
    interrupts: Sequence[str] = (),
    facts: Facts | None = None,
) -> Fix:
    """A repair for a person to make, marked as not tried.

    ``title``: a message id. ``source``: the document or file that says so and the version it was read of, as "docs of
    antrea, antrea-agent.conf, 2.2". ``value`` is what is written, ``effective`` the IP MTU (bytes) that containers get;
    None where it is no MTU that is set.
    """
    return Fix(
        id=id_,
        title=title,
        platform=platform,
        value=value,
        effective=effective,
        applicability="manual",
        lasts=lasts,
        interrupts=tuple(interrupts),
        commands=tuple(commands),
        files=tuple(files),
        undo=tuple(undo),
        where=where,
        facts={"place": place_text(where), **(facts or {})},
        untried=True,
        source=source,
    )
