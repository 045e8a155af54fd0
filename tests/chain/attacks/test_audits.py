"""Attacks on the audits of a rating window: false work, lazy and colluding auditors, false accusers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from chain.baseline.trace import Leaf
from chain.errors import InvalidBlock, InvalidRating
from chain.forkchoice import Unjudged
from chain.rating.auditing import mark, mark_step, spots
from chain.rating.closing import Reason
from chain.rating.court import judge
from chain.rating.entries import Standing, standing_key
from chain.rating.items import MARK_BYTES, Accusation, Charge, Ruling
from chain.rating.phases import NET
from chain.transition import apply_rating, open_slot
from tests.chain.audited_window import Audited, states

pytestmark = pytest.mark.slow


def taken(audited: Audited, item: Any) -> None:
    """A block may hold it. Raises InvalidRating."""
    slot = audited.world.state.slot + 1
    apply_rating(open_slot(audited.world.state, slot), item, slot)


def faked(position: int = 5) -> Audited:
    """Validator 0 made up a segment; audits have begun."""
    audited = Audited()
    audited.train()
    leaf = audited.of(0).leaves[position]
    audited.of(0).leaves[position] = Leaf(leaf.episode, leaf.segment, b"\xfa" * 32)
    audited.claim()
    audited.show()
    return audited


def segment(audited: Audited, position: int = 5, by: int = 3) -> Accusation:
    return audited.accuse(by, Charge.SEGMENT, 0, audited.leaves(0, position))


def convicted(audited: Audited) -> list[int]:
    entries = [audited.world.state.validator(audited.public(i)) for i in range(4)]
    return [i for i, entry in enumerate(entries) if entry is not None and entry.convicted]


def test_made_up_work() -> None:
    """Who replays a segment that was not trained can prove it; who claimed it loses everything."""
    audited = faked()
    accusation = segment(audited)
    guilty = judge(audited.world.state, accusation, audited.court)
    assert guilty is True
    audited.rule(accusation, guilty)
    assert convicted(audited) == [0]
    audited.end()
    assert [audited.rating(i) > 0 for i in range(4)] == [False, True, True, True]


def test_work_that_nobody_may_see() -> None:
    """Who serves nothing is challenged, and a challenge that is not answered costs the window."""
    audited = Audited().ready()
    audited.go(audited.world.state.slot + 1, [audited.challenge(1, 0, audited.part(1, 0)[0])])
    state = audited.end()
    [outcome] = state.standing(audited.public(0)).outcomes
    assert (outcome.rating, outcome.reason) == (0, Reason.NOT_SERVED)
    assert all(audited.rating(i) > 0 for i in (1, 2, 3))


def test_a_lazy_auditor() -> None:
    """Marks that were not replayed are false wherever the spots fall, which it cannot know."""
    audited = Audited().ready()
    made_up = tuple(replace(report, marks=b"\x11" * len(report.marks)) for report in audited.reports(1))
    audited.go(audited.world.state.slot + 1, [audited.sealed(1, made_up)])
    audited.go(audited.borders.audit_commit_end, [audited.opened(1, made_up)])
    audited.go(audited.borders.audit_reveal_end)
    about = made_up[0].subject
    subject = next(i for i in range(4) if audited.public(i) == about)
    part = audited.part(1, subject)
    place = spots(audited.window.spot, audited.public(1), about, len(part))[0]
    accusation = audited.accuse(subject, Charge.MARK, 1, audited.leaves(subject, part[place]), place, about)
    assert judge(audited.world.state, accusation, audited.court) is True
    audited.rule(accusation, True)
    assert convicted(audited) == [1]
    audited.end()
    assert [audited.rating(i) > 0 for i in range(4)] == [True, False, True, True]


def test_a_report_of_nothing() -> None:
    """Zeros are no mark that could be false, so they would be the cheapest audit: they are a missed one."""
    audited = Audited().ready()
    empty = tuple(replace(report, marks=bytes(len(report.marks))) for report in audited.reports(1))
    audited.go(audited.world.state.slot + 1, [audited.sealed(1, empty)])
    audited.go(audited.borders.audit_commit_end, [audited.opened(1, empty)])
    audited.end()
    assert audited.rating(1) == audited.world.state.standing(audited.public(1)).outcomes[0].rating * 4 // 5


def test_a_copied_report() -> None:
    """A sealed report that was seen is of no use to another: it opens for who sealed it first only."""
    audited = Audited().ready()
    reports = audited.reports(0)
    copy = replace(audited.sealed(1, ()), digest=audited.sealed(0, reports).digest)
    audited.go(audited.world.state.slot + 1, [audited.of(1).signed(copy)])
    audited.go(audited.borders.audit_commit_end)
    with pytest.raises(InvalidRating, match="not the reports that were sealed"):
        taken(audited, audited.opened(1, reports))


def test_a_report_that_is_sealed_late() -> None:
    """When the first reports are open nobody can seal one any more."""
    audited = Audited().ready()
    audited.audit(0)
    assert audited.world.state.slot == audited.borders.audit_commit_end
    with pytest.raises(InvalidRating, match="belongs into blocks"):
        taken(audited, audited.sealed(1, audited.reports(1)))


def test_auditors_that_cover_up() -> None:
    """An auditor that marks a false segment says that it is right: the true mark convicts it too."""
    audited = faked()
    auditor = next(i for i in (1, 2, 3) if 5 in audited.part(i, 0))
    place, subject = audited.part(auditor, 0).index(5), audited.public(0)
    step = 5 * NET.steps + mark_step(audited.window.draw, subject, 5, NET.steps)
    true = mark(audited.public(auditor), subject, 5, states(audited.bench, audited.of(0).given, 0)[step])
    [honest] = [report for report in audited.reports(auditor) if report.subject == subject]
    start = MARK_BYTES * place
    kind = (replace(honest, marks=honest.marks[:start] + true + honest.marks[start + MARK_BYTES :]),)
    audited.go(audited.world.state.slot + 1, [audited.sealed(auditor, kind)])
    audited.go(audited.borders.audit_commit_end, [audited.opened(auditor, kind)])
    accusation = audited.accuse(auditor % 3 + 1, Charge.MARK, auditor, audited.leaves(0, 5), place, subject)
    assert judge(audited.world.state, accusation, audited.court) is True


def test_a_false_accusation() -> None:
    """It costs the accuser what it would have cost the accused."""
    audited = Audited().ready()
    accusation = segment(audited)
    guilty = judge(audited.world.state, accusation, audited.court)
    assert guilty is False
    audited.rule(accusation, guilty)
    assert convicted(audited) == [3]


def test_one_offence_punished_again_and_again() -> None:
    audited = faked()
    audited.rule(segment(audited, by=3), True)
    assert convicted(audited) == [0]
    with pytest.raises(InvalidRating, match="has been punished"):
        taken(audited, Ruling(segment(audited, by=2), True))
    slot, public = audited.world.state.slot + 1, audited.public(0)
    draft = open_slot(audited.world.state, slot)
    punished = draft.validator(public)
    assert punished is not None
    draft.put_validator(replace(punished, barred_until=0))  # a bar that is shorter than the window
    draft.put(standing_key(public), Standing(since=slot))
    with pytest.raises(InvalidRating, match="has been punished"):
        apply_rating(draft, Ruling(segment(audited, by=2), True), slot)


def test_a_proposer_that_rules_wrongly() -> None:
    """Who has the data set refuses its block, after one replay, and remembers."""
    audited = Audited().ready()
    world = audited.world
    block = world.build(slot=world.state.slot + 1, ratings=[Ruling(segment(audited), True)])
    [unjudged] = world.chain.on_block(block, world.time_of(block), court=audited.court)
    assert isinstance(unjudged, Unjudged)
    assert [audited.court.judge(case) for case in unjudged.cases] == [False]
    for says in ("not what the replay gives", "found bad before"):
        with pytest.raises(InvalidBlock, match=says):
            world.chain.on_block(block, world.time_of(block), court=audited.court)
    assert convicted(audited) == []


def test_honest_items_on_another_branch() -> None:
    """Where another draw asked for other segments, what an honest node said here would be a lie there."""
    audited = Audited().ready()
    sealed = audited.sealed(0, audited.reports(0))
    taken(audited, sealed)
    for item in (sealed, audited.challenge(1, 0, audited.part(1, 0)[0]), Ruling(segment(audited), False)):
        window = replace(audited.window, draw=b"\x0d" * 32)
        draft = open_slot(audited.world.state, audited.world.state.slot + 1)
        draft.put(b"t", window)
        with pytest.raises(InvalidRating, match="another draw"):
            apply_rating(draft, item, audited.world.state.slot + 1)
