"""SNMP and netstat counters of a namespace (:mod:`pathfit.wire.snmp`): what its kernel counted, before and after a
measurement.
"""

from msgspec.structs import replace

from pathfit.core.evidence import CounterFact
from pathfit.core.evidence_base import Missing
from pathfit.host import netns, procfs
from pathfit.host.netns import NetnsHandle
from pathfit.observe.namespace import refused
from pathfit.wire import snmp

# thread-self: /proc/net is that of the process, and only this thread entered the namespace
_FOLDER = "/proc/thread-self/net"


def read(ref: str, handle: NetnsHandle) -> CounterFact | Missing:
    """The answer to a ReadCounters request."""
    try:
        with netns.inside(handle.fd):
            pairs = procfs.text(f"{_FOLDER}/snmp") + "\n" + procfs.maybe(f"{_FOLDER}/netstat")
            single = procfs.maybe(f"{_FOLDER}/snmp6")
            devices = procfs.maybe(f"{_FOLDER}/dev")
    except OSError as e:
        return replace(refused(f"counters of {handle.where}", e), ref=ref)
    return CounterFact(ref=ref, counters={**snmp.pairs(pairs), **snmp.single(single), **snmp.devices(devices)})
