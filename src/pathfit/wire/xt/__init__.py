"""iptables: extensions as C structures, and the blobs of iptables-legacy, translated into core.filters.

The same structures (include/uapi/linux/netfilter/xt_*.h) come two ways: inside nftables' `match` and `target`
expressions (iptables-nft) and in the blob that getsockopt(IPT_SO_GET_ENTRIES) returns (iptables-legacy).

* :mod:`.matches` - one function for each extension that tests something;
* :mod:`.targets` - one for each that does something;
* :mod:`.blobs`   - ipt_entry and ip6t_entry: a table's blob to a ``Table``.

An extension or a revision without a function here is ``Opaque``.
"""
