"""A chain with every kind of entry in its state, for the tests of snapshots."""

from __future__ import annotations

from dataclasses import replace

from chain import buckets
from chain.forkchoice import Chain, Start
from chain.quality import Baseline
from chain.snapshot import Assembly, Manifest, Snapshot
from chain.state import State
from chain.transactions import DatasetRecord, ParamUpdate
from tests.chain.conftest import FEE, JobWorld, World
from tests.chain.rating_window import BRIEF, due


def busy_world(blocks: int = 12) -> World:
    """Transfers, a dataset, a job with a settled round, votes, epochs that became final, vesting, a rating
    window from slot 32 on.
    """
    world = World(users=4, params=replace(BRIEF, slots_per_epoch=16, window_every_epochs=2))
    jobs = JobWorld(world)
    receipts = [jobs.receipt(0, client) for client in range(2)]
    world.mine(records=[jobs.record(0, receipts)])
    world.mine(jobs.settle(receipts))
    world.mine(world.tx(world.users[1], DatasetRecord("digits", bytes(20), 60, "CC0-1.0", True)))
    for voter in world.validators[:2]:  # whoever earned the fee first
        if world.balance(voter.public) >= FEE:
            world.mine(world.tx(voter.keypair, ParamUpdate(Baseline(b"\x05" * 20, 1, 2))))
            break
    grow(world, blocks)
    return world


def grow(world: World, blocks: int) -> None:
    """More blocks with the votes of everybody, and with what everybody owes a rating window."""
    for _ in range(blocks):
        world.all_vote()
        slot = world.slot_with(0, world.state.slot)
        world.give(world.build(slot=slot, ratings=due(world, slot)))


def snapshot_of(chain: Chain, block_id: bytes | None = None) -> Snapshot:
    """The snapshot after a kept block, after the last final one by default."""
    block_id = chain.canonical_id(chain.final_height) if block_id is None else block_id
    assert block_id is not None
    block = chain.block(block_id)
    assert block is not None
    return Snapshot(chain.state(block_id), block.sealed)


def rebuilt(world: World, snapshot: Snapshot) -> State:
    """The state as somebody else reads it from the parts."""
    manifest = Manifest.decode(snapshot.manifest.encoded)
    manifest.check(world.genesis, snapshot.state.root())
    assembly = Assembly(world.genesis, manifest)
    assembly.take_tables(snapshot.tables)
    assembly.take_finality(snapshot.finality)
    first = 0
    for run in snapshot.runs():
        first += assembly.take_run(run, first, buckets.BUCKETS - first)
    return assembly.state()


def started(world: World, snapshot: Snapshot, below: tuple[bytes, ...] = ()) -> Chain:
    """A chain that begins at a snapshot."""
    return Chain(world.genesis, start=Start(rebuilt(world, snapshot), snapshot.manifest.sealed, below))
