"""The info dictionary in pieces of 16 KiB (BEP 9, "ut_metadata"): its messages, and giving it away.

A message is a bencoded dictionary; of ``DATA`` the bytes follow behind it.
"""

from __future__ import annotations

from dataclasses import dataclass

from torrent import bencode
from torrent.bencode import Value
from torrent.errors import BencodeError, ProtocolError
from torrent.extended import MAX_DEPTH, NUMBERS, UT_METADATA
from torrent.geometry import BLOCK
from torrent.peer import Session

REQUEST, DATA, REJECT = range(3)
MAX_HEAD = 256
"""Bytes of a message without the data; what clients send has 45."""
COPIES = 2
"""How often one connection may take the whole info dictionary."""


@dataclass(frozen=True, slots=True)
class MetadataMessage:
    """``kind``: ``REQUEST``, ``DATA`` or ``REJECT``; ``piece``: number of the part; ``total_size``: bytes of
    the info dictionary, with ``DATA``.
    """

    kind: int
    piece: int
    data: bytes = b""
    total_size: int | None = None

    def encode(self) -> bytes:
        """The payload of an extended message."""
        said: dict[bytes, Value] = {b"msg_type": self.kind, b"piece": self.piece}
        if self.total_size is not None:
            said[b"total_size"] = self.total_size
        return bencode.encode(said) + self.data

    @classmethod
    def decode(cls, payload: bytes) -> MetadataMessage | None:
        """``None`` for a kind that BEP 9 does not know. Raises ``ProtocolError``."""
        try:
            value, end = bencode.decode_prefix(payload[: MAX_HEAD + BLOCK], max_depth=MAX_DEPTH)
        except BencodeError as error:
            raise ProtocolError(f"metadata message: {error}") from error
        if not isinstance(value, dict):
            raise ProtocolError("metadata message is not a dictionary")
        kind, piece = _count(value, b"msg_type"), _count(value, b"piece")
        if kind not in (REQUEST, DATA, REJECT):
            return None
        data = payload[end:]
        if end > MAX_HEAD or len(data) > (BLOCK if kind == DATA else 0):
            raise ProtocolError(f"metadata message of {len(payload)} bytes")
        return cls(kind, piece, data, _count(value, b"total_size") if b"total_size" in value else None)


def _count(said: dict[bytes, Value], key: bytes) -> int:
    value = said.get(key)
    if not isinstance(value, int) or value < 0:
        raise ProtocolError(f"metadata message: {key.decode()} is no count")
    return value


class MetadataServer:
    """Answers requests for ``info``, the raw info dictionary; ``None`` is for private torrents (BEP 27), of
    which it is not given away.
    """

    def __init__(self, info: memoryview | None) -> None:
        self._info = memoryview(b"") if info is None else info

    @property
    def numbers(self) -> dict[bytes, int]:
        """What the extended handshake says of it."""
        return {UT_METADATA: NUMBERS[UT_METADATA]} if self._info else {}

    @property
    def size(self) -> int | None:
        """Bytes of the info dictionary, where it is given away."""
        return len(self._info) or None

    def heard(self, session: Session, payload: bytes) -> None:
        """A message of ``session``. Raises ``ProtocolError``."""
        message = MetadataMessage.decode(payload)
        number = session.theirs.ids.get(UT_METADATA)
        if message is None or message.kind != REQUEST or number is None:
            return  # we asked for nothing, and have no use for what comes
        start = message.piece * BLOCK
        part = bytes(self._info[start : start + BLOCK])
        session.metadata_given += len(part)
        if part and session.metadata_given <= COPIES * len(self._info):
            answer = MetadataMessage(DATA, message.piece, part, len(self._info))
        else:
            answer = MetadataMessage(REJECT, message.piece)
        session.extend(number, answer.encode())
