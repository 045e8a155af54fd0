"""The pump of `chain.snapshot_sync` over `/p2pml/snapshot/1.0.0`, and the serving side."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

import trio

from chain.errors import InvalidError
from chain.snapshot import Snapshot
from chain.snapshot_messages import (
    MAX_REQUEST_BYTES,
    MAX_RESPONSE_BYTES,
    PROTOCOL,
    answer_part,
    decode_part_request,
)
from chain.snapshot_sync import Ask, Blame, Done, Effect, Event, Failed, GaveUp, SnapshotSync
from chain.sync_events import Answered, PeerJoined, PeerLeft
from p2pml.net.errors import Malformed, RemoteError
from p2pml.net.host import Host
from p2pml.net.limited import request_bytes, serve_limited
from p2pml.net.scores import Deed

log = logging.getLogger(__name__)

LOOK_S = 0.2
PER_PEER = 4


def serve_snapshots(host: Host, found: Callable[[bytes], Awaitable[Snapshot | None]]) -> None:
    """Give parts of snapshots to whoever asks.

    Args:
        found: the snapshot after a block of that id, if it is kept.
    """

    async def serve(peer: str, message: bytes) -> bytes:
        try:
            request = decode_part_request(message)
        except InvalidError as error:
            raise Malformed(str(error)) from error
        snapshot = await found(request.id)
        return await trio.to_thread.run_sync(answer_part, request, lambda block_id: snapshot)

    serve_limited(host, PROTOCOL, serve, MAX_REQUEST_BYTES, PER_PEER)


class SnapshotPump:
    """Runs one `SnapshotSync` on a running host.

    Args:
        host: its connected peers are asked.
        machine: owned by this pump from now on.
    """

    def __init__(self, host: Host, machine: SnapshotSync) -> None:
        self._host, self._machine = host, machine
        self._nursery: trio.Nursery | None = None
        self._joined: set[str] = set()
        self._end: Done | GaveUp | None = None
        self._moved = trio.Event()

    async def run(self) -> Done | GaveUp:
        """Fetch until the state is here, or nobody gives it."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            nursery.start_soon(self._looking)
            while self._end is None:
                moved, deadline = self._moved, self._machine.deadline()
                with trio.move_on_at(float("inf") if deadline is None else deadline) as scope:
                    await moved.wait()
                if scope.cancelled_caught:
                    self._carry_out(self._machine.tick(trio.current_time()))
                    await trio.sleep(0.01)  # a deadline in the past must not spin
            nursery.cancel_scope.cancel()
        return self._end

    def _tell(self, event: Event) -> None:
        self._carry_out(self._machine.receive(event, trio.current_time()))
        moved, self._moved = self._moved, trio.Event()
        moved.set()

    async def _looking(self) -> None:
        while True:
            connected = set(self._host.connected())
            for peer in self._joined - connected:
                self._tell(PeerLeft(peer))
            for peer in connected - self._joined:
                self._tell(PeerJoined(peer))
            self._joined = connected
            await trio.sleep(LOOK_S)

    def _carry_out(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Ask() if self._nursery is not None:
                    self._nursery.start_soon(self._ask, effect)
                case Blame(peer, reason):
                    log.warning("no snapshot from %s any more: %s", peer, reason)
                    self._host.report(peer, Deed.LIED, reason)
                case Done() | GaveUp():
                    self._end = effect

    async def _ask(self, ask: Ask) -> None:
        try:
            data = await request_bytes(
                self._host, ask.peer, PROTOCOL, ask.data, ask.timeout, MAX_RESPONSE_BYTES
            )
        except RemoteError as error:
            log.debug("no part of a snapshot from %s: %s", ask.peer, error)
            self._tell(Failed(ask.peer, ask.request_id))
        else:
            self._tell(Answered(ask.peer, ask.request_id, data))
