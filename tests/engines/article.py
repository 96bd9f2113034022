"""Article 000 with a real engine: a host whose uplink carries less than docker0, and a far end that is never told.

    s (web server) 1500 ---- 1500 r NARROW ---- NARROW h (an engine; containers 1500)

``r`` says "too big" to ``s``, whose firewall drops the message: a container that invites 1500 waits for ever for what
is larger than NARROW. The host itself is fine, because its own link is honest.
"""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

from engine import Docker, image
from labhost import COMES, PATIENCE, Lab, LabHost, Room, cable, until

NARROW = 1400
SERVER = "198.18.3.2"
URL = f"https://{SERVER}:8443/"
SIZE = 200_000  # bytes of the body that must come
HERE = Path(__file__).parent
PATHFIT = Path(sys.executable).with_name("pathfit")
CERTS = HERE.parents[1] / "src" / "pathfit" / "lab" / "certs"


def serve(room: Room, log: Path, *within: str) -> None:
    """The web server of the acceptance labs (8443 by TLS, 8080 without), once it listens. ``within``: words
    before it."""
    words = (sys.executable, str(HERE.parent / "accept" / "srv.py"), str(CERTS / "chain.pem"), str(CERTS / "chain.key"))
    room.start(*within, *words, log=log)
    last = ":8080"
    until(lambda: last in room.run(*within, "ss", "-Hltn"), "the web server", detail=log.read_text)


class Stage:
    """The stage without an engine: a subclass puts one on ``h`` and says how a command runs in a container. ``narrow``
    bytes are all the uplink carries."""

    def __init__(self, lab: Lab, narrow: int = NARROW) -> None:
        self.lab = lab
        self.h: LabHost = lab.host("h")
        self.r: Room = lab.room("r")
        self.s: Room = lab.room("s")
        cable(self.h, "eth0", self.r, "rh", narrow)
        cable(self.r, "rs", self.s, "eth0", 1500)
        self.h.ip("addr add 198.18.2.2/24 dev eth0\nroute add default via 198.18.2.1")
        self.r.ip("addr add 198.18.2.1/24 dev rh\naddr add 198.18.3.1/24 dev rs")
        self.s.ip("addr add 198.18.3.2/24 dev eth0\nroute add default via 198.18.3.1")
        self.r.sysctl(ipv4__ip_forward=1)
        self.s.run("nft", "-f", "-", stdin=DEAF)
        serve(self.s, lab.folder / "server.log")

    def inside(self, container: str, *words: str) -> str:
        """What a command in the container prints, whatever its exit status."""
        raise NotImplementedError

    def curl(self, container: str, size: int = SIZE, patience: float = 2.0) -> str:
        """What curl in the container says of a body of that size: "200 200000", or "000 0" when it hung."""
        words = f"curl -sk -m {patience} -o /dev/null -w %{{http_code}}_%{{size_download}} {URL}{size}"
        return self.inside(container, *words.split()).strip().replace("_", " ")

    def works(self, container: str) -> bool:
        return self.curl(container, patience=COMES) == f"200 {SIZE}"

    def hangs(self, container: str) -> bool:
        return not self.curl(container).startswith("200")

    def pathfit(self, *words: str, timeout: float = PATIENCE) -> "CompletedProcess[str]":
        """pathfit on the engine's host, as its root would type it."""
        return self.h.call(str(PATHFIT), *words, timeout=timeout, env=self.env)

    @property
    def env(self) -> dict[str, str]:
        state = str(self.h.folder / "state")  # the machine's own /var/lib is not the lab's
        path = f"/run/bin:{os.environ['PATH']}"
        return {**os.environ, "PATHFIT_STATE": state, "LANG": "C.UTF-8", "COLUMNS": "120", "PATH": path}

    def diagnose(self, where: str) -> dict[str, Any]:
        """The report as JSON."""
        done = self.pathfit("diagnose", "--from", where, "--to", URL, "--json")
        assert done.stdout, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def fix(self, where: str, *words: str, status: int = 0) -> str:
        """`pathfit fix WORDS --from WHERE --to` the server; what it says."""
        done = self.pathfit("fix", *words, "--from", where, "--to", URL)
        assert done.returncode == status, f"{done.returncode}: {done.stdout}{done.stderr}"
        return done.stdout

    def undo(self, which: str = "last") -> None:
        done = self.pathfit("fix", "--undo", which)
        assert done.returncode == 0, done.stdout + done.stderr


class Article(Stage):
    """The stage with dockerd on ``h`` and an image to run."""

    def __init__(
        self, lab: Lab, *args: str, config: str | None = None, narrow: int = NARROW, manager: str = ""
    ) -> None:
        super().__init__(lab, narrow)
        self.docker = Docker(self.h, *args, config=config, manager=manager)
        tar = lab.folder / "image.tar"
        tar.write_bytes(image())
        self.docker.load(tar)

    def inside(self, container: str, *words: str) -> str:
        return self.docker("exec", container, *words, check=False)


DEAF = """
table inet deaf {
  chain in { type filter hook input priority -300; icmp type destination-unreachable icmp code frag-needed drop; }
}
"""


@contextmanager
def article(*args: str, **more: Any) -> Iterator[Article]:
    """The stage for one test; nothing is left of it afterwards."""
    with Lab() as lab:
        yield Article(lab, *args, **more)
