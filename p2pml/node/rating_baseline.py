"""The data sets of the baseline test on this node: the bundled digits, or a torrent that the voters named.

A torrent is fetched as soon as a change to it is adopted, which is at least an epoch before it counts. It is
mixed once and kept under `baselines/<info-hash>/`, with a digest: a node that trained on samples that its
disk has spoiled would claim what is false, and lose its bond.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import trio

from chain.quality import BUNDLED
from chain.state import State
from p2pml.errors import UserError
from p2pml.node.baseline_run import Baseline, load_baseline
from p2pml.node.events import Events
from p2pml.node.quiet_thread import QuietThread
from p2pml.worker.lanes import store

log = logging.getLogger(__name__)

RETRY_S = 60.0
"""From a failed attempt to fetch a data set to the next."""
_DIGEST = "sha256"


Fetch = Callable[[bytes], Awaitable[tuple[bytes, Path]]]
"""`JobFiles.fetch_readable`: the infohash and local file of a torrent. Raises UserError."""


class BaselineKeeper:
    """Prepares and keeps the data sets that hold now or soon.

    Args:
        folder: made when there is something to keep.
        fetch: gets a torrent from others.
        thread: where samples are mixed.
        events: gets `rating.baseline` when one is ready, or cannot be had.
    """

    def __init__(self, folder: Path, fetch: Fetch, thread: QuietThread, events: Events) -> None:
        self._folder, self._fetch, self._thread, self._events = folder, fetch, thread, events
        self._ready: dict[bytes, Baseline] = {}
        self._retry_at: dict[bytes, float] = {}
        self._turn, self._came = trio.Lock(), trio.Event()
        self.problems: dict[bytes, str] = {}

    def get(self, infohash: bytes) -> Baseline | None:
        """A data set that is ready."""
        return self._ready.get(infohash)

    async def come(self, infohash: bytes) -> Baseline:
        """A data set as soon as it is ready."""
        while infohash not in self._ready:
            await self._came.wait()
        return self._ready[infohash]

    async def checked(self, infohash: bytes) -> Baseline | None:
        """A data set that is ready, if it lies on disk as it was written: one that the disk has spoiled since
        is not ready any more, until `look` has prepared it anew.
        """
        if infohash not in self._ready:
            return None
        kept = await self._thread.run(read_kept, self.folder_of(infohash))
        if kept is None:
            self._ready.pop(infohash, None)
        return kept

    def folder_of(self, infohash: bytes) -> Path:
        """Where the lanes find its samples."""
        return self._folder / infohash.hex()

    async def look(self, state: State) -> None:
        """Make every data set ready that holds now or later, as far as it can be had; forget others."""
        async with self._turn:
            await self._look(wanted_baselines(state))

    async def _look(self, wanted: tuple[bytes, ...]) -> None:
        for gone in set(self._ready) - set(wanted):
            del self._ready[gone]
            await trio.to_thread.run_sync(partial(shutil.rmtree, self.folder_of(gone), ignore_errors=True))
        for infohash in wanted:
            if infohash in self._ready or self._retry_at.get(infohash, 0.0) > trio.current_time():
                continue
            try:
                self._ready[infohash] = await self._prepare(infohash)
            except (UserError, OSError) as error:
                self._retry_at[infohash] = trio.current_time() + RETRY_S
                self._tell(infohash, str(error))
            else:
                self._tell(infohash, "")
                came, self._came = self._came, trio.Event()
                came.set()

    def _tell(self, infohash: bytes, problem: str) -> None:
        if problem and self.problems.get(infohash) == problem:
            return
        self.problems.pop(infohash, None)
        if problem:
            self.problems[infohash] = problem
            log.warning("the baseline data set %s is not here: %s", infohash.hex(), problem)
        self._events.emit("rating.baseline", infohash=infohash.hex(), ready=not problem, problem=problem)

    async def _prepare(self, infohash: bytes) -> Baseline:
        folder = self.folder_of(infohash)
        kept = await self._thread.run(read_kept, folder)
        if kept is not None:
            return kept
        path = None if infohash == BUNDLED else (await self._fetch(infohash))[1]
        return await self._thread.run(_mix, folder, path)


def wanted_baselines(state: State) -> tuple[bytes, ...]:
    """The infohashes of what holds in the epoch of the state and in that of the window that is under way, and
    of what was adopted for later ones.
    """
    window = state.window()
    now = [state.epoch] if window.over else [window.epoch, state.epoch]
    later = [baseline.infohash for begins, baseline in state.governance().adopted if begins > state.epoch]
    return tuple(dict.fromkeys((*(state.baseline(epoch).infohash for epoch in now), *later)))


def keep(folder: Path, baseline: Baseline) -> None:
    """Put a data set on disk; a crash leaves all of it or nothing. Raises OSError."""
    draft = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(draft, ignore_errors=True)
    (draft / "test").mkdir(parents=True)
    store.write(draft, baseline.net, baseline.train)
    store.write(draft / "test", baseline.net, baseline.test)
    (draft / _DIGEST).write_text(_digest(draft))
    shutil.rmtree(folder, ignore_errors=True)
    draft.replace(folder)


def read_kept(folder: Path) -> Baseline | None:
    """What `keep` wrote; None where there is nothing, or not what was written."""
    try:
        if (folder / _DIGEST).read_text() != _digest(folder):
            log.warning("the samples in %s are damaged: they are prepared anew", folder)
            return None
        net, train = store.read(folder)
        return Baseline(net, train, store.read(folder / "test")[1])
    except (OSError, ValueError, TypeError):
        return None


def _mix(folder: Path, path: Path | None) -> Baseline:
    baseline = load_baseline(path)
    keep(folder, baseline)
    return baseline


def _digest(folder: Path) -> str:
    found = hashlib.sha256()
    for part in (folder, folder / "test"):
        for name in ("net.json", "x.npy", "y.npy"):
            with open(part / name, "rb") as file:
                found.update(hashlib.file_digest(file, "sha256").digest())
    return found.hexdigest()
