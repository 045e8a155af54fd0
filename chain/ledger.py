"""What every ledger says: entries by key, the running totals, the randomness and the root over all."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import astuple, dataclass

from chain import lottery
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
    job_key,
    name_key,
    round_key,
    validator_key,
    vesting_key,
    vrf_key,
)
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


@dataclass(slots=True)
class Books:
    """Running totals in base units: issued and burned follow the rules, the others the entries."""

    issued: int = 0
    burned: int = 0
    balances: int = 0
    escrow: int = 0
    bonds: int = 0
    vesting: int = 0


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
