"""Docker's words, for every repair of its networks: its client, and what a network is made with."""

from pathfit.core.engine import Engine, EngineNetwork
from pathfit.remedies.base import Argv

OPTION = "com.docker.network.driver.mtu"
DEFAULTS_SINCE = 24  # first version that gives OPTION to networks made from then on (default-network-opts; moby#43197)
SOCKETS = ("", "/var/run/docker.sock", "/run/docker.sock")  # where the client looks by itself


def client(engine: Engine) -> Argv:
    """`docker`, as it is to be called for this daemon."""
    return ("docker",) if engine.socket in SOCKETS else ("docker", "-H", f"unix://{engine.socket}")


def knows_defaults(engine: Engine) -> bool:
    """Does its version know defaults for the networks that it makes?"""
    head = engine.version.partition(".")[0]
    return head.isdecimal() and len(head) < 6 and int(head) >= DEFAULTS_SINCE


def made_as(network: EngineNetwork) -> Argv:
    """Words for `docker network create` that make a network like this one, but for its MTU."""
    subnets = [w for s in network.subnets for w in ("--subnet", s)]
    internal = ["--internal"] if network.internal else []
    return (*subnets, *internal, *(["--ipv6"] if any(":" in s for s in network.subnets) else []))
