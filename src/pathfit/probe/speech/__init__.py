"""What is said on a connection, and how answers are counted. Pure: bytes in, bytes out.

* :mod:`~pathfit.probe.speech.talk` - TLS and HTTP, as little as makes a server send full segments;
* :mod:`~pathfit.probe.speech.answer` - answers, counted as they come;
* :mod:`~pathfit.probe.speech.prelude` - what other servers want to hear before TLS, in lines
  (:mod:`~pathfit.probe.speech.text`) or counted bytes (:mod:`~pathfit.probe.speech.binary`);
  :mod:`~pathfit.probe.speech.known` - which of them a protocol has.
"""
