"""Comparing what two pools hold, so that what gossip lost is fetched: one question, one answer.

The asker sends short hashes of all that it has, salted anew each time; the answer is what the other has
beside that. A few thousand short ids are a few tens of kilobytes, and nothing when the pools are empty.
Whom to ask and when is `Reconciler`'s, a state machine without IO; whether an item is taken is for the same
rules as in gossip.

On the wire, `/p2pml/reconcile/1.0.0`, canonical msgpack: a question is `[salt, ids]`, ids being the sorted
6-byte short ids in one string; an answer is `[more, [[kind, data], …]]`, more being 1 if not all fitted in.
Times are seconds of any monotonic clock.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

from chain.codec import array, items, octets, octets_upto, pack, uint, unpack
from chain.crypto import H
from chain.errors import DecodeError

PROTOCOL = "/p2pml/reconcile/1.0.0"
TX, RECORD, RATING = 0, 1, 2
SALT_BYTES = 16
SHORT_BYTES = 6
"""Two of 4,096 ids on either side look alike in one exchange out of 10⁷, and not again in the next."""
MAX_IDS = 16 * 1024
MAX_QUESTION_BYTES = SHORT_BYTES * MAX_IDS + 64
MAX_ITEMS = 1024
ANSWER_BYTES = 256 * 1024
MAX_ITEM_BYTES = 64 * 1024
MAX_ANSWER_BYTES = ANSWER_BYTES + MAX_ITEM_BYTES + 16 * MAX_ITEMS

EVERY_S = 5.0
"""Seconds between two questions."""
SOON_S = 1.0
"""The same after one that brought something."""
REST_S = 20.0
"""Seconds for which a peer is left alone that failed, or sent only what nobody can use."""
DISTRUST_S = 600.0
MAX_IN_A_ROW = 16
"""Questions to one peer without a pause, while it has more."""


@dataclass(frozen=True, slots=True)
class Item:
    """Something that a pool holds: its 32-byte id, `TX`, `RECORD` or `RATING`, its canonical bytes."""

    id: bytes
    kind: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Question:
    """What the asker has."""

    salt: bytes
    short_ids: frozenset[bytes]

    @classmethod
    def about(cls, ids: Iterable[bytes], salt: bytes) -> Question:
        """For these ids; of more than `MAX_IDS` only so many are told."""
        return cls(salt, frozenset(sorted(_short(salt, i) for i in ids)[:MAX_IDS]))

    def covers(self, item_id: bytes) -> bool:
        """Whether the asker has this item, as far as the short id tells."""
        return _short(self.salt, item_id) in self.short_ids

    def encode(self) -> bytes:
        """Canonical bytes."""
        return pack((self.salt, b"".join(sorted(self.short_ids))))

    @classmethod
    def decode(cls, data: bytes) -> Question:
        """Raises DecodeError."""
        salt, joined = array(unpack(data, MAX_QUESTION_BYTES), 2, "reconcile question")
        joined = octets_upto(joined, SHORT_BYTES * MAX_IDS, "short ids")
        parts = [joined[i : i + SHORT_BYTES] for i in range(0, len(joined), SHORT_BYTES)]
        if len(joined) % SHORT_BYTES or any(a >= b for a, b in pairwise(parts)):
            raise DecodeError("short ids are sorted, each of 6 bytes and there once")
        return cls(octets(salt, SALT_BYTES, "salt"), frozenset(parts))


@dataclass(frozen=True, slots=True)
class Answer:
    """What the asker lacks: kinds and bytes; `more` says that there is more of it."""

    more: bool
    items: tuple[tuple[int, bytes], ...]

    def encode(self) -> bytes:
        """Canonical bytes."""
        return pack((int(self.more), self.items))

    @classmethod
    def decode(cls, data: bytes) -> Answer:
        """Raises DecodeError."""
        more, entries = array(unpack(data, MAX_ANSWER_BYTES), 2, "reconcile answer")
        pairs = [array(entry, 2, "item") for entry in items(entries, MAX_ITEMS, "items")]
        return cls(
            bool(uint(more, "more", high=1)),
            tuple(
                (uint(kind, "kind", high=RATING), octets_upto(body, MAX_ITEM_BYTES, "item"))
                for kind, body in pairs
            ),
        )


def answer(question: Question, pool: Iterable[Item]) -> Answer:
    """The items of the pool that the question does not cover, in their order, as many as fit."""
    found: list[tuple[int, bytes]] = []
    size = 0
    for item in pool:
        if question.covers(item.id):
            continue
        if found and (size + len(item.data) > ANSWER_BYTES or len(found) == MAX_ITEMS):
            return Answer(True, tuple(found))
        found.append((item.kind, item.data))
        size += len(item.data)
    return Answer(False, tuple(found))


@dataclass(slots=True)
class _Peer:
    due: float
    """When it is asked although nobody drew it: it has just come, or has more."""
    rests_until: float = float("-inf")
    in_a_row: int = 0


class Reconciler:
    """Whom to ask, and when: one at a time, drawn at random, and each one when it joins.

    Args:
        rng: draws the peers and spreads the times, so that nodes that start together do not ask together.
    """

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._peers: dict[str, _Peer] = {}
        self._distrusted: dict[str, float] = {}
        self._asking: str | None = None
        self._next = float("inf")

    def joined(self, peer: str, now: float) -> None:
        """A peer is connected."""
        self._distrusted = {name: until for name, until in self._distrusted.items() if until > now}
        rests = self._distrusted.get(peer, float("-inf"))
        self._peers[peer] = _Peer(now + self._rng.uniform(0.2, 1.0) * SOON_S, rests)
        self._next = min(self._next, now + EVERY_S)

    def left(self, peer: str) -> None:
        """A peer is gone."""
        self._peers.pop(peer, None)
        if self._asking == peer:
            self._asking = None

    def tick(self, now: float) -> str | None:
        """Let time pass; returns the peer to ask now, if any. Then comes `done`, `failed` or `lied`."""
        if self._asking is not None:
            return None
        able = [name for name, peer in self._peers.items() if peer.rests_until <= now]
        due = [name for name in able if self._peers[name].due <= now]
        if not due and self._next > now:
            return None
        self._next = now + EVERY_S * self._rng.uniform(0.8, 1.2)
        if not able:
            return None
        self._asking = self._rng.choice(due or able)
        self._peers[self._asking].due = float("inf")
        return self._asking

    def deadline(self) -> float | None:
        """When `tick` has something to do; None while a peer is asked, or if there is nobody to ask."""
        if self._asking is not None or not self._peers:
            return None
        return min(self._next, *(max(peer.due, peer.rests_until) for peer in self._peers.values()))

    def done(self, peer: str, fresh: int, useless: int, more: bool, now: float) -> None:
        """An answer was taken: `fresh` items were new to us, `useless` ones we could not take."""
        entry = self._finished(peer)
        if entry is None:
            return
        if fresh and more and entry.in_a_row < MAX_IN_A_ROW:
            entry.in_a_row += 1
            entry.due = now
            return
        entry.in_a_row = 0
        if fresh:
            self._next = min(self._next, now + SOON_S * self._rng.uniform(0.8, 1.2))
        elif useless:
            entry.rests_until = now + REST_S

    def failed(self, peer: str, now: float) -> None:
        """No answer came."""
        entry = self._finished(peer)
        if entry is not None:
            entry.rests_until = now + REST_S

    def lied(self, peer: str, now: float) -> None:
        """The answer was not one that an honest node gives."""
        self._distrusted[peer] = now + DISTRUST_S
        entry = self._finished(peer)
        if entry is not None:
            entry.rests_until = now + DISTRUST_S

    def _finished(self, peer: str) -> _Peer | None:
        if self._asking == peer:
            self._asking = None
        return self._peers.get(peer)


def _short(salt: bytes, item_id: bytes) -> bytes:
    return H("short", salt, item_id)[:SHORT_BYTES]
