"""Shards that a participant makes itself, of public data that it fetches from the data's own swarm."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import trio

from p2pml.errors import UserError
from p2pml.formats import FormatError, shards
from p2pml.net.errors import RemoteError
from p2pml.net.train import Hold, Working
from p2pml.node.held_shards import TaskFailed
from p2pml.node.ports import DataPort
from p2pml.training.by_seed import Division


@dataclass(slots=True)
class DerivedShards:
    """In place of fetched shards (`p2pml.node.held_shards.HeldShards`), for one conversation.

    Args:
        division: of the job.
        seed: of the job.
        requester: its peer id, which may have the data.
        data: fetches.
        folder: where the shards are written; made when they are.
        report: told how far it is; set by the conversation.

    Attributes:
        metainfo: empty: what was fetched is a public data set and stays when the job is over.
    """

    division: Division
    seed: int
    requester: str
    data: DataPort
    folder: Path
    report: Callable[[Working], None] = lambda news: None
    metainfo: bytes = b""
    _place: Path | None = None
    _source: bytes = b""
    _paths: dict[int, Path] = field(default_factory=dict)

    async def hold(self, hold: Hold) -> None:
        """Have the data, and these clients' shards of it.

        Raises:
            TaskFailed: it cannot be had, or is not what the job says.
        """
        if self._source and hold.metainfo != self._source:
            raise TaskFailed("a job has one data set")
        self._source = hold.metainfo

        def progress(done: int, total: int) -> None:
            self.report(Working(0, hold.clients[0] if hold.clients else 0, "fetch", done, total))

        try:
            self._place = await self.data.fetch_public(hold.metainfo, (self.requester, *hold.peers), progress)
        except (UserError, RemoteError, OSError, ValueError) as error:
            raise TaskFailed(f"the data cannot be fetched: {error}") from error
        await self._derive(hold.clients)

    async def get(self, client: int, round_: int) -> Path:
        """One client's shard. Raises TaskFailed: as `hold`."""
        await self._derive((client,))
        return self._paths[client]

    def drop(self) -> None:
        """Delete the shards; the data set stays."""
        shutil.rmtree(self.folder, ignore_errors=True)

    async def _derive(self, clients: Sequence[int]) -> None:
        missing = [client for client in clients if client not in self._paths]
        if not missing:
            return
        if self._place is None:
            raise TaskFailed("the data to take the shard from was not named")
        if max(missing) >= self.division.clients:
            raise TaskFailed(f"client {max(missing)} of {self.division.clients} is none")
        try:
            self._paths |= await trio.to_thread.run_sync(self._write, self._place, missing)
        except (FormatError, OSError) as error:
            raise TaskFailed(f"the data cannot be used: {error}") from error

    def _write(self, place: Path, clients: Sequence[int]) -> dict[int, Path]:
        loaded, parts = self.division.load(place), self.division.parts(self.seed)
        self.folder.mkdir(parents=True, exist_ok=True)
        found = {client: self.folder / f"client-{client:04}.safetensors" for client in clients}
        for client, path in found.items():
            shards.write(path, loaded.take(parts[client]))
        return found
