"""The commands. Each is a few lines: parse, call, print, choose the status; the work is elsewhere."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from pathfit import __version__
from pathfit.cli import options
from pathfit.cli.lean import File, Group, option, version_option
from pathfit.cli.stop import Stop
from pathfit.cli.talk import usage

if TYPE_CHECKING:
    from pathlib import Path

LATER = ("pcap", "watch", "agent", "hub", "mesh")
EXAMPLES = {  # options that are checked
    "timeout": "--timeout 15",
    "confirm_within": "--confirm-within 60",
    "lang": "--lang en",
    "save": "--save ./case-1",
}
HELP = """Finds out why packets stop fitting on a container's way through the network, and proves it.

\b
  pathfit                                                      every container network here, no packet sent
  pathfit diagnose --from netns:ci --to https://example.org/   one path, both ways, why, and the repair
  pathfit fix --from netns:ci --to https://example.org/        repair it, prove it, undo it when it does not help
  pathfit trace --from netns:ci --to https://example.org/      where it gets lost: every device on the way at once
  pathfit probe https://example.org/                           measure from here only, without privileges
  pathfit matrix network:app                                   every pair of a network's containers, each way
  pathfit predict --in a.json --from container:web --to H:P    what would happen, from a file of `pathfit snapshot`
  pathfit map -o map.html                                      the network of this machine as a picture
  pathfit explain MTU101                                       what a fault code means
  pathfit overhead vxlan+wireguard/1500                        what fits through tunnels in tunnels
  pathfit demo                                                 see it find a fault in a lab of its own
"""


class Commands(Group):
    """A group that suggests the command that was meant."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        name = args[0] if args else ""
        if name and not name.startswith("-") and self.get_command(ctx, name) is None:
            raise Stop(*_unknown(name, self.list_commands(ctx), ctx.command_path))
        return super().resolve_command(ctx, args)


def _unknown(name: str, known: list[str], path: str) -> tuple[str, str]:
    import difflib

    if name in LATER and path == "pathfit":
        return f"'{name}' is not part of version {__version__}", f"pathfit --help   (now: {', '.join(known)})"
    near = difflib.get_close_matches(name, known, 1)
    return f"there is no command '{name[:40]}'", f"{path} {near[0]}" if near else f"{path} --help"


def run(argv: Sequence[str]) -> int:
    """Run one command line; returns its exit status. Raises Stop, KeyboardInterrupt and what is broken.

    Not click's own main(): that one answers interrupts and closed pipes itself, with statuses of its own.
    """
    try:
        with pathfit.make_context("pathfit", list(argv)) as context:
            status = pathfit.invoke(context)
    except click.exceptions.Exit as e:  # --help, --version
        return e.exit_code
    except click.MissingParameter as e:
        if e.ctx is not None and e.param is not None and e.param.name == "to":
            raise Stop("Missing option '--to': where the traffic goes", _with_to(argv, e.ctx)) from None
        return usage(e.format_message(), e.ctx.command_path if e.ctx else "pathfit")
    except click.BadParameter as e:
        if e.param is not None and e.param.name in EXAMPLES:
            raise Stop(e.format_message(), EXAMPLES[e.param.name]) from None
        return usage(e.format_message(), e.ctx.command_path if e.ctx else "pathfit")
    except click.UsageError as e:
        return usage(e.format_message(), e.ctx.command_path if e.ctx else "pathfit")
    except click.ClickException as e:
        return usage(e.format_message(), "pathfit")
    return status if isinstance(status, int) else 0


def _with_to(argv: Sequence[str], ctx: click.Context) -> str:
    """The same line with ``--to``: before the word that stands there without it, as it would behind `probe`."""
    from pathfit.cli.stop import line

    _, stray, _ = ctx.command.make_parser(ctx).parse_args(list(argv[1:]))
    words = [w for w in argv if w not in stray[:1]]
    return line("pathfit", *words, "--to", stray[0] if stray else "https://example.org/")


@click.group(
    cls=Commands,
    invoke_without_command=True,
    help=HELP,
    context_settings={"max_content_width": 100, "help_option_names": ["-h", "--help"]},
)
@version_option(f"pathfit {__version__}")
@click.pass_context
def pathfit(ctx: click.Context) -> int:
    if ctx.invoked_subcommand != "fix":  # which says it itself
        from pathfit.cli.unfinished import notice

        notice()
    if ctx.invoked_subcommand is None:
        return int(ctx.invoke(scan))
    return 0


