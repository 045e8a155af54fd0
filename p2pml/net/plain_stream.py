"""A plain TCP connection with the manners of a libp2p stream, for the links of a swarm."""

from __future__ import annotations

import trio

from p2pml.net.errors import Closed

READ_BYTES = 256 * 1024


class PlainStream:
    """Args:
    raw: connected; ended by `reset` or `cut`.
    peer: its name, see `net.plain_peer`.
    local: the name of this end, where it was dialled from here.
    """

    def __init__(self, raw: trio.SocketStream, peer: str, local: str = "") -> None:
        self._raw = raw
        self.peer, self.local = peer, local

    async def read_some(self) -> bytes:
        """1 to `READ_BYTES` bytes, empty at the end. Raises `Closed`."""
        try:
            return bytes(await self._raw.receive_some(READ_BYTES))
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise Closed(f"{self.peer} broke off") from error

    async def write(self, data: bytes) -> None:
        """Write all of `data`, at the pace of the reader. Raises `Closed`."""
        try:
            await self._raw.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise Closed(f"{self.peer} broke off") from error

    async def reset(self) -> None:
        """Close the connection; what was not sent is lost."""
        await trio.aclose_forcefully(self._raw)

    def cut(self) -> None:
        """As `reset`, at once: reads and writes that wait end."""
        self._raw.socket.close()
