"""Twenty nodes' pools over real hosts: a burst of transactions reaches all, gossip losing some or not."""

# ruff: noqa: ASYNC110  (a test polls what has no event)
from __future__ import annotations

import random
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio
import trio.testing

from chain.crypto import Keypair
from chain.forkchoice import Chain
from chain.genesis import Founder, Genesis
from chain.gossip import MAX_BATCH_BYTES, Verdict, encode_batch
from chain.mempool import Mempool
from chain.params import DEMO, TOKEN
from chain.producer import ProposerKeys
from chain.reconcile import TX
from chain.transactions import Transfer, Tx, sign_tx
from p2pml.net.gossip import Deliver, Gossip, Validate
from p2pml.net.host import Host
from p2pml.net.memory_transport import MemoryNetwork
from p2pml.node.chain_reads import ChainReads
from p2pml.node.outbox import Outbox
from p2pml.node.pool_gossip import REFUSED_S, TXS, PoolGossip
from p2pml.storage.chain_db import ChainDb

SENDERS = [Keypair.from_seed(bytes([i, 7]) * 16) for i in range(40)]
FOUNDER = ProposerKeys.from_seeds(b"\x01" * 32, b"\x02" * 32)
START_MS = 1_700_000_000_000


def genesis() -> Genesis:
    founder = Founder(FOUNDER.public, FOUNDER.vrf_public, 10, "founder")
    return Genesis(
        "pools", START_MS, DEMO, (founder,), tuple((keys.public, 1000 * TOKEN) for keys in SENDERS)
    )


def transfer(chain: Genesis, sender: int, nonce: int) -> Tx:
    return sign_tx(
        SENDERS[sender], chain.chain_id, Transfer(FOUNDER.public, 1), nonce=nonce,
        valid_until_slot=10**6, fee=chain.params.min_fee,
    )  # fmt: skip


class LossyGossip(Gossip):
    """Its validators drop a part of what comes, as if it had never come."""

    def __init__(self, host: Host, chain_id: bytes, loss: float) -> None:
        super().__init__(host, chain_id)
        self._loss, self._rng = loss, random.Random(host.peer_id)
        self.dropped = 0

    def subscribe(self, name: str, validate: Validate, deliver: Deliver) -> None:
        def judge(data: bytes) -> Verdict:
            if self._rng.random() < self._loss:
                self.dropped += 1
                return Verdict.IGNORE
            return validate(data)

        super().subscribe(name, judge, deliver)


@dataclass
class Node:
    host: Host
    gossip: LossyGossip
    reads: ChainReads
    outbox: Outbox


@pytest.fixture
def dbs(tmp_path: Path) -> Iterator[list[ChainDb]]:
    with ExitStack() as stack:
        paths = [tmp_path / f"{i}.sqlite" for i in range(20)]
        yield [stack.enter_context(closing(ChainDb(path, genesis().chain_id))) for path in paths]


@asynccontextmanager
async def network(dbs: list[ChainDb], loss: float) -> AsyncIterator[list[Node]]:
    """Nodes on pipes in memory, each connected to a ring neighbour and three others."""
    rng, count = random.Random(1), len(dbs)
    async with trio.open_nursery() as nursery:
        wires = MemoryNetwork(nursery)
        nodes: list[Node] = []
        for i, db in enumerate(dbs):
            host = Host(bytes([i + 1]) * 32, f"198.18.0.{i + 1}", wires=wires.transport())
            gossip = LossyGossip(host, genesis().chain_id, loss)
            reads = ChainReads(genesis(), Chain(genesis()), Mempool(), db, lambda: START_MS + 1000)
            pools = PoolGossip(reads, host, gossip, random.Random(i))
            nodes.append(Node(host, gossip, reads, Outbox(reads, pools)))
            await nursery.start(host.run)
            await nursery.start(gossip.run)
            nursery.start_soon(pools.run)
        for i, node in enumerate(nodes):
            for other in sorted({(i + 1) % count, *rng.sample(range(count), 3)} - {i}):
                await node.host.connect(nodes[other].host.addrs()[0])
        with trio.fail_after(30):
            while not all(len(node.gossip.peers(TXS)) >= 4 for node in nodes):
                await trio.sleep(0.1)
        yield nodes
        nursery.cancel_scope.cancel()


@pytest.mark.slow
@pytest.mark.parametrize("loss", [0.0, 0.3])
async def test_a_burst_of_a_thousand_transactions_reaches_all_twenty_nodes(
    dbs: list[ChainDb], loss: float
) -> None:
    async with network(dbs, loss) as nodes:
        txs = [transfer(genesis(), i % 40, i // 40) for i in range(1000)]
        for i, tx in enumerate(txs):
            nodes[i % 40 % 4].outbox.submit_tx(tx)
        with trio.fail_after(120):
            while not all(len(node.reads.pool) == len(txs) for node in nodes):
                await trio.sleep(0.1)
        wanted = {tx.id for tx in txs}
        for node in nodes:
            assert {tx.id for tx in node.reads.pool.transactions()} == wanted
            assert bool(node.gossip.dropped) == bool(loss)


@pytest.fixture
def pools(tmp_path: Path) -> Iterator[PoolGossip]:
    host = Host(bytes([99]) * 32)
    with closing(ChainDb(tmp_path / "chain.sqlite", genesis().chain_id)) as db:
        reads = ChainReads(genesis(), Chain(genesis()), Mempool(), db, lambda: START_MS + 1000)
        yield PoolGossip(reads, host, Gossip(host, genesis().chain_id), random.Random(1))


async def test_what_was_fetched_is_still_passed_on_once_when_gossip_brings_it(pools: PoolGossip) -> None:
    tx = transfer(genesis(), 0, 0)
    assert pools.take(TX, tx.encoded) == (Verdict.ACCEPT, tx.id)
    batch = encode_batch([tx.encoded])
    assert pools._judge_txs(batch) is Verdict.ACCEPT
    assert pools._judge_txs(batch) is Verdict.IGNORE


async def test_what_the_pool_refused_is_not_fetched_again_for_a_while(
    pools: PoolGossip, autojump_clock: trio.testing.MockClock
) -> None:
    far = transfer(genesis(), 0, 1000)
    assert pools.take(TX, far.encoded) == (Verdict.IGNORE, far.id)
    assert far.id in pools.known()
    assert list(pools.items()) == []
    await trio.sleep(REFUSED_S + 1)
    assert far.id not in pools.known()


async def test_a_burst_goes_out_in_batches_that_fit(pools: PoolGossip) -> None:
    txs = [transfer(genesis(), i, 0) for i in range(40)] * 10
    for tx in txs:
        pools.send_tx(tx)
    batches = []
    while pools._queue:
        batches.append(pools._next_batch())
    assert [data for batch in batches for data in batch] == [tx.encoded for tx in txs]
    assert all(sum(map(len, batch)) <= MAX_BATCH_BYTES for batch in batches)
    assert len(batches) == -(-sum(len(tx.encoded) for tx in txs) // MAX_BATCH_BYTES)
