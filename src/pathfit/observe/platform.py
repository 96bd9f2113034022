"""Which network manager keeps a device of this host, and which file a lasting change would go into.

Only runtime state that the managers write themselves counts as certain:

* systemd-networkd: /run/systemd/netif/links/INDEX (ADMIN_STATE, NETWORK_FILE; link_save());
* NetworkManager: /run/NetworkManager/devices/INDEX (managed, connection-uuid; nm_config_device_state_write());
* netplan: a file of either that netplan generated ("10-netplan-ID.network", "netplan-ID.nmconnection");
* ifupdown: /run/network/ifstate, and the stanza in /etc/network/interfaces or a file that it includes.

They speak of the devices of the first process of our pid namespace; of another network namespace nothing is said.
"""

import glob
import os
import re
from collections.abc import Iterator

from pathfit.core.evidence import PlatformFact
from pathfit.core.evidence_base import AS_ROOT, Missing
from pathfit.core.platform import LinkOwner, own_file
from pathfit.core.request import ReadPlatform
from pathfit.host import procfs

SYSTEMD = ("/etc", "/run", "/usr/local/lib", "/usr/lib", "/lib")
KEYFILES = ("/etc", "/run", "/usr/lib")
INTERFACES = "/etc/network/interfaces"
SECRETS = re.compile(r"(?im)^\s*(wpa-|wireless-key)|passw|passphrase|secret|psk")
ID = re.compile(r"[\w.@-]+\Z", re.ASCII)
GONE = ("unmanaged", "linger", "failed")  # ADMIN_STATE of a device that networkd does not keep
MOST_FILES = 200  # included by /etc/network/interfaces


def read(request: ReadPlatform, root: str = "") -> PlatformFact:
    """The answer to a ReadPlatform request. ``root`` goes before every path (tests)."""
    link = request.link
    fact = PlatformFact(ref=request.ref, netns=request.netns, link=link)
    refused = _elsewhere(request.netns, root)
    if refused is None and not ID.match(link):
        refused = Missing(what=f"who keeps {link}", why="its name cannot stand in a file name", how="", code="unsure")
    if refused is not None:
        return PlatformFact(ref=request.ref, netns=request.netns, link=link, missing=(refused,))
    owners: list[LinkOwner] = []
    missing: list[Missing] = []
    for found in (_networkd(request, root), _networkmanager(request, root), _ifupdown(request, root)):
        if isinstance(found, LinkOwner) and found.manager not in [o.manager for o in owners]:
            owners.append(found)
        elif isinstance(found, Missing):
            missing.append(found)
    if len(owners) > 1:
        names = " and ".join(o.manager for o in owners)
        missing.append(Missing(what=f"who keeps {link}", why=f"{names} both say that they do", how="", code="unsure"))
    return PlatformFact(ref=fact.ref, netns=fact.netns, link=link, owners=tuple(owners), missing=tuple(missing))


def _elsewhere(netns: str, root: str) -> Missing | None:
    """Managers stand where process 1 stands. Nothing when that is the asked namespace."""
    what = "who keeps the devices of this host"
    try:
        st = os.stat(f"{root}/proc/1/ns/net")
    except OSError as e:
        return Missing(what=what, why=e.strerror or str(e), how=AS_ROOT, code="permission")
    if f"{st.st_dev}:{st.st_ino}" != netns:
        return Missing(what=what, why="its managers stand in another network namespace", how="", code="absent")
    return None


# -- systemd-networkd, netplan --------------------------------------------------------------------------------------


def _networkd(r: ReadPlatform, root: str) -> LinkOwner | None:
    state = dict(_pairs(procfs.maybe(f"{root}/run/systemd/netif/links/{r.index}")))
    file = state.get("NETWORK_FILE", "")
    if not file.startswith("/") or state.get("ADMIN_STATE", "") in GONE:
        return None
    base = file.rpartition("/")[2]
    made = re.fullmatch(r"10-netplan-(.+)\.network", base)
    if made is not None:
        return _netplan(made[1], r, root)
    if not base.endswith(".network") or not ID.match(base):
        return None
    path = own_file("networkd", file, r.link)
    folders = [f"{root}{top}/systemd/network/{base}.d" for top in SYSTEMD]
    return LinkOwner(
        manager="networkd", name=file, path=path, text=_text(root, path), later=_later(path, folders, ".conf")
    )


def _netplan(name: str, r: ReadPlatform, root: str) -> LinkOwner | None:
    if not ID.match(name):
        return None
    path = own_file("netplan", name, r.link)
    folders = [f"{root}{top}/netplan" for top in ("/lib", "/etc", "/run")]
    return LinkOwner(
        manager="netplan", name=name, path=path, text=_text(root, path), later=_later(path, folders, ".yaml")
    )


