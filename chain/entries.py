"""The entries of the state and their keys. Every entry is immutable; a change makes a new one."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property

from chain.codec import Item, array, octets, octets_upto, pack, uint
from chain.quality import Baseline
from chain.rating.entries import Claim, Duty, Mixes, Standing, Window
from chain.training_records import RoundRecord

MAX_APPROVALS = 256
"""Accounts that may approve one proposal: each is a voter."""


def account_key(public: bytes) -> bytes:
    return b"a" + public


def job_key(job: bytes) -> bytes:
    return b"j" + job


def round_key(job: bytes, round_: int) -> bytes:
    return b"r" + job + round_.to_bytes(8, "big")


def dataset_key(infohash: bytes) -> bytes:
    return b"d" + infohash


def validator_key(public: bytes) -> bytes:
    return b"v" + public


def vesting_key(public: bytes) -> bytes:
    return b"w" + public


def vrf_key(vrf_public: bytes) -> bytes:
    return b"k" + vrf_public


def epoch_key(number: int) -> bytes:
    return b"e" + number.to_bytes(8, "big")


def name_key(name: str) -> bytes:
    return b"n" + name.encode()


GOVERNANCE_KEY = b"g"


@dataclass(frozen=True)
class Account:
    """Balance in base units and the nonce that the account's next transaction must carry."""

    balance: int = 0
    nonce: int = 0

    @cached_property
    def encoded(self) -> bytes:
        return pack((self.balance, self.nonce))


@dataclass(frozen=True)
class DatasetEntry:
    """A dataset as announced by `owner` (32-byte account) in block `height`."""

    name: str
    infohash: bytes
    size: int
    licence: str
    public: bool
    owner: bytes
    height: int

    @cached_property
    def encoded(self) -> bytes:
        return pack((self.name, self.infohash, self.size, self.licence, self.public, self.owner, self.height))


@dataclass(frozen=True)
class NameEntry:
    """The infohash behind a dataset's name."""

    infohash: bytes

    @cached_property
    def encoded(self) -> bytes:
        return pack(self.infohash)


