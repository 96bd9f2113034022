"""What a namespace's kernel counts, as files below /proc/net say it (snmp, netstat, snmp6, dev, softnet_stat). Pure.

Names are "Group.Name" as in /proc/net/snmp and netstat ("Ip.FragFails", "TcpExt.TCPTimeouts"), snmp6 likewise
("Ip6.FragFails", "Icmp6.InPktTooBigs"), and "Dev.NAME.rx_dropped" of every link from /proc/net/dev.
"""

from collections.abc import Mapping
from typing import TypeVar

K = TypeVar("K")
_GROUPS6 = ("UdpLite6", "Icmp6", "Udp6", "Ip6")
_DEV = {1: "rx_packets", 2: "rx_errors", 3: "rx_dropped", 9: "tx_packets", 10: "tx_errors", 11: "tx_dropped"}


def pairs(text: str) -> dict[str, int]:
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


def single(text: str) -> dict[str, int]:
    """/proc/net/snmp6: one name and value a line."""
    found: dict[str, int] = {}
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        group = next((g for g in _GROUPS6 if name.startswith(g)), None)
        if group and value.strip().isdigit():
            found[f"{group}.{name[len(group) :].strip()}"] = int(value)
    return found


def devices(text: str) -> dict[str, int]:
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


def backlog(text: str) -> int:
    """/proc/net/softnet_stat: packets that found a processor's queue full, of all of them (the second column)."""
    rows = [line.split() for line in text.splitlines()]
    return sum(int(row[1], 16) for row in rows if len(row) > 1 and all(c in "0123456789abcdef" for c in row[1]))


def difference(before: Mapping[K, int], after: Mapping[K, int]) -> dict[K, int]:
    """What was counted in between: names that rose. One that fell was reset, and says nothing."""
    return {k: v - before[k] for k, v in after.items() if k in before and v > before[k]}
