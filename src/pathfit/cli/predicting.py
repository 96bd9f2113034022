"""`pathfit predict`: snapshots in, a forecast out. Sends nothing."""

import re
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pathfit import __version__
from pathfit.cli import asked, placing, snapshots
from pathfit.cli import target as grammar
from pathfit.cli.stop import CANNOT, Stop
from pathfit.cli.talk import Style, readers_may_leave, style
from pathfit.core.ask import Ask, Target
from pathfit.core.evidence_base import Missing
from pathfit.core.snapshot import HostSnapshot
from pathfit.model import Net, Network
from pathfit.model.what_if import LARGEST, SMALLEST, Setting, Unchanged, changed

if TYPE_CHECKING:
    from pathfit.foresight import Foreseen

STATUS = {"healthy": 0, "degraded": 0, "broken": 1, "unknown": 3}
SMALLEST_SIZE, LARGEST_SIZE = 68, 65535  # bytes of an IP packet: RFC 791; its length field
MOST_TRIED = 8  # addresses of a target that are tried until one leads there
LONGEST = 15.0  # seconds; what strangers make up may have more ways than anybody can follow
EXAMPLE = "--set container:web/eth0.mtu=1400"


def predict(
    files: Sequence[str], source: str, to: str, size: int | None, sets: Sequence[str], o: dict[str, Any]
) -> int:
    """Predict, print; returns the exit status (of the changed hosts, when something is set). Raises Stop."""
    look = style(o["lang"])
    if size is not None and not SMALLEST_SIZE <= size <= LARGEST_SIZE:
        raise Stop(f"a packet of {size} bytes: {SMALLEST_SIZE} to {LARGEST_SIZE} is possible", "--size 1500")
    family = asked.family_of(o)
    resolved = tuple(grammar.resolve(r) for r in o["resolve"])
    goal = grammar.target(to, "--to")
    where = grammar.where(source)
    settings = [setting(text) for text in sets]
    hosts, missing = snapshots.open_all(files) if files else ([snapshots.read_this()], [])
    ask = Ask(command="predict", source=where, target=goal, family=family, resolve=resolved, lang=look.lang)
    return _show(_Asked(hosts, ask, size, missing), settings, look, o)


def _show(question: "_Asked", settings: Sequence[Setting], look: Style, o: dict[str, Any]) -> int:
    from pathfit.host.alarm import Late, alarm
    from pathfit.render import predicted

    try:
        with alarm(LONGEST):
            seen = question.foresee(question.hosts)
            then = question.foresee(question.changed(settings)) if settings else None
    except Late as e:
        how = "pathfit scan --in FILE"
        raise Stop(f"{e}; hosts that people build take a second", how, CANNOT) from None
    shown = predicted.Shown(seen=seen, settings=tuple(s.text for s in settings), then=then)
    with readers_may_leave():
        if o["as_json"]:
            sys.stdout.flush()
            sys.stdout.buffer.write(predicted.dump(shown))
        else:
            text = predicted.render(
                shown, lang=look.lang, width=look.width, colour=look.colour, ascii_only=look.ascii, verbose=o["verbose"]
            )
            sys.stdout.write(text)
    return STATUS[(then or seen).report.verdict]