@dataclass(frozen=True)
class Validator:
    """An account that may be drawn and vote once it has a rating.

    Args:
        public: 32-byte account.
        vrf_public: 32-byte VRF key.
        rating: computational-power rating; 0 draws nothing.
        name: what people call it.
        bond: base units that it stands to lose.
        founder: whether it stood in the genesis: without a bond.
        sequence: of its last registration.
        barred_until: in finalized epochs; until then it cannot register. 0 unless it was convicted since it
            registered last; if so it cannot be rated, or weigh anything, before it registers again.
        rated_until: in finalized epochs; the rating counts as long as fewer have passed. 0: it has no end.
    """

    public: bytes
    vrf_public: bytes
    rating: int
    name: str = ""
    bond: int = 0
    founder: bool = False
    sequence: int = 0
    barred_until: int = 0
    rated_until: int = 0

    @property
    def convicted(self) -> bool:
        """Whether evidence convicted it since it registered last."""
        return self.barred_until > 0

    def bonded(self, least: int) -> bool:
        """Whether it has a bond of at least that to lose, or stood in the genesis, which takes the place."""
        return self.founder or self.bond >= least

    @property
    def expires(self) -> bool:
        """Whether it has a rating that ends by itself."""
        return self.rating > 0 and self.rated_until > 0

    @cached_property
    def encoded(self) -> bytes:
        return pack(
            (
                self.public, self.vrf_public, self.rating, self.name,
                self.bond, self.founder, self.sequence, self.barred_until, self.rated_until,
            )
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Grant:
    """Rewards that vest together.

    Args:
        start: finalized epochs at which they begin to vest.
        amount: base units at the start.
        left: base units that have not moved to the balance.
    """

    start: int
    amount: int
    left: int


@dataclass(frozen=True)
class Vesting:
    """An account's rewards that have not moved to its balance, the oldest grant first."""

    grants: tuple[Grant, ...] = ()

    @property
    def held(self) -> int:
        """Base units."""
        return sum(grant.left for grant in self.grants)

    @cached_property
    def encoded(self) -> bytes:
        return pack(tuple((grant.start, grant.amount, grant.left) for grant in self.grants))


@dataclass(frozen=True)
class VrfOwner:
    """The account that has a VRF key, or had it: nobody else may take it."""

    account: bytes

    @cached_property
    def encoded(self) -> bytes:
        return pack(self.account)


@dataclass(frozen=True)
class EpochEntry:
    """The slot up to which the chain was final when the so many-th epoch became final."""

    slot: int

    @cached_property
    def encoded(self) -> bytes:
        return pack(self.slot)


class JobStatus(IntEnum):
    """OPEN -> RUNNING (first round record) -> CHALLENGE (final settle, cancel or deadline) -> CLOSED,
    or REFUNDED when nothing was ever paid."""

    OPEN = 0
    RUNNING = 1
    CHALLENGE = 2
    CLOSED = 3
    REFUNDED = 4

    @property
    def active(self) -> bool:
        """Whether rounds may still be recorded."""
        return self <= JobStatus.RUNNING


@dataclass(frozen=True)
class Job:
    """A training job and its escrow.

    Args:
        id: 32 bytes, the id of the JOB_OPEN transaction.
        requester: 32-byte account that opened it.
        dataset: infohash of the training data.
        model_hash: SHA-256 of the initial model.
        model: SHA-256 of the current model: the last record's `model_out`.
        rounds: most rounds.
        price: base units per sample.
        budget: base units locked at the start.
        escrow: base units still locked.
        paid: base units paid to trainers.
        deadline_slot: last slot in which rounds may be recorded.
        mode: `trusted`.
        status: see JobStatus.
        next_round: the round that the next record must have; so many are recorded.
        challenge_end: last slot of the challenge window, 0 before it begins.
    """

    id: bytes
    requester: bytes
    dataset: bytes
    model_hash: bytes
    model: bytes
    rounds: int
    price: int
    budget: int
    escrow: int
    paid: int
    deadline_slot: int
    mode: str
    status: JobStatus = JobStatus.OPEN
    next_round: int = 0
    challenge_end: int = 0

    @property
    def due_slot(self) -> int | None:
        """The slot after which the job changes by itself; None when it is over."""
        if self.status.active:
            return self.deadline_slot
        return self.challenge_end if self.status is JobStatus.CHALLENGE else None

    @cached_property
    def encoded(self) -> bytes:
        return pack(
            (
                self.id, self.requester, self.dataset, self.model_hash, self.model, self.rounds, self.price,
                self.budget, self.escrow, self.paid, self.deadline_slot, self.mode, int(self.status),
                self.next_round, self.challenge_end,
            )
        )  # fmt: skip


@dataclass(frozen=True)
class RoundEntry:
    """A job's round: its record, and what of it has been paid.

    Args:
        record: None when receipts of a round without a record were claimed.
        clients: clients that have been paid, ascending; each at most once.
        settled_samples: samples of the paid receipts that are in the record's tree.
    """

    record: RoundRecord | None
    clients: tuple[int, ...] = ()
    settled_samples: int = 0

    @cached_property
    def encoded(self) -> bytes:
        record: tuple[Item, ...] = () if self.record is None else self.record.to_item()
        return pack((record, self.clients, self.settled_samples))


@dataclass(frozen=True, slots=True)
class Proposal:
    """A change of the baseline that waits for approvals.

    Args:
        id: 32 bytes, of the transaction that proposed it.
        proposer: 32-byte account.
        baseline: what it would put in force.
        last_slot: of the last block that may hold an approval.
        approvals: accounts that approved, ascending; the proposer is the first to.
    """

    id: bytes
    proposer: bytes
    baseline: Baseline
    last_slot: int
    approvals: tuple[bytes, ...]

    def to_item(self) -> tuple[Item, ...]:
        approvals = b"".join(self.approvals)
        return (self.id, self.proposer, self.baseline.to_item(), self.last_slot, approvals)

    @classmethod
    def from_item(cls, item: Item) -> Proposal:
        """Raises DecodeError."""
        id_, proposer, baseline, last_slot, joined = array(item, 5, "proposal")
        approvals = octets_upto(joined, 32 * MAX_APPROVALS, "approvals")
        return cls(
            octets(id_, 32, "id"),
            octets(proposer, 32, "proposer"),
            Baseline.from_item(baseline),
            uint(last_slot, "last_slot"),
            tuple(octets(approvals[at : at + 32], 32, "approval") for at in range(0, len(approvals), 32)),
        )


@dataclass(frozen=True)
class Governance:
    """What the voters decided, and what they may decide.

    Args:
        adopted: (epoch, baseline): what holds from that epoch on, ascending.
        proposals: the open ones, in the order in which they were made.
    """

    adopted: tuple[tuple[int, Baseline], ...] = ()
    proposals: tuple[Proposal, ...] = ()

    @cached_property
    def encoded(self) -> bytes:
        adopted = tuple((epoch, baseline.to_item()) for epoch, baseline in self.adopted)
        return pack((adopted, tuple(proposal.to_item() for proposal in self.proposals)))


Entry = (
    Account
    | DatasetEntry
    | NameEntry
    | Job
    | RoundEntry
    | Validator
    | Vesting
    | VrfOwner
    | EpochEntry
    | Governance
    | Window
    | Mixes
    | Claim
    | Duty
    | Standing
)


def held_balance(entry: Entry | None) -> int:
    """Base units in an account."""
    return entry.balance if isinstance(entry, Account) else 0


def held_escrow(entry: Entry | None) -> int:
    """Base units locked in a job."""
    return entry.escrow if isinstance(entry, Job) else 0


def held_bond(entry: Entry | None) -> int:
    """Base units that a validator stands to lose."""
    return entry.bond if isinstance(entry, Validator) else 0


def held_vesting(entry: Entry | None) -> int:
    """Base units of rewards that an account cannot spend yet."""
    return entry.held if isinstance(entry, Vesting) else 0
