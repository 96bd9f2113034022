"""Values only: what pathfit knows, asks and says. No behaviour that touches a machine, no clock, no randomness.

Read in this order:

* :mod:`~pathfit.core.base` - what all values are; :mod:`~pathfit.core.net` - where something is (:class:`Point`) and
  what travels (:class:`Flow`);
* :mod:`~pathfit.core.filters` - packet filters in one small language, whoever wrote them (nft, iptables);
* :mod:`~pathfit.core.snapshot` - the state of one host: namespaces, links, routes, filters, sysctls;
* :mod:`~pathfit.core.engine` - its container engines, as they tell; :mod:`~pathfit.core.platform` - who keeps the
  configuration of its devices;
* :mod:`~pathfit.core.sane` - is what a file says of it possible; :mod:`~pathfit.core.redact`,
  :mod:`~pathfit.core.pseudonyms` - the same host under other names and addresses;
* :mod:`~pathfit.core.node` - what a node's own files say about its overlays and its cloud;
* :mod:`~pathfit.core.sockets` - a TCP socket as the kernel sees it;
* :mod:`~pathfit.core.path` - what the model predicts: hops, steps, limits, fate;
* :mod:`~pathfit.core.ask`, :mod:`~pathfit.core.request`, :mod:`~pathfit.core.evidence` - what the user asks,
  what the plan asks of the world, what the world answers (``Missing`` is an answer: ``evidence_base``);
* :mod:`~pathfit.core.measured` - what the prober measured, attempt by attempt; :mod:`~pathfit.core.remembered` - what a
  kernel keeps of it;
* :mod:`~pathfit.core.tracing` - what taps saw, what the kernel dropped; :mod:`~pathfit.core.followed` - what that says;
* :mod:`~pathfit.core.finding`, :mod:`~pathfit.core.report` - what is said about it;
* :mod:`~pathfit.core.change`, :mod:`~pathfit.core.journal`, :mod:`~pathfit.core.engined` - what a repair changes, and
  how it was before;
* :mod:`~pathfit.core.case`, :mod:`~pathfit.core.codec` - everything together, saved and opened again;
  :mod:`~pathfit.core.secrets` - what is taken out before.

Every value is a frozen ``msgspec.Struct``. Addresses are canonical strings ("198.51.100.2", "2001:db8::1"),
sizes are bytes of IP packet including its header, times are seconds (float). Unknown is a value (None, a
``Missing``, ``Opaque``, ``Fate.UNKNOWN``), never silence and never an exception.
"""
