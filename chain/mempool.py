"""Transactions, round records and rating items that wait for a block. Bounded; one owner; no clock.

A sender's transactions leave in nonce order; among senders the higher fee goes first. A transaction
replaces one of the same nonce if it pays a tenth more. When the pool is full, a better-paying newcomer
pushes out the worst last transaction of any sender.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from contextlib import suppress

from chain.draft import Draft
from chain.errors import InvalidRating, InvalidRecord, InvalidTransaction, PoolFull
from chain.rating.items import RatingItem, Ruling
from chain.rating_pool import RatingPool
from chain.record_pool import RecordPool
from chain.rewards import vested
from chain.state import State
from chain.training_records import RoundRecord
from chain.transactions import JobClaim, JobOpen, JobSettle, Register, Transfer, Tx
from chain.transition import apply_record, apply_tx, check_tx_alone, open_slot
from chain.types import Block

NOBODY = bytes(32)


class Mempool:
    """The pool.

    Args:
        max_txs: transactions held.
        max_bytes: their encoded bytes.
        max_per_sender: transactions held per sender, and how far a nonce may run ahead.

    Attributes:
        ratings: the rating items that wait.
    """

    def __init__(
        self, max_txs: int = 4096, max_bytes: int = 8 * 1024 * 1024, max_per_sender: int = 64
    ) -> None:
        self._max_txs = max_txs
        self._max_bytes = max_bytes
        self._max_per_sender = max_per_sender
        self._senders: dict[bytes, dict[int, Tx]] = {}
        self._by_id: dict[bytes, Tx] = {}
        self._arrival: dict[bytes, int] = {}
        self._arrivals = 0
        self._bytes = 0
        self._records = RecordPool()
        self.ratings = RatingPool()

    def __len__(self) -> int:
        return len(self._by_id)

    def has(self, tx_id: bytes) -> bool:
        """Whether a transaction waits here."""
        return tx_id in self._by_id

    def get(self, tx_id: bytes) -> Tx | None:
        """A waiting transaction."""
        return self._by_id.get(tx_id)

    def vouch_for(self, block: Block) -> None:
        """Spare a block the checking of signatures that were checked when its transactions came here."""
        for tx in block.body.txs:
            waiting = self._by_id.get(tx.id)
            if waiting is not None:
                tx.checked_with(waiting)

    def transactions(self) -> tuple[Tx, ...]:
        """All waiting transactions, in order of arrival."""
        return tuple(self._by_id[tx_id] for tx_id in self._arrival)

    def records(self) -> tuple[RoundRecord, ...]:
        """All waiting round records, job by job in round order."""
        return self._records.records()

    def next_nonce(self, public: bytes, state: State) -> int:
        """The lowest nonce that neither the chain nor a waiting transaction has used."""
        nonce = state.account(public).nonce
        waiting = self._senders.get(public, {})
        while nonce in waiting:
            nonce += 1
        return nonce

    def add(self, tx: Tx, state: State, slot: int) -> bool:
        """Take a transaction; False if it waits here already.

        Raises:
            InvalidTransaction: it cannot become valid, or only with money that the sender has not got.
            PoolFull: there is no room and it does not pay enough to make some.
        """
        if tx.id in self._by_id:
            return False
        check_tx_alone(state, tx, slot)
        account = state.account(tx.sender)
        if not account.nonce <= tx.nonce < account.nonce + self._max_per_sender:
            raise InvalidTransaction(f"the nonce is {tx.nonce}, the account's next is {account.nonce}")
        queue = self._senders.get(tx.sender, {})
        old = queue.get(tx.nonce)
        if old is not None and tx.fee * 10 < old.fee * 11:
            raise InvalidTransaction(
                f"a transaction with nonce {tx.nonce} waits already: replacing it takes a fee of"
                f" {-(-old.fee * 11 // 10)}"
            )
        self._check_means(tx, state, queue)
        if tx.nonce == account.nonce:
            self._try(tx, state, slot)
        if old is None:
            self._make_room(tx)
        else:
            self._remove(old)
        self._senders.setdefault(tx.sender, {})[tx.nonce] = tx
        self._by_id[tx.id] = tx
        self._arrivals += 1
        self._arrival[tx.id] = self._arrivals
        self._bytes += len(tx.encoded)
        return True

    def add_record(self, record: RoundRecord, state: State) -> bool:
        """Take a round record; False if it waits here already. Raises InvalidRecord or PoolFull."""
        return self._records.add(record, state)

    def select(self, state: State, slot: int, max_txs: int | None = None) -> tuple[Tx, ...]:
        """Transactions that apply one after the other after `state`, best fee first.

        The records that `select_records` gives are taken as applied before them.
        """
        limit = state.genesis.params.max_user_txs if max_txs is None else max_txs
        draft = self._draft(state, slot)
        ready: list[tuple[int, int, Tx]] = []

        def push(sender: bytes, nonce: int) -> None:
            tx = self._senders[sender].get(nonce)
            if tx is not None:
                heapq.heappush(ready, (-tx.fee, self._arrival[tx.id], tx))

        for sender in self._senders:
            push(sender, state.account(sender).nonce)
        chosen: list[Tx] = []
        while ready and len(chosen) < limit:
            _, _, tx = heapq.heappop(ready)
            try:
                apply_tx(draft, tx, slot, state.height + 1, NOBODY)
            except InvalidTransaction:
                continue  # it keeps its sender's later ones back; `on_head` decides whether it stays
            chosen.append(tx)
            push(tx.sender, tx.nonce + 1)
        return tuple(chosen)

    def select_records(self, state: State, slot: int) -> tuple[RoundRecord, ...]:
        """Round records for a block in `slot` after `state`, in order, as many as its cap allows."""
        return self._records.select(open_slot(state, slot), state.genesis.params.max_round_records)

    def select_ratings(self, state: State, slot: int, limit: int | None = None) -> tuple[RatingItem, ...]:
        """Rating items for a block in `slot` after `state`, in order: as many as it may hold, or `limit`."""
        return self.ratings.select(open_slot(state, slot), slot, limit) if self.ratings else ()

    def on_head(self, applied: Iterable[Block], reverted: Iterable[Block], state: State, slot: int) -> None:
        """Follow the chain: drop what is in blocks or has become invalid, take back what was reverted."""
        blocks, back = tuple(applied), tuple(reverted)
        included = {tx.id for block in blocks for tx in block.body.txs}
        for tx in tuple(self._by_id.values()):
            stale = tx.nonce < state.account(tx.sender).nonce or slot > tx.valid_until_slot
            if stale or tx.id in included:
                self._remove(tx)
        self._records.on_head(state)
        self.ratings.on_head((item for block in blocks for item in block.body.ratings), state, slot)
        for block in reversed(back):
            for item in block.body.ratings:
                with suppress(InvalidRating, PoolFull):
                    point = item.accusation if isinstance(item, Ruling) else item
                    self.ratings.put_back(point, state, slot)
            for record in block.body.records:
                with suppress(InvalidRecord, PoolFull):
                    self.add_record(record, state)
            for tx in block.body.txs:
                with suppress(InvalidTransaction, PoolFull):
                    if tx.id not in included:
                        self.add(tx, state, slot)
        self._drop_hopeless(state, slot)

    def _drop_hopeless(self, state: State, slot: int) -> None:
        """A sender's next transaction that fails now would block all later ones of that sender."""
        base = self._draft(state, slot)
        for sender in tuple(self._senders):
            tx = self._senders[sender].get(state.account(sender).nonce)
            if tx is None:
                continue
            try:
                apply_tx(Draft(base), tx, slot, state.height + 1, NOBODY)
            except InvalidTransaction:
                self._remove(tx)

    def _draft(self, state: State, slot: int) -> Draft:
        draft = open_slot(state, slot)
        for record in self.select_records(state, slot):
            apply_record(draft, record)
        return draft

    def _try(self, tx: Tx, state: State, slot: int) -> None:
        needs_records = isinstance(tx.payload, JobSettle)
        draft = self._draft(state, slot) if needs_records else open_slot(state, slot)
        apply_tx(draft, tx, slot, state.height + 1, NOBODY)

    def _check_means(self, tx: Tx, state: State, queue: dict[int, Tx]) -> None:
        account = state.account(tx.sender)
        means = account.balance + vested(state, state.finality.epochs, tx.sender)
        others = [other for nonce, other in queue.items() if nonce != tx.nonce]
        cost = sum(_outlay(other, account.nonce) for other in (*others, tx))
        if cost > means:
            raise InvalidTransaction(f"the sender's waiting transactions cost {cost}, the balance is {means}")

    def _make_room(self, tx: Tx) -> None:
        while len(self._by_id) >= self._max_txs or self._bytes + len(tx.encoded) > self._max_bytes:
            last = (queue[max(queue)] for queue in self._senders.values())
            worst = min(
                (other for other in last if other.sender != tx.sender),
                key=lambda other: (other.fee, -self._arrival[other.id]),
                default=None,
            )
            if worst is None or worst.fee >= tx.fee:
                raise PoolFull("the pool of waiting transactions is full: offer a higher fee or wait")
            self._remove(worst)

    def _remove(self, tx: Tx) -> None:
        queue = self._senders[tx.sender]
        del queue[tx.nonce], self._by_id[tx.id], self._arrival[tx.id]
        if not queue:
            del self._senders[tx.sender]
        self._bytes -= len(tx.encoded)


def _outlay(tx: Tx, next_nonce: int) -> int:
    """What the sender must own for a transaction.

    A claim brings its own fee, but only the sender's next one was tried and found to do so: without this,
    later ones would fill the pool at any fee and for nothing.
    """
    payload = tx.payload
    if isinstance(payload, JobClaim) and tx.nonce == next_nonce:
        return 0
    if isinstance(payload, Transfer):
        return tx.fee + payload.amount
    if isinstance(payload, Register):
        return tx.fee + payload.bond
    return tx.fee + payload.budget if isinstance(payload, JobOpen) else tx.fee
