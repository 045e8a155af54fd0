"""The listening side of the piece protocol: finds the torrent that an incoming stream is about."""

from __future__ import annotations

import trio

from p2pml.net.errors import Declined, Malformed, TimedOut
from p2pml.net.host import Host
from p2pml.net.pieces import PROTOCOL, SwarmPump
from p2pml.net.plain_port import PlainPort
from p2pml.net.streams import Stream
from torrent.errors import RemoteError
from torrent.messages import HANDSHAKE_BYTES, Handshake

HANDSHAKE_DEADLINE_S = 10.0


class PieceExchange:
    """Gives each stream that a peer opens to the pump of its torrent.

    Args:
        host: brings the streams of libp2p's peers.
        plain: brings ordinary clients, to public torrents only; None for none.
    """

    def __init__(self, host: Host, plain: PlainPort | None = None) -> None:
        self._pumps: dict[bytes, SwarmPump] = {}
        host.handle(PROTOCOL, self._serve)
        if plain is not None:
            plain.serve(self._public)

    def add(self, pump: SwarmPump) -> None:
        """From now on streams of the pump's torrent go to it."""
        self._pumps[pump.info_hash] = pump

    def remove(self, pump: SwarmPump) -> None:
        """No more streams for it."""
        if self._pumps.get(pump.info_hash) is pump:
            del self._pumps[pump.info_hash]

    def _public(self, info_hash: bytes) -> SwarmPump | None:
        pump = self._pumps.get(info_hash)
        return pump if pump is not None and pump.public else None

    async def _serve(self, stream: Stream) -> None:
        with trio.move_on_after(HANDSHAKE_DEADLINE_S) as scope:
            data = await stream.read_exact(HANDSHAKE_BYTES)
        if scope.cancelled_caught:
            raise TimedOut(f"{stream.peer} sent no handshake")
        try:
            info_hash = Handshake.decode(data).info_hash
        except RemoteError as error:
            raise Malformed(str(error)) from error
        pump = self._pumps.get(info_hash)
        if pump is None or not pump.admits(stream.peer):
            raise Declined(f"{stream.peer} asks for a torrent that is not here")  # one answer for both
        await pump.accept(stream, data)
