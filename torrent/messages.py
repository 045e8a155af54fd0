"""The peer wire protocol's frames (BEP 3, fast extension BEP 6, extension protocol BEP 10): encode each
message, decode a byte stream cut anywhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from struct import Struct

from torrent.errors import LocalError, ProtocolError
from torrent.geometry import Block

PROTOCOL = b"\x13BitTorrent protocol"
HANDSHAKE_BYTES = 68
MAX_FRAME = (1 << 20) + 9
"""Largest frame taken: a piece message with 1 MiB of data."""

_U32 = Struct(">I")
_HEAD = Struct(">IB")
_ONE = Struct(">IBI")
_THREE = Struct(">IBIII")
_PIECE = Struct(">IBII")
_RANGE = Struct(">III")
_PAIR = Struct(">II")
_EXTENDED = Struct(">IBB")

_EXTENDED_BIT = (5, 0x10)
_FAST_BIT = (7, 0x04)
"""Byte and mask in the reserved bytes (BEP 10, BEP 6)."""


def reserved_bytes(*, fast: bool, extended: bool) -> bytes:
    """The handshake's reserved bytes of a peer that speaks these extensions."""
    reserved = bytearray(8)
    for on, (byte, mask) in ((fast, _FAST_BIT), (extended, _EXTENDED_BIT)):
        if on:
            reserved[byte] |= mask
    return bytes(reserved)


@dataclass(frozen=True, slots=True)
class Handshake:
    """``info_hash`` and ``peer_id`` 20 bytes each, ``reserved`` 8."""

    info_hash: bytes
    peer_id: bytes
    reserved: bytes = bytes(8)

    def encode(self) -> bytes:
        if (len(self.info_hash), len(self.peer_id), len(self.reserved)) != (20, 20, 8):
            raise LocalError("handshake fields have the wrong size")
        return PROTOCOL + self.reserved + self.info_hash + self.peer_id

    @classmethod
    def decode(cls, data: bytes) -> Handshake:
        """From exactly 68 bytes; raises ``ProtocolError``."""
        if len(data) != HANDSHAKE_BYTES or not data.startswith(PROTOCOL):
            raise ProtocolError("not a BitTorrent handshake")
        return cls(info_hash=data[28:48], peer_id=data[48:68], reserved=data[20:28])

    @property
    def fast(self) -> bool:
        """Whether the sender offers the fast extension."""
        return bool(self.reserved[_FAST_BIT[0]] & _FAST_BIT[1])

    @property
    def extended(self) -> bool:
        """Whether the sender offers the extension protocol."""
        return bool(self.reserved[_EXTENDED_BIT[0]] & _EXTENDED_BIT[1])


@dataclass(frozen=True, slots=True)
class KeepAlive:
    def encode(self) -> bytes:
        return bytes(4)


@dataclass(frozen=True, slots=True)
class Choke:
    def encode(self) -> bytes:
        return _HEAD.pack(1, 0)


@dataclass(frozen=True, slots=True)
class Unchoke:
    def encode(self) -> bytes:
        return _HEAD.pack(1, 1)


@dataclass(frozen=True, slots=True)
class Interested:
    def encode(self) -> bytes:
        return _HEAD.pack(1, 2)


@dataclass(frozen=True, slots=True)
class NotInterested:
    def encode(self) -> bytes:
        return _HEAD.pack(1, 3)


@dataclass(frozen=True, slots=True)
class Have:
    index: int

    def encode(self) -> bytes:
        return _ONE.pack(5, 4, self.index)


@dataclass(frozen=True, slots=True)
class BitfieldMessage:
    """The wire form of a ``Bitfield``; its size is checked where the number of pieces is known."""

    data: bytes

    def encode(self) -> bytes:
        return _HEAD.pack(1 + len(self.data), 5) + self.data


@dataclass(frozen=True, slots=True)
class Request:
    block: Block

    def encode(self) -> bytes:
        return _THREE.pack(13, 6, *self.block)


@dataclass(frozen=True, slots=True)
class Piece:
    """Data of one block; ``begin`` in bytes from the start of the piece. Decoded, ``data`` is a view into
    what was received: copy what must outlive the message.
    """

    index: int
    begin: int
    data: bytes | memoryview = field(hash=False)  # views of what can change have no hash

    def encode(self) -> bytes:
        return self.head(Block(self.index, self.begin, len(self.data))) + self.data

    @staticmethod
    def head(block: Block) -> bytes:
        """What comes before the data of ``block``."""
        return _PIECE.pack(9 + block.length, 7, block.piece, block.begin)


@dataclass(frozen=True, slots=True)
class Cancel:
    block: Block

    def encode(self) -> bytes:
        return _THREE.pack(13, 8, *self.block)


@dataclass(frozen=True, slots=True)
class Suggest:
    """Advice to fetch a piece (BEP 6)."""

    index: int

    def encode(self) -> bytes:
        return _ONE.pack(5, 13, self.index)


@dataclass(frozen=True, slots=True)
class HaveAll:
    """In place of a full bitfield (BEP 6)."""

    def encode(self) -> bytes:
        return _HEAD.pack(1, 14)


