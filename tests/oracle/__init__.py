"""The kernel as oracle: random networks, real packets, and the same questions put to the model.

* :mod:`oracle.generate` seed -> :class:`~oracle.generate.Lab`: a network as text (tests/unit/topo.py has the format),
  what is asked in it, and the mechanisms that were put in (``chain``, ``routes``, ``noise``: what belongs to none of
  them; ``labs``: those that stay). Pure: a seed is enough to have the same lab again;
* :mod:`oracle.build` the text in real namespaces, by a few batches of netlink;
* :mod:`oracle.truth` what the kernel does there with real packets: sizes found by bisection that knows nothing of the
  model, and what happens to packets of sizes around that limit, around the predicted one, and of a few others;
* :mod:`oracle.compare` prediction against truth, size by size; which mechanism decided what; what is unknown;
* :mod:`oracle.run` one lab from seed to verdict, many of them in worker processes;
* :mod:`oracle.faults` seed -> :class:`~oracle.faults.TraceLab`: a network with one fault in it, and what
  `pathfit trace` must say of it; :mod:`oracle.traced` builds it, lets curl prove it, asks, and judges;
* :mod:`oracle.mutants` faults planted in the model, each of which the fixed labs must notice.

Truth comes from the kernel only. Where the two disagree it is measured once more with patience (a busy machine is
slow, never wrong); what still disagrees is a fault of the model.
"""
