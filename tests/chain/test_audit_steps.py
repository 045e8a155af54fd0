"""Sealed and opened reports, challenges and answers: what blocks take, and what they refuse."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from chain.draft import Draft
from chain.errors import InvalidRating
from chain.rating import audit_steps, auditing
from chain.rating.auditing import NO_MARK, most_asked, parts
from chain.rating.auditor import seconds_of, tasks_of
from chain.rating.closing import Reason
from chain.rating.entries import Duty, OpenChallenge
from chain.rating.items import (
    MARK_BYTES,
    MAX_RATING_ITEM_BYTES,
    Answer,
    Charge,
    ProvenLeaf,
    Report,
    Ruling,
    decode_point,
    reports_digest,
)
from chain.transition import apply_rating, open_slot
from tests.chain.audited_window import SALT, Audited

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def audited() -> Audited:
    """Where audits begin. Nobody may change it: drafts only."""
    return Audited().ready()


@pytest.fixture(scope="module")
def sealed() -> Audited:
    """Where reports are opened: auditor 0 has sealed true ones."""
    audited = Audited().ready()
    audited.go(audited.world.state.slot + 1, [audited.sealed(0, audited.reports(0))])
    audited.go(audited.borders.audit_commit_end)
    return audited


def after(audited: Audited, *items: Any, slot: int | None = None) -> Draft:
    """A block with these items."""
    slot = audited.world.state.slot + 1 if slot is None else slot
    draft = open_slot(audited.world.state, slot)
    for item in items:
        apply_rating(draft, item, slot)
    return draft


def refuse(says: str, audited: Audited, *items: Any, slot: int | None = None) -> None:
    """All but the last are taken."""
    after(audited, *items[:-1], slot=slot)
    with pytest.raises(InvalidRating, match=says):
        after(audited, *items, slot=slot)


def convicted(audited: Audited, i: int, draft: Draft) -> None:
    validator = draft.validator(audited.public(i))
    assert validator is not None
    draft.put_validator(replace(validator, rating=0, barred_until=99))


# -- sealing ---------------------------------------------------------------------------------------------


def test_reports_are_sealed_once(audited: Audited) -> None:
    item = audited.sealed(0, audited.reports(0))
    draft = after(audited, item)
    assert draft.duty(audited.public(0), audited.window.start) == Duty(24, item.digest)
    refuse("already", audited, item, audited.sealed(0, ()))
    after(audited, item, audited.sealed(1, ()))


def test_reports_are_sealed_in_their_phase(audited: Audited) -> None:
    item, borders = audited.sealed(0, ()), audited.borders
    for slot in (borders.reveal_end, borders.audit_commit_end - 1):
        open_at(audited, item, slot)
    for slot in (borders.reveal_end - 1, borders.audit_commit_end):
        with pytest.raises(InvalidRating, match="belongs into blocks"):
            open_at(audited, item, slot)


def open_at(audited: Audited, item: Any, slot: int) -> None:
    """On the draft of another slot, so that borders before it need no blocks."""
    apply_rating(Draft(audited.world.state), item, slot)


def test_only_who_can_be_drawn_seals_reports(audited: Audited) -> None:
    digest = bytes(32)
    refuse("32 bytes", audited, replace_signed(audited, 0, audited.sealed(0, ()), digest=digest[:31]))
    stranger = audited.world.users[0]
    work = audited.of(0)
    item = replace(audited.sealed(0, ()), signer=stranger.public)
    keys, work.keys = work.keys, stranger
    item = work.signed(item)
    work.keys = keys
    refuse("no auditor", audited, item)
    draft = after(audited)
    convicted(audited, 0, draft)
    with pytest.raises(InvalidRating, match="no auditor"):
        apply_rating(draft, audited.sealed(0, ()), audited.world.state.slot + 1)


def replace_signed(audited: Audited, i: int, item: Any, **changes: Any) -> Any:
    return audited.of(i).signed(replace(item, **changes))


# -- opening ---------------------------------------------------------------------------------------------


def test_sealed_reports_are_opened_once(sealed: Audited) -> None:
    reports = sealed.reports(0)
    item = sealed.opened(0, reports)
    draft = after(sealed, item)
    assert draft.duty(sealed.public(0), 24) == Duty(24, sealed.sealed(0, reports).digest, reports)
    refuse("open already", sealed, item, item)


def test_reports_are_opened_in_their_phase(sealed: Audited) -> None:
    item, borders = sealed.opened(0, sealed.reports(0)), sealed.borders
    open_at(sealed, item, borders.audit_reveal_end - 1)
    for slot in (borders.audit_commit_end - 1, borders.audit_reveal_end):
        with pytest.raises(InvalidRating, match="belongs into blocks"):
            open_at(sealed, item, slot)


def test_other_reports_than_the_sealed_ones_are_refused(sealed: Audited) -> None:
    reports = sealed.reports(0)
    better = (replace(reports[0], marks=b"\x01" * len(reports[0].marks)), *reports[1:])
    refuse("not the reports that were sealed", sealed, sealed.opened(0, better))
    refuse("not the reports that were sealed", sealed, sealed.opened(0, reports, salt=b"\x01" * 32))
    refuse("not the reports that were sealed", sealed, sealed.opened(0, reports, salt=SALT[:31]))
    refuse("sealed no reports", sealed, sealed.opened(1, sealed.reports(1)))


def test_a_copied_seal_opens_nothing(audited: Audited) -> None:
    """Who seals the digest of another has sealed that other's name, and has not its marks."""
    reports = audited.reports(0)
    stolen = replace_signed(audited, 1, audited.sealed(1, ()), digest=audited.sealed(0, reports).digest)
    draft = after(audited, stolen)
    slot = audited.borders.audit_commit_end
    with pytest.raises(InvalidRating, match="not the reports that were sealed"):
        apply_rating(draft, audited.opened(1, reports), slot)
    own = {report.subject: report.marks for report in audited.reports(1)}
    for report in reports:
        assert not set(chunks(report.marks)) & set(chunks(own.get(report.subject, b"")))
        assert len(set(chunks(report.marks))) == len(report.marks) // MARK_BYTES


