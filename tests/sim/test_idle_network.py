"""A network without load on virtual time: it says next to nothing, and answers as fast as a busy one."""

from __future__ import annotations

from collections import Counter
from functools import partial

import pytest

from chain.content import heartbeat_slot
from chain.params import DEMO, TOKEN
from chain.producer import ranks_for
from chain.transactions import Transfer, sign_tx
from p2pml.scenario.links import Link
from p2pml.sim.chain_world import ChainWorld

pytestmark = pytest.mark.slow

NEAR = Link(delay_ms=50, jitter_ms=10)
SLOT_S = DEMO.slot_ms / 1000
EPOCH_S = DEMO.slots_per_epoch * SLOT_S


def slots_and_ranks(world: ChainWorld) -> list[tuple[int, int]]:
    """Of the best branch, from the first block on."""
    chain = world.node("n1").chain
    found = [
        (world.genesis.slot_at(b.sealed.timestamp_ms), b.sealed.rank) for b in chain.ancestors(chain.head.id)
    ]
    return sorted(found)


def transfer(world: ChainWorld, at: float, nonce: int = 0) -> None:
    """n1 pays n2 at that virtual time."""
    keys = world.keys["n1"]
    tx = sign_tx(
        keys.keypair, world.genesis.chain_id, Transfer(world.keys["n2"].public, 1000), nonce=nonce,
        valid_until_slot=2**40, fee=TOKEN // 10,
    )  # fmt: skip
    world.world.at(at, lambda: world.world.inject("n1", partial(world.node("n1").submit, tx)))


def test_an_idle_network_beats_once_an_epoch_and_every_epoch_is_final() -> None:
    idle, busy = (ChainWorld(1, 6, link=NEAR, idle=quiet) for quiet in (True, False))
    report = idle.run(11 * EPOCH_S)
    assert idle.problems(report) == []
    assert report.reorgs == 0
    slots = slots_and_ranks(idle)
    assert {rank for _, rank in slots} == {0}
    # A rating window is announced in the epoch before its own, and void as soon as nobody committed.
    borders = (0, 3, 4, 7, 8)
    assert Counter(slot // DEMO.slots_per_epoch for slot, _ in slots) == {
        epoch: 6 if epoch in borders else 3 for epoch in range(11)
    }
    for name in idle.names:
        finality = idle.node(name).chain.state().finality
        assert finality.epochs == finality.final_epoch == 10
    # What is left is mostly the questions for heads, every ten seconds to each neighbour.
    assert report.summary.bytes * 4 < busy.run(11 * EPOCH_S).summary.bytes


def test_a_late_transaction_is_the_next_leaders_not_the_fallbacks() -> None:
    world = ChainWorld(2, 6, link=NEAR, idle=True)
    world.run(2 * EPOCH_S + 1)
    slot = 2 * DEMO.slots_per_epoch + 3
    # After the first choice's turn in that slot, before the others'.
    transfer(world, slot * SLOT_S + 0.2)
    world.run(8 * SLOT_S)
    since = [(at, rank) for at, rank in slots_and_ranks(world) if at >= slot]
    assert since == [(slot + 1, 0), (slot + 2, 0), (slot + 3, 0)]
    assert world.node("n3").chain.state().finality.final_slot == slot + 1


def test_a_fallback_stands_in_for_a_leader_that_is_away() -> None:
    world = ChainWorld(2, 6, link=NEAR, idle=True)
    world.run(2 * EPOCH_S + 1)
    state, slot = world.node("n1").chain.state(), 2 * DEMO.slots_per_epoch + 3
    while True:
        leader = next(name for name in world.names if _leads(world, name, slot))
        if leader != "n1":
            break
        slot += 1
    assert slot < heartbeat_slot(state)
    world.world.at(slot * SLOT_S - 0.5, lambda: world.world.crash(leader))
    transfer(world, slot * SLOT_S - 0.3)
    world.run(10 * SLOT_S)
    at, rank = next(entry for entry in slots_and_ranks(world) if entry[0] >= slot)
    assert at == slot
    assert rank > 0


def _leads(world: ChainWorld, name: str, slot: int) -> bool:
    return ranks_for(slot, world.keys[name].keypair, world.node("n1").chain.state()) == (0,)


def test_halves_of_an_idle_network_are_one_chain_again_after_they_meet() -> None:
    world = ChainWorld(3, 8, link=NEAR, idle=True)
    world.run(1.5 * EPOCH_S)
    sides = [world.names[:4], world.names[4:]]
    world.world.network.partition(sides)
    transfer(world, world.world.heap.now + 1)
    world.run(2 * EPOCH_S)  # each side has its heartbeats
    final = [node.chain.final_height for node in world.live]
    assert len({node.chain.head.id for node in world.live}) > 1
    world.heal()
    report = world.run(EPOCH_S)
    assert world.problems(report) == []
    assert report.transfers_applied == 1
    assert report.final_height > max(final)
    assert {node.chain.head.id for node in world.live} == {world.node("n1").chain.head.id}


@pytest.mark.parametrize("seed", range(1, 4))
def test_what_is_sent_now_and_then_gets_in_and_is_final_on_bad_links(seed: int) -> None:
    lossy = Link(delay_ms=120, jitter_ms=80, loss=0.05)
    world = ChainWorld(
        seed, 10, link=lossy, transfers_per_second=0.05, load_ends=400, reliable=False, idle=True
    )
    world.world.at(100, lambda: world.world.crash("n2"))
    world.world.at(200, lambda: world.world.restart("n2"))
    report = world.run(416 + EPOCH_S)
    assert world.problems(report, load_is_over=True) == []
    assert report.transfers_sent >= 18
    slots = [slot for slot, _ in slots_and_ranks(world)]
    assert len(slots) < len(range(report.slots)) / 2
    assert all(
        node.chain.state().finality.final_epoch >= max(slots) // DEMO.slots_per_epoch - 1
        for node in world.live
    )
