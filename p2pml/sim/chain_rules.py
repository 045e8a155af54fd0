"""What must hold after every event of a simulated chain, worked out beside the core, not asked of it."""

from __future__ import annotations

from collections.abc import Callable

from chain import vrf
from chain.crypto import H
from chain.forkchoice import Accepted, Chain, Head, HeadChanged
from chain.genesis import Genesis
from chain.state import State
from p2pml.sim.chain_node import ChainNode

Preference = tuple[int, int, bytes, bytes]
"""Of a tip, smaller is better: minus its weight, its rank, its tie hash, its id."""


class ChainRules:
    """The invariants of honest validators.

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
        self._preference: dict[bytes, Preference] = {genesis.chain_id: (0, 0, b"", genesis.chain_id)}
        self._roots: dict[bytes, bytes] = {}
        self._best: dict[str, tuple[Chain, Preference]] = {}
        self.reorgs: dict[str, list[int]] = {name: [] for name in honest}
        """Depths of the reverts of each node, in blocks."""

    def check(self, name: str) -> None:
        """All of it, for the node that acted. Raises AssertionError."""
        node = self._node(name)
        outcomes, node.outcomes = node.outcomes, []
        if name not in self._honest or not outcomes:
            return
        for outcome in outcomes:
            if isinstance(outcome, Accepted):
                self._accepted(name, node, outcome)
            else:
                self._moved(name, outcome)
        self._head_is_best(name, node)
        self._head_is_due(name, node)

    def _accepted(self, name: str, node: ChainNode, outcome: Accepted) -> None:
        block, state = outcome.block, outcome.state
        preference = self._preference.get(block.block_id) or self._weigh(outcome, node.chain)
        chain, best = self._best.get(name, (node.chain, preference))
        if chain is not node.chain:  # it lost its disk and began anew
            best = preference
        self._best[name] = (node.chain, min(best, preference))
        root = self._roots.get(block.block_id)
        if root is None:
            self._books_are_exact(state)
            self._roots[block.block_id] = state.root()
        else:
            assert root == state.root(), f"{name} has another state after block {state.height} than others"

    def _weigh(self, outcome: Accepted, chain: Chain) -> Preference:
        """Source: design of the fork choice: the sum of W >> rank, then rank, H(beta), id."""
        sealed = outcome.block.sealed
        total = sum(founder.rating for founder in self._genesis.validators)
        weight = (total >> sealed.rank) - self._preference[outcome.block.prev][0]
        beta = vrf.output(sealed.leaf0.vrf_proof) or b""
        preference = (-weight, sealed.rank, H("tie", beta), outcome.block.block_id)
        self._preference[outcome.block.block_id] = preference
        return preference

    def _books_are_exact(self, state: State) -> None:
        supply, issued = state.supply(), state.height * self._genesis.params.proposer_reward
        balances = sum(account.balance for account in state.accounts().values())
        assert supply.ok, f"the books at height {state.height} do not add up: {supply}"
        assert balances == supply.balances, f"the accounts at height {state.height} hold {balances}: {supply}"
        assert supply.issued == issued, f"issued at height {state.height}: {supply.issued}, not {issued}"

    def _moved(self, name: str, change: HeadChanged) -> None:
        old, new = self._of(change.old), self._of(change.new)
        assert new < old, f"{name} left a head of weight {-old[0]} for one of weight {-new[0]}"
        assert [block.block_id for block in change.reverted[:1]] in ([], [change.old.id])
        tip = change.reverted[-1].prev if change.reverted else change.old.id
        for block in change.applied:
            assert block.prev == tip, f"the blocks that {name} applied do not follow each other"
            tip = block.block_id
        assert tip == change.new.id, f"what {name} applied does not lead to its head"
        if change.reverted:
            self.reorgs[name].append(len(change.reverted))

    def _of(self, head: Head) -> Preference:
        return self._preference[head.id]

    def _head_is_best(self, name: str, node: ChainNode) -> None:
        head, best = node.chain.head, self._best[name][1]
        mine = self._of(head)
        assert mine == best, f"{name} has a head of weight {-mine[0]} and knows one of weight {-best[0]}"
        assert node.chain.state().height == head.height, f"state and head of {name} differ in height"
        assert node.chain.canonical_id(head.height) == head.id, f"{name}: the best branch does not end in it"

    def _head_is_due(self, name: str, node: ChainNode) -> None:
        sealed = node.chain.head.sealed
        if sealed is None:
            return
        params = self._genesis.params
        turn = sealed.timestamp_ms + sealed.rank * params.rank_step_ms - params.skew_ms
        early = turn - (self._genesis.time_ms + int(self._now() * 1000 + 0.5))
        assert early <= 0, f"{name} took a block {early} ms before its time"
