"""The parameters of a chain: part of its genesis, so part of its identity."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from chain.codec import Item
from chain.errors import ParamsError

TOKEN = 10**8
"""Base units of one token; every amount is an integer of base units."""


@dataclass(frozen=True, slots=True)
class ChainParams:
    """Every rule that may differ between networks. Raises ParamsError when the values contradict."""

    selection: str = "rating"
    """How proposers are drawn: `rating`, at random in proportion to the rating."""
    slot_ms: int = 12_000
    """Length of a slot in milliseconds; block timestamps are exactly genesis + slot x slot_ms."""
    rank_step_ms: int = 2_000
    """How much later than its predecessor the proposer of the next rank may publish, in ms."""
    ranks: int = 4
    """Proposers drawn per slot: rank 0 and its fallbacks."""
    slots_per_epoch: int = 64
    """Slots that share one draw seed."""
    checkpoint_slots: int = 2
    """Slots from one checkpoint to the next; finality moves from checkpoint to checkpoint."""
    boost_percent: int = 40
    """What a timely block of the slot's first choice counts in the fork choice, per cent of all voices."""
    max_votes: int = 1_024
    """Votes per block."""
    max_user_txs: int = 2_000
    """User transactions per block; system items have caps of their own."""
    min_fee: int = TOKEN // 10
    """Lowest fee of a user transaction, base units."""
    issuance_per_block: int = TOKEN
    """New base units of one block when every role takes its share."""
    proposer_share_percent: int = 40
    """The proposer's share of the issuance."""
    voters_share_percent: int = 40
    """The voters' share, divided by weight; what nobody earns is not issued."""
    auditors_share_percent: int = 20
    """The auditors' share: not issued as long as there are no audits."""
    bond: int = 10 * TOKEN
    """What a validator that registers stands to lose, at least; base units."""
    evidence_epochs: int = 3_375
    """Finalized epochs for which an offence can be punished, and in which a reward vests."""
    bar_epochs: int = 11_813
    """Finalized epochs for which a convicted account may not register again."""
    max_evidence: int = 16
    """Pieces of evidence per block."""
    job_challenge_slots: int = 600
    """Slots between the end of a job and the refund, in which trainers may claim what they are owed."""
    max_round_records: int = 64
    """Round records (training section) per block."""
    max_job_rounds: int = 100_000
    """Rounds that one job may announce."""
    max_tx_bytes: int = 16 * 1024
    """Encoded size of one transaction."""
    max_body_bytes: int = 2 * 1024 * 1024
    """Encoded size of one block body."""

    def __post_init__(self) -> None:
        if self.selection != "rating":
            raise ParamsError(f"selection must be 'rating', not {self.selection!r}")
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name == "selection":
                continue
            if type(value) is not int or not _LOWEST.get(field.name, 1) <= value < 2**53:
                low = _LOWEST.get(field.name, 1)
                raise ParamsError(f"{field.name} must be an integer of at least {low}, not {value!r}")
        if (self.ranks - 1) * self.rank_step_ms >= self.slot_ms:
            raise ParamsError("the last rank must begin before the slot ends: lower ranks or rank_step_ms")
        if self.ranks > 16:
            raise ParamsError("ranks must be at most 16")
        if self.boost_percent > 100:
            raise ParamsError("boost_percent must be at most 100")
        if self.proposer_share_percent + self.voters_share_percent + self.auditors_share_percent > 100:
            raise ParamsError("the shares of proposer, voters and auditors must be at most 100 together")
        if max(self.max_user_txs, self.max_round_records, self.max_votes, self.max_evidence) > 4096:
            raise ParamsError(
                "max_user_txs, max_round_records, max_votes and max_evidence must be at most 4096"
            )
        if self.bar_epochs <= self.evidence_epochs:
            raise ParamsError("bar_epochs must be above evidence_epochs, or one offence counts twice")
        if self.bond > 1_000_000_000 * TOKEN:
            raise ParamsError("bond must be at most 10^9 tokens")
        if self.checkpoint_slots > self.slots_per_epoch:
            raise ParamsError("an epoch must have a checkpoint: checkpoint_slots <= slots_per_epoch")
        if self.issuance_per_block > 1_000 * TOKEN:
            raise ParamsError("issuance_per_block must be at most 1,000 tokens, or amounts outgrow 64 bits")
        if self.max_tx_bytes > 1024 * 1024 or self.max_body_bytes > 8 * 1024 * 1024:
            raise ParamsError("max_tx_bytes must be at most 1 MiB, max_body_bytes at most 8 MiB")

    @property
    def skew_ms(self) -> int:
        """Clock error that is forgiven: an eighth of a slot."""
        return self.slot_ms // 8

    @property
    def proposer_reward(self) -> int:
        """Base units issued to the proposer of a block, fees not included."""
        return self.issuance_per_block * self.proposer_share_percent // 100

    @property
    def voters_reward(self) -> int:
        """Base units that the voters of a block share when the votes of all of them are in it."""
        return self.issuance_per_block * self.voters_share_percent // 100

    def to_item(self) -> tuple[Item, ...]:
        """All fields in the order of their definition, for the chain id."""
        return tuple(getattr(self, field.name) for field in fields(self))


_LOWEST = {
    "min_fee": 0,
    "issuance_per_block": 0,
    "proposer_share_percent": 0,
    "voters_share_percent": 0,
    "auditors_share_percent": 0,
    "bond": 0,
    "boost_percent": 0,
    "slot_ms": 100,
    "slots_per_epoch": 4,
    "max_tx_bytes": 1024,
    "max_body_bytes": 16 * 1024,
}

MAIN = ChainParams()
"""The public network."""
LAB = replace(
    MAIN, slot_ms=4_000, rank_step_ms=800, slots_per_epoch=32, checkpoint_slots=1, max_user_txs=200,
    job_challenge_slots=64, max_body_bytes=512 * 1024, bond=TOKEN, evidence_epochs=2_025, bar_epochs=6_075,
)  # fmt: skip
"""Friends' machines."""
DEMO = replace(
    LAB, slot_ms=2_000, rank_step_ms=500, ranks=3, slots_per_epoch=16, max_user_txs=5, job_challenge_slots=16,
    evidence_epochs=12, bar_epochs=36,
)  # fmt: skip
"""One machine, a few minutes."""
REPORT = replace(LAB, ranks=3, max_user_txs=5, job_challenge_slots=16, evidence_epochs=12, bar_epochs=36)
"""Blocks of the size of the interim report's prototype: five transactions, fee 0.1."""

PRESETS: dict[str, ChainParams] = {"main": MAIN, "lab": LAB, "demo": DEMO, "report": REPORT}


def preset(name: str) -> ChainParams:
    """The preset of that name. Raises ParamsError naming the presets there are."""
    try:
        return PRESETS[name]
    except KeyError:
        raise ParamsError(f"there is no preset {name!r}: choose from {', '.join(PRESETS)}") from None
