"""Whom to serve: tit-for-tat with an optimistic slot (Cohen 2003, section 3.2), round robin by quota
when seeding.

A leecher serves those that give it most, a seed serves each peer a quota and then lets those that wait
go first. One further slot goes round among the others, to newcomers three times as often, so that
nobody has to give before it has got something. A peer that we wait for in vain for a minute is snubbing us
and comes last for a regular slot. All these times shrink together where much is moved in little time.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from torrent.config import SwarmConfig
from torrent.rate import Rate
from torrent.slots import Slots

NEWCOMER_AGE = 60.0
NEWCOMER_STRIDE, STRIDE = 1, 3
"""A turn in the optimistic slot moves a peer back by this much: a newcomer comes three times as often."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """``peer`` is to be choked or unchoked."""

    peer: str
    choke: bool


class _Standing:
    __slots__ = (
        "expecting",
        "gave",
        "interested",
        "joined",
        "lately",
        "looked",
        "place",
        "quota",
        "took",
        "turn",
        "unchoked",
        "waited",
    )

    def __init__(self, now: float) -> None:
        self.joined = now
        self.turn = now
        """When the peer was last unchoked or choked: who waits longest has the oldest."""
        self.interested = False
        self.unchoked = False
        self.expecting = False
        """We want something that the peer has."""
        self.waited = 0.0
        """How long we have expected something of it since it last gave."""
        self.looked = now
        self.gave = Rate(now)
        self.lately = [0, 0]
        """Bytes that it gave in the round before and in this one: Cohen's twenty seconds."""
        self.took = Rate(now)
        self.quota = 0
        """Bytes it took since it was unchoked."""
        self.place = 0
        """In the queue for the optimistic slot."""


