"""Who audits whom, which segments, which step, whose marks are looked at again; and what a mark is."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise, permutations

import numpy as np
import pytest

from chain import lottery
from chain.baseline.episode import Looked, look, replay
from chain.baseline.kernel import NumpyTrainer
from chain.errors import ChainError
from chain.rating.auditing import (
    AUDITORS,
    POSITIONS,
    SPOTS,
    auditors,
    due,
    looks_again,
    mark,
    mark_step,
    part,
    positions,
    spots,
)
from chain.rating.items import MARK_BYTES, MAX_RATING_ITEM_BYTES, AuditReveal, Report
from chain.weights import Weight, WeightTable
from tests.chain.audited_window import BENCH, states

DRAW = b"\xd1" * 32
SUBJECT = b"\x33" * 32


def account(number: int) -> bytes:
    return bytes([number]) * 32


def table(*weights: int) -> WeightTable:
    return WeightTable(tuple(Weight(account(i), bytes(32), weight) for i, weight in enumerate(weights, 1)))


def draws(count: int) -> list[bytes]:
    return [number.to_bytes(32, "big") for number in range(count)]


def chi_square(found: list[int], expected: list[float]) -> float:
    return sum((f - e) ** 2 / e for f, e in zip(found, expected, strict=True))


# -- what has to be reported -----------------------------------------------------------------------------


@pytest.mark.parametrize("weights", [(1,), (1, 1), (1, 1, 1), (1, 1, 1, 1), (5, 4, 3, 2, 1)])
def test_what_is_due_fits_into_one_item(weights: tuple[int, ...]) -> None:
    """Whoever is in the table, and whoever joins beside it."""
    crowd = [bytes([0xF0, number >> 8, number & 0xFF]).rjust(32, b"\xf0") for number in range(300)]
    known = table(*weights)
    others = [entry.public for entry in known.entries[1:]]
    chosen = due(DRAW, account(1), sorted([*crowd, *others]), known)
    assert len(chosen) == {1: 35, 2: 70}.get(len(weights), 100)
    assert list(chosen) == sorted(set(chosen))
    reports = []
    for subject in [*others, *(each for each in chosen if each not in others)][: len(chosen)]:
        order = auditors(DRAW, 64, subject, known)
        marks = len(part(range(POSITIONS), 0, len(order))) * MARK_BYTES
        reports.append(Report(subject, bytes(marks)))
    item = AuditReveal(account(1), 2**40, DRAW, DRAW, tuple(reports), bytes(64))
    assert MAX_RATING_ITEM_BYTES * 3 // 4 < len(item.encoded) <= MAX_RATING_ITEM_BYTES


def test_what_is_due_is_all_or_drawn() -> None:
    weights, drawn = table(1, 1, 1, 1), [account(number) for number in range(101)]
    assert due(DRAW, account(1), drawn[:100], weights) == tuple(drawn[:100])
    left_out = [
        set(drawn) - set(due(draw, auditor, drawn, weights)) for draw in draws(20) for auditor in drawn[:3]
    ]
    assert {len(each) for each in left_out} == {1}
    assert len(set().union(*left_out)) > 30


# -- auditors --------------------------------------------------------------------------------------------


def test_auditors_are_different_and_never_the_subject() -> None:
    weights = table(1, 2**40, 3, 10, 1)
    for draw in draws(300):
        for subject in (account(2), account(5), b"\xff" * 32):
            chosen = auditors(draw, 64, subject, weights)
            assert len(set(chosen)) == len(chosen) == AUDITORS
            assert subject not in chosen


def test_where_there_are_few_all_others_audit() -> None:
    assert set(auditors(DRAW, 64, account(1), table(5, 5, 5))) == {account(2), account(3)}
    assert auditors(DRAW, 64, account(1), table(5)) == ()
    assert auditors(DRAW, 64, SUBJECT, table(5)) == (account(1),)


def test_each_is_drawn_in_proportion_to_weight_among_those_who_are_left() -> None:
    """The first by the weights of all but the subject, the next without the first."""
    weights, count = (1, 2, 3, 6, 4), 4000
    found = [auditors(draw, 64, account(5), table(*weights)) for draw in draws(count)]
    first = Counter(chosen[0] for chosen in found)
    expected = [count * weight / 12 for weight in weights[:4]]
    assert chi_square([first[account(i)] for i in (1, 2, 3, 4)], expected) < 16.3  # 3 degrees, p = 0.001
    after = [chosen[1] for chosen in found if chosen[0] == account(4)]
    second = Counter(after)
    expected = [len(after) * weight / 6 for weight in (1, 2, 3)]
    assert chi_square([second[account(i)] for i in (1, 2, 3)], expected) < 13.8  # 2 degrees


def expected_seats(weights: tuple[int, ...], mine: set[int]) -> float:
    """How often these are among three that are drawn by weight, one after the other."""
    total = sum(weights)
    return sum(
        len(mine.intersection(chosen))
        * weights[chosen[0]] / total
        * weights[chosen[1]] / (total - weights[chosen[0]])
        * weights[chosen[2]] / (total - weights[chosen[0]] - weights[chosen[1]])
        for chosen in permutations(range(len(weights)), 3)
    )  # fmt: skip


def test_a_split_key_gains_no_first_place_and_hardly_a_place() -> None:
    """The first draw is neutral. That nobody is drawn twice for one subject costs large keys a little: a
    thirtieth of the weight, split in two, gains 1.7 % of the places.
    """
    count, weights = 4000, (10, 10, 10, 10, 10, 5, 5)
    found = [auditors(draw, 64, SUBJECT, table(*weights)) for draw in draws(count)]
    mine = {account(6), account(7)}
    firsts = sum(chosen[0] in mine for chosen in found)
    assert chi_square([firsts, count - firsts], [count / 6, count * 5 / 6]) < 10.8  # 1 degree, p = 0.001
    seats = sum(len(mine.intersection(chosen)) for chosen in found) / count
    assert seats == pytest.approx(expected_seats(weights, {5, 6}), abs=0.04)
    whole, split = expected_seats((10,) * 30, {29}), expected_seats((*(10,) * 29, 5, 5), {29, 30})
    assert whole == pytest.approx(0.1)
    assert split / whole == pytest.approx(1.017, abs=0.001)


def test_the_unit_of_the_rest_is_its_owners() -> None:
    weights = table(3, 1, 4, 2)
    out = {account(2), account(3), SUBJECT}
    assert weights.without(out) == 5
    owners = [weights.owner_without(unit, out).public for unit in range(5)]
    assert owners == [account(1)] * 3 + [account(4)] * 2
    assert [weights.owner_without(unit, ()).public for unit in range(10)] == [
        weights.owner(unit).public for unit in range(10)
    ]


def test_numbers_below_a_total_are_even() -> None:
    count = 6000
    found = Counter(lottery.unit("test", draw, 6) for draw in draws(count))
    assert chi_square([found[i] for i in range(6)], [count / 6] * 6) < 20.5  # 5 degrees
    assert lottery.unit("test", DRAW, 1) == 0


# -- positions, parts, steps, spots ----------------------------------------------------------------------


def test_forty_positions_or_all_in_disjoint_parts() -> None:
    for segments in (8, 39, 40, 41, 5000):
        drawn = positions(DRAW, SUBJECT, segments)
        assert len(drawn) == min(segments, POSITIONS)
        assert all(a < b for a, b in pairwise(drawn))
        assert drawn[-1] < segments
        for count in (1, 2, 3):
            parts = [part(drawn, index, count) for index in range(count)]
            assert sorted(sum(parts, ())) == list(drawn)
            assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert positions(DRAW, SUBJECT, 5000) != positions(DRAW, account(1), 5000)


def test_ten_per_cent_of_false_segments_are_found_nearly_always() -> None:
    """What the text says: 98.5 %, and 5 % with 87 %."""
    for share, least in ((10, 0.975), (20, 0.84)):
        false = frozenset(range(0, 2000, share))
        seen = [bool(false.intersection(positions(draw, SUBJECT, 2000))) for draw in draws(400)]
        assert sum(seen) / len(seen) > least


def test_a_mark_is_taken_inside_the_segment() -> None:
    steps = {mark_step(DRAW, SUBJECT, position, 32) for position in range(600)}
    assert steps == set(range(31)), "the state after the last is the leaf's own"
    assert {mark_step(DRAW, SUBJECT, position, 1) for position in range(9)} == {0}


def test_two_spots_which_nobody_knows_before_the_reports() -> None:
    seen = set()
    for spot in draws(200):
        found = spots(spot, account(1), SUBJECT, 13)
        assert len(found) == SPOTS
        seen.update(found)
    assert seen == set(range(13))
    assert spots(DRAW, account(1), SUBJECT, 1) == (0,)


def test_the_next_of_the_subjects_auditors_looks_again() -> None:
    three = tuple(account(i) for i in (3, 1, 2))
    assert [looks_again(three, each) for each in three] == [account(1), account(2), account(3)]
    assert looks_again((account(1),), account(1)) is None


# -- marks -----------------------------------------------------------------------------------------------


def test_a_mark_is_of_one_auditor_subject_position_and_state() -> None:
    same = mark(account(1), SUBJECT, 3, b"state")
    others = [
        mark(account(2), SUBJECT, 3, b"state"),
        mark(account(1), account(2), 3, b"state"),
        mark(account(1), SUBJECT, 4, b"state"),
        mark(account(1), SUBJECT, 3, b"other"),
    ]
    assert len({same, *others}) == 5
    assert {len(each) for each in (same, *others)} == {MARK_BYTES}


def test_a_look_gives_true_leaves_and_the_states_inside() -> None:
    trainer = NumpyTrainer(BENCH.net, BENCH.train)
    seen = look(trainer, DRAW, 5, {1: 0, 3: 30})
    assert [each.leaf for each in seen] == list(replay(trainer, DRAW, 5, 0, 3))[1::2]
    inside = states(BENCH, DRAW, 5)
    assert [each.state for each in seen] == [inside[32], inside[3 * 32 + 30]]


def test_what_a_subject_serves_does_not_give_the_marks() -> None:
    """Leaves are hashes of the states at the ends of segments; a mark needs a state inside."""
    trainer = NumpyTrainer(BENCH.net, BENCH.train)
    served = replay(trainer, DRAW, 0, 0, 7)
    inside = states(BENCH, DRAW, 0)
    for position in range(8):
        step = mark_step(DRAW, SUBJECT, position, 32)
        true = mark(account(1), SUBJECT, position, inside[32 * position + step])
        guesses = [data for leaf in served for data in (leaf.digest, leaf.encode())] + list(inside[31::32])
        assert true not in {mark(account(1), SUBJECT, position, guess) for guess in guesses}


@pytest.mark.parametrize("steps", [{}, {8: 0}, {-1: 0}, {0: 32}, {0: -1}])
def test_a_look_at_what_no_episode_has(steps: dict[int, int]) -> None:
    with pytest.raises(ChainError, match="episode has 8 segments of 32 steps"):
        look(NumpyTrainer(BENCH.net, BENCH.train), DRAW, 0, steps)


def test_a_shorter_look_does_less_work() -> None:
    class Counted(NumpyTrainer):
        steps = 0

        def step(self, rows: np.ndarray) -> None:
            self.steps += 1
            super().step(rows)

    trainer = Counted(replace(BENCH.net), BENCH.train)
    assert isinstance(look(trainer, DRAW, 0, {2: 1})[0], Looked)
    assert trainer.steps == 3 * 32
