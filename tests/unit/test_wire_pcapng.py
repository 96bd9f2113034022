"""What is written is a pcapng file: read back by the rules of the format, and by tshark where that is installed."""

import json
import os
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pcapng_reader import blocks, options

from pathfit.wire import pcapng


@given(
    number=st.integers(0, 100),
    time=st.integers(0, 2**63),
    data=st.binary(max_size=200),
    more=st.integers(0, 3000),
    comment=st.text(max_size=80),
    direction=st.sampled_from([0, pcapng.IN, pcapng.OUT]),
)
def test_a_packet_comes_back(number: int, time: int, data: bytes, more: int, comment: str, direction: int) -> None:
    written = pcapng.packet(number, time, data, length=len(data) + more, comment=comment, direction=direction)
    ((kind, body),) = blocks(written)
    assert kind == pcapng.PACKET
    link, high, low, kept, length = struct.unpack_from("<IIIII", body)
    assert (link, high << 32 | low, kept, length) == (number, time, len(data), len(data) + more)
    assert body[20 : 20 + kept] == data
    told = options(body[20 + kept + -kept % 4 :])
    assert told.get(1, b"").decode() == comment.encode("utf-8", "replace").decode()
    assert struct.unpack("<I", told.get(2, bytes(4))) == (direction,)


def test_a_comment_without_end_is_cut_between_letters() -> None:
    ((_, body),) = blocks(pcapng.packet(0, 0, b"", comment="漢" * 40_000))
    text = options(body[20:])[1].decode()
    assert set(text) == {"漢"} and len(text) == 20_000


@pytest.mark.slow
def test_a_file_as_tshark_reads_it(tmp_path: Path) -> None:
    tshark = shutil.which("tshark")
    if tshark is None and not os.environ.get("CI"):
        pytest.skip("needs tshark (make engines-setup)")
    assert tshark is not None
    ether = bytes(12) + b"\x08\x00"
    echo = bytes.fromhex("4500001c00010000400166dfc0000201c63364020800f7fd00010001")
    file = tmp_path / "t.pcapng"
    time = 1_700_000_000_123_456_789
    file.write_bytes(
        pcapng.section("pathfit")
        + pcapng.link("c/eth0", "container, inner")
        + pcapng.link("h/tun0", linktype=pcapng.RAW, snaplen=64)
        + pcapng.packet(0, time, ether + echo, direction=pcapng.OUT)
        + pcapng.packet(1, time + 1500, echo, length=1400, comment="dropped: 丢弃", direction=pcapng.IN)
    )
    words = [tshark, "-r", str(file), "-T", "json", "-J", "frame icmp pkt_comment"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True)
    first, second = (x["_source"]["layers"] for x in json.loads(done.stdout))
    frame: dict[str, Any] = second["frame"]
    assert first["frame"]["frame.interface_id_tree"]["frame.interface_name"] == "c/eth0"
    assert frame["frame.interface_id_tree"]["frame.interface_name"] == "h/tun0"
    assert (frame["frame.len"], frame["frame.cap_len"]) == ("1400", "28")
    assert frame["frame.time_delta"] == "0.000001500"
    assert "丢弃" in json.dumps(second, ensure_ascii=False)
    assert first["icmp"]["icmp.type"] == "8"
