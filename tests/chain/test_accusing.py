"""Accusations: what may be accused, what a replay finds, and who is punished."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from chain.draft import Draft
from chain.errors import InvalidRating
from chain.params import TOKEN
from chain.rating.accusing import EPISODES, case_of
from chain.rating.auditing import mark, mark_step, spots
from chain.rating.court import Court, judge
from chain.rating.entries import duty_key
from chain.rating.items import (
    MARK_BYTES,
    Accusation,
    Charge,
    Ruling,
    decode_point,
    read_rating_item,
)
from chain.rating.phases import NET
from chain.transition import apply_rating, open_slot
from tests.chain.audited_window import LONGER, Audited, small_bench, states
from tests.chain.rating_window import proven

pytestmark = pytest.mark.slow

FALSE = b"\xfa" * 32


def crooked() -> Audited:
    """Where reports are open. Of four validators each has lied:

    0: of three segments, one for each of its auditors. 1: of the last leaf of an episode. 2: of a confusion
    matrix, and of a segment that is there twice. 3: of marks, for which it trained nothing.
    """
    audited = Audited()
    audited.train()
    one, two, three = audited.of(0), audited.of(1), audited.of(2)
    for index in (4, 5, 6):
        one.leaves[index] = replace(one.leaves[index], digest=FALSE)
    two.last[1] = replace(two.last[1], digest=FALSE)
    three.leaves[17] = three.leaves[16]
    audited.claim()
    reveals = [audited.of(i).true_reveal(audited.window) for i in range(4)]
    best = tuple(tuple(10 * (row == column) for column in range(2)) for row in range(2))
    reveals[2] = three.with_matrices(audited.window, [best, *_matrices(reveals[2])[1:]])
    audited.go(audited.borders.commit_end + 1, reveals)
    audited.go(audited.borders.reveal_end)
    reports = {i: audited.reports(i) for i in range(4)}
    reports[3] = tuple(replace(report, marks=b"\x77" * len(report.marks)) for report in reports[3])
    audited.go(audited.world.state.slot + 1, [audited.sealed(i, reports[i]) for i in range(4)])
    audited.go(audited.borders.audit_commit_end, [audited.opened(i, reports[i]) for i in range(4)])
    return audited


def _matrices(reveal: Any) -> list[Any]:
    return [each.confusion for each in reveal.evaluations]


@pytest.fixture(scope="module")
def bad() -> Audited:
    """Nobody may change it: drafts only."""
    return crooked()


@pytest.fixture(scope="module")
def good() -> Audited:
    """All honest; reports are open. Nobody may change it."""
    audited = Audited().ready()
    audited.audit(0, 1, 2, 3)
    return audited


def apply(audited: Audited, *rulings: Ruling) -> Draft:
    """A block with these."""
    slot = audited.world.state.slot + 1
    draft = open_slot(audited.world.state, slot)
    for ruling in rulings:
        apply_rating(draft, ruling, slot)
    return draft


def segment(audited: Audited, by: int = 3) -> Accusation:
    return audited.accuse(by, Charge.SEGMENT, 0, audited.leaves(0, 5))


def episode(audited: Audited, by: int = 3) -> Accusation:
    return audited.accuse(by, Charge.EPISODE, 1, (proven(audited.of(1).last, 1),))


def matrix(audited: Audited, by: int = 3) -> Accusation:
    return audited.accuse(by, Charge.MATRIX, 2)


def marked(audited: Audited, by: int = 2, place: int = 0, about: int = 0) -> Accusation:
    position = audited.part(3, about)[place]
    leaves = audited.leaves(about, position)
    return audited.accuse(by, Charge.MARK, 3, leaves, place, audited.public(about))


def repeated(audited: Audited, by: int = 3) -> Accusation:
    return audited.accuse(by, Charge.ORDER, 2, audited.leaves(2, 16, 17))


REPLAYED = (segment, episode, matrix, marked)
EVERY = (*REPLAYED, repeated)


# -- judging ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", EVERY)
def test_a_replay_finds_the_guilty(bad: Audited, make: Callable[[Audited], Accusation]) -> None:
    accusation = make(bad)
    assert decode_point(accusation.encoded) == accusation
    assert judge(bad.world.state, accusation, bad.court) is True


@pytest.mark.parametrize("make", REPLAYED)
def test_a_replay_acquits_the_honest(good: Audited, make: Callable[[Audited], Accusation]) -> None:
    assert judge(good.world.state, make(good), good.court) is False


def test_every_leaf_matrix_and_mark_of_an_honest_node_is_right(good: Audited) -> None:
    for position in range(0, 20, 3):
        assert not judge(
            good.world.state, good.accuse(3, Charge.SEGMENT, 0, good.leaves(0, position)), good.court
        )
    for index in (0, 1):
        leaves = (proven(good.of(1).last, index),)
        assert not judge(good.world.state, good.accuse(3, Charge.EPISODE, 1, leaves), good.court)
        assert not judge(good.world.state, good.accuse(3, Charge.MATRIX, 2, place=index), good.court)
    for place in range(len(good.part(3, 1))):
        assert not judge(good.world.state, marked(good, place=place, about=1), good.court)


def test_where_the_data_set_is_not_nobody_judges(bad: Audited) -> None:
    nowhere = Court(lambda infohash: None)
    assert [judge(bad.world.state, make(bad), nowhere) for make in REPLAYED] == [None] * 4
    assert judge(bad.world.state, repeated(bad), nowhere) is True
    other = Court({bytes(20): small_bench(seed=1)}.get)
    assert judge(bad.world.state, episode(bad), other) is True


def test_a_case_is_replayed_once(bad: Audited) -> None:
    asked: list[bytes] = []

    class Counted:
        tests = bad.bench.tests
        evaluate = staticmethod(bad.bench.evaluate)

        def looks(
            self, challenge: bytes, episode: int, steps: Mapping[int, int]
        ) -> dict[int, tuple[bytes, bytes]]:
            asked.append(challenge)
            return bad.bench.looks(challenge, episode, steps)

    court = Court(lambda infohash: Counted())
    for by in (1, 2, 3):
        assert judge(bad.world.state, segment(bad, by), court) is True
    assert len(asked) == 1
    assert judge(bad.world.state, bad.accuse(1, Charge.SEGMENT, 0, bad.leaves(0, 7)), court) is False
    assert len(asked) == 2


# -- auditors that cheat ---------------------------------------------------------------------------------


def test_a_lazy_auditor_is_found_at_any_spot(bad: Audited) -> None:
    """It skipped the replays: whatever the spots are, the next auditor finds a false mark."""
    for about in (0, 1, 2):
        count = len(bad.part(3, about))
        for spot in (bytes(32), b"\x01" * 32):
            for place in spots(spot, bad.public(3), bad.public(about), count):
                assert judge(bad.world.state, marked(bad, place=place, about=about), bad.court) is True


def test_marks_of_another_auditor_are_no_good() -> None:
    """Three that share one auditor's work: it is of other segments, and would be of another's name."""
    audited = Audited().ready()
    reports = {1: audited.reports(1)}
    [own] = [report for report in reports[1] if report.subject == audited.public(0)]
    width = MARK_BYTES * len(audited.part(2, 0))
    copied = replace(own, marks=(own.marks + own.marks[:MARK_BYTES])[:width])
    reports[2] = tuple(
        copied if report.subject == audited.public(0) else report for report in audited.reports(2)
    )
    audited.go(audited.world.state.slot + 1, [audited.sealed(i, reports[i]) for i in (1, 2)])
    audited.go(audited.borders.audit_commit_end, [audited.opened(i, reports[i]) for i in (1, 2)])
    position = audited.part(2, 0)[0]
    about = audited.public(0)
    copy = audited.accuse(3, Charge.MARK, 2, audited.leaves(0, position), 0, about)
    assert judge(audited.world.state, copy, audited.court) is True


def false_position(audited: Audited, auditor: int) -> int:
    """Of subject 0, in this auditor's part."""
    [position] = {4, 5, 6}.intersection(audited.part(auditor, 0))
    return position


