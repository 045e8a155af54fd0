"""Rating items that wait for a block: whose they may be, when, how many, and which go first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from chain.crypto import Keypair
from chain.errors import InvalidRating, PoolFull
from chain.gossip import Verdict, validate_rating
from chain.idle import something_waits
from chain.mempool import Mempool
from chain.rating import admission
from chain.rating.auditing import parts
from chain.rating.items import (
    MARK_BYTES,
    Accusation,
    Answer,
    AuditCommit,
    AuditReveal,
    Challenge,
    Charge,
    Commit,
    Point,
    Report,
    Reveal,
    Ruling,
    reports_digest,
)
from chain.rating_pool import PLACES, RatingPool
from chain.transition import open_slot
from tests.chain.conftest import World
from tests.chain.rating_window import BRIEF, Windows, Work, proven


@pytest.fixture
def windows() -> Windows:
    """A window is announced; three validators of different weight, the last one without."""
    found = Windows(World((30, 10, 20, 5), params=BRIEF))
    found.announce()
    return found


def work(windows: Windows, i: int, segments: int = 20) -> Work:
    return windows.work.setdefault(
        windows.world.validators[i].public,
        Work(windows.world, windows.world.validators[i].keypair, windows.window, segments),
    )


def signed(windows: Windows, i: int, point: Any) -> Any:
    return work(windows, i).signed(point)


def accusation(windows: Windows, by: int, accused: int, place: int = 0) -> Accusation:
    window = windows.window
    public = [keys.public for keys in windows.world.validators]
    made = Accusation(public[by], window.start, window.draw, Charge.MATRIX, public[accused], (), place, b"")
    return signed(windows, by, made)  # type: ignore[no-any-return]


def revealed(windows: Windows) -> None:
    """All have committed and shown how they do."""
    all_of_them = range(len(windows.world.validators))
    windows.commit(*all_of_them)
    windows.draw()
    windows.reveal(*all_of_them)


def add(windows: Windows, pool: RatingPool, *points: Point, slot: int | None = None) -> None:
    for point in points:
        assert pool.add(point, windows.world.state, windows.world.state.slot if slot is None else slot)


def select(windows: Windows, pool: RatingPool, slot: int, limit: int | None = None) -> tuple[Any, ...]:
    return pool.select(open_slot(windows.world.state, slot), slot, limit)


def refusal(windows: Windows, pool: RatingPool, point: Point, slot: int | None = None) -> str:
    with pytest.raises(InvalidRating) as refused:
        pool.add(point, windows.world.state, windows.world.state.slot if slot is None else slot)
    return str(refused.value)


def test_what_comes_early_waits_for_its_time(windows: Windows) -> None:
    pool, commit, end = RatingPool(), work(windows, 0).commit, windows.borders.train_end
    add(windows, pool, commit)
    assert not pool.add(commit, windows.world.state, end)
    assert pool.has(commit.id)
    assert pool.points() == (commit,)
    assert select(windows, pool, end - 1) == ()
    assert select(windows, pool, end) == (commit,)


def test_a_commitment_that_comes_late_is_refused(windows: Windows) -> None:
    """Blocks take it during the whole grace, so only who watched it come knows: see docs/spec/rating.md."""
    pool, end = RatingPool(), windows.borders.train_end
    first, second = work(windows, 0).commit, work(windows, 1).commit
    add(windows, pool, first, slot=end)
    assert "more than a slot after the end" in refusal(windows, pool, second, end + 1)
    assert not pool.add(first, windows.world.state, end + 1)  # it is here, whoever sends it again
    assert pool.put_back(second, windows.world.state, end + 1)
    assert set(select(windows, pool, end + 1)) == {first, second}


def test_only_validators_have_a_place(windows: Windows) -> None:
    pool, commit = RatingPool(), work(windows, 0).commit
    stranger = Keypair.from_seed(b"s" * 32)
    assert "no validator" in refusal(windows, pool, Work(windows.world, stranger, windows.window).commit)
    assert "signature" in refusal(windows, pool, replace(commit, joules=7))
    past = signed(windows, 0, replace(commit, window=1))
    assert "no window" in refusal(windows, pool, past)
    assert "no window" in refusal(windows, pool, past, windows.borders.train_end + 1), "that is not its fault"
    assert "another draw" in refusal(windows, pool, signed(windows, 0, replace(commit, drawn=bytes(32))))
    nobody = replace(accusation(windows, 0, 1), accused=stranger.public)
    assert "the accused is no validator" in refusal(windows, pool, signed(windows, 0, nobody))
    assert len(pool) == 0


def test_what_no_block_can_hold_any_more_is_refused(windows: Windows) -> None:
    pool, borders = RatingPool(), windows.borders
    with pytest.raises(InvalidRating, match="too late"):
        pool.put_back(work(windows, 0).commit, windows.world.state, borders.commit_end)
    windows.commit(0, 1, 2)
    windows.draw()
    shown = work(windows, 0).reveal(windows.window)
    assert "too late" in refusal(windows, pool, shown, borders.reveal_end)
    add(windows, pool, shown, slot=borders.reveal_end - 1)


def test_what_the_chain_has_does_not_come_back(windows: Windows) -> None:
    """Pools that are behind offer it for a while."""
    pool, borders = RatingPool(), windows.borders
    windows.commit(0, 1, 2)
    assert "the chain has it" in refusal(windows, pool, work(windows, 0).commit, borders.train_end)
    window = windows.draw()
    windows.reveal(0, 1, 2)
    assert admission.stands(work(windows, 0).reveal(window), windows.world.state)
    i, subject, positions = audited(windows)
    auditor, position = work(windows, i).keys.public, positions[0]
    of_window = (auditor, window.start, window.draw)
    report = Report(subject, bytes(MARK_BYTES * len(positions)))
    sealed = signed(windows, i, AuditCommit(*of_window, reports_digest(auditor, bytes(32), (report,))))
    asked = signed(windows, i, Challenge(*of_window, subject, (position,)))
    assert not any(admission.stands(each, windows.world.state) for each in (sealed, asked))
    windows.go(borders.reveal_end, [sealed, asked])
    leaves = windows.work[subject].leaves
    shown = tuple(proven(leaves, place) for place in range(max(position - 1, 0), position + 1))
    answer = windows.work[subject].signed(Answer(subject, window.start, window.draw, auditor, shown))
    add(windows, pool, answer)
    opened = signed(windows, i, AuditReveal(*of_window, bytes(32), (report,)))
    assert not any(admission.stands(each, windows.world.state) for each in (answer, opened))
    windows.go(borders.audit_commit_end, [answer, opened])
    assert all(admission.stands(each, windows.world.state) for each in (sealed, asked, answer, opened))


def test_an_answer_to_another_branch_s_challenge_keeps_none_out(windows: Windows) -> None:
    """Its challenger may have asked for other leaves there; this branch's answer needs its place."""
    pool, borders = RatingPool(), windows.borders
    windows.commit(0, 1, 2)
    window = windows.draw()
    windows.reveal(0, 1, 2)
    i, subject, positions = audited(windows)
    auditor = work(windows, i).keys.public
    leaves = windows.work[subject].leaves

    def answer(position: int) -> Answer:
        shown = tuple(proven(leaves, place) for place in range(max(position - 1, 0), position + 1))
        return windows.work[subject].signed(Answer(subject, window.start, window.draw, auditor, shown))

    other = answer(positions[1])
    add(windows, pool, other)
    asked = signed(windows, i, Challenge(auditor, window.start, window.draw, subject, positions[:1]))
    windows.go(borders.reveal_end, [asked])
    pool.on_head([asked], windows.world.state, windows.world.state.slot)
    assert not pool.has(other.id)
    assert "answers another challenge" in refusal(windows, pool, other)
    add(windows, pool, answer(positions[0]))


