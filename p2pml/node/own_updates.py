"""The updates that a participant has committed to in one conversation, until its requester has them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from p2pml.net.errors import Malformed
from p2pml.net.train import CHUNK_BYTES, Channel, Pull, Refuse, Update

MAX_PULLS = 8
"""How often one update may be asked for: it is asked for again only where an upload broke off."""

Key = tuple[int, int]
"""Round and client."""


@dataclass(slots=True)
class OwnUpdates:
    """Updates of the rounds that start from the current model.

    Args:
        channel: to the requester.
    """

    channel: Channel
    _data: dict[Key, bytes] = field(default_factory=dict)
    _hashes: dict[Key, bytes] = field(default_factory=dict)
    _pulls: Counter[Key] = field(default_factory=Counter)

    def add(self, key: Key, update: bytes, digest: bytes) -> None:
        """Keep an update that is committed to now."""
        self._data[key], self._hashes[key] = update, digest

    def committed(self, key: Key) -> bytes | None:
        """The hash that was committed to."""
        return self._hashes.get(key)

    def drop(self, key: Key) -> None:
        """The requester does not want it."""
        self._data.pop(key, None)

    def clear(self) -> None:
        """There is another model: nobody can ask for updates of the rounds before."""
        self._data.clear()
        self._hashes.clear()
        self._pulls.clear()

    def check(self, pull: Pull) -> None:
        """Count a request. Raises Malformed when the same update is asked for again and again."""
        key = (pull.round, pull.client)
        if key in self._data:
            self._pulls[key] += 1
        if self._pulls[key] > MAX_PULLS:
            raise Malformed(f"the same update is asked for more than {MAX_PULLS} times")

    async def upload(self, pull: Pull) -> bool:
        """Send an update from an offset on; False when there is none to send.

        Raises:
            RemoteError: the requester is gone.
        """
        update = self._data.get((pull.round, pull.client))
        if update is None or pull.offset >= len(update):
            await self.channel.send(Refuse("task", pull.round, pull.client, "there is no such update here"))
            return False
        for offset in range(pull.offset, len(update), CHUNK_BYTES):
            data = update[offset : offset + CHUNK_BYTES]
            await self.channel.send(Update(pull.round, pull.client, offset, data))
        return True
