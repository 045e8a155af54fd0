"""The updates that a participant has committed to, until its requester has them; they outlive a conversation
that breaks off, or an upload that failed would have to be trained again."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from p2pml.net.errors import Malformed
from p2pml.net.train import CHUNK_BYTES, NO_MODEL, Channel, Commit, Pull, Refuse, Task, Update

MAX_PULLS = 8
"""How often one update may be asked for in one conversation: it is asked for again only where an upload broke
off."""
MAX_KEPT = 2
"""Updates that stay in memory. An honest requester has one open with each peer; one may be left of a round
that broke off. Who gives tasks and fetches nothing would fill the memory."""

Key = tuple[int, int]
"""Round and client."""


@dataclass(frozen=True, slots=True)
class _Made:
    task: Task
    commit: Commit
    update: bytes


@dataclass(slots=True)
class OwnUpdates:
    """Updates of one job, of the rounds that start from its newest model."""

    _made: dict[Key, _Made] = field(default_factory=dict)
    _hashes: dict[Key, bytes] = field(default_factory=dict)
    _pulls: Counter[Key] = field(default_factory=Counter)
    _model: bytes = NO_MODEL

    def resume(self) -> None:
        """There is a new conversation."""
        self._pulls.clear()

    def start_from(self, model: bytes) -> None:
        """The digest of the model that is here now: with another one than before, nobody can ask for what
        there is."""
        if model != self._model:
            self._model = model
            self._made.clear()
            self._hashes.clear()
            self._pulls.clear()

    def add(self, task: Task, commit: Commit, update: bytes, digest: bytes) -> None:
        """Keep an update that is committed to now; the oldest goes where there are too many."""
        key = task.round, task.client
        self.drop(key)
        self._made[key], self._hashes[key] = _Made(task, commit, update), digest
        if len(self._made) > MAX_KEPT:
            self.drop(next(iter(self._made)))

    def made(self, task: Task) -> Commit | None:
        """The commitment to the update for this very task, if the update is here."""
        known = self._made.get((task.round, task.client))
        return known.commit if known is not None and known.task == task else None

    def committed(self, key: Key) -> bytes | None:
        """The hash that was committed to."""
        return self._hashes.get(key)

    def drop(self, key: Key) -> None:
        """The requester has it, or does not want it."""
        self._made.pop(key, None)

    def check(self, pull: Pull) -> None:
        """Count a request. Raises Malformed when the same update is asked for again and again."""
        key = (pull.round, pull.client)
        if key in self._made:
            self._pulls[key] += 1
        if self._pulls[key] > MAX_PULLS:
            raise Malformed(f"the same update is asked for more than {MAX_PULLS} times")

    async def upload(self, channel: Channel, pull: Pull) -> bool:
        """Send an update to the requester from an offset on; False when there is none to send.

        Raises:
            RemoteError: the requester is gone.
        """
        known = self._made.get((pull.round, pull.client))
        if known is None or pull.offset >= len(known.update):
            await channel.send(Refuse("task", pull.round, pull.client, "there is no such update here"))
            return False
        for offset in range(pull.offset, len(known.update), CHUNK_BYTES):
            data = known.update[offset : offset + CHUNK_BYTES]
            await channel.send(Update(pull.round, pull.client, offset, data))
        return True
