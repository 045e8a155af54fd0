"""Who is registered, and whose rating ends when: an index of the validators' entries.

It holds nothing that the entries do not say (`Roll.of` makes it from them), so the state root, which covers
the entries, covers it too. It spares a block the walk through the whole state.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from chain.entries import Validator


@dataclass(frozen=True, slots=True)
class Roll:
    """The index after a block. Immutable.

    Args:
        accounts: everybody who is registered, 32 bytes each, ascending.
        expiring: (finalized epochs, account), ascending: ratings that end when the clock is there.
    """

    accounts: tuple[bytes, ...] = ()
    expiring: tuple[tuple[int, bytes], ...] = ()

    @classmethod
    def of(cls, validators: Iterable[Validator]) -> Roll:
        """From the entries themselves."""
        return cls().changed({entry.public: entry for entry in validators})

    def changed(self, entries: Mapping[bytes, Validator]) -> Roll:
        """With these entries instead of those of the same accounts."""
        if not entries:
            return self
        kept = [item for item in self.expiring if item[1] not in entries]
        ends = [(entry.rated_until, entry.public) for entry in entries.values() if entry.expires]
        return Roll(tuple(sorted({*self.accounts, *entries})), tuple(sorted(kept + ends)))
