"""Measure between two ends of ours: numbered packets, and a look at both ends which of them arrived.

* :mod:`~pathfit.probe.pair.engine` - each direction alone, by UDP and by TCP;
* :mod:`~pathfit.probe.pair.outcome` - its facts, beside what the asked port itself did.
"""
