"""A repair that is killed (SIGKILL) at one of its calls. Run on the lab host: `killed.py ORDERS` with a JSON document.

``changes`` as the journal has them, ``die`` the number of the call after which it ends. A call is whatever changes
something: a request to the engine other than GET, a command of Podman's, the end and the start of the daemon, and each
step as the journal sees it, before its first effect and after its last. So there is no other moment: before a call is
after the one that precedes it. ``during``: the command of Podman's that is left running when we are killed. Prints how
many there were when it was not killed.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from pathfit.apply import containers, sequence
from pathfit.apply.dockerapi import Api
from pathfit.apply.store import Store
from pathfit.core.change import Change
from pathfit.core.finding import EvidenceLine, Finding, Fix
from pathfit.core.net import Point
from pathfit.host import process

calls = 0


def counted(act: Callable[..., Any], orders: dict[str, Any], counts: Callable[..., bool]) -> Callable[..., Any]:
    def wrapped(*args: Any, **more: Any) -> Any:
        global calls
        if not counts(*args):
            return act(*args, **more)
        calls += 1
        mine = calls == orders["die"]
        done = act(*args, **more)
        if mine:
            os.kill(os.getpid(), signal.SIGKILL)
        return done

    return wrapped


def left(command: str, run: Callable[..., Any]) -> Callable[..., Any]:
    """`run` that dies as soon as that command has begun; its output then leads nowhere, as it would."""

    def wrapped(words: Sequence[str], **more: Any) -> Any:
        if command in words:
            pipe, whole = subprocess.PIPE, {**os.environ, **more["env"]}
            subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=pipe, env=whole, start_new_session=True)
            os.kill(os.getpid(), signal.SIGKILL)
        return run(words, **more)

    return wrapped


def main() -> None:
    orders = json.loads(sys.argv[1])
    containers.run = left(orders.get("during", "-"), containers.run)
    podman = containers._Podman
    podman.do = counted(podman.do, orders, lambda self, command, ids: bool(ids))  # type: ignore[method-assign]
    changes = msgspec.convert(orders["changes"], type=tuple[Change, ...])
    Api._ask = counted(Api._ask, orders, lambda self, method, *_: method != "GET")  # type: ignore[method-assign]
    process.end = counted(process.end, orders, lambda *_: True)
    process.start = counted(process.start, orders, lambda *_: True)
    hook = counted(lambda at: None, orders, lambda at: at in ("perform", "performed"))
    at = Point(host="h", netns="container:ci")
    finding = Finding(
        code="MTU101",
        name="inbound-black-hole",
        severity="error",
        confidence="confirmed",
        where=(at,),
        facts={},
        evidence=(EvidenceLine(ref="probe:1"),),
    )
    fix = Fix(id="test", title="fix.route-mtu", platform="docker", changes=changes, facts={"place": "ci"})
    store = Store(hook=hook)
    with store.locked("a test"):
        journal = sequence.planned(finding, fix, source="container:ci", target="")
        journal = sequence.keep(store, sequence.apply(store, sequence.prepare(store, journal)))
        print(json.dumps({"calls": calls, "state": journal.state}))


if __name__ == "__main__":
    main()
