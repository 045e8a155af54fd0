"""Catching up with the network, as a state machine: who to ask, for what, and whom to stop asking.

The machine asks every peer for its head now and then. When one claims a head that is not here, it downloads
that chain in batches, one batch at a time, first from the peer with the highest justified checkpoint, then
from the heaviest. A lighter head is worth having too, for the votes in its blocks may outweigh ours; one that
is justified less far than ours cannot win and is left alone, however heavy. Blocks that gossip
lacked are fetched one by one beside that. Peers that time out rest for a while; peers that lie (broken
links, invalid blocks, a claim that they cannot back up, undecodable bytes) are distrusted after three
strikes or at once.

The adapter sends `Ask` and answers with `Answered` or `Failed`; it gives the blocks of `Import` to
`Chain.on_block` in order, reports a changed head by `HeadIs` first, and then answers `Imported`.
Times are seconds of any monotonic clock.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from chain.errors import InvalidError
from chain.recent import Recent
from chain.sync_events import (
    TIMEOUT,
    Answered,
    Ask,
    Distrust,
    Effect,
    Event,
    Failed,
    HeadIs,
    Import,
    Imported,
    Missing,
    PeerJoined,
    PeerLeft,
    SyncState,
)
from chain.sync_messages import (
    MAX_BLOCKS,
    MAX_LOCATOR,
    Blocks,
    GetBlock,
    GetBlocks,
    GetStatus,
    Located,
    Request,
    Response,
    Status,
    answer,
    decode_request,
    decode_response,
    encode_request,
    encode_response,
    locate,
)
from chain.types import Block

__all__ = [
    "Answered", "Ask", "Blocks", "Distrust", "Effect", "Event", "Failed", "GetBlock", "GetBlocks",
    "GetStatus", "HeadIs", "Import", "Imported", "Located", "Missing", "PeerJoined", "PeerLeft",
    "Request", "Response", "Status", "Sync", "SyncState", "answer", "decode_request",
    "decode_response", "encode_request", "encode_response", "locate",
]  # fmt: skip

STATUS_EVERY = 10.0
"""Seconds between two questions for a peer's head."""
HINT_EVERY = 1.0
"""Seconds between two such questions when gossip hints that the peer is ahead."""
REST = 20.0
"""Seconds for which a peer that failed is not asked for blocks."""
MAX_STRIKES = 3
DISTRUST = 600.0
"""Seconds for which a liar is not asked anything, even if it reconnects."""
MAX_FETCHES = 8
"""Single blocks asked for at one time."""


@dataclass(slots=True)
class _Peer:
    status: Status | None = None
    asked_at: float = float("-inf")
    rests_until: float = float("-inf")
    strikes: int = 0


@dataclass(frozen=True, slots=True)
class _Pending:
    peer: str
    request: Request
    expires: float


@dataclass(frozen=True, slots=True)
class _Batch:
    peer: str
    last: bytes
    download: bool


@dataclass(slots=True)
class _Download:
    """The one running download: what the peer claimed when it began, and the last block it gave."""

    peer: str
    claim: Status
    last: bytes | None = None
    height: int = 0


@dataclass(slots=True)
class _Turn:
    """What one event leads to."""

    now: float
    effects: list[Effect] = field(default_factory=list)


