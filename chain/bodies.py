"""Fetching the bodies of blocks whose sealed headers have passed, as a state machine: whom to ask, and when.

One source at a time; a further one is asked when it says that it has nothing, sends something else, or
keeps us waiting. When all have failed, the block is left to `chain.sync`. A body is taken when it is the one
under the header's root: whether its transactions hold is for `Chain.on_block`.

On the wire, `/p2pml/body/1.0.0`: a request is the block's id, an answer the encoded body, empty for none.
Times are seconds of any monotonic clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from chain.errors import InvalidError
from chain.header import SealedHeader
from chain.types import MAX_BLOCK_BYTES, PAIR_BYTES, Block, Body

PROTOCOL = "/p2pml/body/1.0.0"
SOURCE_S = 5.0
"""Seconds that one source has."""
HEDGE_S = 1.0
"""Seconds after which another one is asked beside it."""
MAX_PARALLEL = 3
MAX_SOURCES = 8
MAX_WANTED = 32
"""Bodies fetched at one time."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A sealed header has passed; `sources` may have its body, likeliest first."""

    sealed: SealedHeader
    sources: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class BodyCame:
    """A source's answer; empty if it has nothing."""

    peer: str
    block_id: bytes
    data: bytes


@dataclass(frozen=True, slots=True)
class BodyFailed:
    """A source did not answer."""

    peer: str
    block_id: bytes


@dataclass(frozen=True, slots=True)
class Found:
    """The block came another way."""

    block_id: bytes


@dataclass(frozen=True, slots=True)
class FetchBody:
    """Ask `peer`, within `SOURCE_S`; tell `BodyCame` or `BodyFailed`."""

    peer: str
    block_id: bytes


@dataclass(frozen=True, slots=True)
class Assembled:
    """A header has its body."""

    block: Block
    peer: str


@dataclass(frozen=True, slots=True)
class Lied:
    """A source sent what is not the body under the header's root."""

    peer: str
    reason: str


@dataclass(frozen=True, slots=True)
class GaveUp:
    """Nobody who was asked had the body."""

    block_id: bytes
    sources: tuple[str, ...]


Event = Wanted | BodyCame | BodyFailed | Found
Effect = FetchBody | Assembled | Lied | GaveUp


@dataclass(slots=True)
class _Hunt:
    sealed: SealedHeader
    sources: tuple[str, ...]
    left: list[str]
    asked: dict[str, float] = field(default_factory=dict)
    """Who is being asked, and until when."""
    hedge_at: float = 0.0


class Bodies:
    """The machine. One owner.

    Args:
        max_bytes: of the largest body of this chain.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_block = min(MAX_BLOCK_BYTES, max_bytes + 4096)
        self._hunts: dict[bytes, _Hunt] = {}

    def wants(self, block_id: bytes) -> bool:
        """Whether the body of this block is being fetched."""
        return block_id in self._hunts

    def receive(self, event: Event, now: float) -> list[Effect]:
        """Take an event and say what to do."""
        match event:
            case Wanted():
                return self._begin(event, now)
            case BodyCame():
                return self._came(event, now)
            case BodyFailed():
                return self._failed(event.peer, event.block_id, now)
            case Found():
                self._hunts.pop(event.block_id, None)
                return []

    def tick(self, now: float) -> list[Effect]:
        """Let time pass: sources run late."""
        effects: list[Effect] = []
        for block_id, hunt in tuple(self._hunts.items()):
            for peer, until in tuple(hunt.asked.items()):
                if until <= now:
                    effects += self._failed(peer, block_id, now)
            if hunt.left and hunt.hedge_at <= now and len(hunt.asked) < MAX_PARALLEL:
                effects += self._ask(hunt, now)
        return effects

    def deadline(self) -> float | None:
        """When `tick` has something to do; None if never."""
        times = [until for hunt in self._hunts.values() for until in hunt.asked.values()]
        times += [
            hunt.hedge_at
            for hunt in self._hunts.values()
            if hunt.left and len(hunt.asked) < MAX_PARALLEL
        ]  # fmt: skip
        return min(times, default=None)

    def _begin(self, event: Wanted, now: float) -> list[Effect]:
        block_id = event.sealed.block_id
        sources = tuple(dict.fromkeys(event.sources))[:MAX_SOURCES]
        if block_id in self._hunts:
            return []
        if len(self._hunts) >= MAX_WANTED or not sources:
            return [GaveUp(block_id, sources)]
        hunt = self._hunts[block_id] = _Hunt(event.sealed, sources, list(sources))
        return self._ask(hunt, now)

    def _ask(self, hunt: _Hunt, now: float) -> list[Effect]:
        peer = hunt.left.pop(0)
        hunt.asked[peer], hunt.hedge_at = now + SOURCE_S, now + HEDGE_S
        return [FetchBody(peer, hunt.sealed.block_id)]

    def _failed(self, peer: str, block_id: bytes, now: float) -> list[Effect]:
        """One source less; ask the next, or give up with the last."""
        hunt = self._hunts.get(block_id)
        if hunt is None or hunt.asked.pop(peer, None) is None:
            return []
        if hunt.left:
            return self._ask(hunt, now)
        if hunt.asked:
            return []
        del self._hunts[block_id]
        return [GaveUp(block_id, hunt.sources)]

    def _came(self, event: BodyCame, now: float) -> list[Effect]:
        hunt = self._hunts.get(event.block_id)
        if hunt is None or event.peer not in hunt.asked:
            return []  # too late, or not asked
        if not event.data:
            return self._failed(event.peer, event.block_id, now)
        block = join(hunt.sealed, event.data, self._max_block)
        if block is None:
            return [
                Lied(event.peer, "a body that is not the one under the header's root"),
                *self._failed(event.peer, event.block_id, now),
            ]
        del self._hunts[event.block_id]
        return [Assembled(block, event.peer)]


def without_body(sealed: SealedHeader) -> Block | None:
    """The block, if its body is empty: then the header alone tells all. None otherwise."""
    block = Block(sealed, Body())
    return block if block.root_ok() else None


def body_of(encoded: bytes, sealed: SealedHeader) -> bytes:
    """The encoded body in an encoded block."""
    return encoded[PAIR_BYTES + len(sealed.encoded) :]


def join(sealed: SealedHeader, body: bytes, max_block: int) -> Block | None:
    """Header and encoded body as a block; None if these bytes are not the body under the header's root."""
    try:
        block = Block.join(sealed, body, max_block)
    except InvalidError:
        return None
    return block if block.root_ok() else None


def likely_sources(forwarder: str, origin: str, connected: Sequence[str]) -> tuple[str, ...]:
    """Whom to ask: who passed the header on, who published it if it is connected, then the others."""
    first = [peer for peer in (forwarder, origin) if peer in connected]
    return tuple(dict.fromkeys([*first, *connected]))
