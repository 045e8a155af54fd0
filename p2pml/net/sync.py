"""The pump of `chain.sync` over `/p2pml/sync/2.0.0`: does what the machine says, tells it what happened.

The machine decides whom to ask for what; here are the streams, the clock and the connected peers.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable
from typing import Any

import trio

from chain.body_window import IN_FLIGHT
from chain.errors import InvalidError
from chain.sync import (
    MAX_FETCHES,
    Answered,
    Ask,
    Distrust,
    Effect,
    Event,
    Failed,
    Import,
    Imported,
    PeerJoined,
    PeerLeft,
    Request,
    Sync,
    SyncState,
    decode_request,
)
from chain.sync_messages import MAX_REQUEST_BYTES, PROTOCOL
from p2pml.net.errors import Malformed, RemoteError
from p2pml.net.host import Host
from p2pml.net.limited import request_bytes, serve_limited
from p2pml.net.scores import Deed

log = logging.getLogger(__name__)

LOOK_S = 0.5
"""Seconds between two looks at who is connected."""
AGAIN_S = 60.0
PER_PEER = MAX_FETCHES + IN_FLIGHT + 4
"""Requests of one peer that may be under way: single blocks, bodies, and for our head and our headers."""

ImportBlocks = Callable[[Import], Awaitable[str | None]]
Answer = Callable[[Request], Awaitable[bytes]]


class SyncPump:
    """Runs one `Sync` machine on a host.

    Args:
        host: running while this runs.
        machine: owned by this pump from now on.
        import_blocks: gives a batch to the chain, in order; returns what was wrong with it if its sender is
            to blame. It tells `HeadIs` through `tell` before it returns. One batch at a time.
        answer: encodes the response to a request of a peer.
    """

    def __init__(self, host: Host, machine: Sync, import_blocks: ImportBlocks, answer: Answer) -> None:
        self._host, self._machine = host, machine
        self._import_blocks, self._answer = import_blocks, answer
        self._nursery: trio.Nursery | None = None
        self._joined: set[str] = set()
        self._told_all = float("-inf")
        self._waiting: list[Effect] = []
        self._moved = trio.Event()
        self._send, self._batches = trio.open_memory_channel[Import](math.inf)
        self.behind = 0
        """Blocks that the best credible claim of a peer is ahead of us."""
        self.asked_somebody = False
        """Whether any peer has answered since the start."""

    async def run(self, *, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        """Serve requests and keep up with the network until cancelled."""
        serve_limited(self._host, PROTOCOL, self._serve, MAX_REQUEST_BYTES, PER_PEER)
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            nursery.start_soon(self._ticking)
            nursery.start_soon(self._importing)
            self._carry_out(self._waiting)
            self._waiting = []
            task_status.started()
            try:
                while True:
                    self._look()
                    await trio.sleep(LOOK_S)
            finally:
                self._nursery = None

    def tell(self, event: Event) -> None:
        """Give the machine an event and carry out what it says."""
        self._carry_out(self._machine.receive(event, trio.current_time()))
        moved, self._moved = self._moved, trio.Event()
        moved.set()

    def _look(self) -> None:
        connected = set(self._host.connected())
        now, joined = trio.current_time(), connected - self._joined
        if (
            now >= self._told_all + AGAIN_S
        ):  # one that was distrusted, and has stayed, is asked again some day
            self._told_all, joined = now, connected
        for peer in joined:
            self.tell(PeerJoined(peer))
        for peer in self._joined - connected:
            self.tell(PeerLeft(peer))
        self._joined = connected

    async def _ticking(self) -> None:
        while True:
            deadline = self._machine.deadline()
            with trio.move_on_at(float("inf") if deadline is None else deadline) as scope:
                await self._moved.wait()
            if scope.cancelled_caught:
                self._carry_out(self._machine.tick(trio.current_time()))
                await trio.sleep(0.01)  # a deadline in the past must not spin

    def _carry_out(self, effects: list[Effect]) -> None:
        if self._nursery is None:
            self._waiting += effects
            return
        for effect in effects:
            match effect:
                case Ask():
                    self._nursery.start_soon(self._ask, effect)
                case Import():
                    self._send.send_nowait(effect)  # bounded by the machine: a few batches, single blocks
                case Distrust(peer, reason):
                    log.warning("not syncing from %s any more: %s", peer, reason)
                    self._host.report(peer, Deed.LIED, reason)
                case SyncState(behind):
                    self.behind = behind

    async def _ask(self, ask: Ask) -> None:
        try:
            data = await request_bytes(self._host, ask.peer, PROTOCOL, ask.data, ask.timeout, ask.max_bytes)
        except RemoteError as error:
            self.tell(Failed(ask.peer, ask.request_id, str(error)))
            return
        self.asked_somebody = True
        self.tell(Answered(ask.peer, ask.request_id, data))

    async def _importing(self) -> None:
        async for batch in self._batches:
            error = await self._import_blocks(batch)
            if error is None:
                self._host.report(batch.peer, Deed.ANSWERED, "blocks that hold")
            self.tell(Imported(batch.batch_id, error))

    async def _serve(self, peer: str, message: bytes) -> bytes:
        try:
            request = decode_request(message)
        except InvalidError as error:
            raise Malformed(str(error)) from error
        return await self._answer(request)
