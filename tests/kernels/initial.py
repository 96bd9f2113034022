"""What a guest boots from: the kernel as it is once unpacked, and the initial file system.

Both save what an interpreted machine is slow at. Debian's kernel unpacks itself (xz: three seconds in there, a quarter
of one out here). Each file opened over 9p is three questions to QEMU, which cost more than a page of Python does: 600
of them when pathfit starts, 100 when `ip` does. So copies of what is started again and again go with it, as the tree
``near``, which :mod:`vm` lays between the root and what the guest writes: the same files under the same names.
"""

import functools
import lzma
import os
import re
import shutil
import stat
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

INIT, MODULES, NEAR = "init", "modules", "near"
# Started hundreds of times by what runs in guests; one that is not here is no loss.
PROGRAMS = (
    *("bash", "sh", "ip", "ss", "nft", "ethtool", "sysctl", "modprobe", "wg", "curl", "ping", "unshare", "nsenter"),
    *("awk", "cat", "cmp", "cp", "cut", "date", "dirname", "env", "grep", "head", "kill", "mkdir", "mktemp", "printf"),
    *("readlink", "rm", "sed", "seq", "sleep", "timeout", "tr"),
)
PYTHONS = (sys.executable, "/usr/bin/python3")
# What the C library reads for each of them, and ip for itself.
ANYWAY = ("etc/ld.so.cache", "etc/locale.alias", "etc/localtime", "usr/lib/*/gconv/gconv-modules.cache",
          "usr/lib/locale/C.utf8/**/LC_*", "etc/iproute2/*", "usr/share/iproute2/*")  # fmt: skip
# Prints what a Python that runs pathfit, the labs' server or their judge reads, one path a line.
_READ = """
import importlib, pathlib, pkgutil, site, sys
import argparse, http.server, json, re, runpy, ssl, subprocess
try:
    import pathfit
    for module in pkgutil.walk_packages(pathfit.__path__, "pathfit."):
        module.name.endswith("__main__") or importlib.import_module(module.name)
except ImportError:
    pass
for spec in [getattr(x, "__spec__", None) for x in list(sys.modules.values())]:
    if spec and spec.has_location:
        print(spec.cached or spec.origin)
print(pathlib.Path(sys.prefix, "pyvenv.cfg"))
for folder in site.getsitepackages():
    print(*pathlib.Path(folder).glob("*.pth"), sep="\\n")
"""


def entry(name: str, mode: int, data: bytes = b"", owner: tuple[int, int] = (0, 0)) -> bytes:
    """One file of an initial file system (cpio "newc", Documentation/driver-api/early-userspace/buffer-format.rst)."""
    label = name.encode() + b"\0"
    numbers = (0, mode, *owner, 1, 0, len(data), 0, 0, 0, 0, len(label), 0)
    head = b"070701" + b"".join(b"%08X" % n for n in numbers) + label
    return head + bytes(-len(head) % 4) + data + bytes(-len(data) % 4)


def archive(init: str, modules: list[Path]) -> bytes:
    """The initial file system: busybox, kernel modules in the order in which they go in, the copies, and ``init``."""
    folders = ("bin", MODULES, "proc", "sys", "dev", "below", "above", "root", NEAR)
    parts = [entry(name, stat.S_IFDIR | 0o755) for name in folders]
    parts.append(entry("bin/busybox", stat.S_IFREG | 0o755, Path(shutil.which("busybox") or "").read_bytes()))
    parts.append(entry(INIT, stat.S_IFREG | 0o755, init.encode()))
    for n, path in enumerate(modules):
        data = path.read_bytes()
        if path.suffix == ".xz":
            data = lzma.decompress(data)
        parts.append(entry(f"{MODULES}/{n:02}-{path.name.removesuffix('.xz')}", stat.S_IFREG | 0o644, data))
    return b"".join((*parts, near(), entry("TRAILER!!!", 0)))


@functools.cache
def near() -> bytes:
    """The copies, each below the folders it is in, whose modes and owners they have as well."""
    folders: dict[Path, None] = {}
    files = sorted(x for x in read() if x.is_file() and os.access(x, os.R_OK))
    for file in files:
        folders |= dict.fromkeys(reversed(file.parents[:-1]))
    parts = []
    for path in (*folders, *files):
        seen = path.stat()
        data = b"" if path in folders else path.read_bytes()
        parts.append(entry(f"{NEAR}{path}", seen.st_mode, data, (seen.st_uid, seen.st_gid)))
    return b"".join(parts)


def read() -> set[Path]:
    """The files, as they are named without links."""
    programs = [x for x in (shutil.which(p, path="/usr/sbin:/usr/bin:/sbin:/bin") for p in PROGRAMS) if x]
    found = {*programs, *PYTHONS, *(str(x) for pattern in ANYWAY for x in Path("/").glob(pattern))}
    for python in PYTHONS:
        said = subprocess.run([python, "-c", _READ], stdout=subprocess.PIPE, text=True, check=False)
        found.update(said.stdout.splitlines())
    linked = [x for x in found if x in (*programs, *PYTHONS) or ".so" in Path(x).suffixes]
    said = subprocess.run(["ldd", *linked], capture_output=True, text=True, check=False)  # one of them may be static
    found.update(re.findall(r"(/\S+) \(0x", said.stdout))
    return {Path(os.path.realpath(x)) for x in found}


def unpacked(image: Path) -> Path:
    """The kernel inside a bzImage (Documentation/arch/x86/boot.rst), in a file beside it that stays there; the image
    itself where that is packed in another way than Debian's, cannot be started so (PVH), or nothing can be written."""
    beside = image.with_name("vmlinux")
    if not beside.exists():
        kernel = _payload(image.read_bytes())
        if not any(struct.pack("<III", 4, size, _PHYS32_ENTRY) + b"Xen\0" in kernel for size in (4, 8)):
            return image
        try:
            with tempfile.NamedTemporaryFile(dir=image.parent, prefix=".vmlinux-", delete=False) as new:
                new.write(kernel)
            os.replace(new.name, beside)
        except OSError:
            return image
    return beside


_PHYS32_ENTRY = 18  # xen/interface/elfnote.h


def _payload(image: bytes) -> bytes:
    """What the image unpacks when it starts, b"" when it cannot be done here."""
    at, size = struct.unpack_from("<II", image, 0x248)  # payload_offset, payload_length
    at += 512 * (image[0x1F1] + 1)  # setup_sects
    packed = image[at : at + size - 4]  # the last four: how large it becomes
    if packed.startswith(b"\xfd7zXZ"):
        return lzma.decompress(packed)
    if packed.startswith(b"\x28\xb5\x2f\xfd") and shutil.which("zstd"):
        return subprocess.run(["zstd", "-dc"], input=packed, capture_output=True, check=True).stdout
    return b""
