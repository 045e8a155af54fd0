"""The fork choice must not enter a branch on which the justified checkpoint is none."""

from __future__ import annotations

from typing import Any

from chain.votes import Checkpoint, Link, sign_vote


def test_a_late_block_of_a_skipped_slot_cannot_displace_its_justified_checkpoint(world: Any) -> None:
    """Slot 2 was empty: its checkpoint is block 1, justified by votes in block 3. Then slot 2's block comes.

    On the late block's branch checkpoint 2 is the late block. `p2pml sim consensus --study attacks` shows
    what comes of it: a coalition of 30 % that withholds blocks stops finality for more than a hundred slots.
    """
    first = world.mine(slot=1)
    world.all_vote(slot=2)
    late = world.build(slot=2)
    honest = world.mine(slot=3)
    assert world.state.finality.highest == Checkpoint(2, first.block_id)
    world.give(late)
    assert world.chain.head.id == honest.block_id
    source = Checkpoint(0, world.genesis.chain_id)
    link = Link(source, Checkpoint(4, late.block_id))
    world.cast(
        *(
            sign_vote(keys.keypair, world.genesis.chain_id, 4, link, late.block_id)
            for keys in world.validators[:2]
        )
    )
    assert world.chain.head.id == honest.block_id
