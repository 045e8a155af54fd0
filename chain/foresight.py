"""The expensive checks of blocks ahead of their execution: for threads, while nothing else needs the tree.

What `Chain.on_block` looks at later is only remembered: it asks the same questions again and finds the
answers. So nothing is believed here, and nothing is refused.
"""

from __future__ import annotations

from collections.abc import Sequence

from chain import lottery, vrf
from chain.header_chain import seed_decided, table_decided
from chain.rating.items import Ruling
from chain.state import State
from chain.types import Block


def check_ahead(state: State, blocks: Sequence[Block]) -> None:
    """Check what signatures and VRF proofs of these blocks can be checked.

    Args:
        state: of an ancestor of all of them. It decides the draws of its epoch and the next; what is later
            is left to execution.
        blocks: whose bodies are those under their headers' roots.
    """
    for block in blocks:
        _check_draw(state, block)
        for tx in block.body.txs:
            _ = tx.signature_ok
        for item in block.body.ratings:
            point = item.accusation if isinstance(item, Ruling) else item
            point.signed_for(state.genesis.chain_id)
        for vote in block.body.votes:
            vote.signed_for(state.genesis.chain_id)


def _check_draw(state: State, block: Block) -> None:
    genesis, sealed = state.genesis, block.sealed
    sealed.seal_ok(genesis.chain_id)
    slot = genesis.slot_at(sealed.timestamp_ms)
    epoch = slot // genesis.params.slots_per_epoch
    if epoch < state.epoch or not (seed_decided(state, epoch) and table_decided(state, epoch)):
        return
    weight = state.table(epoch).get(sealed.proposer)
    if weight is not None:
        alpha = lottery.alpha(genesis.chain_id, slot, state.seed(epoch))
        vrf.verify_once(weight.vrf_public, alpha, sealed.leaf0.vrf_proof)
