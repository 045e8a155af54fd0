"""Adversaries with a share of the rating: validators of one owner, who talk in private and break the rules.

Sources of the strategies: Eyal and Sirer, "Majority Is Not Enough" (2014) for withholding;
Schwarz-Schilling et al., "Three Attacks on Proof-of-Stake Ethereum" (2022) for the ex-ante reorganization;
`chain_liars` for equivocation; `tail` for withholding at the end of an epoch.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from chain import lottery, vrf
from chain.producer import ProposerKeys, build_block
from chain.state import State
from chain.transactions import Transfer, sign_tx
from chain.types import Block
from chain.votes import Vote
from p2pml.sim.chain_node import BLOCK, VOTE
from p2pml.sim.direct_node import DirectNode
from p2pml.sim.tail import best_reveal, owners, rank0_count
from p2pml.sim.world import Send

_FOR_EVER = 2**40


@dataclass
class Plot:
    """What the members of a coalition know of each other, at once: they need no network for it.

    Args:
        keys: the members', by name.
    """

    keys: dict[str, ProposerKeys]
    hidden: dict[bytes, Block] = field(default_factory=dict)
    """Blocks that nobody else has been shown, by id."""
    votes: list[Vote] = field(default_factory=list)
    """Votes for such blocks."""


class Member(DirectNode):
    """One validator of the coalition; alone it behaves."""

    plot: Plot

    def to_members(self, payload: bytes) -> list[Send]:
        """In private."""
        return [Send(peer, payload) for peer in self.audience if peer in self.plot.keys]

    def to_others(self, payload: bytes) -> list[Send]:
        """To those who are not members."""
        return [Send(peer, payload) for peer in self.audience if peer not in self.plot.keys]


class Equivocator(Member):
    """Seals two blocks for each slot it is drawn in and shows each to every second node."""

    def publish(self, block: Block, now: float) -> list[Send]:
        """A block and its twin."""
        assert self.keys is not None
        state, params = self.chain.state(), self.genesis.params
        mine = sign_tx(
            self.keys.keypair, self.genesis.chain_id, Transfer(self.keys.public, 1),
            nonce=state.account(self.keys.public).nonce, valid_until_slot=_FOR_EVER, fee=params.min_fee,
        )  # fmt: skip
        slot = self.genesis.slot_at(block.sealed.timestamp_ms)
        twin = build_block(self.chain, slot, block.sealed.rank, self.keys, [mine])
        if twin.block_id == block.block_id:  # it has not the money for the fee yet
            return super().publish(block, now)
        sends = [Send(peer, BLOCK + block.encoded) for peer in self.audience[::2]]
        sends += [Send(peer, BLOCK + twin.encoded) for peer in self.audience[1::2]]
        return sends + self._take(block, "", now)


class Withholder(Member):
    """Keeps its blocks among the members, who build on them and vote for them, and shows them when half of
    the next slot is over: honest nodes that have built on the parent meanwhile are to lose what they built.
    """

    SLOTS: ClassVar[float] = 1.5
    _release: float | None = None

    def publish(self, block: Block, now: float) -> list[Send]:
        """To members only."""
        if not self.hides(block):
            return super().publish(block, now)
        self.plot.hidden[block.block_id] = block
        slot = self.genesis.slot_at(block.sealed.timestamp_ms)
        self._release = self._slot_time(slot) + self.SLOTS * self.genesis.params.slot_ms / 1000
        return self.to_members(BLOCK + block.encoded) + self._take(block, "", now)

    def hides(self, block: Block) -> bool:
        """Whether it keeps this block back."""
        return True

    def vote(self, slot: int, now: float) -> list[Send]:
        """For a hidden head in private."""
        if not self.plot.hidden:
            return super().vote(slot, now)
        made = self._sign_vote(slot)
        if made is None:
            return []
        self.plot.votes.append(made)
        return self.to_members(VOTE + made.encoded) + self._count(made, now)

    def tick(self, now: float) -> list[Send]:
        """As an honest node, and the release when its time has come."""
        sends = super().tick(now)
        if self._release is not None and self._release <= now:
            sends += self.release()
        return sends

    def deadline(self) -> float | None:
        """The honest node's, or that of the release."""
        honest = super().deadline()
        if self._release is None or honest is None:
            return honest
        return min(honest, self._release)

    def release(self) -> list[Send]:
        """Show everybody all that is hidden."""
        self._release = None
        sends: list[Send] = []
        for block in self.plot.hidden.values():
            sends += self.to_others(BLOCK + block.encoded)
        for vote in self.plot.votes:
            sends += self.to_others(VOTE + vote.encoded)
        self.plot.hidden.clear()
        self.plot.votes.clear()
        return sends


