"""The only place with sockets, setns, ctypes, subprocess and clocks.

* :mod:`~pathfit.host.netns` - stand in another network namespace for a moment, and never stay there;
* :mod:`~pathfit.host.nlsocket` - netlink dumps, repeated when the table changed meanwhile;
  :mod:`~pathfit.host.nfsocket` - a transaction of nf_tables, and what is told to its groups;
* :mod:`~pathfit.host.tun` - where the device of an open tun file is;
* :mod:`~pathfit.host.procfs` - /proc and sysctls; :mod:`~pathfit.host.within` - files below a root that is not ours;
  :mod:`~pathfit.host.whole` - one that is written whole or not at all;
* :mod:`~pathfit.host.clock` - the clock, :mod:`~pathfit.host.alarm` - an end to what hangs,
  :mod:`~pathfit.host.deferred` - signals that wait, :mod:`~pathfit.host.worker` - a thread that is waited for;
* :mod:`~pathfit.host.unixhttp`, :mod:`~pathfit.host.loopback` - an engine's API, a status page of this host;
  :mod:`~pathfit.host.ovsdb` - the database of Open vSwitch;
* :mod:`~pathfit.host.run`, :mod:`~pathfit.host.process` - other programs; a daemon started again as it was;
* :mod:`~pathfit.host.dns` - one DNS question, UDP then TCP, from inside a namespace;
* :mod:`~pathfit.host.rawsock`, :mod:`~pathfit.host.tcpsock`, :mod:`~pathfit.host.udpsock` - packets, connections and
  datagrams of the prober; :mod:`~pathfit.host.farend` - its sockets in both namespaces, where both ends are ours;
* :mod:`~pathfit.host.ring` - a device watched through a ring in shared memory; :mod:`~pathfit.host.bpf` - a tracing
  program in the kernel, :mod:`~pathfit.host.symbols` - names of its functions.

Everything here is thin: it does what it is told and returns values or raises OSError.
"""
