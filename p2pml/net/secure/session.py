"""A secured connection: whole records over libp2p's raw connection.

The handshake is the library's; only reading and writing after it are done here. Nothing in this module can
put half a record on the wire and then go on: a write that was cut off, by cancellation or an error, leaves
the session unusable for writing. Cancellation of single streams is the muxer's business, which writes from
one task and lets its streams wait.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import trio
from libp2p.io.exceptions import ConnectionClosedError, IOException
from libp2p.security.base_session import BaseSession
from libp2p.security.noise.transport import Transport as NoiseTransport

from p2pml.net.errors import Malformed
from p2pml.net.secure.records import RecordReader, RecordWriter

READ_BYTES = 256 * 1024
"""Bytes asked of the socket at once: a few records, so that one wake-up handles them together."""


class RecordSession(BaseSession):  # type: ignore[misc]
    """What the muxer and libp2p's negotiation read and write.

    Args:
        shaken: the library's session after its handshake; it must not be used any more.
    """

    def __init__(self, shaken: Any) -> None:
        super().__init__(
            local_peer=shaken.local_peer,
            local_private_key=shaken.local_private_key,
            remote_peer=shaken.remote_peer,
            remote_permanent_pubkey=shaken.remote_permanent_pubkey,
            is_initiator=shaken.is_initiator,
        )
        noise = shaken.conn.noise_state.noise_protocol
        out, into = noise.cipher_state_encrypt, noise.cipher_state_decrypt
        self._writer = RecordWriter(bytes(out.k), out.n)
        self._reader = RecordReader(bytes(into.k), into.n)
        self._raw = shaken.conn.read_writer.read_write_closer
        self._unread = bytearray()
        self._write_broken = False

    async def receive(self) -> list[bytes]:
        """One or more payloads, as they come.

        Raises:
            Malformed: the peer's records do not verify; the session is useless then.
            ConnectionClosedError: the connection ended; other errors of libp2p's IO likewise.
        """
        if self._unread:
            await trio.lowlevel.checkpoint()
            payloads = [bytes(self._unread)]
            self._unread.clear()
            return payloads
        while True:
            payloads = await self._raw_payloads()
            if payloads:
                return payloads

    async def send(self, chunks: Sequence[bytes]) -> None:
        """Write each chunk in a record of its own (or several). One task may write at a time.

        Raises:
            ConnectionClosedError: an earlier write was cut off, or another task is in one; other errors of
                libp2p's IO likewise.
        """
        if self._write_broken:
            raise ConnectionClosedError("an earlier write was cut off half way, or is still under way")
        self._write_broken = True
        await self._raw.write(self._writer.seal(chunks))
        self._write_broken = False

    async def read(self, n: int | None = None) -> bytes:
        """`n` bytes; without `n` whatever is there. As libp2p's negotiation reads."""
        if n == 0:
            return b""
        while not self._unread or (n is not None and len(self._unread) < n):
            try:
                payloads = await self._raw_payloads()
            except Malformed as error:
                raise IOException(str(error)) from error
            for payload in payloads:
                self._unread += payload
        count = len(self._unread) if n is None else n
        data = bytes(self._unread[:count])
        del self._unread[:count]
        return data

    async def _raw_payloads(self) -> list[bytes]:
        data = await self._raw.read(READ_BYTES)
        if not data:
            raise ConnectionClosedError("Connection closed")
        return self._reader.feed(data)

    async def write(self, data: bytes) -> None:
        """All of `data`, as libp2p's negotiation writes."""
        await self.send([data])

    async def close(self) -> None:
        """Close the socket."""
        await self._raw.close()

    def get_remote_address(self) -> Any:
        """`(host, port)` of the peer, or None."""
        return self._raw.get_remote_address()

    def get_transport_addresses(self) -> Any:
        """The multiaddresses of the connection."""
        return self._raw.get_transport_addresses()

    def get_connection_type(self) -> Any:
        """Direct or relayed."""
        return self._raw.get_connection_type()


class RecordNoise(NoiseTransport):  # type: ignore[misc]
    """`/noise` with the library's handshake and this package's records."""

    async def secure_inbound(self, conn: Any) -> Any:
        """The session of a connection that the peer opened."""
        return RecordSession(await super().secure_inbound(conn))

    async def secure_outbound(self, conn: Any, peer_id: Any) -> Any:
        """The session of a connection that we opened to `peer_id`."""
        return RecordSession(await super().secure_outbound(conn, peer_id))
