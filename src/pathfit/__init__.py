"""pathfit: why packets stop fitting on a container's way through the network, proven and repaired.

One direction of data (docs/architecture.md)::

    Ask -> plan -> Request -> World -> Evidence -> Case -> (enough? no: plan again)
                                                    `-> rules -> Findings -> remedies -> Report -> render

The pure half (core, wire, model, measure, rules, words, remedies, plan, world, diagnose, survey, foresight, replay,
render) decides; the impure half (host, observe, probe, live, examine, apply, lab, cli) does what it is told and reports
facts. ``diagnose`` says what fails on one asked path, ``survey`` what state shows of whole machines, ``foresight`` what
would happen to a path that is only predicted. ``python -m pathfit`` is the command (``__main__``).
"""

__version__ = "0.1.0"
