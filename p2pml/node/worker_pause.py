"""The owner's pause of the worker; a file in the home remembers it over restarts of the daemon."""

from __future__ import annotations

from pathlib import Path

import trio

from p2pml.errors import UserError
from p2pml.storage.journal import write_atomic
from p2pml.worker.rests import PAUSED, Rest


class WorkerPause:
    """Pauses and resumes one worker.

    Args:
        path: the file, which is there while the worker is paused.
        rest: of the worker.
    """

    def __init__(self, path: Path, rest: Rest) -> None:
        self._path, self._rest = path, rest

    async def restore(self) -> None:
        """Pause a worker that was paused when the daemon ended."""
        if await trio.to_thread.run_sync(self._path.exists):
            await self._rest(PAUSED, True)

    async def set(self, paused: bool) -> None:
        """Pause or resume, and remember it first.

        Raises:
            UserError: the disk refuses; the worker goes on as before.
        """
        try:
            await trio.to_thread.run_sync(self._remember, paused)
        except OSError as error:
            raise UserError(
                f"{self._path} cannot be written: {error.strerror or error}", "make room in the home"
            ) from error
        await self._rest(PAUSED, paused)

    def _remember(self, paused: bool) -> None:
        if paused:
            write_atomic(self._path, b"")
        else:
            self._path.unlink(missing_ok=True)