def of_every_kind(windows: Windows) -> dict[type[Point], tuple[Point, int]]:
    """An item of each kind, and the slot after the last that may hold it; before anybody has committed."""
    keys, borders, params = windows.world.validators[0], windows.borders, windows.world.genesis.params
    named = (keys.public, windows.window.start, windows.window.draw)
    other = windows.world.validators[1].public
    answered = borders.audit_commit_end + params.challenge_slots
    return {
        Commit: (work(windows, 0).commit, borders.commit_end),
        Reveal: (Reveal(*named, ()), borders.reveal_end),
        AuditCommit: (AuditCommit(*named, bytes(32)), borders.audit_commit_end),
        Challenge: (Challenge(*named, other, (0,)), borders.audit_commit_end),
        AuditReveal: (AuditReveal(*named, bytes(32), ()), borders.audit_reveal_end),
        Answer: (Answer(*named, other, ()), answered),
        Accusation: (accusation(windows, 0, 1), borders.end),
    }


@pytest.mark.parametrize("kind", list(PLACES))
def test_each_kind_has_its_last_slot(windows: Windows, kind: type[Point]) -> None:
    point, end = of_every_kind(windows)[kind]
    state = windows.world.state
    admission.check_time(point, state, end - 1)
    with pytest.raises(InvalidRating, match="too late"):
        admission.check_time(point, state, end)


