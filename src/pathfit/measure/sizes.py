"""Which sizes to ask for. All sizes are bytes of IP packet.

A first round is a ladder: sizes that real links and tunnels leave over, so that the second round already looks
right beside the limit. Later rounds cut what is left into equal parts.
"""

from collections.abc import Iterable

SENTINEL = 576  # every path carries it (RFC 791), and limits as low as 1160 exist: probing.md 6
LOW_SENTINELS = (552, 400, 296, 200, 128)  # asked only when the sentinel itself does not come back
LEAST_MSS = 88  # TCP_MIN_MSS (include/net/tcp.h): a smaller TCP_MAXSEG is EINVAL

# What is left of 1500 (and of 9000) by what people put in between; most wanted first.
# The first eleven leave no gap above 60 bytes between 1280 and 1500: two more rounds end at the byte.
COMMON = (
    1450,  # VXLAN over IPv4
    1400,  # cloud networks, many VPNs
    1420,  # WireGuard default
    1430,  # VXLAN over IPv6
    1492,  # PPPoE
    1480,  # IPIP, 6in4
    1280,  # the smallest IPv6 link
    1340,
    1460,  # Google Cloud
    1440,
    1412,
    1376,  # weave
    1410,
    1380,
    1360,
    1476,  # GRE
    1300,
    1472,
    1458,  # GENEVE with OVN
    1438,
    1390,
)
WIDE = 1600  # a promise above that: both ends have jumbo frames, and what lies between may have anything
TUNNEL = 50  # bytes that VXLAN over IPv4 takes of the promise
LARGEST_SEGMENT = 32767  # MAX_TCP_WINDOW: the kernel takes no larger TCP_MAXSEG


def ladder(floor: int, promised: int, count: int) -> list[int]:
    """At most ``count`` sizes in [floor, promised), descending, common limits favoured."""
    if promised <= floor or count <= 0:
        return []
    if promised > WIDE:
        return _wide(floor, promised, count)
    chosen: list[int] = []
    for size in COMMON:
        if len(chosen) >= count - 1:
            break
        if floor <= size < promised and size not in chosen:
            chosen.append(size)
    low = max(floor, min(1000, (floor + promised) // 2))
    if low not in chosen and low < promised:
        chosen.append(low)
    if len(chosen) < count:
        chosen += [s for s in section(floor, promised, count - len(chosen)) if s not in chosen]
    return sorted(set(chosen[:count]), reverse=True)


def _wide(floor: int, promised: int, count: int) -> list[int]:
    """Common limits (no jumbo frames in between, a tunnel) with the byte above, which settles them, and equal parts of
    what they leave: no gap is so wide that two cuts into fifteen leave more than one proof can hold (1125)."""
    wanted = (1500, promised - TUNNEL, 1501, promised - TUNNEL + 1, 1400)
    common = [s for s in wanted if floor <= s < promised][: max(1, count // 2)]
    edges = sorted({floor, *common, promised})
    parts = {(edges[i], edges[i + 1]): 1 for i in range(len(edges) - 1)}
    for _ in range(count - len(common)):
        widest = max(parts, key=lambda gap: (gap[1] - gap[0]) / parts[gap])
        parts[widest] += 1
    spread = (s for (lo, hi), n in parts.items() for s in section(lo, hi, n - 1))
    return sorted({*common, *spread}, reverse=True)


def section(lo: int, hi: int, count: int) -> list[int]:
    """At most ``count`` sizes strictly between ``lo`` and ``hi`` that cut the gap into equal parts, descending."""
    inner = hi - lo - 1
    if inner <= 0 or count <= 0:
        return []
    if inner <= count:
        return list(range(hi - 1, lo, -1))
    return sorted({lo + (hi - lo) * i // (count + 1) for i in range(1, count + 1)} - {lo}, reverse=True)


def favour(lo: int, hi: int, count: int) -> list[int]:
    """Like :func:`section`, but with the few sizes allowed to a public target prefer common limits and the size
    one above them, which together prove a common limit at once."""
    inner = hi - lo - 1
    if inner <= count:
        return section(lo, hi, count)
    common = [s for s in COMMON if lo < s < hi][: count // 2]
    rest = section(lo, hi, count - len(common))
    return sorted({*common, *rest}, reverse=True)


def distinct(sizes: Iterable[int]) -> list[int]:
    """Descending, each once."""
    return sorted(set(sizes), reverse=True)