# -- NetworkManager -------------------------------------------------------------------------------------------------


def _networkmanager(r: ReadPlatform, root: str) -> LinkOwner | None:
    device = _sections(procfs.maybe(f"{root}/run/NetworkManager/devices/{r.index}")).get("device", {})
    uuid = device.get("connection-uuid", "")
    if device.get("managed") != "true" or not ID.match(uuid):
        return None
    file, profile = _keyfile(uuid, root)
    made = re.fullmatch(r"netplan-(.+)\.nmconnection", file)
    if made is not None:
        return _netplan(made[1], r, root)
    path = own_file("networkmanager", uuid, r.link)
    later = _later(path, [f"{root}{top}/NetworkManager/conf.d" for top in KEYFILES], ".conf")
    return LinkOwner(
        manager="networkmanager", name=uuid, path=path, text=_text(root, path), later=later, mtu=_profile_mtu(profile)
    )


def _keyfile(uuid: str, root: str) -> tuple[str, dict[str, dict[str, str]]]:
    """The file name and the sections of a connection's profile; ("", {}) when it is in no keyfile."""
    for top in KEYFILES:
        folder = f"{root}{top}/NetworkManager/system-connections"
        for name in procfs.names(folder):
            sections = _sections(procfs.maybe(f"{folder}/{name}"))
            if sections.get("connection", {}).get("uuid") == uuid:
                return name, sections
    return "", {}


def _profile_mtu(profile: dict[str, dict[str, str]]) -> int | None:
    """What the profile itself sets: it counts more than any default. None without a profile."""
    if not profile:
        return None
    for section in ("ethernet", "802-3-ethernet", "wifi", "802-11-wireless"):
        text = profile.get(section, {}).get("mtu", "0")
        if text != "0":
            return int(text) if text.isdigit() else None
    return 0


# -- ifupdown -------------------------------------------------------------------------------------------------------


def _ifupdown(r: ReadPlatform, root: str) -> LinkOwner | Missing | None:
    state = dict(_pairs(procfs.maybe(f"{root}/run/network/ifstate")))
    name = state.get(r.link, "")
    if not name:
        return None
    stanza = re.compile(rf"(?m)^[ \t]*iface[ \t]+{re.escape(name)}[ \t]+(inet6?)\b")
    found = [(path, text) for path, text in _included(root, INTERFACES, {}) if stanza.search(text)]
    if not found:
        return None
    ranked = sorted(found, key=lambda x: "inet" not in stanza.findall(x[1]))  # the IPv4 stanza before the IPv6 one
    path, text = ranked[0]
    if SECRETS.search(text):
        why = "it holds passwords, and what is read may be saved"
        return Missing(what=path, why=why, how="", code="refused")
    return LinkOwner(manager="ifupdown", name=name, path=path, text=text)


def _included(root: str, path: str, seen: dict[str, None]) -> Iterator[tuple[str, str]]:
    """/etc/network/interfaces and what it includes, in order: (path, text)."""
    text = _text(root, path)
    if text is None or path in seen or len(seen) >= MOST_FILES:
        return
    seen[path] = None
    yield path, text
    for word, pattern in re.findall(r"(?m)^[ \t]*(source|source-directory)[ \t]+(\S+)[ \t]*$", text):
        whole = os.path.join(os.path.dirname(path), pattern)
        more = sorted(glob.glob(f"{root}{whole}/*" if word == "source-directory" else f"{root}{whole}"))
        for file in more:
            if word == "source" or re.fullmatch(r"[a-zA-Z0-9_-]+", os.path.basename(file)):
                yield from _included(root, file.removeprefix(root), seen)


# -- files ----------------------------------------------------------------------------------------------------------


def _text(root: str, path: str) -> str | None:
    """The whole text of a file, None when there is none or it is no UTF-8 text."""
    try:
        return procfs.read(f"{root}{path}").decode()
    except (OSError, UnicodeDecodeError):
        return None


def _later(path: str, folders: list[str], suffix: str) -> tuple[str, ...]:
    """Files of those folders that are read after ``path``."""
    own = path.rpartition("/")[2]
    return tuple(f"{f}/{n}" for f in folders for n in procfs.names(f) if n.endswith(suffix) and n > own)


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        key, equals, value = line.partition("=")
        if equals and not line.startswith(("#", ";")):
            yield key.strip(), value.strip()


def _sections(text: str) -> dict[str, dict[str, str]]:
    """A keyfile: values by section and key."""
    found: dict[str, dict[str, str]] = {}
    for part in re.split(r"(?m)^\[", text)[1:]:
        name, _, body = part.partition("]")
        found.setdefault(name, {}).update(_pairs(body))
    return found
