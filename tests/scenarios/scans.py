"""What `pathfit scan` says of the embedded scenarios when all of each is visible: errors and warnings, nothing sent.

State shows the sizes: who promises more than the way carries, and whether anybody would be told. It does not show what
a service does, what gets lost by chance, or what a rule means to do: those scenarios are not here, and neither is any
healthy one but those that work only while something fragile holds.
"""

BY_FINDINGS: dict[tuple[str, ...], tuple[str, ...]] = {
    ("error FLT402",): ("reverse-path-filter",),
    ("error FLT403",): ("forwarding-off",),
    ("error MTU104",): (
        "v6-vxlan-bridged",
        "vxlan-1500",
        "vxlan-df-set-narrow-underlay",
        "vxlan-routed-fragments-dropped",
    ),
    (
        "error MTU104",
        "error MTU107",
        "warning MTU103",
    ): ("vxlan-over-ipv6",),
    (
        "error MTU104",
        "warning MTU103",
    ): ("article-001",),
    ("error MTU105",): (
        "clamp-masks-silent-limit",
        "host-and-port-target",
        "jumbo-ends-on-1500-switch",
        "one-bad-backend",
        "silent-switch-far-away",
        "silent-veth-half",
        "silent-way-back-only",
        "v6-silent-switch-at-minimum",
        "vxlan-device-smaller-than-bridge",
    ),
    (
        "error MTU105",
        "warning MTU103",
    ): ("article-000",),
    (
        "error MTU105",
        "warning MTU114",
    ): ("v6-below-minimum",),
    ("error MTU107",): (
        "inbound-only",
        "jumbo-one-byte-short",
        "large-client-hello-lost",
        "mail-server-starttls",
        "says-little-over-a-hole",
        "source-drops-too-big",
        "tcp-target",
    ),
    (
        "error MTU107",
        "warning MTU103",
    ): (
        "article-002",
        "both-ways-different",
        "header-and-body-apart",
        "hole-behind-syn-cookies",
        "hung-socket",
        "limit-576",
        "lossy-hole",
        "public-subnet-without-nat",
        "router-without-way-back",
        "sidecar-in-front-of-a-hole",
        "small-answer-over-a-hole",
        "small-certificate-large-page",
        "too-big-dropped-by-router-itself",
        "too-big-dropped-in-transit",
        "two-limits",
        "udp-hole-outwards",
        "uplink-1420-untold",
        "upload-too-big-dropped-at-host",
        "v4-asked-while-v6-broken",
        "v6-only-broken",
        "v6-too-big-filtered-at-server",
        "v6-upload-hole",
    ),
    (
        "error MTU107",
        "warning MTU103",
        "warning MTU112",
    ): ("clamp-too-high",),
    (
        "error MTU107",
        "warning MTU111",
    ): (
        "clamp-on-syn-ack-only",
        "clamp-on-syn-only",
    ),
    ("error RTE503",): (
        "cable-unplugged",
        "veth-half-down",
    ),
    ("warning MTU103",): (
        "healthy-fragmented-on-the-way",
        "pmtud-works",
        "too-big-not-translated-back",
        "unfragmented-by-accident",
        "v6-pmtud-works",
    ),
    (
        "warning MTU103",
        "warning MTU107",
    ): (
        "healthy-mtu-probing-always",
        "rescued-late-by-mtu-probing",
    ),
    ("warning MTU104",): ("healthy-vxlan-with-fragments",),
    ("warning MTU110",): ("stale-path-mtu-in-container",),
}

SCANS = {name: list(findings) for findings, names in BY_FINDINGS.items() for name in names}
