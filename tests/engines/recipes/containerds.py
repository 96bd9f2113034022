"""containerd in a lab host, and containers whose network CNI plugins make: `ctr run --cni`.

    lab host: cni0 (198.19.10.1) > containers

`ctr` joins what a kubelet would ask for: it reads the first list of plugins in /etc/cni/net.d and has them in
/opt/cni/bin build the network of /proc/PID/ns/net; there is no other name for that namespace. Plugins are Debian's
(/usr/lib/cni); /opt and /var/lib (leases and results of CNI) are the host's own.
"""

import hashlib
import io
import json
import platform
import tarfile
from pathlib import Path

from engine import INTO, STAY, image
from labhost import Lab, LabHost, until

from recipes import own

SOCKET = "/run/containerd/containerd.sock"
PROGRAMS = ("containerd", "ctr", "runc", "host-local")
IMAGE = "lab.invalid/small:1"  # containerd wants a name with a registry; none is asked
PLUGINS = ("/usr/lib/cni", "/usr/libexec/cni")


class Containerd:
    """``self(...)`` is `ctr` on the host; there is an image to run, with ``programs`` in it. ``mtu`` bytes: what the
    plugin gives containers, None: it is not told; ``text``: another list of plugins."""

    def __init__(
        self, lab: Lab, host: LabHost, mtu: int | None = 1500, programs: tuple[str, ...] = (), text: str = ""
    ) -> None:
        self.host = host
        own(host, "/var/lib")
        host.run("mount", "-t", "tmpfs", "tmpfs", "/opt")
        plugins = next(x for x in PLUGINS if Path(x, "host-local").exists())
        host.run("mkdir", "/opt/cni")
        host.run("ln", "-s", plugins, "/opt/cni/bin")
        host.run("rm", "-rf", "/etc/cni/net.d")
        host.run("mkdir", "-p", "/etc/cni/net.d")
        host.path("/etc/cni/net.d/10-lab.conflist").write_text(text or network(mtu))
        log = host.folder / "containerd.log"
        config = host.path("/etc/containerd.toml")
        config.write_text('version = 2\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n')
        words = ("containerd", "-c", "/etc/containerd.toml", "--root", f"{host.folder}/data/containerd")
        more = ("--state", "/run/containerd", "--address", SOCKET)
        host.run("setsid", "--fork", "sh", "-c", INTO, "sh", str(log), *words, *more)
        until(
            lambda: host.call("ctr", "--timeout", "2s", "version").returncode == 0,
            "containerd",
            detail=lambda: log.read_text()[-3000:],
        )
        tar = host.folder / "small.tar"
        tar.write_bytes(archive(image(programs)))
        self("images", "import", str(tar))

    def __call__(self, *words: str, check: bool = True) -> str:
        """`ctr WORDS`; what it printed, without blanks around it."""
        return self.host.run("ctr", *words, check=check).strip()

    def run(self, name: str) -> str:
        """A container in the background with a network; its address."""
        self("run", "-d", "--cni", "--cgroup", f"/{self.host.cgroup}/{name}", IMAGE, name, *STAY)
        shown = self.host.run("nsenter", "-t", self.pid(name), "-n", "ip", "-j", "-4", "addr", "show", "dev", "eth0")
        return str(json.loads(shown)[0]["addr_info"][0]["local"])

    def pod(self, pod: str, name: str, attempt: int = 0) -> str:
        """What the CRI plugin makes of a pod "NAMESPACE/NAME" with one container: the same annotations (pkg/cri), the
        sandbox's network by CNI, the container in the sandbox's namespace. Its id; with each ``attempt`` another, as a
        kubelet's are. The sandbox's stands in :meth:`sandbox`."""
        space, _, short = pod.partition("/")
        sandbox, inside = self.sandbox(pod, attempt), _id(f"{pod} {name} {attempt}")
        notes = {"sandbox-id": sandbox, "sandbox-name": short, "sandbox-namespace": space}
        always = ("run", "-d", *_notes({**notes, "container-type": "sandbox"}))
        self(*always, "--cni", "--cgroup", f"/{self.host.cgroup}/{sandbox}", IMAGE, sandbox, *STAY)
        more = _notes({**notes, "container-type": "container", "container-name": name})
        joined = ("--with-ns", f"network:/proc/{self.pid(sandbox)}/ns/net", "--cgroup", f"/{self.host.cgroup}/{inside}")
        self("run", "-d", *more, *joined, IMAGE, inside, *STAY)
        return inside

    def remove(self, *names: str) -> None:
        """End containers. No plugin is asked to DEL: `ctr` does that only for what runs in its foreground. The veth
        goes with the namespace."""
        for name in names:
            self("tasks", "rm", "-f", name)
            self("containers", "rm", name)

    @staticmethod
    def sandbox(pod: str, attempt: int = 0) -> str:
        return _id(f"{pod} {attempt}")

    def exec(self, name: str, *words: str, check: bool = True) -> str:
        """A command in a container; what it printed. Not by `ctr tasks exec`: on a busy machine that ends before it has
        copied what was printed (containerd/containerd#13931)."""
        return self.host.run("nsenter", "-t", self.pid(name), "-m", "-u", "-i", "-n", "-p", *words, check=check).strip()

    def pid(self, name: str) -> str:
        """The number of a container's process, as the host counts."""
        return next(x.split()[1] for x in self("tasks", "ls").splitlines() if x.split()[0] == name)


def _id(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _notes(notes: dict[str, str]) -> list[str]:
    return [word for k, v in notes.items() for word in ("--annotation", f"io.kubernetes.cri.{k}={v}")]


def network(mtu: int | None, plugin: str = "bridge") -> str:
    """A list of plugins (CNI 0.4.0): one bridge, or a veth for each container ("ptp"); addresses by host-local."""
    ranges = {"type": "host-local", "ranges": [[{"subnet": "198.19.10.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}
    told = {} if mtu is None else {"mtu": mtu}
    own = {"bridge": "cni0", "isGateway": True} if plugin == "bridge" else {}
    first = {"type": plugin, **own, "ipMasq": True, **told, "ipam": ranges}
    return json.dumps({"cniVersion": "0.4.0", "name": "lab", "plugins": [first]})


def archive(layer: bytes) -> bytes:
    """An image of one layer as `docker save` writes it."""
    digest = hashlib.sha256(layer).hexdigest()
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    layers = {"type": "layers", "diff_ids": [f"sha256:{digest}"]}
    config = {"architecture": machine, "os": "linux", "config": {}, "rootfs": layers}
    manifest = [{"Config": "config.json", "RepoTags": [IMAGE], "Layers": ["layer.tar"]}]
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        parts = {"manifest.json": json.dumps(manifest).encode(), "config.json": json.dumps(config).encode()}
        for name, data in {**parts, "layer.tar": layer}.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return out.getvalue()
