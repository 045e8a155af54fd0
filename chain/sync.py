"""Catching up with the network, as a state machine: who to ask, for what, and whom to stop asking.

The machine asks every peer for its head now and then. When one claims a head that is not here, it downloads
that chain, first of the peer with the highest justified checkpoint, then of the heaviest. A lighter head is
worth having too, for the votes in its blocks may outweigh ours; one that is justified less far than ours
cannot win and is left alone, however heavy. A download begins with sealed headers from that one peer, the
leader (`chain.header_chain`); their bodies come from everybody who has them (`chain.body_window`).
Blocks that gossip lacked are fetched one by one beside that. Peers that time out rest for a while; peers that
lie are distrusted at once: for a false body who sent it, for headers that break a rule or whose blocks turn
out invalid who led with them, for a claim that it cannot back up who made it, after three strikes.

The adapter sends `Ask` and answers with `Answered` or `Failed`; it gives the blocks of `Import` to
`Chain.on_block` in order, reports a changed head by `HeadIs` first, and then answers `Imported`.
Times are seconds of any monotonic clock.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from chain.body_window import Source
from chain.errors import InvalidError
from chain.forkchoice import Chain
from chain.genesis import Genesis
from chain.header import SealedHeader
from chain.recent import Recent
from chain.sync_download import Download
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
    MAX_LOCATOR,
    BodyList,
    GetBlock,
    GetBodies,
    GetHeaders,
    GetStatus,
    HeaderList,
    OneBlock,
    Request,
    Response,
    Status,
    decode_request,
    decode_response,
    encode_request,
    encode_response,
    response_bytes,
)
from chain.types import MAX_BLOCK_BYTES, Block

__all__ = [
    "Answered", "Ask", "BodyList", "Distrust", "Effect", "Event", "Failed", "GetBlock", "GetBodies",
    "GetHeaders", "GetStatus", "HeadIs", "HeaderList", "Import", "Imported", "Missing", "OneBlock",
    "PeerJoined", "PeerLeft", "Request", "Response", "Status", "Sync", "SyncState", "decode_request",
    "decode_response", "encode_request", "encode_response",
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


@dataclass(slots=True)
class _Turn:
    """What one event leads to."""

    now: float
    effects: list[Effect] = field(default_factory=list)


class Sync:
    """The machine, of one owner.

    Args:
        genesis: of the chain.
        rng: breaks ties among peers.
        chain: the tree of blocks as it is now; looked at only.
    """

    def __init__(self, genesis: Genesis, rng: random.Random, chain: Callable[[], Chain]) -> None:
        self._chain_id = genesis.chain_id
        self._max_block = min(MAX_BLOCK_BYTES, genesis.params.max_body_bytes + 4096)
        self._rng = rng
        self._chain = chain
        self._peers: dict[str, _Peer] = {}
        self._distrusted: Recent[str, float] = Recent(1024)
        self._pending: dict[int, _Pending] = {}
        self._batches: dict[int, _Batch] = {}
        self._download: Download | None = None
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
        elif (late := self._download.window.deadline()) is not None:
            times.append(late)
        return min(times, default=None)

    # -- events ----------------------------------------------------------------------------------------

    def _answered(self, event: Answered, turn: _Turn) -> None:
        pending = self._pending.get(event.request_id)
        if pending is None or pending.peer != event.peer:
            return  # too late, or not asked: the request has been counted as failed
        del self._pending[event.request_id]
        try:
            self._on_response(event, pending.request, decode_response(event.data), turn)
        except InvalidError as error:
            self._distrust(event.peer, f"a wrong answer: {error}", turn)

    def _on_response(self, event: Answered, request: Request, response: Response, turn: _Turn) -> None:
        """Raises InvalidError when no honest peer would answer so."""
        match request, response:
            case GetStatus(), Status():
                self._on_status(event.peer, response, turn)
            case GetHeaders(), HeaderList():
                self._on_headers(event.peer, request, response, turn)
            case GetBodies(), BodyList():
                if self._download is not None:
                    self._download.window.came(event.request_id, response.bodies)
            case GetBlock(), OneBlock():
                self._on_block(event.peer, request, response, turn)
            case _:
                self._distrust(event.peer, "it answered another question", turn)

    def _on_status(self, name: str, status: Status, turn: _Turn) -> None:
        if status.chain_id != self._chain_id:
            self._distrust(name, "it is on another chain", turn)
            return
        self._peers[name].status = status

    def _on_headers(self, name: str, request: GetHeaders, response: HeaderList, turn: _Turn) -> None:
        download = self._download
        if download is not None and download.leader == name and download.asking:
            headers = tuple(SealedHeader.decode(data) for data in response.headers)
            download.on_headers(request, headers, self._chain())

    def _on_block(self, name: str, request: GetBlock, response: OneBlock, turn: _Turn) -> None:
        if not response.block:
            return
        block = Block.decode(response.block, self._max_block)
        if block.block_id != request.id:
            self._distrust(name, "it sent another block than the one asked for", turn)
        else:
            self._import(name, self._next_number(), (block,), turn)

    def _imported(self, event: Imported, turn: _Turn) -> None:
        batch = self._batches.pop(event.batch_id, None)
        if batch is None:
            return
        if event.error is not None:
            self._distrust(batch.peer, event.error, turn)
        elif self._download is not None:
            self._download.imported(event.batch_id, batch.last, self._chain())

    def _failed(self, request_id: int, peer: str, turn: _Turn) -> None:
        pending = self._pending.get(request_id)
        if pending is None or pending.peer != peer:
            return
        del self._pending[request_id]
        if peer not in self._peers:
            return
        self._peers[peer].rests_until = turn.now + REST
        if self._download is not None:
            self._download.window.failed(request_id)
            if isinstance(pending.request, GetHeaders) and self._download.leader == peer:
                self._download.led = self._download.asking = False

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
        """After every event: start a download or go on with it, and report the distance if it changed."""
        self._advance(turn)
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
        self._download = Download(name, status, self._max_block)
        self._ask_headers(self._download, turn)

    def _promising(self, peer: _Peer) -> bool:
        if peer.status is None or self._head is None:
            return False
        return peer.status.justified >= self._head.justified and not self._chain().has(peer.status.head)

    def _advance(self, turn: _Turn) -> None:
        """Go on with the download as far as possible now."""
        download = self._download
        if download is None:
            return
        download.fill(self._chain())
        while blocks := download.next_import(number := self._next_number()):
            self._import(download.leader, number, blocks, turn)
            download.fill(self._chain())
        if download.wants_headers():
            self._ask_headers(download, turn)
        sources = self._sources(download, turn)
        download.window.ask(sources, turn.now, lambda peer, ids: self._ask(peer, GetBodies(ids), turn))
        if download.over or download.stuck:
            self._finish(download, turn)

    def _sources(self, download: Download, turn: _Turn) -> list[Source]:
        """Who may be asked for bodies, in any order."""
        found = [
            Source(name, peer.status.lowest, max(peer.status.height, download.reach(name)))
            for name, peer in self._peers.items()
            if peer.status is not None and peer.rests_until <= turn.now
        ]
        self._rng.shuffle(found)
        return found

    def _ask_headers(self, download: Download, turn: _Turn) -> None:
        if self._head is None:
            return
        # The tip of what is not executed yet, or of a side branch, is not in our locator.
        locator = self._head.locator if download.tip is None else (download.tip, *self._head.locator)
        download.asking = True
        self._ask(download.leader, GetHeaders(locator[:MAX_LOCATOR]), turn)

    def _finish(self, download: Download, turn: _Turn) -> None:
        """No more will come of it. If what was claimed for its head is not here, that may be a strike."""
        self._download = None
        peer = self._peers.get(download.leader)
        if peer is None:
            return
        if self._chain().has(download.claim.head):
            peer.strikes = 0
            self._ask_status(download.leader, turn, HINT_EVERY)
            return
        first = download.window.first
        excused = not download.led or peer.rests_until > turn.now
        excused = excused or (first is not None and first.height < download.claim.lowest)
        peer.rests_until = max(peer.rests_until, turn.now + REST)
        if excused:
            return  # it did not answer, or does not claim to have the body that nobody gives
        peer.strikes += 1
        peer.status = None  # ask again: its head may honestly have moved to another branch meanwhile
        if peer.strikes >= MAX_STRIKES:
            self._distrust(download.leader, "it cannot show the head that it claims", turn)

    def _import(self, name: str, number: int, blocks: Sequence[Block], turn: _Turn) -> None:
        self._batches[number] = _Batch(name, blocks[-1].block_id)
        turn.effects.append(Import(name, number, tuple(blocks)))

    # -- peers -----------------------------------------------------------------------------------------

    def _next_number(self) -> int:
        self._counter += 1
        return self._counter

    def _ask(self, peer: str, request: Request, turn: _Turn) -> int:
        number = self._next_number()
        self._pending[number] = _Pending(peer, request, turn.now + TIMEOUT)
        limit = response_bytes(request, self._max_block)
        turn.effects.append(Ask(peer, number, encode_request(request), limit))
        return number

    def _ask_status(self, name: str, turn: _Turn, every: float) -> None:
        peer = self._peers[name]
        if turn.now >= peer.asked_at + every:  # just as `deadline` adds: rounding must not part the two
            peer.asked_at = turn.now
            self._ask(name, GetStatus(), turn)

    def _distrust(self, name: str, reason: str, turn: _Turn) -> None:
        """Ask it nothing more, and use nothing of what it led to; it may have left meanwhile."""
        if (self._distrusted.get(name) or turn.now) > turn.now:
            return
        self._drop(name)
        if self._download is not None and self._download.leader == name:
            self._download = None
        self._distrusted.put(name, turn.now + DISTRUST)
        turn.effects.append(Distrust(name, reason))

    def _drop(self, name: str) -> None:
        self._peers.pop(name, None)
        self._pending = {key: p for key, p in self._pending.items() if p.peer != name}
        if self._download is not None:
            self._download.window.forget(name)
            if self._download.leader == name:
                self._download.led = self._download.asking = False