def chunks(marks: bytes) -> list[bytes]:
    return [marks[start : start + MARK_BYTES] for start in range(0, len(marks), MARK_BYTES)]


def nobody(audited: Audited, reports: tuple[Report, ...]) -> tuple[Report, ...]:
    return ()


def not_ascending(audited: Audited, reports: tuple[Report, ...]) -> tuple[Report, ...]:
    return reports[::-1]


def one_twice(audited: Audited, reports: tuple[Report, ...]) -> tuple[Report, ...]:
    return (reports[0], reports[0])


def of_itself(audited: Audited, reports: tuple[Report, ...]) -> tuple[Report, ...]:
    return (Report(audited.public(0), bytes(MARK_BYTES)),)


def of_a_stranger(audited: Audited, reports: tuple[Report, ...]) -> tuple[Report, ...]:
    return (Report(bytes(32), bytes(MARK_BYTES)),)


def a_mark_short(audited: Audited, reports: tuple[Report, ...]) -> tuple[Report, ...]:
    return (replace(reports[0], marks=reports[0].marks[:-MARK_BYTES]),)


def a_mark_more(audited: Audited, reports: tuple[Report, ...]) -> tuple[Report, ...]:
    return (replace(reports[0], marks=reports[0].marks + NO_MARK),)


def a_byte_more(audited: Audited, reports: tuple[Report, ...]) -> tuple[Report, ...]:
    return (replace(reports[0], marks=reports[0].marks + b"\x00"),)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (nobody, "no report"),
        (not_ascending, "ascending"),
        (one_twice, "ascending"),
        (of_itself, "not drawn for"),
        (of_a_stranger, "not drawn for"),
        (a_mark_short, "8 bytes for each of"),
        (a_mark_more, "8 bytes for each of"),
        (a_byte_more, "8 bytes for each of"),
    ],
)
def test_reports_that_are_refused(audited: Audited, make: Callable[..., Any], says: str) -> None:
    made = make(audited, audited.reports(0))
    draft = after(audited, audited.sealed(0, made))
    with pytest.raises(InvalidRating, match=says):
        apply_rating(draft, audited.opened(0, made), audited.borders.audit_commit_end)


