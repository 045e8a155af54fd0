"""Snapshots on disk, and a database without its old blocks."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from chain.certificate import Certificate, certify
from chain.errors import InvalidError, InvalidSnapshot
from chain.genesis import Genesis
from chain.header import SealedHeader
from chain.types import Block
from p2pml.errors import UserError
from p2pml.storage.chain_db import ChainDb
from p2pml.storage.chain_snapshots import ChainSnapshots
from tests.chain.conftest import World
from tests.chain.snapshots import busy_world, snapshot_of


@pytest.fixture(scope="module")
def world() -> World:
    return busy_world(20)


@pytest.fixture(scope="module")
def proof(world: World) -> Certificate:
    chain = world.chain
    final = chain.state(chain.canonical_id(chain.final_height))
    found = certify(final, blocks_of(world)[final.height :])
    assert found is not None
    return found


@pytest.fixture
def store(tmp_path: Path, world: World) -> ChainSnapshots:
    return ChainSnapshots.beside(tmp_path / "chain.sqlite", world.genesis)


def blocks_of(world: World) -> list[Block]:
    return list(world.chain.ancestors(world.chain.head.id))[::-1]


def the_file(folder: Path) -> Path:
    (found,) = (folder / "chain.snapshots").iterdir()
    return found


def test_what_is_written_is_read_back(world: World, store: ChainSnapshots, proof: Certificate) -> None:
    taken = snapshot_of(world.chain)
    assert store.heights() == []
    store.write(taken, proof)
    found = store.read(taken.state.height)
    assert (found.state.root(), found.sealed) == (taken.state.root(), taken.manifest.sealed)
    assert found.certificate == proof
    store.write(taken)
    assert store.read(taken.state.height).certificate is None


def test_the_newest_two_are_kept(world: World, store: ChainSnapshots) -> None:
    for height in (3, 9, 5, 7):
        store.write(snapshot_of(world.chain, world.chain.canonical_id(height)))
    assert store.heights() == [9, 7]
    store.drop(9)
    store.drop(9)
    assert store.heights() == [7]
    store.drop_all()
    assert store.heights() == []


@pytest.mark.slow
def test_any_flipped_bit_and_any_early_end_is_found(
    world: World, store: ChainSnapshots, proof: Certificate, tmp_path: Path
) -> None:
    taken = snapshot_of(world.chain)
    store.write(taken, proof)
    file, height = the_file(tmp_path), taken.state.height
    whole = file.read_bytes()
    # Every byte of the start and of the end, and some of the long middle; the size is a hint only.
    places = [*range(0, 600, 7), *range(600, len(whole) - 600, 3001), *range(len(whole) - 600, len(whole), 5)]
    passed = []
    for at in places:
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 0x04]) + whole[at + 1 :])
        try:
            passed.append((at, store.read(height).state.root()))
        except InvalidError:
            continue
    assert all(root == taken.state.root() for _, root in passed)
    assert len(passed) <= 2
    for end in (0, 10, 60, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:end])
        with pytest.raises(InvalidError):
            store.read(height)


def test_a_false_certificate_is_found(world: World, store: ChainSnapshots, proof: Certificate) -> None:
    taken = snapshot_of(world.chain)
    store.write(taken, replace(proof, finalizing=proof.finalizing[:1]))
    with pytest.raises(InvalidError, match="two thirds"):
        store.read(taken.state.height)


def test_a_file_of_another_height_or_chain_is_found(
    world: World, store: ChainSnapshots, tmp_path: Path
) -> None:
    taken = snapshot_of(world.chain)
    store.write(taken)
    file = the_file(tmp_path)
    file.rename(file.with_name("000000000003.snapshot"))
    with pytest.raises(InvalidSnapshot, match="another height"):
        store.read(3)
    genesis = world.genesis
    other = Genesis("other", genesis.time_ms, genesis.params, genesis.validators, genesis.allocations)
    with pytest.raises(InvalidSnapshot, match="another chain"):
        ChainSnapshots.beside(tmp_path / "chain.sqlite", other).read(3)


def test_a_write_that_fails_leaves_what_was_there(
    world: World, store: ChainSnapshots, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.write(snapshot_of(world.chain, world.chain.canonical_id(4)))

    def full(path: Path, data: bytes) -> None:
        path.with_name("x.part").write_bytes(data[:100])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("p2pml.storage.chain_snapshots.write_atomic", full)
    with pytest.raises(UserError, match="No space left") as e:
        store.write(snapshot_of(world.chain))
    assert "free space" in e.value.fix
    assert store.heights() == [4]
    assert store.read(4).state.height == 4


def test_pruned_blocks_leave_their_headers(world: World, tmp_path: Path) -> None:
    blocks = blocks_of(world)
    side = world.reseal(blocks[4], header={"prev": blocks[3].prev})
    with closing(ChainDb(tmp_path / "chain.sqlite", world.genesis.chain_id)) as db:
        assert db.lowest_body() is None
        db.commit([*blocks, side], applied=blocks)
        assert db.lowest_body() == 1
        tx = blocks[0].body.txs[0]
        assert db.tx(tx.id) is not None
        assert db.prune(10, at_most=4)
        assert (db.lowest_body(), db.block(blocks[3].block_id)) == (5, None)
        assert db.prune(10, at_most=4)
        assert not db.prune(10, at_most=4)
        assert not db.prune(10)
        assert db.lowest_body() == 10
        assert db.block(side.block_id) is None
        assert [block.height for block in db.best_branch()] == list(range(10, len(blocks) + 1))
        assert [block.height for block in db.best_branch(above=12)] == list(range(13, len(blocks) + 1))
        assert [block.height for block in db.replay(above=12)] == list(range(13, len(blocks) + 1))
        for block in blocks:
            header = db.sealed(block.block_id)
            assert header is not None
            assert SealedHeader.decode(header) == block.sealed
        assert db.ids_below(12) == (1, [block.block_id for block in blocks[:11]])
        assert db.tx(tx.id) is None
        assert len(db.rounds(blocks[1].body.records[0].job)) == 1, "what was recorded of jobs stays"
        assert sum(db.proposed(keys.public) for keys in world.validators) == len(blocks)


def test_a_database_may_begin_at_a_block(world: World, tmp_path: Path) -> None:
    blocks = blocks_of(world)
    with closing(ChainDb(tmp_path / "chain.sqlite", world.genesis.chain_id)) as db:
        db.begin_at(blocks[8].sealed)
        assert (db.head_id(), db.lowest_body()) == (blocks[8].block_id, None)
        assert db.canonical_id(9) == blocks[8].block_id
        assert db.ids_below(9) == (9, [])
        assert db.sealed(blocks[8].block_id) == blocks[8].sealed.encoded
        db.commit(blocks[9:], applied=blocks[9:])
        assert (db.lowest_body(), db.head_id()) == (10, blocks[-1].block_id)
