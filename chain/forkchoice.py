"""The tree of blocks and which tip is the head.

The heaviest chain wins: a block weighs W >> rank, so a slot filled by its first choice counts twice
as much as one filled by the next. Ties: lower rank, then the hash of the VRF output, then the id.
Blocks deeper than `keep` below the head are forgotten and can no longer be forked from.
`Chain` has one owner; it does no IO and is told the time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from chain.crypto import H, verify
from chain.errors import FutureBlock, InvalidBlock, InvalidError, StaleBlock, UnknownBlock, UnknownParent
from chain.genesis import Genesis
from chain.orphans import Orphans
from chain.recent import Recent
from chain.state import State, genesis_state
from chain.transition import apply_body, check_sealed, seal_message, slot_of
from chain.types import Block, SealedHeader

KEEP = 256


@dataclass(frozen=True, slots=True)
class Head:
    """The tip of the chain. At genesis `sealed` is None and the id is the chain id."""

    id: bytes
    height: int
    slot: int
    weight: int
    sealed: SealedHeader | None


@dataclass(frozen=True, slots=True)
class Accepted:
    """A valid block has joined the tree, on the best branch or not; store it."""

    block: Block
    state: State


@dataclass(frozen=True, slots=True)
class HeadChanged:
    """Another tip is best now.

    Args:
        old, new: the heads.
        reverted: blocks that are no longer on the best branch, newest first.
        applied: blocks that are now on it, oldest first.
    """

    old: Head
    new: Head
    reverted: tuple[Block, ...]
    applied: tuple[Block, ...]


Outcome = Accepted | HeadChanged


@dataclass(frozen=True, slots=True)
class _Node:
    block: Block | None
    state: State
    head: Head
    preference: tuple[int, int, bytes, bytes]
    """Smaller is better."""


class Chain:
    """All blocks of the last `keep` heights and the choice among them.

    Args:
        genesis: the founding document.
        keep: how many blocks below the head stay available for forks, at least 1.
        outputs: VRF outputs of sealed headers that were checked, by a hash of all their bytes. A header names
            its parent and with it the parent's whole state, so the result is the same for everybody: many
            chains of one process (the simulator) may share one memory. None: a memory of its own.
    """

    def __init__(
        self, genesis: Genesis, keep: int = KEEP, outputs: Recent[bytes, bytes] | None = None
    ) -> None:
        self.genesis = genesis
        self._keep = max(1, keep)
        state = genesis_state(genesis)
        head = Head(genesis.chain_id, 0, 0, 0, None)
        root = _Node(None, state, head, (0, 0, b"", genesis.chain_id))
        self._nodes: dict[bytes, _Node] = {head.id: root}
        self._by_height: dict[int, set[bytes]] = {0: {head.id}}
        self._lowest = 0
        self._best = root
        self._canonical: list[bytes] = [head.id]
        self._height_of: dict[bytes, int] = {head.id: 0}
        self._sealed_by: Counter[tuple[bytes, int]] = Counter()
        self._orphans = Orphans()
        self._bad: Recent[bytes, bool] = Recent(4096)
        self._outputs: Recent[bytes, bytes] = Recent(1024) if outputs is None else outputs

    # -- looking ---------------------------------------------------------------------------------------

    @property
    def head(self) -> Head:
        """The best tip."""
        return self._best.head

    def state(self, block_id: bytes | None = None) -> State:
        """The state after a kept block, after the head by default. Raises UnknownBlock."""
        return self._best.state if block_id is None else self._node(block_id).state

    def has(self, block_id: bytes) -> bool:
        """Whether the block is in the kept part of the tree or on the best branch below it."""
        return block_id in self._nodes or block_id in self._height_of

    def block(self, block_id: bytes) -> Block | None:
        """A kept block; None for the genesis and for what is not kept."""
        node = self._nodes.get(block_id)
        return node.block if node else None

    def header(self, block_id: bytes) -> Head:
        """Height, slot and weight of a kept block. Raises UnknownBlock."""
        return self._node(block_id).head

    def ancestors(self, block_id: bytes) -> Iterator[Block]:
        """The block and its kept ancestors, newest first. Raises UnknownBlock."""
        node: _Node | None = self._node(block_id)
        while node is not None and node.block is not None:
            yield node.block
            node = self._nodes.get(node.block.prev)

    def canonical_id(self, height: int) -> bytes | None:
        """The id at that height of the best branch, however deep."""
        return self._canonical[height] if 0 <= height < len(self._canonical) else None

    def is_canonical(self, block_id: bytes) -> bool:
        """Whether the block is on the best branch."""
        return block_id in self._height_of

    def height_of(self, block_id: bytes) -> int | None:
        """The height of a block on the best branch."""
        return self._height_of.get(block_id)

    def locator(self) -> tuple[bytes, ...]:
        """Ids of the best branch from the head down, dense at first, then ever sparser, genesis last."""
        heights: list[int] = []
        height, step = self.head.height, 1
        while height > 0:
            heights.append(height)
            if len(heights) >= 10:
                step *= 2
            height -= step
        return tuple(self._canonical[h] for h in [*heights, 0])

    def common_height(self, locator: Sequence[bytes]) -> int | None:
        """The height of the first of these ids that is on the best branch; None if none is."""
        return next((self._height_of[i] for i in locator if i in self._height_of), None)

    def missing_parents(self) -> tuple[bytes, ...]:
        """Ids of blocks that orphans wait for."""
        return self._orphans.parents()

    def sealed_by(self, proposer: bytes, timestamp_ms: int) -> int:
        """How many kept blocks a proposer sealed for one slot; more than one is equivocation."""
        return self._sealed_by[proposer, timestamp_ms]

    # -- blocks ----------------------------------------------------------------------------------------

    def ready_at_ms(self, sealed: SealedHeader) -> int:
        """The time from which a block is looked at: its rank's turn in its slot, less the clock skew."""
        params = self.genesis.params
        return sealed.timestamp_ms + sealed.rank * params.rank_step_ms - params.skew_ms

    def check_header(self, sealed: SealedHeader, now_ms: int) -> None:
        """Check a sealed header alone, as gossip must before it passes a block on.

        Raises InvalidBlock, UnknownParent, StaleBlock or FutureBlock. `on_block` reuses the result.
        """
        self._check_time(sealed, now_ms)
        self._check_depth(sealed)
        parent = self._nodes.get(sealed.prev)
        if parent is None:
            raise UnknownParent(sealed.prev)
        self._output(parent.state, sealed, verify_seals=True)

    def on_block(self, block: Block, now_ms: int, *, verify_seals: bool = True) -> tuple[Outcome, ...]:
        """Take a block into the tree; orphans that waited for it follow.

        Args:
            block: as decoded.
            now_ms: Unix time in milliseconds.
            verify_seals: False believes signature and VRF proof: for blocks read from the own database.

        Returns:
            Accepted per new block, then at most one HeadChanged; nothing for a known block.

        Raises:
            InvalidBlock: it breaks a rule; these bytes are not looked at again.
            UnknownParent: it is kept as an orphan until the parent comes.
            StaleBlock: it forks off below what is kept.
            FutureBlock: it is not kept; offer it again at `ready_at_ms`.
        """
        if self.has(block.block_id):
            return ()
        if block.fingerprint in self._bad:
            raise InvalidBlock("these bytes were found bad before")
        self._check_time(block.sealed, now_ms)
        self._check_depth(block.sealed)
        if block.prev not in self._nodes:
            self._adopt(block)
            raise UnknownParent(block.prev)
        old = self._best
        accepted = [self._insert(block, verify_seals)]
        waiting = [block.block_id]
        while waiting:
            for orphan in self._orphans.release(waiting.pop()):
                try:
                    accepted.append(self._insert(orphan, verify_seals=True))
                except InvalidError:
                    continue  # remembered as bad; its sender is not the one who is talking to us now
                waiting.append(orphan.block_id)
        changed = self._head_changed(old)
        self._prune()
        return (*accepted, *changed)

    def _node(self, block_id: bytes) -> _Node:
        node = self._nodes.get(block_id)
        if node is None:
            raise UnknownBlock(f"block {block_id.hex()[:16]} is not kept")
        return node

    def _check_time(self, sealed: SealedHeader, now_ms: int) -> None:
        slot_of(self._best.state, sealed.timestamp_ms)
        ready = self.ready_at_ms(sealed)
        if now_ms < ready:
            raise FutureBlock(ready)

    def _check_depth(self, sealed: SealedHeader) -> None:
        if sealed.prev not in self._nodes and (
            sealed.prev in self._height_of or sealed.height <= self._lowest
        ):
            raise StaleBlock(f"the block forks off below height {self._lowest}")

    def _adopt(self, block: Block) -> None:
        """Keep an orphan if a validator really sealed it; otherwise anybody could fill the pool."""
        sealed = block.sealed
        message = seal_message(self.genesis.chain_id, sealed.block_id)
        known = self._best.state.weights.get(sealed.proposer) is not None
        if not known or not sealed.path_ok() or not verify(sealed.proposer, message, sealed.seal):
            self._bad.put(block.fingerprint, True)
            raise InvalidBlock("an orphan that no validator sealed")
        self._orphans.add(block)

    def _output(self, parent: State, sealed: SealedHeader, *, verify_seals: bool) -> bytes:
        key = H("sealed", sealed.encoded)
        beta = self._outputs.get(key)
        if beta is None:
            beta = check_sealed(parent, sealed, verify_seals=verify_seals)
            self._outputs.put(key, beta)
        return beta

    def _insert(self, block: Block, verify_seals: bool) -> Accepted:
        parent = self._nodes[block.prev]
        try:
            beta = self._output(parent.state, block.sealed, verify_seals=verify_seals)
            state = apply_body(parent.state, block, beta)
        except InvalidError:
            self._bad.put(block.fingerprint, True)
            raise
        weight = parent.head.weight + (parent.state.weights.total >> block.sealed.rank)
        head = Head(block.block_id, state.height, state.slot, weight, block.sealed)
        node = _Node(block, state, head, (-weight, block.sealed.rank, H("tie", beta), head.id))
        self._nodes[head.id] = node
        self._by_height.setdefault(head.height, set()).add(head.id)
        self._sealed_by[block.sealed.proposer, block.sealed.timestamp_ms] += 1
        if node.preference < self._best.preference:
            self._best = node
        return Accepted(block, state)

    def _head_changed(self, old: _Node) -> tuple[HeadChanged, ...]:
        new = self._best
        if new is old:
            return ()
        reverted: list[Block] = []
        applied: list[Block] = []
        left, right = old, new
        while left is not right:
            if left.head.height >= right.head.height and left.block is not None:
                reverted.append(left.block)
                left = self._nodes[left.block.prev]
            elif right.block is not None:
                applied.append(right.block)
                right = self._nodes[right.block.prev]
        for block in reverted:
            del self._height_of[block.block_id]
        del self._canonical[left.head.height + 1 :]
        applied.reverse()
        for block in applied:
            self._height_of[block.block_id] = block.height
            self._canonical.append(block.block_id)
        return (HeadChanged(old.head, new.head, tuple(reverted), tuple(applied)),)

    def _prune(self) -> None:
        """Forget what lies too deep, and every branch that lost its root by that."""
        while self._lowest < self.head.height - self._keep:
            for block_id in self._by_height.pop(self._lowest):
                self._forget(block_id)
            self._lowest += 1
            stale = self._by_height[self._lowest] - {self._canonical[self._lowest]}
            height = self._lowest
            while stale:
                self._by_height[height] -= stale
                for block_id in stale:
                    self._forget(block_id)
                height += 1
                stale = {i for i in self._by_height.get(height, set()) if self._parent_of(i) in stale}

    def _parent_of(self, block_id: bytes) -> bytes | None:
        block = self._nodes[block_id].block
        return block.prev if block else None

    def _forget(self, block_id: bytes) -> None:
        block = self._nodes.pop(block_id).block
        if block is not None:
            key = (block.sealed.proposer, block.sealed.timestamp_ms)
            self._sealed_by[key] -= 1
            if not self._sealed_by[key]:
                del self._sealed_by[key]