def test_a_report_may_leave_subjects_out(audited: Audited) -> None:
    """It is one that was missed."""
    made = audited.reports(0)[:1]
    draft = after(audited, audited.sealed(0, made))
    apply_rating(draft, audited.opened(0, made), audited.borders.audit_commit_end)


def test_what_was_sealed_on_another_branch_does_not_open_here(audited: Audited) -> None:
    other = replace_signed(audited, 0, audited.sealed(0, ()), drawn=b"\x01" * 32)
    refuse("another draw", audited, other)


# -- who is audited --------------------------------------------------------------------------------------


def test_parts_are_of_those_who_revealed(audited: Audited) -> None:
    state, window = audited.world.state, audited.window
    for subject in range(4):
        found = parts(state, window, audited.public(subject))
        assert sorted(found) == sorted(audited.public(i) for i in range(4) if i != subject)
        assert sorted(sum(found.values(), ())) == list(range(20))
    draft = after(audited)
    claim = draft.claim(audited.public(0), window.start)
    assert claim is not None
    draft.put(b"c" + audited.public(0), replace(claim, evaluations=()))
    assert parts(draft, window, audited.public(0)) == {}
    assert parts(draft, window, bytes(32)) == {}


# -- challenges and answers ------------------------------------------------------------------------------


def test_a_challenge_waits_for_its_answer(audited: Audited) -> None:
    position = audited.part(1, 0)[-1]
    slot = audited.world.state.slot + 1
    draft = after(audited, audited.challenge(1, 0, position))
    claim = draft.claim(audited.public(0), audited.window.start)
    assert claim is not None
    assert claim.challenges == (OpenChallenge(audited.public(1), (position,), slot + 3),)
    assert claim.challengers == (audited.public(1),)
    apply_rating(draft, audited.answer(0, 1, position - 1, position), slot + 3)
    claim = draft.claim(audited.public(0), audited.window.start)
    assert claim is not None
    assert (claim.challenges, claim.challengers) == ((), (audited.public(1),))
    with pytest.raises(InvalidRating, match="challenged this subject already"):
        apply_rating(draft, audited.challenge(1, 0, audited.part(1, 0)[0]), slot)


def test_challenges_that_are_refused(audited: Audited) -> None:
    mine, others = audited.part(1, 0), audited.part(2, 0)
    refuse("not of this auditor's part", audited, audited.challenge(1, 0, others[0]))
    refuse("not of this auditor's part", audited, audited.challenge(1, 1, 0))
    refuse("not of this auditor's part", audited, audited.challenge(1, 0))
    refuse("not of this auditor's part", audited, audited.challenge(1, 0, mine[0], others[0]))
    refuse("ascend", audited, audited.challenge(1, 0, mine[1], mine[0]))
    refuse("ascend", audited, audited.challenge(1, 0, mine[0], mine[0]))
    refuse("already", audited, audited.challenge(1, 0, mine[0]), audited.challenge(1, 0, mine[1]))
    after(audited, audited.challenge(1, 0, mine[0]), audited.challenge(2, 0, others[0]))
    draft = after(audited)
    convicted(audited, 1, draft)
    with pytest.raises(InvalidRating, match="no auditor"):
        apply_rating(draft, audited.challenge(1, 0, mine[0]), audited.world.state.slot + 1)
    item, borders = audited.challenge(1, 0, mine[0]), audited.borders
    open_at(audited, item, borders.audit_commit_end - 1)
    for slot in (borders.reveal_end - 1, borders.audit_commit_end):
        with pytest.raises(InvalidRating, match="belongs into blocks"):
            open_at(audited, item, slot)


