"""SNMP and netstat counters of a namespace: what its kernel counted, before and after a measurement.

Names are "Group.Name" as in /proc/net/snmp and netstat ("Ip.FragFails", "TcpExt.TCPTimeouts"), snmp6 likewise
("Ip6.FragFails", "Icmp6.InPktTooBigs"), and "Dev.NAME.rx_dropped" of every link from /proc/net/dev.
"""

from collections.abc import Mapping

from msgspec.structs import replace

from pathfit.core.evidence import CounterFact
from pathfit.core.evidence_base import Missing
from pathfit.host import netns, procfs
from pathfit.host.netns import NetnsHandle
from pathfit.observe.namespace import refused

# thread-self: /proc/net is that of the process, and only this thread entered the namespace
_FOLDER = "/proc/thread-self/net"
_GROUPS6 = ("UdpLite6", "Icmp6", "Udp6", "Ip6")
_DEV = {1: "rx_packets", 2: "rx_errors", 3: "rx_dropped", 9: "tx_packets", 10: "tx_errors", 11: "tx_dropped"}


def read(ref: str, handle: NetnsHandle) -> CounterFact | Missing:
    """The answer to a ReadCounters request."""
    try:
        with netns.inside(handle.fd):
            pairs = procfs.text(f"{_FOLDER}/snmp") + "\n" + procfs.maybe(f"{_FOLDER}/netstat")
            single = procfs.maybe(f"{_FOLDER}/snmp6")
            devices = procfs.maybe(f"{_FOLDER}/dev")
    except OSError as e:
        return replace(refused(f"counters of {handle.where}", e), ref=ref)
    return CounterFact(ref=ref, counters={**parse_pairs(pairs), **parse_single(single), **parse_devices(devices)})


def parse_pairs(text: str) -> dict[str, int]:
    """/proc/net/snmp and netstat: a line of names, then a line of values with the same first word."""
    found: dict[str, int] = {}
    lines = text.splitlines()
    for names, values in zip(lines[::2], lines[1::2], strict=False):
        group, _, left = names.partition(":")
        other, _, right = values.partition(":")
        if group != other:
            continue
        for name, value in zip(left.split(), right.split(), strict=False):
            if value.lstrip("-").isdigit():
                found[f"{group}.{name}"] = int(value)
    return found


def parse_single(text: str) -> dict[str, int]:
    """/proc/net/snmp6: one name and value a line."""
    found: dict[str, int] = {}
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        group = next((g for g in _GROUPS6 if name.startswith(g)), None)
        if group and value.strip().isdigit():
            found[f"{group}.{name[len(group) :].strip()}"] = int(value)
    return found


def parse_devices(text: str) -> dict[str, int]:
    """/proc/net/dev: two lines of headings, then sixteen numbers behind each name."""
    found: dict[str, int] = {}
    for line in text.splitlines()[2:]:
        name, _, rest = line.rpartition(":")
        numbers = rest.split()
        if len(numbers) < 12:
            continue
        for column, word in _DEV.items():
            found[f"Dev.{name.strip()}.{word}"] = int(numbers[column])
    return found


def difference(before: Mapping[str, int], after: Mapping[str, int]) -> dict[str, int]:
    """What was counted in between: names that rose. One that fell was reset, and says nothing."""
    return {k: v - before[k] for k, v in after.items() if k in before and v > before[k]}
