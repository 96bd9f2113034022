"""Bytes to values and back: what the kernel and the network say, without touching either. Pure.

* :mod:`~pathfit.wire.netlink` - framing and attributes; :mod:`~pathfit.wire.rtnl` what to ask of rtnetlink,
  :mod:`~pathfit.wire.rtnl_link`, :mod:`~pathfit.wire.rtnl_route`, :mod:`~pathfit.wire.rtnl_near`,
  :mod:`~pathfit.wire.rtnl_conf` its answers; :mod:`~pathfit.wire.pattern` takes apart what comes a thousand times;
* :mod:`~pathfit.wire.genl`, :mod:`~pathfit.wire.ethtool` - generic netlink, offload features;
  :mod:`~pathfit.wire.wireguard`, :mod:`~pathfit.wire.ovs` peers and ports; :mod:`~pathfit.wire.l2tp` sessions;
  :mod:`~pathfit.wire.xfrm` IPsec, never keys;
* :mod:`~pathfit.wire.sockdiag`, :mod:`~pathfit.wire.tcpinfo` - sockets and struct tcp_info;
  :mod:`~pathfit.wire.tcpmetrics` what TCP keeps of earlier connections;
* :mod:`~pathfit.wire.nft`, :mod:`~pathfit.wire.xt` - packet filters, as nftables and iptables keep them;
  :mod:`~pathfit.wire.ipset` the sets that iptables looks into;
* :mod:`~pathfit.wire.rtnl_write` - what repairs write; :mod:`~pathfit.wire.filtertext` - rules as their own tools write
  them; :mod:`~pathfit.wire.daemonjson` - daemon.json; :mod:`~pathfit.wire.dhcp` - options of a kept lease;
* :mod:`~pathfit.wire.packets` - IPv4, IPv6, TCP, UDP, ICMP headers; :mod:`~pathfit.wire.datagram` UDP, in pieces too;
* :mod:`~pathfit.wire.dissect` - a tap's frame down to the innermost packet; :mod:`~pathfit.wire.cbpf` - a filter in the
  kernel for one flow (:mod:`~pathfit.wire.cbpf_quick` its first look, :mod:`~pathfit.wire.cbpf_code` its
  instructions); :mod:`~pathfit.wire.pcapng` - captures to be opened elsewhere;
  :mod:`~pathfit.wire.redacted` - the same frame with other addresses and nothing of what it carried;
  :mod:`~pathfit.wire.traced` - what a tracing program in the kernel says; :mod:`~pathfit.wire.tpacket` a ring's block;
* :mod:`~pathfit.wire.snmp`, :mod:`~pathfit.wire.rtnl_stats` - what namespaces, devices and queues have counted;
* :mod:`~pathfit.wire.askdns`, :mod:`~pathfit.wire.quic` - questions that UDP servers answer;
* :mod:`~pathfit.wire.tls` - ClientHellos and TLS records, as far as we look at them ourselves;
* :mod:`~pathfit.wire.addresses` - addresses and their canonical text.

A decoder takes ``(data, start, end)`` and returns one value of core, or None for what is not its business. Every
length is checked against the buffer, everything that repeats moves forward, and bytes that contradict themselves
raise one exception (``netlink.Malformed``, a ValueError); what to make of that is the caller's business.
"""
