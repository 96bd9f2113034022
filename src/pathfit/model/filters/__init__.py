"""What packet filters (nftables, iptables) do with a packet: pure, three-valued, fast.

* :mod:`~pathfit.model.filters.evaluate` is the question: one packet, one hook, one namespace; how the kernel does it;
* :mod:`~pathfit.model.filters.facts` - of a packet, each found out when a rule first asks for it;
* :mod:`~pathfit.model.filters.conditions` - what rules ask of those facts: yes, no, not known, or for a share;
* :mod:`~pathfit.model.filters.index` - tables prepared for questions: chains by hook and priority, rules compiled;
* :mod:`~pathfit.model.filters.sieve` - which rules a packet need not be shown to;
* :mod:`~pathfit.model.filters.branches` - all ways through the chains that are possible;
* :mod:`~pathfit.model.filters.values` - what is answered: the rule that decided, possible NATs, clamps.
"""
