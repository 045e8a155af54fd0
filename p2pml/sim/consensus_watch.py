"""What must hold in a consensus run after every event, and what is measured there.

Light enough for millions of events: the head is not worked out anew as `chain_rules` does, which small worlds
are for. States are shared (`shortcuts`), so that nodes agree on them is not checked here either.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from chain.forkchoice import Accepted, HeadChanged
from chain.genesis import Genesis
from chain.state import State
from chain.types import Block
from chain.weights import WeightTable
from p2pml.sim.chain_node import ChainNode


@dataclass(frozen=True, slots=True)
class Seen:
    """A block that somebody accepted, and the draw of its epoch."""

    block: Block
    slot: int
    seed: bytes
    table: WeightTable


class Watch:
    """The invariants of the honest nodes, and their measurements.

    Args:
        genesis: the chain.
        honest: names of the nodes that are watched.
        node: gives the node of a name.
        now: virtual seconds.
    """

    def __init__(
        self,
        genesis: Genesis,
        honest: frozenset[str],
        node: Callable[[str], ChainNode],
        now: Callable[[], float],
    ) -> None:
        self._genesis, self._honest, self._node, self._now = genesis, honest, node, now
        self._final_of: dict[str, int] = dict.fromkeys(honest, 0)
        self.blocks: dict[bytes, Seen] = {}
        """Every block that an honest node accepted."""
        self.final: list[bytes] = [genesis.chain_id]
        """Ids of the final blocks, by height, as far as any honest node has them final."""
        self.delays: list[float] = []
        """Of each final block and each node that was up since its slot began: slots since then."""
        self.up_since = dict.fromkeys(honest, 0.0)
        """When each node came up last, virtual seconds."""
        self.reorgs: list[int] = []
        """Depths of what honest nodes reverted, in blocks."""

    def check(self, name: str) -> None:
        """All of it, for the node that acted. Raises AssertionError."""
        node = self._node(name)
        if not node.outcomes:
            return
        outcomes, node.outcomes = node.outcomes, []
        if name not in self._honest:
            return
        for outcome in outcomes:
            if isinstance(outcome, Accepted):
                self._accepted(outcome.block, outcome.state)
            elif isinstance(outcome, HeadChanged) and outcome.reverted:
                self.reorgs.append(len(outcome.reverted))
        if node.chain.final_height != self._final_of[name]:
            self._finalized(name, node)

    def _accepted(self, block: Block, state: State) -> None:
        if block.block_id in self.blocks:
            return
        self.blocks[block.block_id] = Seen(
            block, state.slot, state.seed_at(state.slot), state.table_at(state.slot)
        )
        supply = state.supply()
        balances = sum(account.balance for account in state.accounts().values())
        assert supply.ok, f"the books at height {state.height} do not add up: {supply}"
        assert balances == supply.balances, f"the accounts at height {state.height} hold {balances}: {supply}"

    def _finalized(self, name: str, node: ChainNode) -> None:
        """Nobody makes final what contradicts another's final blocks, or its own earlier ones."""
        before, final = self._final_of[name], node.chain.final_height
        assert final > before, f"{name} gave up the final height {before} for {final}"
        for height in range(before + 1, final + 1):
            block_id = node.chain.canonical_id(height)
            assert block_id is not None
            if height == len(self.final):
                self.final.append(block_id)
            known = self.final[height]
            assert known == block_id, f"{name} made another block of height {height} final than others"
            self._measure(name, self.blocks[block_id].slot)
        self._final_of[name] = final

    def _measure(self, name: str, slot: int) -> None:
        length = self._genesis.params.slot_ms / 1000
        if self.up_since[name] <= slot * length:
            self.delays.append(self._now() / length - slot)