def test_an_auditor_that_covers_up_a_false_segment_is_guilty(bad: Audited) -> None:
    """Its mark is the true state's, so it has replayed; but it says that the leaf is right."""
    auditor, subject, position = bad.public(1), bad.public(0), false_position(bad, 1)
    place = bad.part(1, 0).index(position)
    step = NET.steps * position + mark_step(bad.window.draw, subject, position, NET.steps)
    true = mark(auditor, subject, position, states(bad.bench, bad.of(0).given, 0)[step])
    draft = Draft(bad.world.state)
    duty = draft.duty(auditor, bad.window.start)
    assert duty is not None
    honest = next(report for report in duty.reports if report.subject == subject)
    start = MARK_BYTES * place
    marks = honest.marks[:start] + true + honest.marks[start + MARK_BYTES :]
    draft.put(duty_key(auditor), replace(duty, reports=(replace(honest, marks=marks),)))
    accusation = bad.accuse(2, Charge.MARK, 1, bad.leaves(0, position), place, subject)
    assert judge(draft, accusation, bad.court) is True


def test_no_mark_says_nothing(bad: Audited) -> None:
    """Who found a false segment gives none for it: that is no lie."""
    position = false_position(bad, 1)
    place = bad.part(1, 0).index(position)
    accusation = bad.accuse(2, Charge.MARK, 1, bad.leaves(0, position), place, bad.public(0))
    with pytest.raises(InvalidRating, match="nothing was said"):
        judge(bad.world.state, accusation, bad.court)


