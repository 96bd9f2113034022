"""`pathfit map`: read this machine (or saved snapshots), predict the asked path, draw."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pathfit.cli import options, placing
from pathfit.cli import target as grammar
from pathfit.cli.output import put
from pathfit.cli.snapshots import open_all
from pathfit.cli.stop import CANNOT, OR, Stop, line
from pathfit.cli.talk import Style, Talk, style
from pathfit.core.ask import Target
from pathfit.core.evidence_base import Missing
from pathfit.core.finding import Finding
from pathfit.core.net import TCP, UDP
from pathfit.core.path import Predicted
from pathfit.core.snapshot import HostSnapshot
from pathfit.model.network import Net, Network

FORMATS = {".html": "html", ".htm": "html", ".json": "json", ".txt": "text"}
MOST_ADDRESSES = 8  # of a target's that are tried


class _Asked(NamedTuple):
    """What was read, and which namespace (id) each WHERE was that was opened live."""

    network: Network
    hosts: list[HostSnapshot]
    opened: dict[str, str]


def draw(o: dict[str, Any]) -> int:
    """The map, on stdout or in a file; returns the exit status. Raises Stop."""
    out: Path | None = o["output"]
    kind = _format(out, o["format"], as_json=o["as_json"])
    source = grammar.where(o["source"]) if o["source"] else ""
    if source and not o["to"]:
        raise Stop("--from needs a target: where the traffic goes", "--to 203.0.113.1")
    goal = grammar.target(o["to"]) if o["to"] else None
    if goal is not None and goal.host and not grammar.is_address(goal.host):
        raise Stop(
            f"a map asks no name server: '{goal.host[:60]}' is a name, not an address",
            OR.join((line("getent", "ahosts", goal.host), "--to 203.0.113.1")),
        )
    look = style(o["lang"])
    missing: list[Missing] = []
    opened: dict[str, str] = {}
    if o["inputs"]:
        hosts, missing = open_all(o["inputs"])
    else:
        hosts, opened = _live(source or "host", goal, quiet=o["as_json"], timeout=options.seconds(o["timeout"]))
    asked = _Asked(Network.of(*hosts), hosts, opened)
    ways = _ways(asked, source or "host", goal) if goal is not None else None
    from pathfit.render.map.build import build

    words = (source or "host", goal.text) if goal is not None else ("", "")
    found = _findings(hosts)
    drawn = build(asked.network, hosts, asked=words, ways=ways, findings=found, missing=missing)
    _put(out, kind, drawn, look)
    return 0


def _format(out: Path | None, asked: str | None, *, as_json: bool) -> str:
    """What to write: as asked, by the file's name, text on stdout. Raises Stop (2)."""
    if as_json and asked not in (None, "json"):
        raise Stop(f"--json and --format {asked} exclude each other", "without --json")
    asked = "json" if as_json else asked
    if out is None or str(out) == "-":
        if out is not None and asked is None:
            raise Stop("-o - needs --format: a name would have told it", "--format html")
        return asked or "text"
    kind = asked or FORMATS.get(out.suffix.lower())
    if kind is None:
        raise Stop(f"'{out.name[:40]}' does not say what to write: .html, .json or .txt", "pathfit map -o map.html")
    return kind


# --- what is there ---------------------------------------------------------------------------------------------------


def _live(
    source: str, goal: Target | None, *, quiet: bool, timeout: float
) -> tuple[list[HostSnapshot], dict[str, str]]:
    """This machine, and which namespace (id) each asked WHERE is. Raises Stop."""
    if not sys.platform.startswith("linux"):
        raise Stop("only Linux can be read live", "pathfit map --in host.json", CANNOT)
    from pathfit.host.alarm import Late, alarm
    from pathfit.observe.kernel import Observer

    talk = Talk(quiet=quiet)
    talk.progress("reading namespaces")
    try:
        with alarm(timeout), contextlib.ExitStack() as files:
            asked = {source: "--from"} | ({goal.where: "--to"} if goal is not None and goal.where else {})
            handles = {where: files.enter_context(_located(where, option)) for where, option in asked.items()}
            state = Observer(handles[source]).state("map", "all", "survey")
            return [state.host], {where: handle.id for where, handle in handles.items()}
    except Late as e:
        raise Stop(str(e), f"--timeout {min(options.LONGEST, max(60, timeout * 4)):g}", CANNOT) from None
    finally:
        talk.clear()


