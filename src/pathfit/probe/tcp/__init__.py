"""Measure a TCP port: the way in by the size of its segments, the way out beside and on connections of ours.

* :mod:`~pathfit.probe.tcp.engine` - one address, both ways; :mod:`~pathfit.probe.tcp.detect` - what does it speak?
* :mod:`~pathfit.probe.tcp.conn` - a kernel TCP connection: socket, conversation and track together;
* the way out: :mod:`~pathfit.probe.tcp.ahead` with :mod:`~pathfit.probe.tcp.seat` (segments injected beside a live
  connection), :mod:`~pathfit.probe.tcp.pushed` on :mod:`~pathfit.probe.tcp.idle` connections (the same without
  privileges), :mod:`~pathfit.probe.tcp.hops` (TTL-limited pairs: who drops the large one);
* :mod:`~pathfit.probe.tcp.after` with :mod:`~pathfit.probe.tcp.flight` - the certificate, a large ClientHello;
  :mod:`~pathfit.probe.tcp.trial` - the proof before a change; :mod:`~pathfit.probe.tcp.simple` - one conversation,
  waited for, which these need;
* :mod:`~pathfit.probe.tcp.contact`, :mod:`~pathfit.probe.tcp.outcome` - facts put together.
"""
