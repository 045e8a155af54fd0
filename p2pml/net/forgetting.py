"""What libp2p remembers of a peer goes when its last connection ends.

libp2p 0.8.1 keeps what a peer said of itself (up to a megabyte) for the last thousand peers, so whoever makes
identities could fill the memory. Where peers can be reached is kept by `net.addresses` instead.
"""

from __future__ import annotations

from typing import Any


class Forgetting:
    """libp2p's notifee that does it.

    Args:
        host: libp2p's host.
    """

    def __init__(self, host: Any) -> None:
        self._store = host.get_peerstore()

    async def disconnected(self, network: Any, conn: Any) -> None:
        """A connection ended; libp2p has taken it off its list."""
        peer = conn.muxed_conn.peer_id
        if network.connections.get(peer):
            return
        self._store.peer_data_map.pop(peer, None)
        self._store.peer_record_map.pop(peer, None)

    async def connected(self, network: Any, conn: Any) -> None:
        """Nothing to do."""

    async def opened_stream(self, network: Any, stream: Any) -> None:
        """Nothing to do."""

    async def closed_stream(self, network: Any, stream: Any) -> None:
        """Nothing to do."""

    async def listen(self, network: Any, location: Any) -> None:
        """Nothing to do."""

    async def listen_close(self, network: Any, location: Any) -> None:
        """Nothing to do."""
