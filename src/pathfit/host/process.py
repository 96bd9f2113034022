"""A daemon ended and started again as it was: its words, environment, folder, limits and cgroups.

Only for a process in all our own namespaces and of our own user; :func:`described` refuses any other.
"""

import errno
import os
import resource
import select
import signal
from contextlib import suppress

from pathfit.core.engined import Startable
from pathfit.host import procfs

NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")
LIMITS = tuple(getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_"))
CGROUPS = "/sys/fs/cgroup"
_IGNORED_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)  # and what is ignored stays so over exec(3)


def started(pid: int) -> int:
    """When a process was started, clock ticks after boot (field 22 of proc_pid_stat(5)); 0: there is none."""
    fields = procfs.maybe(f"/proc/{pid}/stat", 4096).rpartition(")")[2].split()
    return int(fields[19]) if len(fields) > 19 and fields[0] not in "ZX" else 0


def foreign(pid: int) -> str:
    """Why a process is not ours to start again, "" when it is."""
    for kind in NAMESPACES:
        if procfs.link(f"/proc/{pid}/ns/{kind}") != procfs.link(f"/proc/self/ns/{kind}"):
            return f"it lives in a {kind} namespace of its own"
    if procfs.link(f"/proc/{pid}/root") != procfs.link("/proc/self/root"):
        return "it has a root of its own"
    if _field(pid, "Uid").split() != _field(os.getpid(), "Uid").split():
        return "it runs as another user"
    return ""


def described(pid: int) -> Startable:
    """All that :func:`start` needs. Raises OSError."""
    argv = procfs.read(f"/proc/{pid}/cmdline").removesuffix(b"\0").split(b"\0")
    env = procfs.read(f"/proc/{pid}/environ").removesuffix(b"\0").split(b"\0")
    return Startable(
        exe=os.readlink(f"/proc/{pid}/exe").removesuffix(" (deleted)"),  # an upgrade has put a new one in its place
        argv=tuple(argv),
        env=tuple(x for x in env if b"=" in x),
        cwd=os.readlink(f"/proc/{pid}/cwd"),
        umask=int(_field(pid, "Umask") or "022", 8),
        oom=int(procfs.maybe(f"/proc/{pid}/oom_score_adj") or 0),
        output=_output(pid),
        cgroups=_cgroups(pid),
        limits=tuple((n, *resource.prlimit(pid, n)) for n in LIMITS),
    )


def end(pid: int, begun: int, patience: float) -> None:
    """SIGTERM, and wait for its end. Nothing when it is gone already. Raises OSError, TimeoutError."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        if started(pid) != begun:
            return  # the number belongs to somebody else by now
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(fd, signal.SIGTERM)
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        if not poll.poll(patience * 1000):
            raise TimeoutError(errno.ETIMEDOUT, f"process {pid} does not end")
    finally:
        os.close(fd)


def start(how: Startable) -> None:
    """Start it again: a child of init's, in a session of its own. Raises OSError when it cannot be started."""
    reading, writing = os.pipe2(os.O_CLOEXEC)  # closed by a successful exec
    child = os.fork()
    if child == 0:
        try:
            os.setsid()
            if os.fork():
                os._exit(0)
            _become(how)
        except BaseException as e:
            os.write(writing, f"{getattr(e, 'errno', 0) or 0} {e}".encode())
        os._exit(127)
    os.close(writing)
    os.waitpid(child, 0)
    with open(reading, "rb") as pipe:
        said = pipe.read().decode("utf-8", "backslashreplace")
    if said:
        number, _, why = said.partition(" ")
        raise OSError(int(number), f"{how.exe} cannot be started: {why}")


def _become(how: Startable) -> None:
    """This process becomes it. Raises OSError."""
    null = os.open(os.devnull, os.O_RDWR)
    out = null
    if how.output:
        with suppress(OSError):
            out = os.open(how.output, os.O_WRONLY | os.O_APPEND | os.O_NOCTTY)
    for n, fd in enumerate((null, out, out)):
        os.dup2(fd, n)
    for ignored in _IGNORED_BY_PYTHON:
        signal.signal(ignored, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for names, path in how.cgroups.items():
        _join(names, path)
    for number, soft, hard in how.limits:
        with suppress(OSError, ValueError):  # one above what we may give
            resource.setrlimit(number, (soft, hard))
    with suppress(OSError), open("/proc/self/oom_score_adj", "w") as f:
        f.write(str(how.oom))
    os.umask(how.umask)
    os.chdir(how.cwd)
    env = dict(x.split(b"=", 1) for x in how.env)
    os.execve(how.exe, list(how.argv), env)


def _join(names: str, path: str) -> None:
    """Into a cgroup, where that hierarchy is mounted in one of the usual places (cgroups(7))."""
    places = [f"{CGROUPS}/{names.removeprefix('name=')}"] if names else [f"{CGROUPS}/unified", CGROUPS]
    for place in places:
        with suppress(OSError), open(f"{place}{path}/cgroup.procs", "w") as f:
            f.write("0")
            return


def _cgroups(pid: int) -> dict[str, str]:
    """Its cgroups that are not ours anyway."""
    ours = set(procfs.maybe("/proc/self/cgroup").splitlines())
    lines = (x.split(":", 2) for x in procfs.maybe(f"/proc/{pid}/cgroup").splitlines() if x not in ours)
    return {fields[1]: fields[2] for fields in lines if len(fields) == 3}


def _output(pid: int) -> str:
    """The regular file that its error output goes to."""
    path = procfs.link(f"/proc/{pid}/fd/2")
    return path if path.startswith("/") and os.path.isfile(path) else ""


def _field(pid: int, name: str) -> str:
    for line in procfs.maybe(f"/proc/{pid}/status").splitlines():
        if line.startswith(f"{name}:"):
            return line.partition(":")[2].strip()
    return ""
