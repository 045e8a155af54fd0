"""One dataset of this node at work: its store, the pump of its swarm, the search for providers, counters."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import trio

from p2pml.errors import UserError
from p2pml.net.announcer import Announcer
from p2pml.net.discovery import Discovery, Holding
from p2pml.net.host import Host
from p2pml.net.piece_exchange import PieceExchange
from p2pml.net.piece_ports import Range
from p2pml.net.pieces import SwarmPump
from p2pml.net.plain_peer import is_plain
from p2pml.net.plain_port import PlainPort
from p2pml.net.provider_table import Listing, shown_name
from p2pml.node.byte_counts import ByteCounts
from p2pml.node.dataset_info import DatasetInfo, describe
from p2pml.node.events import Events
from p2pml.node.progress import reporter
from p2pml.node.tracking import announcer_for
from p2pml.storage.piece_store import PieceStore
from torrent.budget import Budget
from torrent.events import SwarmStats
from torrent.priorities import Priorities
from torrent.swarm import Swarm

log = logging.getLogger(__name__)

T = TypeVar("T")

SEARCH_S = (1.0, 2.0, 4.0, 8.0, 15.0)
"""Pauses between two searches for providers while pieces are missing; the last one repeats."""
MAX_ADDRESSES = 64
"""Ordinary clients that are remembered for one dataset."""
_METER_S = 1.0
_SAVE_S = 5.0
_ENOUGH_PEERS = 8


class TorrentSession:
    """Seeds or fetches one dataset while `run` runs.

    Args:
        store: open; closed by `run`.
        threads: bounds the disk work of all sessions together.
        budget: memory for pieces on their way, shared by all sessions.
        plain: the way to ordinary BitTorrent clients, used for public datasets only; None for none.
    """

    def __init__(
        self,
        store: PieceStore,
        host: Host,
        exchange: PieceExchange,
        discovery: Discovery,
        events: Events,
        threads: trio.CapacityLimiter,
        budget: Budget,
        plain: PlainPort | None = None,
    ) -> None:
        self.store = store
        self.problem: UserError | None = None
        self.stopped = trio.Event()
        self._host = host
        self._exchange = exchange
        self._discovery = discovery
        self._events = events
        self._threads = threads
        self._budget = budget
        self._plain = plain
        self._announcer: Announcer | None = None
        self._scope = trio.CancelScope()
        self._changed = trio.Event()
        self._search_now = trio.Event()
        self._pump: SwarmPump | None = None
        self._working = trio.CancelScope()
        self._idle = trio.Event()
        self._resumed = trio.Event()
        self._counts = ByteCounts(store.state)
        self._complete = store.is_complete()
        self._unsaved = False

    @property
    def infohash(self) -> bytes:
        return self.store.metainfo.info_hash

    @property
    def name(self) -> str:
        return self.store.metainfo.name

    @property
    def complete(self) -> bool:
        """Whether every wanted piece is here."""
        return self._complete

    @property
    def paused(self) -> bool:
        """Whether its user stopped it: neither fetched, nor served, nor told of."""
        return self.store.state.paused

    # -- running -------------------------------------------------------------------------------------

    async def run(self, *, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        """Recover what is on disk, then serve and fetch until cancelled or `stop`; never raises."""
        task_status.started()
        try:
            with self._scope:
                await self._recover()
                while True:
                    while self.paused:
                        await self._resumed.wait()
                    with trio.CancelScope() as self._working:
                        await self._work()
        except* UserError as group:
            self.local_problem(_first(group))
        except* Exception as group:  # a mistake in one torrent's machine must not end the node
            log.exception("the swarm of %s ended", self.name)
            self.local_problem(UserError(f"{self.name} stopped: {group.exceptions[0]!r}", "restart the node"))
        finally:
            with trio.CancelScope(shield=True):
                await self._close()

    async def stop(self) -> None:
        """End `run` and wait for it."""
        self._scope.cancel()
        await self.stopped.wait()

    async def _recover(self) -> None:
        before = self.store.have
        progress = reporter(partial(self.emit, "data.recover"))
        self._tell_damaged(before - await self._in_thread(partial(self.store.recover, progress)))
        self._refresh()
        self._notify()  # all may be here already, as when a removed dataset's files had been kept
        self._check_in_place()

    def _check_in_place(self) -> None:
        """What is seeded from the user's own files cannot be fetched again: tell what is missing."""
        if self.store.in_place and not self._complete:
            left = f"{self.store.have_count} of {self.store.metainfo.piece_count} pieces are left"
            self.local_problem(
                UserError(f"the files of {self.name} are gone or were changed: {left}", "seed them again")
            )

    async def _work(self) -> None:
        state = self.store.state
        plain = None if self.store.metainfo.private else self._plain
        pump = SwarmPump(self._host, self.infohash, self._new_swarm(), self, self, state.allowed, plain)
        pump.offer([*state.providers, *state.addresses, *(state.allowed or ())])
        self._pump, self._idle = pump, trio.Event()
        self._announcer = announcer_for(self.store, pump, plain)
        try:
            async with trio.open_nursery() as nursery:
                await nursery.start(pump.run)
                self._exchange.add(pump)
                self._discovery.announce()
                nursery.start_soon(self._search)
                nursery.start_soon(self._meter)
                if self._announcer is not None:
                    nursery.start_soon(self._announcer.run)
        finally:
            self._announcer = None
            self._exchange.remove(pump)
            self._counts.settle(pump.stats())
            self._pump = None
            self._idle.set()

    def _new_swarm(self) -> Swarm:
        priorities = Priorities.only(()) if self.store.in_place else self.store.state.priorities
        rng = random.Random(random.SystemRandom().getrandbits(64))
        return Swarm(
            self.store.metainfo, self.store.have, rng=rng, priorities=priorities, budget=self._budget
        )

    async def _close(self) -> None:
        try:
            await self._in_thread(self.store.save)
        except OSError as error:
            log.warning("the counters of %s were not saved: %s", self.name, error)
        self.store.close()
        self.stopped.set()
        self._notify()

    async def _search(self) -> None:
        """While pieces are missing, look for providers and give them to the pump."""
        pauses = iter(SEARCH_S)
        while True:
            pump = self._pump
            assert pump is not None
            if not self._complete:
                pump.offer(self._discovery.providers(self.infohash))
                if sum(1 for peer in pump.stats().peers if peer.pieces) < _ENOUGH_PEERS:
                    private = self.store.state.allowed is not None
                    known = [*pump.connected(), *self.store.state.providers]
                    for found in await self._discovery.find(self.infohash, known, ask_others=not private):
                        pump.offer(found.providers)
            self._search_now = trio.Event()
            with trio.move_on_after(next(pauses, SEARCH_S[-1])):
                await self._search_now.wait()

    async def _meter(self) -> None:
        """Tell about progress, and save what changed now and then."""
        told, saved, saved_at = self.store.have_count, (self.received(), self.sent()), -_SAVE_S
        while True:
            await trio.sleep(_METER_S)
            if self.store.have_count != told:
                told = self.store.have_count
                self.emit("data.progress", **self._progress())
            now = (self.received(), self.sent())
            if now != saved and trio.current_time() - saved_at >= _SAVE_S:
                self._unsaved = True
            if self._unsaved:
                saved, saved_at, self._unsaved = now, trio.current_time(), False
                await self._save()

    async def _save(self) -> None:
        self._counts.note(self._stats())
        try:
            await self._in_thread(self.store.save)
        except OSError as error:
            self.local_problem(
                UserError(f"the state of {self.name} cannot be saved: {error}", "check the disk")
            )

    # -- asked by the pump ---------------------------------------------------------------------------

    async def read(self, ranges: Sequence[Range]) -> Sequence[bytes | UserError]:
        """Blocks of pieces that are here, or why they cannot be read."""
        return await self._in_thread(partial(self.store.read_many, ranges))

    async def write(self, pieces: Sequence[tuple[int, bytes | bytearray]]) -> Sequence[bool]:
        """Verify pieces and keep the good ones; what somebody else spoilt meanwhile is fetched again."""
        damaged = await self._in_thread(partial(self.store.drop_changed, [index for index, _ in pieces]))
        self._tell_damaged(damaged)
        if self._pump is not None:
            self._pump.lost(damaged)
        return await self._in_thread(partial(self.store.write_many, pieces))

    def _tell_damaged(self, pieces: frozenset[int]) -> None:
        if pieces and not self.store.in_place:
            log.warning(
                "%s: its files were changed: %d pieces are lost and fetched again", self.name, len(pieces)
            )

    def piece_kept(self, index: int) -> None:
        """A piece is on disk."""
        if self.problem is not None:
            self.problem = None
        if self.store.have_count == 1:
            self._discovery.announce()
        self._notify()

    def completed(self) -> None:
        """Every wanted piece is on disk."""
        self._refresh()
        if not self._complete or self.store.in_place:
            return
        if self._announcer is not None and self.store.have_count == self.store.metainfo.piece_count:
            self._announcer.completed()
        self.problem = None
        self.emit("data.complete", **self._progress(), sources=self.received())
        self._discovery.announce()
        self._notify()

    def local_problem(self, error: UserError) -> None:
        """The disk failed; whoever waits for this dataset is told."""
        if self.problem is None or self.problem.cause != error.cause:
            log.warning("%s: %s", self.name, error.cause)
            self.emit("data.error", error=error.cause, fix=error.fix)
        self.problem = error
        self._notify()

    # -- asked by the service ------------------------------------------------------------------------

    def offer(self, peers: Iterable[str]) -> None:
        """Peers that may hold pieces."""
        if self._pump is not None and not self._complete:
            self._pump.offer(peers)

    def meet(self, addresses: Sequence[str]) -> None:
        """Ordinary clients that may hold pieces, by their names (`net.plain_peer`); kept over restarts."""
        state = self.store.state
        state.addresses = tuple(dict.fromkeys([*addresses, *state.addresses]))[:MAX_ADDRESSES]
        self._unsaved = True
        self.offer(addresses)

    def retry(self) -> None:
        """Somebody waits: try failed peers and the disk again now."""
        if self._pump is not None:
            self.problem = None
            self._search_now.set()
            self._pump.retry()

    async def set_wanted(self, files: frozenset[int] | None) -> None:
        """Fetch these files from now on, all with None."""
        await self._in_thread(partial(self.store.set_wanted, files))
        self._prioritized()

    async def set_priorities(self, priorities: Priorities) -> None:
        """Fetch by these from now on."""
        await self._in_thread(partial(self.store.set_priorities, priorities))
        self._prioritized()

    def _prioritized(self) -> None:
        self._refresh()
        if self._pump is not None and not self.store.in_place:
            self._pump.set_priorities(self.store.state.priorities)
        self._notify()

    def allow(self, peers: frozenset[str] | None) -> None:
        """Replace the list of peers that may know of this dataset; saved within seconds."""
        self.store.state.allowed = peers
        self._unsaved = True
        if self._pump is not None:
            self._pump.allow(peers)
            self._pump.offer(peers or ())

    async def pause(self) -> None:
        """Neither fetch, serve nor tell of it until `resume`, restarts of the node included."""
        self.store.state.paused = True
        self._working.cancel()
        if self._pump is not None:
            await self._idle.wait()
        await self._save()
        self._notify()

    async def resume(self) -> None:
        """Undo `pause`."""
        self.store.state.paused = False
        resumed, self._resumed = self._resumed, trio.Event()
        resumed.set()
        await self._save()
        self._notify()

    async def verify(self) -> frozenset[int]:
        """Hash everything anew; returns the pieces that were damaged. They are fetched again.

        Of the user's own files all that is not good is damaged, also what was noticed at an earlier look.
        Emits `data.verify` with pieces `done` and `total`.
        """
        before = self.store.have
        progress = reporter(partial(self.emit, "data.verify"))
        now = await self._in_thread(partial(self.store.recheck, progress))
        if self._pump is not None:
            self._pump.lost(before - now)
        self._refresh()
        if now - before:  # what was missing is back: a new swarm begins with it
            self.problem = None
            self._working.cancel()
        self._check_in_place()
        self._notify()
        return (frozenset(range(self.store.metainfo.piece_count)) if self.store.in_place else before) - now

    async def wait_change(self, timeout: float) -> bool:
        """Wait for a piece, a problem or the end; False when nothing happened for `timeout` seconds."""
        with trio.move_on_after(timeout) as scope:
            await self._changed.wait()
        return not scope.cancelled_caught

    def received(self) -> dict[str, int]:
        """Verified payload bytes by peer, earlier runs included."""
        return self._counts.received(self._stats())

    def sent(self) -> dict[str, int]:
        """Payload bytes given, by peer, earlier runs included."""
        return self._counts.sent(self._stats())

    def holding(self) -> Holding:
        """This dataset as others may learn of it."""
        metainfo = self.store.metainfo
        stats = self._stats()
        linked = () if stats is None else stats.peers
        sources = tuple(peer.peer for peer in linked if peer.pieces and not is_plain(peer.peer))
        listing = Listing(shown_name(metainfo.name), metainfo.info_hash, metainfo.content_length)
        return Holding(listing, metainfo.raw, self.store.have_count, self.store.state.allowed, sources)

    def info(self) -> DatasetInfo:
        """All that there is to tell; complete once the swarm too has counted the last piece."""
        problem = "" if self.problem is None else self.problem.cause
        clients = {} if self._pump is None else self._pump.clients()
        info = describe(self.store, self._stats(), self.received(), self.sent(), problem, clients)
        return replace(info, complete=info.complete and self._complete)

    def emit(self, kind: str, **data: Any) -> None:
        """Put an event of this dataset into the node's log."""
        self._events.emit(kind, infohash=self.infohash.hex(), name=self.name, **data)

    # -- small things --------------------------------------------------------------------------------

    def _stats(self) -> SwarmStats | None:
        return None if self._pump is None else self._pump.stats()

    def _progress(self) -> dict[str, Any]:
        stats = self._stats()
        return {
            "have": self.store.have_count,
            "wanted": len(self.store.wanted_pieces()),
            "pieces": self.store.metainfo.piece_count,
            "peers": 0 if stats is None else len(stats.peers),
            "rate_down": 0.0 if stats is None else stats.down_rate,
        }

    def _refresh(self) -> None:
        self._complete = self.store.is_complete()

    def _notify(self) -> None:
        changed, self._changed = self._changed, trio.Event()
        changed.set()

    async def _in_thread(self, function: Callable[[], T]) -> T:
        return await trio.to_thread.run_sync(function, limiter=self._threads)


def _first(group: ExceptionGroup[UserError]) -> UserError:
    """One of a group's errors."""
    error = group.exceptions[0]
    return _first(error) if isinstance(error, ExceptionGroup) else error
