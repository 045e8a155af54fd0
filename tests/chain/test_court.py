"""Rulings in blocks: believed where the data set is not, replayed and refused where it is."""

from __future__ import annotations

import pytest

from chain.baseline.bench import NumpyBench
from chain.baseline.dataset import Samples
from chain.baseline.draws import challenge
from chain.baseline.episode import replay
from chain.baseline.kernel import NumpyTrainer
from chain.baseline.trace import Leaf
from chain.errors import InvalidBlock, UnknownParent
from chain.forkchoice import Accepted, Chain, HeadChanged, Unjudged
from chain.quality import BUNDLED
from chain.rating import court as court_module
from chain.rating.accusing import Case
from chain.rating.auditing import mark, mark_step
from chain.rating.court import Court, judge
from chain.rating.draws import split
from chain.rating.items import MARK_BYTES, Accusation, Charge, Report, Ruling
from chain.rating.phases import NET
from chain.transition import apply_block
from chain.types import Block, Body
from p2pml.node.baseline_run import load_baseline
from tests.chain.audited_window import Audited, Trained
from tests.chain.conftest import World
from tests.chain.rating_window import Work, proven

pytestmark = pytest.mark.slow

FALSE = b"\xfa" * 32


def accused(false: bool = True) -> tuple[Audited, Accusation]:
    """A segment is accused when audits begin, rightly or not."""
    audited = Audited()
    audited.train()
    if false:
        leaves = audited.of(0).leaves
        leaves[5] = Leaf(0, 5, FALSE)
    audited.claim()
    audited.show()
    return audited, audited.accuse(3, Charge.SEGMENT, 0, audited.leaves(0, 5))


def ruled(audited: Audited, accusation: Accusation, guilty: bool, parent: Block | None = None) -> Block:
    """A block with this ruling, on the head or another block; nobody gets it."""
    world = audited.world
    state = world.chain.state(None if parent is None else parent.block_id)
    slot = world.slot_with(0, state.slot, state)
    return world.build(slot=slot, parent=state.block_id, ratings=[Ruling(accusation, guilty)])


def judged(court: Court, outcomes: tuple[object, ...]) -> Unjudged:
    """The block that has to be offered again; what it is about has been replayed."""
    [unjudged] = [outcome for outcome in outcomes if isinstance(outcome, Unjudged)]
    for case in unjudged.cases:
        assert court.judge(case) is not None
    return unjudged


def copied(world: World) -> Chain:
    """The same chain at another node."""
    chain = Chain(world.genesis)
    for block in reversed(list(world.chain.ancestors(world.chain.head.id))):
        chain.on_block(block, world.time_of(block))
    return chain


@pytest.mark.parametrize("false", [True, False])
def test_a_block_with_a_wrong_ruling_is_refused_where_the_data_set_is(false: bool) -> None:
    audited, accusation = accused(false)
    world, court = audited.world, audited.court
    wrong, right = (ruled(audited, accusation, guilty) for guilty in (not false, false))
    with_data, without = copied(world), copied(world)
    judged(court, with_data.on_block(wrong, world.time_of(wrong), court=court))
    assert not with_data.has(wrong.block_id)
    with pytest.raises(InvalidBlock, match="not what the replay gives"):
        with_data.on_block(wrong, world.time_of(wrong), court=court)
    with pytest.raises(InvalidBlock, match="found bad before"):
        with_data.on_block(wrong, world.time_of(wrong), court=court)
    accepted, *_ = with_data.on_block(right, world.time_of(right), court=court)
    assert isinstance(accepted, Accepted)
    for court_without in (None, Court(lambda infohash: None)):
        believing = copied(world)
        accepted, *_ = believing.on_block(wrong, world.time_of(wrong), court=court_without)
        assert isinstance(accepted, Accepted)
    loser = audited.public(0 if false else 3)
    assert with_data.state().validator(loser).rating == 0  # type: ignore[union-attr]
    assert without.state().validator(loser).rating == 10  # type: ignore[union-attr]


