"""Whom to serve: tit-for-tat with an optimistic slot (Cohen 2003, section 3.2), round robin by quota
when seeding.

A leecher serves those that give it most, a seed serves each peer a quota and then lets those that wait
go first. One further slot goes to a peer drawn at random, newcomers three times as likely, so that
nobody has to give before it has got something.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from torrent.config import SwarmConfig
from torrent.rate import Rate

NEWCOMER_AGE = 60.0
NEWCOMER_WEIGHT = 3


@dataclass(frozen=True, slots=True)
class Verdict:
    """``peer`` is to be choked or unchoked."""

    peer: str
    choke: bool


class _Standing:
    __slots__ = ("gave", "interested", "joined", "quota", "snubbed", "took", "turn", "unchoked")

    def __init__(self, now: float) -> None:
        self.joined = now
        self.turn = now
        """When the peer was last unchoked or choked: who waits longest has the oldest."""
        self.interested = False
        self.unchoked = False
        self.snubbed = False
        self.gave = Rate(now)
        self.took = Rate(now)
        self.quota = 0
        """Bytes it took since it was unchoked."""


class Choker:
    """Decides in rounds; a free slot is given at once. Times in seconds."""

    def __init__(self, config: SwarmConfig, rng: random.Random) -> None:
        self._config = config
        self._rng = rng
        self._peers: dict[str, _Standing] = {}
        self._optimistic: str | None = None
        self._next_round: float | None = None
        self._next_optimistic = 0.0
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
        self._peers[peer].gave.add(count, now)

    def took(self, peer: str, count: int, now: float) -> None:
        """We gave ``peer`` ``count`` bytes."""
        standing = self._peers[peer]
        standing.took.add(count, now)
        standing.quota += count

    def snub(self, peer: str, snubbed: bool) -> None:
        """A snubbing peer does not answer our requests: it keeps no regular slot by what it gave once."""
        self._peers[peer].snubbed = snubbed

    def rates(self, peer: str, now: float) -> tuple[float, float]:
        """What ``peer`` gives and takes, bytes per second."""
        standing = self._peers[peer]
        return standing.gave.value(now), standing.took.value(now)

    def deadline(self, now: float) -> float | None:
        """When ``tick`` has something to decide; ``None`` while nobody is connected."""
        if not self._peers:
            return None
        return now if self._vacant or self._next_round is None else self._next_round

    def tick(self, now: float, *, seeding: bool) -> list[Verdict]:
        if self._next_round is None:
            self._next_round = now + self._config.choke_round
        verdicts: list[Verdict] = []
        if now >= self._next_round:
            self._next_round = now + self._config.choke_round
            verdicts = self._round(now, seeding)
        if self._vacant:
            self._vacant = False
            verdicts += self._fill(now)
        return verdicts

    def _round(self, now: float, seeding: bool) -> list[Verdict]:
        eager = [peer for peer, standing in self._peers.items() if standing.interested]
        self._rng.shuffle(eager)  # ties at random
        order = self._seed_key if seeding else self._leech_key
        eager.sort(key=lambda peer: order(self._peers[peer], now))
        chosen = set(eager[: self._config.upload_slots])
        chosen |= self._choose_optimistic([peer for peer in eager if peer not in chosen], now)
        return [v for peer in self._peers if (v := self._set(peer, peer in chosen, now)) is not None]

    def _leech_key(self, standing: _Standing, now: float) -> tuple[float, ...]:
        return (standing.snubbed, -standing.gave.value(now))

    def _seed_key(self, standing: _Standing, now: float) -> tuple[float, ...]:
        """Those with quota left, fastest first; those that wait, longest first; the satisfied."""
        if not standing.unchoked:
            return (1, standing.turn)
        if standing.quota < self._config.seed_quota:
            return (0, -standing.took.value(now))
        return (2, -standing.took.value(now))

    def _choose_optimistic(self, rest: list[str], now: float) -> set[str]:
        if not rest or not self._config.optimistic_slots:
            self._optimistic = None
            return set()
        if self._optimistic not in rest or now >= self._next_optimistic:
            self._next_optimistic = now + self._config.optimistic_round
            # whoever had the last turn waits for the others
            drawn = [peer for peer in rest if peer != self._optimistic] or rest
            weights = [
                NEWCOMER_WEIGHT if now - self._peers[peer].joined < NEWCOMER_AGE else 1 for peer in drawn
            ]
            self._optimistic = self._rng.choices(drawn, weights)[0]
        return {self._optimistic} if self._optimistic is not None else set()

    def _fill(self, now: float) -> list[Verdict]:
        """Give free slots to those that wait longest."""
        slots = self._config.upload_slots + self._config.optimistic_slots
        used = sum(1 for standing in self._peers.values() if standing.interested and standing.unchoked)
        waiting = [
            peer for peer, standing in self._peers.items() if standing.interested and not standing.unchoked
        ]
        waiting.sort(key=lambda peer: self._peers[peer].turn)
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
