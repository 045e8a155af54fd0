"""The bodies of the next blocks of a header chain, fetched from many peers at once and given on in order.

A window slides over the headers: whatever lies in it is asked for in batches, from every peer that claims
to have it, the first blocks first. A peer has one batch under way at first, and one more after each that came
in time. A batch that is late is asked of an idle peer beside it; whichever answer is first counts. A body is
taken if it is the one under its header's root: so who sends another is to blame for it, and nobody else.
Times are seconds of any monotonic clock.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice

from chain.bodies import join, without_body
from chain.errors import InvalidBlock
from chain.header import SealedHeader
from chain.sync_messages import BODIES_BYTES, MAX_BODIES
from chain.types import Block

WINDOW = 256
"""Blocks in the window."""
WINDOW_BYTES = 32 * 1024 * 1024
"""Beyond so many bytes, waiting or asked for, only the first block that is missing is asked for."""
IN_FLIGHT = 3
"""Batches that one peer is asked for at one time, at most."""
MAX_FLIGHT = 16
"""The same of all peers."""
LATE_S = 3.0
"""Seconds after which a batch is asked for elsewhere too."""
MAX_ASKED = 2
"""Peers that are asked for one body at one time."""

Send = Callable[[str, tuple[bytes, ...]], int]


@dataclass(frozen=True, slots=True)
class Source:
    """A peer, and the lowest and highest height whose bodies it claims to have."""

    peer: str
    lowest: int
    height: int

    def claims(self, height: int) -> bool:
        """Whether it claims to have a block of that height."""
        return self.lowest <= height <= self.height


@dataclass(slots=True)
class _Place:
    sealed: SealedHeader
    block: Block | None
    asked: dict[str, bool] = field(default_factory=dict)
    """Who is asked for it, and whether that peer is late."""

    @property
    def open(self) -> bool:
        """Whether somebody should be asked for it now."""
        return self.block is None and len(self.asked) < MAX_ASKED and all(self.asked.values())


@dataclass(slots=True)
class _Batch:
    peer: str
    ids: tuple[bytes, ...]
    late_at: float
    late: bool = False


class BodyWindow:
    """The window of one download.

    Args:
        max_block: bytes of the largest block of this chain.
    """

    def __init__(self, max_block: int) -> None:
        self._max_block = max_block
        self._places: dict[bytes, _Place] = {}
        self._batches: dict[int, _Batch] = {}
        self._bytes = 0
        self._allowed: dict[str, int] = {}
        """Batches that a peer may have under way."""
        self.lacking: set[str] = set()
        """Peers that said that they do not have a body of this chain."""

    def __len__(self) -> int:
        return len(self._places)

    @property
    def room(self) -> int:
        """How many more headers fit."""
        return WINDOW - len(self._places)

    @property
    def first(self) -> SealedHeader | None:
        """The header of the next block to be given on."""
        return next((place.sealed for place in self._places.values()), None)

    @property
    def stuck(self) -> bool:
        """Whether the first body is missing, and nobody who could have it next is busy with others."""
        place = next(iter(self._places.values()), None)
        return place is not None and place.block is None and not self._batches

    def add(self, sealed: SealedHeader) -> None:
        """The next header; an empty body needs no question."""
        block = without_body(sealed)
        self._places[sealed.block_id] = _Place(sealed, block)
        self._bytes += 0 if block is None else len(block.encoded)

    def take(self, max_blocks: int, max_bytes: int) -> tuple[Block, ...]:
        """The next blocks in order, as far as they are complete; one at least, if it is, however large."""
        taken: list[Block] = []
        size = 0
        for block in (place.block for place in self._places.values()):
            if block is None or len(taken) >= max_blocks or (taken and size + len(block.encoded) > max_bytes):
                break
            taken.append(block)
            size += len(block.encoded)
        for block in taken:
            del self._places[block.block_id]
        self._bytes -= size
        return tuple(taken)

    # -- asking ----------------------------------------------------------------------------------------

    def ask(self, sources: Sequence[Source], now: float, send: Send) -> None:
        """Ask for what is missing.

        Args:
            sources: peers that may be asked, the preferred ones first among equally busy ones.
            send: asks a peer for the bodies of these blocks, and returns the number of the request.
        """
        self._mark_late(now)
        while len(self._batches) < MAX_FLIGHT:
            found = self._next(sources)
            if found is None:
                return
            peer, ids = found
            batch = self._batches[send(peer, ids)] = _Batch(peer, ids, now + LATE_S)
            for place in self._of(batch):
                place.asked[peer] = False

    def _mark_late(self, now: float) -> None:
        for batch in self._batches.values():
            if batch.late_at <= now and not batch.late:
                batch.late = True
                self._allowed[batch.peer] = 1
                for place in self._of(batch):
                    place.asked[batch.peer] = True

    def _next(self, sources: Sequence[Source]) -> tuple[str, tuple[bytes, ...]] | None:
        """Whom to ask for which bodies."""
        busy = Counter(batch.peer for batch in self._batches.values())
        free = [
            source
            for source in sources
            if source.peer not in self.lacking and busy[source.peer] < self._allowed.get(source.peer, 1)
        ]
        free.sort(key=lambda source: busy[source.peer])
        full = self._bytes + len(self._batches) * BODIES_BYTES >= WINDOW_BYTES
        for place in islice(self._places.values(), 1 if full else None):
            if free and place.open:
                source = _able(free, place, busy)
                if source is not None:
                    return source.peer, self._batch(source, place)
        return None

    def _batch(self, source: Source, first: _Place) -> tuple[bytes, ...]:
        ids: list[bytes] = []
        for block_id, place in self._places.items():
            fits = source.claims(place.sealed.height) and source.peer not in place.asked
            alike = place.open and bool(place.asked) == bool(first.asked)
            if fits and alike and place.sealed.height >= first.sealed.height:
                ids.append(block_id)
                if len(ids) == MAX_BODIES:
                    break
        return tuple(ids)

    # -- answers ---------------------------------------------------------------------------------------

    def came(self, request: int, bodies: Sequence[bytes]) -> None:
        """An answer.

        Raises:
            InvalidBlock: a body is not the one under its header's root, or nobody asked for so many.
        """
        batch = self._release(request)
        if batch is None:
            return
        if not 0 < len(bodies) <= len(batch.ids):
            raise InvalidBlock(f"{len(bodies)} bodies where {len(batch.ids)} were asked for")
        if not batch.late:
            self._allowed[batch.peer] = min(self._allowed.get(batch.peer, 1) + 1, IN_FLIGHT)
        for block_id, data in zip(batch.ids, bodies, strict=False):
            place = self._places.get(block_id)
            if not data:
                self.lacking.add(batch.peer)
            elif place is not None and place.block is None:
                place.block = join(place.sealed, data, self._max_block)
                if place.block is None:
                    raise InvalidBlock("a body that is not the one under the header's root")
                self._bytes += len(place.block.encoded)

    def failed(self, request: int) -> None:
        """A request came to nothing: ask elsewhere."""
        batch = self._release(request)
        if batch is not None:
            self._allowed[batch.peer] = 1

    def forget(self, peer: str) -> None:
        """A peer is gone."""
        for request in [number for number, batch in self._batches.items() if batch.peer == peer]:
            self._release(request)

    def deadline(self) -> float | None:
        """When a batch is late; None if none is under way."""
        return min((batch.late_at for batch in self._batches.values() if not batch.late), default=None)

    def _release(self, request: int) -> _Batch | None:
        batch = self._batches.pop(request, None)
        if batch is not None:
            for place in self._of(batch):
                place.asked.pop(batch.peer, None)
        return batch

    def _of(self, batch: _Batch) -> list[_Place]:
        """The places of a batch that are still in the window."""
        return [self._places[block_id] for block_id in batch.ids if block_id in self._places]


def _able(free: Sequence[Source], place: _Place, busy: Counter[str]) -> Source | None:
    """The first of the free sources that may be asked for this body."""
    for source in free:
        # Who is to overtake another has to be idle: where our own line is slow, everybody is late.
        overtakes = not place.asked or not busy[source.peer]
        if source.claims(place.sealed.height) and source.peer not in place.asked and overtakes:
            return source
    return None
