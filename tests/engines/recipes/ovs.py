"""Open vSwitch with its userspace datapath: tunnels that the kernel sees as a tap device and nothing else.

Each end is a host with a cable in a bridge `br-phy` that holds the outer addresses (a netdev datapath sends tunnels by
its own bridges alone), and one bridge a tunnel, whose own tap is the tunnel's device. ovsdb-server and ovs-vswitchd
have their sockets, database and logs in the host's /run: nothing of the machine's own Open vSwitch is touched.
"""

from typing import NamedTuple

from labhost import LabHost, until

PROGRAMS = ("ovsdb-server", "ovsdb-tool", "ovs-vswitchd", "ovs-vsctl", "ovs-appctl")
SCHEMA = "/usr/share/openvswitch/vswitch.ovsschema"


class Tunnel(NamedTuple):
    """``kind``: of the port; ``remote``: the other end's outer address; ``key``: its VNI, or GRE's key."""

    bridge: str
    kind: str
    remote: str
    key: int


class Ovs:
    """Both daemons on ``host``. ``cable`` becomes a port of br-phy, which gets ``outer`` addresses ("A/PREFIX")."""

    def __init__(self, host: LabHost, cable: str, outer: tuple[str, ...], run: str = "/run/openvswitch") -> None:
        self.host, self.run = host, run
        host.run("mkdir", "-p", run)
        host.run("ovsdb-tool", "create", f"{run}/conf.db", SCHEMA)
        common = ("--log-file=/dev/null", "--no-chdir")
        at = f"{run}/db.sock"
        words = ("ovsdb-server", f"{run}/conf.db", f"--remote=punix:{at}", f"--unixctl={run}/db.ctl", *common)
        host.start(*words, log=host.folder / "ovsdb.log")
        init = ("ovs-vsctl", f"--db=unix:{at}", "--timeout=1", "--no-wait", "init")
        until(lambda: host.call(*init).returncode == 0, "ovsdb-server", detail=(host.folder / "ovsdb.log").read_text)
        words = ("ovs-vswitchd", f"unix:{at}", f"--unixctl={run}/switch.ctl", "--disable-system", *common)
        host.start(*words, log=host.folder / "vswitchd.log")
        self("add-br", "br-phy", "--", "set", "bridge", "br-phy", "datapath_type=netdev")
        self("add-port", "br-phy", cable)
        for address in outer:
            host.ip(f"addr add {address} dev br-phy" + (" nodad" if ":" in address else ""))
        host.ip("link set br-phy up")

    @property
    def socket(self) -> str:
        return f"{self.run}/db.sock"

    def __call__(self, *words: str) -> str:
        """`ovs-vsctl WORDS`; it waits until ovs-vswitchd has done it."""
        return self.host.run("ovs-vsctl", f"--db=unix:{self.run}/db.sock", "--timeout=20", *words).strip()

    def add(self, tunnel: Tunnel, inner: str) -> None:
        """The tunnel, its device with the address ``inner`` ("A/PREFIX")."""
        name = tunnel.bridge
        self(
            *("add-br", name, "--", "set", "bridge", name, "datapath_type=netdev"),
            *("--", "add-port", name, f"t-{name}", "--", "set", "interface", f"t-{name}", f"type={tunnel.kind}"),
            *(f"options:remote_ip={tunnel.remote}".replace("=", '="') + '"', f"options:key={tunnel.key}"),
        )
        self.host.ip(f"addr add {inner} dev {name}\nlink set {name} up")
