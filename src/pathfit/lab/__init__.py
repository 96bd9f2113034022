"""Labs: networks with a known fault, built from namespaces on the running kernel, to try a diagnosis on.

A *scenario* (:mod:`~pathfit.lab.scenario`, format in ``scenarios/README.md``) says what is cabled to what, what is
broken, what must be true of it, and what a diagnosis must say. On the way to a running lab:

* :mod:`~pathfit.lab.reader` reads and checks the file (:mod:`~pathfit.lab.strictyaml`, :mod:`~pathfit.lab.check`);
* :mod:`~pathfit.lab.make` works it out (:mod:`~pathfit.lab.layout` finds and numbers the networks,
  :mod:`~pathfit.lab.routing` the routes, :mod:`~pathfit.lab.filters` NAT, clamps and faults); all pure;
* :mod:`~pathfit.lab.build` makes the links, addresses, routes and filters, :mod:`~pathfit.lab.lab` starts
  the servers (:mod:`~pathfit.lab.services`) and forwarders (:mod:`~pathfit.lab.delay`), each a
  :mod:`~pathfit.lab.helper`; :mod:`~pathfit.lab.stale` plants a path MTU that no longer holds, and
  :mod:`~pathfit.lab.kernel` says what this kernel can do;
* :mod:`~pathfit.lab.registry` remembers what must be removed, before it is made;
* :mod:`~pathfit.lab.judge` compares a report with what the scenario expects.

Every host is a namespace ``PREFIX-host``; no lab is ever linked to the machine's own interfaces.

>>> from pathfit.lab import Lab, load
>>> with Lab.up(load("article-000")) as lab:  # doctest: +SKIP
...     lab.truth(), lab.where("c"), lab.target()
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathfit.lab.build import BuildError as BuildError
    from pathfit.lab.lab import Lab as Lab
    from pathfit.lab.lab import down as down
    from pathfit.lab.lab import list_up as list_up
    from pathfit.lab.reader import ScenarioError as ScenarioError
    from pathfit.lab.reader import load as load
    from pathfit.lab.reader import parse as parse
    from pathfit.lab.reader import scenarios as scenarios
    from pathfit.lab.scenario import Scenario as Scenario

_HOME = {
    "BuildError": "build",
    "Lab": "lab",
    "Scenario": "scenario",
    "ScenarioError": "reader",
    "down": "lab",
    "list_up": "lab",
    "load": "reader",
    "parse": "reader",
    "scenarios": "reader",
}
__all__ = ["BuildError", "Lab", "Scenario", "ScenarioError", "down", "list_up", "load", "parse", "scenarios"]


def __getattr__(name: str) -> Any:
    """Lazy: the servers of a lab import this package too, and must not pay for PyYAML and pyroute2."""
    if name in _HOME:
        from importlib import import_module

        return getattr(import_module(f"pathfit.lab.{_HOME[name]}"), name)
    raise AttributeError(name)
