"""A libp2p transport without sockets: pipes in memory, between hosts of one process, on any trio clock.

For simulation of whole nodes in virtual time. Addresses look like TCP over IPv4, so that everything above is
as on a real network; security and muxing run unchanged on top.
"""

from __future__ import annotations

from typing import Any

import trio
import trio.testing
from libp2p.abc import IListener, ITransport
from libp2p.io.trio import TrioTCPStream
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.transport.exceptions import OpenConnectionError

FIRST_PORT = 4001


class MemoryNetwork:
    """Who listens where. One per simulated network.

    Args:
        nursery: accepted connections run in it.
        delay: seconds that a dial takes.
    """

    def __init__(self, nursery: trio.Nursery, delay: float = 0.0) -> None:
        self._nursery = nursery
        self._delay = delay
        self._listeners: dict[str, _Listener] = {}
        self._next_port = FIRST_PORT

    def transport(self) -> ITransport:
        """For one host: pass it as `Host(…, wires=…)`."""
        return _Transport(self)

    def listen(self, location: str, listener: _Listener) -> str:
        """Take an address; port 0 becomes a free one. Returns the address taken."""
        base, _, port = location.rpartition("/")
        if port == "0":
            port, self._next_port = str(self._next_port), self._next_port + 1
        taken = f"{base}/{port}"
        if taken in self._listeners:
            raise OpenConnectionError(f"{taken} is in use")
        self._listeners[taken] = listener
        return taken

    def leave(self, location: str) -> None:
        """The address is free again."""
        self._listeners.pop(location, None)

    async def dial(self, location: str) -> RawConnection:
        """A new connection. Raises OpenConnectionError when nobody listens."""
        await trio.sleep(self._delay)
        listener = self._listeners.get(location)
        if listener is None:
            raise OpenConnectionError(f"nobody listens on {location}")
        ours, theirs = trio.testing.memory_stream_pair()
        self._nursery.start_soon(listener.accept, _Stream(theirs))
        return RawConnection(_Stream(ours), True)


class _Stream(TrioTCPStream):  # type: ignore[misc]
    """A pipe in the place of a socket."""

    def __init__(self, stream: Any) -> None:
        super().__init__(stream)

    def get_remote_address(self) -> tuple[str, int] | None:
        return None


class _Listener(IListener):  # type: ignore[misc]
    def __init__(self, network: MemoryNetwork, handler: Any) -> None:
        self._network, self._handler = network, handler
        self._locations: dict[str, Any] = {}

    async def listen(self, maddr: Any, *unused: Any) -> bool:
        await trio.lowlevel.checkpoint()
        taken = self._network.listen(_location(maddr), self)
        self._locations[taken] = type(maddr)(taken)
        return True

    async def accept(self, stream: _Stream) -> None:
        """Serve one connection; what goes wrong in it ends it alone."""
        try:
            await self._handler(stream)
        except Exception:
            await stream.close()

    def get_addrs(self) -> tuple[Any, ...]:
        return tuple(self._locations.values())

    async def close(self) -> None:
        await trio.lowlevel.checkpoint()
        for location in self._locations:
            self._network.leave(location)
        self._locations = {}


class _Transport(ITransport):  # type: ignore[misc]
    def __init__(self, network: MemoryNetwork) -> None:
        self._network = network

    async def dial(self, maddr: Any) -> RawConnection:
        return await self._network.dial(_location(maddr))

    def create_listener(self, handler_function: Any) -> IListener:
        return _Listener(self._network, handler_function)

    def can_dial(self, maddr: Any) -> bool:
        return "/tcp/" in str(maddr)

    def can_listen(self, maddr: Any) -> bool:
        return "/tcp/" in str(maddr)

    def protocols(self) -> list[str]:
        return ["tcp"]


def _location(maddr: Any) -> str:
    return str(maddr).split("/p2p/")[0]
