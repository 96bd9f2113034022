"""The burst engine: sends what :mod:`pathfit.measure` asks for and reports facts. One thread, one epoll, no asyncio.

* :mod:`~pathfit.probe.target` - one address, by whatever it is asked to speak: ``measure``;
* :mod:`~pathfit.probe.tcp` - a TCP port, both ways; who drops on the way out: ``hops.measure_hops``; the asked
  connection as a repair would make it: ``trial.try_fix``;
* :mod:`~pathfit.probe.udp` - a UDP port, or a host without one: ``engine.measure_datagrams``;
* :mod:`~pathfit.probe.pair` - the same where both ends are ours: ``outcome.measure_pair``;
* :mod:`~pathfit.probe.speech` - what is said on a connection (pure).

Both of the first need :mod:`~pathfit.probe.lookout` (the packet socket: who really answered) and
:mod:`~pathfit.probe.ping` (the hands of the echo search).

Sockets are created inside the source's namespace (``host.netns.inside``); everything else happens where we are.
Nothing stays behind: connections end with RST (SO_LINGER 0), also when we are interrupted, and what is injected
lies outside the window in which our kernel believes a "too big", so measuring does not heal the patient.
"""
