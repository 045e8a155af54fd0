"""A piece on its way: its bytes so far, which blocks are free, who was asked, who sent what."""

from __future__ import annotations

from collections.abc import Iterator

from torrent.geometry import BLOCK, Block


class Partial:
    """Blocks of ``BLOCK`` bytes each, the last one shorter.

    ``solo``: the only peer that may give this piece (after it failed once from several), so that its
    next failure has one culprit.
    """

    __slots__ = (
        "_askers",
        "_free",
        "_is_free",
        "data",
        "index",
        "left",
        "senders",
        "size",
        "solo",
        "unasked",
    )

    def __init__(self, index: int, size: int, solo: str | None = None) -> None:
        count = -(-size // BLOCK)
        self.index = index
        self.size = size
        self.solo = solo
        self.data = bytearray(size)
        self.left = count
        """Blocks that have not arrived."""
        self.unasked = count
        """Blocks that nobody is asked for and that have not arrived."""
        self.senders: list[str | None] = [None] * count
        self._askers: dict[int, set[str]] = {}
        # a stack in front of the truth in _is_free: entries that are stale are skipped when they surface
        self._free = list(range(count - 1, -1, -1))
        self._is_free = bytearray(b"\x01" * count)

    def allows(self, peer: str) -> bool:
        return self.solo is None or self.solo == peer

    @property
    def idle(self) -> bool:
        """Nobody is asked for any of it."""
        return not self._askers

    def take(self, peer: str) -> Block | None:
        """The next block to ask ``peer`` for, now asked; ``None`` when all are asked or here."""
        while self._free:
            number = self._free.pop()
            if self._is_free[number]:
                self._is_free[number] = 0
                self.unasked -= 1
                self._askers[number] = {peer}
                return self._block(number)
        return None

    def take_again(self, peer: str, most: int) -> Iterator[Block]:
        """Blocks that others, but fewer than ``most``, are asked for; each is now asked of ``peer`` too."""
        for number, askers in self._askers.items():
            if peer not in askers and len(askers) < most:
                askers.add(peer)
                yield self._block(number)

    def release(self, peer: str, begin: int) -> None:
        """``peer`` will not send the block."""
        number = begin // BLOCK
        askers = self._askers.get(number)
        if askers is None or peer not in askers:
            return
        askers.discard(peer)
        if not askers:
            del self._askers[number]
            self._free.append(number)
            self._is_free[number] = 1
            self.unasked += 1

    def accept(
        self, peer: str, block: Block, data: bytes | memoryview
    ) -> tuple[int, list[tuple[str, Block]]]:
        """Store a block, or neighbours that came as one. Returns how many bytes were needed, and the other
        peers that were asked for them, each with the block that it need not send any more.
        """
        needed, others = 0, list[tuple[str, Block]]()
        if not self._is_cut_well(block) or not self.allows(peer):
            return needed, others
        view, at = memoryview(data), block.begin
        for number in range(at // BLOCK, -(-(at + block.length) // BLOCK)):
            if self.senders[number] is not None:
                continue
            begin = number * BLOCK
            part = view[begin - at : begin - at + BLOCK]
            self.data[begin : begin + len(part)] = part
            needed += len(part)
            self.senders[number] = peer
            self.left -= 1
            if self._is_free[number]:
                self._is_free[number] = 0
                self.unasked -= 1
            askers = self._askers.pop(number, None)
            if askers is not None and askers != {peer}:  # a set's order differs from process to process
                others += [(other, self._block(number)) for other in sorted(askers - {peer})]
        return needed, others

    def _is_cut_well(self, block: Block) -> bool:
        """Whether it begins and ends where blocks do."""
        end = block.begin + block.length
        return not block.begin % BLOCK and (not end % BLOCK or end == self.size)

    def sources(self) -> set[str]:
        return {sender for sender in self.senders if sender is not None}

    def received(self) -> Iterator[tuple[str, memoryview]]:
        """Sender and bytes of every block that is here."""
        view = memoryview(self.data)
        for number, sender in enumerate(self.senders):
            if sender is not None:
                yield sender, view[number * BLOCK : (number + 1) * BLOCK]

    def _block(self, number: int) -> Block:
        begin = number * BLOCK
        return Block(self.index, begin, min(BLOCK, self.size - begin))
