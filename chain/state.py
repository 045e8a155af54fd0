"""The ledger after a block: accounts, datasets, jobs, randomness and the books.

A `State` is immutable. Its entries lie in a tree (`chain.buckets`) that shares all its block did not change
with the trees of the states before, so thousands of states cost what their blocks changed.
"""

from __future__ import annotations

from dataclasses import astuple

from chain import buckets, lottery, selection
from chain.entries import (
    Account,
    DatasetEntry,
    Entry,
    Job,
    Validator,
    VrfOwner,
    account_key,
    validator_key,
    vrf_key,
)
from chain.errors import ChainError
from chain.finality import Finality
from chain.genesis import Genesis
from chain.ledger import Books, Ledger, Place, Randomness, Supply, root_of
from chain.roll import Roll
from chain.tables import LOOKAHEAD, Tables
from chain.weights import WeightTable


class State(Ledger):
    """The immutable ledger after one block. Made by `genesis_state` and `Draft.seal` only.

    Attributes:
        genesis: the founding document.
        block_id: 32-byte id of the block; the chain id at genesis.
        height: blocks since genesis.
        slot: the block's slot.
        weight: of the chain up to this block: the sum of W >> rank.
        books: running totals.
        due: (slot, job id), ascending: jobs that change by themselves after that slot.
        roll: who is registered, and whose rating ends when.
        tables: the weight tables that this branch has decided on, and the ratings that may follow.
        finality: what this branch has made final, by the votes in it.
    """

    def __init__(
        self,
        genesis: Genesis,
        *,
        block_id: bytes,
        height: int,
        slot: int,
        weight: int,
        books: Books,
        due: tuple[tuple[int, bytes], ...],
        roll: Roll,
        randomness: Randomness,
        tables: Tables,
        finality: Finality,
        own: dict[bytes, Entry],
        tree: buckets.Node,
    ) -> None:
        self.genesis = genesis
        self.block_id = block_id
        self.height = height
        self.slot = slot
        self.weight = weight
        self.books = books
        self.due = due
        self.roll = roll
        self.tables = tables
        self.finality = finality
        self._randomness = randomness
        self._tree: buckets.Node = buckets.updated(tree, own) if own else tree
        self._root: bytes | None = None

    @property
    def epoch(self) -> int:
        """The epoch of the block's slot."""
        return self.slot // self.genesis.params.slots_per_epoch

    @property
    def mix(self) -> bytes:
        """The mix of rank-0 VRF outputs up to this block."""
        return self._randomness.mix

    @property
    def randomness(self) -> Randomness:
        """The mix now and at the ends of the last two epochs."""
        return self._randomness

    @property
    def tree(self) -> buckets.Node:
        """The entries in their buckets."""
        return self._tree

    def entry(self, key: bytes) -> Entry | None:
        """The entry under a raw key."""
        return buckets.get(self._tree, key)

    def seed(self, epoch: int) -> bytes:
        """The 32-byte draw seed of an epoch, for blocks that follow this state.

        Fixed for this epoch and the next one; for later ones it is what holds if no block comes before.
        Raises ChainError for an epoch that is over.
        """
        if epoch <= 2:
            return lottery.genesis_seed(self.genesis.chain_id, epoch)
        distance = epoch - self.epoch
        if distance < 0:
            raise ChainError(f"epoch {epoch} is over, this is {self.epoch}")
        mixes = (self._randomness.end_2, self._randomness.end_1, self._randomness.mix)
        return lottery.epoch_seed(epoch, mixes[min(distance, 2)])

    def table(self, epoch: int) -> WeightTable:
        """The weight table of an epoch, as this branch has it."""
        if epoch < self.epoch + LOOKAHEAD:
            return self.tables.table(epoch)
        return self.tables.closed(self.epoch, self.finality.final_slot).table(epoch)

    def table_at(self, slot: int) -> WeightTable:
        """The weight table that draws the proposers of a slot."""
        return self.table(slot // self.genesis.params.slots_per_epoch)

    def seed_at(self, slot: int) -> bytes:
        """The draw seed of a slot."""
        return self.seed(slot // self.genesis.params.slots_per_epoch)

    def root(self) -> bytes:
        """The 32-byte commitment to everything in this state; block h+1 carries it."""
        if self._root is None:
            parts = (self._tree.hash, self.tables.hash, self.finality.hash)
            place = Place(self.height, self.slot, self.weight)
            self._root = root_of(parts, place, self._randomness, self.books)
        return self._root

    def supply(self) -> Supply:
        """The books."""
        return Supply(self.genesis.supply, *astuple(self.books))

    def supply_ok(self) -> bool:
        """Whether the books add up; checked at every block."""
        return self.supply().ok

    def accounts(self) -> dict[bytes, Account]:
        """All accounts that were ever used; takes time in proportion to the whole state."""
        return {key[1:]: entry for key, entry in self._sorted() if isinstance(entry, Account)}

    def jobs(self) -> tuple[Job, ...]:
        """All jobs, by id; takes time in proportion to the whole state."""
        return tuple(entry for _, entry in self._sorted() if isinstance(entry, Job))

    def validators(self) -> tuple[Validator, ...]:
        """All validators, by account; takes time in proportion to the whole state."""
        return tuple(entry for _, entry in self._sorted() if isinstance(entry, Validator))

    def datasets(self) -> tuple[DatasetEntry, ...]:
        """All datasets, by name; takes time in proportion to the whole state."""
        found = [entry for _, entry in buckets.walk(self._tree) if isinstance(entry, DatasetEntry)]
        return tuple(sorted(found, key=lambda entry: entry.name))

    def _sorted(self) -> list[tuple[bytes, Entry]]:
        return sorted(buckets.walk(self._tree), key=lambda row: row[0])


def genesis_state(genesis: Genesis) -> State:
    """Height 0: the allocations and nothing else."""
    own: dict[bytes, Entry] = {
        account_key(account): Account(amount) for account, amount in genesis.allocations
    }
    founders = [
        Validator(f.public, f.vrf_public, f.rating, f.name, founder=True, rated_until=f.rated_until)
        for f in genesis.validators
    ]
    for founder in founders:
        own[validator_key(founder.public)] = founder
        own[vrf_key(founder.vrf_public)] = VrfOwner(founder.public)
    seed = genesis.chain_id
    return State(
        genesis,
        block_id=genesis.chain_id,
        height=0,
        slot=0,
        weight=0,
        books=Books(balances=genesis.supply),
        due=(),
        roll=Roll.of(founders),
        randomness=Randomness(seed, seed, seed),
        tables=Tables.at_genesis(selection.RULES[genesis.params.selection].founders(genesis)),
        finality=Finality.at_genesis(genesis.params, seed),
        own=own,
        tree=buckets.EMPTY,
    )
