"""The node's chain: takes blocks, transactions and round records in, keeps them on disk, proposes, tells.

One task owns the tree of blocks: everything that may change it goes through its inbox, and is on disk before
it is told to anybody. Gossip validators and readers look at the tree between its steps.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import trio

from chain.crypto import Keypair
from chain.errors import FutureBlock, InvalidError, InvalidVote, StaleBlock, UnknownParent
from chain.forkchoice import Accepted, Chain, HeadChanged, Outcome, Unjudged
from chain.genesis import Genesis
from chain.head_changes import merged
from chain.mempool import Mempool
from chain.producer import ProposerKeys
from chain.rating.court import Court
from chain.rating.items import Point
from chain.signing import SigningRecord
from chain.snapshot import TrustedPoint
from chain.sync import HeadIs, Import, Missing, Request, Status, Sync, encode_response
from chain.sync_server import locate
from chain.training_records import RoundRecord
from chain.transactions import Payload, Tx, sign_tx
from chain.types import Block
from chain.votes import Vote
from p2pml.net.gossip import Gossip
from p2pml.net.host import Host
from p2pml.net.presence import Presence
from p2pml.net.snapshots import serve_snapshots
from p2pml.net.sync import SyncPump
from p2pml.node.block_gossip import BlockGossip, Early
from p2pml.node.chain_keeper import ChainKeeper
from p2pml.node.chain_reads import ChainReads
from p2pml.node.chain_start import TakenUp, join_at, take_up, warn_when_long_away
from p2pml.node.checking import checked_ahead, judge_in_thread
from p2pml.node.events import Events
from p2pml.node.outbox import Outbox
from p2pml.node.pool_gossip import PoolGossip
from p2pml.node.proposing import Patience, Proposer
from p2pml.node.voting import Voting
from p2pml.storage.chain_db import ChainDb, DamagedChain
from p2pml.storage.chain_snapshots import ChainSnapshots
from p2pml.storage.signing_journal import SigningJournal

log = logging.getLogger(__name__)

KEEP_BLOCKS = 256
STEP_S = 0.04
"""Seconds after which blocks that came together are written to disk, before the next are looked at."""
_INBOX = 1024


@dataclass(slots=True)
class _Offer:
    """Blocks for the owner task, and where to say what came of them."""

    blocks: tuple[Block, ...]
    peer: str | None
    done: trio.Event = field(default_factory=trio.Event)
    error: str | None = None


class ChainService(ChainReads):
    """Chain, mempool, database, gossip, sync and proposing, wired.

    Args:
        genesis: the founding document.
        db: the database of this chain.
        keys: the validator's keys; None for a node that only follows.
        host, gossip, presence: running while this runs.
        events: gets `chain.head`, `chain.proposed` and `chain.sync`.
        clock_ms: Unix time in milliseconds.
        rng: breaks ties among peers to sync from.
        clock_wrong: whether this machine's clock is too far from the peers' to act by it.
        idle: whether a validator is silent while there is nothing to say (`chain.idle`).
        prune: whether blocks below the oldest snapshot are dropped.
        checkpoint: where an empty database begins; its state is fetched from peers.

    Attributes:
        executed: blocks that were executed at the start.
        court: replays what rulings in blocks are about; without it they are believed. Set before `run`.
    """

    def __init__(
        self,
        genesis: Genesis,
        db: ChainDb,
        keys: ProposerKeys | None,
        host: Host,
        gossip: Gossip,
        presence: Presence | None,
        events: Events,
        clock_ms: Callable[[], int],
        rng: random.Random | None = None,
        clock_wrong: Callable[[], bool] = lambda: False,
        idle: bool = True,
        prune: bool = False,
        checkpoint: TrustedPoint | None = None,
    ) -> None:
        super().__init__(genesis, Chain(genesis, KEEP_BLOCKS), Mempool(), db, clock_ms)
        self._host, self._presence, self._events = host, presence, events
        self._snapshots = ChainSnapshots.beside(db.path, genesis)
        self.keeper = ChainKeeper(self, self._snapshots, prune)
        self._checkpoint = checkpoint
        self.executed = 0
        self.court: Court | None = None
        self._rng = rng = rng or random.Random()
        # A damaged database gives the service another chain, so it is looked up each time.
        machine = Sync(genesis, rng, lambda: self.chain)
        self._sync = SyncPump(host, machine, self._import_batch, self._answer)
        self._early = Early(self)
        self._blocks = BlockGossip(self, host, gossip, self._early, self._enqueue, self._missing, rng)
        self._journal = SigningJournal(db.path.with_suffix(".signed"), genesis.chain_id)
        self._proposer = Proposer(self, self._journal, keys, idle) if keys is not None else None
        keypair = keys.keypair if keys is not None else None
        self._voting = Voting(self, gossip, self._journal, keypair, self._put, idle)
        self._send, self._inbox = trio.open_memory_channel[_Offer | Vote](_INBOX)
        self._pools = PoolGossip(self, host, gossip, rng)
        self._outbox = Outbox(self, self._pools)
        self._clock_wrong = clock_wrong
        self._patience = Patience(genesis.params.slot_ms / 1000)

    # -- running ---------------------------------------------------------------------------------------

    async def run(self, *, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        """Load the chain from disk, then follow and extend it until cancelled.

        Raises:
            UserError: the database cannot be read or written.
        """
        await self._load()
        if self._proposer is not None:
            await trio.to_thread.run_sync(self._open_journal)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._owner)
            nursery.start_soon(self._early.run)
            self._tell_head()
            serve_snapshots(self._host, self.keeper.found)
            nursery.start_soon(self.keeper.run)
            await nursery.start(self._sync.run)
            nursery.start_soon(self._blocks.run)
            nursery.start_soon(self._pools.run)
            nursery.start_soon(self._outbox.run)
            nursery.start_soon(self._watching_sync)
            if self._proposer is not None:
                nursery.start_soon(self._proposer.run)
            self._voting.start(nursery)
            task_status.started()

    async def _load(self) -> None:
        """Take up the chain on disk; where that is damaged, begin anew and let sync fetch it."""
        if self._checkpoint is not None:
            await join_at(self._checkpoint, self.genesis, self.db, self._snapshots, self._host, self._rng)
        try:
            taken = await take_up(self.genesis, self.db, self._snapshots, KEEP_BLOCKS)
        except DamagedChain as error:
            await trio.to_thread.run_sync(self.db.begin_anew, error)
            await trio.to_thread.run_sync(self._snapshots.drop_all)
            taken = TakenUp(Chain(self.genesis, KEEP_BLOCKS), None, 0)
        self.chain, self.executed = taken.chain, taken.executed
        warn_when_long_away(self.genesis, self.chain.head.slot, self.slot_now())
        await self.keeper.begin(taken.start)

    def _open_journal(self) -> None:
        """A validator whose record is lost waits until what it may have signed is past."""
        fresh = self.head().height == 0 and self.db.predecessor is None
        params, slot = self.genesis.params, self.slot_now() + 1
        otherwise = SigningRecord() if fresh else SigningRecord.unknown(slot, params.checkpoint_slots)
        trouble = self._journal.open(otherwise)
        if trouble and not fresh:
            log.warning(
                "the record of what this validator signed is %s: it proposes from slot %d on,"
                " and votes once a checkpoint after that is justified",
                trouble,
                slot + 1,
            )

    async def _owner(self) -> None:
        async for item in self._inbox:
            if isinstance(item, Vote):
                await self._count(item)
                continue
            try:
                item.error = await self._take(item)
            finally:
                item.done.set()

    async def _count(self, vote: Vote) -> None:
        try:
            await self._adopt(self.chain.on_vote(vote, self.clock_ms()))
        except InvalidVote as error:
            log.debug("a vote is not counted: %s", error)

    async def _take(self, offer: _Offer) -> str | None:
        """Give blocks to the tree, in steps; each is on disk before the next. Returns the sender's fault."""
        outcomes: list[Outcome] = []
        error, ends = None, trio.current_time() + STEP_S
        for block in offer.blocks:
            error = await self._judged(block, offer.peer, outcomes)
            if error is not None:
                break
            if trio.current_time() >= ends:
                await self._adopt(outcomes)
                outcomes, ends = [], trio.current_time() + STEP_S
        await self._adopt(outcomes)
        return error

    async def _judged(self, block: Block, peer: str | None, outcomes: list[Outcome]) -> str | None:
        """Give a block to the tree, and again when what its rulings are about has been replayed.

        Returns:
            What its sender is to blame for.
        """
        error = self._insert(block, peer, outcomes)
        while unjudged := next((found for found in outcomes if isinstance(found, Unjudged)), None):
            outcomes.remove(unjudged)
            if self.court is not None:
                await judge_in_thread(self.court, unjudged.cases)
            again = self._insert(unjudged.block, peer if unjudged.block == block else None, outcomes)
            error = again if unjudged.block == block else error
        return error

    def _insert(self, block: Block, peer: str | None, outcomes: list[Outcome]) -> str | None:
        """Give a block to the tree. Returns what its sender is to blame for."""
        self.pool.vouch_for(block)
        try:
            outcomes += self.chain.on_block(block, self.clock_ms(), court=self.court)
        except FutureBlock as error:
            self._hold(block, peer, error.ready_at_ms)
        except UnknownParent as error:
            if peer is not None:
                self._sync.tell(Missing(peer, error.parent))
        except StaleBlock as error:
            log.debug("%s", error)
        except InvalidError as error:
            log.debug("an invalid block from %s: %s", peer, error)
            return str(error)
        return None

    async def _adopt(self, outcomes: Sequence[Outcome]) -> None:
        """Write a step to disk, then tell everybody here."""
        if not outcomes:
            return
        accepted = [outcome.block for outcome in outcomes if isinstance(outcome, Accepted)]
        change = merged(outcome for outcome in outcomes if isinstance(outcome, HeadChanged))
        reverted, applied = (change.reverted, change.applied) if change else ((), ())
        floor = min(self.chain.head.height - KEEP_BLOCKS, self.chain.final_height)
        await trio.to_thread.run_sync(self.db.commit, accepted, reverted, applied, floor)
        self._blocks.accepted(accepted)
        if change is None:
            return
        self.pool.on_head(applied, reverted, self.state(), self.next_slot())
        self._tell_head()
        self._emit_head(change)
        self._wake()

    def _hold(self, block: Block, peer: str | None, ready_at_ms: int) -> None:
        """Offer an early block again when it is due, if that is soon."""

        async def again() -> None:
            if await self.offer(block, peer=peer) is None:
                await self.publish_block(block)

        self._early.hold(block.fingerprint, ready_at_ms, again)

    async def offer(self, *blocks: Block, peer: str | None = None) -> str | None:
        """Give blocks to the owner task and wait until they are taken, on disk and told.

        Returns:
            What is wrong with the first wrong one, when its sender is to blame; the later ones are not taken.
        """
        offer = _Offer(blocks, peer)
        await self._send.send(offer)
        await offer.done.wait()
        return offer.error

    async def publish_block(self, block: Block) -> None:
        """Announce a block of which the chain knows: its header by gossip; who wants the body asks for it."""
        await self._blocks.publish(block)

    # -- sending ---------------------------------------------------------------------------------------

    async def submit_tx(self, tx: Tx) -> bytes:
        """Take a transaction and pass it on, again and again until a block has it.

        Returns:
            Its id.

        Raises:
            InvalidTransaction: it cannot be included as things stand.
            UserError: the pool of waiting transactions is full.
        """
        await trio.lowlevel.checkpoint()
        self._outbox.submit_tx(tx)
        return tx.id

    async def submit_record(self, record: RoundRecord) -> None:
        """Take a round record and pass it on until a block has it.

        Raises:
            InvalidRecord: it does not follow the job's last round, or is not signed by the requester.
            UserError: the pool of waiting records is full.
        """
        await trio.lowlevel.checkpoint()
        self._outbox.submit_record(record)

    async def send_rating(self, point: Point) -> None:
        """Take a signed rating item and pass it on until a block has it, or its time is over.

        Raises:
            UserError: the chain cannot take it, by the time or the window's draws, or the pool is full.
        """
        await trio.lowlevel.checkpoint()
        self._outbox.submit_rating(point)

    async def send(
        self, keypair: Keypair, payload: Payload, fee: int | None = None, valid_slots: int = 128
    ) -> Tx:
        """Sign a transaction with the account's next nonce and submit it: see `submit_tx`.

        Args:
            fee: base units; the chain's least by default.
            valid_slots: for how many slots from now it may be included.
        """
        tx = sign_tx(
            keypair,
            self.genesis.chain_id,
            payload,
            nonce=self.next_nonce(keypair.public),
            valid_until_slot=self.next_slot() + valid_slots,
            fee=self.genesis.params.min_fee if fee is None else fee,
        )
        await self.submit_tx(tx)
        return tx

    @property
    def lowest_body(self) -> int:
        """The lowest height of the best branch from which on the blocks are here whole."""
        return self.keeper.lowest_body

    @property
    def behind(self) -> int:
        """How many blocks the best credible claim of a peer is ahead of us."""
        return self._sync.behind

    @property
    def caught_up(self) -> bool:
        """Whether a block of ours would continue what the others have, as far as they can be believed."""
        alone = self._presence is None or not self._presence.peers()
        held_back = self._patience.holds_back(self.behind, trio.current_time())
        return not held_back and (alone or self._sync.asked_somebody)

    @property
    def may_act(self) -> bool:
        """Whether a validator proposes and votes now: it has caught up, and its clock is right."""
        return self.caught_up and not self._clock_wrong()

    def announce_proposed(self, block: Block) -> None:
        """Tell that a block of our own is on its way."""
        self._events.emit(
            "chain.proposed",
            height=block.height,
            id=block.block_id.hex(),
            rank=block.sealed.rank,
            txs=len(block.body.txs),
        )

    # -- gossip and sync -------------------------------------------------------------------------------

    def _enqueue(self, block: Block, peer: str | None) -> None:
        self._put(_Offer((block,), peer))

    def _put(self, item: _Offer | Vote) -> None:
        try:
            self._send.send_nowait(item)
        except trio.WouldBlock:
            log.warning("too many blocks and votes at once: one is left to sync")

    def _missing(self, peer: str, block_id: bytes) -> None:
        self._sync.tell(Missing(peer, block_id))

    async def _import_batch(self, batch: Import) -> str | None:
        before = self.chain.justified, self.head().weight
        await checked_ahead(self.chain, batch.blocks)
        error = await self.offer(*batch.blocks, peer=batch.peer)
        if (self.chain.justified, self.head().weight) > before:
            self._patience.progressed(trio.current_time())
        return error

    async def _answer(self, request: Request) -> bytes:
        found = locate(
            request, self.chain, self.lowest_body
        )  # here, where the tree stands still; the rest may take its time
        if isinstance(found, Status):
            return encode_response(found)
        return await trio.to_thread.run_sync(
            lambda: encode_response(found.read(self.db.block, self.db.sealed))
        )

    def _tell_head(self) -> None:
        head = self.chain.head
        justified = self.chain.justified.number
        self._sync.tell(HeadIs(head.height, head.weight, self.chain.locator(), justified))

    async def _watching_sync(self) -> None:
        told = 0
        while True:
            if self.behind != told:
                told = self.behind
                self._events.emit("chain.sync", behind=told)
            await trio.sleep(1.0)

    def _emit_head(self, change: HeadChanged) -> None:
        head, block = change.new, change.applied[-1] if change.applied else None
        self._events.emit(
            "chain.head",
            height=head.height,
            id=head.id.hex(),
            slot=head.slot,
            proposer=block.sealed.proposer.hex() if block else "",
            name=self.validator_name(block.sealed.proposer) if block else "",
            rank=block.sealed.rank if block else 0,
            txs=sum(len(applied.body.txs) for applied in change.applied),
            rounds=sum(len(applied.body.records) for applied in change.applied),
            reverted=len(change.reverted),
        )

    def _wake(self) -> None:
        changed, self._changed = self._changed, trio.Event()
        changed.set()
