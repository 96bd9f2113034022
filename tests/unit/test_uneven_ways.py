"""One of two ways is smaller and silent: routers that pick a way by the connection's ports, as switches do (a route
with several next hops would follow the sender's own hash on one machine, which a retransmission changes)."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from netlab import Net, nets

from pathfit import diagnose, examine
from pathfit.core.ask import Ask, Target
from pathfit.core.report import Report
from pathfit.live import LiveWorld

SERVER, PORT = "198.18.6.2", 8080
LINKS = ("ar", "rp", "rq", "pe", "qe", "eb")
PAGES = """
import http.server
class Pages(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def head(self):
        self.send_response(200); self.send_header("Content-Length", self.path.strip("/")); self.end_headers()
    def do_GET(self):
        self.head(); self.wfile.write(b"x" * int(self.path.strip("/")))
    def log_message(self, *words): pass
    {more}
class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128
    def handle_error(self, *words): pass
server = Server(("", 8080), Pages)
print("ready", flush=True)
server.serve_forever()
"""


def picks(net: Net, name: str, port: str, towards: str, ways: tuple[str, str]) -> None:
    """A way of two for each connection, by a hash of the client's port."""
    net.ip(name, f"route add {towards} via {ways[0]}")
    net.ip(name, f"route add {towards} via {ways[1]} table 100")
    net.ip(name, "rule add fwmark 1 lookup 100")
    rule = f"ip daddr {towards} meta mark set jhash tcp {port} mod 2 seed 0x5eed"
    net.inside(name, "nft", "add table ip m; add chain ip m c { type filter hook prerouting priority -150; }")
    net.inside(name, "nft", f"add rule ip m c {rule}")


@contextmanager
def served(*small: str, heads: bool = True) -> Iterator[Net]:
    """a - r = (p or q) = e - b. ``small``: "out", "in": q carries 1400 that way; ``heads``: the server knows HEAD."""
    with nets() as net:
        net.add(*sorted(set("".join(LINKS))))
        for n, (x, y) in enumerate(LINKS, 1):
            net.ip(x, f"link add {x}{y} type veth peer name {y}{x} netns {net(y)}")
            for name, link, last in ((x, x + y, 1), (y, y + x, 2)):
                net.batch(name, f"addr add 198.18.{n}.{last}/24 dev {link}\nlink set {link} up")
                net.plain(name, link)
        for name in "rpqe":
            net.inside(name, "sysctl", "-qw", "net.ipv4.ip_forward=1")
        net.ip("a", "route add default via 198.18.1.2")
        net.ip("b", "route add default via 198.18.6.1")
        for name, out, back in (("p", "198.18.4.2", "198.18.2.1"), ("q", "198.18.5.2", "198.18.3.1")):
            net.batch(name, f"route add 198.18.6.0/24 via {out}\nroute add 198.18.1.0/24 via {back}")
        picks(net, "r", "sport", "198.18.6.0/24", ("198.18.2.2", "198.18.3.2"))
        picks(net, "e", "dport", "198.18.1.0/24", ("198.18.4.1", "198.18.5.1"))
        for side in small:
            net.drop("q", "forward", f"iifname {'qr' if side == 'out' else 'qe'} meta length > 1400 drop")
        with net.serving("b", PAGES.replace("{more}", "do_HEAD = head" if heads else "")):
            yield net


def asked(net: Net, page: int) -> Report:
    target = Target(text=f"http://{SERVER}:{PORT}/{page}", protocol="http", host=SERVER, port=PORT, path=f"/{page}")
    with LiveWorld() as world:
        return diagnose.report(examine.run(Ask(command="diagnose", source=f"netns:{net('a')}", target=target), world))


@pytest.mark.parametrize(
    ("small", "page", "heads", "noted"),
    [
        (("out",), 5, True, "forward"),
        (("out",), 100_000, True, "forward"),
        (("in",), 5, True, "reverse"),
        (("in",), 100_000, True, "reverse"),
        (("in",), 100_000, False, "reverse"),
        (("out", "in"), 100_000, True, ""),
    ],
)
def test_one_of_two_ways_is_small(small: tuple[str, ...], page: int, heads: bool, noted: str) -> None:
    with served(*small, heads=heads) as net:
        r = asked(net, page)
    errors = [f.code for f in r.findings if f.severity == "error"]
    assert (r.verdict, errors) == ("broken", ["MTU118"])
    m = r.measured[0]
    if noted:
        assert [d for d in ("forward", "reverse") if getattr(m, d).note == "uneven"] == [noted]
    assert (m.forward.fails, m.reverse.fails) == (None, None)


def test_both_ways_are_alike() -> None:
    with served() as net:
        r = asked(net, 100_000)
    assert (r.verdict, [f.code for f in r.findings]) == ("healthy", [])
