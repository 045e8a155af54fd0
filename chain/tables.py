"""Which weight table holds in which epoch, on one branch.

Ratings change from block to block; the table that draws proposers and weighs votes lags behind, so that
nobody can choose a rating, or a VRF key, when the randomness that it will meet is known. The table of epoch
e is that of the last checkpoint which the blocks up to the end of epoch e - 3 made final, one epoch before
the seed of e is closed. Where nothing new became final it stays as it was: the sides of a partition cannot
vote each other out.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, replace

from chain.codec import pack
from chain.crypto import H
from chain.weights import Weight, WeightTable

LOOKAHEAD = 3
"""Epochs from the one whose blocks decide on a table to the one in which it holds."""
MIN_KEYS = 3
"""A table with fewer keys is not taken: two could not tell who of them is missing."""


@dataclass(frozen=True)
class Tables:
    """The tables of one branch after a block. Immutable.

    Args:
        ratings: (slot, table): the ratings from the block of that slot on, ascending, back to the final one.
        adopted: (epoch, table): what holds from that epoch on, ascending.
    """

    ratings: tuple[tuple[int, WeightTable], ...]
    adopted: tuple[tuple[int, WeightTable], ...]

    @classmethod
    def at_genesis(cls, founders: WeightTable) -> Tables:
        """The founders' ratings hold until others become final."""
        return cls(((0, founders),), ((0, founders),))

    @property
    def latest(self) -> WeightTable:
        """The ratings as of the last block; they hold later, if at all."""
        return self.ratings[-1][1]

    def table(self, epoch: int) -> WeightTable:
        """What holds in an epoch, as far as it is decided."""
        place = bisect_right(self.adopted, epoch, key=lambda entry: entry[0])
        return self.adopted[max(place - 1, 0)][1]

    def closed(self, epoch: int, final_slot: int) -> Tables:
        """After the last block of `epoch`, when what is final ends with `final_slot`.

        Decides on the tables from epoch + `LOOKAHEAD` on, until the next time.
        """
        place = bisect_right(self.ratings, final_slot, key=lambda entry: entry[0])
        found = self.ratings[max(place - 1, 0)][1]
        if found == self.adopted[-1][1] or len(found.entries) < MIN_KEYS or found.total < 2:
            return self
        return replace(self, adopted=(*self.adopted, (epoch + LOOKAHEAD, found)))

    def rated(self, slot: int, entries: Mapping[bytes, Weight]) -> Tables:
        """With other weights of these accounts from the block of `slot` on; 0 for none."""
        if not entries:
            return self
        table = self.latest.changed(entries)
        if table == self.latest:
            return self
        return replace(self, ratings=(*self.ratings, (slot, table)))

    def pruned(self, final_slot: int, final_epoch: int) -> Tables:
        """Without what nothing after the final checkpoint asks for."""
        ratings = bisect_right(self.ratings, final_slot, key=lambda entry: entry[0])
        adopted = bisect_right(self.adopted, final_epoch, key=lambda entry: entry[0])
        if ratings <= 1 and adopted <= 1:
            return self
        return Tables(self.ratings[max(ratings - 1, 0) :], self.adopted[max(adopted - 1, 0) :])

    def knows(self, public: bytes) -> bool:
        """Whether an account is in a table that holds, or will hold."""
        return any(table.get(public) is not None for _, table in self.adopted)

    @property
    def hash(self) -> bytes:
        """32 bytes, part of the state root."""
        rows = ((at, table.hash) for rows in (self.ratings, self.adopted) for at, table in rows)
        return H("tables", pack(len(self.ratings)), *map(pack, rows))
