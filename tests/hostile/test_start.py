"""What is loaded before the first packet leaves. How long that takes is measured by bench/first_packet.py; here only
that nothing large has crept in, which is the same on every machine.
"""

import subprocess
import sys

import pytest
from rig import ENVIRONMENT
from stage import PORT, SERVER, pair

# What looks back, or explains, or is for another command: each costs milliseconds.
NOT_YET = {
    *("ast", "dis", "inspect", "pathlib", "pydoc", "shlex", "tokenize", "typing_extensions", "urllib.parse"),
    *("asyncio", "dns", "json", "rich", "ssl", "subprocess", "yaml"),
    *("pathfit.core.report", "pathfit.diagnose", "pathfit.model.walk", "pathfit.remedies", "pathfit.render"),
    *("pathfit.rules", "pathfit.wire.nft.tables", "pathfit.wire.wireguard", "pathfit.words"),
}
TELL = """
import sys
from pathfit.cli import entry
def hear(event, args):
    if event == "socket.connect" and args[0].type == 1:
        print(*sys.modules, file=sys.stderr, flush=True)
        sys.modules["os"]._exit(9)
sys.addaudithook(hear)
sys.argv[0] = "pathfit"
entry.main()
"""


@pytest.mark.lab
def test_what_is_loaded_before_the_first_syn() -> None:
    with pair() as net:
        words = [sys.executable, "-c", TELL, "probe", f"https://{SERVER[0]}:{PORT}/", "--json"]
        ran = subprocess.run(
            ["ip", "netns", "exec", net("c"), *words], env=ENVIRONMENT, capture_output=True, text=True, check=False
        )
    assert ran.returncode == 9, ran
    loaded = set(ran.stderr.split())
    assert "pathfit.probe.tcp.engine" in loaded
    stands = {"inspect"} if "ast" not in loaded else set()  # what stands for it (cli/entry.py) has its name
    assert not (NOT_YET & loaded) - stands, (NOT_YET & loaded) - stands
    assert len(loaded) < 240, len(loaded)
