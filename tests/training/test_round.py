"""The round machine in virtual time: takeover, stalls, deadlines, late and bad updates."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.params import PRESETS
from chain.rating.schedule import training_ms
from p2pml.training.round import (
    MAX_PAUSE_S,
    Assign,
    CommitReceived,
    Drop,
    Effect,
    PeerGone,
    PeerReady,
    Progress,
    Pull,
    Refuse,
    Round,
    RoundComplete,
    RoundConfig,
    RoundFailed,
    UpdateBad,
    UpdateReceived,
    Work,
    WorkFailed,
)

THREE = (Work(0, ("a", "b")), Work(1, ("b", "c")), Work(2, ("c", "a")))


def started(quorum: float = 1.0, deadline: float = 100.0) -> Round:
    """A round of three peers with a client each, at second 0."""
    machine = Round(RoundConfig(THREE, quorum, stall=30.0, deadline=deadline), 0.0)
    effects = [effect for peer in "abc" for effect in machine.receive(PeerReady(peer), 0.0)]
    assert effects[-1] == Assign("c", 2)
    assert machine.tasks == {"a": 0, "b": 1, "c": 2}
    return machine


def deliver(machine: Round, peer: str, client: int, now: float) -> list[Effect]:
    assert machine.receive(CommitReceived(peer, client), now) == [Pull(peer, client)]
    return machine.receive(UpdateReceived(peer, client), now)


def test_everybody_delivers() -> None:
    machine = started()
    assert deliver(machine, "c", 2, 5) == []
    assert deliver(machine, "a", 0, 6) == []
    assert deliver(machine, "b", 1, 7) == [RoundComplete(((0, "a"), (1, "b"), (2, "c")))]
    assert machine.deadline() is None


def test_at_the_start_everybody_gets_its_own_client_in_whatever_order_they_came() -> None:
    machine = Round(RoundConfig(THREE), 0.0, ["c", "b", "a"])
    assert machine.tick(0.0) == [Assign("a", 0), Assign("b", 1), Assign("c", 2)]
    assert machine.tick(0.0) == []


def test_a_dead_trainers_client_goes_to_the_replica_holder() -> None:
    machine = started()
    assert machine.receive(PeerGone("b", "stream closed"), 3) == []  # c, the other holder, is busy
    assert deliver(machine, "a", 0, 4) == []  # a does not hold client 1 while c is there
    assert deliver(machine, "c", 2, 5) == [Assign("c", 1)]
    assert deliver(machine, "c", 1, 9) == [RoundComplete(((0, "a"), (1, "c"), (2, "c")))]


def test_with_no_holder_left_anybody_takes_over() -> None:
    machine = started()
    machine.receive(PeerGone("b", "gone"), 3)
    machine.receive(PeerGone("c", "gone"), 3)
    assert deliver(machine, "a", 0, 4) == [Assign("a", 1)]
    assert deliver(machine, "a", 1, 5) == [Assign("a", 2)]


def test_a_stalled_peer_is_dropped_with_its_reason_and_progress_prevents_it() -> None:
    machine = started()
    machine.receive(Progress("a"), 20)
    machine.receive(Progress("c"), 20)
    assert machine.deadline() == 30
    assert machine.tick(29.9) == []
    (drop,) = machine.tick(30)
    assert drop == Drop("b", "no progress on client 1 for 30 s")
    assert machine.deadline() == 50
    assert deliver(machine, "c", 2, 31) == [Assign("c", 1)]


def test_it_may_rejoin_and_take_its_client_again() -> None:
    machine = started()
    machine.receive(PeerGone("b", "gone"), 3)
    assert machine.receive(PeerReady("b"), 4) == [Assign("b", 1)]
    assert machine.receive(PeerReady("b"), 5) == []


def test_an_idle_peer_has_no_stall_clock() -> None:
    machine = started()
    deliver(machine, "a", 0, 1)
    for now in range(10, 95, 10):
        machine.receive(Progress("b"), now)
        machine.receive(Progress("c"), now)
        assert machine.tick(now) == []


def test_deadline_with_quorum_goes_on_without_the_straggler() -> None:
    machine = started(quorum=0.6)
    deliver(machine, "a", 0, 1)
    deliver(machine, "b", 1, 1)
    machine.receive(Progress("c"), 99)
    refusal, complete = machine.tick(100)
    assert isinstance(refusal, Refuse)
    assert (refusal.peer, refusal.client) == ("c", 2)
    assert "2 of 3 updates" in refusal.reason
    assert complete == RoundComplete(((0, "a"), (1, "b")))


@pytest.mark.parametrize("stage", ["rating", "pay"])
def test_the_deadline_stands_still_while_somebody_waits(stage: str) -> None:
    machine = started(deadline=60.0)
    for now in range(5, 306):
        assert [effect for peer in "abc" for effect in machine.receive(Progress(peer, stage), now)] == []
        assert machine.tick(now) == []
    for peer in "abc":
        machine.receive(Progress(peer, "train"), 305)
    assert machine.paused == 300.0
    assert deliver(machine, "a", 0, 310) == []
    assert deliver(machine, "b", 1, 311) == []
    assert deliver(machine, "c", 2, 359) == [RoundComplete(((0, "a"), (1, "b"), (2, "c")))]


@pytest.mark.parametrize("stage", ["train", "fetch", "paused", "load"])
def test_it_runs_while_they_work_or_rest_for_another_reason(stage: str) -> None:
    machine = started(deadline=60.0)
    for now in range(5, 60, 5):
        assert [effect for peer in "abc" for effect in machine.receive(Progress(peer, stage), now)] == []
    assert machine.deadline() == 60.0
    assert machine.tick(60)[-1] == RoundFailed("0 of 3 updates at the deadline of 60 s, 3 needed")
    assert machine.paused == 0.0


def test_time_for_which_several_wait_is_counted_once() -> None:
    machine = started(deadline=60.0)
    for now, peer, stage in (
        (10, "a", "rating"),
        (20, "b", "rating"),
        (25, "c", "train"),
        (30, "a", "train"),
    ):
        machine.receive(Progress(peer, stage), now)
    machine.receive(CommitReceived("b", 1), 40)
    assert machine.paused == 30.0
    for now in (50, 70, 89):
        for peer in "abc":
            machine.receive(Progress(peer, "train"), now)
    assert machine.deadline() == 90.0
    assert machine.tick(89.9) == []
    assert isinstance(machine.tick(90.0)[-1], RoundFailed)


def test_it_runs_again_when_who_waited_is_gone_or_has_nothing_to_do() -> None:
    machine = started(deadline=60.0)
    deliver(machine, "a", 0, 1)
    machine.receive(Progress("a", "rating"), 2)
    machine.receive(Progress("b", "rating"), 10)
    machine.receive(PeerGone("b", "gone"), 20)
    machine.receive(Progress("c", "train"), 30)
    machine.tick(40)
    assert machine.paused == 10.0


def test_a_liar_that_always_waits_does_not_hold_a_round_for_ever() -> None:
    machine = started(quorum=0.6, deadline=60.0)
    deliver(machine, "a", 0, 1)
    deliver(machine, "b", 1, 1)
    end = 10 + MAX_PAUSE_S + 50
    for now in range(10, int(end), 10):
        machine.receive(Progress("c", "rating"), now)
        assert machine.tick(now) == []
    machine.receive(Progress("c", "rating"), end - 1)
    assert machine.deadline() == end
    assert machine.tick(end)[-1] == RoundComplete(((0, "a"), (1, "b")))
    assert machine.paused == MAX_PAUSE_S


def test_the_longest_rating_window_fits_into_a_pause() -> None:
    longest = max(training_ms(params, params.window_slots) for params in PRESETS.values()) / 1000
    assert longest < MAX_PAUSE_S < 1.2 * longest


def test_deadline_below_quorum_fails_and_says_why() -> None:
    machine = started(quorum=0.7)
    deliver(machine, "a", 0, 1)
    deliver(machine, "b", 1, 1)
    machine.receive(Progress("c"), 99)
    assert machine.tick(100)[-1] == RoundFailed("2 of 3 updates at the deadline of 100 s, 3 needed")


def test_late_and_foreign_updates_are_refused_with_a_reason() -> None:
    machine = started(quorum=0.6)
    assert machine.receive(CommitReceived("a", 1), 1) == [
        Refuse("a", 1, "client 1 is not yours in this round")
    ]
    deliver(machine, "b", 1, 2)
    assert machine.receive(CommitReceived("b", 1), 2) == [
        Refuse("b", 1, "client 1 is already done by another peer")
    ]
    deliver(machine, "a", 0, 3)
    machine.receive(Progress("c"), 99)
    machine.tick(100)
    assert machine.receive(CommitReceived("c", 2), 101) == [Refuse("c", 2, "too late: the round is over")]


def test_a_bad_update_bans_its_sender_and_the_client_is_done_by_another() -> None:
    machine = started()
    machine.receive(CommitReceived("b", 1), 2)
    assert machine.receive(UpdateBad("b", 1, "NaN in tensor 0"), 3) == [
        Drop("b", "NaN in tensor 0", banned=True)
    ]
    assert deliver(machine, "c", 2, 4) == [Assign("c", 1)]


def test_a_peer_that_cannot_work_is_dropped_and_not_banned() -> None:
    machine = started()
    assert machine.receive(WorkFailed("b", 1, "worker died"), 3) == [Drop("b", "worker died")]


def test_nobody_left_fails_after_the_stall_time_and_a_newcomer_saves_it() -> None:
    machine = started()
    for peer in "abc":
        machine.receive(PeerGone(peer, "gone"), 10)
    assert machine.deadline() == 40
    assert machine.receive(PeerReady("d"), 35) == [Assign("d", 0)]
    assert machine.tick(41) == []
    machine.receive(PeerGone("d", "gone"), 42)
    (failed,) = machine.tick(72)
    assert failed == RoundFailed("0 of 3 updates and no peer is left since 30 s, 3 needed")


def test_an_interrupted_round_goes_on_with_what_it_has() -> None:
    machine = Round(RoundConfig(THREE, done=((0, "a"), (2, "c"))), 0.0)
    assert machine.tick(0) == []
    assert machine.receive(PeerReady("b"), 1) == [Assign("b", 1)]
    assert deliver(machine, "b", 1, 2) == [RoundComplete(((0, "a"), (1, "b"), (2, "c")))]
    whole = Round(RoundConfig(THREE, done=((0, "a"), (1, "b"), (2, "c"))), 0.0)
    assert whole.tick(0) == [RoundComplete(((0, "a"), (1, "b"), (2, "c")))]


def test_a_round_without_clients_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="at least one client"):
        Round(RoundConfig(()), 0.0)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_history_ends_with_each_client_once_and_one_task_per_peer(data: st.DataObject) -> None:
    names = "abcd"
    works = tuple(
        Work(client, tuple(data.draw(st.permutations(names))[:2]))
        for client in range(data.draw(st.integers(1, 6)))
    )
    machine = Round(RoundConfig(works, quorum=0.5, stall=10, deadline=200), 0.0)
    outcome: list[Effect] = []
    now = 0.0
    for _ in range(60):
        now += data.draw(st.floats(0, 6))
        outcome += machine.tick(now)
        peer = data.draw(st.sampled_from(names))
        client = machine.tasks.get(peer)
        match data.draw(st.integers(0, 4)):
            case 0:
                outcome += machine.receive(PeerReady(peer), now)
            case 1:
                outcome += machine.receive(PeerGone(peer, "gone"), now)
            case _ if client is not None:
                outcome += machine.receive(UpdateReceived(peer, client), now)
        busy = [task for task in machine.tasks.values() if task is not None]
        assert len(busy) == len(set(busy))
        assert not set(busy) & set(machine.done)
    outcome += machine.tick(1000)
    ends = [effect for effect in outcome if isinstance(effect, RoundComplete | RoundFailed)]
    assert len(ends) == 1
    if isinstance(ends[0], RoundComplete):
        assert len(ends[0].chosen) >= machine.needed


def test_the_first_that_deliver_are_enough() -> None:
    machine = Round(RoundConfig(THREE, enough=2), 0.0, ["a", "b", "c"])
    machine.tick(0.0)
    assert deliver(machine, "c", 2, 5) == []
    machine.receive(CommitReceived("b", 1), 6)
    assert machine.receive(UpdateReceived("b", 1), 7) == [
        Refuse("a", 0, "the round was over: enough updates are here"),
        RoundComplete(((1, "b"), (2, "c"))),
    ]
    assert machine.receive(UpdateReceived("a", 0), 8) == [Refuse("a", 0, "too late: the round is over")]


def test_the_quorum_is_one_of_those_that_are_enough() -> None:
    machine = Round(RoundConfig(THREE, quorum=0.5, deadline=20.0, enough=2), 0.0, ["a", "b", "c"])
    machine.tick(0.0)
    assert machine.needed == 1
    assert deliver(machine, "a", 0, 5) == []
    assert machine.tick(20.0)[-1] == RoundComplete(((0, "a"),))


def test_a_round_that_goes_on_after_an_interruption_may_have_enough_already() -> None:
    machine = Round(RoundConfig(THREE, enough=2, done=((0, "a"), (2, "c"))), 0.0, ["b"])
    assert machine.tick(0.0) == [RoundComplete(((0, "a"), (2, "c")))]


def test_who_has_committed_when_a_round_is_over_goes_on_uploading() -> None:
    machine = Round(RoundConfig((*THREE, Work(3, ("d",))), enough=2), 0.0, ["a", "b", "c", "d"])
    machine.tick(0.0)
    assert machine.receive(CommitReceived("d", 3), 4) == [Pull("d", 3)]
    assert deliver(machine, "c", 2, 5) == []
    assert deliver(machine, "b", 1, 7) == [
        Refuse("a", 0, "the round was over: enough updates are here"),
        RoundComplete(((1, "b"), (2, "c")), spares=((3, "d"),)),
    ]


def test_a_round_without_a_result_has_no_spares() -> None:
    machine = started(deadline=20.0)
    machine.receive(CommitReceived("a", 0), 19.0)
    *refused, failed = machine.tick(20.0)
    assert [effect.peer for effect in refused if isinstance(effect, Refuse)] == ["a", "b", "c"]
    assert isinstance(failed, RoundFailed)


def test_of_more_than_enough_the_first_count() -> None:
    machine = Round(RoundConfig(THREE, enough=2, done=((2, "c"), (0, "a"), (1, "b"))), 0.0)
    assert machine.tick(0.0) == [RoundComplete(((0, "a"), (2, "c")))]


OWNED = tuple(Work(client, (owner,), bound=True) for client, owner in enumerate("abc"))


def test_an_owners_client_waits_for_its_owner_alone() -> None:
    machine = Round(RoundConfig(OWNED, quorum=0.6, stall=30.0), 0.0, ["a", "b", "c"])
    machine.tick(0.0)
    assert machine.receive(PeerGone("a", "killed"), 1) == []
    assert deliver(machine, "b", 1, 2) == []
    assert deliver(machine, "c", 2, 40) == []
    assert machine.tasks == {"b": None, "c": None}  # nobody takes client 0 over
    assert machine.deadline() == 70.0
    assert machine.tick(69.9) == []
    assert machine.tick(70.0) == [RoundComplete(((1, "b"), (2, "c")))]


def test_an_owner_that_comes_back_in_time_is_waited_for() -> None:
    machine = Round(RoundConfig(OWNED[:2], quorum=0.5, stall=30.0), 0.0, ["a", "b"])
    machine.tick(0.0)
    machine.receive(PeerGone("a", "killed"), 1)
    assert deliver(machine, "b", 1, 2) == []
    assert machine.receive(PeerReady("a"), 31) == [Assign("a", 0)]
    assert machine.tick(40) == []
    assert deliver(machine, "a", 0, 41) == [RoundComplete(((0, "a"), (1, "b")))]


def test_too_few_owners_are_a_round_that_failed() -> None:
    machine = Round(RoundConfig(OWNED, quorum=1.0, stall=30.0), 0.0, ["a", "b", "c"])
    machine.tick(0.0)
    machine.receive(PeerGone("a", "killed"), 1)
    deliver(machine, "b", 1, 2)
    deliver(machine, "c", 2, 3)
    [failed] = machine.tick(33)
    assert failed == RoundFailed("2 of 3 updates and nobody who has the data is left since 30 s, 3 needed")
