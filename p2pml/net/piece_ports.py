"""What the pump of a swarm works with: the machine above it, the disk beside it, and who watches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from p2pml.errors import UserError
from torrent import events


class Machine(Protocol):
    """What a pump needs of `torrent.swarm.Swarm`."""

    def receive(self, event: events.Event, now: float) -> list[events.Effect]: ...

    def tick(self, now: float) -> list[events.Effect]: ...

    def deadline(self) -> float | None: ...

    def close(self) -> None: ...

    @property
    def complete(self) -> bool: ...

    @property
    def peer_id(self) -> bytes: ...

    def stats(self, now: float) -> events.SwarmStats: ...


class PieceStream(Protocol):
    """What a link of a swarm needs of a stream: libp2p's, or a plain TCP connection."""

    @property
    def peer(self) -> str: ...

    async def read_some(self) -> bytes:
        """What is there, waiting for the first byte; empty at the end. Raises `net.errors.RemoteError`."""
        ...

    async def write(self, data: bytes) -> None:
        """Write all of `data`. Raises `net.errors.RemoteError`."""
        ...

    async def reset(self) -> None: ...


Range = tuple[int, int, int]
"""Of a piece: its index, the first byte inside it, and how many bytes."""


class Disk(Protocol):
    """What a pump needs of the torrent's store."""

    async def read(self, ranges: Sequence[Range]) -> Sequence[bytes | UserError]:
        """The bytes of each range, or why they cannot be had."""
        ...

    async def write(self, pieces: Sequence[tuple[int, bytes | bytearray]]) -> Sequence[bool]:
        """Keep the pieces whose hash is right, synced; tells for each whether it was. Raises `UserError` for
        local failures.
        """
        ...


class Watcher(Protocol):
    """Told by a pump what its owner may want to know. Must be quick and not raise."""

    def piece_kept(self, index: int) -> None: ...

    def completed(self) -> None: ...

    def local_problem(self, error: UserError) -> None:
        """The disk failed us; requests stop for a while when it was a write."""
        ...
