"""The list of jobs that change by themselves: always what the jobs say, and put together once a block."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chain.draft import Draft
from chain.entries import Job, JobStatus
from chain.jobs import advance
from chain.ledger import Place
from chain.state import genesis_state

job = st.builds(
    lambda number, status, deadline, end: Job(
        number.to_bytes(32, "big"), bytes(32), bytes(20), bytes(32), bytes(32), rounds=1, price=0, budget=0,
        escrow=0, paid=0, deadline_slot=deadline, mode="trusted", status=status, challenge_end=end,
    ),
    st.integers(0, 5), st.sampled_from(JobStatus), st.integers(1, 20), st.integers(1, 20),
)  # fmt: skip


@given(st.lists(st.tuples(st.lists(job, max_size=4), st.booleans()), max_size=8))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_it_is_what_the_jobs_say(world: Any, transactions: list[tuple[list[Job], bool]]) -> None:
    draft, known = Draft(genesis_state(world.genesis)), {}
    for jobs, kept in transactions:
        trial = Draft(draft)
        for item in jobs:
            trial.put_job(item)
        if kept:
            trial.commit()
            known.update({item.id: item for item in jobs})
        expected = sorted((item.due_slot, item.id) for item in known.values() if item.due_slot is not None)
        assert draft.due == tuple(expected)
    start = genesis_state(world.genesis)
    sealed = draft.seal(bytes(32), Place(1, 1, 0), start.randomness, start.finality, start.tables)
    assert sealed.due == draft.due


def test_many_jobs_that_are_due_at_once(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    draft = Draft(genesis_state(world.genesis))
    whole, asked = Draft.due.fget, []
    monkeypatch.setattr(Draft, "due", property(lambda self: asked.append(1) or whole(self)))
    for number in range(500):
        entry = Job(
            number.to_bytes(32, "big"), world.users[0].public, bytes(20), bytes(32), bytes(32), rounds=1,
            price=0, budget=0, escrow=0, paid=0, deadline_slot=5, mode="trusted",
        )  # fmt: skip
        draft.put_job(entry)
    advance(draft, 6)
    assert len(asked) == 1
    end = 6 + world.genesis.params.job_challenge_slots
    assert draft.due == tuple((end, number.to_bytes(32, "big")) for number in range(500))
    advance(draft, end + 1)
    assert draft.due == ()
    assert draft.job(bytes(32)).status is JobStatus.REFUNDED
