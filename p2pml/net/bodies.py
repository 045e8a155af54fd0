"""The pump of `chain.bodies` over `/p2pml/body/1.0.0`: asks peers for bodies, and gives them ours.

A peer may ask for a body that we are only fetching ourselves, since the header that we passed on was quicker:
it waits for a moment.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import trio

from chain.bodies import (
    MAX_WANTED,
    PROTOCOL,
    SOURCE_S,
    Assembled,
    Bodies,
    BodyCame,
    BodyFailed,
    Effect,
    Event,
    FetchBody,
    GaveUp,
    Lied,
)
from chain.recent import Recent
from p2pml.net.errors import Malformed, RemoteError
from p2pml.net.host import Host
from p2pml.net.limited import request_bytes, serve_limited

log = logging.getLogger(__name__)

WAIT_S = SOURCE_S * 0.6
"""Seconds that an asker waits for a body which is on its way to us."""
PER_PEER = 8
_ID_BYTES = 32

Lookup = Callable[[bytes], Awaitable[bytes | None]]
Tell = Callable[[Assembled | Lied | GaveUp], None]


class BodyPump:
    """Runs one `Bodies` machine on a host.

    Args:
        host: running while this runs.
        machine: owned by this pump from now on.
        max_bytes: of the largest body of this chain.
        lookup: the encoded body of a block that we have.
        tell: called with what came of a fetch.
    """

    def __init__(self, host: Host, machine: Bodies, max_bytes: int, lookup: Lookup, tell: Tell) -> None:
        self._host, self._machine, self._max_bytes = host, machine, max_bytes
        self._lookup, self._tell_owner = lookup, tell
        self._nursery: trio.Nursery | None = None
        self._moved = trio.Event()
        self._arrived = trio.Event()
        self._assembled: Recent[bytes, bool] = Recent(MAX_WANTED)  # not yet known to `lookup`

    async def run(self, *, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        """Serve and fetch until cancelled."""
        serve_limited(self._host, PROTOCOL, self._serve, _ID_BYTES, PER_PEER)
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            try:
                await self._ticking()
            finally:
                self._nursery = None

    def fetching(self, block_id: bytes) -> bool:
        """Whether the body of this block is being fetched."""
        return self._machine.wants(block_id)

    def tell(self, event: Event) -> None:
        """Give the machine an event and carry out what it says."""
        self._carry_out(self._machine.receive(event, trio.current_time()))
        moved, self._moved = self._moved, trio.Event()
        moved.set()

    def arrived(self) -> None:
        """We have another block: who waits for one may look again."""
        arrived, self._arrived = self._arrived, trio.Event()
        arrived.set()

    async def _ticking(self) -> None:
        while True:
            deadline = self._machine.deadline()
            with trio.move_on_at(float("inf") if deadline is None else deadline) as scope:
                await self._moved.wait()
            if scope.cancelled_caught:
                self._carry_out(self._machine.tick(trio.current_time()))
                await trio.sleep(0.01)  # a deadline in the past must not spin

    def _carry_out(self, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Assembled):
                self._assembled.put(effect.block.block_id, True)
                self._host.standing.useful(effect.peer, len(effect.block.encoded))
            if not isinstance(effect, FetchBody):
                self._tell_owner(effect)
            elif self._nursery is not None:
                self._nursery.start_soon(self._fetch, effect)

    async def _fetch(self, ask: FetchBody) -> None:
        try:
            data = await request_bytes(
                self._host, ask.peer, PROTOCOL, ask.block_id, SOURCE_S, self._max_bytes
            )
        except RemoteError as error:
            log.debug("no body from %s: %s", ask.peer, error)
            self.tell(BodyFailed(ask.peer, ask.block_id))
        else:
            self.tell(BodyCame(ask.peer, ask.block_id, data))

    async def _serve(self, peer: str, block_id: bytes) -> bytes:
        if len(block_id) != _ID_BYTES:
            raise Malformed("a body is asked for by a block id of 32 bytes")
        body = b""
        with trio.move_on_after(WAIT_S):
            body = await self._await_body(block_id)
        return body

    async def _await_body(self, block_id: bytes) -> bytes:
        while True:
            arrived = self._arrived
            body = await self._lookup(block_id)
            if body is not None:
                return body
            if not self._machine.wants(block_id) and block_id not in self._assembled:
                return b""
            await arrived.wait()
