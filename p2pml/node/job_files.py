"""The data layer as jobs use it: one dataset to read, one private torrent with a file per logical client."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import trio

from p2pml.errors import ExitCode, UserError
from p2pml.formats import shards
from p2pml.net.raw_host import is_peer_id
from p2pml.node.data_service import DataService
from p2pml.node.dataset_info import DatasetInfo
from p2pml.node.dataset_keys import Key
from p2pml.node.spec_paths import spec_path
from p2pml.node.views import NotFound
from p2pml.training import dataset
from torrent.errors import RemoteError
from torrent.metainfo import Metainfo

FETCH_STALL_S = 60.0
SEARCH_S = 20.0
LOOK_S = 0.5
SUFFIX = "-shards"
"""How the torrents of jobs are called, so that what a stop left behind is known for what it is."""
_WHOLE = (".npz", ".tar")
"""Endings of files that are a whole dataset each."""


class JobFiles:
    """Implements `p2pml.node.ports.DataPort` on the node's data service.

    Args:
        data: running while this is used.
    """

    def __init__(self, data: DataService) -> None:
        self._data = data
        self._allowed: dict[bytes, frozenset[str]] = {}

    async def dataset(self, source: str, base_dir: Path) -> tuple[bytes, Path]:
        """The infohash and local place of a dataset, a file or a folder: a path is seeded, a name or an
        infohash fetched.

        Raises:
            UserError: there is no such file, nobody has it, or it holds nothing that can be read.
        """
        path, kind = await trio.to_thread.run_sync(_locate, base_dir, source)
        if kind in ("file", "folder"):
            info = await self._data.seed(path)
            return info.infohash, path
        if kind:
            raise UserError(
                f"the data {source} is neither a file nor a folder",
                "see data.train in the job spec",
                ExitCode.BAD_CONFIG,
            )
        if "/" in source:  # no data set on the network is called so
            raise UserError(
                f"there is no file {path}",
                "check data.train in the job spec: paths in it start at the spec's folder",
                ExitCode.NO_DATA,
            )
        try:
            return await self.fetch_readable(source)
        except NotFound as error:
            raise UserError(f"there is no file {path}, and {error.cause}", error.fix, error.code) from error

    async def fetch_readable(self, key: Key) -> tuple[bytes, Path]:
        """The infohash of a dataset that is here or at others, and the file or folder of it that training
        can read.

        Raises:
            NotFound: nobody has it.
            UserError: it cannot be fetched, or holds nothing that can be read.
        """
        metainfo = await self._data.resolve(key, SEARCH_S)
        wanted = _readable_files(metainfo)
        await self._data.fetch(metainfo.info_hash, frozenset(wanted), FETCH_STALL_S, SEARCH_S)
        return metainfo.info_hash, await self._place(metainfo, wanted)

    async def public(self, source: str) -> tuple[bytes, bytes]:
        """The infohash and metainfo of a public dataset, from this node or from others; nothing is fetched.

        Raises:
            UserError: nobody has it, it is private, or it holds nothing that can be read.
        """
        metainfo = await self._data.resolve(source, SEARCH_S)
        _check_public(metainfo)
        return metainfo.info_hash, metainfo.raw

    async def local(self, source: str, base_dir: Path) -> Path:
        """A dataset's file or folder on this machine; nothing is seeded or fetched.

        Raises:
            UserError: it is not here, or holds nothing that can be read.
        """
        path, kind = await trio.to_thread.run_sync(_locate, base_dir, source)
        if kind in ("file", "folder"):
            return path
        metainfo = self._data.metainfo(self._data.info(source).infohash)
        return await self._place(metainfo, _readable_files(metainfo))

    async def _place(self, metainfo: Metainfo, files: Sequence[int]) -> Path:
        """Where one file is, or the folder that holds several. Raises UserError: not complete, or gone."""
        places = [self._data.path_of(metainfo.info_hash, index) for index in files]
        gone = await trio.to_thread.run_sync(_first_missing, places)
        if gone is not None:
            raise UserError(f"{gone} is gone", "put it back, or seed it again")
        if len(places) == 1:
            return places[0]
        return places[0].parents[len(metainfo.files[files[0]].path) - 1]

    async def offer(self, name: str, files: Sequence[tuple[str, Path]]) -> bytes:
        """Seed files for chosen peers only; returns the torrent's metainfo.

        Raises:
            UserError: a file cannot be read.
        """
        info = await self._data.seed_files(name + SUFFIX, files, ())
        return self._data.metainfo(info.infohash).raw

    def allow(self, metainfo: bytes, peers: Sequence[str]) -> None:
        """Let these peers, too, have the files of `offer`."""
        infohash = Metainfo.parse(metainfo).info_hash
        known = self._allowed.get(infohash, frozenset())
        if not known.issuperset(peers):
            self._allowed[infohash] = known | frozenset(peers)
            self._data.allow(infohash, self._allowed[infohash])

    async def fetch(
        self,
        metainfo: bytes,
        wanted: Sequence[int],
        sources: Sequence[str],
        progress: Callable[[int, int], None],
    ) -> list[Path]:
        """Fetch these files of a torrent from whoever of `sources` has them; their paths in the same order.

        Args:
            wanted: numbers of files, pad files not counted.
            progress: told pieces here and pieces wanted, whenever some have come.

        Raises:
            UserError: not a torrent, no such file, no room, or nothing came for a minute.
        """
        try:
            parsed = Metainfo.parse(metainfo)
            files = _files(parsed)
            indices = [files[number] for number in wanted]
        except (RemoteError, IndexError) as error:
            raise UserError(f"the job's torrent cannot be used: {error}") from error
        self._check_ours(parsed)
        largest = max((parsed.files[index].length for index in indices), default=0)
        if largest > shards.MAX_BYTES:
            raise UserError(f"a shard of {largest} bytes, at most {shards.MAX_BYTES} are allowed")
        peers = [peer for peer in sources if is_peer_id(peer)]
        info = await self._data.add(metainfo, frozenset(indices), peers, peers)
        await self._complete(info, progress)
        return [self._data.path_of(info.infohash, index) for index in indices]

    async def fetch_public(
        self, metainfo: bytes, sources: Sequence[str], progress: Callable[[int, int], None]
    ) -> Path:
        """Fetch what training reads of a public dataset, from `sources` and whoever else has it; its file or
        folder. It stays, like any dataset that was fetched.

        Raises:
            UserError: not a public torrent, nothing readable in it, too large, or nothing came for a minute.
        """
        try:
            parsed = Metainfo.parse(metainfo)
        except RemoteError as error:
            raise UserError(f"the job's data set cannot be used: {error}") from error
        wanted = _check_public(parsed)
        info = await self._data.add(metainfo, frozenset(wanted), filter(is_peer_id, sources))
        await self._complete(info, progress)
        return await self._place(parsed, wanted)

    async def _complete(self, info: DatasetInfo, progress: Callable[[int, int], None]) -> None:
        """Wait for what is wanted of a torrent, telling how far it is."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch, info.infohash, progress)
            failure = await self._wait(info.infohash)
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure
        progress(info.wanted, info.wanted)

    def leftovers(self) -> list[bytes]:
        """The torrents of others' jobs that are on this node's disk."""
        found = [info for info in self._data.list() if _fetched_for_a_job(info)]
        return [self._data.metainfo(info.infohash).raw for info in found]

    def _check_ours(self, metainfo: Metainfo) -> None:
        """Refuse a torrent that is no job's: it will be deleted after the job.

        Raises:
            UserError: it is public, or a dataset that this node has for other reasons.
        """
        if not metainfo.private or not metainfo.name.endswith(SUFFIX):
            raise UserError(f"{metainfo.name} is not a job's torrent")
        try:
            known = self._data.info(metainfo.info_hash)
        except NotFound:
            return
        if not _fetched_for_a_job(known):
            raise UserError(f"{metainfo.name} is this node's own data set")

    async def forget(self, metainfo: bytes, delete: bool) -> None:
        """Stop offering a torrent, and delete what was fetched of it if asked."""
        infohash = Metainfo.parse(metainfo).info_hash
        self._allowed.pop(infohash, None)
        with suppress(NotFound):
            await self._data.remove(infohash, delete)

    async def _wait(self, infohash: bytes) -> UserError | None:
        """Wait for the wanted files; the error comes as a value, or the nursery would wrap it in a group."""
        try:
            await self._data.wait(infohash, FETCH_STALL_S)
        except UserError as error:
            return error
        return None

    async def _watch(self, infohash: bytes, progress: Callable[[int, int], None]) -> None:
        told = -1
        while True:
            info = self._data.info(infohash)
            if info.have != told:
                told = info.have
                progress(min(info.have, info.wanted), info.wanted)
            await trio.sleep(LOOK_S)


