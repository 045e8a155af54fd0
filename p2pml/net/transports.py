"""Which code carries the bytes: the library's own noise records and yamux, or this package's.

The wire is the same, `/noise` and `/yamux/1.0.0`: either kind of host talks to the other and to any libp2p.
"""

from __future__ import annotations

from typing import Any

from libp2p.security.noise.transport import Transport as NoiseTransport
from libp2p.stream_muxer.muxer_multistream import MuxerMultistream

from p2pml.config import TRANSPORTS
from p2pml.net.secure.session import RecordNoise
from p2pml.net.yamux.limits import Budget, Limits
from p2pml.net.yamux.muxed_stream import MuxedStream
from p2pml.net.yamux.muxer import Muxer


def noise_class(transport: str) -> Any:
    """The class that secures connections.

    Raises:
        ValueError: `transport` names no stack.
    """
    if transport not in TRANSPORTS:
        raise ValueError(f"transport {transport!r} is not one of {', '.join(TRANSPORTS)}")
    return RecordNoise if transport == "fast" else NoiseTransport


def use_own_muxer(network: Any, limits: Limits | None = None, budget: Budget | None = None) -> None:
    """Let a libp2p swarm, not yet running, carry its streams by `Muxer`.

    Args:
        network: the host's swarm.
        limits: of each connection.
        budget: of all of them together.
    """
    old = network.upgrader.muxer_multistream
    # libp2p makes its own Yamux for that protocol whatever class it was given; this object is what does it.
    network.upgrader.muxer_multistream = _OwnMuxers(
        old.transports, old.negotiate_timeout, limits or Limits(), budget or Budget()
    )


def cancels_safely(raw: Any) -> bool:
    """Whether a libp2p stream's reads and writes may be cancelled without harm to its connection."""
    return isinstance(raw.muxed_stream, MuxedStream)


class _OwnMuxers(MuxerMultistream):  # type: ignore[misc]
    """libp2p's negotiation of the muxer, with our muxer at its end."""

    def __init__(self, transports: Any, timeout: Any, limits: Limits, budget: Budget) -> None:
        super().__init__(dict(transports), timeout)
        self._limits, self._budget = limits, budget

    async def new_conn(self, conn: Any, peer_id: Any) -> Any:
        """Agree on the protocol; the connection still has to be started."""
        protocol, _ = await self._selector.select(conn, conn.is_initiator, self.negotiate_timeout)
        return self._annotate_connection(Muxer(conn, peer_id, self._limits, self._budget), conn, protocol)
