"""A whole window by the real rules for each kind of cheater: who is caught, what it costs, and that nobody
else pays. How often, over many windows, is for `tests.bench.rating_fraud`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from chain.baseline.draws import challenge
from chain.baseline.trace import Trace
from chain.errors import ChainError
from chain.rating import auditor
from chain.rating.auditing import mark_step
from chain.rating.auditor import Finding, Subject, Task
from chain.rating.closing import Reason, marked
from chain.rating.entries import Window
from chain.rating.items import MARK_BYTES, Charge, ProvenLeaf
from tests.chain import rating_cheats as cheats
from tests.chain.rating_players import EPISODE, STUB_NET, Game, Player

pytestmark = pytest.mark.slow

OTHERS_ONLY, ITS_OWN = 1, 8
"""Seeds: whose the last slots of the grace are."""


def play(*kinds: type[Player], seed: int = 1) -> Game:
    game = Game(seed, kinds).play()
    assert game.state.supply_ok()
    assert not any(map(game.convicted, list(game.players.values())[1:])), "an honest one was convicted"
    return game


def reasons(game: Game) -> list[Reason]:
    standings = (game.state.standing(public) for public in game.players)
    return [Reason(standing.outcomes[-1].reason) for standing in standings if standing.outcomes]


def test_among_honest_ones_all_are_rated_and_paid() -> None:
    game = play()
    assert set(reasons(game)) == {Reason.RATED}
    assert game.rulings == []
    for player in game.players.values():
        now = game.means(player)
        assert now.bond == game.before[player.account].bond
        assert now.vesting > game.before[player.account].vesting
        assert now.rating > 40  # 20 segments in 26 seconds are 46 a minute
        duties = game.state.standing(player.account).outcomes[-1]
        assert duties.missed == 0
        assert sum(map(marked, player.reports)) == sum(len(part) for part in game.duties(player))


@pytest.mark.parametrize(
    ("kind", "charge"),
    [
        (cheats.CopiedTrace, Charge.SEGMENT),
        (cheats.faking(0.2), Charge.SEGMENT),
        (cheats.faking(0.2, kind=cheats.FakedAnswers), Charge.SEGMENT),
        (cheats.WrongMatrix, Charge.MATRIX),
        (cheats.LazyAuditor, Charge.MARK),
    ],
)
def test_who_lies_loses_rating_bond_and_what_has_not_vested(kind: type[Player], charge: Charge) -> None:
    game = play(kind)
    assert [(accusation.charge, guilty) for accusation, guilty in game.rulings] == [(charge, True)]
    before, now = game.before[game.first.account], game.means(game.first)
    assert min(before.bond, before.vesting, before.rating) > 0
    assert (now.bond, now.vesting, now.rating) == (0, 0, 0)
    accuser = game.players[game.rulings[0][0].signer]
    assert game.means(accuser).tokens > game.before[accuser.account].tokens


def test_who_accuses_falsely_loses_the_same() -> None:
    game = play(cheats.FalseAccuser)
    assert [(accusation.signer, guilty) for accusation, guilty in game.rulings] == [
        (game.first.account, False)
    ]
    now = game.means(game.first)
    assert (now.bond, now.vesting, now.rating) == (0, 0, 0)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [(cheats.WithheldData, Reason.NOT_SERVED), (cheats.ImpossibleEnergy, Reason.IMPOSSIBLE)],
)
def test_who_cannot_be_checked_gets_nothing_for_the_window(kind: type[Player], reason: Reason) -> None:
    game = play(kind)
    assert reasons(game) == [reason, *[Reason.RATED] * 6]
    before, now = game.before[game.first.account], game.means(game.first)
    assert (now.bond, now.rating) == (before.bond, 0)
    assert now.vesting >= before.vesting


def test_a_late_commitment_gets_into_blocks_of_its_own_only() -> None:
    """What the chain cannot see: said in docs/spec/rating.md."""
    kept_out, let_in = (play(cheats.LateCommitment, seed=seed) for seed in (OTHERS_ONLY, ITS_OWN))
    for game, own in ((kept_out, False), (let_in, True)):
        grace = range(game.borders.train_end + 2, game.borders.commit_end)
        blocks = game.world.chain.ancestors(game.world.chain.head.id)
        late = [block for block in blocks if game.world.genesis.slot_at(block.sealed.timestamp_ms) in grace]
        assert len(late) == len(grace)
        assert (game.first.account in [block.sealed.proposer for block in late]) is own
        assert reasons(game)[0] is (Reason.RATED if own else Reason.NO_CLAIM)


def test_energy_told_flatteringly_is_worth_the_span_and_no_more() -> None:
    game = play(cheats.FlatteringEnergy)
    assert reasons(game)[0] is Reason.RATED
    span = game.world.genesis.params.energy_span_ppm
    outcomes = [game.state.standing(public).outcomes[-1] for public in game.players]
    assert [each.energy_factor for each in outcomes] == [10**6 + span, *[10**6 - span] * 6]


@pytest.mark.parametrize(("friends", "caught"), [(1, True), (2, True), (3, False)])
def test_one_honest_auditor_of_three_is_enough(friends: int, caught: bool) -> None:
    game = cheats.Colluding(1, friends, cheats.faking(0.2)).play()
    assert game.convicted(game.first) is caught
    for player in game.players.values():
        assert not game.convicted(player) or player.account in {game.first.account, *game.colluders}


class ShyPlayer(Player):
    """Trains honestly, but cannot be asked: its answers are on the chain only."""

    def serve(self, positions: Sequence[int]) -> tuple[ProvenLeaf, ...]:
        return ()


def test_who_can_only_answer_on_the_chain_is_rated() -> None:
    game = play(ShyPlayer)
    assert reasons(game)[0] is Reason.RATED
    claim = game.state.claim(game.first.account, game.window.start)
    assert claim is not None
    assert (len(claim.challengers), claim.challenges) == (3, ())
    assert game.rulings == []


class QuietFriend(Player):
    """Leaves out of its report, and out of court, what is false."""

    def finding(self, task: Task) -> Finding:
        return replace(super().finding(task), accusation=None)


def test_the_next_auditor_accuses_of_what_one_kept_quiet_about() -> None:
    """All of them keep quiet at first, so that only second looks are left."""
    game = Game(1, [cheats.faking(0.9), *[QuietFriend] * 6]).play()
    assert game.convicted(game.first)
    assert {(each.charge, each.accused) for each, _ in game.rulings} == {(Charge.SEGMENT, game.first.account)}


def test_where_time_is_short_an_audit_has_fewer_marks() -> None:
    """And then those that cost the least."""
    game = Game(1)
    game.begin()
    game.train()
    game.draw()
    task = next(task for player in game.players.values() for task in game.tasks(player))
    served = task.shown(game.players[task.subject].serve(task.positions))
    whole, short = (
        auditor.audit(task, served, None, game.bench, enough).report
        for enough in (auditor.never, lambda: True)
    )
    assert marked(whole) == len(task.positions)
    assert 0 < marked(short) < marked(whole)
    episodes = {served[position].episode for position in task.positions}
    last = {
        episode: max(served[each].segment for each in task.positions if served[each].episode == episode)
        for episode in episodes
    }
    cheapest = min(last, key=lambda episode: last[episode])
    marks = [short.marks[start : start + MARK_BYTES] for start in range(0, len(short.marks), MARK_BYTES)]
    shown = {served[place].episode for place, mark in zip(task.positions, marks, strict=True) if any(mark)}
    assert [last[episode] for episode in shown] == [last[cheapest]]


def test_a_trace_that_comes_out_otherwise_is_not_revealed() -> None:
    game = Game(1)
    game.begin()
    game.train()
    game.block(game.borders.commit_end)
    player = game.first
    spoiled = [
        replace(leaf, digest=bytes(32)) if leaf.segment == EPISODE - 1 else leaf
        for leaf in player.subject.trace.leaves
    ]
    faulty = Subject(player.account, Trace(STUB_NET, spoiled))
    with pytest.raises(ChainError, match="does not come out as it was trained"):
        faulty.reveal(game.window, game.bench)


class OutOfOrder(Player):
    """Claims an episode twice, at the end of its trace."""

    def train(self, window: Window) -> None:
        super().train(window)
        again = [leaf for leaf in self.subject.trace.leaves if leaf.episode == 0]
        self.subject.trace.leaves += tuple(again)


def test_a_segment_that_is_there_twice_is_out_of_order() -> None:
    game = play(OutOfOrder)
    assert game.convicted(game.first)
    assert {accusation.charge for accusation, _ in game.rulings} == {Charge.ORDER}


def test_each_place_of_a_segment_gets_its_own_mark() -> None:
    """Else a subject could make an honest auditor's mark false, by claiming a segment twice."""
    game = Game(2, [OutOfOrder])
    game.begin()
    game.train()
    game.draw()
    marks: dict[int, bytes] = {}
    for player in game.players.values():
        for task in game.tasks(player):
            if task.subject != game.first.account:
                continue
            everywhere = replace(
                task, parts={**task.parts, player.account: tuple(range(task.claim.segments))}
            )
            served = everywhere.shown(game.first.serve(everywhere.positions))
            report = auditor.audit(everywhere, served, None, game.bench).report.marks
            for position in everywhere.positions:
                mark = report[position * MARK_BYTES : (position + 1) * MARK_BYTES]
                leaf = served[position]
                step = mark_step(task.window.draw, task.subject, position, STUB_NET.steps)
                given = challenge(task.window.mix, task.window.start, task.subject)
                _, state = game.bench.looks(given, leaf.episode, {leaf.segment: step})[leaf.segment]
                assert mark == task.mark(position, state)
                marks[position] = mark
    assert len(marks) == 20 + EPISODE
