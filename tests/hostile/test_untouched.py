"""A diagnosis changes nothing where it asks from: routes, caches, metrics, neighbours, filters, links, sysctls.

A healthy path, a hole, and a path whose limit is told (where an ordinary large request would teach this host a path
MTU: probing.md 1), over IPv4 and IPv6; with privileges, and from inside without.
"""

import re
import sys
from pathlib import Path

import pytest
from rig import pathfit
from test_places import ordinary

from pathfit.lab import Lab, load

SCENARIOS = {
    "healthy": 0,
    "article-000": 1,
    "pmtud-works": 0,
    "v6-healthy": 0,
    "v6-too-big-filtered-at-server": 1,
    "v6-pmtud-works": 0,
}
LOOKS = {
    "IPv4 route cache": ["ip", "-4", "route", "show", "cache"],
    "IPv6 route cache": ["ip", "-6", "route", "show", "cache"],
    "IPv4 routes": ["ip", "-4", "route", "show", "table", "all"],
    "IPv6 routes": ["ip", "-6", "route", "show", "table", "all"],
    "rules": ["ip", "rule"],
    "TCP metrics": ["ip", "tcp_metrics", "show"],
    "neighbours": ["ip", "neigh"],
    "links": ["ip", "-d", "link"],
    "addresses": ["ip", "address"],
    "filters": ["nft", "list", "ruleset"],
    "queues": ["tc", "qdisc"],
    "sysctls": ["sysctl", "-a", "--pattern", r"^net\.(ipv4\.(tcp_|ip_|route|conf|ping|icmp)|ipv6\.)"],
    "sockets": ["ss", "-H", "-a", "-n", "-0", "-t", "-u", "-w", "state", "all", "exclude", "time-wait"],
}
MOVES = [  # what changes by itself
    (r" (REACHABLE|STALE|DELAY|PROBE|NOARP|PERMANENT)\b", ""),
    (r"(ref|used|probes) \S+", ""),
    (r"expires? -?\d+sec", "expires"),
    (r"(valid|preferred)_lft \S+", ""),
    (r"age -?[\d.]+sec", "age"),
    (r"(rtt|rttvar|rto) \S+", ""),
]
TOUCH = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 5).close()"


def look(lab: Lab) -> dict[str, list[str]]:
    seen = {}
    for what, words in LOOKS.items():
        done = lab.run("c", words)
        text = done.stdout.decode() + (done.stderr.decode() if done.returncode else "")
        for pattern, instead in MOVES:
            text = re.sub(pattern, instead, text)
        seen[what] = sorted(line.strip() for line in text.splitlines())
    return seen


def acquainted(lab: Lab) -> None:
    """The client has spoken with the server once: neighbours on the way are known."""
    host, _, port = lab.target().split("/")[2].rpartition(":")
    lab.run("c", [sys.executable, "-c", TOUCH, host.strip("[]"), port])


@pytest.mark.lab
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_nothing_changes_where_it_asks_from(scenario: str) -> None:
    with Lab.up(load(scenario)) as lab:
        acquainted(lab)
        before = look(lab)
        ended = pathfit("diagnose", "--from", lab.where("c"), "--to", lab.target())
        assert ended.status == SCENARIOS[scenario], ended.out
        assert look(lab) == before
        inside = ["ip", "netns", "exec", lab.where("c").removeprefix("netns:"), *ordinary()]
        ended = pathfit("probe", lab.target(), "--json", before=inside)
        # The way out can only be measured with our kernel's own segments then; "too big" is remembered, as by curl.
        changed = {what for what, seen in look(lab).items() if seen != before[what]}
        assert changed <= {"IPv4 route cache", "IPv6 route cache", "IPv6 routes"}
        assert bool(changed) == ('"where": "here"' in ended.out)
        assert not changed or SCENARIOS[scenario] == 0  # never where it would hide a fault


@pytest.mark.lab
def test_no_file_is_written(tmp_path: Path) -> None:
    """Without --save: neither in the working folder, nor in HOME, nor in the state folder."""
    with Lab.up(load("article-000")) as lab:
        places = {
            name: tmp_path / name for name in ("HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME", "PATHFIT_STATE", "TMPDIR")
        }
        for path in places.values():
            path.mkdir()
        environment = {name: str(path) for name, path in places.items()}
        watched = ["sh", "-c", 'cd "$0" && exec "$@"', str(tmp_path)]
        assert pathfit("diagnose", "--from", lab.where("c"), "--to", lab.target(), before=watched, environment=environment).status == 1  # fmt: skip # noqa: E501
        assert sorted(p.name for p in tmp_path.rglob("*")) == sorted(places)
