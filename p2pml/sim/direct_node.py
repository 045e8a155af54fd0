"""A validator whose messages go straight to everybody, once: consensus without the gossip underneath.

It is the node of `chain_node` without relaying. What nobody relays nobody can lose twice: a message that is
lost on the way to a node stays lost for it, until the sync machine asks for the block, or a block brings
the vote.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from contextlib import suppress

from chain.errors import InvalidError, PoolFull
from chain.genesis import Genesis
from chain.producer import ProposerKeys
from chain.recent import Recent
from chain.transactions import Tx
from chain.types import Block
from chain.votes import Vote
from p2pml.sim.chain_node import BLOCK, TX, VOTE, ChainNode
from p2pml.sim.world import Send

_DECODED = 65_536


class Shared:
    """What the nodes of one process compute once: decoded messages, and checks of sealed headers.

    Decoding is a function of the bytes alone; for `outputs` see `chain.forkchoice.Chain`.
    """

    def __init__(self) -> None:
        self.outputs: Recent[bytes, bytes] = Recent(_DECODED)
        self._decoded: Recent[bytes, Block | Tx | Vote] = Recent(_DECODED)

    def item(self, payload: bytes) -> Block | Tx | Vote:
        """The block, transaction or vote of a message. Raises DecodeError."""
        item = self._decoded.get(payload)
        if item is None:
            kinds: dict[bytes, type[Block] | type[Tx] | type[Vote]] = {BLOCK: Block, TX: Tx, VOTE: Vote}
            item = kinds[payload[:1]].decode(payload[1:])
            self._decoded.put(payload, item)
        return item


class DirectNode(ChainNode):
    """One validator.

    Args:
        genesis, keys, neighbours, rng, clock, idle: see `ChainNode`; the neighbours are whom it syncs with.
        audience: everybody but itself.
        shared: with the other nodes of the process.
    """

    def __init__(
        self,
        genesis: Genesis,
        keys: ProposerKeys,
        neighbours: Sequence[str],
        rng: random.Random,
        clock: float,
        audience: Sequence[str],
        shared: Shared,
        idle: bool = False,
    ) -> None:
        super().__init__(genesis, keys, neighbours, rng, shared.outputs, clock=clock, idle=idle)
        self.audience = tuple(audience)
        self._shared = shared

    def receive(self, source: str, payload: bytes, now: float) -> list[Send]:
        """A message from anybody. A missing parent is asked of a neighbour."""
        if payload[:1] not in (BLOCK, TX, VOTE):
            return super().receive(source, payload, now)
        item = self._shared.item(payload)
        if isinstance(item, Vote):
            return self._hear(item, now)
        if isinstance(item, Block):
            known = source in self.neighbours
            return self._take(item, source if known else self._rng.choice(self.neighbours), now)
        return self._pool(item, now)

    def submit(self, tx: Tx, now: float) -> list[Send]:
        """Take a transaction of its own user."""
        return self._pool(tx, now) + self._flood(TX + tx.encoded, "")

    def _pool(self, tx: Tx, now: float) -> list[Send]:
        with suppress(InvalidError, PoolFull):  # the sender may see another state
            self.pool.add(tx, self.chain.state(), self.genesis.slot_at(self._ms(now)))
        return []

    def _hear(self, vote: Vote, now: float) -> list[Send]:
        try:
            return self._count(vote, now)
        except InvalidError:
            return []

    def _flood(self, payload: bytes, source: str) -> list[Send]:
        """To everybody, what is its own; nothing is passed on."""
        return [] if source else [Send(peer, payload) for peer in self.audience]