def test_the_heads_slot_counts_where_the_clock_is_behind(windows: Windows) -> None:
    windows.commit(0, 1, 2)
    windows.draw()
    shown, end = work(windows, 0).reveal(windows.window), windows.borders.reveal_end
    add(windows, RatingPool(), shown, slot=windows.borders.commit_end)
    windows.go(end - 1)
    assert "too late" in refusal(windows, RatingPool(), shown, windows.borders.commit_end)


@pytest.mark.parametrize("kind", [kind for kind in PLACES if kind is not Commit])
def test_before_the_draw_only_commitments_wait(windows: Windows, kind: type[Point]) -> None:
    """So that nothing can keep them out: once another kind is taken, no block takes them any more."""
    point, _ = of_every_kind(windows)[kind]
    state, begins = windows.world.state, windows.borders.commit_end
    with pytest.raises(InvalidRating, match="before the draw"):
        admission.check_time(point, state, begins - 1)
    admission.check_time(point, state, begins)
    with pytest.raises(InvalidRating, match="too late"):
        admission.check_time(work(windows, 0).commit, state, begins)


def test_what_follows_from_a_draw_that_is_not_here_yet_waits(windows: Windows) -> None:
    windows.commit(0, 1, 2)
    before = windows.world.state
    window = windows.draw()
    shown = work(windows, 0).reveal(window)
    assert RatingPool().add(shown, before, windows.borders.commit_end)
    windows.reveal(0, 1, 2)
    before = windows.world.state
    i, subject, (position, *_) = audited(windows)
    asked = signed(
        windows, i, Challenge(work(windows, i).keys.public, window.start, window.draw, subject, (position,))
    )
    windows.go(windows.borders.reveal_end, [asked])
    answer = windows.work[subject].signed(Answer(subject, window.start, window.draw, asked.signer, ()))
    assert RatingPool().add(answer, before, windows.world.state.slot), "its challenge is not here yet"


def test_nothing_waits_for_a_window_that_is_void_or_not_announced(windows: Windows) -> None:
    early = of_every_kind(windows)[AuditCommit][0]
    windows.commit(0, 1)
    windows.draw()
    assert windows.window.over, "two are too few"
    assert "no window" in refusal(windows, RatingPool(), early, windows.borders.commit_end)
    surprised = Windows(
        World(
            (30, 10, 20),
            params=replace(BRIEF, window_every_epochs=1000, surprise_slots=1, surprise_every_epochs=1),
        )
    )
    while surprised.window.over:
        surprised.go(surprised.world.state.slot + 1)
    assert not surprised.window.mix
    assert "no window" in refusal(surprised, RatingPool(), work(surprised, 0).commit)


def audited(windows: Windows) -> tuple[int, bytes, tuple[int, ...]]:
    """Somebody's duty: which validator, whom it audits, at which positions."""
    state, publics = windows.world.state, [keys.public for keys in windows.world.validators]
    return next(
        (publics.index(auditor), subject, positions)
        for subject in publics
        for auditor, positions in parts(state, windows.window, subject).items()
    )


def test_a_flood_of_one_account_displaces_nobody(windows: Windows) -> None:
    revealed(windows)
    pool, window = RatingPool(), windows.window
    borders = windows.borders
    first = [
        signed(
            windows, 1, AuditCommit(work(windows, 1).keys.public, window.start, window.draw, bytes([i]) * 32)
        )
        for i in range(50)
    ]
    add(windows, pool, first[0])
    for another in first[1:]:
        assert "waits in its place" in refusal(windows, pool, another)
    charges = [accusation(windows, 1, 0, place) for place in range(50)]
    add(windows, pool, *charges[: PLACES[Accusation]])
    for another in charges[PLACES[Accusation] :]:
        assert f"more than {PLACES[Accusation]}" in refusal(windows, pool, another)
    others = [bytes([i]) * 32 for i in range(100)]
    asked = [
        signed(windows, 1, Challenge(work(windows, 1).keys.public, window.start, window.draw, other, (0,)))
        for other in others
    ]
    add(windows, pool, *asked[: PLACES[Challenge]])
    assert "more than" in refusal(windows, pool, asked[-1])
    elsewhere = signed(windows, 1, replace(asked[0], positions=(1,)))
    assert "waits in its place" in refusal(windows, pool, elsewhere), "each challenges a subject once"
    answers = [
        signed(windows, 1, Answer(work(windows, 1).keys.public, window.start, window.draw, other, ()))
        for other in others[: PLACES[Answer] + 1]
    ]
    add(windows, pool, *answers[:-1])
    assert "more than" in refusal(windows, pool, answers[-1])
    leaves = (proven(work(windows, 1).leaves, 0),)
    other = signed(windows, 1, replace(answers[0], leaves=leaves))
    assert "waits in its place" in refusal(windows, pool, other)
    honest = signed(
        windows, 2, AuditCommit(work(windows, 2).keys.public, window.start, window.draw, bytes(32))
    )
    add(windows, pool, honest)
    assert set(select(windows, pool, borders.reveal_end)) == {first[0], honest}