@dataclass(frozen=True, slots=True)
class HaveNone:
    """In place of an empty bitfield (BEP 6)."""

    def encode(self) -> bytes:
        return _HEAD.pack(1, 15)


@dataclass(frozen=True, slots=True)
class Reject:
    """The request of this block will not be answered by data (BEP 6)."""

    block: Block

    def encode(self) -> bytes:
        return _THREE.pack(13, 16, *self.block)


@dataclass(frozen=True, slots=True)
class AllowedFast:
    """The piece may be asked for while choked (BEP 6)."""

    index: int

    def encode(self) -> bytes:
        return _ONE.pack(5, 17, self.index)


@dataclass(frozen=True, slots=True)
class Extended:
    """A message of the extension protocol (BEP 10). ``number``: 0 for its handshake, else the number that
    the receiver gave to an extension.
    """

    number: int
    payload: bytes

    def encode(self) -> bytes:
        return _EXTENDED.pack(2 + len(self.payload), 20, self.number) + self.payload


@dataclass(frozen=True, slots=True)
class Unknown:
    """A message id that this version does not speak; to be ignored."""

    id: int


Message = (
    Handshake
    | KeepAlive
    | Choke
    | Unchoke
    | Interested
    | NotInterested
    | Have
    | BitfieldMessage
    | Request
    | Piece
    | Cancel
    | Suggest
    | HaveAll
    | HaveNone
    | Reject
    | AllowedFast
    | Extended
    | Unknown
)

_EMPTY: dict[int, type[Choke | Unchoke | Interested | NotInterested | HaveAll | HaveNone]] = {
    0: Choke,
    1: Unchoke,
    2: Interested,
    3: NotInterested,
    14: HaveAll,
    15: HaveNone,
}


def _have(body: memoryview) -> Message:
    return Have(_exact(_U32, body)[0])


def _request(body: memoryview) -> Message:
    return Request(Block(*_exact(_RANGE, body)))


def _cancel(body: memoryview) -> Message:
    return Cancel(Block(*_exact(_RANGE, body)))


def _bitfield(body: memoryview) -> Message:
    return BitfieldMessage(bytes(body))


def _piece(body: memoryview) -> Message:
    index, begin = _exact(_PAIR, body[:8])
    return Piece(index, begin, body[8:].toreadonly())


def _suggest(body: memoryview) -> Message:
    return Suggest(_exact(_U32, body)[0])


def _reject(body: memoryview) -> Message:
    return Reject(Block(*_exact(_RANGE, body)))


def _allowed_fast(body: memoryview) -> Message:
    return AllowedFast(_exact(_U32, body)[0])


def _extended(body: memoryview) -> Message:
    if not len(body):
        raise ProtocolError("extended message without a number")
    return Extended(body[0], bytes(body[1:]))


def _exact(form: Struct, body: memoryview) -> tuple[int, ...]:
    if len(body) != form.size:
        raise ProtocolError(f"message body of {len(body)} bytes, not {form.size}")
    return form.unpack(body)


_BODIES: dict[int, Callable[[memoryview], Message]] = {
    4: _have,
    5: _bitfield,
    6: _request,
    7: _piece,
    8: _cancel,
    13: _suggest,
    16: _reject,
    17: _allowed_fast,
    20: _extended,
}


def decode_frame(frame: memoryview) -> Message:
    """One frame without its length prefix. Raises ``ProtocolError``."""
    if not len(frame):
        return KeepAlive()
    kind, body = frame[0], frame[1:]
    if kind in _EMPTY:
        if len(body):
            raise ProtocolError(f"message {kind} with a body")
        return _EMPTY[kind]()
    decoder = _BODIES.get(kind)
    return decoder(body) if decoder else Unknown(kind)


class Decoder:
    """Cuts a peer's byte stream into messages: the handshake, then frames of at most ``MAX_FRAME`` bytes."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._greeted = False

    def feed(self, data: bytes) -> list[Message]:
        """The messages that ``data`` completes. After a ``ProtocolError`` the stream is beyond repair."""
        self._buffer += data
        messages: list[Message] = []
        used = 0
        with memoryview(self._buffer) as view:
            if not self._greeted:
                if len(view) < HANDSHAKE_BYTES:
                    self._check_prefix(view)
                    return messages
                messages.append(Handshake.decode(bytes(view[:HANDSHAKE_BYTES])))
                self._greeted = True
                used = HANDSHAKE_BYTES
            while len(view) - used >= 4:
                length = _U32.unpack_from(view, used)[0]
                if length > MAX_FRAME:
                    raise ProtocolError(f"frame of {length} bytes")
                if len(view) - used - 4 < length:
                    break
                messages.append(decode_frame(view[used + 4 : used + 4 + length]))
                used += 4 + length
        if used:  # the old buffer stays as it is, for the messages that are views into it
            self._buffer = self._buffer[used:]
        return messages

    def _check_prefix(self, view: memoryview) -> None:
        """A stranger that speaks something else is noticed at its first wrong byte."""
        seen = bytes(view[: len(PROTOCOL)])
        if not PROTOCOL.startswith(seen):
            raise ProtocolError("not a BitTorrent handshake")
