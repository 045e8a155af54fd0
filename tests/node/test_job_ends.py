"""Ends that a job comes to only when something stays wrong: their words, and where the money is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio

from chain.entries import JobStatus
from chain.transactions import Transfer, sign_tx
from p2pml.errors import ExitCode, exit_code
from p2pml.node import settlement
from p2pml.node.job_store import JobStore

pytestmark = pytest.mark.slow
TOKEN = 10**8


async def test_three_attempts_that_bring_too_few_updates(
    job_world: Callable[..., Any], job_spec: Callable[..., str]
) -> None:
    """Both are at work all the time, so nobody is dropped: the round's deadline ends each attempt."""

    async def forever(request: Any) -> None:
        if request.round == 1 and request.client == 0:
            await trio.sleep_forever()

    async with job_world(2) as world:
        for node in world.trainers:
            node.worker.before_training = forever
        spec = job_spec(least=2, stall="30s").replace("peers: {", "peers: {deadline: 1s, ")
        shown = await world.finish(await world.requester.jobs.start(spec, world.root, "job.yaml"))
        assert (shown["state"], shown["end"]) == ("failed", "round-failed")
        assert exit_code(shown["end"]) is ExitCode.ROUND_FAILED
        assert shown["reason"].startswith("round 2 failed 3 times")
        assert [item["round"] for item in shown["history"]] == [1]
        assert shown["spent"] > 0, "the first round is paid, and what came in of the second"
        assert "round 2, attempt 3 of 3 failed" in " ".join(world.requester.notes())


@pytest.mark.parametrize("clients", [2, 6])
async def test_one_peer_that_never_finishes_does_not_have_all_three_attempts(
    clients: int, job_world: Callable[..., Any], job_spec: Callable[..., str]
) -> None:
    """With six it leads three of them, and would be given another one at each attempt."""

    async def forever(request: Any) -> None:
        if request.round == 1:
            await trio.sleep_forever()

    async with job_world(2) as world:
        slow, quick = world.trainers
        slow.worker.before_training = forever
        spec = job_spec(least=2, clients=clients, stall="30s").replace("peers: {", "peers: {deadline: 2s, ")
        shown = await world.finish(await world.requester.jobs.start(spec, world.root, "job.yaml"))
        assert (shown["state"], shown["reason"]) == ("done", "")
        assert [item["clients"] for item in shown["history"]] == [clients] * 3
        tries = [note for note in world.requester.notes() if " failed: " in note]
        assert len(tries) == 1
        assert tries[0].startswith("round 2, attempt 1 of 3")
        assert sorted(task for task in quick.worker.trained if task[0] == 1) == [
            (1, n) for n in range(clients)
        ]
        assert {task[0] for task in slow.worker.trained} == {0, 2}, (
            "in the next round it is as the others are"
        )


async def test_the_deadline_on_the_chain_comes_first(
    job_world: Callable[..., Any], job_spec: Callable[..., str]
) -> None:
    async with job_world(2) as world:
        job_id = await world.requester.jobs.start(job_spec(rounds=50, least=2), world.root, "job.yaml")
        for node in world.trainers:
            node.worker.delay = 0.2
        await world.until(lambda: world.requester.jobs.show(job_id)["round"] >= 1)
        job = bytes.fromhex(world.requester.jobs.show(job_id)["chain_job"])
        world.chain.skip_to(world.chain.job(job).deadline_slot + 1)
        shown = await world.finish(job_id)
        assert (shown["state"], shown["end"]) == ("failed", "too-late")
        assert f"slot {world.chain.job(job).deadline_slot}, is over" in shown["reason"]
        assert "larger peers.deadline" in shown["fix"]


async def test_a_job_that_is_stopped_as_a_round_ends_owes_that_round(
    job_world: Callable[..., Any], job_spec: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The round is in the journal, its updates are being dropped: they cannot tell any more who is owed."""
    async with job_world(2) as world:
        job_id = await world.requester.jobs.start(job_spec(rounds=50, least=2), world.root, "job.yaml")
        drop = JobStore.drop_updates

        def stop_and_drop(store: JobStore) -> None:
            trio.from_thread.run(world.requester.jobs.stop, job_id)
            drop(store)

        monkeypatch.setattr(JobStore, "drop_updates", stop_and_drop)
        shown = await world.finish(job_id)
        assert (shown["state"], shown["round"]) == ("stopped", 1)
        earned = [world.chain.balance(node.account) - 1000 * TOKEN for node in world.trainers]
        assert sum(earned) == shown["spent"] == sum(peer["earned"] for peer in shown["peers"])
        assert all(earned)


async def test_payments_that_the_chain_does_not_take(
    job_world: Callable[..., Any], job_spec: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The requester's account is emptied meanwhile: nothing is left for the settlement's fee. It is tried
    for as long as the job takes payments; the receipts are the trainers', who may claim."""
    async with job_world(2) as world:
        job_id = await world.requester.jobs.start(job_spec(least=2), world.root, "job.yaml")
        await world.until(lambda: world.requester.jobs.show(job_id)["round"] >= 1)
        chain, keys = world.chain, world.requester.parts.keys
        fee = chain.genesis.params.min_fee
        all_of_it = Transfer(world.trainers[0].account, chain.balance(keys.public) - fee)
        await chain.submit_tx(
            sign_tx(
                keys, chain.genesis.chain_id, all_of_it, nonce=chain.next_nonce(keys.public),
                valid_until_slot=chain.slot_now() + 100, fee=fee,
            )
        )  # fmt: skip
        monkeypatch.setattr(settlement, "LOOK_S", 0.02)
        monkeypatch.setattr(settlement, "AGAIN_S", 0.05)
        await world.until(lambda: "cannot be settled now" in " ".join(world.requester.notes()))
        await trio.sleep(1)
        shown = world.requester.jobs.show(job_id)
        assert shown["state"] == "settling"
        job = chain.job(bytes.fromhex(shown["chain_job"]))
        assert (job.status, job.paid) == (JobStatus.RUNNING, 0)
        chain.skip_to(job.deadline_slot + 1)
        chain.skip_to(chain.job(job.id).challenge_end + 1)
        shown = await world.finish(job_id)
        assert (shown["state"], shown["end"]) == ("failed", "not-settled")
        assert shown["reason"].startswith("not settled: the chain does not take the transaction")
        assert shown["fix"] == "see `p2pml wallet balance`"
        assert len(shown["history"]) == 3, "it was trained to its end"
        assert (chain.job(job.id).status, chain.job(job.id).paid) == (JobStatus.REFUNDED, 0)
