"""Fetching a trusted state from peers, as a state machine: who to ask, for what, and whom to stop asking.

First the manifest, from a few peers at once, for some may be silent; then the weight tables, the finality and
the buckets in runs, from all who answer, a few requests to each. Every part is checked when it comes. A peer
whose part does not hold is asked nothing more and blamed; one that is silent, or does not have the snapshot,
rests while others are asked for the same. One whose manifest holds, but under another state root than the
trusted one, is left aside without blame: it may be the person who is wrong.

The adapter sends `Ask`, and answers with `Answered` or `Failed`. Times are seconds of any monotonic clock.
"""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field

from chain.buckets import BUCKETS
from chain.errors import InvalidError, InvalidSnapshot
from chain.genesis import Genesis
from chain.header import SealedHeader
from chain.snapshot import RUN_BYTES, Assembly, Manifest, TrustedPoint
from chain.snapshot_messages import (
    GetFinality,
    GetManifest,
    GetRun,
    GetTables,
    PartRequest,
    encode_part_request,
)
from chain.state import State
from chain.sync_events import TIMEOUT, Answered, PeerJoined, PeerLeft

REST = 20.0
"""Seconds for which a peer that failed, or has not the snapshot, is not asked."""
PATIENCE = 180.0
"""Seconds without a part that holds, after which it is given up."""
PER_PEER = 2
"""Requests to one peer at a time."""
MANIFESTS = 4
"""Peers that are asked for the manifest at a time."""


@dataclass(frozen=True, slots=True)
class Failed:
    """A request came to nothing: connection lost, refused, or cancelled."""

    peer: str
    request_id: int


Event = PeerJoined | PeerLeft | Answered | Failed


@dataclass(frozen=True, slots=True)
class Ask:
    """Send these request bytes to the peer; give up after `timeout` seconds."""

    peer: str
    request_id: int
    data: bytes
    timeout: float


@dataclass(frozen=True, slots=True)
class Blame:
    """The peer sent what does not hold; the machine asks it nothing more."""

    peer: str
    reason: str


@dataclass(frozen=True, slots=True)
class Done:
    """The trusted state is here, and the header of its block."""

    state: State
    sealed: SealedHeader


@dataclass(frozen=True, slots=True)
class GaveUp:
    """Nobody gave a part that holds for too long; `reason` says what the peers said."""

    reason: str


Effect = Ask | Blame | Done | GaveUp


@dataclass(slots=True)
class _Peer:
    rests_until: float = float("-inf")
    asked: int = 0
    said: str = "is silent"


@dataclass(frozen=True, slots=True)
class _Pending:
    peer: str
    request: PartRequest
    expires: float


@dataclass(slots=True)
class _Turn:
    now: float
    effects: list[Effect] = field(default_factory=list)


