"""Rating items among nodes: by gossip, by comparing pools where gossip loses all, what is offered when."""

# ruff: noqa: ASYNC110  (a test polls what has no event)
from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio

from chain.gossip import Verdict
from chain.mempool import Mempool
from chain.rating.items import Commit
from chain.reconcile import RATING
from p2pml.errors import UserError
from p2pml.net.gossip import Gossip
from p2pml.net.host import Host
from p2pml.net.memory_transport import MemoryNetwork
from p2pml.node.chain_reads import ChainReads
from p2pml.node.outbox import Outbox
from p2pml.node.pool_gossip import RATINGS, PoolGossip
from p2pml.storage.chain_db import ChainDb
from tests.chain.conftest import World
from tests.chain.rating_window import BRIEF, Windows, Work
from tests.node.test_pool_gossip import LossyGossip


@dataclass
class Scene:
    """A chain on which a window is announced, seen by nodes at the same moment."""

    windows: Windows
    dbs: list[ChainDb]
    slot: int

    def reads(self, i: int) -> ChainReads:
        world = self.windows.world
        return ChainReads(
            world.genesis, world.chain, Mempool(), self.dbs[i], lambda: world.genesis.slot_start_ms(self.slot)
        )

    def commit(self, i: int) -> Commit:
        world = self.windows.world
        return Work(world, world.validators[i].keypair, self.windows.window).commit


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    windows = Windows(World((10, 10, 10, 10), params=BRIEF))
    windows.announce()
    with ExitStack() as stack:
        chain_id = windows.world.genesis.chain_id
        dbs = [stack.enter_context(closing(ChainDb(tmp_path / f"{i}.sqlite", chain_id))) for i in range(4)]
        yield Scene(windows, dbs, windows.borders.train_end)


@pytest.mark.slow
@pytest.mark.parametrize("loss", [0.0, 1.0])
async def test_every_commitment_reaches_every_pool(scene: Scene, loss: float) -> None:
    """Whether gossip brings it or, where that loses everything, comparing pools."""
    chain_id = scene.windows.world.genesis.chain_id
    commits = {scene.commit(i).id for i in range(4)}
    async with trio.open_nursery() as nursery:
        wires = MemoryNetwork(nursery)
        hosts, gossips, reads = [], [], []
        for i in range(4):
            host = Host(bytes([i + 1]) * 32, f"198.18.0.{i + 1}", wires=wires.transport())
            hosts.append(host)
            gossips.append(LossyGossip(host, chain_id, loss))
            reads.append(scene.reads(i))
            pools = PoolGossip(reads[i], host, gossips[i], random.Random(i))
            await nursery.start(host.run)
            await nursery.start(gossips[i].run)
            nursery.start_soon(pools.run)
            if i:
                await host.connect(hosts[i - 1].addrs()[0])
            Outbox(reads[i], pools).submit_rating(scene.commit(i))
        with trio.fail_after(60):
            while any({point.id for point in each.pool.ratings.points()} != commits for each in reads):
                await trio.sleep(0.1)
        nursery.cancel_scope.cancel()


@pytest.fixture
def node(scene: Scene) -> tuple[ChainReads, PoolGossip]:
    host, reads = Host(bytes([99]) * 32), scene.reads(0)
    return reads, PoolGossip(reads, host, Gossip(host, reads.genesis.chain_id), random.Random(1))


async def test_a_commitment_that_is_late_is_neither_taken_nor_offered(
    scene: Scene, node: tuple[ChainReads, PoolGossip]
) -> None:
    """Who offered it would be left alone for a while, and lost items of others with it."""
    pools = node[1]
    mine, late = scene.commit(0), scene.commit(1)
    assert pools.take(RATING, mine.encoded) == (Verdict.ACCEPT, mine.id)
    assert [item.id for item in pools.items()] == [mine.id]
    scene.slot += 1
    assert pools.take(RATING, late.encoded) == (Verdict.IGNORE, late.id)
    assert list(pools.items()) == []
    assert set(pools.known()) == {mine.id, late.id}


async def test_what_was_fetched_is_passed_on_once(scene: Scene, node: tuple[ChainReads, PoolGossip]) -> None:
    pools, commit = node[1], scene.commit(0)
    assert pools.take(RATING, commit.encoded)[0] is Verdict.ACCEPT
    assert pools._judge_rating(commit.encoded) is Verdict.ACCEPT
    assert pools._judge_rating(commit.encoded) is Verdict.IGNORE


async def test_what_cannot_be_sent_is_told_with_its_cause(
    scene: Scene, node: tuple[ChainReads, PoolGossip]
) -> None:
    outbox = Outbox(*node)
    scene.slot += 1
    with pytest.raises(
        UserError, match=r"rating-commit item cannot be sent: .* after the end of the training"
    ):
        outbox.submit_rating(scene.commit(0))


async def test_what_falls_out_of_the_pool_is_put_back_until_it_is_over(
    scene: Scene, node: tuple[ChainReads, PoolGossip]
) -> None:
    reads, pools = node
    outbox, commit = Outbox(reads, pools), scene.commit(0)
    outbox.submit_rating(commit)
    assert pools._alone.popleft() == (RATINGS, commit.encoded)
    reads.pool.ratings.on_head([commit], reads.state(), scene.slot)  # in a block that is reverted unseen
    scene.slot += 1
    assert outbox._point_waits(commit)
    assert reads.pool.ratings.points() == (commit,)
    scene.slot = scene.windows.borders.commit_end
    assert not outbox._point_waits(commit)