@pathfit.command()
@option("--in", "files", multiple=True, metavar="FILE", help="Saved snapshots, or folders of them.")
@options.scanning
@options.everywhere
def scan(files: tuple[str, ...], **o: Any) -> int:
    """Every container network of this machine, judged from state alone. Sends no packet.

    \b
    pathfit                        this machine
    pathfit scan -v                each container, too
    pathfit scan --in hosts/       snapshots of many hosts, compared with each other
    """
    from pathfit.cli.scanning import scan as survey

    return survey(files, o)


@pathfit.command()
@option("--from", "source", multiple=True, metavar="WHERE", help="Where the traffic comes from (default: host).")
@option("--to", "to", required=True, metavar="TARGET", help="Where it goes: https://…, H:P, tcp://H:P, …")
@option("--trace/--no-trace", default=True, help="Watch every device where nothing else tells (default: yes).")
@options.others
@options.reaching
@options.running
@options.everywhere
def diagnose(source: tuple[str, ...], to: str, **o: Any) -> int:
    """Examine one path, both ways: verdict, proof, repair. Changes nothing.

    \b
    WHERE   host, netns:NAME, netns:/path, pid:N, container:ID (its id or its hostname)
    TARGET  https://H/…, http://H/…, tcp://H:P, udp://H:P, H:P, [v6]:P, H, or a WHERE, with :PORT or without

    \b
    pathfit diagnose --from pid:$(docker inspect -f '{{.State.Pid}}' ci) --to https://example.org/
    pathfit diagnose --from host --from container:ci --to https://example.org/    a row for each place
    pathfit diagnose --from container:web --to db:5432 --in n2.json --in n3.json    beside what other hosts say
    """
    if len(source) > 1:
        from pathfit.cli.many import diagnose as from_each

        return from_each(source, to, o)
    from pathfit.cli.examining import examine

    return examine("diagnose", source[0] if source else "host", to, o)


@pathfit.command()
@option("--from", "source", default="host", metavar="WHERE", help="Where the traffic comes from (default: host).")
@option("--to", "to", required=True, metavar="TARGET", help="Where it goes: https://…, H:P, tcp://H:P, …")
@option("-w", "file", type=File(), metavar="FILE", help="Write the packets (pcapng, one interface a point).")
@option("--follow", type=float, is_flag=False, flag_value=10.0, metavar="[S]", help="Send nothing: watch others, 10 s.")
@options.redacting
@options.others
@options.reaching
@options.running
@options.everywhere
def trace(source: str, to: str, file: "Path | None", **o: Any) -> int:
    """Where do packets of one path get lost, and why? Looks at every device on the way at once.

    \b
    pathfit trace --from container:ci --to https://example.org/
    pathfit trace --from netns:ci --to 192.0.2.1:443 -w lost.pcapng
    pathfit trace --from netns:ci --to 192.0.2.1:443 --follow 30    what clients there send, a connection that hangs
    pathfit trace --from netns:ci --to 192.0.2.1 --follow           all that is between the two; Ctrl-C ends it

    Needs root: packets are seen in the namespaces of the way, drops by a program in the kernel. Nothing is changed.
    Exit status: 0 everything arrived at every point   1 packets were lost   2 usage   3 not enough was seen
    """
    from pathfit.cli.tracing import trace as follow

    return follow(source, to, file, o)


@pathfit.command()
@click.argument("code", required=False)
@option("--from", "source", metavar="WHERE", help="Where the traffic comes from (default: host).")
@option("--to", "to", metavar="TARGET", help="Where it goes; without it only state is looked at.")
@options.repairing
@options.others
@options.reaching
@options.running
@options.everywhere
def fix(code: str | None, source: str | None, to: str | None, **o: Any) -> int:
    """Repair what `diagnose` finds, prove that it helped, keep it or undo it.

    Without --yes it asks on a terminal, and only shows the plan elsewhere. CODE chooses the finding, --use the repair.

    \b
    pathfit fix --from netns:ci --to https://example.org/ --dry-run   what would be done
    pathfit fix --from netns:ci --to https://example.org/ --yes       do it, if it is safe and proven
    pathfit fix --list                                                what was done on this machine
    pathfit fix --undo last                                           make everything as it was
    """
    from pathfit.cli import repairs

    if o["watch_over"]:
        return repairs.watch(o["watch_over"])
    if o["listing"]:
        return repairs.listing(o)
    if o["undo"]:
        return repairs.undo(o["undo"], o)
    if o["confirm"]:
        return repairs.confirm(o["confirm"], o)
    from pathfit.cli.fixing import fix as repair

    return repair(code, source, to, o)