def test_answers_that_are_refused(audited: Audited) -> None:
    position = audited.part(1, 0)[-1]
    asked = audited.challenge(1, 0, position)
    good = audited.answer(0, 1, position - 1, position)
    after(audited, asked, good)
    refuse("waits for no leaves", audited, good)
    refuse("waits for no leaves", audited, asked, good, good)
    refuse("in this order", audited, asked, audited.answer(0, 1, position))
    refuse("in this order", audited, asked, audited.answer(0, 1, position, position - 1))
    forged = replace(good.leaves[1], digest=bytes(32))
    lie = replace_signed(audited, 0, good, leaves=(good.leaves[0], forged))
    refuse("not under the root", audited, asked, lie)
    by_another = audited.of(2).signed(replace(good, signer=audited.public(2)))
    refuse("waits for no leaves", audited, asked, by_another)
    draft, slot = after(audited, asked), audited.world.state.slot + 1
    with pytest.raises(InvalidRating, match=f"due until slot {slot + 3}"):
        apply_rating(draft, good, slot + 4)


def test_a_challenge_of_a_whole_part_is_answered_as_a_whole(audited: Audited) -> None:
    part = audited.part(1, 0)
    asked = audited.challenge(1, 0, *part)
    wanted = sorted({place for each in part for place in (each - 1, each) if place >= 0})
    after(audited, asked, audited.answer(0, 1, *wanted))
    refuse("in this order", audited, asked, audited.answer(0, 1, *wanted[:-1]))
    refuse("waits for no leaves", audited, asked, audited.answer(0, 2, *wanted))


def test_a_challenge_asks_for_no_more_than_an_answer_holds(
    audited: Audited, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_steps, "most_asked", lambda segments: 2)
    part = audited.part(1, 0)
    after(audited, audited.challenge(1, 0, *part[:2]))
    refuse("names 2 positions at most", audited, audited.challenge(1, 0, *part[:3]))


@pytest.mark.parametrize("segments", [1, 2, 3, 100, 2_000, 65_536, 65_537, 2**26])
def test_an_answer_always_fits_into_an_item(segments: int) -> None:
    count, depth = most_asked(segments), (segments - 1).bit_length()
    assert count >= min(8, segments)
    leaf = ProvenLeaf(2**26, 2**63, 7, bytes(32), (bytes(32),) * depth)
    answer = Answer(bytes(32), 2**40, bytes(32), bytes(32), (leaf,) * (2 * count), bytes(64))
    assert len(answer.encoded) <= MAX_RATING_ITEM_BYTES
    assert decode_point(answer.encoded) == answer


def test_the_first_leaf_is_an_answer_by_itself(audited: Audited) -> None:
    auditor = next(i for i in (1, 2, 3) if audited.part(i, 0)[0] == 0)
    asked = audited.challenge(auditor, 0, 0)
    after(audited, asked, audited.answer(0, auditor, 0))
    refuse("in this order", audited, asked, audited.answer(0, auditor, 0, 1))


def test_leaves_out_of_order_are_an_answer() -> None:
    """Or a subject could not be made to show what convicts it."""
    audited = Audited()
    audited.train()
    work = audited.of(0)
    work.leaves[9] = work.leaves[8]  # segment 0 of episode 1 twice
    audited.claim()
    audited.show()
    auditor = next(i for i in (1, 2, 3) if 9 in audited.part(i, 0))
    after(audited, audited.challenge(auditor, 0, 9), audited.answer(0, auditor, 8, 9))


