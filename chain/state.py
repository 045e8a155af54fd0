"""The ledger after a block: accounts, datasets, jobs, randomness and the books.

A `State` is immutable. Its entries lie in a tree (`chain.buckets`) that shares all its block did not change
with the trees of the states before, so thousands of states cost what their blocks changed. A `Draft` is the
one mutable overlay, used while a block or a transaction is tried; throwing it away leaves no trace.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import astuple, dataclass, replace

from chain import buckets, lottery, selection
from chain.codec import pack
from chain.crypto import H
from chain.entries import (
    GOVERNANCE_KEY,
    Account,
    DatasetEntry,
    Entry,
    EpochEntry,
    Governance,
    Job,
    NameEntry,
    RoundEntry,
    Validator,
    Vesting,
    VrfOwner,
    account_key,
    dataset_key,
    epoch_key,
    held_balance,
    held_bond,
    held_escrow,
    held_vesting,
    job_key,
    name_key,
    round_key,
    validator_key,
    vesting_key,
    vrf_key,
)
from chain.errors import ChainError, InvalidTransaction
from chain.finality import Finality
from chain.genesis import Genesis
from chain.quality import Baseline
from chain.rating.entries import (
    MIXES_KEY,
    WINDOW_KEY,
    Claim,
    Duty,
    Mixes,
    Standing,
    Window,
    claim_key,
    duty_key,
    standing_key,
)
from chain.roll import Roll
from chain.tables import LOOKAHEAD, Tables
from chain.weights import WeightTable


@dataclass(frozen=True, slots=True)
class Supply:
    """The books, base units: balances + escrow + bonds + vesting = genesis + issued - burned."""

    genesis: int
    issued: int
    burned: int
    balances: int
    escrow: int
    bonds: int
    vesting: int

    @property
    def ok(self) -> bool:
        """Whether the books add up."""
        held = self.balances + self.escrow + self.bonds + self.vesting
        return held == self.genesis + self.issued - self.burned


@dataclass(frozen=True, slots=True)
class Place:
    """Blocks since genesis, slot, and the weight of the chain up to here: the sum of W >> rank."""

    height: int
    slot: int
    weight: int


@dataclass(frozen=True, slots=True)
class Randomness:
    """The mix of rank-0 VRF outputs now, and as it was at the end of the two epochs before this one."""

    mix: bytes
    end_1: bytes
    end_2: bytes

    def entering(self, epochs: int) -> Randomness:
        """The same after the border of `epochs` epochs."""
        if epochs == 0:
            return self
        return Randomness(self.mix, self.mix, self.end_1 if epochs == 1 else self.mix)

    def folded(self, beta: bytes) -> Randomness:
        """With a rank-0 output in the mix."""
        return Randomness(lottery.next_mix(self.mix, beta), self.end_1, self.end_2)


def root_of(parts: tuple[bytes, bytes, bytes], place: Place, randomness: Randomness, books: Books) -> bytes:
    """The 32-byte commitment to a state.

    Args:
        parts: the hashes of its entries, its weight tables and its finality.
        place: where in the chain it is.
    """
    weight = place.weight.to_bytes(32, "big")
    mixes = (randomness.mix, randomness.end_1, randomness.end_2)
    return H("state", *parts, pack((place.height, place.slot, weight, *mixes, *astuple(books))))


class Ledger(ABC):
    """Typed reading of entries, shared by State and Draft."""

    genesis: Genesis

    @abstractmethod
    def entry(self, key: bytes) -> Entry | None:
        """The entry under a raw key."""

    def account(self, public: bytes) -> Account:
        """The account; a zero one if it was never used."""
        entry = self.entry(account_key(public))
        return entry if isinstance(entry, Account) else Account()

    def job(self, job: bytes) -> Job | None:
        """The job of that 32-byte id."""
        entry = self.entry(job_key(job))
        return entry if isinstance(entry, Job) else None

    def round(self, job: bytes, round_: int) -> RoundEntry | None:
        """A round of a job, if it is recorded or something of it was paid."""
        entry = self.entry(round_key(job, round_))
        return entry if isinstance(entry, RoundEntry) else None

    def validator(self, public: bytes) -> Validator | None:
        """The validator with that account."""
        entry = self.entry(validator_key(public))
        return entry if isinstance(entry, Validator) else None

    def vesting(self, public: bytes) -> Vesting:
        """The rewards that an account cannot spend yet."""
        entry = self.entry(vesting_key(public))
        return entry if isinstance(entry, Vesting) else Vesting()

    def vrf_owner(self, vrf_public: bytes) -> bytes | None:
        """The account that registered a VRF key."""
        entry = self.entry(vrf_key(vrf_public))
        return entry.account if isinstance(entry, VrfOwner) else None

    def epoch_entry(self, number: int) -> EpochEntry | None:
        """What was final when so many epochs had become final."""
        entry = self.entry(epoch_key(number))
        return entry if isinstance(entry, EpochEntry) else None

    def governance(self) -> Governance:
        """What the voters decided and may decide."""
        entry = self.entry(GOVERNANCE_KEY)
        return entry if isinstance(entry, Governance) else Governance()

    def baseline(self, epoch: int) -> Baseline:
        """The baseline and quality bounds that hold in an epoch, as this branch has decided so far; the
        genesis's for epochs before the oldest decision that is kept.
        """
        adopted = self.governance().adopted
        holding = [baseline for begins, baseline in adopted if begins <= epoch]
        return holding[-1] if holding else self.genesis.params.baseline

    def window(self) -> Window:
        """The latest rating window; one that is over at slot 0 before there was any."""
        entry = self.entry(WINDOW_KEY)
        return entry if isinstance(entry, Window) else Window()

    def mixes(self) -> Mixes:
        """The randomness after recent blocks."""
        entry = self.entry(MIXES_KEY)
        return entry if isinstance(entry, Mixes) else Mixes()

    def claim(self, public: bytes, window: int) -> Claim | None:
        """What an account committed to in a window, if that is its latest."""
        entry = self.entry(claim_key(public))
        return entry if isinstance(entry, Claim) and entry.window == window else None

    def duty(self, public: bytes, window: int) -> Duty | None:
        """What an auditor committed to in a window, if that is its latest."""
        entry = self.entry(duty_key(public))
        return entry if isinstance(entry, Duty) and entry.window == window else None

    def standing(self, public: bytes) -> Standing:
        """What the windows gave an account; for founders since slot 0."""
        entry = self.entry(standing_key(public))
        return entry if isinstance(entry, Standing) else Standing()

    def dataset(self, infohash: bytes) -> DatasetEntry | None:
        """The dataset announced with that infohash."""
        entry = self.entry(dataset_key(infohash))
        return entry if isinstance(entry, DatasetEntry) else None

    def dataset_by_name(self, name: str) -> DatasetEntry | None:
        """The dataset announced under that name."""
        entry = self.entry(name_key(name))
        return self.dataset(entry.infohash) if isinstance(entry, NameEntry) else None


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


@dataclass(slots=True)
class Books:
    """Running totals in base units: issued and burned follow the rules, the others the entries."""

    issued: int = 0
    burned: int = 0
    balances: int = 0
    escrow: int = 0
    bonds: int = 0
    vesting: int = 0


class Draft(Ledger):
    """A mutable overlay over a State or another Draft; `commit` or forget it."""

    def __init__(self, below: State | Draft) -> None:
        self.genesis = below.genesis
        self.epochs: int = below.epochs if isinstance(below, Draft) else below.finality.epochs
        """Finalized epochs before this block: the clock of evidence, bars and vesting."""
        self.books: Books = replace(below.books)
        self._below = below
        self._own: dict[bytes, Entry] = {}
        self._moved: dict[bytes, int | None] = {}
        self._validators: dict[bytes, Validator] = {}

    @property
    def parent(self) -> State:
        """The state that the block follows."""
        return self._below if isinstance(self._below, State) else self._below.parent

    @property
    def due(self) -> tuple[tuple[int, bytes], ...]:
        """See State. Put together when it is asked for, once a block: a block may move many jobs."""
        if not self._moved:
            return self._below.due
        kept = [item for item in self._below.due if item[1] not in self._moved]
        moved = [(slot, job) for job, slot in self._moved.items() if slot is not None]
        return tuple(sorted(kept + moved))

    @property
    def roll(self) -> Roll:
        """See State."""
        return self._below.roll.changed(self._validators)

    def entry(self, key: bytes) -> Entry | None:
        """The entry under a raw key."""
        found = self._own.get(key)
        return found if found is not None else self._below.entry(key)

    def table_at(self, slot: int) -> WeightTable:
        """The weight table that draws the proposers of a slot."""
        return self._below.table_at(slot)

    def put(self, key: bytes, entry: Entry) -> None:
        """Set an entry and keep the totals and the due list in step with it."""
        old = self.entry(key)
        self.books.balances += held_balance(entry) - held_balance(old)
        self.books.escrow += held_escrow(entry) - held_escrow(old)
        self.books.bonds += held_bond(entry) - held_bond(old)
        self.books.vesting += held_vesting(entry) - held_vesting(old)
        if isinstance(entry, Job) and entry.due_slot != (old.due_slot if isinstance(old, Job) else None):
            self._moved[entry.id] = entry.due_slot
        self._own[key] = entry

    def credit(self, public: bytes, amount: int) -> None:
        """Add base units to an account."""
        account = self.account(public)
        self.put(account_key(public), Account(account.balance + amount, account.nonce))

    def debit(self, public: bytes, amount: int, what: str) -> None:
        """Take base units from an account. Raises InvalidTransaction if it has not so many."""
        account = self.account(public)
        if account.balance < amount:
            raise InvalidTransaction(f"{what} of {amount} is more than the balance of {account.balance}")
        self.put(account_key(public), Account(account.balance - amount, account.nonce))

    def put_job(self, job: Job) -> None:
        """Set a job."""
        self.put(job_key(job.id), job)

    def put_round(self, job: bytes, round_: int, entry: RoundEntry) -> None:
        """Set a round of a job."""
        self.put(round_key(job, round_), entry)

    def put_dataset(self, entry: DatasetEntry) -> None:
        """Set a dataset and the name it goes by."""
        self.put(dataset_key(entry.infohash), entry)
        self.put(name_key(entry.name), NameEntry(entry.infohash))

    def put_validator(self, entry: Validator) -> None:
        """Set a validator, and with it what it may weigh in a later table, and when that ends."""
        self.put(validator_key(entry.public), entry)
        self.put(vrf_key(entry.vrf_public), VrfOwner(entry.public))
        self._validators[entry.public] = entry

    def copy(self) -> Draft:
        """Another draft over the same state, with the same changes so far."""
        twin = Draft(self._below)
        twin.books = replace(self.books)
        twin._own, twin._moved, twin._validators = dict(self._own), dict(self._moved), dict(self._validators)
        return twin

    def commit(self) -> None:
        """Write everything to the draft below. Raises ChainError if that is a State."""
        if not isinstance(self._below, Draft):
            raise ChainError("only a draft over a draft can be committed")
        self._below._own.update(self._own)
        self._below.books = self.books
        self._below._moved.update(self._moved)
        self._below._validators.update(self._validators)

    def seal(
        self,
        block_id: bytes,
        place: Place,
        randomness: Randomness,
        finality: Finality,
        tables: Tables,
    ) -> State:
        """The state after the block. Raises ChainError if this draft does not lie on a State."""
        if not isinstance(self._below, State):
            raise ChainError("only a draft over a state can be sealed")
        border = place.slot // self.genesis.params.slots_per_epoch > self._below.epoch
        rule = selection.RULES[self.genesis.params.selection]
        return State(
            self.genesis,
            block_id=block_id,
            height=place.height,
            slot=place.slot,
            weight=place.weight,
            books=self.books,
            due=self.due,
            roll=self.roll,
            randomness=randomness,
            tables=tables.rated(place.slot, rule.changes(self, self._validators, border)),
            finality=finality,
            own=self._own,
            tree=self._below._tree,
        )


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
