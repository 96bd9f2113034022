"""The servers of a lab: one process per host, every socket of that host in it.

Servers are written against bare sockets, because what matters here is *how* bytes are written (one write or two, which
segment ends where), not what they say: ``http``, ``mail``, ``dns``, ``relay``, all of them on ``listen``; ``__main__``
is the process. ``GET /N`` answers N bytes; ``HEAD`` says so without sending them; ``POST`` counts what it is sent. TLS
handshakes run in the connection's own thread, never in ``accept``.
"""
