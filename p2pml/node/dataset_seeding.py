"""Offering what is on this machine: hash it, and start a session that serves it from where it is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import trio

from p2pml.node.events import Events
from p2pml.node.hashing import hash_source
from p2pml.node.torrent_session import TorrentSession
from p2pml.node.torrent_sessions import TorrentSessions
from p2pml.storage.payload import Stamp
from p2pml.storage.seeding import Making, Seeded, Source, listed, scan
from p2pml.storage.torrent_state import TorrentState
from torrent.tracker import trackers_of


class Seeder:
    """Makes torrents of local files and installs them among the sessions."""

    def __init__(self, sessions: TorrentSessions, events: Events) -> None:
        self._sessions = sessions
        self._events = events

    async def seed(
        self,
        path: Path,
        name: str | None,
        allowed: frozenset[str] | None,
        hybrid: bool,
        trackers: tuple[str, ...] = (),
    ) -> TorrentSession:
        """See `DataService.seed`; `allowed` None for everybody."""
        source = await self._sessions.in_thread(scan, path, name)
        return await self._offer(source, Making(hybrid, allowed is not None, trackers=trackers), allowed)

    async def seed_files(
        self, name: str, files: Sequence[tuple[str, Path]], allowed: frozenset[str]
    ) -> TorrentSession:
        """See `DataService.seed_files`.

        A job's torrent is v1 only: its files are numbered by client and a v2 tree would sort them, and who
        makes it, the requester, is the one whom two shards of one hash would harm.
        """
        source = await self._sessions.in_thread(listed, name, files)
        return await self._offer(source, Making(hybrid=False, private=True), allowed)

    async def _offer(self, source: Source, making: Making, allowed: frozenset[str] | None) -> TorrentSession:
        seeded = await hash_source(source, making, self._events)
        async with self._sessions.changing:
            with trio.CancelScope(shield=True):  # what it replaces is not ended for nothing
                return await self._install(seeded, allowed)

    async def _install(self, seeded: Seeded, allowed: frozenset[str] | None) -> TorrentSession:
        infohash = seeded.metainfo.info_hash
        await self._drop_outdated(seeded)
        old = self._sessions.get(infohash)
        if old is not None and _has_other_trackers(old, seeded):
            await self._sessions.end(old, delete_files=False)
            old = None
        if old is not None and old.complete and (old.problem is None or not old.store.in_place):
            if allowed is not None:
                old.allow((old.store.state.allowed or frozenset()) | allowed)
            return old
        if old is not None:  # half fetched, or seeded from a place that is gone: what is here now is better
            await self._sessions.end(old, delete_files=True, spared=seeded.places.values())
        state = TorrentState(references=seeded.places, stamps=dict(seeded.stamps), allowed=allowed)
        have = range(seeded.metainfo.piece_count)
        return await self._sessions.install(seeded.metainfo, state, have)

    async def _drop_outdated(self, seeded: Seeded) -> None:
        """End datasets seeded from files that have changed into what is seeded now."""
        places = set(seeded.places.values())
        for session in self._sessions:
            state = session.store.state
            if session.infohash == seeded.metainfo.info_hash or places.isdisjoint(state.references.values()):
                continue
            if await self._sessions.in_thread(_has_changed, state):
                await self._sessions.end(session, delete_files=False)


def _has_other_trackers(old: TorrentSession, seeded: Seeded) -> bool:
    """Whether trackers are named now that the `.torrent` file of what is seeded already does not name."""
    named = trackers_of(seeded.metainfo.raw)
    return bool(named) and old.store.in_place and named != trackers_of(old.store.metainfo.raw)


def _has_changed(state: TorrentState) -> bool:
    for index, place in state.references.items():
        try:
            if Stamp.of(place) != state.stamps.get(index):
                return True
        except OSError:
            return True
    return False
