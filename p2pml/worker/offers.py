"""A node's samples for a worker on another machine: named by their SHA-256, read as it wants them."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TypeVar, cast

import trio

from p2pml.worker.contents import sha256
from p2pml.worker.protocol import Evaluate, Message, Part, Request, Span, Train, Want

R = TypeVar("R", bound=Message)

PART_BYTES = 4 << 20


class Offers:
    """What the running call may be asked for."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, int, int], str] = {}  # path, size and time of change: hashed once
        self._offered: dict[str, Path] = {}

    async def by_content(self, request: Request[R]) -> Request[R]:
        """The request with a hash where it has a path; that file is on offer until the next request.

        Raises:
            OSError: the file cannot be read.
        """
        if isinstance(request, Train | Span):
            named: Message = replace(request, shard=await self._offer(Path(request.shard)))
        elif isinstance(request, Evaluate):
            named = replace(request, data=await self._offer(Path(request.data)))
        else:
            named = request
        return cast(Request[R], named)

    async def read(self, want: Want) -> Part:
        """What the worker wants; of no size where it is not on offer, or cannot be read."""
        path = self._offered.get(want.digest)
        if path is not None:
            try:
                return await trio.to_thread.run_sync(_read, path, want)
            except (OSError, ValueError):
                pass
        return Part(want.digest, want.offset, 0, b"")

    async def _offer(self, path: Path) -> str:
        digest = await trio.to_thread.run_sync(self._hash, path)
        self._offered = {digest: path}
        return digest

    def _hash(self, path: Path) -> str:
        about = path.stat()
        key = (str(path), about.st_size, about.st_mtime_ns)
        if key not in self._known:
            self._known[key] = sha256(path)
        return self._known[key]


def _read(path: Path, want: Want) -> Part:
    with open(path, "rb") as source:
        source.seek(want.offset)
        return Part(want.digest, want.offset, os.fstat(source.fileno()).st_size, source.read(PART_BYTES))
