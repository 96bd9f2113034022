"""Capture: what really happens to the packets of one flow on this machine, seen in the kernel.

* :mod:`~pathfit.capture.watch` - taps at every point of its way at once, while something else sends;
* :mod:`~pathfit.capture.cables` - two halves of one cable, each hearing what comes in;
* :mod:`~pathfit.capture.times` - when each packet passed, whatever is done to the clock;
* :mod:`~pathfit.capture.drops` - where the kernel drops them, and why (a CO-RE program, ``bpf/trace.bpf.c``);
* :mod:`~pathfit.capture.counters` - what the kernel's counters say of it, before and after, where no program may run;
* :mod:`~pathfit.capture.rules` - which rule of nftables or iptables did (nft trace);
* :mod:`~pathfit.capture.filtered` - the same in every namespace on the way, while packets are watched.

The object ``bpf/trace.bpf.o`` is built by ``tools/bpf.sh`` and committed: nothing is compiled where pathfit is used.
Filters are in place before anything is heard, and everything hangs on descriptors of this process: it is gone when
this process is, however that ends.
"""
