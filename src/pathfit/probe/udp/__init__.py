"""Measure a UDP port, or a host of which no port was named, by small answers to datagrams of all sizes.

* :mod:`~pathfit.probe.udp.engine` - the course of it; :mod:`~pathfit.probe.udp.hands` - its sockets and its time;
* :mod:`~pathfit.probe.udp.tongues` - what is said, and what counts as an answer;
* :mod:`~pathfit.probe.udp.largedns` - large DNS answers; :mod:`~pathfit.probe.udp.pieces` - echoes in fragments;
* :mod:`~pathfit.probe.udp.hops` - TTL-limited pairs of datagrams: who on the way drops the large one.
"""
