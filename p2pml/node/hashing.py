"""Hashing what is to be seeded: in threads, with events that tell how far it is."""

from __future__ import annotations

import time
from contextlib import suppress
from functools import partial

import trio

from p2pml.node.events import Events
from p2pml.storage.seeding import Seeded, Source, make_torrent

_EVENT_S = 0.2


async def hash_source(source: Source, private: bool, events: Events) -> Seeded:
    """Make a torrent of local files.

    Emits `data.hash` with `name`, `done` and `total` in bytes. Cancelled, its threads end soon after.

    Raises:
        UserError: as `make_torrent`.
    """
    token = trio.lowlevel.current_trio_token()
    cancelled, told = False, 0.0

    def progress(done: int, total: int) -> None:
        nonlocal told
        if done < total and time.monotonic() - told < _EVENT_S:
            return
        told = time.monotonic()
        emit = partial(events.emit, "data.hash", name=source.name, done=done, total=total)
        with suppress(trio.RunFinishedError):
            token.run_sync_soon(emit)

    def work() -> Seeded:
        return make_torrent(source, private, progress, lambda: cancelled)

    try:
        # The installed type stubs know an older trio.
        return await trio.to_thread.run_sync(work, abandon_on_cancel=True)  # type: ignore[call-arg]
    finally:
        cancelled = True
