"""wireguard-go: WireGuard as a program, for kernels that have none. The kernel sees a tun device."""

from labhost import LabHost, until

PROGRAMS = ("wireguard-go", "wg")


class WireGuard:
    """One interface. wireguard-go stays in front, and its socket is in the host's own /run/wireguard."""

    def __init__(self, host: LabHost, link: str, port: int, inner: str) -> None:
        self.host, self.link, self.port = host, link, port
        log = host.folder / f"{link}.log"
        host.start("env", "WG_PROCESS_FOREGROUND=1", "wireguard-go", "-f", link, log=log)
        until(lambda: host.path(f"/run/wireguard/{link}.sock").exists(), "wireguard-go", detail=log.read_text)
        self.private = host.run("wg", "genkey")
        self.public = host.run("wg", "pubkey", stdin=self.private).strip()
        words = ("wg", "set", link, "listen-port", str(port), "private-key", "/dev/stdin")
        host.run(*words, stdin=self.private)
        host.ip(f"addr add {inner} dev {link}\nlink set {link} up")

    def meet(self, other: "WireGuard", outer: str, allowed: str) -> None:
        """``other`` is our peer, reached at ``outer``, and may have the inner addresses ``allowed``."""
        at = f"[{outer}]" if ":" in outer else outer
        words = ("peer", other.public, "endpoint", f"{at}:{other.port}", "allowed-ips", allowed)
        self.host.run("wg", "set", self.link, *words)
