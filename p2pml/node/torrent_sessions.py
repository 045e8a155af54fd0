"""The torrents of this node: the sessions that run, by info-hash, and their folders under `pieces/`."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import trio

from p2pml.errors import UserError
from p2pml.home import Home
from p2pml.net.discovery import Discovery, Holding
from p2pml.net.gossip import Gossip
from p2pml.net.host import Host
from p2pml.net.piece_exchange import PieceExchange
from p2pml.net.plain_port import PlainPort
from p2pml.node.dataset_keys import Key, infohash_of, shown
from p2pml.node.events import Events
from p2pml.node.torrent_session import TorrentSession
from p2pml.node.views import NotFound
from p2pml.storage.disk_errors import DiskFull
from p2pml.storage.piece_store import PieceStore
from p2pml.storage.torrent_state import TorrentState
from p2pml.storage.torrent_store import holds_any, kept_bytes, stored_folders, strip_folder
from torrent.budget import Budget
from torrent.config import SwarmConfig
from torrent.metainfo import Metainfo
from torrent.priorities import Priorities

log = logging.getLogger(__name__)

T = TypeVar("T")

DISK_THREADS = 4


class TorrentSessions:
    """Starts, finds and ends torrent sessions.

    Args:
        quota: most bytes that fetched datasets may take together; None for no bound but the disk's.
        plain: the port for ordinary BitTorrent clients, run by `run`; None for none.

    Attributes:
        discovery: announces the sessions' datasets and finds those of others.
        changing: held while datasets are added, changed or removed.
    """

    def __init__(
        self,
        home: Home,
        host: Host,
        gossip: Gossip,
        events: Events,
        quota: int | None = None,
        plain: PlainPort | None = None,
    ) -> None:
        self._home = home
        self._host = host
        self._events = events
        self._quota = quota
        self._sessions: dict[bytes, TorrentSession] = {}
        self._threads = trio.CapacityLimiter(DISK_THREADS)
        self._budget = Budget(SwarmConfig().piece_buffer)
        self.plain = plain
        self._exchange = PieceExchange(host, plain)
        self._nursery: trio.Nursery | None = None
        self.discovery = Discovery(host, gossip, self._holdings, self._heard)
        self.changing = trio.Lock()

    def __iter__(self) -> Iterator[TorrentSession]:
        return iter(list(self._sessions.values()))

    def get(self, infohash: bytes) -> TorrentSession | None:
        """The session of an info-hash."""
        return self._sessions.get(infohash)

    async def run(self, *, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        """Take up every stored dataset, then serve until cancelled; a damaged one is told and left out."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            try:
                if self.plain is not None:
                    await nursery.start(self.plain.run)
                for folder in await self.in_thread(stored_folders, self._home.pieces):
                    await self._take_up(folder)
                nursery.start_soon(self.discovery.run)
                task_status.started()
                await trio.sleep_forever()
            finally:
                self._nursery = None
                nursery.cancel_scope.cancel()

    async def _take_up(self, folder: Path) -> None:
        try:
            await self._start(await self.in_thread(PieceStore.open, folder))
        except UserError as error:
            log.error("%s", error.cause)
            self._events.emit("data.error", infohash=folder.name, name="", error=error.cause, fix=error.fix)

    async def install(
        self, metainfo: Metainfo, state: TorrentState, have: Iterable[int] = ()
    ) -> TorrentSession:
        """Store a new torrent and start its session; not cancelled halfway, which would leave its folder.

        Args:
            have: pieces that are known to be here, of a torrent that is seeded in place.

        Raises:
            UserError: the disk refuses.
        """
        folder = self._home.pieces / metainfo.hex
        with trio.CancelScope(shield=True):
            store = await self.in_thread(PieceStore.create, folder, metainfo, state, have)
            session = await self._start(store)
        session.emit("data.added", size=metainfo.content_length, private=state.allowed is not None)
        return session

    async def _start(self, store: PieceStore) -> TorrentSession:
        if self._nursery is None:
            store.close()
            raise UserError("the data service is not running", "start the node")
        session = TorrentSession(
            store,
            self._host,
            self._exchange,
            self.discovery,
            self._events,
            self._threads,
            self._budget,
            self.plain,
        )
        self._sessions[session.infohash] = session
        await self._nursery.start(session.run)
        return session

    async def revive(self, session: TorrentSession) -> TorrentSession:
        """The session itself; when it died of a problem, a new one from its folder.

        Raises:
            UserError: the problem is still there.
        """
        if not session.stopped.is_set():
            return session
        return await self._start(await self.in_thread(PieceStore.open, session.store.folder))

    async def end(self, session: TorrentSession, delete_files: bool, spared: Iterable[Path] = ()) -> bool:
        """Stop a session and forget its torrent.

        Args:
            delete_files: delete what was fetched, too, unless something is seeded from there.
            spared: files that are about to be seeded.

        Returns:
            Whether the files were deleted.

        Raises:
            UserError: its folder cannot be removed.
        """
        del self._sessions[session.infohash]
        await session.stop()
        folder, in_place = session.store.folder, session.store.in_place
        seeded = [place for each in self for place in each.store.state.references.values()]
        try:
            # whatever lies in its folder, one that was seeded in place did not fetch it
            deleting = delete_files and not in_place
            deleting = deleting and not await self.in_thread(holds_any, folder, [*spared, *seeded])
            await self.in_thread(shutil.rmtree if deleting else strip_folder, folder)
        except OSError as error:
            raise UserError(f"{folder} cannot be removed: {error.strerror}", "remove it by hand") from error
        session.emit("data.removed")
        return deleting

    def of(self, key: Key) -> TorrentSession:
        """The session of a dataset.

        Raises:
            NotFound: it is not here.
            UserError: the name is not unique.
        """
        session = self.lookup(key)
        if session is None:
            raise NotFound(f"there is no data set {shown(key)} here", "`p2pml data ls` lists them")
        return session

    def lookup(self, key: Key) -> TorrentSession | None:
        """The session of a dataset, None when it is not here. Raises UserError for a name of several."""
        infohash = infohash_of(key)
        if infohash is not None and infohash in self._sessions:
            return self._sessions[infohash]
        named = [session for session in self._sessions.values() if session.name == key]
        if len(named) > 1:
            hashes = ", ".join(session.infohash.hex() for session in named)
            raise UserError(f"{shown(key)} is the name of several data sets: {hashes}", "use an info-hash")
        return named[0] if named else None

    async def check_quota(self, metainfo: Metainfo, priorities: Priorities) -> None:
        """Raises DiskFull when what is wanted does not fit beside the rest and what removed ones left."""
        if self._quota is None:
            return
        others = [
            session.store
            for session in self._sessions.values()
            if session.infohash != metainfo.info_hash and not session.store.in_place
        ]
        used = sum(store.state.priorities.wanted_bytes(store.metainfo) for store in others)
        known = frozenset(session.infohash.hex() for session in self._sessions.values())
        used += await self.in_thread(kept_bytes, self._home.pieces, known | {metainfo.hex})
        if used + priorities.wanted_bytes(metainfo) > self._quota:
            raise DiskFull(
                f"{metainfo.name} does not fit into the quota of {self._quota} bytes, {used} are taken",
                "`p2pml data rm --with-data` one, fetch fewer files, delete what removed ones left under "
                f"{self._home.pieces}, or raise the quota: data_quota_mib in config.toml",
            )

    def _holdings(self) -> list[Holding]:
        return [session.holding() for session in self._sessions.values() if not session.paused]

    def _heard(self, infohash: bytes, peer: str) -> None:
        session = self._sessions.get(infohash)
        if session is not None:
            session.offer([peer])

    async def in_thread(self, function: Callable[..., T], *arguments: Any) -> T:
        """Run disk work in a thread; all datasets share a few."""
        return await trio.to_thread.run_sync(function, *arguments, limiter=self._threads)
