"""Search strategy and judgement over raw attempts: decides what to send, never sends. Pure.

Every search is a small machine: the shell (:mod:`pathfit.probe`) tells it what was seen and what time it is, and
carries out the commands it returns. So a simulated path can play it by the thousand (tests/unit/simpath.py).

* :mod:`~pathfit.measure.sizes` - which sizes to ask for: ladders of common limits, then equal cuts;
* :mod:`~pathfit.measure.track` - one reverse connection: what struct tcp_info said, and what that means so far;
* :mod:`~pathfit.measure.reverse` - the search for the largest packet that gets *in* (server's own segments, sized
  by our TCP_MAXSEG; no privileges);
* :mod:`~pathfit.measure.rounds` - what its next round asks for; :mod:`~pathfit.measure.crowd` - servers that serve few
  at a time; :mod:`~pathfit.measure.share` - how much each of several addresses may have;
* :mod:`~pathfit.measure.verdict` - what a set of connections proves, and what it does not;
* :mod:`~pathfit.measure.forward` - the largest packet that gets *out*, judged by SACKs of injected segments;
  :mod:`~pathfit.measure.evenly` - is that so for every connection there, and not only for two;
* :mod:`~pathfit.measure.pair` - one direction between two ends of ours, judged by what arrives at the other;
  :mod:`~pathfit.measure.shots` its numbered packets;
* :mod:`~pathfit.measure.echo` - ICMP echo: both directions at once, never the judge of one;
* :mod:`~pathfit.measure.datagrams` - the largest datagram that gets *out*, judged by small answers to it;
  :mod:`~pathfit.measure.largedns` - do large DNS answers get in; :mod:`~pathfit.measure.refusal` - an ICMP error
  in one word;
* :mod:`~pathfit.measure.flight` - a large ClientHello beside a small one;
* :mod:`~pathfit.measure.place` - who on the way out drops large packets (TTL-limited pairs).

Three rules hold everywhere. A size passed only if a packet of that size arrived. A size fails only when something
smaller, sent beside it, came through while it did not, again and again. What was not measured is said with a note,
never guessed. Sizes are bytes of IP packet, times are seconds.
"""
