"""The weight table: who may propose and vote, with which weight."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

from chain.codec import pack
from chain.crypto import H
from chain.genesis import Genesis

MAX_VOTERS = 256
"""The heaviest keys vote; lighter ones propose only, so that the votes of a slot stay bounded."""


@dataclass(frozen=True, slots=True)
class Weight:
    """One validator: 32-byte account, 32-byte VRF key, weight of at least 1: its rating, or its balance in
    base units where the richest are selected.
    """

    public: bytes
    vrf_public: bytes
    rating: int


@dataclass(frozen=True)
class WeightTable:
    """Validators sorted by account; together they own the rating units 0..total-1 in that order."""

    entries: tuple[Weight, ...]

    @classmethod
    def of(cls, genesis: Genesis) -> WeightTable:
        """The founders' ratings, which hold until an audited table takes effect."""
        return cls(tuple(Weight(f.public, f.vrf_public, f.rating) for f in genesis.validators))

    @classmethod
    def of_balances(cls, genesis: Genesis) -> WeightTable:
        """What the founders own at the start, those who own nothing left out."""
        return cls(
            tuple(
                Weight(founder.public, founder.vrf_public, balance)
                for founder in genesis.validators
                if (balance := genesis.balance(founder.public))
            )
        )

    @cached_property
    def _bounds(self) -> tuple[int, ...]:
        return tuple(accumulate(entry.rating for entry in self.entries))

    @cached_property
    def _by_public(self) -> dict[bytes, Weight]:
        return {entry.public: entry for entry in self.entries}

    @property
    def total(self) -> int:
        """W, the sum of all ratings."""
        return self._bounds[-1] if self.entries else 0

    def get(self, public: bytes) -> Weight | None:
        """The entry of an account."""
        return self._by_public.get(public)

    @cached_property
    def heaviest(self) -> tuple[Weight, ...]:
        """All entries, the heaviest first; of equal ones the lower account."""
        return tuple(sorted(self.entries, key=lambda entry: (-entry.rating, entry.public)))

    @cached_property
    def _voices(self) -> dict[bytes, int]:
        return {entry.public: entry.rating for entry in self.heaviest[:MAX_VOTERS]}

    @cached_property
    def voices(self) -> int:
        """V, the sum of the voters' ratings: what every quorum is of."""
        return sum(self._voices.values())

    def voice(self, public: bytes) -> int:
        """An account's weight in votes: its rating, or 0 when it is not among the voters."""
        return self._voices.get(public, 0)

    def changed(self, entries: Mapping[bytes, Weight]) -> WeightTable:
        """With other entries for these accounts; a rating of 0 for none."""
        kept = {entry.public: entry for entry in self.entries if entry.public not in entries}
        kept |= {public: entry for public, entry in entries.items() if entry.rating}
        return WeightTable(tuple(kept[public] for public in sorted(kept)))

    def owner(self, unit: int) -> Weight:
        """Who owns rating unit `unit` of 0..total-1."""
        return self.entries[bisect_right(self._bounds, unit)]

    def without(self, accounts: Collection[bytes]) -> int:
        """The units that these accounts do not own."""
        found = (self._by_public.get(public) for public in accounts)
        return self.total - sum(entry.rating for entry in found if entry is not None)

    def owner_without(self, unit: int, accounts: Collection[bytes]) -> Weight:
        """Who owns unit `unit` of those that these accounts do not own, numbered anew in the same order."""
        for public in sorted(accounts):
            entry = self._by_public.get(public)
            if entry is None:
                continue
            place = bisect_left(self.entries, public, key=lambda each: each.public)
            if unit >= self._bounds[place] - entry.rating:
                unit += entry.rating
        return self.owner(unit)

    @cached_property
    def hash(self) -> bytes:
        """32 bytes, part of the state root."""
        # One after the other and not as one array: arrays are bounded, a table is not.
        return H("weights", *(pack((e.public, e.vrf_public, e.rating)) for e in self.entries))
