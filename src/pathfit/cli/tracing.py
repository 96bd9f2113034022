"""`trace`: measure one path while every point of it is watched, and say where packets got lost, and why."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pathfit.cli import saved
from pathfit.cli.examining import live
from pathfit.cli.stop import CANNOT, Stop
from pathfit.cli.talk import Talk, readers_may_leave, style
from pathfit.core.case import Case
from pathfit.core.evidence import TraceFact
from pathfit.words.render import say

if TYPE_CHECKING:
    from pathfit.core.followed import Followed

STATUS = {"arrives": 0, "lost": 1, "unknown": 3}


def trace(source: str, to: str, file: Path | None, o: dict[str, Any]) -> int:
    """Trace, print, write the packets; returns the exit status. Raises Stop."""
    from pathfit.cli import options

    look = style(o["lang"])
    ask = options.ask("trace", source, to, look.lang, o)
    key = redaction(o)
    with saved.prepared(o["save"]):
        case = live(ask, quiet=o["as_json"] and not o["verbose"], verbose=o["verbose"])
        if key:
            from pathfit.follow.redacted import redacted

            case = redacted(case, key)
        return conclude(case, look, file, o)


def redaction(o: dict[str, Any]) -> bytes:
    """The key that pseudonyms are made from, empty where nothing is redacted. Raises Stop."""
    from pathfit.cli.snapshots import key

    return key(o.get("redact", False), o.get("redact_key"))


def conclude(case: Case, look: Any, file: Path | None, o: dict[str, Any]) -> int:
    """What a finished case means, printed; its packets written. Returns the exit status."""
    from pathfit.follow import followed

    seen = followed(case)
    show(seen, case, look, file, o)
    if o["save"]:
        from pathfit.cli.examining import documents, reported

        saved.save(o["save"], case, *documents(reported(case)))
        Talk().remark(f"saved in {o['save']}")
    return STATUS[seen.verdict]


def show(seen: "Followed", case: Case, look: Any, file: Path | None, o: dict[str, Any]) -> None:
    """Print, and write the packets where that is asked for. Raises Stop."""
    from pathfit.render import followed as text
    from pathfit.render import followed_files as files

    fact = next(iter(case.all(TraceFact)), None)
    with readers_may_leave():
        if o["as_json"]:
            sys.stdout.flush()
            sys.stdout.buffer.write(files.document(seen))
        else:
            sys.stdout.write(
                text.render(seen, lang=look.lang, width=look.width, colour=look.colour, ascii_only=look.ascii)
            )
    if file is not None and fact is not None:
        try:
            file.write_bytes(files.packets(seen, fact))
        except OSError as e:
            raise Stop(f"{file}: {e.strerror}", "-w /tmp/packets.pcapng", CANNOT) from None
        Talk().remark(
            say("trace.written", {"count": len(fact.seen), "points": len(fact.taps), "path": str(file)}, look.lang)
        )
