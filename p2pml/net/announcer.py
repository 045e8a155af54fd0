"""Keeps the trackers of one torrent told of this node's part in its swarm, and gathers who else is there.

By BEP 3 and BEP 12: `started` first, then as often as the tracker asks, `completed` once when the last piece
came, `stopped` at the end. The first tracker that answers is enough; when none does, all rest for longer each
time.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import trio

from p2pml.net.backoff import Backoff
from p2pml.net.tracker_client import Heard, announce
from torrent.errors import TrackerError
from torrent.tracker import Announcement, Tiers

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds.

    Args:
        least, most: bounds on the interval that a tracker asks for.
        first_rest, longest_rest: after a round in which no tracker answered.
        farewell: what saying `stopped` may take.
    """

    least: float = 60.0
    most: float = 3600.0
    first_rest: float = 15.0
    longest_rest: float = 1800.0
    farewell: float = 2.0


class Announcer:
    """Args:
    trackers: by tier.
    describe: what to say for an event, with the counts of this moment.
    offer: takes the names of peers.
    complete: whether everything is here already, so that `completed` is never said.
    pace: see `Pace`.
    """

    def __init__(
        self,
        trackers: Sequence[Sequence[str]],
        describe: Callable[[str], Announcement],
        offer: Callable[[Iterable[str]], None],
        complete: bool,
        pace: Pace | None = None,
    ) -> None:
        rng = random.SystemRandom()
        self._tiers = Tiers.shuffled(trackers, rng)
        self._describe, self._offer = describe, offer
        self._pace = Pace() if pace is None else pace
        self._rest = Backoff[str](self._pace.first_rest, self._pace.longest_rest, rng)
        self._told: dict[str, None] = {}
        self._completed = complete
        self._news = trio.Event()
        self.problem = ""

    def completed(self) -> None:
        """Every piece is here now: the tracker is told at once."""
        if not self._completed:
            self._completed = True
            self._news.set()

    async def run(self) -> None:
        """Announce until cancelled; then say `stopped` to whoever was told, for a moment. Never raises."""
        complete = self._completed
        event = "started"
        try:
            while True:
                self._news = trio.Event()
                heard = await self._round(event)
                event = "" if heard is not None else event
                now = trio.current_time()
                if heard is None:
                    wait = self._rest.failed("", now) - now
                else:
                    self._rest.worked("")
                    wait = min(max(heard.interval, self._pace.least), self._pace.most)
                if event == "" and self._completed and not complete:
                    complete, event, wait = True, "completed", 0.0
                with trio.move_on_after(wait):
                    await self._news.wait()
                    if event == "" and not complete:
                        complete, event = True, "completed"
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + self._pace.farewell):
                await self._farewell()

    async def _round(self, event: str) -> Heard | None:
        """Ask the trackers in their order until one answers."""
        for url in self._tiers.order():
            heard = await self._ask(url, event)
            if heard is not None:
                self._told[url] = None
                self._tiers.answered(url, heard.tracker_id)
                self._offer(heard.peers)
                return heard
        return None

    async def _ask(self, url: str, event: str) -> Heard | None:
        # One that never heard of us takes the beginning first.
        said = event if url in self._told else "started"
        try:
            heard = await announce(url, self._describe(said), self._tiers.ids.get(url, b""))
        except TrackerError as error:
            self.problem = f"{url}: {error}"
            log.info("tracker %s: %s", url, error)
            return None
        except Exception:  # what a stranger's server can bring about ends no swarm
            log.exception("the tracker %s", url)
            return None
        self.problem = ""
        return heard

    async def _farewell(self) -> None:
        async with trio.open_nursery() as nursery:
            for url in self._told:
                nursery.start_soon(self._ask, url, "stopped")