@contextlib.contextmanager
def _located(where: str, option: str) -> Iterator[Any]:
    """An open handle of a WHERE. Raises Stop (3) with a line to type."""
    from pathfit.observe.places import locate
    from pathfit.render import command

    found = locate(where, "map")
    if isinstance(found, Missing):
        how = [x.replace("--from ", f"{option} ", 1) for x in found.how.split(command.OR) if x]
        again = line("sudo", "pathfit", *sys.argv[1:])
        typed = [again if command.AS_ROOT in x else x for x in how]
        raise Stop(f"{found.what}: {found.why}", OR.join(typed) or "pathfit map", CANNOT)
    try:
        yield found[0]
    finally:
        found[0].close()


def _findings(hosts: list[HostSnapshot]) -> list[Finding]:
    """What `scan` finds on each of them, as far as it is more than a remark."""
    from pathfit import survey

    return [f for host in hosts for f in survey.judge(host).findings if f.severity != "info"]


# --- the path --------------------------------------------------------------------------------------------------------


def _ways(asked: _Asked, source: str, goal: Target) -> tuple[Predicted, Predicted]:
    """The predicted path, both ways; of several addresses of a namespace the first that is reached. Raises Stop."""
    from pathfit.model.walk import predict_both

    network = asked.network
    net = _net(asked, source, "--from")
    proto = UDP if goal.protocol == "udp" else TCP
    if goal.host:
        return predict_both(network, net.key, goal.host, proto=proto, dport=goal.port)
    there = _net(asked, goal.where or "", "--to")
    addresses = sorted(placing.addresses(there), key=lambda a: ":" in a)
    if not addresses:
        raise Stop(f"{goal.where} has no address to go to", "--to 203.0.113.1", CANNOT)
    tried = []
    for address in addresses[:MOST_ADDRESSES]:
        both = predict_both(network, net.key, address, proto=proto, dport=goal.port)
        last = both[0].hops[-1].where if both[0].hops else None
        if last is not None and network.at(last) is there and both[0].complete:
            return both
        tried.append(both)
    return tried[0]


def _net(asked: _Asked, where: str, option: str) -> Net:
    """The namespace of a WHERE: as it was opened, or as the snapshots call it. Raises Stop (2, 3)."""
    network = asked.network
    opened = network.nets.get(asked.opened.get(where, ""))
    if opened is not None:
        return opened
    return placing.place(network, asked.hosts, where, "is not on the map", lambda x: f"{option} {x}")


# --- out -------------------------------------------------------------------------------------------------------------


def _put(out: Path | None, kind: str, drawn: Any, look: Style) -> None:
    """Write the map. Raises Stop (3)."""
    from pathfit.render.map.speech import counts
    from pathfit.words.render import say

    to_file = out is not None and str(out) != "-"
    data = _rendered(kind, drawn, look, to_file=to_file)
    put(str(out or "-"), data, line("ls", "-ld", out.parent) if out else "")
    if not to_file:
        return
    spaces, devices = counts(drawn, look.lang)
    size = f"{max(1, len(data) // 1000)} kB"
    Talk().remark(say("map.written", {"path": out, "spaces": spaces, "devices": devices, "size": size}, look.lang))


def _rendered(kind: str, drawn: Any, look: Style, *, to_file: bool) -> bytes:
    if kind == "json":
        from pathfit.render.map import document

        return document.dump(drawn)
    if kind == "html":
        from pathfit.render.map import page

        return page.render(drawn, lang=look.lang).encode()
    from pathfit.render.map import text
    from pathfit.words.render import say

    more = "" if to_file else say("map.next-file", {}, look.lang)
    made = text.render(
        drawn, lang=look.lang, width=80 if to_file else look.width, colour=look.colour and not to_file,
        ascii_only=look.ascii and not to_file, more=more,
    )  # fmt: skip
    return made.encode()
