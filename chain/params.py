"""The parameters of a chain: part of its genesis, so part of its identity."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields, replace

from chain.codec import Item
from chain.errors import ParamsError
from chain.quality import BUNDLED, Baseline

TOKEN = 10**8
"""Base units of one token; every amount is an integer of base units."""


SELECTIONS = ("rating", "richest")
"""Ways to choose proposers; `chain.selection` has the rules."""
ANNOUNCE_SLOTS = 8
"""From the announcement of a rating window, which draws its challenges, to its start."""


@dataclass(frozen=True, slots=True)
class ChainParams:
    """Every rule that may differ between networks. Raises ParamsError when the values contradict."""

    selection: str = "rating"
    """How proposers are chosen: `rating`, at random in proportion to the rating, or `richest`, the accounts
    with the most tokens, in that order."""
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
    """The auditors' share, divided by what they replayed when a rating window ends; else not issued."""
    bond: int = 10 * TOKEN
    """What a validator that registers stands to lose, at least; base units."""
    evidence_epochs: int = 3_375
    """Finalized epochs for which an offence can be punished, and in which a reward vests."""
    bar_epochs: int = 11_813
    """Finalized epochs for which a convicted account may not register again."""
    rating_epochs: int = 3_938
    """Finalized epochs for which a rating holds at most."""
    max_evidence: int = 16
    """Pieces of evidence per block."""
    window_slots: int = 50
    """Slots for which everybody trains in a rating window from its start on, besides those since its
    announcement."""
    window_every_epochs: int = 3_375
    """Epochs from one rating window to the next; 0: ratings are never earned, those of the genesis hold."""
    surprise_slots: int = 5
    """Slots of a rating window whose start is drawn; 0: there are none."""
    surprise_every_epochs: int = 112
    """Epochs from one such window to the next, on average."""
    grace_slots: int = 16
    """Slots after the training in which blocks take what was committed."""
    reveal_slots: int = 16
    """Slots after that in which blocks take evaluations."""
    audit_commit_slots: int = 64
    """Slots after that in which auditors replay and commit to what they found."""
    audit_reveal_slots: int = 16
    """Slots after that in which they open it."""
    challenge_slots: int = 32
    """Slots for the answer to a challenge, and from the audits' end to that of the window."""
    max_rating_items: int = 256
    """Items per block in the rating section."""
    max_rulings: int = 1
    """Accusations per block: every node replays what they are about."""
    energy_span_ppm: int = 0
    """Up to so much is added to a rating for little energy, or taken from it for much, ppm."""
    job_challenge_slots: int = 600
    """Slots between the end of a job and the refund, in which trainers may claim what they are owed."""
    max_round_records: int = 64
    """Round records (training section) per block."""
    max_job_rounds: int = 100_000
    """Rounds that one job may announce."""
    baseline_infohash: str = BUNDLED.hex()
    """Data set of the baseline test until the voters decide on another, 40 hexadecimal digits; all zero: the
    bundled handwritten digits."""
    q_min: int = 750_000
    """Quality below which a rating is 0, ppm, until the voters decide on another."""
    q_ref: int = 950_000
    """Quality from which on more earns nothing, ppm, until the voters decide on another."""
    proposal_epochs: int = 4
    """Epochs of slots in which a proposal to change the three above can be approved."""
    max_proposals: int = 16
    """Proposals that may be open at a time."""
    max_tx_bytes: int = 16 * 1024
    """Encoded size of one transaction."""
    max_body_bytes: int = 2 * 1024 * 1024
    """Encoded size of one block body."""

    def __post_init__(self) -> None:
        if self.selection not in SELECTIONS:
            raise ParamsError(
                f"selection must be {' or '.join(map(repr, SELECTIONS))}, not {self.selection!r}"
            )
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in ("selection", "baseline_infohash"):
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
        if max(getattr(self, name) for name in _SECTIONS) > 4096:
            raise ParamsError(f"{', '.join(_SECTIONS)} must be at most 4096 each")
        if self.bar_epochs <= self.evidence_epochs:
            raise ParamsError("bar_epochs must be above evidence_epochs, or one offence counts twice")
        if self.bond > 1_000_000_000 * TOKEN:
            raise ParamsError("bond must be at most 10^9 tokens")
        if self.checkpoint_slots > self.slots_per_epoch:
            raise ParamsError("an epoch must have a checkpoint: checkpoint_slots <= slots_per_epoch")
        if self.issuance_per_block > 1_000 * TOKEN:
            raise ParamsError("issuance_per_block must be at most 1,000 tokens, or amounts outgrow 64 bits")
        if not isinstance(self.baseline_infohash, str) or not _HEX.fullmatch(self.baseline_infohash):
            raise ParamsError("baseline_infohash must be 40 hexadecimal digits, 0-9 and a-f")
        if self.max_proposals > 64:
            raise ParamsError("max_proposals must be at most 64")
        _ = self.baseline  # checks the quality bounds
        if self.energy_span_ppm >= 10**6:
            raise ParamsError("energy_span_ppm must be below 10^6")
        between, needed = self.window_every_slots, self.audited_slots(self.window_slots) + ANNOUNCE_SLOTS
        if between and needed > between:
            raise ParamsError(
                f"a rating window takes {needed} slots, the next begins after {between}: raise "
                "window_every_epochs, lower window_slots or the deadlines, or set window_every_epochs to 0"
            )
        if self.max_tx_bytes > 1024 * 1024 or self.max_body_bytes > 8 * 1024 * 1024:
            raise ParamsError("max_tx_bytes must be at most 1 MiB, max_body_bytes at most 8 MiB")

    @property
    def skew_ms(self) -> int:
        """Clock error that is forgiven: an eighth of a slot."""
        return self.slot_ms // 8

    @property
    def window_every_slots(self) -> int:
        """Slots from the start of one regular rating window to that of the next; 0 where there are none."""
        return self.window_every_epochs * self.slots_per_epoch

    def audited_slots(self, slots: int) -> int:
        """Slots from the start of a window of so many slots of training to its end."""
        audits = self.audit_commit_slots + self.audit_reveal_slots
        return slots + self.grace_slots + self.reveal_slots + audits + self.challenge_slots

    @property
    def proposer_reward(self) -> int:
        """Base units issued to the proposer of a block, fees not included."""
        return self.issuance_per_block * self.proposer_share_percent // 100

    @property
    def voters_reward(self) -> int:
        """Base units that the voters of a block share when the votes of all of them are in it."""
        return self.issuance_per_block * self.voters_share_percent // 100

    @property
    def auditors_reward(self) -> int:
        """Base units of each block that the auditors of a rating window share."""
        return self.issuance_per_block * self.auditors_share_percent // 100

    @property
    def baseline(self) -> Baseline:
        """What holds until the voters decide otherwise."""
        return Baseline(bytes.fromhex(self.baseline_infohash), self.q_min, self.q_ref)

    def to_item(self) -> tuple[Item, ...]:
        """All fields in the order of their definition, for the chain id."""
        return tuple(getattr(self, field.name) for field in fields(self))


