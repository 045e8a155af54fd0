"""The shards of a job that a participant has, or fetches from its requester and the other participants."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import trio

from p2pml.errors import UserError
from p2pml.formats import FormatError, shards
from p2pml.net.errors import RemoteError
from p2pml.net.train import Hold, Working
from p2pml.node.ports import DataPort


class TaskFailed(Exception):
    """This node cannot do a task; the message goes to the requester."""


class Shards(Protocol):
    """What a conversation asks of its data: fetched shards, or this node's own."""

    @property
    def metainfo(self) -> bytes:
        """Of the torrent that it is in; empty where there is none."""
        ...

    async def hold(self, hold: Hold) -> None: ...

    async def get(self, client: int, round_: int) -> Path: ...


@dataclass(slots=True)
class HeldShards:
    """Shards of one conversation.

    Args:
        requester: its peer id, the first source.
        data: fetches.
        report: told how far it is.

    Attributes:
        metainfo: of the job's torrent; empty before it is known.
    """

    requester: str
    data: DataPort
    report: Callable[[Working], None]
    metainfo: bytes = b""
    _sources: tuple[str, ...] = ()
    _paths: dict[int, Path] = field(default_factory=dict)

    async def hold(self, hold: Hold) -> None:
        """Have what the requester says on disk.

        Raises:
            TaskFailed: it cannot be had.
        """
        self.metainfo, self._sources = hold.metainfo, (self.requester, *hold.peers)
        await self._fetch(hold.clients, 0)

    async def get(self, client: int, round_: int) -> Path:
        """One client's shard, fetched if it is not here.

        Raises:
            TaskFailed: it cannot be had, or is no shard: it comes from a stranger, so it is read here before
                the worker does.
        """
        await self._fetch((client,), round_)
        try:
            await trio.to_thread.run_sync(shards.read, self._paths[client])
        except (FormatError, OSError) as error:
            raise TaskFailed(f"the shard cannot be used: {error}") from error
        return self._paths[client]

    async def _fetch(self, clients: tuple[int, ...], round_: int) -> None:
        missing = [client for client in clients if client not in self._paths]
        if not missing:
            return
        if not self.metainfo:
            raise TaskFailed("there is no torrent to fetch the shard from")

        def progress(done: int, total: int) -> None:
            self.report(Working(round_, missing[0], "fetch", done, total))

        try:
            paths = await self.data.fetch(self.metainfo, missing, self._sources, progress)
        except (UserError, RemoteError, OSError, ValueError) as error:
            raise TaskFailed(f"the shard of client {missing[0]} cannot be fetched: {error}") from error
        self._paths.update(zip(missing, paths, strict=True))
