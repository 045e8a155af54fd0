"""Headers without bodies: what is seen at once to be wrong, and how far it can be seen."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from chain.errors import InvalidBlock
from chain.header import SealedHeader
from chain.header_chain import HeaderChain, check_decided, seed_decided, table_decided
from chain.producer import ProposerKeys
from chain.state import State, genesis_state
from chain.types import Block

STRANGER = ProposerKeys.from_seeds(b"\x31" * 32, b"\x32" * 32)


@pytest.fixture
def start(world: Any) -> State:
    return genesis_state(world.genesis)


@pytest.fixture
def blocks(world: Any, start: State) -> list[Block]:
    return [world.mine() for _ in range(4)]


def headers(blocks: list[Block]) -> list[SealedHeader]:
    return [block.sealed for block in blocks]


def test_headers_are_taken_in_order(start: State, blocks: list[Block]) -> None:
    chain = HeaderChain(start)
    assert (chain.tip, chain.height) == (start.block_id, 0)
    chain.extend(headers(blocks[:2]), start)
    chain.extend(headers(blocks[2:]), start)
    assert (chain.tip, chain.height, len(chain)) == (blocks[-1].block_id, 4, 4)
    assert [chain.take() for _ in range(4)] == headers(blocks)


def spoilt(world: Any, block: Block) -> dict[str, SealedHeader]:
    """The second header, wrong in one way each."""
    sealed, slot_ms = block.sealed, world.genesis.params.slot_ms
    timestamp, prev = sealed.timestamp_ms, bytes(32)

    def resealed(**changes: Any) -> SealedHeader:
        found: SealedHeader = world.reseal(block, **changes).sealed
        return found

    slot = world.genesis.slot_at(timestamp)
    other = next(keys for keys in world.validators if keys.public != sealed.proposer)
    return {
        "does not follow": resealed(header={"prev": prev}),
        "not follow the one": resealed(leaf0={"height": 3}),
        "not that of a later slot": resealed(header={"timestamp_ms": timestamp + 1}),
        "of a later slot": resealed(header={"timestamp_ms": timestamp - slot * slot_ms}),
        "rank 9 does not exist": resealed(leaf0={"rank": 9}),
        "leaf 0 is not under": replace(sealed, leaf0=replace(sealed.leaf0, vrf_proof=bytes(80))),
        "the seal is not": replace(sealed, seal=bytes(64)),
        "is no validator": resealed(leaf0={"proposer": STRANGER.public}, by=STRANGER),
        "the target is not": resealed(header={"target": 1}),
        "was not drawn": resealed(leaf0={"proposer": other.public}, by=other),
    }


def test_one_wrong_header_spoils_all_that_came_with_it(world: Any, start: State, blocks: list[Block]) -> None:
    for reason, wrong in spoilt(world, blocks[1]).items():
        chain = HeaderChain(start)
        with pytest.raises(InvalidBlock, match=reason):
            chain.extend([blocks[0].sealed, wrong], start)
        assert (chain.tip, len(chain)) == (start.block_id, 0)
        chain.extend(headers(blocks), start)


def test_beyond_the_reach_of_what_is_decided_the_draw_is_left_to_execution(
    world: Any, start: State, blocks: list[Block]
) -> None:
    per_epoch = world.genesis.params.slots_per_epoch
    wrong = world.reseal(blocks[0], leaf0={"proposer": STRANGER.public}, by=STRANGER).sealed
    near, far = 3 * per_epoch - 1, 3 * per_epoch
    with pytest.raises(InvalidBlock, match="no validator"):
        check_decided(start, wrong, near)
    check_decided(start, wrong, far)
    other = next(keys for keys in world.validators if keys.public != blocks[0].sealed.proposer)
    undrawn = world.reseal(blocks[0], leaf0={"proposer": other.public}, by=other).sealed
    undecided = [slot for slot in (near, far) if not seed_decided(start, slot // per_epoch)]
    assert undecided == [far]
    check_decided(start, undrawn, far)


def test_what_a_state_says_that_it_decides_does_not_change(world: Any) -> None:
    """Against the states that really follow, over some epochs."""
    per_epoch = world.genesis.params.slots_per_epoch
    states = [world.state]
    for _ in range(3 * per_epoch):
        world.mine()
        world.all_vote()
        states.append(world.state)
    assert states[-1].epoch >= 3
    for early in states[:: per_epoch // 2]:
        for late in states:
            if late.height < early.height:
                continue
            if seed_decided(early, late.epoch):
                assert early.seed(late.epoch) == late.seed(late.epoch)
            if table_decided(early, late.epoch):
                assert early.table(late.epoch) == late.table(late.epoch)
