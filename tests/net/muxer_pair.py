"""Two muxers, or two secured connections, on a pair of pipes in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import trio
import trio.testing
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.x25519 import create_new_key_pair as create_noise_key_pair
from libp2p.io.trio import TrioTCPStream
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.peer.id import ID
from libp2p.stream_muxer.exceptions import (
    MuxedStreamEOF,
)

from p2pml.net.secure.session import RecordNoise
from p2pml.net.yamux.limits import Budget, Limits
from p2pml.net.yamux.muxer import Muxer

QUICK = Limits(keepalive=10, keepalive_timeout=20)


class Wire:
    """The two ends of a connection in memory; `frozen` lets nothing through, as a stopped process would."""

    def __init__(self) -> None:
        self.ends = trio.testing.memory_stream_pair()
        self.written = 0
        self.thaw = trio.Event()
        self.thaw.set()
        for end in self.ends:
            deliver = end.send_stream.send_all_hook
            end.send_stream.send_all_hook = partial(self._on_send, deliver)

    def freeze(self) -> None:
        self.thaw = trio.Event()

    async def _on_send(self, deliver: Callable[[], Awaitable[None]]) -> None:
        self.written += 1
        await self.thaw.wait()
        await deliver()


async def sessions(wire: Wire, classes: tuple[Any, Any] = (RecordNoise, RecordNoise)) -> list[Any]:
    """Both sides after the handshake, the dialling one first."""
    keys = [create_new_key_pair(bytes([side + 1]) * 32) for side in range(2)]
    noises = [
        kind(key, noise_privkey=create_noise_key_pair().private_key)
        for kind, key in zip(classes, keys, strict=True)
    ]
    done: list[Any] = [None, None]
    raw = [RawConnection(TrioTCPStream(end), side == 0) for side, end in enumerate(wire.ends)]

    async def dial() -> None:
        done[0] = await noises[0].secure_outbound(raw[0], ID.from_pubkey(keys[1].public_key))

    async def answer() -> None:
        done[1] = await noises[1].secure_inbound(raw[1])

    async with trio.open_nursery() as nursery:
        nursery.start_soon(dial)
        nursery.start_soon(answer)
    return done


@asynccontextmanager
async def muxers(
    limits: Limits = QUICK, wire: Wire | None = None, budget: Budget | None = None
) -> AsyncIterator[tuple[Muxer, Muxer]]:
    a, b = await sessions(wire or Wire())
    pair = (Muxer(a, b.local_peer, limits), Muxer(b, a.local_peer, limits, budget))
    async with trio.open_nursery() as nursery:
        for side in pair:
            nursery.start_soon(side.start)
            await side.event_started.wait()
        yield pair
        nursery.cancel_scope.cancel()


async def stream_pair(a: Any, b: Any) -> tuple[Any, Any]:
    ours = await a.open_stream()
    await ours.write(b"!")
    theirs = await b.accept_stream()
    assert await theirs.read(1) == b"!"
    return ours, theirs


async def read_all(stream: Any) -> bytes:
    data = bytearray()
    try:
        while True:
            data += await stream.read(100_000)
    except MuxedStreamEOF:
        return bytes(data)
