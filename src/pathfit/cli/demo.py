"""`pathfit demo`: the first article's fault, built, shown, diagnosed, and its repair proven by trial.

Runs isolated (isolated.sh): it starts itself again in namespaces of its own, where the only link is lo. Where that
is refused, or a program that labs need is not there, it says why and what would help, and replays a recorded case.
"""

import sys
from pathlib import Path
from typing import Any

from pathfit.cli import isolation
from pathfit.cli.examining import show
from pathfit.cli.replaying import again
from pathfit.cli.stop import CANNOT, Stop
from pathfit.cli.talk import Style, style
from pathfit.words.render import say

SCENARIO = "article-000"
RECORDED = Path(__file__).parent / "recorded"
HANGS = 2.0  # seconds curl gets; a lab answers in a few milliseconds, so this is silence


def demo(o: dict[str, Any]) -> int:
    """Run the demonstration; 0 when it showed what it promises. Raises Stop."""
    look = style(o["lang"])
    if isolation.inside():
        return _live(look, o)
    why = isolation.refused()
    if not why:
        return isolation.again()
    for line in why:
        print(line if line.startswith("try: ") else f"pathfit: {line}", file=sys.stderr)
    return _replay(look, o)


def _replay(look: Style, o: dict[str, Any]) -> int:
    """The recorded case, marked as such; 0, because nothing is wrong with this machine."""
    from pathfit import diagnose
    from pathfit.cli import saved

    if not o["as_json"]:
        print(say("ui.replay", {}, look.lang) + "\n")
    show(diagnose.report(again(saved.open_case(RECORDED))), look, as_json=o["as_json"])
    return 0


def _live(look: Style, o: dict[str, Any]) -> int:
    import subprocess

    from pathfit.cli import saved
    from pathfit.lab import Lab, load

    tell = Narrator(look, quiet=o["as_json"])
    scenario = load(SCENARIO)
    tell.say("demo-about")
    with saved.prepared(o["save"]), Lab.up(scenario, "demo") as lab:
        where, to = lab.where(scenario.ask.source), lab.target()
        small = to.partition(":8443/")[0].replace("https:", "http:") + ":8080/310"  # the same server without TLS
        tell.curl("demo-host", lab.curl("h", to, HANGS), to)
        tell.curl("demo-container-small", lab.curl("c", small, HANGS), small)
        tell.curl("demo-container", lab.curl("c", to, HANGS), to)
        tell.line("")
        tell.say("demo-blind")
        tell.line(f"$ pathfit diagnose --from {where} --to {to}")
        words = ["diagnose", "--from", where, "--to", to, "--lang", look.lang, *(["--json"] if o["as_json"] else [])]
        words += ["--save", str(o["save"].absolute())] if o["save"] else []
        status = subprocess.call(lab.blind_command([sys.executable, "-m", "pathfit", *words]))
    tell.say("demo-gone")
    if status != 1:  # the lab has a fault; a demonstration that does not find it has failed
        raise Stop("the fault of this lab was not found", "pathfit demo --save DIR", CANNOT)
    return 0


class Narrator:
    """Says what happens, on stdout, as it happens; nothing with --json."""

    def __init__(self, look: Style, *, quiet: bool) -> None:
        self._lang, self._quiet = look.lang, quiet

    def line(self, text: str) -> None:
        if not self._quiet:
            print(text, flush=True)

    def say(self, message: str, **facts: Any) -> None:
        self.line(say(f"ui.{message}", facts, self._lang))

    def curl(self, who: str, status: str, url: str) -> None:
        """One curl and what came of it."""
        place = say(f"ui.{who}", {}, self._lang)
        self.line(f"\n$ curl -k -m {HANGS:g} {url}   # {place}")
        if status == "000":
            self.say("demo-hang", s=f"{HANGS:g}")
        else:
            self.say("demo-answer", code=status)
