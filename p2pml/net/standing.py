"""What this node thinks of its peers: scores, bans, and where they were met; kept in the home."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import trio

from p2pml.net import peer_file
from p2pml.net.address_book import AddressBook
from p2pml.net.bans import Ban, Bans
from p2pml.net.errors import Declined, Malformed, RemoteError
from p2pml.net.scores import Deed, Scores

log = logging.getLogger(__name__)

SAVE_S = 60.0
"""Between two looks at whether the file is to be written; bans are written at once."""


class Standing:
    """Scores, bans and the address book of one host.

    Args:
        cut: called with a peer that has just been banned.
        file: where bans and met peers are kept; None to forget them at the end.
        wall: Unix time in seconds.
    """

    def __init__(
        self, cut: Callable[[str], None], file: Path | None = None, wall: Callable[[], float] = time.time
    ) -> None:
        self._cut, self._file, self.wall = cut, file, wall
        known, bans = peer_file.load(file) if file else ([], [])
        self.book = AddressBook(known, wall())
        self._bans = Bans(bans)
        self._scores = Scores()
        self._write = trio.Event()
        self._written: Any = None

    async def run(self) -> None:
        """Keep the file up to date, for ever."""
        try:
            while True:
                with trio.move_on_after(SAVE_S):
                    await self._write.wait()
                self._write = trio.Event()
                await self._save()
        finally:
            with trio.CancelScope(shield=True):
                await self._save()

    def report(self, peer: str, deed: Deed, why: str) -> None:
        """Note what a peer did; too much of it, and it is banned for a while."""
        log.debug("%s: %s (%s)", peer, why, deed.name)
        if self._scores.report(peer, deed, trio.current_time()):
            self.ban(peer, why)

    def note(self, peer: str, error: RemoteError) -> None:
        """Note an error that a peer caused; nothing happens the second time that it is the same one."""
        if error.noted:
            return
        error.noted = True
        self.report(peer, _deed_of(error), str(error))

    def useful(self, peer: str, count: int) -> None:
        """A peer gave `count` bytes that were right."""
        self._scores.useful(peer, count, trio.current_time())

    def score(self, peer: str) -> float:
        """Points against a peer, see `net.scores`."""
        return self._scores.score(peer, trio.current_time())

    def ban(self, peer: str, reason: str, seconds: float | None = None) -> Ban:
        """Disconnect a peer and keep it away: for `seconds`, or longer each time."""
        found = self._bans.ban(peer, reason, self.wall(), seconds)
        self._scores.forget(peer)  # afterwards it gets a fresh chance
        log.warning("%s is banned for %.0f s: %s", peer, found.until - self.wall(), reason)
        self._write.set()
        self._cut(peer)
        return found

    def unban(self, peer: str) -> bool:
        """End a peer's ban and forget earlier ones. False when there were none."""
        self._scores.forget(peer)
        self._write.set()
        return self._bans.unban(peer)

    def banned(self, peer: str) -> Ban | None:
        """The ban that holds now."""
        return self._bans.get(peer, self.wall())

    def bans(self) -> list[Ban]:
        """Those that hold now, the next to end first."""
        return self._bans.active(self.wall())

    async def _save(self) -> None:
        now = self.wall()
        content = (tuple(self.book.friends(now)), tuple(self._bans.known(now)))
        if self._file is None or content == self._written:
            return
        try:
            await trio.to_thread.run_sync(peer_file.save, self._file, *content)
            self._written = content
        except OSError as error:
            log.warning("the list of known peers %s cannot be written: %s", self._file, error)


def _deed_of(error: RemoteError) -> Deed:
    if isinstance(error, Malformed):
        return Deed.VIOLATION
    return Deed.REFUSED if isinstance(error, Declined) else Deed.TIMEOUT