# -- what it costs ---------------------------------------------------------------------------------------


def bonded(audited: Audited, ruling: Ruling, bond: int = 5 * TOKEN) -> tuple[Draft, int, int]:
    """A ruling, with a bond and rewards to lose: the draft, what the loser had, what the other one gets."""
    slot = audited.world.state.slot + 1
    draft = open_slot(audited.world.state, slot)
    loser = draft.validator(ruling.loser)
    assert loser is not None
    draft.debit(audited.world.users[0].public, bond, "the bond")
    draft.put_validator(replace(loser, bond=bond))
    lost = bond + draft.vesting(ruling.loser).held
    accusation = ruling.accusation
    winner = accusation.signer if ruling.guilty else accusation.accused
    before = draft.account(winner).balance
    apply_rating(draft, ruling, slot)
    return draft, lost, draft.account(winner).balance - before


@pytest.mark.parametrize("guilty", [True, False])
@pytest.mark.parametrize("make", REPLAYED)
def test_who_loses_loses_what_an_equivocator_loses(
    bad: Audited, make: Callable[[Audited], Accusation], guilty: bool
) -> None:
    ruling = Ruling(make(bad), guilty)
    draft, lost, share = bonded(bad, ruling)
    entry = draft.validator(ruling.loser)
    assert entry is not None
    assert (entry.rating, entry.bond) == (0, 0)
    assert entry.barred_until == LONGER.bar_epochs + draft.epochs
    assert draft.vesting(ruling.loser).held == 0
    assert share == lost // 16 > 5 * TOKEN // 16 - 1
    assert draft.books.burned - bad.world.state.books.burned == lost - lost // 16
    accused = ruling.accusation.accused
    claim = draft.claim(accused, bad.window.start)
    assert claim is not None
    assert claim.disproved == (guilty and ruling.accusation.charge is not Charge.MARK)


def test_a_disproved_claim_earns_no_rating_nor_does_who_accused_falsely() -> None:
    audited = crooked()
    audited.rule(segment(audited, by=1), True)
    audited.rule(matrix(audited, by=3), False)  # believed here: nobody looks
    state = audited.end()
    assert [audited.rating(i) for i in (0, 3)] == [0, 0]
    assert [state.standing(audited.public(i)).outcomes for i in (0, 3)] == [(), ()]
    assert state.supply_ok()


def test_nobody_is_punished_twice_and_losers_accuse_no_more(bad: Audited) -> None:
    def again(first: Ruling, second: Ruling, says: str) -> None:
        with pytest.raises(InvalidRating, match=says):
            apply(bad, first, second)

    again(Ruling(segment(bad), True), Ruling(segment(bad, by=1), True), "has been punished")
    again(Ruling(segment(bad), False), Ruling(episode(bad), True), "the accuser is no validator, or was")
    again(Ruling(segment(bad, by=1), False), Ruling(episode(bad), True), "has been punished")
    apply(bad, Ruling(segment(bad, by=1), True), Ruling(marked(bad), True))


def test_an_acquittal_is_at_the_accusers_cost_each_time(good: Audited) -> None:
    draft = apply(good, Ruling(segment(good, by=3), False), Ruling(segment(good, by=2), False))
    for i, rating in enumerate((10, 10, 0, 0)):
        entry = draft.validator(good.public(i))
        assert entry is not None
        assert entry.rating == rating


# -- what is refused -------------------------------------------------------------------------------------


def without_signature(audited: Audited) -> Accusation:
    return replace(segment(audited), signature=bytes(64))


def by_a_stranger(audited: Audited) -> Accusation:
    work = audited.of(3)
    keys, work.keys = work.keys, audited.world.users[1]
    try:
        found: Accusation = work.signed(replace(segment(audited), signer=work.keys.public))
        return found
    finally:
        work.keys = keys


