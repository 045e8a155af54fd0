"""A small chain with known keys, on which tests mine blocks and forge bad ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import pytest

from chain import merkle, selection
from chain.crypto import Keypair
from chain.forkchoice import Chain
from chain.genesis import Founder, Genesis
from chain.header import SealedHeader, seal_message
from chain.params import DEMO, TOKEN, ChainParams
from chain.producer import ProposerKeys, build_block, ranks_for
from chain.rating.items import RatingItem
from chain.state import State
from chain.training_records import Commitment, Receipt, RoundRecord, receipts_root, settle_receipts
from chain.transactions import JobOpen, JobSettle, Payload, Transfer, Tx, sign_tx
from chain.types import Block, Body
from chain.votes import Vote, sign_vote

START_MS = 1_700_000_000_000
FEE = TOKEN // 10
FAR = 2**40


def seed32(number: int) -> bytes:
    return number.to_bytes(32, "big")


class World:
    """Validators, users with 1,000 tokens each, and one chain."""

    def __init__(
        self,
        ratings: tuple[int, ...] = (10, 10, 10),
        users: int = 3,
        params: ChainParams = DEMO,
        keep: int = 256,
        rated_until: tuple[int, ...] = (),
        balances: tuple[int, ...] = (),
        name: str = "test",
    ) -> None:
        self.validators = [
            ProposerKeys.from_seeds(seed32(i + 1), seed32(i + 501)) for i in range(len(ratings))
        ]
        self.users = [Keypair.from_seed(seed32(1001 + i)) for i in range(users)]
        founders = tuple(
            Founder(keys.public, keys.vrf_public, rating, f"v{i}", rated_until[i] if rated_until else 0)
            for i, (keys, rating) in enumerate(zip(self.validators, ratings, strict=True))
        )
        allocations = tuple((user.public, 1000 * TOKEN) for user in self.users)
        allocations += tuple(
            (keys.public, tokens * TOKEN)
            for keys, tokens in zip(self.validators, balances, strict=False)
            if tokens
        )
        self.genesis = Genesis(name, START_MS, params, founders, allocations)
        self.chain = Chain(self.genesis, keep)
        self.by_public = {keys.public: keys for keys in self.validators}

    @property
    def state(self) -> State:
        return self.chain.state()

    def drawn(self, slot: int, rank: int = 0, state: State | None = None) -> ProposerKeys | None:
        """Who may propose at this rank; None if the winner already won a lower one."""
        state = state or self.state
        keys = self.by_public[selection.draw(state, slot, rank).public]
        return keys if ranks_for(slot, keys.keypair, state) == (rank,) else None

    def slot_with(self, rank: int, after: int, state: State | None = None) -> int:
        """The next slot in which somebody may propose at `rank`."""
        return next(slot for slot in range(after + 1, after + 1000) if self.drawn(slot, rank, state))

    def build(
        self,
        txs: Iterable[Tx] = (),
        records: Iterable[RoundRecord] = (),
        slot: int | None = None,
        rank: int = 0,
        parent: bytes | None = None,
        chain: Chain | None = None,
        ratings: Iterable[RatingItem] = (),
    ) -> Block:
        chain = chain or self.chain
        state = chain.state(parent)
        slot = self.slot_with(rank, state.slot, state) if slot is None else slot
        keys = self.drawn(slot, rank, state)
        assert keys is not None
        return build_block(chain, slot, rank, keys, txs, records, parent, ratings)

    def time_of(self, block: Block) -> int:
        """A moment at which the block is due."""
        return block.sealed.timestamp_ms + self.genesis.params.slot_ms

    def give(self, block: Block, chain: Chain | None = None) -> Any:
        return (chain or self.chain).on_block(block, self.time_of(block))

    def mine(
        self,
        *txs: Tx,
        records: Iterable[RoundRecord] = (),
        slot: int | None = None,
        ratings: Iterable[RatingItem] = (),
    ) -> Block:
        """Mine a block on the head and insist that everything got into it."""
        records, ratings = tuple(records), tuple(ratings)
        block = self.build(txs, records, slot, ratings=ratings)
        assert len(block.body.txs) == len(txs)
        assert len(block.body.records) == len(records)
        assert block.body.ratings == ratings
        self.give(block)
        assert self.chain.head.id == block.block_id
        return block

    def vote(self, voter: int, slot: int | None = None, chain: Chain | None = None) -> Vote:
        """The vote that a validator owes to its view: by default right after the head's block."""
        chain = chain or self.chain
        state = chain.state()
        slot = state.slot if slot is None else slot
        link = state.finality.next_link(slot, state.slot, state.block_id)
        assert link is not None
        return sign_vote(self.validators[voter].keypair, self.genesis.chain_id, slot, link, state.block_id)

    def cast(self, *votes: Vote, chain: Chain | None = None, late_ms: int | None = None) -> None:
        """Give votes to a chain, by default in the middle of the next slot."""
        for vote in votes:
            start = self.genesis.slot_start_ms(vote.slot)
            late = self.genesis.params.slot_ms * 3 // 2 if late_ms is None else late_ms
            (chain or self.chain).on_vote(vote, start + late)

    def all_vote(self, slot: int | None = None, chain: Chain | None = None) -> None:
        """Every validator votes for what this chain has."""
        self.cast(*(self.vote(i, slot, chain) for i in range(len(self.validators))), chain=chain)

    def mine_to(self, slot: int) -> None:
        """Mine one empty block in that slot."""
        self.mine(slot=slot)

    def tx(
        self, sender: Keypair, payload: Payload, nonce: int | None = None, fee: int = FEE, until: int = FAR
    ) -> Tx:
        nonce = self.state.account(sender.public).nonce if nonce is None else nonce
        return sign_tx(sender, self.genesis.chain_id, payload, nonce=nonce, valid_until_slot=until, fee=fee)

    def transfer(self, sender: int, to: int, amount: int, **options: Any) -> Tx:
        return self.tx(self.users[sender], Transfer(self.users[to].public, amount), **options)

    def balance(self, public: bytes) -> int:
        return self.state.account(public).balance

    def reseal(
        self,
        block: Block,
        body: Body | None = None,
        leaf0: dict[str, Any] | None = None,
        header: dict[str, Any] | None = None,
        by: ProposerKeys | None = None,
    ) -> Block:
        """The block with changes, its root recomputed and sealed again: wrong only where it was changed."""
        body = body or block.body
        leaf = replace(block.sealed.leaf0, **(leaf0 or {}))
        leaves = body.leaves(leaf)
        new_header = replace(block.sealed.header, **{"merkle_root": merkle.root(leaves), **(header or {})})
        keys = by or self.by_public[leaf.proposer]
        seal = keys.keypair.sign(seal_message(self.genesis.chain_id, new_header.block_id))
        return Block(SealedHeader(new_header, leaf, merkle.path(leaves, 0), seal), body)


