"""The netlink messages, against what a kernel (Linux 6.18, x86-64) said and accepted."""

from __future__ import annotations

import contextlib
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pml.lab import nfqueue
from p2pml.lab.nfqueue import NetlinkError, Packet, Reply

pytestmark = pytest.mark.skipif(
    sys.byteorder != "little", reason="LOUD: the recorded messages are a little-endian machine's"
)

BIND = "1c000000020305000000000000000000000000070800010001000000"
CONFIGURE = (
    "3800000002030500000000000000000000000007"
    "0900020000000000010000000800030000000064080004000000000408000500"
    "00000004"
)
PACKET = bytes.fromhex(
    "40000000000300000000000000000000020000070b000100000000010800000008000500000000021000"
    "0900000600000200c6120002000008000e0000000001"
)
NO_SUCH_PACKET = bytes.fromhex(
    "340000000200000000000000a57f0000feffffff20000000010301000000000000000000000000070c0002000000000100000063"
)
ACKNOWLEDGED = bytes.fromhex("240000000200000100000000a57f0000000000001c000000020305000000000000000000")


def test_requests() -> None:
    assert nfqueue.bind(7).hex() == BIND
    assert nfqueue.configure(7, length=100, super_packets=True).hex() == CONFIGURE
    # The kernel's complaint quotes the verdict that it is about.
    assert nfqueue.verdict(7, 0x63, nfqueue.ACCEPT) == NO_SUCH_PACKET[20:]


def test_batch_verdict_differs_in_its_kind_only() -> None:
    single, batch = nfqueue.verdict(7, 5, nfqueue.DROP), nfqueue.verdict_up_to(7, 5, nfqueue.DROP)
    assert [at for at in range(len(single)) if single[at] != batch[at]] == [4]
    assert (single[4], batch[4]) == (1, 3)


def test_decode() -> None:
    assert nfqueue.decode(PACKET, len(PACKET)) == Packet(1)
    assert nfqueue.decode(ACKNOWLEDGED, len(ACKNOWLEDGED)) == Reply(0)
    assert nfqueue.decode(NO_SUCH_PACKET, len(NO_SUCH_PACKET)) == Reply(2)


def test_decode_reads_no_further_than_the_size() -> None:
    buffer = bytearray(PACKET) + b"\xff" * 100
    assert nfqueue.decode(buffer, len(PACKET)) == Packet(1)


@pytest.mark.parametrize("size", range(len(PACKET)))
def test_every_cut_is_refused(size: int) -> None:
    with pytest.raises(NetlinkError):
        nfqueue.decode(PACKET, size)


def test_a_packet_without_its_header_is_refused() -> None:
    other = bytearray(PACKET)
    other[22] = 9
    with pytest.raises(NetlinkError, match="without its header"):
        nfqueue.decode(other, len(other))


@given(data=st.binary(max_size=80), start=st.sampled_from([b"", PACKET[:20], NO_SUCH_PACKET[:16]]))
def test_only_netlink_errors_escape(data: bytes, start: bytes) -> None:
    message = start + data
    with contextlib.suppress(NetlinkError):
        nfqueue.decode(message, len(message))
