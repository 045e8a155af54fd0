"""Proposers that break the rules, each in one way; everything else they do as the honest node does."""

from __future__ import annotations

from dataclasses import replace

from chain.producer import build_block, ranks_for, seal
from chain.transactions import Transfer, Tx, sign_tx
from chain.types import Block, Body
from chain.votes import Link, sign_vote
from p2pml.sim.chain_node import BLOCK, VOTE, ChainNode
from p2pml.sim.world import Send

_FOR_EVER = 2**40


class Equivocator(ChainNode):
    """Seals two blocks for each slot it is drawn in and shows each to one half of its neighbours."""

    def publish(self, block: Block, now: float) -> list[Send]:
        """One block to the left, its twin to the right."""
        assert self.keys is not None
        slot = self.genesis.slot_at(block.sealed.timestamp_ms)
        mine = self._to_itself(self.chain.state().account(self.keys.public).nonce)
        twin = build_block(self.chain, slot, block.sealed.rank, self.keys, [mine])
        half = len(self.neighbours) // 2
        left = [Send(peer, BLOCK + block.encoded) for peer in self.neighbours[:half]]
        right = [Send(peer, BLOCK + twin.encoded) for peer in self.neighbours[half:]]
        return left + right + self._take(block, "", now)

    def _to_itself(self, nonce: int) -> Tx:
        assert self.keys is not None
        fee = self.genesis.params.min_fee
        payload = Transfer(self.keys.public, 1)
        return sign_tx(
            self.keys.keypair, self.genesis.chain_id, payload,
            nonce=nonce, valid_until_slot=_FOR_EVER, fee=fee,
        )  # fmt: skip


class Withholder(ChainNode):
    """Keeps its blocks back for a slot and a half, to make the others revert what they built meanwhile."""

    _hidden: tuple[float, Block] | None = None

    def publish(self, block: Block, now: float) -> list[Send]:
        """Show nobody, yet."""
        self._hidden = (now + 1.5 * self.genesis.params.slot_ms / 1000, block)
        return self._take(block, "", now)

    def tick(self, now: float) -> list[Send]:
        """As the honest node does, and the hidden block when it has waited long enough."""
        sends = super().tick(now)
        if self._hidden is not None and self._hidden[0] <= now:
            sends += self._flood(BLOCK + self._hidden[1].encoded, "")
            self._hidden = None
        return sends

    def deadline(self) -> float | None:
        """The honest node's, or the end of hiding."""
        honest = super().deadline()
        if self._hidden is None:
            return honest
        return self._hidden[0] if honest is None else min(honest, self._hidden[0])


class InvalidBodyProposer(ChainNode):
    """Its headers are right, its bodies are not: each block moves money that is not there."""

    def publish(self, block: Block, now: float) -> list[Send]:
        """A sealed block whose one transaction nobody can apply; it does not believe in it itself."""
        assert self.keys is not None
        state = self.chain.state()
        params = self.genesis.params
        forged = sign_tx(
            self.keys.keypair, self.genesis.chain_id,
            Transfer(self.keys.public, state.account(self.keys.public).balance + 1),
            nonce=state.account(self.keys.public).nonce, valid_until_slot=_FOR_EVER, fee=params.min_fee,
        )  # fmt: skip
        slot = self.genesis.slot_at(block.sealed.timestamp_ms)
        wrong = seal(state, slot, block.sealed.rank, self.keys, Body(txs=(forged,)))
        return self._flood(BLOCK + wrong.encoded, "")


class FutureProposer(ChainNode):
    """Publishes blocks of slots that have not begun, as soon as it knows that it will be drawn."""

    AHEAD = 6

    def publish(self, block: Block, now: float) -> list[Send]:
        """Its block, and all that it can seal on it for the next slots."""
        assert self.keys is not None
        sends = super().publish(block, now)
        state = self.chain.state()
        for slot in range(state.slot + 1, state.slot + 1 + self.AHEAD):
            for rank in ranks_for(slot, self.keys.keypair, state):
                early = seal(state, slot, rank, self.keys, Body())
                sends += self._flood(BLOCK + early.encoded, "")
        return sends


class DoubleVoter(ChainNode):
    """Votes for the head with one half of its neighbours, and for the head's parent with the other."""

    def vote(self, slot: int, now: float) -> list[Send]:
        """Two votes for one slot, of which only one could be honest."""
        made = self._owed_vote(slot)
        head = self.chain.head.sealed
        if made is None or head is None or self.keys is None:
            return []
        target = replace(made.link.target, id=head.prev)
        twin = sign_vote(
            self.keys.keypair, self.genesis.chain_id, slot, Link(made.link.source, target), head.prev
        )
        half = len(self.neighbours) // 2
        left = [Send(peer, VOTE + made.encoded) for peer in self.neighbours[:half]]
        right = [Send(peer, VOTE + twin.encoded) for peer in self.neighbours[half:]]
        return left + right + self._count(made, now)


LIARS: dict[str, type[ChainNode]] = {
    "equivocator": Equivocator,
    "withholder": Withholder,
    "invalid-body": InvalidBodyProposer,
    "future": FutureProposer,
    "double-voter": DoubleVoter,
}
"""Strategies by the name that the command line uses."""
