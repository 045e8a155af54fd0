"""Transport records of the Noise protocol as libp2p frames them; no IO in here.

A record is a 16-bit big-endian length and that many bytes of ChaCha20-Poly1305 ciphertext with its 16-byte
tag; the nonce is the number of the record (Noise specification, revision 34, sections 3 and 5.1; libp2p
specification `noise/README.md`, "Wire Format"). Records are numbered, so one that is lost, doubled or half
written ends the connection: whoever writes them must write all of each.
"""

from __future__ import annotations

from collections.abc import Iterable

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from p2pml.net.errors import Closed, Malformed

LENGTH_BYTES = 2
TAG_BYTES = 16
MAX_RECORD = 65535
MAX_PLAINTEXT = MAX_RECORD - TAG_BYTES
"""Bytes of payload in one record."""
_LAST_NONCE = 2**64 - 2  # the one after it is reserved


class RecordWriter:
    """Seals what one side sends.

    Args:
        key: 32 bytes, the handshake's cipher key of this direction.
        number: how many records were sealed with it already.
    """

    def __init__(self, key: bytes, number: int = 0) -> None:
        self._cipher = ChaCha20Poly1305(key)
        self._number = number

    def seal(self, chunks: Iterable[bytes]) -> bytes:
        """Records to be written one after the other, all of them.

        Args:
            chunks: each starts a record of its own; one above `MAX_PLAINTEXT` bytes takes several.

        Raises:
            Closed: no number is left for another record (after 2^64 of them).
        """
        out: list[bytes] = []
        for chunk in chunks:
            if len(chunk) <= MAX_PLAINTEXT:
                out += self._record(chunk)
                continue
            view = memoryview(chunk)
            for start in range(0, len(chunk), MAX_PLAINTEXT):
                out += self._record(view[start : start + MAX_PLAINTEXT])
        return b"".join(out)

    def _record(self, data: bytes | memoryview) -> tuple[bytes, bytes]:
        number = self._number
        if number > _LAST_NONCE:
            raise Closed("the connection has no record numbers left")
        self._number = number + 1
        sealed = self._cipher.encrypt(_nonce(number), data, None)
        return len(sealed).to_bytes(LENGTH_BYTES, "big"), sealed


class RecordReader:
    """Opens what the other side sent, however it was cut on the way.

    Args:
        key: 32 bytes, the handshake's cipher key of this direction.
        number: how many records were opened with it already.
    """

    def __init__(self, key: bytes, number: int = 0) -> None:
        self._cipher = ChaCha20Poly1305(key)
        self._number = number
        self._rest = bytearray()  # an incomplete record

    @property
    def buffered(self) -> int:
        """Bytes held of a record that is not complete; under 64 KiB between two calls of `feed`."""
        return len(self._rest)

    def feed(self, data: bytes) -> list[bytes]:
        """The payloads that `data` completes, in order; none is empty.

        Raises:
            Malformed: a record that does not verify or is too short to. Nothing may be fed after it.
        """
        if not self._rest:
            payloads, used = self._open(data)
            self._rest += memoryview(data)[used:]
            return payloads
        self._rest += data
        payloads, used = self._open(self._rest)
        del self._rest[:used]
        return payloads

    def _open(self, data: bytes | bytearray) -> tuple[list[bytes], int]:
        payloads: list[bytes] = []
        position, end = 0, len(data)
        with memoryview(data) as view:
            while end - position >= LENGTH_BYTES:
                size = data[position] << 8 | data[position + 1]
                if size < TAG_BYTES:
                    raise Malformed(f"a record of {size} bytes is shorter than its tag")
                start, stop = position + LENGTH_BYTES, position + LENGTH_BYTES + size
                if stop > end:
                    break
                with view[start:stop] as sealed:
                    payload = self._verified(sealed)
                if payload:
                    payloads.append(payload)
                position = stop
        return payloads, position

    def _verified(self, sealed: memoryview) -> bytes:
        if self._number > _LAST_NONCE:
            raise Malformed("a record after the last number")
        try:
            payload = self._cipher.decrypt(_nonce(self._number), sealed, None)
        except InvalidTag:
            raise Malformed(f"record {self._number} does not verify") from None
        self._number += 1
        return payload


def _nonce(number: int) -> bytes:
    return b"\0\0\0\0" + number.to_bytes(8, "little")