class Sync:
    """The machine, of one owner.

    Args:
        chain_id: of the genesis.
        rng: breaks ties among peers with equal claims.
        known: whether a block is in our tree.
    """

    def __init__(self, chain_id: bytes, rng: random.Random, known: Callable[[bytes], bool]) -> None:
        self._chain_id = chain_id
        self._rng = rng
        self._known = known
        self._peers: dict[str, _Peer] = {}
        self._distrusted: Recent[str, float] = Recent(1024)
        self._pending: dict[int, _Pending] = {}
        self._batches: dict[int, _Batch] = {}
        self._download: _Download | None = None
        self._head: HeadIs | None = None
        self._counter = 0
        self._behind = 0

    # -- the machine's three doors ---------------------------------------------------------------------

    def receive(self, event: Event, now: float) -> list[Effect]:
        """Take an event and say what to do."""
        turn = _Turn(now)
        match event:
            case PeerJoined():
                if (self._distrusted.get(event.peer) or turn.now) <= turn.now:
                    self._peers.setdefault(event.peer, _Peer())
                    self._ask_status(event.peer, turn, STATUS_EVERY)
            case PeerLeft():
                self._drop(event.peer)
            case HeadIs():
                self._head = event
            case Missing():
                self._fetch(event, turn)
            case Answered():
                self._answered(event, turn)
            case Failed():
                self._failed(event.request_id, event.peer, turn)
            case Imported():
                self._imported(event, turn)
        return self._settle(turn)

    def tick(self, now: float) -> list[Effect]:
        """Let time pass: requests expire, heads are asked for again."""
        turn = _Turn(now)
        for request_id, pending in tuple(self._pending.items()):
            if pending.expires <= now:
                self._failed(request_id, pending.peer, turn)
        for peer in self._peers:
            self._ask_status(peer, turn, STATUS_EVERY)
        return self._settle(turn)

    def deadline(self) -> float | None:
        """When `tick` has something to do; None if never."""
        times = [pending.expires for pending in self._pending.values()]
        times += [peer.asked_at + STATUS_EVERY for peer in self._peers.values()]
        if self._download is None:
            times += [peer.rests_until for peer in self._peers.values() if self._promising(peer)]
        return min(times, default=None)

    # -- events ----------------------------------------------------------------------------------------

    def _answered(self, event: Answered, turn: _Turn) -> None:
        pending = self._pending.get(event.request_id)
        if pending is None or pending.peer != event.peer:
            return  # too late, or not asked: the request has been counted as failed
        del self._pending[event.request_id]
        try:
            response = decode_response(event.data)
            if isinstance(response, Status) and isinstance(pending.request, GetStatus):
                self._on_status(event.peer, response, turn)
            elif isinstance(response, Blocks) and not isinstance(pending.request, GetStatus):
                blocks = tuple(Block.decode(data) for data in response.blocks)
                self._on_blocks(event.peer, pending.request, blocks, turn)
            else:
                self._distrust(event.peer, "it answered another question", turn)
        except InvalidError as error:
            self._distrust(event.peer, f"undecodable answer: {error}", turn)

    def _on_status(self, name: str, status: Status, turn: _Turn) -> None:
        if status.chain_id != self._chain_id:
            self._distrust(name, "it is on another chain", turn)
            return
        self._peers[name].status = status

    def _on_blocks(self, name: str, request: Request, blocks: Sequence[Block], turn: _Turn) -> None:
        if isinstance(request, GetBlock):
            if blocks and (len(blocks) > 1 or blocks[0].block_id != request.id):
                self._distrust(name, "it sent another block than the one asked for", turn)
            elif blocks:
                self._import(name, tuple(blocks), False, turn)
            return
        assert isinstance(request, GetBlocks)
        if self._download is None or self._download.peer != name:
            return
        if not blocks:
            self._finish(turn)
        elif len(blocks) > request.max_blocks or not _linked(request.locator, blocks):
            self._distrust(name, "its blocks do not follow each other", turn)
        elif blocks[-1].height <= self._download.height:
            self._finish(turn)  # the same blocks over and over: it has no more, whatever it claims
        else:
            self._download.height = blocks[-1].height
            self._import(name, tuple(blocks), True, turn)

    def _imported(self, event: Imported, turn: _Turn) -> None:
        batch = self._batches.pop(event.batch_id, None)
        if batch is None:
            return
        if event.error is not None:
            self._distrust(batch.peer, event.error, turn)
            return
        download = self._download
        if not batch.download or download is None or download.peer != batch.peer:
            return
        download.last = batch.last
        if batch.last == download.claim.head:
            self._finish(turn)
        else:
            self._ask_blocks(turn)

    def _failed(self, request_id: int, peer: str, turn: _Turn) -> None:
        pending = self._pending.get(request_id)
        if pending is None or pending.peer != peer:
            return
        del self._pending[request_id]
        if peer not in self._peers:
            return
        self._peers[peer].rests_until = turn.now + REST
        if isinstance(pending.request, GetBlocks) and self._download and self._download.peer == peer:
            self._download = None

    def _fetch(self, event: Missing, turn: _Turn) -> None:
        """Ask for the one block, and for the peer's head in case it is not just one."""
        if event.peer not in self._peers:
            return
        self._ask_status(event.peer, turn, HINT_EVERY)
        fetches = [p.request.id for p in self._pending.values() if isinstance(p.request, GetBlock)]
        if event.parent not in fetches and len(fetches) < MAX_FETCHES:
            self._ask(event.peer, GetBlock(event.parent), turn)

    # -- the download ----------------------------------------------------------------------------------

    def _settle(self, turn: _Turn) -> list[Effect]:
        """After every event: start a download if one is due, and report the distance if it changed."""
        self._begin(turn)
        height = self._head.height if self._head else 0
        claims = [p.status.height for p in self._peers.values() if p.status and self._promising(p)]
        behind = max(0, max(claims, default=height) - height)
        if behind != self._behind:
            self._behind = behind
            turn.effects.append(SyncState(behind))
        return turn.effects

    def _begin(self, turn: _Turn) -> None:
        if self._download is not None:
            return
        able = [
            ((peer.status.justified, peer.status.weight), name, peer.status)
            for name, peer in self._peers.items()
            if peer.status is not None and self._promising(peer) and peer.rests_until <= turn.now
        ]
        if not able:
            return
        highest = max(claim for claim, _, _ in able)
        best = [(name, status) for claim, name, status in able if claim == highest]
        name, status = self._rng.choice(best)
        self._download = _Download(name, status)
        self._ask_blocks(turn)

    def _promising(self, peer: _Peer) -> bool:
        if peer.status is None or self._head is None:
            return False
        return peer.status.justified >= self._head.justified and not self._known(peer.status.head)

    def _ask_blocks(self, turn: _Turn) -> None:
        download = self._download
        if download is None or self._head is None:
            return
        # A side branch is not in our locator until it is heavier: continue from its last block.
        locator = self._head.locator if download.last is None else (download.last, *self._head.locator)
        self._ask(download.peer, GetBlocks(locator[:MAX_LOCATOR], MAX_BLOCKS), turn)

    def _finish(self, turn: _Turn) -> None:
        """The peer has no more to give. If what it claimed for its head is not here, that is a strike."""
        download, self._download = self._download, None
        if download is None:
            return
        peer = self._peers[download.peer]
        if self._known(download.claim.head):
            peer.strikes = 0
            self._ask_status(download.peer, turn, HINT_EVERY)
            return
        peer.strikes += 1
        peer.status = None  # ask again: its head may honestly have moved to another branch meanwhile
        peer.rests_until = turn.now + REST
        if peer.strikes >= MAX_STRIKES:
            self._distrust(download.peer, "it cannot show the head that it claims", turn)

    def _import(self, name: str, blocks: tuple[Block, ...], download: bool, turn: _Turn) -> None:
        self._counter += 1
        self._batches[self._counter] = _Batch(name, blocks[-1].block_id, download)
        turn.effects.append(Import(name, self._counter, blocks))

    # -- peers -----------------------------------------------------------------------------------------

    def _ask(self, peer: str, request: Request, turn: _Turn) -> None:
        self._counter += 1
        self._pending[self._counter] = _Pending(peer, request, turn.now + TIMEOUT)
        turn.effects.append(Ask(peer, self._counter, encode_request(request)))

    def _ask_status(self, name: str, turn: _Turn, every: float) -> None:
        peer = self._peers[name]
        if turn.now >= peer.asked_at + every:  # just as `deadline` adds: rounding must not part the two
            peer.asked_at = turn.now
            self._ask(name, GetStatus(), turn)

    def _distrust(self, name: str, reason: str, turn: _Turn) -> None:
        if name in self._peers:
            self._drop(name)
            self._distrusted.put(name, turn.now + DISTRUST)
            turn.effects.append(Distrust(name, reason))

    def _drop(self, name: str) -> None:
        self._peers.pop(name, None)
        self._pending = {key: p for key, p in self._pending.items() if p.peer != name}
        if self._download is not None and self._download.peer == name:
            self._download = None


def _linked(locator: Sequence[bytes], blocks: Sequence[Block]) -> bool:
    """Whether the blocks begin at an id of the locator and follow each other."""
    previous = [block.block_id for block in blocks[:-1]]
    return blocks[0].prev in locator and [block.prev for block in blocks[1:]] == previous
