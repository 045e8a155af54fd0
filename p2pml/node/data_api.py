"""A node's answers about datasets: `p2pml.api.facade.DataFacade` over the data service."""

from __future__ import annotations

from pathlib import Path

from p2pml.node import views
from p2pml.node.data_service import DataService
from p2pml.node.data_views import MemberView, RemovedView, TarView, VerifiedView
from p2pml.node.dataset_info import DatasetInfo
from p2pml.storage.torrent_files import Choice


class DataApi:
    """See `p2pml.api.facade.DataFacade` for what each method promises."""

    def __init__(self, data: DataService) -> None:
        self._data = data

    def datasets(self) -> list[views.DatasetView]:
        return [dataset_view(item) for item in self._data.list()]

    def dataset(self, key: str) -> views.DatasetView:
        return dataset_view(self._data.info(key))

    async def tars(self, key: str, limit: int) -> list[TarView]:
        return [
            TarView(
                found.file,
                [MemberView(member.name, member.offset, member.size) for member in found.members],
                found.more,
                found.problem,
            )
            for found in await self._data.tars(key, limit)
        ]

    async def seed(
        self,
        path: Path,
        name: str | None,
        private: bool,
        allowed: tuple[str, ...],
        hybrid: bool,
        trackers: tuple[str, ...] = (),
    ) -> views.DatasetView:
        return dataset_view(await self._data.seed(path, name, private, allowed or None, hybrid, trackers))

    async def get(
        self,
        key: str,
        metainfo: bytes | None,
        wanted: tuple[int, ...] | None,
        peers: tuple[str, ...] = (),
        choices: tuple[Choice, ...] = (),
    ) -> views.DatasetView:
        files = None if wanted is None else frozenset(wanted)
        clients = await self._data.clients_at(peers)
        if metainfo is not None:
            info = await self._data.add(metainfo, files, choices=choices)
        else:
            info = await self._data.begin(key, files, choices=choices)
        return dataset_view(self._data.meet(info.infohash, clients) if clients else info)

    async def remove(self, key: str, with_data: bool) -> RemovedView:
        info = self._data.info(key)
        deleted = await self._data.remove(info.infohash, with_data)
        return RemovedView(info.hex, info.name, "" if deleted else str(info.folder))

    async def verify(self, key: str) -> VerifiedView:
        damaged = await self._data.verify(key)
        info = self._data.info(key)
        refetching = bool(damaged) and not info.in_place and not info.paused
        return VerifiedView(info.hex, info.name, info.pieces, info.have, sorted(damaged), refetching)

    async def pause(self, key: str) -> views.DatasetView:
        return dataset_view(await self._data.pause(key))

    async def resume(self, key: str) -> views.DatasetView:
        return dataset_view(await self._data.resume(key))


def dataset_view(info: DatasetInfo) -> views.DatasetView:
    """A dataset as the API tells it."""
    return views.DatasetView(
        infohash=info.hex,
        name=info.name,
        size=info.size,
        private=info.private,
        in_place=info.in_place,
        complete=info.complete,
        have=info.have,
        pieces=info.pieces,
        wanted=info.wanted,
        peers=info.peers,
        rate_down=info.rate_down,
        rate_up=info.rate_up,
        sources=dict(info.received),
        sent=dict(info.sent),
        files=[
            views.FileView(
                file.index,
                file.path,
                file.size,
                file.complete,
                str(file.location),
                file.priority,
                [views.RangeView(begin, end, priority) for _, begin, end, priority in file.ranges],
            )
            for file in info.files
        ],
        folder=str(info.folder),
        torrent_file=str(info.torrent_file),
        problem=info.problem,
        infohash_v2=info.infohash_v2.hex(),
        paused=info.paused,
        piece_map=info.piece_map,
        links=[
            views.LinkView(
                link.peer, link.pieces, link.down_rate, link.up_rate, info.clients.get(link.peer, "")
            )
            for link in info.links
        ],
        missing=info.missing,
        copies=info.copies,
        eta_s=info.eta_s,
    )
