"""HTTP/1.1 to a port of this host's own loopback address: status pages of daemons that have no unix socket.

Nothing leaves the host: the address is fixed. Bounds are those of :mod:`pathfit.host.unixhttp`.
"""

import socket

from pathfit.host.unixhttp import Client

ADDRESS = "127.0.0.1"


class LoopbackClient(Client):
    """One connection to ``port`` of 127.0.0.1 in the namespace that the calling thread stands in when it is made.

    ``deadline`` seconds for everything together, ``limit`` bytes of one answer. Raises as :class:`Client`.
    """

    def __init__(self, port: int, deadline: float, limit: int) -> None:
        super().__init__(f"{ADDRESS}:{port}", deadline, limit)
        self._port = port

    def _connect(self) -> socket.socket:
        if self._socket is None:
            self._buffer.clear()
            self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
            try:
                self._socket.settimeout(self.left)
                self._socket.connect((ADDRESS, self._port))
            except BaseException:
                self.close()
                raise
        return self._socket