def of_a_stranger(audited: Audited) -> Accusation:
    return changed(audited, segment(audited), accused=bytes(32))


def of_itself(audited: Audited) -> Accusation:
    return audited.accuse(0, Charge.SEGMENT, 0, audited.leaves(0, 5))


def for_another_draw(audited: Audited) -> Accusation:
    return changed(audited, segment(audited), drawn=FALSE)


def of_another_window(audited: Audited) -> Accusation:
    return changed(audited, segment(audited), window=48)


def changed(audited: Audited, accusation: Accusation, by: int = 3, **fields: Any) -> Accusation:
    found: Accusation = audited.of(by).signed(replace(accusation, **fields))
    return found


def a_leaf_of_another(audited: Audited) -> Accusation:
    return changed(audited, segment(audited), leaves=audited.leaves(1, 5))


def a_forged_leaf(audited: Audited) -> Accusation:
    [leaf] = audited.leaves(0, 7)
    return changed(audited, segment(audited), leaves=(replace(leaf, digest=FALSE),))


def a_leaf_elsewhere(audited: Audited) -> Accusation:
    [leaf] = audited.leaves(0, 5)
    return changed(audited, segment(audited), leaves=(replace(leaf, index=4),))


def a_leaf_of_the_other_tree(audited: Audited) -> Accusation:
    return audited.accuse(3, Charge.EPISODE, 0, audited.leaves(0, 5))


def no_leaf(audited: Audited) -> Accusation:
    return changed(audited, segment(audited), leaves=())


def two_leaves(audited: Audited) -> Accusation:
    return changed(audited, segment(audited), leaves=audited.leaves(0, 4, 5))


def a_place_too_many(audited: Audited) -> Accusation:
    return changed(audited, segment(audited), place=1)


def about_somebody(audited: Audited) -> Accusation:
    return changed(audited, segment(audited), about=audited.public(1))


def a_matrix_with_leaves(audited: Audited) -> Accusation:
    return changed(audited, matrix(audited), leaves=audited.leaves(2, 0))


def no_such_matrix(audited: Audited) -> Accusation:
    return changed(audited, matrix(audited), place=2)


def no_such_mark(audited: Audited) -> Accusation:
    return changed(audited, marked(audited), by=2, place=len(audited.part(3, 0)))


def a_mark_of_another_leaf(audited: Audited) -> Accusation:
    position = audited.part(3, 0)[1]
    return changed(audited, marked(audited), by=2, leaves=audited.leaves(0, position))


def a_mark_about_nobody(audited: Audited) -> Accusation:
    return changed(audited, marked(audited), by=2, about=FALSE)


def a_mark_about_itself(audited: Audited) -> Accusation:
    return changed(audited, marked(audited), by=2, leaves=audited.leaves(3, 0), about=audited.public(3))


def neighbours_in_order(audited: Audited) -> Accusation:
    return changed(audited, repeated(audited), leaves=audited.leaves(2, 7, 8))


def no_neighbours(audited: Audited) -> Accusation:
    return changed(audited, repeated(audited), leaves=audited.leaves(2, 15, 17))


def neighbours_the_other_way(audited: Audited) -> Accusation:
    return changed(audited, repeated(audited), leaves=audited.leaves(2, 17, 16))


def a_leaf_in_its_place(audited: Audited) -> Accusation:
    return changed(audited, repeated(audited), leaves=audited.leaves(2, 15))


def episodes_in_order(audited: Audited) -> Accusation:
    leaves = tuple(proven(audited.of(2).last, index) for index in (0, 1))
    return changed(audited, repeated(audited), leaves=leaves, place=EPISODES)


def a_last_leaf(audited: Audited) -> Accusation:
    leaves = (proven(audited.of(2).last, 0),)
    return changed(audited, repeated(audited), leaves=leaves, place=EPISODES)


def a_third_tree(audited: Audited) -> Accusation:
    return changed(audited, repeated(audited), place=2)


