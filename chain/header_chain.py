"""A chain of sealed headers that a peer gave, checked as far as headers can be checked without bodies.

Each header alone: height and parent follow the one before, the timestamp is a slot's and later than the
parent's, the rank exists, leaf 0 lies under the header's root, and the proposer that it names sealed it.
Beside that, whatever the newest executed block on the way decides about it: the weight table is fixed for
`LOOKAHEAD` epochs from that block's on, and the draw's seed for its own epoch and the next. Within that reach
only who was drawn can make a header. The state roots, the VRF proofs, and everything beyond the reach, are
checked when the bodies are executed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from chain import lottery, selection
from chain.errors import InvalidBlock
from chain.genesis import Genesis
from chain.header import SealedHeader
from chain.state import State
from chain.tables import LOOKAHEAD

MAX_AHEAD = 1024
"""Headers that are kept beyond the executed blocks."""


@dataclass(frozen=True, slots=True)
class _Tip:
    id: bytes
    height: int
    slot: int


class HeaderChain:
    """Headers in order, from a block that is here: added at the end, taken from the front.

    Args:
        anchor: the state of the block that the first header follows.
    """

    def __init__(self, anchor: State) -> None:
        self._genesis = anchor.genesis
        self._tip = _Tip(anchor.block_id, anchor.height, anchor.slot)
        self._waiting: deque[SealedHeader] = deque()

    @property
    def tip(self) -> bytes:
        """The id of the last header; the anchor's at first."""
        return self._tip.id

    @property
    def height(self) -> int:
        """Of the last header."""
        return self._tip.height

    def __len__(self) -> int:
        return len(self._waiting)

    def extend(self, headers: Sequence[SealedHeader], decided: State) -> None:
        """Add headers, all or none.

        Args:
            decided: the state of an ancestor of them, the newest that there is.

        Raises:
            InvalidBlock: one breaks a rule.
        """
        tip = self._tip
        for sealed in headers:
            tip = _follow(tip, sealed, self._genesis)
            check_decided(decided, sealed, tip.slot)
        self._tip = tip
        self._waiting.extend(headers)

    def take(self) -> SealedHeader:
        """The first header. Raises IndexError when there is none."""
        return self._waiting.popleft()


def _follow(tip: _Tip, sealed: SealedHeader, genesis: Genesis) -> _Tip:
    """What a header is by itself. Raises InvalidBlock."""
    if sealed.prev != tip.id or sealed.height != tip.height + 1:
        raise InvalidBlock("the header does not follow the one before")
    since = sealed.timestamp_ms - genesis.time_ms
    slot, off = divmod(since, genesis.params.slot_ms)
    if off or slot <= tip.slot:
        raise InvalidBlock(f"the header's timestamp {sealed.timestamp_ms} is not that of a later slot")
    if sealed.rank >= genesis.params.ranks:
        raise InvalidBlock(f"rank {sealed.rank} does not exist")
    if not sealed.path_ok():
        raise InvalidBlock("leaf 0 is not under the header's root")
    if not sealed.seal_ok(genesis.chain_id):
        raise InvalidBlock("the seal is not the proposer's")
    return _Tip(sealed.block_id, sealed.height, slot)


def seed_decided(state: State, epoch: int) -> bool:
    """Whether this state already decides the draw of an epoch, for every block that follows it."""
    return epoch <= max(state.epoch + 1, 2)


def table_decided(state: State, epoch: int) -> bool:
    """The same of the weight table."""
    return epoch < state.epoch + LOOKAHEAD


def check_decided(state: State, sealed: SealedHeader, slot: int) -> None:
    """Check a later block's header by what the state of its ancestor already decides. Raises InvalidBlock."""
    epoch = slot // state.genesis.params.slots_per_epoch
    if not table_decided(state, epoch):
        return
    table = state.table(epoch)
    if table.get(sealed.proposer) is None:
        raise InvalidBlock("the proposer is no validator in that epoch")
    if sealed.header.target != lottery.target(table.total):
        raise InvalidBlock("the target is not that of the weight table")
    if not seed_decided(state, epoch):
        return
    if selection.rank_of(sealed.proposer, state, slot, sealed.rank + 1) != sealed.rank:
        raise InvalidBlock(f"the proposer was not drawn for rank {sealed.rank} of slot {slot}")
