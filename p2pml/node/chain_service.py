"""The node's chain: takes blocks, transactions and round records in, keeps them on disk, proposes, tells.

One task owns the tree of blocks: everything that may change it goes through its inbox, and is on disk before
it is told to anybody. Gossip validators and readers look at the tree between its steps.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import trio

from chain.crypto import Keypair
from chain.errors import FutureBlock, InvalidError, StaleBlock, UnknownParent
from chain.forkchoice import Accepted, Chain, HeadChanged, Outcome
from chain.genesis import Genesis
from chain.gossip import Verdict, validate_block, validate_record, validate_tx
from chain.mempool import Mempool
from chain.producer import ProposerKeys
from chain.sync import HeadIs, Import, Missing, Request, Sync, answer, encode_response
from chain.training_records import RoundRecord
from chain.transactions import Payload, Tx, sign_tx
from chain.types import Block
from p2pml.net.gossip import MAX_MESSAGE, Gossip
from p2pml.net.host import Host
from p2pml.net.presence import Presence
from p2pml.net.sync import SyncPump
from p2pml.node.chain_reads import ChainReads
from p2pml.node.events import Events
from p2pml.node.outbox import RECORDS, TXS, Outbox
from p2pml.node.proposing import Patience, Proposer
from p2pml.storage.chain_db import ChainDb

log = logging.getLogger(__name__)

BLOCKS = "blocks"
KEEP_BLOCKS = 256
_INBOX = 1024
_MAX_EARLY = 64
_REPLAY_STEP = 16


@dataclass(slots=True)
class _Offer:
    """A block for the owner task, and where to say what came of it."""

    block: Block
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
    ) -> None:
        super().__init__(genesis, Chain(genesis, KEEP_BLOCKS), Mempool(), db, clock_ms)
        self._gossip, self._presence, self._events = gossip, presence, events
        self._sync = SyncPump(
            host, Sync(genesis.chain_id, rng or random.Random()), self._import_batch, self._answer
        )
        self._proposer = Proposer(self, db, keys) if keys is not None else None
        self._send, self._inbox = trio.open_memory_channel[_Offer](_INBOX)
        self._early: set[bytes] = set()
        self._outbox = Outbox(self, gossip)
        self._patience = Patience(genesis.params.slot_ms / 1000)
        self._nursery: trio.Nursery | None = None

    # -- running ---------------------------------------------------------------------------------------

    async def run(self, *, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        """Load the chain from disk, then follow and extend it until cancelled.

        Raises:
            UserError: the database is damaged or cannot be written.
        """
        await self._load()
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            self._gossip.subscribe(BLOCKS, self._judge_block, self._on_gossiped_block)
            self._gossip.subscribe(TXS, self._judge_tx, lambda peer, data: None)
            self._gossip.subscribe(RECORDS, self._judge_record, lambda peer, data: None)
            nursery.start_soon(self._owner)
            self._tell_head()
            await nursery.start(self._sync.run)
            nursery.start_soon(self._outbox.run)
            nursery.start_soon(self._watching_sync)
            if self._proposer is not None:
                nursery.start_soon(self._proposer.run)
            task_status.started()

    async def _load(self) -> None:
        count = 0
        for count, block in enumerate(self.db.replay(), start=1):
            try:
                self.chain.on_block(block, block.sealed.timestamp_ms + 2**40, verify_seals=False)
            except (StaleBlock, UnknownParent):
                continue  # of a side branch that the chain has left far behind
            except InvalidError as error:
                raise self.db.damaged(f"block {block.height} does not follow: {error}") from error
            if count % _REPLAY_STEP == 0:
                await trio.lowlevel.checkpoint()
        if self.db.head_id() not in (None, self.chain.head.id):
            raise self.db.damaged("its blocks do not lead to its head")
        if count:
            log.info("loaded %d blocks, head %d", count, self.chain.head.height)

    async def _owner(self) -> None:
        async for offer in self._inbox:
            try:
                offer.error = await self._take(offer)
            finally:
                offer.done.set()

    async def _take(self, offer: _Offer) -> str | None:
        """Give a block to the tree. Returns what its sender is to blame for."""
        try:
            outcomes = self.chain.on_block(offer.block, self.clock_ms())
        except FutureBlock as error:
            self._hold(offer, error.ready_at_ms)
        except UnknownParent as error:
            if offer.peer is not None:
                self._sync.tell(Missing(offer.peer, error.parent))
        except StaleBlock as error:
            log.debug("%s", error)
        except InvalidError as error:
            log.debug("an invalid block from %s: %s", offer.peer, error)
            return str(error)
        else:
            await self._adopt(outcomes)
        return None

    async def _adopt(self, outcomes: tuple[Outcome, ...]) -> None:
        """Write to disk, then tell everybody here."""
        if not outcomes:
            return
        accepted = [outcome.block for outcome in outcomes if isinstance(outcome, Accepted)]
        change = next((outcome for outcome in outcomes if isinstance(outcome, HeadChanged)), None)
        reverted, applied = (change.reverted, change.applied) if change else ((), ())
        floor = self.chain.head.height - KEEP_BLOCKS
        await trio.to_thread.run_sync(self.db.commit, accepted, reverted, applied, floor)
        if change is None:
            return
        self.pool.on_head(applied, reverted, self.state(), self.next_slot())
        self._tell_head()
        self._emit_head(change)
        self._wake()

    def _hold(self, offer: _Offer, ready_at_ms: int) -> None:
        """Offer an early block again when it is due, if that is soon."""
        key = offer.block.fingerprint
        soon = ready_at_ms - self.clock_ms() <= 2 * self.genesis.params.slot_ms
        if self._nursery is None or key in self._early or len(self._early) >= _MAX_EARLY or not soon:
            return
        self._early.add(key)

        async def later() -> None:
            await self.sleep_until(ready_at_ms)
            self._early.discard(key)
            if await self.offer(offer.block, offer.peer) is None:
                await self.publish_block(offer.block)  # gossip did not pass the early one on

        self._nursery.start_soon(later)

    async def offer(self, block: Block, peer: str | None = None) -> str | None:
        """Give a block to the owner task and wait until it is taken, on disk and told.

        Returns:
            What is wrong with it, when its sender is to blame.
        """
        offer = _Offer(block, peer)
        await self._send.send(offer)
        await offer.done.wait()
        return offer.error

    async def publish_block(self, block: Block) -> None:
        """Gossip a block; one too large for gossip is found by the peers' next question for our head."""
        if len(block.encoded) <= MAX_MESSAGE:
            await self._gossip.publish(BLOCKS, block.encoded)

    # -- sending ---------------------------------------------------------------------------------------

    async def submit_tx(self, tx: Tx) -> bytes:
        """Take a transaction and pass it on, again and again until a block has it.

        Returns:
            Its id.

        Raises:
            InvalidTransaction: it cannot be included as things stand.
            UserError: the pool of waiting transactions is full.
        """
        await self._outbox.submit_tx(tx)
        return tx.id

    async def submit_record(self, record: RoundRecord) -> None:
        """Take a round record and pass it on until a block has it.

        Raises:
            InvalidRecord: it does not follow the job's last round, or is not signed by the requester.
            UserError: the pool of waiting records is full.
        """
        await self._outbox.submit_record(record)

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
    def behind(self) -> int:
        """How many blocks the best credible claim of a peer is ahead of us."""
        return self._sync.behind

    @property
    def caught_up(self) -> bool:
        """Whether a block of ours would continue what the others have, as far as they can be believed."""
        alone = self._presence is None or not self._presence.peers()
        held_back = self._patience.holds_back(self.behind, trio.current_time())
        return not held_back and (alone or self._sync.asked_somebody)

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

    def _judge_block(self, data: bytes) -> Verdict:
        checked = validate_block(data, self.chain, self.clock_ms())
        if checked.verdict is Verdict.IGNORE and checked.item is not None:
            self._enqueue(checked.item, self._gossip.forwarder)  # early, or waiting for its parent: keep it
        return checked.verdict

    def _judge_tx(self, data: bytes) -> Verdict:
        return validate_tx(data, self.pool, self.state(), self.next_slot()).verdict

    def _judge_record(self, data: bytes) -> Verdict:
        return validate_record(data, self.pool, self.state()).verdict

    def _on_gossiped_block(self, origin: str, data: bytes) -> None:
        self._enqueue(Block.decode(data), origin)

    def _enqueue(self, block: Block, peer: str | None) -> None:
        try:
            self._send.send_nowait(_Offer(block, peer))
        except trio.WouldBlock:
            log.warning("too many blocks at once: one is left to sync")

    async def _import_batch(self, batch: Import) -> str | None:
        before = self.head().weight
        for block in batch.blocks:
            error = await self.offer(block, batch.peer)
            if error is not None:
                return error
        if self.head().weight > before:
            self._patience.progressed(trio.current_time())
        return None

    def _answer(self, request: Request) -> bytes:
        return encode_response(answer(request, self.chain, self.db.block_at, self.db.block))

    def _tell_head(self) -> None:
        head = self.chain.head
        self._sync.tell(HeadIs(head.height, head.weight, self.chain.locator()))

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
