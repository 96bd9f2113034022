"""What we send stays small, however much it is: the kernel never gets the chance to make full segments of it."""

import select
import socket

from pathfit.host import tcpsock
from pathfit.wire import tcpinfo


def test_a_long_request_goes_out_in_pieces_that_are_never_joined() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = tcpsock.tcp(4)
        tcpsock.connect(client, *server.getsockname())
        peer, _ = server.accept()
        with client, peer:
            select.select([], [client], [], 5)
            left, got, rounds = b"x" * 40_000, 0, 0
            while got < 40_000:
                left = tcpsock.send_pieces(client, left)
                select.select([peer], [], [], 5)
                got += len(peer.recv(65536))
                rounds += 1
                assert rounds < 10_000
            info = tcpinfo.decode(tcpsock.info(peer))
    assert not left
    assert info.data_segs_in == 40_000 // tcpsock.PIECE


def test_it_stops_where_nobody_acknowledges() -> None:
    """Beyond the first window the kernel would hold bytes back, and join them."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = tcpsock.tcp(4)
        tcpsock.connect(client, *server.getsockname())
        peer, _ = server.accept()
        with client, peer:
            select.select([], [client], [], 5)
            sent = 0
            while sent < 3_000_000:  # the peer does not read: its window closes
                left = tcpsock.send_pieces(client, b"x" * 20_000)
                if len(left) == 20_000 and tcpinfo.decode(tcpsock.info(client)).notsent == 0:
                    break
                sent += 20_000 - len(left)
                if tcpinfo.decode(tcpsock.info(client)).notsent:
                    break
            assert tcpinfo.decode(tcpsock.info(client)).notsent <= tcpsock.PIECE
