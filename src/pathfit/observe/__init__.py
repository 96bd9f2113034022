"""What this machine is like, read and never changed: values of core out of netlink, /proc and DNS.

* :mod:`~pathfit.observe.places` - a WHERE ("netns:c", "pid:812", "container:ci") to an open namespace;
* :mod:`~pathfit.observe.discover` - all namespaces there are, wherever they hide;
* :mod:`~pathfit.observe.kernel` - all of them read to one HostSnapshot; :mod:`~pathfit.observe.namespace` reads
  one, light (links, addresses, main routes) or full, :mod:`~pathfit.observe.survey` finds out which of the two is
  enough; :mod:`~pathfit.observe.peers` finds where a link's other end is; :mod:`~pathfit.observe.features` offload
  features, :mod:`~pathfit.observe.holders` who holds a tun device,
  :mod:`~pathfit.observe.apart` peers of WireGuard, ports of Open vSwitch, L2TP, IPsec;
* :mod:`~pathfit.observe.engines` - container engines: their networks and containers, by their sockets or files;
* :mod:`~pathfit.observe.nodes` - what a node's own files say: cluster overlays, Weave, a cloud's word, DHCP leases;
* :mod:`~pathfit.observe.processes` - who a process is, and what it sees as "/": engines and nodes both ask;
* :mod:`~pathfit.observe.beside` - how to measure beside a container that may not be entered;
* :mod:`~pathfit.observe.platform` - who keeps a device's configuration (networkd, NetworkManager, ifupdown, netplan);
* :mod:`~pathfit.observe.filters` - nftables and iptables, :mod:`~pathfit.observe.ipsets` what `-m set` looks into;
* :mod:`~pathfit.observe.sockets`, :mod:`~pathfit.observe.counters` - TCP sockets and SNMP counters of a namespace;
* :mod:`~pathfit.observe.programs` - which devices have traffic control or programs that may drop packets;
* :mod:`~pathfit.observe.remembered` - what a namespace keeps of addresses: learned path MTUs, tcp_metrics;
* :mod:`~pathfit.observe.recorded` - a HostSnapshot out of a file, and the bytes of one;
  :mod:`~pathfit.observe.others` those of other hosts, beside an examination, with their age;
* :mod:`~pathfit.observe.names` - a name resolved as the source would (:mod:`~pathfit.observe.resolvconf`).

Namespaces are "device:inode" of their nsfs file (ioctl_ns(2)). What is refused, absent or malformed becomes a
``Missing`` beside what could be read. The thread that reads stands in the namespace meanwhile and always returns
(:mod:`pathfit.host.netns`); nothing is written there and, where the kernel lets one choose, no module is loaded.
"""
