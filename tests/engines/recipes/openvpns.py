"""OpenVPN, from one host to another, by TLS with certificates made for the lab. The kernel sees a tun device."""

from pathlib import Path

from labhost import LabHost, until

PROGRAMS = ("openvpn", "openssl")
CIPHER = "AES-256-GCM"


class Certificate:
    """Of one end: made in ``folder``, known to the other by its fingerprint."""

    def __init__(self, host: LabHost) -> None:
        self.cert, self.key = host.folder / "vpn.pem", host.folder / "vpn.key"
        ec = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "9")
        where = ("-keyout", str(self.key), "-out", str(self.cert), "-subj", f"/CN={host.name}")
        host.run("openssl", "req", "-x509", *ec, *where)
        said = host.run("openssl", "x509", "-in", str(self.cert), "-noout", "-fingerprint", "-sha256")
        self.fingerprint = said.partition("=")[2].strip()


class End:
    """One end. ``proto``: udp4, udp6, or tcp4; ``serves``: it is the TLS server, and waits for a connection by TCP."""

    def __init__(
        self,
        host: LabHost,
        link: str,
        *,
        serves: bool,
        proto: str,
        port: int,
        remote: str,
        inner: tuple[str, str],
        own: Certificate,
        other: Certificate,
        more: tuple[str, ...] = (),
    ) -> None:
        self.host, self.link = host, link
        self.config = host.folder / f"{link}.conf"
        self.log: Path = host.folder / f"{link}.log"
        way = proto if proto.startswith("udp") else f"{proto}-{'server' if serves else 'client'}"
        lines = [
            *(f"dev {link}", "dev-type tun", f"proto {way}", f"port {port}", f"remote {remote} {port}"),
            *(f"ifconfig {inner[0]} {inner[1]}", f"cert {own.cert}", f"key {own.key}"),
            *("tls-server" if serves else "tls-client", f"peer-fingerprint {other.fingerprint}", "dh none"),
            *(f"data-ciphers {CIPHER}", "verb 3", "connect-retry 1 1"),
            *more,
        ]
        self.config.write_text("\n".join(x for x in lines if not (x == "dh none" and not serves)) + "\n")
        self._times = 0
        self.process = host.start("openvpn", "--config", str(self.config), log=self.log)

    def ready(self) -> None:
        """Wait until the tunnel stands; once more, where it was told to begin again."""
        until(lambda: self._done() > self._times, f"openvpn {self.link}", detail=self.log.read_text)
        self._times = self._done()

    def _done(self) -> int:
        """How often it was ready."""
        return self.log.read_text().count("Initialization Sequence Completed")
