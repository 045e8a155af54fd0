"""Hashing what is to be seeded: in threads, with events that tell how far it is."""

from __future__ import annotations

from functools import partial

import trio

from p2pml.node.events import Events
from p2pml.node.progress import reporter
from p2pml.storage.seeding import Making, Seeded, Source, make_torrent


async def hash_source(source: Source, making: Making, events: Events) -> Seeded:
    """Make a torrent of local files.

    Emits `data.hash` with `name`, `done` and `total` in bytes. Cancelled, its threads end soon after.

    Raises:
        UserError: as `make_torrent`.
    """
    progress = reporter(partial(events.emit, "data.hash", name=source.name))
    cancelled = False

    def work() -> Seeded:
        return make_torrent(source, making, progress, lambda: cancelled)

    try:
        # The installed type stubs know an older trio.
        return await trio.to_thread.run_sync(work, abandon_on_cancel=True)  # type: ignore[call-arg]
    finally:
        cancelled = True
