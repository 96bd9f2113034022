"""Run this command again where nothing outside can be touched: namespaces of its own, the only link is lo.

``isolated.sh`` does it (``make test`` uses the same script); this is its face for commands that build labs.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parent / "isolated.sh"
SBIN = "/usr/sbin:/sbin"  # where Debian keeps ip and nft from ordinary users' PATH
PROGRAMS = {"ip": "iproute2", "nft": "nftables", "ethtool": "ethtool", "curl": "curl", "unshare": "util-linux"}
CHECK_SECONDS = 20  # making and leaving five namespaces takes 0.03 s


def inside() -> bool:
    """Whether this process was started by the script."""
    return os.environ.get("PATHFIT_ISOLATED") == "1"


def refused() -> list[str]:
    """Why no lab can be built in isolation here, and what would allow it; empty when one can."""
    if not sys.platform.startswith("linux"):
        return ["labs are built from network namespaces, which only Linux has"]
    extend_path()
    absent = sorted({package for program, package in PROGRAMS.items() if shutil.which(program) is None})
    if absent:
        return [f"labs need {' '.join(absent)}", f"try: {install(absent)}"]
    check = subprocess.run(["sh", str(SCRIPT), "--check"], capture_output=True, text=True, timeout=CHECK_SECONDS)
    return check.stderr.strip().splitlines() if check.returncode else []


def install(packages: list[str]) -> str:
    """The line that installs ``packages`` (Debian's names; they are those of Fedora and Alpine, nearly always)."""
    if shutil.which("dnf"):
        return "sudo dnf install -y " + " ".join(packages).replace("iproute2", "iproute")
    if shutil.which("apk"):
        return "doas apk add " + " ".join(packages)
    return "sudo apt-get install -y --no-install-recommends " + " ".join(packages)


def extend_path() -> None:
    os.environ["PATH"] = os.environ.get("PATH", os.defpath) + ":" + SBIN


def again() -> int:
    """Run this very command line inside; returns its exit status."""
    sys.stdout.flush()
    command = ["sh", str(SCRIPT), sys.executable, "-m", "pathfit", *sys.argv[1:]]
    return subprocess.call(command, env={**os.environ, "PYTHONSAFEPATH": "1"})
