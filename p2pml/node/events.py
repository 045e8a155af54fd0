"""The node's event log: what happened, in order, for the API's live stream and the CLI's progress.

One ring buffer; readers ask for everything after an id, so a slow reader loses old events, which shows in
`Events.first_id`, and never holds up the node.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

import trio


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened: `id` increases by one, `kind` is dotted (`chain.head`, `job.round`), `data` is
    JSON.
    """

    id: int
    kind: str
    data: dict[str, Any]


class Events:
    """A bounded event log with any number of readers.

    Args:
        keep: how many events stay readable.
        first_id: of the first event, above 0. The time of a node's start in Unix milliseconds is greater than
            the ids of its earlier runs, unless these had a thousand events a second or its clock is set back.
    """

    def __init__(self, keep: int = 2000, first_id: int = 1) -> None:
        self._log: deque[Event] = deque(maxlen=keep)
        self._next_id = first_id
        self._changed = trio.Event()

    @property
    def first_id(self) -> int:
        """The id of the oldest event that is kept; of the first one to come while there is none."""
        return self._log[0].id if self._log else self._next_id

    @property
    def last_id(self) -> int:
        """The id of the newest event; `first_id` - 1 while there is none."""
        return self._next_id - 1

    def emit(self, kind: str, **data: Any) -> None:
        """Append an event and wake every reader."""
        self._log.append(Event(self._next_id, kind, data))
        self._next_id += 1
        changed, self._changed = self._changed, trio.Event()
        changed.set()

    def since(self, after: int) -> list[Event]:
        """The events still kept whose id is greater than `after`."""
        return [event for event in self._log if event.id > after]

    async def wait(self, after: int) -> None:
        """Return as soon as there is an event with an id greater than `after`."""
        while self.last_id <= after:
            await self._changed.wait()
