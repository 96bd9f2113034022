"""HTTP over a unix socket: what engines send is read, whatever else has an end."""

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pathfit.host import unixhttp
from pathfit.host.unixhttp import Answer, Client, Late

PATIENCE = 20.0  # seconds nobody here should need
Serve = Callable[..., str]


def _request(conn: socket.socket) -> bytes:
    """One request with its body."""
    data = b""
    while b"\r\n\r\n" not in data:
        if not (piece := conn.recv(65536)):
            return b""
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    lengths = [x.split(b":")[1] for x in head.lower().split(b"\r\n") if x.startswith(b"content-length:")]
    while lengths and len(body) < int(lengths[0]):
        body += conn.recv(65536)
    return head + b"\r\n\r\n" + body


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """``serve(b"...", b"...")``: a socket whose one connection gets one answer after each request, then stays open
    (``hang_up`` closes it). Returns its path; ``serve.heard`` are the requests."""
    listener = socket.socket(socket.AF_UNIX)
    path = str(tmp_path / "s")
    listener.bind(path)
    listener.listen(1)
    threads: list[threading.Thread] = []
    conns: list[socket.socket] = []
    heard: list[bytes] = []

    def start(*answers: bytes, hang_up: bool = False) -> str:
        def talk() -> None:
            conn, _ = listener.accept()
            conns.append(conn)
            for answer in answers:
                if not (asked := _request(conn)):
                    return
                heard.append(asked)
                try:
                    conn.sendall(answer)
                except OSError:
                    return  # it has heard enough
            if hang_up:
                conn.close()

        threads.append(threading.Thread(target=talk))
        threads[-1].start()
        return path

    start.heard = heard  # type: ignore[attr-defined]
    yield start
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()
    for conn in conns:
        conn.close()
    listener.close()


OK = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (
            OK + b"Content-Length: 2\r\nServer: Docker/20.10.24 (linux)\r\n\r\n{}",
            (200, b"{}", "Docker/20.10.24 (linux)"),
        ),
        (OK + b"content-LENGTH:  2 \r\n\r\n{}", (200, b"{}", "")),
        (
            OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n00A;x=y\r\n0123456789\r\n0\r\n\r\n",
            (200, b"abc0123456789", ""),
        ),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\nTrailer: x\r\n\r\n", (200, b"", "")),
        (b"HTTP/1.1 204 No Content\r\n\r\n", (204, b"", "")),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 404 Not Found\r\nContent-Length: 1\r\n\r\nx", (404, b"x", "")),
        (b"HTTP/1.0 200\r\nContent-Length: 0\r\n\r\n", (200, b"", "")),
    ],
)
def test_answers(serve: Serve, raw: bytes, expected: tuple[int, bytes, str]) -> None:
    with Client(serve(raw), PATIENCE) as client:
        assert client.get("/x") == Answer(*expected)


def test_an_answer_that_ends_with_the_connection(serve: Serve) -> None:
    with Client(serve(OK + b"\r\n{}", hang_up=True), PATIENCE) as client:
        assert client.get("/x").body == b"{}"


def test_one_connection_for_many_requests(serve: Serve) -> None:
    one = OK + b"Content-Length: 1\r\n\r\n"
    with Client(serve(one + b"a", one + b"b", one + b"c"), PATIENCE) as client:
        assert [client.get("/a").body, client.request("POST", "/b", b'{"x":1}').body, client.get("/c").body] == [
            b"a",
            b"b",
            b"c",
        ]
    heard = serve.heard  # type: ignore[attr-defined]
    assert heard[0].startswith(b"GET /a HTTP/1.1\r\nHost: ")
    assert b"Content-Length: 7\r\n" in heard[1]
    assert heard[1].endswith(b'\r\n\r\n{"x":1}')


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"SSH-2.0-OpenSSH_9\r\n\r\n", "does not speak HTTP"),
        (b"HTTP/1.1 abc\r\n\r\n", "does not speak HTTP"),
        (b"HTTP/1.1\r\n\r\n", "does not speak HTTP"),
        (OK + b"Content-Length: -5\r\n\r\n", "senseless length"),
        (OK + b"Content-Length: 1e9\r\n\r\n", "senseless length"),
        (OK + "Content-Length: ²\r\n\r\n".encode(), "senseless length"),
        (OK + b"Content-Length: 99999999999999999999\r\n\r\n", "too long"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", "senseless chunk"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n", "senseless chunk"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n\r\n", "senseless chunk"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\nfffffff\r\n", "too long"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\nfffffffffff\r\n", "senseless chunk"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n", "senseless chunk"),
        (OK + b"X: y\r\n" * (unixhttp.HEAD // 5), "no end of headers"),
        (b"a" * (unixhttp.HEAD + 70000), "no end of headers"),
    ],
)
def test_no_sense(serve: Serve, raw: bytes, says: str) -> None:
    with Client(serve(raw), PATIENCE) as client, pytest.raises(ValueError, match=says):
        client.get("/x")


def test_a_body_without_end(serve: Serve) -> None:
    with Client(serve(OK + b"\r\n" + b"x" * 5000), PATIENCE, limit=1000) as client:
        with pytest.raises(ValueError, match="too long"):
            client.get("/x")
        client.close()


@pytest.mark.parametrize("raw", [b"", OK, OK + b"Content-Length: 5\r\n\r\nabc"])
def test_hanging_up_in_the_middle(serve: Serve, raw: bytes) -> None:
    with Client(serve(raw, hang_up=True), PATIENCE) as client, pytest.raises(ConnectionResetError):
        client.get("/x")


@pytest.mark.parametrize("raw", [b"", OK, OK + b"Content-Length: 5\r\n\r\nabc"])
def test_silence_has_an_end(serve: Serve, raw: bytes) -> None:
    with Client(serve(raw), 0.05) as client, pytest.raises(Late):
        client.get("/x")


def test_a_full_backlog_has_an_end(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(0)
        with Client(path, PATIENCE), pytest.raises(Late), Client(path, 0.05):
            pass


def test_a_path_too_long_for_connect(tmp_path: Path, serve: Serve) -> None:
    deep = tmp_path / ("d" * 90)
    deep.mkdir()
    (deep / "s").symlink_to(serve(OK + b"Content-Length: 2\r\n\r\n{}"))
    with Client(str(deep / "s"), PATIENCE) as client:
        assert client.get("/x").body == b"{}"


def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Client(str(tmp_path / "none"), 1.0).__enter__()


@given(st.binary(max_size=300), st.sampled_from([b"", OK, OK + b"Transfer-Encoding: chunked\r\n\r\n"]))
def test_anything_ends(raw: bytes, start: bytes) -> None:
    """Whatever comes, it is an answer or one of three exceptions."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(start + raw)
        theirs.shutdown(socket.SHUT_WR)
        client = Client("", PATIENCE)
        client._socket = ours
        try:
            answer = client.get("/x")
        except (ValueError, OSError):
            return
        assert isinstance(answer, Answer)