@pathfit.command()
@click.argument("target")
@options.often
@options.reaching
@options.running
@options.everywhere
def probe(target: str, **o: Any) -> int:
    """Measure the path from here to TARGET, both ways. Needs no privileges.

    \b
    pathfit probe https://example.org/ --every 30    a line a round, what changed is marked; --json: a document a line
    """
    if o["every"] is not None:
        from pathfit.cli.rounds import probe as again

        return again(target, o)
    if o["rounds"] is not None:
        raise Stop("--rounds says how many, --every how often", "--every 30")
    from pathfit.cli.examining import examine

    return examine("probe", "host", target, o)


@pathfit.command()
@click.argument("where", nargs=-1)
@option("--pairs", type=int, default=200, show_default=True, metavar="N", help="Measure at most N pairs.")
@option("-4", "v4", is_flag=True, help="IPv4 only.")
@option("-6", "v6", is_flag=True, help="IPv6 only.")
@option("--timeout", default=15.0, show_default=True, metavar="S", help="Seconds for each pair.")
@option("--fast", is_flag=True, help="No trial of a repair.")
@options.everywhere
def matrix(where: tuple[str, ...], **o: Any) -> int:
    """What passes from each container of a network to each other one, each way by itself.

    \b
    pathfit matrix network:app                       the running containers of an engine's network
    pathfit matrix container:web container:db host   these places
    Exit status: the worst of all pairs, as of `diagnose`.
    """
    from pathfit.cli.matrix import matrix as all_pairs

    return all_pairs(where, o)


@pathfit.command("map")
@option("-o", "output", type=File(), metavar="FILE", help="Write .html, .json or .txt.")
@option("--format", type=click.Choice(["text", "html", "json"]), help="What to write (default: by the name).")
@option("--in", "inputs", multiple=True, metavar="FILE", help="Saved snapshots, folders of them, or - (stdin).")
@option("--from", "source", metavar="WHERE", help="Where a path to show begins (default: host).")
@option("--to", "to", metavar="TARGET", help="Where it ends: an address, H:P, or a WHERE.")
@option("--timeout", default=15.0, show_default=True, metavar="S", help="Seconds for reading this machine.")
@options.everywhere
def map_(**o: Any) -> int:
    """The network of this machine as a picture. Sends no packet.

    Every namespace and device with its MTU. With --to, the path both ways as the model predicts it, and its limit.

    \b
    pathfit map                                        as text
    pathfit map -o map.html                            one page to look at, or to attach to a ticket
    pathfit map --from netns:ci --to 203.0.113.5 -o map.html
    """
    from pathfit.cli.mapping import draw

    return draw(o)


@pathfit.command()
@click.argument("code", required=False)
@options.everywhere
def explain(code: str | None, **o: Any) -> int:
    """The manual page of a fault CODE; without one, all codes."""
    from pathfit.cli.explaining import explain as page

    return page(code, o["lang"], as_json=o["as_json"])


@pathfit.command()
@click.argument("stack", required=False)
@options.everywhere
def overhead(stack: str | None, **o: Any) -> int:
    """What fits through a STACK of encapsulations; without one, all kinds.

    \b
    STACK   LAYER+LAYER.../MTU    innermost first; MTU of what is underneath, 1500 without
    LAYER   KIND, KIND6 with an outer IPv6 header, then options: gre,key  geneve,opt=8  wireguard,mtu=1400

    \b
    pathfit overhead vxlan+wireguard/1500    VXLAN inside WireGuard over 1500
    pathfit overhead ip6gre,key/9000         GRE with a key over IPv6
    pathfit overhead vxlan,nodev             VXLAN made without a device underneath
    """
    from pathfit.cli.overheads import overhead as show

    return show(stack, o["lang"], as_json=o["as_json"])


@pathfit.command()
@options.save
@options.everywhere
def demo(**o: Any) -> int:
    """Build a container whose https hangs, and diagnose it. Touches nothing else."""
    from pathfit.cli.demo import demo as show

    return show(o)


@pathfit.command()
@click.argument("folder", metavar="DIR", type=File())
@option("-w", "file", type=File(), metavar="FILE", help="Of a trace: write its packets (pcapng).")
@options.redacting
@options.save
@options.everywhere
def replay(folder: "Path", file: "Path | None", **o: Any) -> int:
    """Diagnose a saved case again, from what was recorded. Sends nothing, needs no
    privileges."""
    from pathfit.cli.replaying import replay as again

    return again(folder, o, file)


