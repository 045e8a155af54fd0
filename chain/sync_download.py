"""One download of `chain.sync`: the headers that its leader gives, their bodies, what has been executed."""

from __future__ import annotations

from collections.abc import Sequence

from chain.body_window import BodyWindow
from chain.errors import InvalidBlock, UnknownBlock
from chain.forkchoice import Chain
from chain.header import SealedHeader
from chain.header_chain import MAX_AHEAD, HeaderChain
from chain.state import State
from chain.sync_messages import MAX_HEADERS, GetHeaders, Status
from chain.types import Block

IMPORT_BLOCKS = 32
IMPORT_BYTES = 4 * 1024 * 1024
"""One `Import` has at most so many blocks and bytes, but one block at least."""
MAX_IMPORTS = 2
"""Batches that the chain may have before it: one that it executes, one whose signatures are checked."""


class Download:
    """What one peer's claim leads to.

    Args:
        leader: gives the headers.
        claim: what it claimed when this began.
        max_block: bytes of the largest block of this chain.
    """

    def __init__(self, leader: str, claim: Status, max_block: int) -> None:
        self.leader, self.claim = leader, claim
        self.led = True
        """Whether the leader is still there to ask."""
        self.asking = False
        """Whether it is being asked for headers."""
        self.complete = False
        """Whether there are no more headers to come."""
        self.lost = False
        """Whether a block did not get into the tree, though nobody is to blame for that."""
        self._max_block = max_block
        self.window = BodyWindow(max_block)
        self._headers: HeaderChain | None = None
        self._executed = b""
        self._top = 0
        self._imports: list[int] = []

    # -- headers ---------------------------------------------------------------------------------------

    @property
    def tip(self) -> bytes | None:
        """The last header that came."""
        return None if self._headers is None else self._headers.tip

    def reach(self, peer: str) -> int:
        """The height up to which a peer gave headers, and so should have the bodies."""
        return self._top if peer == self.leader else 0

    def wants_headers(self) -> bool:
        """Whether the leader should be asked for the next headers."""
        ahead = len(self.window) + (0 if self._headers is None else len(self._headers))
        return self.led and not self.asking and not self.complete and ahead + MAX_HEADERS <= MAX_AHEAD

    def on_headers(self, request: GetHeaders, headers: Sequence[SealedHeader], chain: Chain) -> None:
        """The leader's answer.

        Raises:
            InvalidBlock: no honest peer gives these headers.
        """
        self.asking = False
        if not headers:
            self.complete = True
            return
        if headers[0].prev != self.tip and not self._begin(request, headers, chain):
            return
        decided = _state(chain, self._executed)
        if self._headers is None or decided is None:
            self.complete = self.lost = True  # what was executed on this branch is not kept any more
            return
        self._headers.extend(headers, decided)
        self._top = self._headers.height
        self.complete = any(sealed.block_id == self.claim.head for sealed in headers)

    def _begin(self, request: GetHeaders, headers: Sequence[SealedHeader], chain: Chain) -> bool:
        """Take up a chain that begins at another block of ours; False if there is nothing in it."""
        if headers[0].prev not in request.locator:
            raise InvalidBlock("the headers do not follow a block that was named")
        anchor = _state(chain, headers[0].prev)
        # A leader that took another branch meanwhile gives new headers; the same over and over lead nowhere.
        if anchor is None or headers[-1].height <= self._top:
            self.complete = True
            return False
        self.window = BodyWindow(self._max_block)
        self._headers = HeaderChain(anchor)
        self._executed = anchor.block_id
        self._imports = []
        return True

    # -- blocks ----------------------------------------------------------------------------------------

    def fill(self, chain: Chain) -> None:
        """Move headers into the window, past blocks that are here already."""
        while self._headers is not None and len(self._headers) and self.window.room:
            sealed = self._headers.take()
            if chain.has(sealed.block_id) and not len(self.window) and not self._imports:
                self._executed = sealed.block_id
            else:
                self.window.add(sealed)

    def next_import(self, batch_id: int) -> tuple[Block, ...]:
        """The next blocks to execute, if there are any and the chain can take them."""
        if len(self._imports) >= MAX_IMPORTS:
            return ()
        blocks = self.window.take(IMPORT_BLOCKS, IMPORT_BYTES)
        if blocks:
            self._imports.append(batch_id)
        return blocks

    def imported(self, batch_id: int, last: bytes, chain: Chain) -> None:
        """The blocks up to `last` have been given to the chain, and none of them is invalid."""
        if batch_id not in self._imports:
            return
        self._imports.remove(batch_id)
        if chain.has(last):
            self._executed = last
        else:
            self.lost = True

    @property
    def over(self) -> bool:
        """Whether all that can come of this has come."""
        waiting = len(self.window) + len(self._imports) + (0 if self._headers is None else len(self._headers))
        return self.lost or (not waiting and not self.asking and (self.complete or not self.led))

    @property
    def stuck(self) -> bool:
        """Whether the next body is missing, nobody is asked for any, and nothing is being executed."""
        return self.window.stuck and not self._imports


def _state(chain: Chain, block_id: bytes) -> State | None:
    try:
        return chain.state(block_id)
    except UnknownBlock:
        return None
