"""Headers first, bodies after: what is passed on, whom the machine asks, and when it stops asking."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from chain.announced import MAX_WAITING, Announced, Waiting
from chain.bodies import (
    HEDGE_S,
    MAX_PARALLEL,
    MAX_SOURCES,
    MAX_WANTED,
    SOURCE_S,
    Assembled,
    Bodies,
    BodyCame,
    BodyFailed,
    FetchBody,
    Found,
    GaveUp,
    Lied,
    Wanted,
    body_of,
    join,
    likely_sources,
    without_body,
)
from chain.gossip import Verdict, validate_sealed
from chain.types import Block

ABC = ("a", "b", "c")


@pytest.fixture
def block(world: Any) -> Block:
    built: Block = world.build([world.transfer(0, 1, 5)])
    return built


@pytest.fixture
def machine(world: Any) -> Bodies:
    return Bodies(world.genesis.params.max_body_bytes)


def body(block: Block) -> bytes:
    return body_of(block.encoded, block.sealed)


def judged(world: Any, block: Block, announced: Announced | None = None, now: int | None = None) -> Any:
    now = world.time_of(block) if now is None else now
    return validate_sealed(block.sealed.encode(), world.chain, announced or Announced(), now)


# -- headers -------------------------------------------------------------------------------------------------


def test_a_valid_header_passes_once(world: Any, block: Block) -> None:
    announced = Announced()
    assert judged(world, block, announced).verdict is Verdict.ACCEPT
    announced.add(block.sealed)
    assert judged(world, block, announced).verdict is Verdict.IGNORE
    resealed = replace(block, sealed=replace(block.sealed, seal=bytes(64)))
    assert judged(world, resealed, announced).verdict is Verdict.IGNORE  # no second fetch for another seal
    world.give(block)
    assert judged(world, block).verdict is Verdict.IGNORE


def test_two_headers_of_a_proposer_and_slot_pass_though_no_body_came_yet(world: Any) -> None:
    slot, announced = world.slot_with(0, 3), Announced()
    blocks = [world.build([world.transfer(0, 1, 5 + i)], slot=slot) for i in range(3)]
    for block in blocks[:2]:
        assert judged(world, block, announced).verdict is Verdict.ACCEPT
        announced.add(block.sealed)
    assert judged(world, blocks[2], announced).verdict is Verdict.IGNORE


def test_forged_headers_are_rejected(world: Any, block: Block) -> None:
    forged = [
        replace(block, sealed=replace(block.sealed, seal=bytes(64))),
        world.reseal(block, header={"target": 5}),
        world.reseal(block, header={"timestamp_ms": block.sealed.timestamp_ms + 1}),
        world.reseal(block, leaf0={"parent_state_root": bytes(32)}),
    ]
    assert {judged(world, bad).verdict for bad in forged} == {Verdict.REJECT}
    for data in (b"", b"\xc0", block.encoded):
        assert validate_sealed(data, world.chain, Announced(), 0).verdict is Verdict.REJECT


def test_early_and_orphaned_headers_are_kept_only_if_a_validator_sealed_them(
    world: Any, block: Block
) -> None:
    orphan = world.reseal(block, header={"prev": bytes(32)})
    early = block.sealed.timestamp_ms - 300
    assert judged(world, block, now=early).item == block.sealed
    assert judged(world, orphan).item == orphan.sealed
    for bad, now in ((block, early), (orphan, None)):
        unsealed = replace(bad, sealed=replace(bad.sealed, seal=bytes(64)))
        result = judged(world, unsealed, now=now)
        assert (result.verdict, result.item) == (Verdict.IGNORE, None)


def test_waiting_headers_are_bounded_and_leave_with_their_parent(world: Any, block: Block) -> None:
    waiting = Waiting()
    children = [world.reseal(block, header={"prev": bytes([i]) * 32}) for i in range(3)]
    assert waiting.add(children[0].sealed, "a", 2)
    assert not waiting.add(children[0].sealed, "b", 2)
    assert waiting.add(children[1].sealed, "b", 2)
    assert not waiting.add(children[2].sealed, "c", 2)
    assert waiting.release(bytes([1]) * 32) == ((children[1].sealed, "b"),)
    assert waiting.release(bytes([1]) * 32) == ()
    for i in range(MAX_WAITING + 5):
        header = replace(block.sealed.header, timestamp_ms=i)
        waiting.add(replace(block.sealed, header=header), "d", 2)
    assert len(waiting) == MAX_WAITING
    assert not waiting.has(children[0].block_id)


# -- bodies --------------------------------------------------------------------------------------------------


def test_the_first_source_is_asked_and_its_body_makes_the_block(machine: Bodies, block: Block) -> None:
    effects = machine.receive(Wanted(block.sealed, ABC), 0.0)
    assert effects == [FetchBody("a", block.block_id)]
    assert machine.wants(block.block_id)
    assert machine.receive(BodyCame("a", block.block_id, body(block)), 0.1) == [Assembled(block, "a")]
    assert not machine.wants(block.block_id)
    assert machine.deadline() is None


def test_who_has_nothing_or_fails_is_followed_by_the_next_and_the_last_by_giving_up(
    machine: Bodies, block: Block
) -> None:
    machine.receive(Wanted(block.sealed, ABC), 0.0)
    assert machine.receive(BodyCame("a", block.block_id, b""), 0.1) == [FetchBody("b", block.block_id)]
    assert machine.receive(BodyFailed("b", block.block_id), 0.2) == [FetchBody("c", block.block_id)]
    assert machine.receive(BodyFailed("b", block.block_id), 0.3) == []
    assert machine.receive(BodyFailed("c", block.block_id), 0.4) == [GaveUp(block.block_id, ABC)]
    assert not machine.wants(block.block_id)


def test_a_wrong_body_is_blamed_and_another_source_asked(world: Any, machine: Bodies, block: Block) -> None:
    other = world.build([world.transfer(0, 1, 6)])
    for wrong in (body(other), b"\xc1", body(block) + b"\x00", body(block)[:-1]):
        fresh = Bodies(world.genesis.params.max_body_bytes)
        fresh.receive(Wanted(block.sealed, ABC), 0.0)
        effects = fresh.receive(BodyCame("a", block.block_id, wrong), 0.1)
        assert isinstance(effects[0], Lied)
        assert effects[0].peer == "a"
        assert effects[1:] == [FetchBody("b", block.block_id)]
        assert fresh.receive(BodyCame("b", block.block_id, body(block)), 0.2) == [Assembled(block, "b")]


def test_a_silent_source_is_overtaken_and_at_last_dropped(machine: Bodies, block: Block) -> None:
    machine.receive(Wanted(block.sealed, ("a", "b", "c", "d", "e")), 0.0)
    asked, now = ["a"], 0.0
    while machine.wants(block.block_id):
        now = machine.deadline() or 0.0
        for effect in machine.tick(now):
            if isinstance(effect, FetchBody):
                asked.append(effect.peer)
        if now < SOURCE_S:
            assert len(asked) <= MAX_PARALLEL
    assert asked == ["a", "b", "c", "d", "e"]
    assert now == pytest.approx(SOURCE_S + HEDGE_S + SOURCE_S)


def test_a_block_that_came_another_way_is_not_fetched_any_more(machine: Bodies, block: Block) -> None:
    machine.receive(Wanted(block.sealed, ABC), 0.0)
    machine.receive(Found(block.block_id), 0.1)
    assert machine.deadline() is None
    assert machine.receive(BodyCame("a", block.block_id, body(block)), 0.2) == []


def test_nobody_unasked_is_listened_to_and_the_work_is_bounded(
    world: Any, machine: Bodies, block: Block
) -> None:
    crowd = tuple(f"p{i}" for i in range(50))
    machine.receive(Wanted(block.sealed, crowd), 0.0)
    assert machine.receive(BodyCame("p1", block.block_id, body(block)), 0.1) == []
    asked = 1
    for i in range(50):
        asked += len(
            [e for e in machine.receive(BodyFailed(f"p{i}", block.block_id), 0.2) if isinstance(e, FetchBody)]
        )
    assert asked == MAX_SOURCES
    headers = [
        replace(block.sealed, header=replace(block.sealed.header, timestamp_ms=i))
        for i in range(MAX_WANTED + 1)
    ]
    effects = [machine.receive(Wanted(sealed, ABC), 0.0)[0] for sealed in headers]
    assert [type(effect) for effect in effects] == [FetchBody] * MAX_WANTED + [GaveUp]


def test_an_empty_body_needs_no_fetching(world: Any, block: Block) -> None:
    empty = world.build()
    assert without_body(empty.sealed) == empty
    assert without_body(block.sealed) is None


def test_header_and_body_join_to_the_same_bytes(world: Any, block: Block) -> None:
    joined = join(block.sealed, body(block), 10**6)
    assert joined is not None
    assert joined.encoded == block.encoded
    assert join(block.sealed, body(block), len(block.encoded) - 1) is None


def test_who_passed_it_on_is_asked_before_who_published_it() -> None:
    assert likely_sources("f", "o", ["x", "o", "f", "y"]) == ("f", "o", "x", "y")
    assert likely_sources("gone", "o", ["x"]) == ("x",)
