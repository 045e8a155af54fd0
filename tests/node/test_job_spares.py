"""Whose updates count in a round, and who is paid: spares, and a requester that is killed after it chose."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

import pytest
import trio

from p2pml.node.job_session import PeerSession
from p2pml.node.job_store import JobStore, RoundDone
from p2pml.node.update_spool import Upload
from p2pml.worker.protocol import Evaluate, ServerStep, Train

pytestmark = pytest.mark.slow
TOKEN = 10**8
LATE = 2
"""The client whose update comes after the deadline."""
BACKUP = "quorum: 1.0, sample: 0.6, backup: 1"


def check_books(world: Any, shown: dict[str, Any]) -> None:
    """What trainers have is what the chain paid and what the requester says; the rest is where it was."""
    earned = [world.chain.balance(node.account) - 1000 * TOKEN for node in world.trainers]
    job = world.chain.job(bytes.fromhex(shown["chain_job"]))
    assert sum(earned) == job.paid == shown["spent"] == sum(peer["earned"] for peer in shown["peers"])
    fees = sum(tx.fee for tx in world.chain.included if tx.sender == world.requester.account)
    kept = world.chain.balance(world.requester.account) + job.escrow
    assert kept == 1000 * TOKEN - job.paid - fees


def journal(world: Any, job_id: str, kind: str) -> list[dict[str, Any]]:
    return JobStore(world.requester.parts.folder / job_id).journal.all(kind)


class Gate:
    """The requester's worker, which calls `before` first."""

    def __init__(self, worker: Any, before: Callable[[Any], Any]) -> None:
        self.worker, self.before = worker, before

    async def call(self, request: Any, progress: Any = None) -> Any:
        await self.before(request)
        self.worker.instead, gate = None, self.worker.instead
        try:
            return await self.worker.call(request, progress)
        finally:
            self.worker.instead = gate


@pytest.mark.parametrize("in_time", [True, False])
async def test_a_spare_that_comes_while_the_model_is_made_is_paid_and_does_not_count(
    in_time: bool,
    job_world: Callable[..., Any],
    job_spec: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with job_world(3) as world:
        slow, quick = world.trainers[1], (world.trainers[0], world.trainers[2])
        committed, may_upload = trio.Event(), trio.Event()
        pull = PeerSession.pull

        async def delayed(session: PeerSession) -> None:
            if session.peer == slow.host.peer_id:
                committed.set()
                await may_upload.wait()
            await pull(session)

        async def after_the_slow_one(request: Any) -> None:
            await committed.wait()

        async def until_it_is_here(request: Any) -> None:
            if isinstance(request, ServerStep) and in_time:
                may_upload.set()
            if isinstance(request, Evaluate) and in_time:
                updates = world.requester.parts.folder / job_id / "updates"
                await world.until(lambda: len(list(updates.glob("*.update"))) == 3)
                await trio.sleep(0.1)

        monkeypatch.setattr(PeerSession, "pull", delayed)
        for node in quick:
            node.worker.before_training = after_the_slow_one
        worker = world.requester.worker
        worker.instead = Gate(worker, until_it_is_here)
        spec = job_spec(rounds=1, clients=3).replace("quorum: 1.0", BACKUP)
        job_id = await world.requester.jobs.start(spec, world.root, "job.yaml")
        shown = await world.finish(job_id)
        assert shown["state"] == "done"
        (record,) = shown["history"]
        assert (record["clients"], record["spares"]) == (2, int(in_time))
        paid = [world.chain.balance(node.account) > 1000 * TOKEN for node in world.trainers]
        assert paid == [True, in_time, True]
        check_books(world, shown)
        assert shown["price"] == 10 * TOKEN // sum(2 * share for share in (134, 133, 133))  # all three
        (chosen,) = journal(world, job_id, "chosen")
        (written,) = json.loads((world.root / shown["output"] / "report.json").read_text())["history"]
        assert chosen["clients"] == written["counted"]
        assert len(written["receipts"]) == 2 + in_time


async def test_a_spare_whose_check_outlasts_the_round_costs_only_itself(
    job_world: Callable[..., Any], job_spec: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its file goes with the round's others, under the eyes of who checks it."""
    async with job_world(3) as world:
        slow, quick = world.trainers[1], (world.trainers[0], world.trainers[2])
        at_it, gone = trio.Event(), threading.Event()
        to_trio = trio.lowlevel.current_trio_token()
        finish, drop = Upload.finish, JobStore.drop_updates

        def slowly(upload: Upload, *args: Any) -> Any:
            if upload.commitment.trainer == slow.account and not gone.is_set():
                to_trio.run_sync_soon(at_it.set)
                gone.wait(10)
            return finish(upload, *args)

        def dropped(store: JobStore) -> None:
            drop(store)
            gone.set()

        async def after_the_slow_one(request: Any) -> None:
            await at_it.wait()

        monkeypatch.setattr(Upload, "finish", slowly)
        monkeypatch.setattr(JobStore, "drop_updates", dropped)
        for node in quick:
            node.worker.before_training = after_the_slow_one
        spec = job_spec(rounds=2, clients=3).replace("quorum: 1.0", BACKUP)
        shown = await world.finish(await world.requester.jobs.start(spec, world.root, "job.yaml"))
        assert (shown["state"], shown["reason"]) == ("done", "")
        assert [record["clients"] for record in shown["history"]] == [2, 2]
        check_books(world, shown)


@pytest.mark.parametrize("point", ["aggregating", "evaluating", "model saved"])
async def test_a_requester_killed_after_it_chose_makes_the_same_model_of_the_same_updates(
    point: str,
    job_world: Callable[..., Any],
    job_spec: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A round that was cut short: after the restart the third could deliver, and would change the model."""
    models: dict[str, str] = {}
    for kill in (False, True):
        async with job_world(3) as world:
            hold, restarted = trio.Event(), trio.Event()

            async def held_up(request: Train, restarted: trio.Event = restarted) -> None:
                # One client, not one trainer: who has it depends on who joined first.
                if request.client == LATE and not restarted.is_set():
                    await trio.sleep_forever()

            for node in world.trainers:
                node.worker.before_training = held_up

            async def stuck(request: Any, at: str = point, hold: trio.Event = hold) -> None:
                kinds = {"aggregating": ServerStep, "evaluating": Evaluate}
                if at in kinds and isinstance(request, kinds[at]):
                    hold.set()
                    await trio.sleep_forever()

            async def not_noted(store: JobStore, done: RoundDone, hold: trio.Event = hold) -> None:
                hold.set()
                await trio.sleep_forever()

            spec = job_spec(rounds=1, clients=3, quorum=0.5).replace("stall: 2s", "stall: 60s, deadline: 1s")
            worker = world.requester.worker
            with monkeypatch.context() as patch:
                if kill and point == "model saved":
                    patch.setattr(JobStore, "note_round", not_noted)
                elif kill:
                    worker.instead = Gate(worker, stuck)
                job_id = await world.requester.jobs.start(spec, world.root, "job.yaml")
                if kill:
                    await world.until(hold.is_set)
            if kill:
                restarted.set()
                worker.instead = None
                await world.restart_jobs()
            shown = await world.finish(job_id)
            assert shown["state"] == "done"
            assert [record["clients"] for record in shown["history"]] == [2]
            (done,) = journal(world, job_id, "round")
            assert done["resumed"] == kill
            assert sorted(task for node in world.trainers for task in node.worker.trained) == [(0, 0), (0, 1)]
            check_books(world, shown)
            models[str(kill)] = done["model_out"]
    assert models["True"] == models["False"]
