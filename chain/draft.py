"""The one mutable ledger: an overlay while a block or a transaction is tried; unused, it leaves no trace."""

from __future__ import annotations

from dataclasses import replace

from chain import selection
from chain.entries import (
    Account,
    DatasetEntry,
    Entry,
    Job,
    NameEntry,
    RoundEntry,
    Validator,
    VrfOwner,
    account_key,
    dataset_key,
    held_balance,
    held_bond,
    held_escrow,
    held_vesting,
    job_key,
    name_key,
    round_key,
    validator_key,
    vrf_key,
)
from chain.errors import ChainError, InvalidTransaction
from chain.finality import Finality
from chain.ledger import Books, Ledger, Place, Randomness
from chain.roll import Roll
from chain.state import State
from chain.tables import Tables
from chain.weights import WeightTable


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
