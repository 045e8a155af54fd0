"""Blocks that came before their parents, bounded in number and bytes; the oldest leave first."""

from __future__ import annotations

from chain.types import Block

MAX_ORPHANS = 256
MAX_BYTES = 32 * 1024 * 1024


class Orphans:
    """Waiting blocks by the id of the parent they wait for."""

    def __init__(self, max_blocks: int = MAX_ORPHANS, max_bytes: int = MAX_BYTES) -> None:
        self._max_blocks = max_blocks
        self._max_bytes = max_bytes
        self._bytes = 0
        self._blocks: dict[bytes, Block] = {}
        self._children: dict[bytes, dict[bytes, None]] = {}

    def __len__(self) -> int:
        return len(self._blocks)

    def add(self, block: Block) -> None:
        """Keep a block. Keyed by its full bytes: a poisoned body must not keep the true one out."""
        key = block.fingerprint
        if key in self._blocks or len(block.encoded) > self._max_bytes:
            return
        self._blocks[key] = block
        self._children.setdefault(block.prev, {})[key] = None
        self._bytes += len(block.encoded)
        while len(self._blocks) > self._max_blocks or self._bytes > self._max_bytes:
            self._remove(next(iter(self._blocks)))

    def release(self, parent: bytes) -> tuple[Block, ...]:
        """Take out the blocks that waited for `parent`."""
        keys = tuple(self._children.get(parent, ()))
        return tuple(self._remove(key) for key in keys)

    def parents(self) -> tuple[bytes, ...]:
        """Parents that are waited for and are not waiting themselves."""
        waiting = {block.block_id for block in self._blocks.values()}
        return tuple(parent for parent in self._children if parent not in waiting)

    def _remove(self, key: bytes) -> Block:
        block = self._blocks.pop(key)
        self._bytes -= len(block.encoded)
        siblings = self._children[block.prev]
        del siblings[key]
        if not siblings:
            del self._children[block.prev]
        return block
