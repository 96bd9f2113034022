"""`pathfit snapshot`, and the files of others: many are opened, and one that cannot be is told and left out."""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from pathfit import __version__
from pathfit.cli.output import put
from pathfit.cli.stop import CANNOT, Stop, line
from pathfit.cli.talk import Style, Talk, readers_may_leave, style, told
from pathfit.core.evidence_base import Missing
from pathfit.core.snapshot import HostSnapshot
from pathfit.host.clock import wall
from pathfit.observe import recorded
from pathfit.render.layout import clean
from pathfit.words.render import say

MOST_SHOWN = 8  # things not read that are named on stderr; all of them are in the file
LONGEST = 120.0  # seconds; a thousand containers take less than one


def open_all(paths: Sequence[str | Path]) -> tuple[list[HostSnapshot], list[Missing]]:
    """The hosts in files, directories and "-" (standard input), in that order; what could not be opened, and why.

    Raises Stop (3) when nothing at all could be.
    """
    hosts: list[HostSnapshot] = []
    missing: list[Missing] = []
    for path in _named(paths, missing):
        try:
            hosts.append(recorded.load_stdin() if str(path) == "-" else recorded.load_snapshot(path))
        except recorded.OpenError as e:
            missing.append(Missing(what=str(path), why=str(e), how=line("ls", "-l", path), code="malformed"))
    if not hosts:
        if len(missing) == 1:
            raise Stop(f"{missing[0].what}: {missing[0].why}", missing[0].how or "pathfit snapshot -o FILE", CANNOT)
        first = f"; {missing[0].what}: {missing[0].why}" if missing else ""
        raise Stop(f"no snapshot could be opened{first}", "pathfit snapshot -o host.json", CANNOT)
    return hosts, missing


def _named(paths: Iterable[str | Path], missing: list[Missing]) -> list[Path]:
    found: list[Path] = []
    for path in paths:
        try:
            files = recorded.files([path])
        except OSError as e:
            why = f"cannot be listed: {e.strerror}"
            missing.append(Missing(what=str(path), why=why, how=line("ls", "-ld", path), code="permission"))
            continue
        if not files:
            why = f"no snapshot in it ({', '.join('*' + s for s in recorded.SUFFIXES)})"
            missing.append(Missing(what=str(path), why=why, how=line("ls", path)))
        found += files
    return found


def read_this(*, timeout: float = LONGEST) -> HostSnapshot:
    """This machine in full, engines included. Sends no packet. Raises Stop (3)."""
    if not sys.platform.startswith("linux"):
        raise Stop("only Linux can be read; snapshots of it are opened everywhere", "--in FILE", CANNOT)
    from pathfit.host.alarm import Late, alarm
    from pathfit.observe.kernel import Observer

    try:
        with alarm(timeout):
            host = Observer(None).state("snapshot", "all").host
    except Late as e:
        raise Stop(str(e), "pathfit diagnose --to https://example.org/", CANNOT) from None
    except OSError as e:
        raise Stop(f"nothing could be read: {e.strerror}", "ls -l /proc/self/ns/net", CANNOT) from None
    return replace(host, version=__version__)


def snapshot(output: str, redacted: bool, key_file: Path | None, o: dict[str, Any]) -> int:
    """Read this machine and write one file; returns the exit status. Raises Stop."""
    look = style(o["lang"])
    if output == "-" and o["as_json"]:
        raise Stop("the snapshot and the summary cannot both stand on stdout", "pathfit snapshot -o host.json --json")
    secret = key(redacted, key_file)
    host = read_this()
    summary = _summary(host, output, redacted=redacted)
    if redacted:
        from pathfit.core.redact import redact

        host = redact(host, secret)
    data = recorded.pack(replace(host, taken=round(wall(), 3)), compress=output.endswith(".gz"))
    put(output, data, "pathfit snapshot -o ./host.json")
    _tell(summary, look)
    if o["as_json"]:
        _json(summary)
    return CANNOT if summary["namespaces"] == 0 else 0


def key(redacted: bool, path: Path | None) -> bytes:
    """What pseudonyms are made from: fresh for each file, or kept in a file so that several files agree; empty where
    nothing is redacted. Raises Stop."""
    import os

    if path is not None and not redacted:
        raise Stop("--redact-key says how to redact", "--redact")
    if not redacted:
        return b""
    if path is None:
        return os.urandom(32)
    try:
        data = path.read_bytes()[:4096] if path.is_file() else b""
    except OSError as e:
        raise Stop(f"cannot read {path}: {e.strerror}", line("ls", "-l", path), CANNOT) from None
    if len(data) < 16:
        what = "is not a file" if not path.is_file() else f"has {len(data)} bytes; a key has at least 16"
        raise Stop(f"{path} {what}", line("openssl", "rand", "-out", path, "32"))
    return data


def _summary(host: HostSnapshot, output: str, *, redacted: bool) -> dict[str, Any]:
    missing = [*host.missing, *(m for n in host.namespaces for m in n.missing)]
    return {
        "schema": "pathfit.snapshot-summary/1",
        "version": __version__,
        "file": output,
        "redacted": redacted,
        "host": host.host,
        "complete": host.complete,
        "namespaces": len(host.namespaces),
        "containers": sum(len(e.containers) for e in host.engines),
        "engines": [{"kind": e.kind, "version": e.version} for e in host.engines],
        "links": sum(len(n.links) for n in host.namespaces),
        "routes": sum(len(n.routes) for n in host.namespaces),
        "missing": [{"what": m.what, "why": m.why, "how": m.how} for m in dict.fromkeys(missing)],
    }


def _tell(summary: dict[str, Any], look: Style) -> None:
    talk = Talk()
    talk.remark(say("ui.snap-read", summary, look.lang))
    for m in summary["missing"][:MOST_SHOWN]:
        talk.remark(say("ui.snap-missing", m, look.lang))
        if m["how"]:
            told(f"try: {clean(typed(m['how']))}")
    hidden = len(summary["missing"]) - MOST_SHOWN
    if hidden > 0:
        talk.remark(say("ui.snap-more", {"count": hidden}, look.lang))


def typed(how: str) -> str:
    """A way on as a whole line: what wants root is this command with sudo."""
    return "sudo pathfit snapshot -o FILE" if "sudo pathfit" in how else how


def _json(summary: dict[str, Any]) -> None:
    import msgspec

    from pathfit.render.json import visible

    with readers_may_leave():
        sys.stdout.flush()
        sys.stdout.buffer.write(visible(msgspec.json.format(msgspec.json.encode(summary), indent=2)) + b"\n")
