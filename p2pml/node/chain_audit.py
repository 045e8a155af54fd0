"""Executing a chain again, from its genesis or from a snapshot: every signature, draw, transaction and vote,
and the books.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from chain.errors import ChainError
from chain.genesis import Genesis
from chain.ledger import Supply
from chain.state import State, genesis_state
from chain.transition import apply_block
from chain.types import Block
from p2pml.errors import UserError

Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Audit:
    """What the blocks of one branch say.

    Attributes:
        chain_id: hex.
        first: height after which blocks were executed: 0, or that of the snapshot they follow from.
        height: of the last block.
        head: its id, hex.
        state_root: hex, of the state after it.
        final_height: of the last block that the votes in this chain make final.
        transactions, rounds, votes, evidence: counted over all blocks.
        supply: the books after the last block.
    """

    chain_id: str
    first: int
    height: int
    head: str
    state_root: str
    final_height: int
    transactions: int
    rounds: int
    votes: int
    evidence: int
    supply: Supply


def audit(
    genesis: Genesis,
    blocks: Iterable[Block],
    progress: Progress = lambda height: None,
    start: State | None = None,
) -> Audit:
    """Execute a branch again.

    Args:
        genesis: the founding document.
        blocks: heights 1, 2, …; with `start`, those after it.
        progress: called with each height.
        start: a state to begin with, after a block that is final.

    Raises:
        UserError: a block breaks a rule.
    """
    state = genesis_state(genesis) if start is None else start
    first = state.height
    heights = {state.block_id: first}
    transactions = rounds = votes = evidence = 0
    for block in blocks:
        try:
            state = apply_block(state, block)
        except ChainError as error:
            raise UserError(
                f"block {state.height + 1} ({block.block_id.hex()[:16]}) breaks a rule: {error}",
                "this is not a valid chain: fetch it again from peers, or export it again",
            ) from error
        heights[block.block_id] = state.height
        transactions += len(block.body.txs)
        rounds += len(block.body.records)
        votes += len(block.body.votes)
        evidence += len(block.body.evidence)
        progress(state.height)
    return Audit(
        chain_id=genesis.chain_id.hex(),
        first=first,
        height=state.height,
        head=state.block_id.hex(),
        state_root=state.root().hex(),
        final_height=heights.get(state.finality.final.id, first),
        transactions=transactions,
        rounds=rounds,
        votes=votes,
        evidence=evidence,
        supply=state.supply(),
    )