def the_other_tree(audited: Audited) -> Accusation:
    return changed(audited, repeated(audited), place=EPISODES)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (without_signature, "signature"),
        (by_a_stranger, "the accuser is no validator"),
        (of_a_stranger, "the accused is no validator"),
        (of_itself, "nobody accuses itself"),
        (for_another_draw, "another draw"),
        (of_another_window, "no rating window of slot 48"),
        (a_leaf_of_another, "not under the root"),
        (a_forged_leaf, "not under the root"),
        (a_leaf_elsewhere, "not under the root"),
        (a_leaf_of_the_other_tree, "not under the root"),
        (no_leaf, "SEGMENT does not come with 0 leaves"),
        (two_leaves, "SEGMENT does not come with 2 leaves"),
        (a_place_too_many, "SEGMENT has no place"),
        (about_somebody, "SEGMENT is about nobody else"),
        (a_matrix_with_leaves, "MATRIX does not come with 1 leaves"),
        (no_such_matrix, "no evaluation 2"),
        (no_such_mark, "is not about leaf"),
        (a_mark_of_another_leaf, "mark 0 of the report is not about leaf"),
        (a_mark_about_nobody, "committed to nothing"),
        (a_mark_about_itself, "no report about that subject"),
        (neighbours_in_order, "in order"),
        (no_neighbours, "no neighbours"),
        (neighbours_the_other_way, "no neighbours"),
        (a_leaf_in_its_place, "in order"),
        (episodes_in_order, "in order"),
        (a_last_leaf, "in order"),
        (a_third_tree, "one of the two trees"),
        (the_other_tree, "not under the root"),
    ],
)
def test_accusations_that_are_refused(bad: Audited, make: Callable[[Audited], Accusation], says: str) -> None:
    for guilty in (True, False):
        ruling = Ruling(make(bad), guilty)
        with pytest.raises(InvalidRating, match=says):
            apply(bad, ruling)
        assert read_rating_item(ruling.to_item()) == ruling


def test_a_breach_of_order_is_no_matter_of_opinion(bad: Audited) -> None:
    apply(bad, Ruling(repeated(bad), True))
    with pytest.raises(InvalidRating, match="need no replay"):
        apply(bad, Ruling(repeated(bad), False))


def test_who_has_no_bond_and_is_no_founder_accuses_nobody(bad: Audited) -> None:
    slot = bad.world.state.slot + 1
    for bond, taken in ((LONGER.bond - 1, False), (LONGER.bond, True)):
        draft = open_slot(bad.world.state, slot)
        entry = draft.validator(bad.public(3))
        assert entry is not None
        draft.debit(bad.world.users[0].public, bond, "the bond")
        draft.put_validator(replace(entry, founder=False, bond=bond))
        if taken:
            apply_rating(draft, Ruling(segment(bad), True), slot)
        else:
            with pytest.raises(InvalidRating, match="no bond to lose"):
                apply_rating(draft, Ruling(segment(bad), True), slot)


def test_accusations_have_their_time(bad: Audited) -> None:
    ruling, borders = Ruling(segment(bad), True), bad.borders
    for slot in (borders.commit_end, borders.end - 1):
        apply_rating(Draft(bad.world.state), ruling, slot)
    for slot in (borders.commit_end - 1, borders.end):
        with pytest.raises(InvalidRating, match="belongs into blocks"):
            apply_rating(Draft(bad.world.state), ruling, slot)


# -- order -----------------------------------------------------------------------------------------------


def test_leaves_that_cannot_stand_where_they_do() -> None:
    """A segment that no episode has, one without its predecessors, a repeated episode, an unfinished one."""
    audited = Audited()
    audited.train()
    one, two = audited.of(0), audited.of(1)
    one.leaves[0], one.leaves[19] = one.leaves[1], replace(one.leaves[19], segment=NET.segments)
    two.last[1] = two.last[0]
    three = audited.of(2)
    three.last[0] = replace(three.last[0], segment=6)
    audited.claim()
    accusations = [
        audited.accuse(3, Charge.ORDER, 0, audited.leaves(0, 0)),
        audited.accuse(3, Charge.ORDER, 0, audited.leaves(0, 0, 1)),
        audited.accuse(3, Charge.ORDER, 0, audited.leaves(0, 19)),
        audited.accuse(3, Charge.ORDER, 0, audited.leaves(0, 18, 19)),
        audited.accuse(3, Charge.ORDER, 1, tuple(proven(two.last, i) for i in (0, 1)), EPISODES),
        audited.accuse(3, Charge.ORDER, 2, (proven(three.last, 0),), EPISODES),
    ]
    for accusation in accusations:
        apply(audited, Ruling(accusation, True))
        assert case_of(audited.world.state, audited.window, accusation) is None
    with pytest.raises(InvalidRating, match="the charge is that of order"):
        apply(audited, Ruling(audited.accuse(3, Charge.SEGMENT, 0, audited.leaves(0, 19)), True))