_HEX = re.compile(r"[0-9a-f]{40}")
_SECTIONS = ("max_user_txs", "max_round_records", "max_votes", "max_evidence", "max_rating_items")
_LOWEST = {
    "window_every_epochs": 0,
    "surprise_slots": 0,
    "energy_span_ppm": 0,
    "q_min": 0,
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
    rating_epochs=2_025, window_slots=30, window_every_epochs=675, surprise_slots=0, audit_commit_slots=32,
    energy_span_ppm=50_000,
)  # fmt: skip
"""Friends' machines."""
DEMO = replace(
    LAB, slot_ms=2_000, rank_step_ms=500, ranks=3, slots_per_epoch=16, max_user_txs=5, job_challenge_slots=16,
    evidence_epochs=12, bar_epochs=36, rating_epochs=12, window_slots=5, window_every_epochs=4, grace_slots=4,
    reveal_slots=4, audit_commit_slots=8, audit_reveal_slots=4, challenge_slots=8,
)  # fmt: skip
"""One machine, a few minutes."""
REPORT = replace(
    LAB, selection="richest", ranks=3, max_user_txs=5, job_challenge_slots=16, evidence_epochs=12,
    bar_epochs=36, rating_epochs=12, window_every_epochs=0, energy_span_ppm=0,
)  # fmt: skip
"""The interim report's prototype: the richest propose, five transactions a block, fee 0.1."""

PRESETS: dict[str, ChainParams] = {"main": MAIN, "lab": LAB, "demo": DEMO, "report": REPORT}


def preset(name: str) -> ChainParams:
    """The preset of that name. Raises ParamsError naming the presets there are."""
    try:
        return PRESETS[name]
    except KeyError:
        raise ParamsError(f"there is no preset {name!r}: choose from {', '.join(PRESETS)}") from None
