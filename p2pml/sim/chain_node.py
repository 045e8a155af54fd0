"""A validator on virtual time: the unchanged `chain` core; blocks, votes and transactions are flooded.

Everything that decides is the core's: fork choice, draw, transition, mempool, sync, gossip verdicts. Only
the wires and the disk are simulated.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from chain import gossip
from chain.crypto import H
from chain.errors import FutureBlock, InvalidError, UnknownParent
from chain.forkchoice import Accepted, Chain, HeadChanged, Outcome
from chain.genesis import Genesis
from chain.gossip import Verdict
from chain.idle import wants_block, wants_vote
from chain.mempool import Mempool
from chain.producer import ProposerKeys, build_block, ranks_for
from chain.recent import Recent
from chain.signing import SigningRecord
from chain.sync import (
    Answered,
    Ask,
    Effect,
    HeadIs,
    Imported,
    Missing,
    PeerJoined,
    PeerLeft,
    Sync,
    decode_request,
    encode_response,
)
from chain.sync_events import Import
from chain.sync_server import answer
from chain.transactions import Tx
from chain.types import Block
from chain.votes import Vote
from chain.voting import owed_vote
from p2pml.sim.world import Send

BLOCK, TX, VOTE, ASK, ANSWER = b"B", b"T", b"V", b"Q", b"A"
_SEEN = 4096
"""Messages that are remembered so that a copy is not looked at again, as gossipsub does."""
_MAX_EARLY = 64


@dataclass(frozen=True, slots=True)
class _Early:
    """A block whose time has not come: it is offered again at `due` (virtual seconds)."""

    due: float
    block: Block
    source: str


class ChainNode:
    """One validator, or a follower without keys.

    Args:
        genesis: the chain.
        keys: what it proposes with; None only follows.
        neighbours: whom it is connected to.
        rng: for the sync machine's choices.
        outputs: results of header checks that simulated nodes may share, see `Chain`; None keeps its own.
        votes: whether it votes; without votes nothing becomes final.
        clock: how far its clock is ahead of virtual time, seconds.
        idle: whether it is silent while there is nothing to say (`chain.idle`).
    """

    def __init__(
        self,
        genesis: Genesis,
        keys: ProposerKeys | None,
        neighbours: Sequence[str],
        rng: random.Random,
        outputs: Recent[bytes, bytes] | None = None,
        votes: bool = True,
        clock: float = 0.0,
        idle: bool = False,
    ) -> None:
        self.genesis = genesis
        self.idle = idle
        self._clock = clock
        self.votes = votes and keys is not None
        self.signed = SigningRecord()
        """What it has signed; on disk."""
        self.keys = keys
        self.neighbours = tuple(neighbours)
        self.chain = Chain(genesis, outputs=outputs)
        self.pool = Mempool()
        self.outcomes: list[Outcome] = []
        """What the tree of blocks said since somebody last looked and cleared it."""
        self.sealed: dict[int, bytes] = {}
        """Ids of the blocks that it proposed, by slot; on disk, so that a restart seals no slot twice."""
        self._disk: dict[bytes, Block] = {}
        self._rng = rng
        self._planned_slot, self._rank = 0, 0
        self._due: float | None = None
        self._forget_memory()

    def _forget_memory(self) -> None:
        self._sync = Sync(self.genesis, self._rng, lambda: self.chain)
        self._imports: deque[Import] = deque()
        self._importing = False
        self._early: list[_Early] = []
        self._seen: Recent[bytes, bool] = Recent(_SEEN)
        self._due = None
        self._voted = 0.0

    # -- the actor's doors -------------------------------------------------------------------------------

    def start(self, now: float) -> list[Send]:
        """Begin, or begin again on the chain that the disk kept."""
        self._forget_memory()
        sends = self._carry_out(self._sync.receive(self._head_event(), now), now)
        for peer in self.neighbours:
            sends += self._carry_out(self._sync.receive(PeerJoined(peer), now), now)
        self._plan(now)
        return sends

    def reconnected(self, now: float) -> list[Send]:
        """Its connections were broken and are there again."""
        sends: list[Send] = []
        for peer in self.neighbours:
            sends += self._carry_out(self._sync.receive(PeerLeft(peer), now), now)
            sends += self._carry_out(self._sync.receive(PeerJoined(peer), now), now)
        return sends

    def receive(self, source: str, payload: bytes, now: float) -> list[Send]:
        """A message from a neighbour."""
        kind, body = payload[:1], payload[1:]
        if kind in (BLOCK, TX, VOTE):
            if self._is_copy(payload):
                return []
            return {BLOCK: self._on_block, TX: self._on_tx, VOTE: self._on_vote}[kind](source, body, now)
        if kind == ASK:
            return self._on_ask(source, body)
        number = int.from_bytes(body[:4], "big")
        return self._carry_out(self._sync.receive(Answered(source, number, body[4:]), now), now)

    def tick(self, now: float) -> list[Send]:
        """A slot, a rank's turn, an early block's time or a sync time-out has come."""
        sends: list[Send] = []
        for item in [item for item in self._early if item.due <= now]:
            self._early.remove(item)
            sends += self._on_block(item.source, item.block.encoded, now)
        if self._due is not None and self._due <= now:
            sends += self._propose(now)
        self._plan(now)
        if self.votes and now >= self._half(self._planned_slot) > self._voted:
            self._voted = self._half(self._planned_slot)
            sends += self.vote(self._planned_slot, now)
        return sends + self._carry_out(self._sync.tick(now), now)

    def deadline(self) -> float | None:
        """The next of all its timers."""
        times = [self._slot_time(self._planned_slot + 1), *(item.due for item in self._early)]
        if self._due is not None:
            times.append(self._due)
        if self.votes:
            half = self._half(self._planned_slot)
            times.append(half if half > self._voted else self._half(self._planned_slot + 1))
        sync = self._sync.deadline()
        return min([*times, sync] if sync is not None else times)

    def digest(self) -> bytes:
        """Its head."""
        return self.chain.head.id

    # -- transactions and blocks ---------------------------------------------------------------------------

    def _is_copy(self, payload: bytes) -> bool:
        key = H("sim-seen", payload)
        copy = key in self._seen
        self._seen.put(key, True)
        return copy

    def submit(self, tx: Tx, now: float) -> list[Send]:
        """Take a transaction of its own user."""
        return self._on_tx("", tx.encoded, now)

    def _on_tx(self, source: str, body: bytes, now: float) -> list[Send]:
        checked = gossip.validate_tx(body, self.pool, self.chain.state(), self.genesis.slot_at(self._ms(now)))
        return self._flood(TX + body, source) if checked.verdict is Verdict.ACCEPT else []

    def _on_vote(self, source: str, body: bytes, now: float) -> list[Send]:
        checked = gossip.validate_vote(body, self.chain, self._ms(now))
        if checked.verdict is not Verdict.ACCEPT or checked.item is None:
            return []
        return self._flood(VOTE + body, source) + self._count(checked.item, now)

    def _count(self, vote: Vote, now: float) -> list[Send]:
        return self._head_moved(self.chain.on_vote(vote, self._ms(now)), now)

    def _on_block(self, source: str, body: bytes, now: float) -> list[Send]:
        checked = gossip.validate_block(body, self.chain, self._ms(now))
        if checked.item is None:
            return []
        sends = self._flood(BLOCK + body, source) if checked.verdict is Verdict.ACCEPT else []
        return sends + self._take(checked.item, source, now)

    def _take(self, block: Block, source: str, now: float) -> list[Send]:
        try:
            outcomes = self.chain.on_block(block, self._ms(now))
        except FutureBlock as early:
            if len(self._early) < _MAX_EARLY:
                self._early.append(_Early(self._time(early.ready_at_ms), block, source))
            return []
        except UnknownParent as unknown:
            return self._carry_out(self._sync.receive(Missing(source, unknown.parent), now), now)
        except InvalidError:
            return []
        return self._head_moved(outcomes, now)

    def _head_moved(self, outcomes: Sequence[Outcome], now: float) -> list[Send]:
        sends: list[Send] = []
        self.outcomes += outcomes
        for change in outcomes:
            if isinstance(change, Accepted):
                self._disk[change.block.block_id] = change.block
            elif isinstance(change, HeadChanged):
                slot = self.genesis.slot_at(self._ms(now))
                self.pool.on_head(change.applied, change.reverted, self.chain.state(), slot)
                sends += self._carry_out(self._sync.receive(self._head_event(), now), now)
        return sends

    def _plan(self, now: float) -> None:
        slot = self.genesis.slot_at(self._ms(now))
        if slot <= self._planned_slot:
            return
        self._planned_slot, self._due = slot, None
        if self.keys is None or slot <= self.chain.head.slot or not self._wanted(slot):
            return
        for rank in ranks_for(slot, self.keys.keypair, self.chain.state()):
            self._due = self._slot_time(slot) + rank * self.genesis.params.rank_step_ms / 1000
            self._rank = rank

    def _propose(self, now: float) -> list[Send]:
        slot, self._due = self._planned_slot, None
        if self.keys is None or self.chain.head.slot >= slot or slot in self.sealed:
            return []
        if not self._wanted(slot):
            return []
        state = self.chain.state()
        if ranks_for(slot, self.keys.keypair, state) != (self._rank,):
            return []  # the head moved to another epoch's draw since the slot was planned
        txs, records = self.pool.select(state, slot), self.pool.select_records(state, slot)
        ratings = self.pool.select_ratings(state, slot)
        block = build_block(self.chain, slot, self._rank, self.keys, txs, records, ratings=ratings)
        self.sealed[slot] = block.block_id
        return self.publish(block, now)

    def _wanted(self, slot: int) -> bool:
        return not self.idle or wants_block(self.chain, self.pool, slot)

    def publish(self, block: Block, now: float) -> list[Send]:
        """Send a block of one's own to the neighbours and take it."""
        return self._flood(BLOCK + block.encoded, "") + self._take(block, "", now)

    def vote(self, slot: int, now: float) -> list[Send]:
        """Cast its vote of a slot, if it has one and nothing that it signed speaks against it."""
        made = self._sign_vote(slot)
        return [] if made is None else self._flood(VOTE + made.encoded, "") + self._count(made, now)

    def _sign_vote(self, slot: int) -> Vote | None:
        made = self._owed_vote(slot)
        if made is None or not self.signed.may_vote(made):
            return None
        self.signed = self.signed.voted(made)
        return made

    def _owed_vote(self, slot: int) -> Vote | None:
        if self.keys is None or (self.idle and not wants_vote(self.chain)):
            return None
        return owed_vote(self.keys.keypair, self.chain.state(), slot, self.signed.link)

    def _half(self, slot: int) -> float:
        return self._slot_time(slot) + self.genesis.params.slot_ms / 2000

    def _flood(self, payload: bytes, source: str) -> list[Send]:
        return [Send(peer, payload) for peer in self.neighbours if peer != source]

    # -- sync ----------------------------------------------------------------------------------------------

    def _on_ask(self, source: str, body: bytes) -> list[Send]:
        try:
            request = decode_request(body[4:])
        except InvalidError:
            return []
        response = answer(request, self.chain, self._stored)
        return [Send(source, ANSWER + body[:4] + encode_response(response))]

    def _stored(self, block_id: bytes) -> bytes | None:
        block = self._disk.get(block_id)
        return None if block is None else block.encoded

    def _carry_out(self, effects: Sequence[Effect], now: float) -> list[Send]:
        sends: list[Send] = []
        for effect in effects:
            if isinstance(effect, Ask):
                sends.append(Send(effect.peer, ASK + effect.request_id.to_bytes(4, "big") + effect.data))
            elif isinstance(effect, Import):
                self._imports.append(effect)
        while self._imports and not self._importing:
            self._importing = True
            batch = self._imports.popleft()
            sends += self._import(batch, now)
            self._importing = False
        return sends

    def _import(self, batch: Import, now: float) -> list[Send]:
        sends: list[Send] = []
        error: str | None = None
        for block in batch.blocks:
            try:
                sends += self._head_moved(self.chain.on_block(block, self._ms(now)), now)
            except (FutureBlock, UnknownParent):
                break
            except InvalidError as wrong:
                error = str(wrong)
                break
        return sends + self._carry_out(self._sync.receive(Imported(batch.batch_id, error), now), now)

    def _head_event(self) -> HeadIs:
        head = self.chain.head
        return HeadIs(head.height, head.weight, self.chain.locator(), self.chain.justified.number)

    def _ms(self, now: float) -> int:
        """What its clock shows."""
        return self.genesis.time_ms + int((now + self._clock) * 1000 + 0.5)

    def _time(self, ms: int) -> float:
        """When its clock shows that."""
        return (ms - self.genesis.time_ms) / 1000 - self._clock

    def _slot_time(self, slot: int) -> float:
        return self._time(self.genesis.slot_start_ms(slot))