class JobWorld:
    """A world with one job of user 0 and trainers who sign for it."""

    def __init__(
        self, world: World, rounds: int = 3, price: int = 100, budget: int = 50 * TOKEN, until: int = 200
    ):
        self.world = world
        self.requester = world.users[0]
        self.trainers = [Keypair.from_seed(seed32(2001 + i)) for i in range(3)]
        self.model = b"\x01" * 32
        opening = world.tx(self.requester, JobOpen(b"\x09" * 20, self.model, rounds, price, budget, until))
        self.id = opening.id
        world.mine(opening)

    def receipt(
        self, round_: int, client: int, samples: int = 1000, trainer: int | None = None, **changes: Any
    ) -> Receipt:
        keys = self.trainers[client % 3 if trainer is None else trainer]
        commitment = replace(
            Commitment(
                self.world.genesis.chain_id, self.id, round_, client, keys.public, samples,
                self.model_at(round_), bytes([round_, client]) * 16,
            ),
            **changes,
        )  # fmt: skip
        return Receipt.countersign(commitment, keys.sign(commitment.signing_bytes()), self.requester)

    def model_at(self, round_: int) -> bytes:
        return bytes([1 + round_]) * 32

    def record(self, round_: int, receipts: list[Receipt], **changes: Any) -> RoundRecord:
        record = RoundRecord(
            self.id, round_, self.model_at(round_), self.model_at(round_ + 1), receipts_root(receipts),
            len(receipts), sum(r.commitment.samples for r in receipts), 900_000, 300_000,
        )  # fmt: skip
        return replace(record, **changes).signed(self.requester)

    def settle(self, receipts: list[Receipt], final: bool = False) -> Tx:
        return self.world.tx(self.requester, JobSettle(self.id, settle_receipts(receipts), final))


@pytest.fixture
def make_world() -> Callable[..., World]:
    return World


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def job_world() -> JobWorld:
    return JobWorld(World())


@pytest.fixture
def make_job_world() -> Callable[..., JobWorld]:
    return JobWorld