class ExAnte(Withholder):
    """Withholds a block where the members have all ranks that come before the votes of its slot, so that no
    fallback is voted for. Shows it, with the members' votes, at the moment at which an honest block of the
    next slot arrives, before the honest votes of that slot.
    """

    SLOTS: ClassVar[float] = 1.4
    """Where no such block comes: just before those votes."""

    def hides(self, block: Block) -> bool:
        """Where it pays."""
        state, params = self.chain.state(block.prev), self.genesis.params
        slot = self.genesis.slot_at(block.sealed.timestamp_ms)
        ranks = sum(2 * rank * params.rank_step_ms < params.slot_ms for rank in range(params.ranks))
        accounts = {key.public for key in self.plot.keys.values()}
        return accounts.issuperset(owners(state.seed_at(slot), slot, ranks, state.table_at(slot)))

    def receive(self, source: str, payload: bytes, now: float) -> list[Send]:
        """As an honest node; a competing block is the sign."""
        sends = super().receive(source, payload, now)
        hidden = self.plot.hidden
        if hidden and payload[:1] == BLOCK and source not in self.plot.keys:
            rival = self._shared.item(payload)
            if isinstance(rival, Block) and rival.block_id not in hidden:
                newest = max(block.sealed.timestamp_ms for block in hidden.values())
                if rival.sealed.timestamp_ms > newest:
                    sends += self.release()
        return sends


class TailWithholder(Member):
    """Publishes a rank-0 block at the end of an epoch only where the seed two epochs on is the better for it.

    The members know each other's VRF outputs. The fallback ranks of a slot do not fold into the mix, so a
    withheld block costs the slot only if no member has the next rank.
    """

    def publish(self, block: Block, now: float) -> list[Send]:
        """Or not."""
        if block.sealed.rank == 0 and not self._worth_it(block):
            return []
        return super().publish(block, now)

    def _worth_it(self, block: Block) -> bool:
        state = self.chain.state(block.prev)
        slot = self.genesis.slot_at(block.sealed.timestamp_ms)
        per_epoch = self.genesis.params.slots_per_epoch
        epoch = slot // per_epoch
        table, seed = state.table_at(slot), state.seed_at(slot)
        accounts = {key.public: key for key in self.plot.keys.values()}
        tail = range(slot, (epoch + 1) * per_epoch)
        drawn = [owners(seed, each, self.genesis.params.ranks, table) for each in tail]
        if not all(ranks[0] in accounts for ranks in drawn):
            return True  # an honest block comes after this one and changes the mix again
        betas = [self._beta(accounts[ranks[0]], each, state) for each, ranks in zip(tail, drawn, strict=True)]
        costs = [0 if _next(ranks) in accounts else 1 for ranks in drawn]
        later = range((epoch + 2) * per_epoch, (epoch + 3) * per_epoch)
        ahead = state.table(epoch + 2)

        def worth(mix: bytes) -> int:
            return rank0_count(lottery.epoch_seed(epoch + 2, mix), later, ahead, accounts)

        return best_reveal(state.mix, betas, costs, worth)[0]

    def _beta(self, keys: ProposerKeys, slot: int, state: State) -> bytes:
        alpha = lottery.alpha(self.genesis.chain_id, slot, state.seed_at(slot))
        return vrf.output(vrf.prove(keys.vrf_seed, alpha)) or b""


def _next(ranks: tuple[bytes, ...]) -> bytes:
    """Who proposes where the first choice does not; empty for nobody."""
    return next((owner for owner in ranks[1:] if owner != ranks[0]), b"")


STRATEGIES: dict[str, type[Member]] = {
    "equivocation": Equivocator,
    "withholding": Withholder,
    "ex-ante": ExAnte,
    "tail": TailWithholder,
}
"""By the name that the command line uses."""
