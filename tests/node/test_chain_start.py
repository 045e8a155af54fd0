"""Taking up the chain from disk: the newest good snapshot, and no more blocks than are needed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from p2pml.node.chain_start import take_up, warn_when_long_away
from p2pml.storage.chain_db import ChainDb, DamagedChain
from p2pml.storage.chain_snapshots import ChainSnapshots
from tests.chain.conftest import World
from tests.chain.snapshots import busy_world, grow, snapshot_of


@pytest.fixture(scope="module")
def world() -> World:
    return busy_world(24)


@pytest.fixture
def store(world: World, tmp_path: Path) -> ChainSnapshots:
    """Snapshots at heights 10 and 18."""
    store = ChainSnapshots.beside(tmp_path / "chain.sqlite", world.genesis)
    for height in (10, 18):
        store.write(snapshot_of(world.chain, world.chain.canonical_id(height)))
    return store


@pytest.fixture
def db(world: World, tmp_path: Path) -> Iterator[ChainDb]:
    db = ChainDb(tmp_path / "chain.sqlite", world.genesis.chain_id)
    blocks = list(world.chain.ancestors(world.chain.head.id))[::-1]
    db.commit(blocks, applied=blocks)
    yield db
    db.close()


def spoil(tmp_path: Path, height: int) -> None:
    path = tmp_path / "chain.snapshots" / f"{height:012d}.snapshot"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


async def test_only_the_blocks_after_the_newest_snapshot_are_executed(
    world: World, store: ChainSnapshots, db: ChainDb
) -> None:
    head = world.chain.head
    taken = await take_up(world.genesis, db, store, 256)
    assert taken.executed == head.height - 18
    assert (taken.chain.head, taken.chain.state().root()) == (head, world.state.root())
    assert [taken.chain.canonical_id(h) for h in range(head.height + 1)] == [
        world.chain.canonical_id(h) for h in range(head.height + 1)
    ]
    assert taken.chain.final_height == world.chain.final_height
    store.drop_all()
    assert (await take_up(world.genesis, db, store, 256)).executed == head.height


@pytest.mark.parametrize(("spoilt", "executed_from"), [((18,), 10), ((10, 18), 0), ((10,), 18)])
async def test_a_damaged_snapshot_is_told_dropped_and_passed_over(
    world: World,
    store: ChainSnapshots,
    db: ChainDb,
    tmp_path: Path,
    spoilt: tuple[int, ...],
    executed_from: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    for height in spoilt:
        spoil(tmp_path, height)
    taken = await take_up(world.genesis, db, store, 256)
    assert taken.executed == world.chain.head.height - executed_from
    assert taken.chain.head == world.chain.head
    seen = [height for height in spoilt if height > executed_from]
    assert sorted(store.heights()) == sorted({10, 18} - set(seen))
    for height in seen:
        assert f"snapshot at height {height} does not hold" in caplog.text


@pytest.mark.parametrize(("head_slot", "away", "told"), [(5, 1, True), (5, 0, False), (0, 1, False)])
def test_a_chain_older_than_evidence_is_told(
    world: World, head_slot: int, away: int, told: bool, caplog: pytest.LogCaptureFixture
) -> None:
    params = world.genesis.params
    age = params.evidence_epochs * params.slots_per_epoch
    warn_when_long_away(world.genesis, head_slot, head_slot + age + away)
    assert ("older than evidence" in caplog.text) == told


async def test_a_snapshot_of_another_branch_is_dropped(
    world: World, store: ChainSnapshots, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = World(users=4, params=world.genesis.params)
    other.mine()
    grow(other, 10)
    assert other.genesis.chain_id == world.genesis.chain_id
    db = ChainDb(tmp_path / "chain.sqlite", world.genesis.chain_id)
    blocks = list(other.chain.ancestors(other.chain.head.id))[::-1]
    db.commit(blocks, applied=blocks)
    taken = await take_up(world.genesis, db, store, 256)
    assert (taken.start, taken.chain.head) == (None, other.chain.head)
    assert "not in the database" in caplog.text
    assert store.heights() == []
    db.close()


async def test_a_pruned_chain_begins_at_its_snapshot_or_not_at_all(
    world: World, store: ChainSnapshots, db: ChainDb, tmp_path: Path
) -> None:
    db.prune(10)
    spoil(tmp_path, 18)
    taken = await take_up(world.genesis, db, store, 256)
    assert taken.executed == world.chain.head.height - 10
    assert taken.chain.canonical_id(3) == world.chain.canonical_id(3), "the ids stay"
    spoil(tmp_path, 10)
    with pytest.raises(DamagedChain, match="no snapshot to begin with"):
        await take_up(world.genesis, db, store, 256)


async def test_a_chain_that_begins_at_a_checkpoint_goes_on_from_it(
    world: World, store: ChainSnapshots, tmp_path: Path
) -> None:
    db = ChainDb(tmp_path / "chain.sqlite", world.genesis.chain_id)
    block = world.chain.block(world.chain.canonical_id(18) or b"")
    assert block is not None
    db.begin_at(block.sealed)
    taken = await take_up(world.genesis, db, store, 256)
    assert (taken.executed, taken.chain.head.id) == (0, block.block_id)
    assert taken.chain.canonical_id(17) is None
    store.drop_all()
    with pytest.raises(DamagedChain, match="no snapshot to begin with"):
        await take_up(world.genesis, db, store, 256)
    db.close()
