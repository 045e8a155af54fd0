"""The draw is proportional, neutral to splitting, and fixed by the seed."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from chain import lottery, selection
from chain.errors import ChainError
from chain.ledger import Randomness
from chain.weights import Weight, WeightTable

SLOTS = 20_000


def key(number: int) -> bytes:
    return number.to_bytes(32, "big")


def table(*ratings: int) -> WeightTable:
    return WeightTable(tuple(Weight(key(i), key(i), rating) for i, rating in enumerate(ratings)))


def chi_square(counts: list[int], weights: list[int]) -> float:
    total, count = sum(weights), sum(counts)
    expected = [count * weight / total for weight in weights]
    return sum((c - e) ** 2 / e for c, e in zip(counts, expected, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_wins_are_proportional_to_rating(rank: int) -> None:
    ratings = [1, 2, 3, 10]
    wins = Counter(lottery.draw(b"s" * 32, slot, rank, table(*ratings)).public for slot in range(SLOTS))
    # The 99.9 % quantile of chi-square with 3 degrees of freedom; the seed is fixed, so no flakiness.
    assert chi_square([wins[key(i)] for i in range(4)], ratings) < 16.27


@pytest.mark.slow
def test_splitting_a_rating_among_ten_identities_gains_nothing() -> None:
    """One owner with 50 of 150, whole or as ten times 5: the same share of rank-0 slots, or of any rank."""
    whole, split = table(50, 100), table(*[5] * 10, 100)
    for rank in (0, 2):
        alone = sum(lottery.draw(b"t" * 32, slot, rank, whole).public == key(0) for slot in range(SLOTS))
        together = sum(lottery.draw(b"t" * 32, slot, rank, split).public != key(10) for slot in range(SLOTS))
        assert chi_square([alone, SLOTS - alone], [1, 2]) < 10.83
        assert chi_square([together, SLOTS - together], [1, 2]) < 10.83


def test_target_falls_as_power_grows() -> None:
    assert lottery.target(2) == 2**255
    assert lottery.target(1000) == 2**256 // 1000
    assert all(lottery.target(w + 1) < lottery.target(w) for w in (2, 30, 10**6))


def test_every_rating_unit_has_its_owner() -> None:
    weights = table(1, 2, 3)
    assert [weights.owner(unit).public for unit in range(6)] == [key(0), *[key(1)] * 2, *[key(2)] * 3]
    assert weights.total == 6
    assert weights.get(key(2)) == Weight(key(2), key(2), 3)
    assert weights.get(key(3)) is None


def test_draw_depends_on_seed_slot_and_rank() -> None:
    weights = table(*[1] * 50)
    base = [lottery.draw(b"a" * 32, slot, 0, weights).public for slot in range(30)]
    assert base == [lottery.draw(b"a" * 32, slot, 0, weights).public for slot in range(30)]
    assert base != [lottery.draw(b"b" * 32, slot, 0, weights).public for slot in range(30)]
    assert base != [lottery.draw(b"a" * 32, slot, 1, weights).public for slot in range(30)]
    assert base != [lottery.draw(b"a" * 32, slot + 1, 0, weights).public for slot in range(30)]


def test_a_key_uses_its_lowest_rank_only(make_world: Any) -> None:
    state = make_world(ratings=(2,)).state
    [owner] = state.table_at(5).entries
    assert selection.draw(state, 5, 3) == owner
    assert selection.rank_of(owner.public, state, 5, 4) == 0
    assert selection.rank_of(key(9), state, 5, 4) is None


def test_randomness_over_epoch_borders() -> None:
    start = Randomness(b"c", b"b", b"a")
    assert start.entering(0) == start
    assert start.entering(1) == Randomness(b"c", b"c", b"b")
    assert start.entering(2) == Randomness(b"c", b"c", b"c")
    assert start.entering(9) == Randomness(b"c", b"c", b"c")


def test_seed_of_an_epoch_is_the_mix_two_epochs_before(world: Any) -> None:
    """Walk through six epochs with empty ones between and compare with the definition."""
    length = world.genesis.params.slots_per_epoch
    mix_at_end: dict[int, bytes] = {}
    for slot in (1, 5, 15, 16, 31, 33, 40, 50, 66, 70, 81, 145, 160, 161):
        before = world.state
        epoch = slot // length
        for ended in range(before.epoch, epoch):
            mix_at_end[ended] = before.mix
        if epoch <= 2:
            assert before.seed(epoch) == lottery.genesis_seed(world.genesis.chain_id, epoch)
        else:
            assert before.seed(epoch) == lottery.epoch_seed(epoch, mix_at_end[epoch - 2])
        known = before.seed(before.epoch + 1)
        world.mine(slot=slot)
        if world.state.epoch == before.epoch:
            assert world.state.seed(before.epoch + 1) == known  # public one epoch ahead
    assert world.state.seed(10) != world.state.seed(11)
    with pytest.raises(ChainError):
        world.state.seed(world.state.epoch - 1)


def test_only_rank_0_enters_the_mix(make_world: Any) -> None:
    world = make_world()
    start = world.state.mix
    block = world.build(rank=1)
    world.give(block)
    assert world.state.mix == start
    world.mine()
    assert world.state.mix != start
