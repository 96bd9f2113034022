"""The burst engine: sends what :mod:`pathfit.measure` asks for and reports facts. One thread, one epoll, no asyncio.

* :func:`pathfit.probe.engine.measure` - one address, both ways, and how the asked client fares;
* :func:`pathfit.probe.paired.measure_pair` - the same where both ends are ours (:mod:`~pathfit.probe.pair`);
* :func:`pathfit.probe.udp.measure_datagrams` - the same of a UDP port or a host without one
  (:mod:`~pathfit.probe.tongues`: what is said; :mod:`~pathfit.probe.largedns`: large DNS answers;
  :mod:`~pathfit.probe.pieces`: echoes in fragments);
* :func:`pathfit.probe.hops.measure_hops` - who on the way out drops large packets (:mod:`~pathfit.probe.udphops`: by
  datagrams);
* :func:`pathfit.probe.trial.try_fix` - the asked connection as a repair would make it.

Inside: :mod:`~pathfit.probe.conn` (a kernel TCP connection), :mod:`~pathfit.probe.talk` (TLS and HTTP, as little as
needed; :mod:`~pathfit.probe.answer` counts HTTP's answers, :mod:`~pathfit.probe.prelude` and
:mod:`~pathfit.probe.prelude_binary` know what other servers want to hear before TLS), :mod:`~pathfit.probe.lookout`
(the packet socket: who really answered), :mod:`~pathfit.probe.seat` and :mod:`~pathfit.probe.ahead` (segments injected
beside a live connection), :mod:`~pathfit.probe.ping`, :mod:`~pathfit.probe.pushed` (the same without privileges; on
:mod:`~pathfit.probe.idle` connections),
:mod:`~pathfit.probe.detect` (what does H:P speak?), :mod:`~pathfit.probe.after` and :mod:`~pathfit.probe.flight` (the
certificate, a large ClientHello) and :mod:`~pathfit.probe.simple` (one conversation, waited for),
:mod:`~pathfit.probe.contact` and :mod:`~pathfit.probe.outcome` (facts put together).

Sockets are created inside the source's namespace (``host.netns.inside``); everything else happens where we are.
Nothing stays behind: connections end with RST (SO_LINGER 0), also when we are interrupted, and what is injected
lies outside the window in which our kernel believes a "too big", so measuring does not heal the patient.
"""