class Choker:
    """Decides in rounds; a free slot is given at once. Times in seconds.

    ``piece_length`` bounds a seed's quota: twenty pieces are enough for one turn.
    """

    def __init__(self, config: SwarmConfig, rng: random.Random, piece_length: int | None = None) -> None:
        self._config = config
        self._rng = rng
        self._peers: dict[str, _Standing] = {}
        self._slots = Slots(config.upload_slots, config.most_slots)
        self._quota = config.seed_quota
        if piece_length is not None:
            self._quota = min(self._quota, config.seed_pieces * piece_length)
        self._optimistic: str | None = None
        self._next_optimistic = 0.0
        self._front = 0
        """The place in the queue of whoever had the last turn."""
        self._began: float | None = None
        self._given = self._moved = 0
        """Bytes given, and moved either way, in this round."""
        self._pace = 1.0
        """How much shorter than configured all times are."""
        self._vacant = False

    def join(self, peer: str, now: float) -> None:
        self._peers[peer] = _Standing(now)

    def leave(self, peer: str) -> None:
        if self._peers.pop(peer).unchoked:
            self._vacant = True
        if self._optimistic == peer:
            self._optimistic = None

    def interest(self, peer: str, interested: bool) -> None:
        """An uninterested peer keeps its unchoke until the next round, but no longer holds a slot."""
        self._peers[peer].interested = interested
        self._vacant = True

    def gave(self, peer: str, count: int, now: float) -> None:
        """``peer`` gave us ``count`` bytes that we needed."""
        standing = self._peers[peer]
        standing.gave.add(count, now)
        standing.lately[1] += count
        self._moved += count
        if count:
            standing.waited, standing.looked = 0.0, now

    def took(self, peer: str, count: int, now: float) -> None:
        """We gave ``peer`` ``count`` bytes."""
        standing = self._peers[peer]
        standing.took.add(count, now)
        standing.quota += count
        self._moved += count
        self._given += count

    def expect(self, peer: str, expecting: bool, now: float) -> None:
        """Whether we want something that ``peer`` has; to be told once in a while."""
        standing = self._peers[peer]
        if standing.expecting:
            standing.waited += now - standing.looked
        standing.expecting, standing.looked = expecting, now

    def snubs(self, peer: str, now: float) -> bool:
        """Whether ``peer`` has given nothing for a minute, scaled, of what we want."""
        standing = self._peers[peer]
        waited = standing.waited + (now - standing.looked if standing.expecting else 0.0)
        return waited >= self._config.snub_time / self._pace

    def rates(self, peer: str, now: float) -> tuple[float, float]:
        """What ``peer`` gives and takes, bytes per second."""
        standing = self._peers[peer]
        return standing.gave.value(now), standing.took.value(now)

    @property
    def slots(self) -> int:
        """Regular slots at present."""
        return self._slots.count

    def deadline(self, now: float) -> float | None:
        """When ``tick`` has something to decide; ``None`` while nobody is connected."""
        if not self._peers:
            return None
        return now if self._vacant or self._began is None else self._due

    @property
    def _due(self) -> float:
        """The end of the round: earlier as soon as enough has been moved to judge by."""
        assert self._began is not None
        config = self._config
        scale = config.fastest_round if self._moved >= config.round_bytes else 1.0
        return self._began + config.choke_round * scale

    def tick(self, now: float, *, seeding: bool) -> list[Verdict]:
        if self._began is None:
            self._began = now
        verdicts: list[Verdict] = []
        if now >= self._due:
            length = now - self._began
            self._pace = max(1.0, min(self._config.choke_round / length, 1 / self._config.fastest_round))
            rate, self._given, self._moved, self._began = self._given / length, 0, 0, now
            waiting = any(peer.interested and not peer.unchoked for peer in self._peers.values())
            self._slots.round(rate, waiting)
            verdicts = self._round(now, seeding)
        if self._vacant:
            self._vacant = False
            verdicts += self._fill(now, seeding)
        return verdicts

    def _round(self, now: float, seeding: bool) -> list[Verdict]:
        eager = [peer for peer, standing in self._peers.items() if standing.interested]
        self._rng.shuffle(eager)  # ties at random
        order = self._seed_key if seeding else self._leech_key
        eager.sort(key=lambda peer: order(peer, now))
        chosen = set(eager[: self._slots.count])
        chosen |= self._choose_optimistic([peer for peer in eager if peer not in chosen], now)
        for standing in self._peers.values():
            standing.lately = [standing.lately[1], 0]
        return [v for peer in self._peers if (v := self._set(peer, peer in chosen, now)) is not None]

    def _leech_key(self, peer: str, now: float) -> tuple[float, ...]:
        """Those that gave most lately, of equals those that ever gave most; who keeps us waiting, last."""
        standing = self._peers[peer]
        return (self.snubs(peer, now), -sum(standing.lately), -standing.gave.total)

    def _seed_key(self, peer: str, now: float) -> tuple[float, ...]:
        """Those with quota left, fastest first; those that wait, who has taken least first; the satisfied.

        By bytes and not by turns: who asks nobody but us takes far more in one turn than who asks many.
        """
        standing = self._peers[peer]
        if not standing.unchoked:
            return (1, standing.took.total, standing.turn)
        if standing.quota < self._quota:
            return (0, -standing.took.value(now))
        return (2, -standing.took.value(now))

    def _choose_optimistic(self, rest: list[str], now: float) -> set[str]:
        if not rest or not self._config.optimistic_slots:
            self._optimistic = None
            return set()
        if self._optimistic not in rest or now >= self._next_optimistic:
            self._next_optimistic = now + self._config.optimistic_round / self._pace
            self._optimistic = self._next_in_turn(rest, now)
        return {self._optimistic}

    def _next_in_turn(self, rest: list[str], now: float) -> str:
        """Whoever is first in the queue, of equals one at random; it moves back by its stride.

        Draws alone would need hundreds of turns until all had about the same; this is stride scheduling
        (Waldspurger and Weihl, 1995).
        """
        for peer in rest:  # who was away does not make up for it
            self._peers[peer].place = max(self._peers[peer].place, self._front)
        self._front = min(self._peers[peer].place for peer in rest)
        first = [peer for peer in rest if self._peers[peer].place == self._front]
        age = NEWCOMER_AGE / self._pace
        strides = [NEWCOMER_STRIDE if now - self._peers[peer].joined < age else STRIDE for peer in first]
        (chosen,) = self._rng.choices(range(len(first)), [STRIDE / stride for stride in strides])
        self._peers[first[chosen]].place += strides[chosen]
        return first[chosen]

    def _fill(self, now: float, seeding: bool) -> list[Verdict]:
        """Give free slots to those that give most, as in a round; of equals to those that wait longest.

        Were it by waiting alone, who never gives would live well on what falls free between the rounds.
        """
        slots = self._slots.count + self._config.optimistic_slots
        used = sum(1 for standing in self._peers.values() if standing.interested and standing.unchoked)
        waiting = [
            peer for peer, standing in self._peers.items() if standing.interested and not standing.unchoked
        ]
        order = self._seed_key if seeding else self._leech_key
        waiting.sort(key=lambda peer: (*order(peer, now), self._peers[peer].turn))
        return [
            v for peer in waiting[: max(0, slots - used)] if (v := self._set(peer, True, now)) is not None
        ]

    def _set(self, peer: str, unchoke: bool, now: float) -> Verdict | None:
        standing = self._peers[peer]
        if standing.unchoked == unchoke:
            return None
        standing.unchoked = unchoke
        standing.turn = now
        standing.quota = 0
        return Verdict(peer, choke=not unchoke)
