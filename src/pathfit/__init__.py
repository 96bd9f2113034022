"""pathfit: why packets stop fitting on a container's way through the network, proven and repaired.

One direction of data (docs/architecture.md)::

    Ask -> plan -> Request -> World -> Evidence -> Case -> (enough? no: plan again)
                                                    `-> rules -> Findings -> remedies -> Report -> render

The pure half (core, wire, model, measure, rules, words, remedies, plan, diagnose, replay, render) decides;
the impure half (host, observe, probe, live, examine, lab, cli) does what it is told and reports facts.
"""

__version__ = "0.1.0"