def test_what_comes_of_a_window_with_audits() -> None:
    """One subject never answers; auditors report on one of three, on nobody, and without a mark."""
    audited = Audited().ready()
    world = audited.world
    position = audited.part(1, 0)[0]
    some, none = audited.reports(2)[:1], audited.reports(1)
    lazy = tuple(replace(report, marks=bytes(len(report.marks))) for report in audited.reports(0))
    audited.go(
        world.state.slot + 1,
        [audited.challenge(1, 0, position), audited.sealed(2, some), audited.sealed(1, none),
         audited.sealed(0, lazy)],
    )  # fmt: skip
    audited.go(
        audited.borders.audit_commit_end,
        [audited.opened(2, some), audited.opened(1, none), audited.opened(0, lazy)],
    )
    before = world.state
    audited.end()
    outcomes = {i: world.state.standing(audited.public(i)).outcomes[0] for i in range(4)}
    assert [outcomes[i].reason for i in range(4)] == [Reason.NOT_SERVED] + [Reason.RATED] * 3
    assert [(outcomes[i].duties, outcomes[i].missed) for i in range(4)] == [(3, 3), (3, 0), (3, 2), (3, 3)]
    whole = outcomes[1].rating
    assert [audited.rating(i) for i in range(4)] == [0, whole, whole * 13 // 15, whole * 4 // 5]
    paid = {i: held(world.state, audited, i) - held(before, audited, i) for i in range(4)}
    auditors = world.genesis.params.auditors_reward * world.state.height
    marks = {1: sum(len(report.marks) for report in none), 2: len(some[0].marks)}
    for i in (1, 2):
        share = auditors * marks[i] // sum(marks.values())
        assert 0 <= paid[i] - share <= 3 * world.genesis.params.issuance_per_block
    assert all(paid[i] <= 3 * world.genesis.params.issuance_per_block for i in (0, 3))
    assert world.state.supply_ok()


@pytest.mark.parametrize("challenges", [False, True])
def test_a_report_without_a_mark_is_an_audit_of_who_served_nothing(challenges: bool) -> None:
    """Who says so has challenged: else zeros would be the cheapest audit."""
    audited = Audited().ready()
    empty, *rest = audited.reports(1)
    made = (replace(empty, marks=bytes(len(empty.marks))), *rest)
    subject = next(i for i in range(4) if audited.public(i) == empty.subject)
    position = audited.part(1, subject)[-1]
    slot = audited.world.state.slot + 1
    asked = [audited.challenge(1, subject, position)] if challenges else []
    audited.go(slot, [*asked, audited.sealed(1, made)])
    if challenges:
        audited.go(slot + 1, [audited.answer(subject, 1, position - 1, position)])
    audited.go(audited.borders.audit_commit_end, [audited.opened(1, made)])
    audited.end()
    outcome = audited.world.state.standing(audited.public(1)).outcomes[0]
    assert (outcome.duties, outcome.missed) == (3, 0 if challenges else 1)


def test_a_report_without_a_mark_on_who_is_convicted_is_not_missed() -> None:
    audited = Audited()
    audited.train()
    true = audited.of(0).leaves
    audited.of(0).leaves = [replace(leaf, digest=b"\xfa" * 32) for leaf in true]
    audited.claim()
    audited.show()
    made = audited.reports(1)
    accusation = audited.accuse(2, Charge.SEGMENT, 0, audited.leaves(0, 5))
    audited.go(audited.world.state.slot + 1, [Ruling(accusation, True), audited.sealed(1, made)])
    audited.go(audited.borders.audit_commit_end, [audited.opened(1, made)])
    assert [report.marks.strip(b"\0") for report in made if report.subject == audited.public(0)] == [b""]
    audited.end()
    assert audited.world.state.standing(audited.public(1)).outcomes[0].missed == 0


@pytest.mark.parametrize("reports", [2, 1])
def test_who_is_drawn_for_more_than_an_item_holds_owes_what_it_holds(
    reports: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if an item held two reports."""
    monkeypatch.setattr(auditing, "MOST_MARKS", 2 * -(-auditing.POSITIONS // auditing.AUDITORS))
    audited = Audited().ready()
    tasks = tasks_of(audited.world.state, audited.public(1))
    chosen = [task.subject for task in tasks]
    assert len(chosen) == 2
    made = tuple(report for report in audited.reports(1) if report.subject in chosen[:reports])
    audited.go(audited.world.state.slot + 1, [audited.sealed(1, made)])
    audited.go(audited.borders.audit_commit_end, [audited.opened(1, made)])
    assert len(seconds_of(audited.world.state, audited.public(1))) == 3, "a second look needs no room"
    audited.end()
    outcome = audited.world.state.standing(audited.public(1)).outcomes[0]
    assert (outcome.duties, outcome.missed) == (2, 2 - reports)


def held(state: Any, audited: Audited, i: int) -> int:
    public = audited.public(i)
    return int(state.vesting(public).held + state.account(public).balance)


def test_reports_digest_names_its_auditor() -> None:
    reports = (Report(bytes(32), bytes(8)),)
    digests = {
        reports_digest(signer, salt, found)
        for signer in (b"\x01" * 32, b"\x02" * 32)
        for salt in (bytes(32), b"\x01" * 32)
        for found in (reports, ())
    }
    assert len(digests) == 8