class _Asked:
    """The question about some hosts; asked again when they have been changed."""

    def __init__(self, hosts: list[HostSnapshot], ask: Ask, size: int | None, missing: list[Missing]) -> None:
        self.hosts, self.ask, self.size, self.missing = hosts, ask, size, missing

    def foresee(self, hosts: Sequence[HostSnapshot]) -> "Foreseen":
        """The forecast for ``hosts``. Raises Stop when a place is not among them, or the model fails."""
        from pathfit.foresight import Question, foresee

        network = Network.of(*hosts)
        source = self._place(network, hosts, self.ask.source, "--from")
        target, addresses = self._goal(network, hosts, source)
        seen = None
        for address in addresses[:MOST_TRIED]:
            q = Question(ask=self.ask, address=address, source=source.key, target=target.key if target else None,
                         size=self.size)  # fmt: skip
            one = foresee(hosts, network, q, self.missing, __version__)
            seen = seen or one
            if one.forward.state != "lost":
                return one
        assert seen is not None
        return seen

    def changed(self, settings: Sequence[Setting]) -> tuple[HostSnapshot, ...]:
        """The hosts with all settings in force. Raises Stop (2) for one that meets nothing."""
        hosts = tuple(self.hosts)
        for one in settings:
            network = Network.of(*hosts)
            at = self._place(network, hosts, one.where, "--set")
            try:
                hosts = changed(hosts, network, at, one)
            except Unchanged as e:
                raise Stop(f"{one.text}: {e}", EXAMPLE) from None
        return hosts

    def _place(self, network: Network, hosts: Sequence[HostSnapshot], text: str, option: str) -> Net:
        def typed(where: str) -> str:
            return EXAMPLE.replace("container:web", where) if option == "--set" else f"{option} {where}"

        return placing.place(network, hosts, text, "is not in these snapshots", typed)

    def _goal(
        self, network: Network, hosts: Sequence[HostSnapshot], source: Net
    ) -> tuple[Net | None, Sequence[str]]:  # fmt: skip
        """The target's namespace when it is one of ours, and its addresses, likeliest first. Raises Stop."""
        goal = self.ask.target
        if goal.where is not None:
            target = self._place(network, hosts, goal.where, "--to")
            return target, self._addresses(target, source)
        if grammar.is_address(goal.host):
            return None, (self._fitting(goal),)
        given = [a for h, a in self.ask.resolve if h == goal.host and self._family_fits(a)]
        if not given:
            raise Stop(f"no name is resolved without a packet: what is the address of {goal.host}?",
                       f"--resolve {goal.host}:192.0.2.1")  # fmt: skip
        return None, given

    def _fitting(self, goal: Target) -> str:
        if not self._family_fits(goal.host):
            raise Stop(f"{goal.host} is not an IPv{self.ask.family} address", f"without -{self.ask.family}")
        return goal.host

    def _family_fits(self, address: str) -> bool:
        return self.ask.family is None or (":" in address) == (self.ask.family == 6)

    def _addresses(self, target: Net, source: Net) -> Sequence[str]:
        """Global ones that the source could use; addresses other namespaces have too come last."""
        mine = [a for a in placing.addresses(target) if self._family_fits(a)]
        families = {":" in a.address for a in source.snap.addresses if a.scope == 0}
        mine.sort(key=lambda a: (":" in a) not in families)
        if not mine:
            raise Stop(f"{target.snap.where} has no address to be reached by", "--to 192.0.2.1:443", CANNOT)
        return mine


def setting(text: str) -> Setting:
    """``[HOST!]WHERE/LINK.mtu=N`` or ``WHERE/route:DST.mtu=N``. Raises Stop (2)."""
    left, _, number = text.rpartition("=")
    name, dot, what = left.rpartition(".")
    if not left or not dot or what != "mtu":
        raise Stop(f"'{text[:80]}' is no setting", EXAMPLE)
    if not (number.isascii() and number.isdigit() and len(number) < 7 and SMALLEST <= int(number) <= LARGEST):
        raise Stop(f"an MTU of {number[:20] or 'nothing'}: {SMALLEST} to {LARGEST} is possible", EXAMPLE)
    route = re.search(r"/route:([^/]+(?:/\d+)?)\Z", name)
    if route:
        place = grammar.where(name[: route.start()], "--set")
        return Setting(text=text, where=place, mtu=int(number), route=route[1])
    place, slash, link = name.rpartition("/")
    if not slash or not link:
        raise Stop(f"'{text[:80]}' does not say where: WHERE/LINK.mtu=N", EXAMPLE)
    return Setting(text=text, where=grammar.where(place, "--set"), mtu=int(number), link=link)
