"""nftables as the kernel tells it over NETLINK_NETFILTER, translated into :mod:`pathfit.core.filters`.

A rule is bytecode for a small machine with sixteen 32-bit registers (net/netfilter/nf_tables_core.c, nft_do_chain)::

    ip saddr 198.18.1.0/24 tcp dport 8443 drop

    meta load nfproto => reg 1            (only in inet tables)
    cmp eq reg 1 0x02
    payload load 3b @ network header + 12 => reg 1
    cmp eq reg 1 0x0112c6                 198.18.1: a byte-aligned prefix loads fewer bytes
    meta load l4proto => reg 1
    cmp eq reg 1 0x06
    payload load 2b @ transport header + 2 => reg 1
    cmp eq reg 1 0xfb20
    immediate reg 0 drop

So reading a rule means to remember *symbolically* what each register holds, and to give a comparison its name back:

* :mod:`.messages` - requests, and messages to raw tables, chains, rules, sets, elements;
* :mod:`.fields`   - which bytes of which header are which field, and how a field's value is written;
* :mod:`.symbols`  - what a register holds, and what a comparison with it says;
* :mod:`.sets`     - elements of sets and maps, intervals and concatenations joined;
* :mod:`.loads`, :mod:`.statements` - one small function for each kind of expression;
* :mod:`.tables`   - everything together: ``tables(raw) -> tuple[Table, ...]``;
* :mod:`.write`    - the other direction; :mod:`.mark` a table that marks one flow, :mod:`.trace` what is told of it.

What has no name here becomes ``Opaque``: never dropped, never guessed. Source of all numbers:
include/uapi/linux/netfilter/nf_tables.h.
"""
