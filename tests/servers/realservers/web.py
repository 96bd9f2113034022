"""Servers that speak HTTP. Each has /large and /small, by https with a long certificate chain, by https with one small
certificate, and by http where it can."""

import sys
from pathlib import Path

from realservers import Server, certificate, pages, program

PORTS = {"https": 8443, "https-ec": 8444, "http": 8080}


def _nginx(folder: Path) -> list[str]:
    www = pages(folder)
    tls = "".join(
        f"server {{ listen [::]:{port} ssl http2 ipv6only=off; root {www};"
        f" ssl_certificate {pem}; ssl_certificate_key {key}; }}\n"
        for port, (pem, key, _) in _keys(folder)
    )
    temporary = "".join(f"{x}_temp_path {folder}/{x};\n" for x in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    conf = folder / "nginx.conf"
    conf.write_text(
        f"daemon off; worker_processes 2; pid {folder}/pid; error_log stderr;\n"
        f"events {{ worker_connections 256; }}\n"
        f"http {{ access_log off; default_type text/plain; {temporary} {tls}\n"
        f"server {{ listen [::]:{PORTS['http']} ipv6only=off; root {www}; }} }}\n"
    )
    return [program("nginx"), "-e", "stderr", "-p", str(folder), "-c", str(conf)]


def _apache(folder: Path) -> list[str]:
    www = pages(folder)
    modules = "/usr/lib/apache2/modules"
    loaded = "".join(f"LoadModule {m}_module {modules}/mod_{m}.so\n" for m in ("mpm_event", "authz_core", "ssl"))
    hosts = "".join(
        f"Listen {port}\n<VirtualHost *:{port}>\nSSLEngine on\nSSLCertificateFile {pem}\nSSLCertificateKeyFile {key}\n"
        "</VirtualHost>\n"
        for port, (pem, key, _) in _keys(folder)
    )
    conf = folder / "apache.conf"
    conf.write_text(
        f"{loaded}ServerRoot {folder}\nDefaultRuntimeDir {folder}\nPidFile {folder}/pid\nMutex file:{folder}\n"
        f"ErrorLog {folder}/errors\nServerName server.test\nStartServers 2\nThreadsPerChild 25\n"
        f"DocumentRoot {www}\n<Directory {www}>\nRequire all granted\n</Directory>\nListen {PORTS['http']}\n{hosts}"
    )
    return [program("apache2"), "-f", str(conf), "-DFOREGROUND"]


def _haproxy(folder: Path) -> list[str]:
    www = pages(folder)
    tls = "".join(f"  bind :::{port} v4v6 ssl crt {both}\n" for port, (_, _, both) in _keys(folder))
    conf = folder / "haproxy.cfg"
    returns = "".join(
        f"  http-request return status 200 content-type text/plain file {www / page} if {{ path /{page} }}\n"
        for page in ("large", "small")
    )
    conf.write_text(
        "global\n  maxconn 100\n  nbthread 2\n  tune.bufsize 262144\n"  # an answer has to fit
        "defaults\n  mode http\n  timeout client 10s\n  timeout server 10s\n  timeout connect 5s\n"
        f"frontend web\n  bind :::{PORTS['http']} v4v6\n{tls}{returns}"
    )
    return [program("haproxy"), "-db", "-f", str(conf)]


def _s_server(name: str) -> "Server":
    port = PORTS[name]

    def prepare(folder: Path) -> list[str]:
        www = pages(folder)
        pem, key, _ = certificate(folder, "chain" if name == "https" else "ec")
        more = []
        if name == "https":
            above = folder / "above.pem"
            _, *issuers = pem.read_text().split("-----BEGIN CERTIFICATE-----")[1:]
            above.write_text("".join(f"-----BEGIN CERTIFICATE-----{x}" for x in issuers))
            more = ["-cert_chain", str(above)]
        words = [program("openssl"), "s_server", "-accept", f"*:{port}", "-cert", str(pem), "-key", str(key), *more]
        # It serves the folder it stands in.
        return ["/bin/sh", "-c", 'cd "$0" && exec "$@"', str(www), *words, "-WWW", "-quiet"]

    # One connection after the other; /large and /small are answered HTTP/1.0, until it closes.
    return Server(f"s_server-{name}", ("openssl",), {name: port}, prepare)


def _http_server(folder: Path) -> list[str]:
    """``python -m http.server``: HTTP/1.0, a thread a connection."""
    return [sys.executable, "-m", "http.server", "-b", "::", "-d", str(pages(folder)), str(PORTS["http"])]


# As the manual of ssl has it: the handshake is done in accept(), so whoever hangs in it stops everybody.
HTTPS_SERVER = """
import functools, http.server, socket, ssl, sys, threading
class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6
    def server_bind(self):
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()
www, *rest = sys.argv[1:]
for port, pem, key in zip(rest[::3], rest[1::3], rest[2::3]):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem, key)
    server = Server(("::", int(port)), functools.partial(http.server.SimpleHTTPRequestHandler, directory=www))
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever).start()
"""


def _https_server(folder: Path) -> list[str]:
    www = pages(folder)
    rest = [str(x) for port, (pem, key, _) in _keys(folder) for x in (port, pem, key)]
    return [sys.executable, "-c", HTTPS_SERVER, str(www), *rest]


NODE = """
const fs = require("fs"), http = require("http"), https = require("https");
const [www, plain, ...rest] = process.argv.slice(1);
const page = {"/large": fs.readFileSync(www + "/large"), "/small": fs.readFileSync(www + "/small")};
const answer = (q, a) => page[q.url] ? a.end(page[q.url]) : (a.statusCode = 404, a.end());
http.createServer(answer).listen(+plain, "::");
for (let i = 0; i < rest.length; i += 3)
  https.createServer({cert: fs.readFileSync(rest[i + 1]), key: fs.readFileSync(rest[i + 2])}, answer)
    .listen(+rest[i], "::");
"""


def _node(folder: Path) -> list[str]:
    www = pages(folder)
    rest = [str(x) for port, (pem, key, _) in _keys(folder) for x in (port, pem, key)]
    return [program("node"), "-e", NODE, str(www), str(PORTS["http"]), *rest]


def _keys(folder: Path) -> list[tuple[int, tuple[Path, Path, Path]]]:
    return [
        (PORTS["https"], certificate(folder, "chain")),
        (PORTS["https-ec"], certificate(folder, "ec")),
    ]


TLS_ONLY = {k: v for k, v in PORTS.items() if k != "http"}
SERVERS = (
    Server("nginx", ("nginx",), PORTS, _nginx),
    Server("apache", ("apache2",), PORTS, _apache),
    Server("haproxy", ("haproxy",), PORTS, _haproxy),
    _s_server("https"),
    _s_server("https-ec"),
    Server("http.server", (), {"http": PORTS["http"]}, _http_server, nobody=False),
    Server("http.server-tls", (), TLS_ONLY, _https_server, nobody=False),
    Server("node", ("node",), PORTS, _node),
)