def test_in_a_full_pool_the_lighter_one_gives_way(windows: Windows) -> None:
    size = len(work(windows, 0).commit.encoded)
    pool = RatingPool(max_bytes=2 * size + 10)
    light, heavy, middle, lightest = (work(windows, i).commit for i in (1, 0, 2, 3))
    add(windows, pool, light, heavy, middle)
    assert pool.points() == (heavy, middle)
    for other in (light, lightest):
        with pytest.raises(PoolFull):
            pool.add(other, windows.world.state, windows.world.state.slot)
    assert pool.points() == (heavy, middle)


def test_equals_do_not_displace_each_other() -> None:
    windows = Windows(World((10, 10, 10), params=BRIEF))
    windows.announce()
    pool = RatingPool(max_bytes=len(work(windows, 0).commit.encoded) + 10)
    add(windows, pool, work(windows, 0).commit)
    with pytest.raises(PoolFull):
        pool.add(work(windows, 1).commit, windows.world.state, windows.world.state.slot)
    assert pool.points() == (work(windows, 0).commit,)


def test_of_equals_the_one_that_holds_more_gives_way() -> None:
    windows = Windows(World((10, 10, 10), params=BRIEF))
    windows.announce()
    revealed(windows)
    first, second = ([accusation(windows, i, 2, place) for place in (0, 1)] for i in (0, 1))
    size = len(first[0].encoded)
    pool = RatingPool(max_bytes=2 * size + 10)
    add(windows, pool, *first, second[0])
    assert pool.points() == (second[0],), "all of it: it may send again what there is room for"
    add(windows, pool, first[0])
    for another in (first[1], second[1]):
        with pytest.raises(PoolFull):
            pool.add(another, windows.world.state, windows.world.state.slot)


def test_who_has_nothing_here_any_more_has_nothing_to_give_way(windows: Windows) -> None:
    pool, end = RatingPool(max_bytes=len(work(windows, 0).commit.encoded) + 10), windows.borders.train_end
    light, heavy, middle = (work(windows, i).commit for i in (1, 0, 2))
    add(windows, pool, light)
    windows.go(end, [light])
    pool.on_head([light], windows.world.state, end)
    add(windows, pool, heavy)
    with pytest.raises(PoolFull):
        pool.add(middle, windows.world.state, end)


def test_the_heaviest_go_first_as_many_as_fit(windows: Windows) -> None:
    pool, end = RatingPool(), windows.borders.train_end
    add(windows, pool, *(work(windows, i).commit for i in (1, 2, 3, 0)))
    ordered = tuple(work(windows, i).commit for i in (0, 2, 1, 3))
    assert select(windows, pool, end) == ordered
    assert select(windows, pool, end, 2) == ordered[:2]


def test_an_accusation_waits_for_its_ruling_and_goes_first(windows: Windows) -> None:
    revealed(windows)
    pool, window = RatingPool(), windows.window
    mine = [accusation(windows, 1, 0, place) for place in (0, 1)]
    theirs = accusation(windows, 2, 3)
    report = signed(
        windows, 0, AuditCommit(work(windows, 0).keys.public, window.start, window.draw, bytes(32))
    )
    add(windows, pool, report, *mine, theirs)
    slot = windows.borders.reveal_end
    assert pool.unruled() == (mine[0], theirs)  # the second only once the first is settled
    assert select(windows, pool, slot) == (report,)
    pool.ruled(mine[0].id, True)
    pool.ruled(theirs.id, False)
    assert pool.unruled() == (mine[1],)
    assert select(windows, pool, slot) == (Ruling(theirs, False), report)  # one a block, the heavier first
    block = windows.go(slot, select(windows, pool, slot))
    pool.on_head(block.body.ratings, windows.world.state, slot)
    assert pool.points() == tuple(mine)
    assert "convicted" in refusal(windows, pool, theirs)