@pathfit.command()
@option("-o", "--output", required=True, metavar="FILE", help="Where to; - is stdout, *.gz is packed.")
@options.redacting
@options.everywhere
def snapshot(output: str, redact: bool, redact_key: "Path | None", **o: Any) -> int:
    """Write all that can be read of this machine's network into one file. Sends no packet.

    \b
    pathfit snapshot -o host.json.gz            for `pathfit predict --in host.json.gz`
    pathfit snapshot -o host.json --redact      to be shown to strangers
    Exit status: 0 written, 2 usage, 3 nothing could be read or written.
    """
    from pathfit.cli.snapshots import snapshot as write

    return write(output, redact, redact_key, o)


@pathfit.command()
@click.argument("more", nargs=-1, metavar="")
@option("--in", "files", multiple=True, metavar="FILE", help="Snapshots, folders of them, or - (default: here).")
@option("--from", "source", required=True, metavar="WHERE", help="Where the traffic comes from.")
@option("--to", "to", required=True, metavar="TARGET", help="Where it goes: H:P, https://…, or WHERE:PORT.")
@option("--size", type=int, metavar="N", help="Packets of N bytes (default: as large as the ends make them).")
@option("--set", "sets", multiple=True, metavar="WHERE/LINK.mtu=N", help="What if? Also WHERE/route:DST.mtu=N.")
@option("-4", "v4", is_flag=True, help="IPv4 only.")
@option("-6", "v6", is_flag=True, help="IPv6 only.")
@option("--resolve", multiple=True, metavar="H:ADDR", help="Take this address for the name H.")
@options.everywhere
def predict(
    more: tuple[str, ...],
    files: tuple[str, ...],
    source: str,
    to: str,
    size: int | None,
    sets: tuple[str, ...],
    **o: Any,
) -> int:
    """What would happen to this traffic, both ways, without sending a packet.

    \b
    pathfit predict --in a.json --in b.json --from a!container:web --to b!container:db:5432
    pathfit predict --from container:web --to 192.0.2.1:443 --set container:web/eth0.mtu=1400
    WHERE is as in `diagnose`; HOST!WHERE where several snapshots have it.

    \b
    Exit status: 0 arrives both ways as large as promised (or its sender is told)   1 certainly does not
    2 usage   3 not all can be seen, or nothing could be opened. With --set: of the changed network.
    """
    from pathfit.cli.predicting import predict as foretell

    return foretell((*files, *more), source, to, size, sets, o)


@pathfit.group(cls=Commands, invoke_without_command=True)
@click.pass_context
def lab(ctx: click.Context) -> int:
    """Build a known fault from network namespaces, and look at it."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())
    return 0


@lab.command("list")
@options.everywhere
def lab_list(**o: Any) -> int:
    """The scenarios, and the labs that are up."""
    from pathfit.cli import labs

    return labs.listing(as_json=o["as_json"], lang=o["lang"])


@lab.command("show")
@click.argument("scenario")
@options.everywhere
def lab_show(scenario: str, **o: Any) -> int:
    """What a SCENARIO (a name, or a YAML file) builds.

    Prints its YAML: hosts, cables, faults (what is built), truth (what curl shows in it), expect (what must be found).
    """
    from pathfit.cli import labs

    return labs.show(scenario, as_json=o["as_json"])


@lab.command("up")
@click.argument("scenario")
@option("--prefix", metavar="P", help="Prefix of the namespaces' names (default: a fresh one).")
@options.everywhere
def lab_up(scenario: str, prefix: str | None, **o: Any) -> int:
    """Build a SCENARIO and leave it up, until `pathfit lab down`."""
    from pathfit.cli import labs

    return labs.up(scenario, prefix, as_json=o["as_json"], lang=o["lang"])


@lab.command("down")
@click.argument("name")
@options.everywhere
def lab_down(name: str, **o: Any) -> int:
    """Remove the lab NAME (its prefix or its scenario), or `all`."""
    from pathfit.cli import labs

    return labs.down(name, as_json=o["as_json"], lang=o["lang"])


@lab.command("run")
@click.argument("scenarios", nargs=-1, required=True)
@option("--blind", is_flag=True, help="Also with only the container's side visible.")
@options.running
@options.everywhere
def lab_run(scenarios: tuple[str, ...], blind: bool, **o: Any) -> int:
    """Build each SCENARIO (or `all`), diagnose it, judge the diagnosis."""
    from pathfit.cli import labs

    return labs.run(scenarios, blind, o)
