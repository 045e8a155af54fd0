"""What the keeper of snapshots writes, drops and finds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from chain.certificate import Certificate
from chain.forkchoice import Chain
from chain.mempool import Mempool
from chain.snapshot import Snapshot, TrustedPoint
from p2pml.errors import UserError
from p2pml.node.chain_keeper import ChainKeeper
from p2pml.node.chain_reads import ChainReads
from p2pml.storage.chain_db import ChainDb
from p2pml.storage.chain_snapshots import ChainSnapshots
from tests.chain.conftest import World
from tests.chain.snapshots import busy_world, grow


@pytest.fixture
def world() -> World:
    return busy_world(12)


@pytest.fixture
def reads(world: World, tmp_path: Path) -> Iterator[ChainReads]:
    db = ChainDb(tmp_path / "chain.sqlite", world.genesis.chain_id)
    yield ChainReads(world.genesis, world.chain, Mempool(), db, lambda: 0)
    db.close()


def store_of(world: World, tmp_path: Path) -> ChainSnapshots:
    return ChainSnapshots.beside(tmp_path / "chain.sqlite", world.genesis)


async def test_one_snapshot_an_epoch_with_its_certificate(
    world: World, reads: ChainReads, tmp_path: Path
) -> None:
    store = store_of(world, tmp_path)
    keeper = ChainKeeper(reads, store, prune=False)
    await keeper.begin(None)
    heights = []
    for _ in range(40):
        await keeper._keep_final()
        heights += [height for height in store.heights() if height not in heights]
        grow(world, 1)
    epochs = [world.chain.state(world.chain.canonical_id(height)).epoch for height in heights]
    assert len(epochs) >= 3
    assert epochs == sorted(set(epochs)), "one of each epoch"
    assert all(store.read(height).certificate is not None for height in store.heights())


class FullDisk(ChainSnapshots):
    def write(self, snapshot: Snapshot, certificate: Certificate | None = None) -> None:
        raise UserError("no snapshot can be written: No space left on device", "check free space")


async def test_a_full_disk_costs_the_snapshot_and_nothing_else(
    world: World, reads: ChainReads, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keeper = ChainKeeper(reads, FullDisk(tmp_path, world.genesis), prune=False)
    await keeper._keep_final()
    await keeper._keep_final()
    assert caplog.text.count("No space left") == 1, "it is tried again in the next epoch"


async def test_peers_are_given_final_states_only(world: World, reads: ChainReads, tmp_path: Path) -> None:
    keeper = ChainKeeper(reads, store_of(world, tmp_path), prune=False)
    final = world.chain.final_height
    assert final < world.chain.head.height
    for height in (1, final):
        found = await keeper.found(world.chain.canonical_id(height) or b"")
        assert found is not None
        assert found.state.height == height
    for unknown in (world.chain.head.id, world.genesis.chain_id, bytes(32)):
        assert await keeper.found(unknown) is None
    point = keeper.newest_point()
    block_id = world.chain.canonical_id(final)
    assert point == TrustedPoint(final, block_id or b"", world.chain.state(block_id).root())


async def test_before_anything_is_final_there_is_no_point(tmp_path: Path) -> None:
    world = World()
    world.mine()
    db = ChainDb(tmp_path / "chain.sqlite", world.genesis.chain_id)
    reads = ChainReads(world.genesis, Chain(world.genesis), Mempool(), db, lambda: 0)
    keeper = ChainKeeper(reads, store_of(world, tmp_path), prune=False)
    await keeper._keep_final()
    assert keeper.newest_point() is None
    assert store_of(world, tmp_path).heights() == []
    db.close()


async def test_nothing_is_dropped_with_one_snapshot_only(
    world: World, reads: ChainReads, tmp_path: Path
) -> None:
    store = store_of(world, tmp_path)
    keeper = ChainKeeper(reads, store, prune=True)
    blocks = list(world.chain.ancestors(world.chain.head.id))[::-1]
    reads.db.commit(blocks, applied=blocks)
    await keeper.begin(None)
    await keeper._keep_final()
    await keeper._drop_old()
    assert (len(store.heights()), keeper.lowest_body) == (1, 1)
    while len(store.heights()) < 2:
        grow(world, 1)
        await keeper._keep_final()
    await keeper._drop_old()
    assert keeper.lowest_body == store.heights()[-1] == reads.db.lowest_body()