def test_a_ruling_is_remembered_before_its_accusation_comes(windows: Windows) -> None:
    revealed(windows)
    pool, charge = RatingPool(), accusation(windows, 1, 0)
    pool.ruled(charge.id, True)
    add(windows, pool, charge)
    assert pool.unruled() == ()
    assert select(windows, pool, windows.borders.reveal_end) == (Ruling(charge, True),)


def test_rulings_without_end_are_forgotten(windows: Windows) -> None:
    revealed(windows)
    pool, charge = RatingPool(), accusation(windows, 1, 0)
    add(windows, pool, charge)
    pool.ruled(charge.id, True)
    for number in range(256):
        assert pool.unruled() == ()
        pool.ruled(number.to_bytes(32, "big"), False)
    assert pool.unruled() == (charge,)


def test_who_accuses_needs_the_bond(make_world: Callable[..., World]) -> None:
    found = Windows(World((30, 10, 20), params=BRIEF))
    found.announce()
    found.commit(0, 1, 2)
    found.draw()
    found.reveal(0, 1, 2)
    charge = accusation(found, 1, 0)
    state = found.world.state
    known = state.validator(charge.signer)
    assert known is not None
    draft = open_slot(state, state.slot + 1)
    draft.put_validator(replace(known, founder=False))
    with pytest.raises(InvalidRating, match="needs the bond"):
        RatingPool().add(charge, draft, state.slot)  # type: ignore[arg-type]
    admission.check_sender(accusation(found, 0, 1), draft)  # type: ignore[arg-type]  # who is accused does not


def test_the_head_clears_the_pool(windows: Windows) -> None:
    pool, world = Mempool(), windows.world
    mine, theirs = work(windows, 0).commit, work(windows, 1).commit
    end = windows.borders.train_end
    for commit in (mine, theirs):
        pool.ratings.add(commit, world.state, end)
    block = windows.go(end, [mine])
    pool.on_head([block], [], world.state, end)
    assert pool.ratings.points() == (theirs,)
    other = signed(windows, 0, replace(mine, joules=9))
    assert "the chain has it" in refusal(windows, pool.ratings, other, end)
    windows.go(windows.borders.commit_end)
    pool.on_head([], [], world.state, world.state.slot)
    assert pool.ratings.points() == ()


def test_what_a_reverted_block_held_comes_back_however_late(windows: Windows) -> None:
    pool, world = Mempool(), windows.world
    before, commit, end = world.state, work(windows, 0).commit, windows.borders.train_end
    block = windows.go(end, [commit])
    pool.on_head([block], [], world.state, end)
    pool.on_head([], [block], before, end + 1)
    assert pool.ratings.points() == (commit,)
    assert pool.select_ratings(before, end + 1) == (commit,)


def test_a_waiting_item_wants_a_block_once_it_applies(windows: Windows) -> None:
    pool, chain = Mempool(), windows.world.chain
    end = windows.borders.train_end
    assert not something_waits(chain, pool, end)
    pool.ratings.add(work(windows, 0).commit, windows.world.state, end)
    assert not something_waits(chain, pool, end - 1)
    assert something_waits(chain, pool, end)


@pytest.mark.parametrize("data", [b"", b"\x00", b"\xc0", b"\x91\x01", b"\x98\x01" + b"\xc4\x00" * 7])
def test_garbage_by_gossip_is_rejected(windows: Windows, data: bytes) -> None:
    assert validate_rating(data, Mempool(), windows.world.state, 1).verdict is Verdict.REJECT


def test_gossip_blames_only_for_what_is_wrong_everywhere(windows: Windows) -> None:
    pool, world, end = Mempool(), windows.world, windows.borders.train_end
    commit = work(windows, 0).commit

    def judged(point: Point, slot: int = end) -> tuple[Verdict, bool]:
        found = validate_rating(point.encoded, pool, world.state, slot)
        return found.verdict, found.item == point

    assert judged(replace(commit, signature=bytes(64))) == (Verdict.REJECT, False)
    stranger = Work(world, Keypair.from_seed(b"s" * 32), windows.window).commit
    assert judged(stranger) == (Verdict.IGNORE, True)
    assert judged(replace(stranger, signature=bytes(64))) == (Verdict.IGNORE, True)  # not even looked at
    assert judged(signed(windows, 0, replace(commit, window=1))) == (Verdict.IGNORE, True)
    assert judged(commit, end + 1) == (Verdict.IGNORE, True)
    assert judged(commit) == (Verdict.ACCEPT, True)
    assert judged(commit) == (Verdict.IGNORE, True)
    assert isinstance(pool.ratings.points()[0], Commit)
