"""What must hold after every event of a simulated chain, worked out beside the core, not asked of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from chain import vrf
from chain.crypto import H
from chain.finality import epoch_of
from chain.forkchoice import Accepted, Chain, HeadChanged
from chain.genesis import Genesis
from chain.state import State
from chain.types import Block
from chain.votes import Checkpoint
from chain.weights import Weight, WeightTable
from p2pml.sim.chain_node import ChainNode

Preference = tuple[int, int, bytes, bytes]
"""Of a tip, smaller is better: minus its weight, its rank, its tie hash, its id."""


@dataclass(slots=True)
class _View:
    """What one node has accepted, remembered beside it."""

    chain: Chain
    parent: dict[bytes, bytes]
    justified: Checkpoint
    boosted: tuple[int, bytes] = (0, b"")
    final: int = 0


@dataclass(frozen=True, slots=True)
class _Fact:
    """A block's parent and slot, who was convicted up to it, the final block that its votes show, and what it
    and those before it issued.
    """

    prev: bytes
    slot: int
    gone: frozenset[bytes]
    final: bytes
    issued: int


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
        self._views: dict[str, _View] = {}
        self._final: dict[int, bytes] = {}
        self._facts: dict[bytes, _Fact] = {
            genesis.chain_id: _Fact(genesis.chain_id, 0, frozenset(), genesis.chain_id, 0)
        }
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
            elif isinstance(outcome, HeadChanged):
                self._moved(name, outcome)
        self._head_is_best(name, node)
        self._head_is_due(name, node)
        self._finality_holds(name, node)

    def _accepted(self, name: str, node: ChainNode, outcome: Accepted) -> None:
        block, state = outcome.block, outcome.state
        preference = self._preference.get(block.block_id) or self._weigh(outcome)
        weight = node.chain.header(block.block_id).weight
        assert weight == -preference[0], (
            f"to {name} block {state.height} weighs {weight}, not {-preference[0]}"
        )
        self._remember(self._view(name, node), outcome)
        root = self._roots.get(block.block_id)
        if root is None:
            self._books_are_exact(state)
            self._roots[block.block_id] = state.root()
        else:
            assert root == state.root(), f"{name} has another state after block {state.height} than others"

    def _view(self, name: str, node: ChainNode) -> _View:
        view = self._views.get(name)
        if view is None or view.chain is not node.chain:  # it is new, or lost its disk and began anew
            view = self._views[name] = _View(node.chain, {}, Checkpoint(0, self._genesis.chain_id))
        return view

    def _remember(self, view: _View, outcome: Accepted) -> None:
        sealed, slot = outcome.block.sealed, outcome.state.slot
        view.parent[outcome.block.block_id] = outcome.block.prev
        view.justified = max(view.justified, outcome.state.finality.highest, key=lambda point: point.number)
        half = self._genesis.slot_start_ms(slot) + self._genesis.params.slot_ms // 2
        if sealed.rank == 0 and self._now_ms() < half and view.boosted[0] < slot:
            view.boosted = (slot, sealed.block_id)

    def _weigh(self, outcome: Accepted) -> Preference:
        """Source: design of the fork choice: the sum of W >> rank, then rank, H(beta), id."""
        sealed = outcome.block.sealed
        block, state = outcome.block, outcome.state
        before = self._facts[block.prev]
        gone = before.gone | {evidence.offender for evidence in block.body.evidence}
        issued = before.issued + self._issued(block, gone)
        self._facts[block.block_id] = _Fact(block.prev, state.slot, gone, state.finality.final.id, issued)
        total = self._table(block.prev, state.slot // self._genesis.params.slots_per_epoch).total
        weight = (total >> sealed.rank) - self._preference[block.prev][0]
        beta = vrf.output(sealed.leaf0.vrf_proof) or b""
        preference = (-weight, sealed.rank, H("tie", beta), outcome.block.block_id)
        self._preference[outcome.block.block_id] = preference
        return preference

    def _issued(self, block: Block, gone: frozenset[bytes]) -> int:
        """Source: docs/spec/rewards.md: proposer and voters, but nobody who was convicted."""
        params = self._genesis.params
        issued = 0 if block.sealed.proposer in gone else params.proposer_reward
        for vote in {vote.voter: vote for vote in block.body.votes if vote.voter not in gone}.values():
            table = self._table(block.prev, epoch_of(vote.link.target, params))
            issued += params.voters_reward * table.voice(vote.voter) // table.voices
        return issued

    def _table(self, tip: bytes, epoch: int) -> WeightTable:
        """Source: docs/spec/validators.md: the founders, without those that were convicted up to the block
        which was final at the end of epoch - 3 on the branch of `tip`.
        """
        while tip != self._genesis.chain_id:
            if self._facts[tip].slot // self._genesis.params.slots_per_epoch <= epoch - 3:
                break
            tip = self._facts[tip].prev
        gone = self._facts[self._facts[tip].final].gone
        left = [
            Weight(founder.public, founder.vrf_public, founder.rating)
            for founder in self._genesis.validators
            if founder.public not in gone
        ]
        assert len(left) >= 3, "too few are left for a table; these rules do not cover that"
        return WeightTable(tuple(left))

    def _books_are_exact(self, state: State) -> None:
        supply, issued = state.supply(), self._facts[state.block_id].issued
        balances = sum(account.balance for account in state.accounts().values())
        assert supply.ok, f"the books at height {state.height} do not add up: {supply}"
        assert balances == supply.balances, f"the accounts at height {state.height} hold {balances}: {supply}"
        assert supply.issued == issued, f"issued at height {state.height}: {supply.issued}, not {issued}"

    def _moved(self, name: str, change: HeadChanged) -> None:
        assert [block.block_id for block in change.reverted[:1]] in ([], [change.old.id])
        tip = change.reverted[-1].prev if change.reverted else change.old.id
        for block in change.applied:
            assert block.prev == tip, f"the blocks that {name} applied do not follow each other"
            tip = block.block_id
        assert tip == change.new.id, f"what {name} applied does not lead to its head"
        if change.reverted:
            self.reorgs[name].append(len(change.reverted))

    def _head_is_best(self, name: str, node: ChainNode) -> None:
        head, best = node.chain.head, self._heaviest(self._view(name, node))
        assert head.id == best, (
            f"{name} follows {head.id.hex()[:8]}, the votes and weights say {best.hex()[:8]}"
        )
        assert node.chain.state().height == head.height, f"state and head of {name} differ in height"
        assert node.chain.canonical_id(head.height) == head.id, f"{name}: the best branch does not end in it"

    def _heaviest(self, view: _View) -> bytes:
        """LMD-GHOST step by step and without any memory: each vote is followed down for each choice."""
        table = self._table(view.justified.id, epoch_of(view.justified, self._genesis.params))
        support = [(head, table.voice(voter)) for voter, head in view.chain.votes.heads()]
        if view.boosted[0] == self._genesis.slot_at(self._now_ms()):
            share = table.voices * self._genesis.params.boost_percent // 100
            support.append((view.boosted[1], share))
        tips = [tip for tip in view.parent if self._descends(view, tip, view.justified.id)]
        block = view.justified.id
        while ahead := [child for child in tips if view.parent[child] == block]:

            def worth(child: bytes) -> tuple[int, Preference]:
                weight = sum(voice for head, voice in support if self._descends(view, head, child))
                return -weight, min(self._preference[tip] for tip in tips if self._descends(view, tip, child))

            block = min(ahead, key=worth)
        return block

    def _descends(self, view: _View, block: bytes, root: bytes) -> bool:
        while block != root:
            if block not in view.parent:
                return False
            block = view.parent[block]
        return True

    def _finality_holds(self, name: str, node: ChainNode) -> None:
        """Nobody makes final what contradicts another's final blocks, or its own earlier ones."""
        view, final = self._view(name, node), node.chain.final_height
        assert final >= view.final, f"{name} gave up the final height {view.final} for {final}"
        for height in range(view.final + 1, final + 1):
            block_id = node.chain.canonical_id(height)
            assert block_id is not None
            known = self._final.setdefault(height, block_id)
            assert known == block_id, f"{name} made another block of height {height} final than others"
        view.final = final
        if final:
            assert node.chain.canonical_id(final) == self._final[final], f"{name} reverted what was final"

    def _now_ms(self) -> int:
        return self._genesis.time_ms + int(self._now() * 1000 + 0.5)

    def _head_is_due(self, name: str, node: ChainNode) -> None:
        sealed = node.chain.head.sealed
        if sealed is None:
            return
        params = self._genesis.params
        turn = sealed.timestamp_ms + sealed.rank * params.rank_step_ms - params.skew_ms
        early = turn - self._now_ms()
        assert early <= 0, f"{name} took a block {early} ms before its time"
