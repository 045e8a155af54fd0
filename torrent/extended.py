"""The extension protocol (BEP 10): the terms that the two sides of a connection tell each other.

The extended handshake is a bencoded dictionary. It may come again and then changes what it names; ``m`` is
additive, and the number 0 takes an extension away. ``upload_only`` is BEP 21's.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from torrent import bencode
from torrent.bencode import Value
from torrent.errors import BencodeError, ProtocolError

HANDSHAKE = 0
"""Number of the extended handshake among the extended messages."""
MAX_HANDSHAKE = 16_384
"""Bytes of the dictionary; those of ordinary clients have a few hundred."""
MAX_DEPTH = 8
MAX_CLIENT = 64
LARGEST_BLOCK = b"p2pml_block"
"""Our own key: the most bytes of one request that this side serves."""
UT_METADATA = b"ut_metadata"
NUMBERS = {UT_METADATA: 1}
"""The extensions that we speak, by the numbers that peers are to use. Of a peer's numbers only those of these
are kept: it can store no more with us."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What one side has said of itself.

    ``ids``: the number of each extension that it takes. ``reqq``: how many requests it queues,
    ``metadata_size``: bytes of the info dictionary, ``largest_block``: bytes of the largest request that it
    serves; ``None`` when not said. ``upload_only``: it fetches nothing any more. ``client``: its name and
    version, printable, at most ``MAX_CLIENT`` characters.
    """

    ids: dict[bytes, int] = field(default_factory=dict)
    reqq: int | None = None
    metadata_size: int | None = None
    upload_only: bool = False
    client: str = ""
    largest_block: int | None = None

    def encode(self) -> bytes:
        """The payload of an extended handshake."""
        said: dict[bytes, Value] = {
            b"m": dict[bytes, Value](self.ids),
            b"upload_only": int(self.upload_only),
            b"v": self.client.encode(),
        }
        if self.reqq is not None:
            said[b"reqq"] = self.reqq
        if self.metadata_size is not None:
            said[b"metadata_size"] = self.metadata_size
        if self.largest_block is not None:
            said[LARGEST_BLOCK] = self.largest_block
        return bencode.encode(said)

    def updated(self, payload: bytes) -> Terms:
        """These terms after one more handshake. Raises ``ProtocolError``."""
        said = _dictionary(payload)
        new = self
        if b"m" in said:
            new = replace(new, ids=_numbers(self.ids, said[b"m"]))
        if b"reqq" in said:
            new = replace(new, reqq=_count(said, b"reqq"))
        if b"metadata_size" in said:
            new = replace(new, metadata_size=_count(said, b"metadata_size"))
        if b"upload_only" in said:
            new = replace(new, upload_only=_count(said, b"upload_only") != 0)
        if b"v" in said:
            new = replace(new, client=_name(said[b"v"]))
        if LARGEST_BLOCK in said:
            new = replace(new, largest_block=_count(said, LARGEST_BLOCK))
        return new


def _dictionary(payload: bytes) -> dict[bytes, Value]:
    if len(payload) > MAX_HANDSHAKE:
        raise ProtocolError(f"extended handshake of {len(payload)} bytes")
    try:
        value, end = bencode.decode_prefix(payload, max_depth=MAX_DEPTH)
    except BencodeError as error:
        raise ProtocolError(f"extended handshake: {error}") from error
    if not isinstance(value, dict) or end != len(payload):
        raise ProtocolError("extended handshake is not a dictionary")
    return value


def _numbers(known: dict[bytes, int], said: Value) -> dict[bytes, int]:
    if not isinstance(said, dict):
        raise ProtocolError("extended handshake: m is not a dictionary")
    numbers = dict(known)
    for name, number in said.items():
        if not isinstance(number, int) or not 0 <= number <= 255:
            raise ProtocolError("extended handshake: the number of an extension is no byte")
        if name in NUMBERS:
            numbers[name] = number
    return {name: number for name, number in numbers.items() if number}


def _count(said: dict[bytes, Value], key: bytes) -> int:
    value = said[key]
    if not isinstance(value, int) or value < 0:
        raise ProtocolError(f"extended handshake: {key.decode()} is no count")
    return value


def _name(said: Value) -> str:
    if not isinstance(said, bytes):
        raise ProtocolError("extended handshake: v is no string")
    text = said[: 4 * MAX_CLIENT].decode(errors="replace")
    return "".join(letter for letter in text if letter.isprintable())[:MAX_CLIENT]