def _fetched_for_a_job(info: DatasetInfo) -> bool:
    return info.private and not info.in_place and info.name.endswith(SUFFIX)


def _locate(base_dir: Path, source: str) -> tuple[Path, str]:
    """The path that a spec may mean, and what is there: `file`, `folder`, `other`, or nothing."""
    path = spec_path(base_dir, source)
    if path.is_file():
        return path, "file"
    return path, "folder" if path.is_dir() else "other" if path.exists() else ""


def _files(metainfo: Metainfo) -> list[int]:
    """The numbers of a torrent's real files."""
    return [index for index, file in enumerate(metainfo.files) if not file.pad]


def _check_public(metainfo: Metainfo) -> list[int]:
    """The files that training reads of a public dataset. Raises UserError."""
    if metainfo.private:
        raise UserError(
            f"the data set {metainfo.name} is private: the participants cannot fetch it",
            "use a partition for which this node sends the shards, iid for instance",
        )
    wanted = _readable_files(metainfo)
    size = sum(metainfo.files[index].length for index in wanted)
    if size > dataset.MAX_BYTES:
        raise UserError(f"the data set {metainfo.name} has {size} bytes, more than {dataset.MAX_BYTES}")
    return wanted


def _first_missing(paths: Sequence[Path]) -> Path | None:
    return next((path for path in paths if not path.is_file()), None)


def _readable_files(metainfo: Metainfo) -> list[int]:
    """The files of a dataset that training reads: the only one, the only npz or tar, or all of those that
    some reader knows.

    Raises:
        UserError: none, or several that are a dataset each.
    """
    files = _files(metainfo)
    if len(files) == 1:
        return files
    names = {index: metainfo.files[index].path[-1].lower() for index in files}
    chosen = [index for index in files if names[index].endswith(_WHOLE)]
    if not chosen:
        chosen = [index for index in files if dataset.is_readable(names[index])]
        if chosen:
            return chosen
    if len(chosen) != 1:
        shown = ", ".join("/".join(metainfo.files[index].path) for index in (chosen or files)[:10])
        raise UserError(
            f"the data set {metainfo.name} has {len(chosen)} files that can be read: {shown}",
            "use a data set with one .npz file or one tar, or a folder as the page about training says",
            ExitCode.BAD_CONFIG,
        )
    return chosen
