"""The netlink messages of NFQUEUE (nfnetlink_queue), as bytes: no socket, no clock.

Source: linux/netfilter/nfnetlink.h and nfnetlink_queue.h. Every message is a 16-byte netlink header and a
4-byte nfgenmsg in host and network byte order respectively, followed by attributes padded to 4 bytes.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

NETLINK_NETFILTER = 12
NETLINK_NO_ENOBUFS = 5
SOL_NETLINK = 270
SO_RCVBUFFORCE = 33

_SUBSYSTEM = 3 << 8
_PACKET, _VERDICT, _CONFIG, _VERDICT_BATCH = (_SUBSYSTEM | kind for kind in range(4))
_NLMSG_ERROR = 2
_REQUEST, _ACK = 1, 4
_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_PREFIX = _HEADER.size + 4
_ERRNO = struct.Struct("=i")
_PACKET_HDR = struct.Struct(">IHB")
_A_PACKET_HDR, _A_VERDICT = 1, 2
_A_CFG_CMD, _A_CFG_PARAMS, _A_CFG_MAXLEN, _A_CFG_MASK, _A_CFG_FLAGS = 1, 2, 3, 4, 5
_F_GSO = 4
_COPY_META = 1
DROP, ACCEPT = 0, 1
_TYPE_MASK = 0x3FFF


class NetlinkError(Exception):
    """A message from the kernel that is not one of these messages."""


@dataclass(frozen=True, slots=True)
class Packet:
    """A packet that waits in the kernel for a verdict; ids rise by one within a queue."""

    id: int


@dataclass(frozen=True, slots=True)
class Reply:
    """The kernel's answer to a request; `errno` 0 is success."""

    errno: int


def _attribute(kind: int, value: bytes) -> bytes:
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value + b"\0" * (-len(value) % 4)


def _message(kind: int, queue: int, body: bytes, flags: int = _REQUEST) -> bytes:
    return _HEADER.pack(_PREFIX + len(body), kind, flags, 0, 0) + struct.pack(">BBH", 0, 0, queue) + body


def bind(queue: int) -> bytes:
    """Take queue number `queue` of the socket's network namespace; asks for a reply."""
    return _message(_CONFIG, queue, _attribute(_A_CFG_CMD, struct.pack(">BBH", 1, 0, 0)), _REQUEST | _ACK)


def configure(queue: int, *, length: int, super_packets: bool) -> bytes:
    """Send only packets' ids, hold up to `length` of them; asks for a reply.

    Args:
        queue: the queue number, already bound.
        length: packets that may wait; more are dropped.
        super_packets: take a segmentation-offload packet (up to 64 KiB) as one, which is cheap; otherwise the
        kernel
            cuts it up first, and each packet of the wire is judged by itself.
    """
    body = (
        _attribute(_A_CFG_PARAMS, struct.pack(">IB", 0, _COPY_META))
        + _attribute(_A_CFG_MAXLEN, struct.pack(">I", length))
        + _attribute(_A_CFG_MASK, struct.pack(">I", _F_GSO))
        + _attribute(_A_CFG_FLAGS, struct.pack(">I", _F_GSO if super_packets else 0))
    )
    return _message(_CONFIG, queue, body, _REQUEST | _ACK)


def verdict(queue: int, packet_id: int, decision: int) -> bytes:
    """Decide one packet: `ACCEPT` or `DROP`."""
    return _message(_VERDICT, queue, _attribute(_A_VERDICT, struct.pack(">II", decision, packet_id)))


def verdict_up_to(queue: int, packet_id: int, decision: int) -> bytes:
    """Decide every waiting packet whose id is at most `packet_id`."""
    return _message(_VERDICT_BATCH, queue, _attribute(_A_VERDICT, struct.pack(">II", decision, packet_id)))


def decode(data: bytes | bytearray | memoryview, size: int) -> Packet | Reply:
    """The first message in `data[:size]` (the kernel sends one per datagram).

    Raises:
        NetlinkError: too short, a length that does not fit, an unknown kind, or a packet without its header.
    """
    if size < _PREFIX or size > len(data):
        raise NetlinkError(f"{size} bytes are no message")
    length, kind, _flags, _sequence, _port = _HEADER.unpack_from(data)
    if length < _PREFIX or length > size:
        raise NetlinkError(f"a length of {length} in {size} bytes")
    if kind == _NLMSG_ERROR:
        return Reply(-_ERRNO.unpack_from(data, _HEADER.size)[0])
    if kind != _PACKET:
        raise NetlinkError(f"message kind {kind:#x}")
    return Packet(_packet_id(data, length))


def _packet_id(data: bytes | bytearray | memoryview, length: int) -> int:
    at = _PREFIX
    while at + _ATTRIBUTE.size <= length:
        size, kind = _ATTRIBUTE.unpack_from(data, at)
        if size < _ATTRIBUTE.size or at + size > length:
            raise NetlinkError(f"an attribute of {size} bytes at {at} of {length}")
        if kind & _TYPE_MASK == _A_PACKET_HDR:
            if size < _ATTRIBUTE.size + _PACKET_HDR.size:
                raise NetlinkError("a packet header cut short")
            packet_id: int = _PACKET_HDR.unpack_from(data, at + _ATTRIBUTE.size)[0]
            return packet_id
        at += size + (-size % 4)
    raise NetlinkError("a packet without its header")