def test_blocks_from_the_own_database_are_believed() -> None:
    audited, accusation = accused()
    wrong, asked = ruled(audited, accusation, False), []
    court = Court(lambda infohash: asked.append(infohash))
    world = audited.world
    [accepted, _] = copied(world).on_block(wrong, world.time_of(wrong), verify_seals=False)
    assert isinstance(accepted, Accepted)
    apply_block(world.state, wrong)
    assert asked == []
    assert judge(world.state, accusation, court) is None
    assert asked == [BUNDLED]


def test_orphans_wait_for_their_judgement_too() -> None:
    """What came before its parent is not judged while the parent is taken; its children stay orphans."""
    audited, accusation = accused()
    world, court = audited.world, audited.court
    late = copied(world)
    parent = world.mine()
    ruling = ruled(audited, accusation, True)
    world.give(ruling)
    child = world.mine()
    for orphan in (ruling, child):
        with pytest.raises(UnknownParent):
            late.on_block(orphan, world.time_of(orphan), court=court)
    outcomes = late.on_block(parent, world.time_of(child), court=court)
    assert [type(outcome) for outcome in outcomes] == [Accepted, Unjudged, HeadChanged]
    assert late.head.id == parent.block_id
    outcomes = late.on_block(judged(court, outcomes).block, world.time_of(child), court=court)
    assert [type(outcome) for outcome in outcomes] == [Accepted, Accepted, HeadChanged]
    assert late.head.id == child.block_id


def test_who_waits_for_a_block_that_is_not_judged_goes_on_waiting() -> None:
    audited, accusation = accused()
    world, court = audited.world, audited.court
    late = copied(world)
    ruling = ruled(audited, accusation, True)
    world.give(ruling)
    child = world.mine()
    with pytest.raises(UnknownParent):
        late.on_block(child, world.time_of(child), court=court)
    outcomes = late.on_block(ruling, world.time_of(child), court=court)
    assert [type(outcome) for outcome in outcomes] == [Unjudged]
    judged(court, outcomes)
    outcomes = late.on_block(ruling, world.time_of(child), court=court)
    assert [type(outcome) for outcome in outcomes] == [Accepted, Accepted, HeadChanged]
    assert late.head.id == child.block_id


def test_a_block_that_is_wrong_anyway_costs_no_replay() -> None:
    audited, accusation = accused()
    block = ruled(audited, accusation, True)
    twice = audited.world.reseal(block, Body(ratings=(Ruling(accusation, True),) * 2))
    forged = audited.world.reseal(
        block, Body(ratings=(Ruling(audited.of(3).signed(accusation), True), audited.of(1).commit))
    )
    asked: list[bytes] = []
    court = Court(lambda infohash: asked.append(infohash))
    for wrong, says in ((twice, "caps"), (forged, "rating item 1")):
        with pytest.raises(InvalidBlock, match=says):
            audited.world.chain.on_block(wrong, audited.world.time_of(wrong), court=court)
    assert asked == []


def test_a_breach_of_order_needs_no_court() -> None:
    audited = Audited()
    audited.train()
    audited.of(0).leaves[17] = audited.of(0).leaves[16]
    audited.claim()
    block = ruled(audited, audited.accuse(3, Charge.ORDER, 0, audited.leaves(0, 16, 17)), True)
    accepted, *_ = audited.world.chain.on_block(block, audited.world.time_of(block), court=audited.court)
    assert isinstance(accepted, Accepted)


def test_rulings_come_first() -> None:
    """They are about what stands in earlier blocks, so they can be judged before the block is executed."""
    audited, accusation = accused()
    position = audited.part(1, 2)[0]
    items = (audited.challenge(1, 2, position), Ruling(accusation, True))
    block = audited.world.build(slot=audited.world.state.slot + 1, ratings=items)
    assert block.body.ratings == items[::-1]
    with pytest.raises(InvalidBlock, match="rulings come before"):
        apply_block(audited.world.state, audited.world.reseal(block, Body(ratings=items)))


