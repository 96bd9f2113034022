"""Every repair that can be proposed, in one tuple: what docs/repairs.md and the registry test are made from."""

from pathfit.core.base import Value

ITSELF = "Every attribute it had is written back."
FILE = "The file becomes what it was, to the byte (one that was made goes away); what was live is set back."
HAND = "Shown, never done by pathfit."
UNTRIED = HAND + " Not tried on a live system."
DEVICE = "It sized itself by another device than its packets leave by (CFG604)."
POD = "The source is a pod of that network, and what is too small lies in it or under it."


class Known(Value, frozen=True, kw_only=True):
    """One repair. ``undo``: how it is taken back, or why that is not needed; ``by_hand``: never done by pathfit."""

    id: str
    does: str
    when: str
    undo: str
    by_hand: bool = False


KNOWN = (
    Known(
        id="route-mtu",
        does="`mtu` on the route of the source that carries the asked flow: the default one, or the connected one.",
        when="First choice. It bounds what is sent and what is invited, and interrupts nothing.",
        undo=ITSELF,
    ),
    Known(
        id="link-mtu",
        does="The MTU of both halves of a veth and of the bridge behind it.",
        when="Both halves are visible: one alone makes a new hole. Below 1280 IPv6 goes, so it is disruptive there.",
        undo="Each device gets its MTU back, and the addresses and routes that went with IPv6.",
    ),
    Known(
        id="mss-clamp",
        does="A constant MSS, one for each family that is forwarded, in the nft table `inet pathfit`.",
        when="A box that forwards is visible, and packets do not go past its hook (flowtable, XDP, eBPF plugins).",
        undo="The table is deleted.",
    ),
    Known(
        id="held-link-mtu",
        does="The MTU of the tun or tap device that a program holds, until that program starts again.",
        when="Who asks sends by that device itself, and the limit is beyond it. Those behind it get a route.",
        undo="The device gets its MTU back.",
    ),
    Known(
        id="ovs-mtu-request",
        does="`mtu_request` of the interface in the database of Open vSwitch, which sets the device's MTU.",
        when="The same, and ovs-vswitchd of this host's own namespace holds the device.",
        undo="What was requested before is requested again; else the old MTU for a moment, then nothing.",
    ),
    Known(
        id="openvpn-tun-mtu",
        does="A line `tun-mtu` in OpenVPN's configuration, which is read again.",
        when="The same, and OpenVPN was started with one file. At both ends; keys may stand there, so it is not read.",
        undo=HAND,
        by_hand=True,
    ),
    Known(
        id="openvpn-mssfix",
        does="A line `mssfix N fixed` (since 2.6) in OpenVPN's configuration, which is read again: the MSS of both "
        "directions follows, for all that is behind the tunnel.",
        when="Packets get lost beyond a tun that OpenVPN holds. One end is enough; UDP is not helped.",
        undo=HAND,
        by_hand=True,
    ),
    Known(
        id="wg-quick-mtu",
        does="`MTU` in the section Interface of wg-quick's file, and the device's MTU now.",
        when="Who asks sends by a tun that wireguard-go holds, and /etc/wireguard has its file. It holds a key, so it "
        "is not read.",
        undo=HAND,
        by_hand=True,
    ),
    Known(
        id="flush-cache",
        does="The remembered path MTUs of a namespace are forgotten.",
        when="One of them is below what the path carries (MTU110).",
        undo="Needs none: the kernel learns again what is true.",
    ),
    Known(
        id="docker-daemon-mtu",
        does="`mtu` in daemon.json (and `default-network-opts` since 24), no other byte; the daemon restarts.",
        when="The container is in the default bridge network. By hand where `mtu` stands on the command line, the file "
        "is broken, live-restore keeps old networks, a container was run with --rm, nobody but you can start it, or "
        "the container around it would end with it.",
        undo=FILE + " The daemon restarts once more.",
    ),
    Known(
        id="docker-network-mtu",
        does="The network is made again with the option com.docker.network.driver.mtu; its members are put back.",
        when="The container is in a bridge network made by hand. An overlay is for you: other hosts hang on it. Its "
        "option means the network underneath: 50 more than its containers get, 76 where it is encrypted. With "
        "snapshots of the other hosts the lines for their containers are there too.",
        undo="The network is made again as it was.",
    ),
    Known(
        id="docker-compose-mtu",
        does="`driver_opts` of the network in the compose file, then `docker compose down` and `up`.",
        when="compose made the network: it would take away what is not in its file.",
        undo=HAND,
        by_hand=True,
    ),
    Known(
        id="docker-restart-container",
        does="The container starts again.",
        when="The daemon has the right MTU by now, and the container is older.",
        undo=HAND,
        by_hand=True,
    ),
    Known(
        id="flannel-mtu",
        does="`Backend.MTU` in net-conf.json (the network below; pods get it less 50, with WireGuard less 80); on "
        "k3s a file of one's own, named by `--flannel-conf`.",
        when=POD,
        undo=UNTRIED,
        by_hand=True,
    ),
    Known(
        id="canal-mtu",
        does="`veth_mtu` in the ConfigMap canal-config; on RKE2 `calico.vethuMTU` in a HelmChartConfig.",
        when=POD,
        undo=UNTRIED,
        by_hand=True,
    ),
    Known(
        id="calico-mtu",
        does="`calicoNetwork.mtu` of the operator's Installation, or `veth_mtu` in the ConfigMap calico-config "
        "(also MicroK8s; and Felix's own option, where it has one); on RKE2 a HelmChartConfig.",
        when=POD,
        undo=UNTRIED,
        by_hand=True,
    ),
    Known(
        id="cilium-mtu",
        does="`mtu` in the ConfigMap cilium-config (the network below; pods get it less the tunnel and the "
        "encryption); on RKE2 a HelmChartConfig.",
        when=POD,
        undo=UNTRIED,
        by_hand=True,
    ),
    Known(
        id="antrea-mtu",
        does="`defaultMTU` in antrea-agent.conf of the ConfigMap antrea-config.",
        when=POD,
        undo=UNTRIED,
        by_hand=True,
    ),
    Known(
        id="ovn-kubernetes-mtu",
        does="`mtu` in the ConfigMap ovn-config; on OpenShift the migration of network.operator, on MicroShift "
        "ovn.yaml.",
        when=POD,
        undo=UNTRIED,
        by_hand=True,
    ),
    Known(
        id="kindnet-mtu",
        does="The MTU of each node's eth0, which kindnetd takes when it starts.",
        when=POD,
        undo=UNTRIED,
        by_hand=True,
    ),
    Known(
        id="podman-network-mtu",
        does="`mtu` among the options of the network's file (netavark), or of its bridge plugin (CNI), no other byte; "
        "the default network gets a file. All its containers stop, and start again.",
        when="The container is in a bridge network of root's Podman. By hand of a user's own, and where a container "
        "was run with --rm.",
        undo=FILE + " Its containers start once more.",
    ),
    Known(
        id="podman-restart",
        does="All containers of the network stop, and start again.",
        when="The network's file has the right MTU by now, and the container is older.",
        undo="Needs none: the file was right before. What does not run any more is started.",
    ),
    Known(
        id="cni-network-mtu",
        does="`mtu` of the plugin that makes the device (bridge, ptp) in the CNI configuration, no other byte; and at "
        "once both halves of the veth of every running member, and the bridge.",
        when="The container or pod is containerd's, and no program writes that file. By hand where a member cannot be "
        "seen; below 1280 IPv6 goes from the devices, so it is disruptive; of CRI-O not tried, and then pods are made "
        "anew.",
        undo=FILE,
    ),
    Known(
        id="cni-container-anew",
        does="The pod, or container, is made anew.",
        when="The CNI configuration has the right MTU by now, and the container is older.",
        undo=HAND,
        by_hand=True,
    ),
    Known(
        id="dind-mtu",
        does="`--mtu` (and `--default-network-opt` since 24) for a dockerd in a container, where that one is made: "
        "a pod's args, a compose file's command.",
        when="The engine runs in a container, whose files go with it.",
        undo=UNTRIED,
        by_hand=True,
    ),
    Known(
        id="drone-mtu",
        does="`settings.mtu` of plugins/docker; of Drone's Docker runner DRONE_RUNNER_NETWORK_OPTS, or its dind's "
        "`commandArgs`.",
        when="Image or process of theirs is seen around the engine.",
        undo=UNTRIED,
        by_hand=True,
    ),
    Known(
        id="gitlab-mtu",
        does='`command: ["--mtu=…"]` of the service docker:dind; `network_mtu` of [runners.docker] for networks that '
        "the runner makes.",
        when="A label of GitLab's runner, a process or a variable of its jobs is seen.",
        undo=UNTRIED,
        by_hand=True,
    ),
    Known(
        id="github-mtu",
        does="`--mtu` among the args of the container dind of a runner scale set, with containerMode left empty; "
        "`dockerMTU` of the older RunnerDeployment.",
        when="Labels or variables of GitHub's runner controllers are seen around the engine.",
        undo=UNTRIED,
        by_hand=True,
    ),
    Known(
        id="flannel-device",
        does="`--iface` of the DaemonSet kube-flannel-ds; on k3s `flannel-iface`.",
        when=DEVICE,
        undo=UNTRIED,
        by_hand=True,
    ),
    Known(
        id="calico-device",
        does="`mtuIfacePattern` of FelixConfiguration.",
        when=DEVICE,
        undo=UNTRIED,
        by_hand=True,
    ),
    Known(
        id="cilium-device",
        does="`devices` in the ConfigMap cilium-config.",
        when=DEVICE,
        undo=UNTRIED,
        by_hand=True,
    ),
    Known(
        id="antrea-device",
        does="`transportInterface` in antrea-agent.conf of the ConfigMap antrea-config.",
        when=DEVICE,
        undo=UNTRIED,
        by_hand=True,
    ),
    Known(
        id="docker-network-rejoin",
        does="All containers of one host are taken off an overlay and put back: its end is made anew.",
        when="A forwarding entry of it is stale (OVL301), or its number is not what its engine says (OVL304).",
        undo=HAND,
        by_hand=True,
    ),
    Known(
        id="fdb-entry",
        does="One entry of a VXLAN device's forwarding table gets another far end.",
        when="It leads to a host where the member is not (OVL301). On other hosts it is for you.",
        undo="The entry gets its old far end back.",
    ),
    Known(
        id="member-off",
        does="Whom no engine gave the address is taken off it: the address goes, or what a container left goes down.",
        when="An engine gave the address to somebody else of the same network (OVL302).",
        undo=HAND,
        by_hand=True,
    ),
    Known(
        id="open-tunnel-port",
        does="The tunnel's UDP port is let through, in front of the rule that takes it.",
        when="State shows such a rule, here or in another host's snapshot (OVL303).",
        undo=HAND,
        by_hand=True,
    ),
    Known(
        id="networkd-link-mtu",
        does="`MTUBytes=` in a drop-in of the device's .network file.",
        when="The source is the host, and systemd-networkd alone keeps the device.",
        undo=FILE,
    ),
    Known(
        id="netplan-link-mtu",
        does="`mtu:` in a file of its own below /etc/netplan.",
        when="The source is the host, and the device's configuration was generated by netplan.",
        undo=FILE,
    ),
    Known(
        id="networkmanager-link-mtu",
        does="`ethernet.mtu` for that device in a file below /etc/NetworkManager/conf.d.",
        when="The source is the host, NetworkManager alone keeps the device, and the profile sets no MTU; else nmcli, "
        "by hand.",
        undo=FILE,
    ),
    Known(
        id="ifupdown-link-mtu",
        does="One line in the device's stanza of /etc/network/interfaces (or the file it includes).",
        when="The source is the host, and ifupdown alone brought the device up.",
        undo=FILE,
    ),
    Known(
        id="neutron-mtu",
        does="`path_mtu`, `global_physnet_mtu` or Geneve's `max_header_size` in the files of neutron's server.",
        when="They grant instances another MTU than fits into the device that tunnels leave by (MTU104, CFG606), and "
        "an instance's port shows that they are in force.",
        undo=UNTRIED,
        by_hand=True,
    ),
    Known(
        id="weave-mtu",
        does="`WEAVE_MTU` for `weave launch`, or in the environment of the DaemonSet weave-net.",
        when="The heartbeat of Weave's fast datapath does not fit (OVL306, KRN702), and how much does is known; or the "
        "source is a pod of it, and what is too small lies in the network below.",
        undo=UNTRIED,
        by_hand=True,
    ),
    Known(
        id="offload-off",
        does="`ethtool -K`: ufo, lro or the checksum of a tunnel device off.",
        when="A kernel that loses packets with it (KRN701, KRN703, KRN704).",
        undo=UNTRIED,
        by_hand=True,
    ),
    Known(
        id="kernel-update",
        does="A newer kernel of the same distribution.",
        when="KRN701 on CentOS or RHEL 7.0.",
        undo=UNTRIED,
        by_hand=True,
    ),
    Known(
        id="route-unlock",
        does="`mtu lock` is taken off a route.",
        when="It is below what the path carries (MTU110); somebody wrote it on purpose.",
        undo=HAND,
        by_hand=True,
    ),
    Known(
        id="allow-too-big",
        does='"Too big" is let through in front of the rule that takes it.',
        when="State shows such a rule in the sender's namespace (MTU107).",
        undo=HAND,
        by_hand=True,
    ),
    Known(
        id="delete-rule",
        does="The rule that drops is deleted by its handle.",
        when="State shows the rule (FLT401). Somebody wrote it for a reason.",
        undo=HAND,
        by_hand=True,
    ),
    Known(
        id="rp-filter-loose",
        does="rp_filter = 2 on the device whose check fails.",
        when="FLT402. Correct routes are better.",
        undo=HAND,
        by_hand=True,
    ),
    Known(
        id="conntrack-liberal",
        does="nf_conntrack_tcp_be_liberal = 1: what lies outside of the window is translated all the same.",
        when="RST204, where the packet was taken for invalid. Or drop `ct state invalid` there before it arrives.",
        undo=HAND,
        by_hand=True,
    ),
    Known(
        id="forwarding-on",
        does="Forwarding of the host, or of the one device where it is off.",
        when="FLT403.",
        undo=HAND,
        by_hand=True,
    ),
    Known(
        id="delete-route",
        does="A blackhole, unreachable or prohibit route is deleted.",
        when="It is what refuses the asked flow (RTE501).",
        undo=HAND,
        by_hand=True,
    ),
    Known(
        id="add-route",
        does="A default route by the only neighbour there is.",
        when="There is none (RTE501), and the other end of the only cable forwards and has one address in our subnet.",
        undo=HAND,
        by_hand=True,
    ),
    Known(
        id="link-up",
        does="The device is set up.",
        when="It is down on the way (RTE503).",
        undo=HAND,
        by_hand=True,
    ),
)
