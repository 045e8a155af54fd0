"""Waiting transactions, round records and rating items among the nodes: by gossip, and by comparing pools for
what it lost.

Transactions are gossiped in batches: what comes within a moment goes out together, so that a burst is a few
messages and not a thousand.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterable

import trio

from chain.crypto import H
from chain.gossip import (
    MAX_BATCH_BYTES,
    Verdict,
    encode_batch,
    validate_rating,
    validate_record,
    validate_tx,
    validate_txs,
)
from chain.rating.admission import is_late
from chain.rating.items import Point
from chain.recent import Recent
from chain.reconcile import RATING, RECORD, TX, Item, Reconciler
from chain.training_records import RoundRecord
from chain.transactions import Tx
from p2pml.net.gossip import Gossip
from p2pml.net.host import Host
from p2pml.net.reconcile import ReconcilePump
from p2pml.node.chain_reads import ChainReads

TXS, RECORDS, RATINGS = "txs", "records", "ratings"
LINGER_S = 0.02
"""Seconds for which a transaction waits for others that go out with it."""
PACE_S = 0.2
"""Seconds from one message to the next under load: a message costs each node as much as many transactions."""
REFUSED_S = 30.0
"""Seconds for which an item that our pool did not take is not fetched again."""
_REMEMBERED = 4096


class PoolGossip:
    """Spreads what this node submits and takes what others do.

    Args:
        reads: the chain; its pool holds what waits.
        host, gossip: running while this runs.
        rng: draws the peers to compare with.
    """

    def __init__(self, reads: ChainReads, host: Host, gossip: Gossip, rng: random.Random) -> None:
        self._reads, self._gossip = reads, gossip
        self._pump = ReconcilePump(host, Reconciler(rng), self, gossip.blame)
        self._queue: deque[Tx] = deque()
        self._alone: deque[tuple[str, bytes]] = deque()  # (topic, message): sent at once, one by one
        self._queued = trio.Event()
        self._refused: Recent[bytes, float] = Recent(_REMEMBERED)
        self._fetched: Recent[bytes, bool] = Recent(_REMEMBERED)  # not seen in gossip yet

    async def run(self) -> None:
        """Take part until cancelled."""
        self._gossip.subscribe(TXS, self._judge_txs, lambda peer, data: None)
        self._gossip.subscribe(RECORDS, self._judge_record, lambda peer, data: None)
        self._gossip.subscribe(RATINGS, self._judge_rating, lambda peer, data: None)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._sending)
            nursery.start_soon(self._pump.run)

    def send_tx(self, tx: Tx) -> None:
        """Gossip a transaction that our pool has taken."""
        self._queue.append(tx)
        self._queued.set()

    def send_record(self, record: RoundRecord) -> None:
        """Gossip a round record that our pool has taken."""
        self._send_alone(RECORDS, record.encode())

    def send_rating(self, point: Point) -> None:
        """Gossip a rating item that our pool has taken."""
        self._send_alone(RATINGS, point.encoded)

    def _send_alone(self, topic: str, message: bytes) -> None:
        self._alone.append((topic, message))
        self._queued.set()

    async def _sending(self) -> None:
        sent = float("-inf")
        while True:
            await self._queued.wait()
            self._queued = trio.Event()
            while self._alone:
                await self._gossip.publish(*self._alone.popleft())
            await trio.sleep(max(LINGER_S, sent + PACE_S - trio.current_time()))
            while self._queue:
                await self._gossip.publish(TXS, encode_batch(self._next_batch()))
            sent = trio.current_time()

    def _next_batch(self) -> list[bytes]:
        batch = [self._queue.popleft().encoded]
        size = len(batch[0])
        while self._queue and size + len(self._queue[0].encoded) <= MAX_BATCH_BYTES:
            batch.append(self._queue.popleft().encoded)
            size += len(batch[-1])
        return batch

    # -- what gossip brings ------------------------------------------------------------------------------

    def _judge_txs(self, data: bytes) -> Verdict:
        reads = self._reads
        checked = validate_txs(data, reads.pool, reads.state(), reads.next_slot())
        return self._unless_fetched(checked.verdict, [tx.id for tx in checked.item or ()])

    def _judge_record(self, data: bytes) -> Verdict:
        checked = validate_record(data, self._reads.pool, self._reads.state())
        return self._unless_fetched(checked.verdict, [] if checked.item is None else [_record_id(data)])

    def _judge_rating(self, data: bytes) -> Verdict:
        reads = self._reads
        checked = validate_rating(data, reads.pool, reads.state(), reads.slot_now())
        return self._unless_fetched(checked.verdict, [] if checked.item is None else [checked.item.id])

    def _unless_fetched(self, verdict: Verdict, ids: Iterable[bytes]) -> Verdict:
        """What we fetched is known when gossip brings it, but others wait for us to pass it on, once."""
        fetched = [item_id for item_id in ids if self._fetched.pop(item_id)]
        return Verdict.ACCEPT if verdict is Verdict.IGNORE and fetched else verdict

    # -- what comparing brings -----------------------------------------------------------------------------

    def known(self) -> Iterable[bytes]:
        """Ids of what waits here and of what was refused a moment ago."""
        now = trio.current_time()
        yield from (item.id for item in self._held())
        yield from (point.id for point in self._reads.pool.ratings.points())
        yield from (item_id for item_id, until in self._refused.items() if until > now)

    def items(self) -> Iterable[Item]:
        """All that waits here and that others would still take, in order of arrival."""
        reads = self._reads
        state, slot = reads.state(), reads.slot_now()
        yield from self._held()
        for point in reads.pool.ratings.points():
            if not is_late(point, state, slot):
                yield Item(point.id, RATING, point.encoded)

    def _held(self) -> Iterable[Item]:
        yield from (Item(tx.id, TX, tx.encoded) for tx in self._reads.pool.transactions())
        for record in self._reads.pool.records():
            data = record.encode()
            yield Item(_record_id(data), RECORD, data)

    def take(self, kind: int, data: bytes) -> tuple[Verdict, bytes]:
        """Judge an item as gossip would."""
        reads, judge = self._reads, _JUDGES[kind]
        verdict, item_id = judge(reads, data)
        if verdict is Verdict.ACCEPT:
            self._fetched.put(item_id, True)
        elif verdict is Verdict.IGNORE:
            self._refused.put(item_id, trio.current_time() + REFUSED_S)
        return verdict, item_id


def _take_tx(reads: ChainReads, data: bytes) -> tuple[Verdict, bytes]:
    checked = validate_tx(data, reads.pool, reads.state(), reads.next_slot())
    return checked.verdict, checked.item.id if checked.item else b""


def _take_record(reads: ChainReads, data: bytes) -> tuple[Verdict, bytes]:
    checked = validate_record(data, reads.pool, reads.state())
    return checked.verdict, _record_id(data) if checked.item else b""


def _take_rating(reads: ChainReads, data: bytes) -> tuple[Verdict, bytes]:
    checked = validate_rating(data, reads.pool, reads.state(), reads.slot_now())
    return checked.verdict, checked.item.id if checked.item else b""


_JUDGES: dict[int, Callable[[ChainReads, bytes], tuple[Verdict, bytes]]] = {
    TX: _take_tx,
    RECORD: _take_record,
    RATING: _take_rating,
}


def _record_id(data: bytes) -> bytes:
    return H("waiting-record", data)
