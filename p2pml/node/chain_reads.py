"""What can be asked about the node's chain, without changing anything."""

from __future__ import annotations

from collections.abc import Callable

import trio

from chain import rewards
from chain.content import heartbeat_slot, unsettled
from chain.entries import Account, Job
from chain.forkchoice import Chain
from chain.genesis import Genesis
from chain.idle import something_waits
from chain.ledger import Supply
from chain.mempool import Mempool
from chain.state import State
from chain.transactions import JobClaim, JobSettle, Tx
from chain.tree import Head
from chain.types import Block
from p2pml.storage.chain_db import ChainDb, IncludedRound, IncludedTx

MAX_BLOCKS = 200
LOOK_S = 1.0
"""Between two looks at the clock: sleeps go by trio's, which stands still while the machine sleeps."""


class ChainReads:
    """Reading the chain, its state after the head, its database and the pool of waiting transactions.

    Args:
        genesis: the founding document.
        chain: the tree of blocks.
        pool: waiting transactions.
        db: the database; read in threads.
        clock_ms: Unix time in milliseconds.
    """

    def __init__(
        self, genesis: Genesis, chain: Chain, pool: Mempool, db: ChainDb, clock_ms: Callable[[], int]
    ) -> None:
        self.genesis, self.chain, self.pool, self.db, self.clock_ms = genesis, chain, pool, db, clock_ms
        self._changed = trio.Event()

    # -- time ------------------------------------------------------------------------------------------

    def slot_now(self) -> int:
        """The slot that is running; negative before the chain's start."""
        return self.genesis.slot_at(self.clock_ms())

    def next_slot(self) -> int:
        """The slot that a block on our head could have: not before now, and after the head's."""
        return max(self.slot_now(), self.state().slot + 1)

    async def sleep_until(self, time_ms: int) -> None:
        """Sleep until a Unix time in milliseconds."""
        while (rest := time_ms - self.clock_ms()) > 0:  # noqa: ASYNC110  (it waits for the clock)
            await trio.sleep(min(rest / 1000, LOOK_S))
        await trio.lowlevel.checkpoint()

    async def wait_slot(self, slot: int) -> None:
        """Wait until `slot` begins."""
        await self.sleep_until(self.genesis.slot_start_ms(slot))

    async def wait_change(self) -> None:
        """Wait for another head."""
        await self._changed.wait()

    # -- the head's state ------------------------------------------------------------------------------

    def head(self) -> Head:
        """The tip of the best branch; height 0 and the chain id before the first block."""
        return self.chain.head

    def head_slot(self) -> int:
        """The slot of the newest block; 0 before the first."""
        return self.chain.head.slot

    def silent_until(self) -> int | None:
        """The slot of the next heartbeat if nothing waits for a block before it; None if something does."""
        state = self.state()
        waits = something_waits(self.chain, self.pool, self.next_slot())
        return None if waits or unsettled(state, self.chain.content_slot()) else heartbeat_slot(state)

    def state(self) -> State:
        """The ledger after the head."""
        return self.chain.state()

    def account(self, public: bytes) -> Account:
        """Balance (base units) and nonce."""
        return self.state().account(public)

    def balance(self, public: bytes) -> int:
        """Base units that the account can spend, rewards that have vested counted."""
        state = self.state()
        return state.account(public).balance + rewards.vested(state, state.finality.epochs, public)

    def vesting(self, public: bytes) -> tuple[int, int]:
        """Base units of rewards that the account cannot spend yet, and finalized epochs until it can."""
        state = self.state()
        epochs = state.finality.epochs
        held = state.vesting(public).held - rewards.vested(state, epochs, public)
        return held, rewards.epochs_left(state, epochs, public)

    def rating(self, public: bytes) -> int:
        """An account's rating; 0 for who is no validator."""
        validator = self.state().validator(public)
        return 0 if validator is None else validator.rating

    def validator_name(self, public: bytes) -> str:
        """The name that a validator registered, or has from the genesis; empty for others."""
        known = self.state().validator(public)
        return "" if known is None else known.name

    def nonce(self, public: bytes) -> int:
        """How many transactions of an account blocks have taken."""
        return self.account(public).nonce

    def next_nonce(self, public: bytes) -> int:
        """The nonce for the account's next transaction, waiting ones counted."""
        return self.pool.next_nonce(public, self.state())

    def job(self, job_id: bytes) -> Job | None:
        """A job by its 32-byte id."""
        return self.state().job(job_id)

    def jobs(self) -> tuple[Job, ...]:
        """All jobs."""
        return self.state().jobs()

    def paid_clients(self, job_id: bytes, round_: int) -> frozenset[int]:
        """The clients of a round that have been paid."""
        entry = self.state().round(job_id, round_)
        return frozenset(entry.clients) if entry else frozenset()

    async def payees(self, job_id: bytes, round_: int) -> dict[tuple[int, int], bytes]:
        """The accounts that were paid for a job's work, by round and client, from a round on; nothing of what
        was paid in blocks that are not here, or not on disk yet."""
        found = await trio.to_thread.run_sync(self.db.settlements, job_id, round_)
        return {
            (item.receipt.commitment.round, item.receipt.commitment.client): item.receipt.commitment.trainer
            for payload in (included.tx.payload for included in found)
            if isinstance(payload, JobSettle | JobClaim)
            for item in payload.receipts
        }

    def supply(self) -> Supply:
        """The books."""
        return self.state().supply()

    # -- blocks and transactions -----------------------------------------------------------------------

    async def block(self, id_or_height: bytes | int) -> Block | None:
        """A block by id, of any branch that is stored, or of the best branch by height (from 1)."""
        if isinstance(id_or_height, int):
            data = await trio.to_thread.run_sync(self.db.block_at, id_or_height)
        else:
            data = await trio.to_thread.run_sync(self.db.block, id_or_height)
        return None if data is None else Block.decode(data)

    async def blocks(self, first: int, count: int) -> list[Block]:
        """Up to `count` blocks (at most 200) of the best branch from height `first` up."""
        heights = range(max(first, 1), max(first, 1) + min(count, MAX_BLOCKS))
        data = await trio.to_thread.run_sync(lambda: [self.db.block_at(height) for height in heights])
        return [Block.decode(item) for item in data if item is not None]

    async def tx(self, tx_id: bytes) -> IncludedTx | None:
        """A transaction that is in a block of the best branch."""
        return await trio.to_thread.run_sync(self.db.tx, tx_id)

    def waiting_tx(self, tx_id: bytes) -> Tx | None:
        """A transaction that waits for a block."""
        return self.pool.get(tx_id)

    async def wait_tx(self, tx_id: bytes, timeout: float) -> int:
        """Wait until a transaction is in a block of the best branch.

        Args:
            tx_id: 32 bytes.
            timeout: seconds.

        Returns:
            The block's height.

        Raises:
            trio.TooSlowError: it is in none after `timeout` seconds.
        """
        with trio.fail_after(timeout):
            while True:
                changed = self._changed
                found = await self.tx(tx_id)
                if found is not None:
                    return found.height
                await changed.wait()

    async def account_history(self, public: bytes, limit: int = 100) -> list[IncludedTx]:
        """The newest transactions of the best branch that an account (or a job) took part in."""
        return await trio.to_thread.run_sync(self.db.history, public, limit)

    async def rounds(self, job_id: bytes) -> list[IncludedRound]:
        """The recorded rounds of a job, in order."""
        return await trio.to_thread.run_sync(self.db.rounds, job_id)

    async def proposed(self, public: bytes) -> int:
        """How many blocks of the best branch an account proposed."""
        return await trio.to_thread.run_sync(self.db.proposed, public)