class SnapshotSync:
    """The machine, of one owner; over after `Done` or `GaveUp`.

    Args:
        genesis: the founding document.
        trusted: the block and root to fetch the state of.
        rng: chooses among peers.
        now: when it begins.
    """

    def __init__(self, genesis: Genesis, trusted: TrustedPoint, rng: random.Random, now: float) -> None:
        self._genesis, self._trusted, self._rng = genesis, trusted, rng
        self._peers: dict[str, _Peer] = {}
        self._left_out: dict[str, str] = {}
        self._pending: dict[int, _Pending] = {}
        self._todo: deque[PartRequest] = deque()
        self._assembly: Assembly | None = None
        self._counter = 0
        self._moved_at = now
        self.over = False

    # -- the machine's three doors ---------------------------------------------------------------------

    def receive(self, event: Event, now: float) -> list[Effect]:
        """Take an event and say what to do."""
        turn = _Turn(now)
        match event:
            case PeerJoined(peer):
                if peer not in self._left_out:
                    self._peers.setdefault(peer, _Peer())
            case PeerLeft(peer):
                self._drop(peer)
            case Answered(peer, request_id, data):
                pending = self._settle(request_id, peer)
                if pending is not None:
                    self._answered(peer, pending.request, data, turn)
            case Failed(peer, request_id):
                pending = self._settle(request_id, peer)
                if pending is not None:
                    self._rest(peer, pending.request, "broke off", turn)
        return self._go_on(turn)

    def tick(self, now: float) -> list[Effect]:
        """Let time pass: requests expire, peers are rested, patience ends."""
        turn = _Turn(now)
        for request_id, pending in tuple(self._pending.items()):
            if pending.expires <= now:
                self._settle(request_id, pending.peer)
                self._rest(pending.peer, pending.request, "is silent", turn)
        return self._go_on(turn)

    def deadline(self) -> float | None:
        """When `tick` has something to do; None when it is over."""
        if self.over:
            return None
        times = [pending.expires for pending in self._pending.values()]
        if self._wants():
            times += [peer.rests_until for peer in self._peers.values() if peer.asked < self._most()]
        return min((*(time for time in times if time > float("-inf")), self._moved_at + PATIENCE))

    # -- answers ---------------------------------------------------------------------------------------

    def _answered(self, peer: str, request: PartRequest, data: bytes, turn: _Turn) -> None:
        if not data:
            self._rest(peer, request, "does not have it", turn)
            return
        try:
            if self._take(request, data, peer, turn):
                self._moved_at = turn.now
        except InvalidError as error:
            self._redo(request)
            self._leave_out(peer, f"what it sent does not hold: {error}")
            turn.effects.append(Blame(peer, f"a false snapshot: {error}"))

    def _take(self, request: PartRequest, data: bytes, peer: str, turn: _Turn) -> bool:
        """Whether the part brought us on. Raises InvalidError."""
        assembly = self._assembly
        if isinstance(request, GetManifest):
            return self._take_manifest(data, peer)
        assert assembly is not None, "parts are asked for once there is a manifest"
        match request:
            case GetTables():
                assembly.take_tables(data)
            case GetFinality():
                assembly.take_finality(data)
            case GetRun(first=first, count=count):
                taken = assembly.take_run(data, first, count)
                if taken < count:
                    self._todo.appendleft(GetRun(request.id, first + taken, count - taken))
        if assembly.complete:
            turn.effects.append(Done(assembly.state(), assembly.manifest.sealed))
            self.over = True
        return True

    def _take_manifest(self, data: bytes, peer: str) -> bool:
        manifest = Manifest.decode(data)
        if manifest.sealed.block_id != self._trusted.id:
            raise InvalidSnapshot("the manifest is of another block than the one asked for")
        manifest.check(self._genesis, manifest.root)
        if manifest.point != self._trusted:
            self._leave_out(peer, "has that block with another height or state root")
            return False
        if self._assembly is not None:
            return False
        self._assembly = Assembly(self._genesis, manifest)
        width = max(1, min(BUCKETS, BUCKETS * RUN_BYTES // max(manifest.size, 1)))
        block_id = self._trusted.id
        self._todo += [GetTables(block_id), GetFinality(block_id)]
        starts = range(0, BUCKETS, width)
        self._todo += [GetRun(block_id, first, min(width, BUCKETS - first)) for first in starts]
        return True

    # -- asking ----------------------------------------------------------------------------------------

    def _go_on(self, turn: _Turn) -> list[Effect]:
        """After every event: ask whoever can be asked for what is wanted; give up when it takes too long."""
        if self.over:
            return [effect for effect in turn.effects if not isinstance(effect, Ask)]
        if turn.now >= self._moved_at + PATIENCE:
            self.over = True
            return [*turn.effects, GaveUp(self._account())]
        while self._wants():
            able = [
                name
                for name, peer in self._peers.items()
                if peer.asked < self._most() and peer.rests_until <= turn.now
            ]
            if not able:
                break
            least = min(self._peers[name].asked for name in able)
            name = self._rng.choice([name for name in able if self._peers[name].asked == least])
            request = self._todo.popleft() if self._assembly is not None else GetManifest(self._trusted.id)
            self._ask(name, request, turn)
        return turn.effects

    def _wants(self) -> bool:
        """Whether there is something to ask for."""
        if self._assembly is not None:
            return bool(self._todo)
        return len(self._pending) < MANIFESTS

    def _most(self) -> int:
        """Requests that one peer may have: the manifest is asked for once."""
        return 1 if self._assembly is None else PER_PEER

    def _ask(self, name: str, request: PartRequest, turn: _Turn) -> None:
        self._counter += 1
        self._peers[name].asked += 1
        self._pending[self._counter] = _Pending(name, request, turn.now + TIMEOUT)
        turn.effects.append(Ask(name, self._counter, encode_part_request(request), TIMEOUT))

    def _settle(self, request_id: int, peer: str) -> _Pending | None:
        """The request that is over; None when it has been counted before."""
        pending = self._pending.get(request_id)
        if pending is None or pending.peer != peer:
            return None
        del self._pending[request_id]
        self._peers[peer].asked -= 1
        return pending

    # -- peers -----------------------------------------------------------------------------------------

    def _rest(self, peer: str, request: PartRequest, said: str, turn: _Turn) -> None:
        self._redo(request)
        self._peers[peer].rests_until = turn.now + REST
        self._peers[peer].said = said

    def _redo(self, request: PartRequest) -> None:
        if not isinstance(request, GetManifest):
            self._todo.appendleft(request)

    def _leave_out(self, peer: str, why: str) -> None:
        self._drop(peer)
        self._left_out[peer] = why

    def _drop(self, peer: str) -> None:
        self._peers.pop(peer, None)
        for request_id, pending in tuple(self._pending.items()):
            if pending.peer == peer:
                del self._pending[request_id]
                self._redo(pending.request)

    def _account(self) -> str:
        """What the peers said, for people."""
        said = [*(peer.said for peer in self._peers.values()), *self._left_out.values()]
        if not said:
            return "no peer is connected"
        return "; ".join(
            f"{said.count(what)} {'peer' if said.count(what) == 1 else 'peers'}: {what}"
            for what in dict.fromkeys(said)
        )