@pytest.mark.parametrize("guilty", [True, False])
def test_who_lost_has_no_say_any_more(guilty: bool) -> None:
    """As with evidence: at once in the fork choice, later in the tables."""
    audited, accusation = accused(guilty)
    world = audited.world
    loser = 0 if guilty else 3
    votes = world.chain.votes
    assert all(votes.counts(audited.public(i)) for i in range(4))
    block = ruled(audited, accusation, guilty)
    world.give(block)
    assert [votes.counts(audited.public(i)) for i in range(4)] == [i != loser for i in range(4)]


def test_what_was_found_is_remembered_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(court_module, "REMEMBERED", 3)
    audited = Audited()
    for number in range(10):
        case = Case(BUNDLED, bytes([number]) * 32, 0, 0, bytes(32))
        assert audited.court.judge(case) is True
        assert len(audited.court._found) <= 3


def test_the_real_kernel_on_the_bundled_digits_tells_the_guilty_from_the_honest() -> None:
    """Each charge that is replayed; a segment and a mark that are right beside false ones."""
    baseline = load_baseline()
    bench = NumpyBench(baseline.net, baseline.train, baseline.test)
    audited = Audited(bench=bench)
    window, keys = audited.announce(), [each.keypair for each in audited.world.validators]
    audited.work = {each.public: Work(audited.world, each, window, NET.segments) for each in keys}
    subject, trainer = keys[0].public, NumpyTrainer(bench.net, bench.train)
    true = replay(trainer, challenge(window.mix, window.start, subject), 0, 0, NET.segments - 1)
    work = Trained(audited.world, keys[0], window, NET.segments, bench, true)
    work.leaves[1], work.last[0] = Leaf(0, 1, FALSE), Leaf(0, 7, FALSE)
    audited.work[subject] = work
    audited.claim()
    drawn = audited.window
    rows = list(split(drawn.draw, bench.tests))
    honest = trainer.confusion(Samples(bench.test.x[rows], bench.test.y[rows]))
    assert sum(map(sum, honest)) == (bench.tests + 1) // 2
    perfect = tuple(
        tuple(sum(counts) if column == row else 0 for column in range(len(counts)))
        for row, counts in enumerate(honest)
    )
    assert perfect != honest
    reveals = [other.reveal(drawn) for other in audited.work.values() if other is not work]
    audited.go(audited.borders.commit_end + 1, [work.with_matrices(drawn, [perfect]), *reveals])
    audited.go(audited.borders.reveal_end)
    auditor = next(i for i in (1, 2, 3) if 0 in audited.part(i, 0))
    part, step = audited.part(auditor, 0), mark_step(drawn.draw, subject, 0, NET.steps)
    digest, state = bench.looks(work.given, 0, {0: step})[0]
    assert digest == true[0].digest
    right = mark(audited.public(auditor), subject, 0, state)
    reports = (Report(subject, right + b"\x99" * MARK_BYTES * (len(part) - 1)),)
    audited.go(audited.world.state.slot + 1, [audited.sealed(auditor, reports)])
    audited.go(audited.borders.audit_commit_end, [audited.opened(auditor, reports)])

    def guilty(charge: Charge, *indexes: int, place: int = 0) -> bool | None:
        whose = work.last if charge is Charge.EPISODE else work.leaves
        leaves = tuple(proven(whose, index) for index in indexes)
        marked = charge is Charge.MARK
        accusation = audited.accuse(
            auditor % 3 + 1, charge, auditor if marked else 0, leaves, place, subject if marked else b""
        )
        return judge(audited.world.state, accusation, audited.court)

    assert guilty(Charge.SEGMENT, 1) is True
    assert guilty(Charge.SEGMENT, 0) is False
    assert guilty(Charge.MARK, part[1], place=1) is True
    assert guilty(Charge.MARK, 0) is False
    assert guilty(Charge.MATRIX) is True
    assert guilty(Charge.EPISODE, 0) is True
