"""The node's datasets: seed what is on this machine, fetch what others have, keep both over restarts.

Each dataset is one `TorrentSession`. What is seeded stays where it is; what is fetched lies under
`pieces/<info-hash>/content/`, and is offered on to others while it comes in.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import trio

from p2pml.errors import UserError
from p2pml.home import Home
from p2pml.net.discovery import Found
from p2pml.net.gossip import Gossip
from p2pml.net.host import Host
from p2pml.net.plain_port import PlainPort
from p2pml.net.presence import Presence
from p2pml.net.raw_host import is_peer_id
from p2pml.node.dataset_finder import Finder
from p2pml.node.dataset_info import DatasetInfo
from p2pml.node.dataset_keys import Key, stalled
from p2pml.node.dataset_seeding import Seeder
from p2pml.node.events import Events
from p2pml.node.torrent_session import TorrentSession
from p2pml.node.torrent_sessions import TorrentSessions
from p2pml.node.tracking import resolve_clients
from p2pml.storage.tar_listing import TarListing, list_tars
from p2pml.storage.torrent_files import Choice, check_wanted, choose, want_more
from p2pml.storage.torrent_state import TorrentState
from torrent.errors import RemoteError
from torrent.metainfo import Metainfo
from torrent.priorities import Priorities

log = logging.getLogger(__name__)

SEARCH_S = 10.0
STALL_S = 60.0


class DataService:
    """Seeds, finds, fetches and keeps datasets.

    Args:
        home: `pieces/` in it belongs to this service.
        host: streams and questions go over it; it must run while this runs.
        gossip: carries announcements; likewise.
        presence: names the live peers to ask.
        events: `data.hash`, `data.added`, `data.recover`, `data.search`, `data.progress`, `data.complete`,
            `data.verify`, `data.error`, `data.removed`.
        quota: most bytes that fetched datasets may take together; None for no bound but the disk's.
        plain: the port for ordinary BitTorrent clients, run with this service; None for none.
    """

    def __init__(
        self,
        home: Home,
        host: Host,
        gossip: Gossip,
        presence: Presence,
        events: Events,
        quota: int | None = None,
        plain: PlainPort | None = None,
    ) -> None:
        self._events = events
        self._sessions = TorrentSessions(home, host, gossip, events, quota, plain)
        self._finder = Finder(self._sessions.discovery, host, presence, events)
        self._seeder = Seeder(self._sessions, events)

    async def run(self, *, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        """Take up every stored dataset, then serve until cancelled; a damaged one is told and left out."""
        await self._sessions.run(task_status=task_status)

    # -- offering ------------------------------------------------------------------------------------

    async def seed(
        self,
        path: Path,
        name: str | None = None,
        private: bool = False,
        allowed: Iterable[str] | None = None,
        hybrid: bool = True,
        trackers: Sequence[str] = (),
    ) -> DatasetInfo:
        """Hash a file, a tar or a folder and offer it from where it is; the `.torrent` file is kept at home.

        Cancelled, it ends while it hashes, and then nothing of it is here.

        Args:
            name: what others call it; default: the file's name.
            private: only `allowed` peers may know of it; also when `allowed` is given.
            allowed: peer ids; `allow` changes them later.
            hybrid: make a v2 half too. Clients that know v1 only ignore it, and it closes what SHA-1 leaves
                open: two data sets made to have one info-hash.
            trackers: HTTP addresses to put into the `.torrent` file.

        Raises:
            UserError: it cannot be read, holds nothing, changes meanwhile or has an impossible name; or
                `allowed` holds what is no peer id.
        """
        limit = _allow_list(private, allowed)
        return (await self._seeder.seed(path, name, limit, hybrid, tuple(trackers))).info()

    async def seed_files(
        self, name: str, files: Sequence[tuple[str, Path]], allowed: Iterable[str]
    ) -> DatasetInfo:
        """Offer files from where they are as one private torrent in which each file starts on a piece.

        Args:
            name: the torrent's name.
            files: (relative name with `/`, place); their order gives their numbers, see `DatasetInfo.files`.
            allowed: the peer ids that may fetch it.

        Raises:
            UserError: as `seed`.
        """
        peers = _allow_list(True, allowed) or frozenset()
        return (await self._seeder.seed_files(name, files, peers)).info()

    def allow(self, key: Key, allowed: Iterable[str]) -> None:
        """Replace the peers that may know of a private dataset; streams of others end.

        Raises:
            UserError: it is not here, or public; or `allowed` holds what is no peer id.
        """
        session = self._sessions.of(key)
        if session.store.state.allowed is None:
            raise UserError(f"{session.name} is public", "seed it again with --private")
        session.allow(_allow_list(True, allowed))

    # -- fetching ------------------------------------------------------------------------------------

    async def add(
        self,
        metainfo: bytes,
        wanted: frozenset[int] | None = None,
        peers: Iterable[str] = (),
        allowed: Iterable[str] | None = None,
        choices: Sequence[Choice] = (),
    ) -> DatasetInfo:
        """Begin to fetch a dataset whose `.torrent` file is at hand; returns at once.

        Args:
            metainfo: the file's bytes.
            wanted: numbers of the files to fetch; None for all. Known already, these are fetched as well.
            peers: who may hold pieces, asked first. For a private dataset they are looked for when not given.
            allowed: of a private dataset, the only peers to exchange it with; default: `peers`.
            choices: say in place of `wanted` what to fetch and what first; of a known dataset they change
                what they name.

        Raises:
            UserError: not a `.torrent` file, no such file or bytes in it, or too little room.
        """
        try:
            parsed = Metainfo.parse(metainfo)
        except RemoteError as error:
            raise UserError(
                f"this is not a usable .torrent file: {error}", "get it again from whoever made it"
            ) from error
        check_wanted(parsed, wanted)
        peers = tuple(dict.fromkeys(peers))
        if parsed.private and not peers and allowed is None and self._sessions.get(parsed.info_hash) is None:
            peers = await self._finder.private_sources(parsed)
        limit = _allow_list(parsed.private, peers if allowed is None else allowed)
        async with self._sessions.changing:
            known = self._sessions.get(parsed.info_hash)
            if known is None:
                state = TorrentState(
                    wanted=wanted, allowed=limit if parsed.private else None, providers=peers
                )
                if choices:
                    state.prioritize(parsed, choose(parsed, choices, None))
                await self._sessions.check_quota(parsed, state.priorities)
                return (await self._sessions.install(parsed, state)).info()
            known = await self._sessions.revive(known)
            if allowed is not None and known.store.state.allowed is not None:
                known.allow(known.store.state.allowed | (limit or frozenset()))
            await self._want_more(known, wanted, choices)
            known.offer(peers)
            known.retry()
            return known.info()

    async def clients_at(self, peers: Sequence[str]) -> tuple[str, ...]:
        """The names of ordinary BitTorrent clients that a person gave as `host:port`, for `meet`.

        Raises:
            UserError: not an address, an unknown host, or this node has no BitTorrent port.
        """
        return await resolve_clients(peers, self._sessions.plain)

    def meet(self, key: Key, clients: Sequence[str]) -> DatasetInfo:
        """Dial these clients for a dataset, from now on and after restarts.

        Raises:
            UserError: no such dataset, or a private one, which is never exchanged with them.
        """
        session = self._sessions.of(key)
        if clients and session.store.state.allowed is not None:
            raise UserError(
                f"{session.name} is private: it is not exchanged with ordinary BitTorrent clients",
                "leave --peer out",
            )
        session.meet(clients)
        return session.info()

    async def fetch(
        self,
        key: Key,
        wanted: frozenset[int] | None = None,
        timeout: float = STALL_S,
        search: float = SEARCH_S,
    ) -> DatasetInfo:
        """Find a dataset, fetch it and wait until every wanted file is here.

        Args:
            wanted: numbers of files; None for all.
            timeout: seconds without any progress after which it gives up; what is here stays.
            search: seconds to look for somebody who knows it.

        Raises:
            UserError: nobody knows it, the name is not unique, no progress, or the disk is full.
        """
        info = await self.begin(key, wanted, search)
        return await self.wait(info.infohash, timeout)

    async def begin(
        self,
        key: Key,
        wanted: frozenset[int] | None = None,
        search: float = SEARCH_S,
        choices: Sequence[Choice] = (),
    ) -> DatasetInfo:
        """As `fetch`, but return as soon as the dataset's metainfo is known; `choices` as in `add`.

        Raises:
            UserError: nobody knows it, the name is not unique, or as `add`.
        """
        known = self._sessions.lookup(key)
        if known is not None:
            async with self._sessions.changing:
                known = await self._sessions.revive(known)
                await self._want_more(known, wanted, choices)
            known.retry()
            return known.info()
        metainfo, providers = await self._finder.locate(key, search)
        return await self.add(metainfo.raw, wanted, providers, choices=choices)

    async def wait(self, key: Key, timeout: float = STALL_S) -> DatasetInfo:
        """Wait until every wanted file of a dataset is here.

        Args:
            timeout: seconds without any progress after which it gives up.

        Raises:
            UserError: (code 5) no progress; or what the disk complains of; or it was removed or paused.
        """
        session = self._sessions.of(key)
        while not session.complete:
            if session.paused:
                raise UserError(f"{session.name} is paused", f"`p2pml data resume {session.name}`")
            if session.problem is not None:
                raise session.problem
            if session.stopped.is_set():
                raise UserError(f"{session.name} was removed while it was fetched", "fetch it again")
            if not await session.wait_change(timeout):
                raise stalled(session.info(), timeout)
        return session.info()

    async def set_wanted(self, key: Key, files: frozenset[int] | None) -> DatasetInfo:
        """From now on fetch exactly these files, all with None; what is on disk stays.

        Raises:
            UserError: no such dataset or file number, or too little room.
        """
        session = self._sessions.of(key)
        async with self._sessions.changing:
            await self._sessions.check_quota(session.store.metainfo, Priorities.only(files))
            await session.set_wanted(files)
        return session.info()

    async def _want_more(
        self, session: TorrentSession, wanted: frozenset[int] | None, choices: Sequence[Choice]
    ) -> None:
        metainfo, now = session.store.metainfo, session.store.state.priorities
        more = choose(metainfo, choices, now) if choices else want_more(metainfo, wanted, now)
        if any(now.of(i) != level for i, level in more.files.items()) or now.ranges != more.ranges:
            await self._sessions.check_quota(metainfo, more)
            await session.set_priorities(more)

    async def resolve(self, key: Key, search: float = SEARCH_S) -> Metainfo:
        """The metainfo of a dataset, from this node or from others; nothing is fetched.

        Raises:
            UserError: nobody knows it, or the name is not unique.
        """
        known = self._sessions.lookup(key)
        return known.store.metainfo if known is not None else (await self._finder.locate(key, search))[0]

    # -- looking -------------------------------------------------------------------------------------

    def list(self) -> Sequence[DatasetInfo]:
        """Every dataset of this node, by name."""
        return sorted((session.info() for session in self._sessions), key=lambda info: info.name)

    def info(self, key: Key) -> DatasetInfo:
        """One dataset of this node.

        Raises:
            NotFound: it is not here.
            UserError: the name is not unique.
        """
        return self._sessions.of(key).info()

    def announced(self) -> Sequence[Found]:
        """The public datasets that other peers offer."""
        return self._sessions.discovery.listings()

    def metainfo(self, key: Key) -> Metainfo:
        """The metainfo of a dataset of this node. Raises UserError as `info`."""
        return self._sessions.of(key).store.metainfo

    def path_of(self, key: Key, file_index: int = 0) -> Path:
        """Where a file of a dataset is; wholly there.

        Raises:
            UserError: no such dataset or file, or the file is not complete.
        """
        session = self._sessions.of(key)
        check_wanted(session.store.metainfo, frozenset({file_index}))
        if not session.store.is_complete(file_index):
            raise UserError(
                f"file {file_index} of {session.name} is not complete",
                f"`p2pml data get {session.name}` first",
            )
        return session.store.path_of(file_index)

    async def tars(self, key: Key, limit: int) -> Sequence[TarListing]:
        """The first `limit` members of each tar file of a dataset that is wholly here.

        Raises:
            UserError: no such dataset.
        """
        return await self._sessions.in_thread(list_tars, self._sessions.of(key).store, limit)

    # -- changing ------------------------------------------------------------------------------------

    async def verify(self, key: Key) -> frozenset[int]:
        """Hash a dataset's files anew; returns the pieces that were damaged. They are fetched again.

        Raises:
            UserError: no such dataset, or the disk cannot be read or written.
        """
        async with self._sessions.changing:
            session = await self._sessions.revive(self._sessions.of(key))
        return await session.verify()

    async def pause(self, key: Key) -> DatasetInfo:
        """Stop fetching and serving a dataset until `resume`. Raises UserError: no such dataset."""
        session = self._sessions.of(key)
        await session.pause()
        return session.info()

    async def resume(self, key: Key) -> DatasetInfo:
        """Undo `pause`; a dataset that stopped of a problem is tried again.

        Raises:
            UserError: no such dataset, or the problem is still there.
        """
        session = self._sessions.of(key)
        await session.resume()
        async with self._sessions.changing:
            return (await self._sessions.revive(session)).info()

    async def remove(self, key: Key, delete_files: bool = False) -> bool:
        """Forget a dataset; returns whether its files were deleted. What is seeded in place is never touched.

        Args:
            delete_files: delete what was fetched, too.

        Raises:
            UserError: it is not here, or cannot be deleted.
        """
        async with self._sessions.changing:
            return await self._sessions.end(self._sessions.of(key), delete_files)


def _allow_list(private: bool, allowed: Iterable[str] | None) -> frozenset[str] | None:
    if allowed is None:
        return frozenset() if private else None
    peers = frozenset(allowed)
    for peer in sorted(peers):
        if not is_peer_id(peer):
            raise UserError(f"{peer!r} is not a peer id", "`p2pml status` shows it on the peer's node")
    return peers
