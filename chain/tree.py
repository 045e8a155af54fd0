"""The kept blocks as a tree, and the best branch through it; `chain.forkchoice` says which that is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from chain.errors import UnknownBlock
from chain.evidence import TwoSeals
from chain.ghost import Preference
from chain.header import SealedHeader
from chain.state import State
from chain.types import Block


@dataclass(frozen=True, slots=True)
class Head:
    """The tip of the chain. At genesis `sealed` is None and the id is the chain id."""

    id: bytes
    height: int
    slot: int
    weight: int
    sealed: SealedHeader | None


@dataclass(frozen=True, slots=True)
class Node:
    """A kept block and the state after it.

    Args:
        preference: orders blocks by weight, rank, VRF output and id; smaller is better.
        content_slot: slot of the latest block, of this one and its ancestors, with content (`chain.content`).
    """

    block: Block | None
    state: State
    head: Head
    preference: Preference
    content_slot: int = 0


class BlockTree:
    """Kept blocks by id, and the ids of the whole best branch.

    Args:
        root: the genesis, or the final block that this tree begins with.
        below: ids of the best branch right below the root, ascending, as far as they are known.
    """

    def __init__(self, root: Node, below: Sequence[bytes] = ()) -> None:
        self.nodes: dict[bytes, Node] = {root.head.id: root}
        self.children: dict[bytes, set[bytes]] = {}
        height = root.head.height
        self.known_from = height - len(below)
        """Height from which on the ids of the best branch are known."""
        self._canonical: list[bytes] = [*below, root.head.id]
        self.height_of: dict[bytes, int] = {
            block_id: self.known_from + place for place, block_id in enumerate(self._canonical)
        }
        self.lowest = height
        """Height of the deepest blocks that are kept."""
        self.final_height = height
        """Height below and at which only the best branch is kept."""
        self._by_height: dict[int, set[bytes]] = {height: {root.head.id}}
        self._sealed_by: dict[tuple[bytes, int], list[SealedHeader]] = {}
        self.equivocations: dict[bytes, TwoSeals] = {}
        """For each proposer that sealed two blocks for a slot, the two."""

    def node(self, block_id: bytes) -> Node:
        """A kept block. Raises UnknownBlock."""
        node = self.nodes.get(block_id)
        if node is None:
            raise UnknownBlock(f"block {block_id.hex()[:16]} is not kept")
        return node

    def canonical(self, height: int) -> bytes | None:
        """The id at that height of the best branch; None above it and where it is not known."""
        place = height - self.known_from
        return self._canonical[place] if 0 <= place < len(self._canonical) else None

    def ancestors(self, block_id: bytes) -> Iterator[Block]:
        """The block and its kept ancestors, newest first. Raises UnknownBlock."""
        node: Node | None = self.node(block_id)
        while node is not None and node.block is not None:
            yield node.block
            node = self.nodes.get(node.block.prev)

    def sealed_by(self, proposer: bytes, timestamp_ms: int) -> int:
        """How many kept blocks a proposer sealed for one slot."""
        return len(self._sealed_by.get((proposer, timestamp_ms), ()))

    def add(self, block: Block, node: Node) -> None:
        """Take a block whose parent is kept."""
        self.nodes[node.head.id] = node
        self.children.setdefault(block.prev, set()).add(node.head.id)
        self._by_height.setdefault(node.head.height, set()).add(node.head.id)
        sealed = block.sealed
        seals = self._sealed_by.setdefault((sealed.proposer, sealed.timestamp_ms), [])
        if seals:
            self.equivocations.setdefault(sealed.proposer, TwoSeals(seals[0], sealed))
        seals.append(sealed)

    def switch(self, old: Node, new: Node) -> tuple[tuple[Block, ...], tuple[Block, ...]]:
        """Make the branch of `new` the best one.

        Returns:
            The blocks that are no longer on it, newest first, and those that are now, oldest first.
        """
        reverted: list[Block] = []
        applied: list[Block] = []
        left, right = old, new
        while left is not right:
            if left.head.height >= right.head.height and left.block is not None:
                reverted.append(left.block)
                left = self.nodes[left.block.prev]
            elif right.block is not None:
                applied.append(right.block)
                right = self.nodes[right.block.prev]
        for block in reverted:
            del self.height_of[block.block_id]
        del self._canonical[left.head.height + 1 - self.known_from :]
        applied.reverse()
        for block in applied:
            self.height_of[block.block_id] = block.height
            self._canonical.append(block.block_id)
        return tuple(reverted), tuple(applied)

    def finalize(self, height: int) -> None:
        """Forget every branch that leaves the best one below `height`."""
        while self.final_height < height:
            self.final_height += 1
            self._drop_siblings(self.final_height)

    def prune(self, lowest: int) -> None:
        """Forget everything below the height `lowest`, but for what may still be forked from."""
        while self.lowest < min(lowest, self.final_height):
            for block_id in self._by_height.pop(self.lowest):
                self._forget(block_id)
            self.lowest += 1

    def _drop_siblings(self, height: int) -> None:
        """Forget all blocks of that height but the best branch's, and what is built on them."""
        stale = self._by_height[height] - {self.canonical(height)}
        while stale:
            self._by_height[height] -= stale
            for block_id in stale:
                self._forget(block_id)
            height += 1
            stale = {i for i in self._by_height.get(height, set()) if self._parent_of(i) in stale}

    def _parent_of(self, block_id: bytes) -> bytes | None:
        block = self.nodes[block_id].block
        return block.prev if block else None

    def _forget(self, block_id: bytes) -> None:
        block = self.nodes.pop(block_id).block
        self.children.pop(block_id, None)
        if block is not None:
            self.children.get(block.prev, set()).discard(block_id)
            key = (block.sealed.proposer, block.sealed.timestamp_ms)
            self._sealed_by[key].remove(block.sealed)
            if not self._sealed_by[key]:
                del self._sealed_by[key]
