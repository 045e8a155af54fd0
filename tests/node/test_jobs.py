"""Whole jobs over real streams: who is paid what, and what happens when peers fail."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trio

from chain.entries import JobStatus
from chain.transactions import JobOpen, JobSettle
from p2pml.errors import ExitCode, UserError
from p2pml.training.sampling import sampled

pytestmark = pytest.mark.slow
TOKEN = 10**8
BUDGET = 10 * TOKEN
FEE = TOKEN // 10
SAMPLES = 400 * 2
"""Samples times epochs of one round."""


def opening(world: Any) -> JobOpen:
    return next(tx.payload for tx in world.chain.included if isinstance(tx.payload, JobOpen))


def check_money(world: Any, shown: dict[str, Any], rounds: int) -> None:
    """Every base unit: what trainers earned, what came back, what fees went."""
    price = BUDGET // (rounds * SAMPLES)
    assert shown["price"] == price == opening(world).price
    earned = {node.account: world.chain.balance(node.account) - 1000 * TOKEN for node in world.trainers}
    paid = sum(earned.values())
    fees = sum(tx.fee for tx in world.chain.included if tx.sender == world.requester.account)
    assert paid == shown["spent"] == sum(peer["earned"] for peer in shown["peers"])
    job = world.chain.job(bytes.fromhex(shown["chain_job"]))
    assert job.paid == paid
    assert world.chain.balance(world.requester.account) + job.escrow == 1000 * TOKEN - paid - fees
    books = world.chain.draft.books
    assert books.balances + books.escrow == world.chain.genesis.supply


async def test_a_job_is_trained_paid_and_kept(
    job_world: Callable[..., Any], job_spec: Callable[..., str]
) -> None:
    async with job_world(3) as world:
        job_id = await world.requester.jobs.start(job_spec(), world.root, "job.yaml")
        shown = await world.finish(job_id)
        assert (shown["state"], shown["reason"]) == ("done", "")
        assert shown["accuracy"] >= 0.9
        assert world.requester.states() == ["preparing", "waiting", "running", "settling", "done"]
        assert len(world.chain.records) == 3
        assert all(record.samples == SAMPLES for record in world.chain.records)
        check_money(world, shown, rounds=3)
        price = shown["price"]
        assert shown["spent"] == price * 3 * SAMPLES
        for node in world.trainers:  # 400 samples among three: 134, 133, 133
            share = (world.chain.balance(node.account) - 1000 * TOKEN) / (price * 3 * 2)
            assert share in (133, 134)
        for client in range(3):
            holders = [
                node for node in world.trainers if any(client in wanted for wanted in node.data.fetched)
            ]
            assert len(holders) == 2
        output = world.root / "runs" / f"clouds-{job_id}"
        assert sorted(path.name for path in output.iterdir()) == [
            "metrics.csv", "model.json", "model.safetensors", "report.html", "report.json",
        ]  # fmt: skip
        page = (output / "report.html").read_text()
        assert page.count("<svg") >= 2
        assert all(words in page for words in (">done<", "builder: softmax", "round 3 of 3 done", job_id))
        assert world.requester.jobs.list()[0]["id"] == job_id
        assert world.requester.jobs.show(job_id[:6])["output"] == str(output)


async def test_the_target_ends_it_early_and_the_rest_comes_back(
    job_world: Callable[..., Any], job_spec: Callable[..., str]
) -> None:
    async with job_world(2) as world:
        spec = job_spec(rounds=50, least=2).replace(
            "rounds: {max: 50}", "rounds: {max: 50, target: {metric: accuracy, value: 0.9}}"
        )
        shown = await world.finish(await world.requester.jobs.start(spec, world.root, "job.yaml"))
        assert shown["state"] == "done"
        assert shown["round"] < 50
        check_money(world, shown, rounds=50)
        job = bytes.fromhex(shown["chain_job"])
        await world.until(lambda: world.chain.job(job).status is JobStatus.CLOSED)
        fees = sum(tx.fee for tx in world.chain.included if tx.sender == world.requester.account)
        assert world.chain.balance(world.requester.account) == 1000 * TOKEN - shown["spent"] - fees


async def test_one_peer_may_play_several_clients(
    job_world: Callable[..., Any], job_spec: Callable[..., str]
) -> None:
    async with job_world(2) as world:
        spec = job_spec(rounds=2, clients=5, least=2)
        shown = await world.finish(await world.requester.jobs.start(spec, world.root, "job.yaml"))
        assert shown["state"] == "done"
        assert sorted(len(node.worker.trained) for node in world.trainers) == [4, 6]
        check_money(world, shown, rounds=2)


async def test_who_plays_which_client_changes_no_bit_of_the_result(
    job_world: Callable[..., Any], job_spec: Callable[..., str]
) -> None:
    """Eight clients of unequal size on two peers, on four, and on three of which one dies."""
    async with job_world(4) as world:
        spec = job_spec(rounds=3, clients=8, least=2).replace(
            "clients: 8", "clients: 8, partition: {kind: dirichlet}"
        )
        models = []
        for most, dies in ((2, False), (4, False), (3, True)):
            before = len(world.chain.records)
            job_id = await world.requester.jobs.start(
                spec.replace("max: 8", f"max: {most}"), world.root, "job.yaml"
            )
            if dies:
                await world.until(lambda before=before: len(world.chain.records) > before)  # type: ignore[misc]
                trained_by = {peer["peer"] for peer in world.requester.jobs.show(job_id)["peers"]}
                await world.kill(next(node for node in world.trainers if node.host.peer_id in trained_by))
            shown = await world.finish(job_id)
            assert (shown["state"], [item["clients"] for item in shown["history"]]) == ("done", [8, 8, 8])
            assert dies or len([peer for peer in shown["peers"] if peer["samples"]]) == most
            models.append((Path(shown["output"]) / "model.safetensors").read_bytes())
        assert models[0] == models[1] == models[2]


async def test_a_trainer_killed_mid_round_is_replaced_by_a_replica_holder(
    job_world: Callable[..., Any], job_spec: Callable[..., str]
) -> None:
    async with job_world(3) as world:
        victim = world.trainers[0]
        at_work = trio.Event()
        left_undone = []

        async def die(request: Any) -> None:
            if request.round == 1:
                left_undone.append(request.client)
                at_work.set()
                await trio.sleep_forever()

        victim.worker.before_training = die
        job_id = await world.requester.jobs.start(job_spec(rounds=3, least=2), world.root, "job.yaml")
        with trio.fail_after(20):
            await at_work.wait()
        await world.kill(victim)
        shown = await world.finish(job_id)
        assert shown["state"] == "done"
        assert [item["clients"] for item in shown["history"]] == [3, 3, 3]
        check_money(world, shown, rounds=3)
        [client] = left_undone
        takers = [node for node in world.trainers[1:] if (1, client) in node.worker.trained]
        assert len(takers) == 1
        assert any(client in wanted for wanted in takers[0].data.fetched)


async def test_a_stalled_trainer_is_dropped_with_its_reason_and_may_come_back(
    job_world: Callable[..., Any], job_spec: Callable[..., str]
) -> None:
    async with job_world(3) as world:
        sleeper = world.trainers[1]
        slept = []

        async def sleep_once(request: Any) -> None:
            if request.round == 0 and not slept:
                slept.append(request)
                await trio.sleep_forever()

        sleeper.worker.before_training = sleep_once
        for node in world.trainers:
            node.worker.delay = 0.3
        spec = job_spec(rounds=40, stall="1s", least=2)
        job_id = await world.requester.jobs.start(spec, world.root, "job.yaml")
        await world.until(lambda: len(sleeper.worker.trained) > 0, within=30)
        assert any("no progress on client" in reason for reason in world.requester.peer_reasons())
        await world.requester.jobs.stop(job_id)
        shown = await world.finish(job_id)
        assert shown["state"] == "stopped"
        check_money(world, shown, rounds=40)


async def test_a_failing_worker_says_why_and_its_client_goes_elsewhere(
    job_world: Callable[..., Any], job_spec: Callable[..., str]
) -> None:
    async with job_world(3) as world:
        world.trainers[2].worker.fail = "out of memory"
        spec = job_spec(least=2)
        shown = await world.finish(await world.requester.jobs.start(spec, world.root, "job.yaml"))
        assert shown["state"] == "done"
        assert any("the worker failed: out of memory" in reason for reason in world.requester.peer_reasons())
        assert world.chain.balance(world.trainers[2].account) == 1000 * TOKEN
        check_money(world, shown, rounds=3)


async def test_too_few_peers_fail_the_job_with_numbers_and_give_the_money_back(
    job_world: Callable[..., Any], job_spec: Callable[..., str]
) -> None:
    async with job_world(2) as world:
        world.trainers[1].worker.status = "unavailable: no TensorFlow"
        spec = job_spec(least=2, join="1s")
        shown = await world.finish(await world.requester.jobs.start(spec, world.root, "job.yaml"))
        assert (shown["state"], shown["end"]) == ("failed", "no-trainers")
        assert "only 1 of 2 peers joined within 1 s" in shown["reason"]
        assert "the worker is unavailable: no TensorFlow" in shown["reason"]
        assert "waiting for 1 more peer (1 of 2 joined)" in world.requester.notes()
        job = world.chain.job(bytes.fromhex(shown["chain_job"]))
        assert job.status is JobStatus.CHALLENGE
        await world.until(lambda: world.chain.job(job.id).status is JobStatus.REFUNDED)
        assert world.chain.balance(world.requester.account) == 1000 * TOKEN - 2 * FEE


async def test_nobody_there_fails_before_any_money_moves(
    job_world: Callable[..., Any], job_spec: Callable[..., str]
) -> None:
    async with job_world(0) as world:
        spec = job_spec(least=2, join="1s")
        shown = await world.finish(await world.requester.jobs.start(spec, world.root, "job.yaml"))
        assert (shown["state"], shown["end"]) == ("failed", "no-trainers")
        assert shown["reason"] == "only 0 of 2 peers were there within 1 s"
        assert world.chain.included == []


async def test_settlements_fit_their_transactions(
    job_world: Callable[..., Any], job_spec: Callable[..., str]
) -> None:
    async with job_world(2) as world:
        spec = job_spec(rounds=9, clients=10, least=2)
        shown = await world.finish(await world.requester.jobs.start(spec, world.root, "job.yaml"), within=60)
        assert shown["state"] == "done"
        settles = [tx.payload for tx in world.chain.included if isinstance(tx.payload, JobSettle)]
        assert len(settles) >= 3
        assert sum(len(settle.receipts) for settle in settles) == 90
        assert [settle.final for settle in settles] == [False] * (len(settles) - 1) + [True]
        check_money(world, shown, rounds=9)


async def test_a_job_that_is_stopped_before_its_block_is_refunded_after_it(
    job_world: Callable[..., Any], job_spec: Callable[..., str]
) -> None:
    async with job_world(2) as world:
        world.chain.held = []
        job_id = await world.requester.jobs.start(job_spec(least=2), world.root, "job.yaml")
        await world.until(lambda: "waiting for a block with the job" in world.requester.notes())
        await world.until(lambda: bool(world.chain.held))
        await world.requester.jobs.stop(job_id)
        await world.until(lambda: world.requester.jobs.show(job_id)["state"] == "settling")
        await world.chain.release()
        shown = await world.finish(job_id)
        assert (shown["state"], shown["end"]) == ("stopped", "stopped")
        assert shown["reason"] == "stopped by its owner"
        job = bytes.fromhex(shown["chain_job"])
        await world.until(lambda: world.chain.job(job).status is JobStatus.REFUNDED)
        assert world.chain.balance(world.requester.account) == 1000 * TOKEN - 2 * FEE
        with pytest.raises(UserError, match="is over: stopped"):
            await world.requester.jobs.stop(job_id)


@pytest.mark.parametrize(
    ("old", "new", "end", "words"),
    [
        ("clouds.npz", "rain.npz", "no-data", "nobody has rain.npz"),
        ("builder: softmax", "keras: none.json", "bad-spec", "the model none.json cannot be read"),
        ("clients: 3", "clients: 401", "bad-spec", "cannot be divided among 401 clients"),
        ("budget: 10", "budget: 0.00001", "bad-spec", "less than one base unit per sample"),
    ],
)
async def test_what_is_wrong_is_said_before_any_money_moves(
    old: str, new: str, end: str, words: str, job_world: Callable[..., Any], job_spec: Callable[..., str]
) -> None:
    async with job_world(2) as world:
        spec = job_spec(clients=3, least=2).replace(old, new)
        shown = await world.finish(await world.requester.jobs.start(spec, world.root, "job.yaml"))
        assert (shown["state"], shown["end"]) == ("failed", end)
        assert words in shown["reason"]
        assert world.chain.included == []


async def test_each_file_is_one_client_of_a_job(
    job_world: Callable[..., Any], job_spec: Callable[..., str]
) -> None:
    async with job_world(2) as world:
        rows = np.random.default_rng(5).normal(size=(45, 8))
        (world.root / "clinics").mkdir()
        for name, part in (("a", rows[:20]), ("b", rows[20:30]), ("c", rows[30:35]), ("test", rows[35:])):
            lines = [f"{int(row[0] > 0)},{','.join(map(str, row[1:]))}" for row in part]
            (world.root / "clinics" / f"{name}.csv").write_text("\n".join(["label,b,c,d,e,f,g,h", *lines]))
        spec = job_spec(rounds=2, least=2).replace("clouds.npz,", "clinics, partition: {kind: by_file},")
        quote = await world.requester.jobs.quote(spec, world.root, "job.yaml")
        shown = await world.finish(await world.requester.jobs.start(spec, world.root, "job.yaml"))
        assert (shown["state"], shown["reason"]) == ("done", "")
        assert (quote.clients, quote.samples, quote.price) == (
            3,
            35,
            shown["price"],
        )  # two peers, three files
        assert [item["clients"] for item in shown["history"]] == [3, 3]
        assert {record.samples for record in world.chain.records} == {2 * 35}
        wrong = spec.replace("clients: auto", "clients: 2")
        shown = await world.finish(await world.requester.jobs.start(wrong, world.root, "job.yaml"))
        assert shown["state"] == "failed"
        assert (
            "data.clients is 2, and the data clinics lies in 3 files or folders: a.csv, b.csv, c.csv"
            in (shown["reason"])
        )


async def test_what_cannot_begin(job_world: Callable[..., Any], job_spec: Callable[..., str]) -> None:
    async with job_world(1) as world:
        jobs = world.requester.jobs
        with pytest.raises(UserError, match=r"needs 5,001\.3 tokens with fees") as refused:
            await jobs.start(job_spec().replace("budget: 10", "budget: 5000"), world.root, "job.yaml")
        assert refused.value.code == ExitCode.NO_TOKENS
        with pytest.raises(UserError, match="unknown key 'roundz'") as caught:
            await jobs.start(job_spec(extra="roundz: 1\n"), world.root, "job.yaml")
        assert caught.value.code == ExitCode.BAD_CONFIG
        world.requester.worker.status = "unavailable: no TensorFlow"
        with pytest.raises(UserError, match="has no worker") as refused:
            await jobs.start(job_spec(), world.root, "job.yaml")
        assert refused.value.code == ExitCode.NO_WORKER
        with pytest.raises(UserError, match="there is no job"):
            jobs.show("ffff")
        assert jobs.list() == []


async def test_an_unpaid_job_among_friends(
    job_world: Callable[..., Any], job_spec: Callable[..., str]
) -> None:
    async with job_world(2) as world:
        spec = job_spec(rounds=2, least=2).replace("reward: {budget: 10}", "reward: none")
        shown = await world.finish(await world.requester.jobs.start(spec, world.root, "job.yaml"))
        assert (shown["state"], shown["price"], shown["spent"]) == ("done", 0, 0)
        assert len(world.chain.records) == 2
        assert all(world.chain.balance(node.account) == 1000 * TOKEN for node in world.trainers)


async def test_the_requesters_worker_may_die_now_and_then(
    job_world: Callable[..., Any], job_spec: Callable[..., str]
) -> None:
    async with job_world(2) as world:
        job_id = await world.requester.jobs.start(job_spec(rounds=3, least=2), world.root, "job.yaml")
        await world.until(lambda: world.requester.jobs.show(job_id)["round"] >= 1)
        world.requester.worker.deaths = 2
        shown = await world.finish(job_id)
        assert (shown["state"], shown["end"]) == ("done", "done")
        job_id = await world.requester.jobs.start(job_spec(rounds=3, least=2), world.root, "job.yaml")
        await world.until(lambda: world.requester.jobs.show(job_id)["round"] >= 1)
        world.requester.worker.deaths = 3
        shown = await world.finish(job_id)
        assert (shown["state"], shown["end"]) == ("failed", "no-worker")
        assert "this node's worker died 3 times: killed by signal 9" in shown["reason"]
        # what was delivered in the round that failed is owed and paid
        job = world.chain.job(bytes.fromhex(shown["chain_job"]))
        assert (
            job.paid
            == shown["spent"]
            == shown["price"] * sum(record.samples for record in world.chain.records if record.job == job.id)
        )


async def test_some_clients_train_in_each_round(
    job_world: Callable[..., Any], job_spec: Callable[..., str]
) -> None:
    async with job_world(2) as world:
        spec = job_spec(rounds=4, clients=5, least=2).replace("quorum: 1.0", "quorum: 1.0, sample: 0.4")
        shown = await world.finish(await world.requester.jobs.start(spec, world.root, "job.yaml"))
        assert shown["state"] == "done"
        trained = sorted(pair for node in world.trainers for pair in node.worker.trained)
        assert trained == [(number, client) for number in range(4) for client in sampled(5, 0.4, 1, number)]
        assert [item["clients"] for item in shown["history"]] == [2, 2, 2, 2]
        assert len({client for _, client in trained}) > 2
        assert shown["price"] == BUDGET // (4 * 2 * 80 * 2)  # two clients of 80 samples, two epochs
        assert shown["spent"] == shown["price"] * 4 * 2 * 80 * 2
        assert shown["accuracy"] >= 0.9


async def test_nobody_waits_for_the_slowest_when_there_is_a_backup(
    job_world: Callable[..., Any], job_spec: Callable[..., str]
) -> None:
    async with job_world(3) as world:
        slow = world.trainers[1]

        async def never(request: Any) -> None:
            await trio.sleep_forever()

        slow.worker.before_training = never
        sampling = "quorum: 1.0, sample: 0.6, backup: 1"
        spec = job_spec(rounds=3, clients=3, stall="20s").replace("quorum: 1.0", sampling)
        shown = await world.finish(await world.requester.jobs.start(spec, world.root, "job.yaml"))
        assert (shown["state"], [item["clients"] for item in shown["history"]]) == ("done", [2, 2, 2])
        assert slow.worker.trained == []
        assert world.chain.balance(slow.account) == 1000 * TOKEN
        assert all(peer["state"] != "dropped" for peer in shown["peers"])
        job = world.chain.job(bytes.fromhex(shown["chain_job"]))
        assert job.paid == shown["spent"] == sum(record.samples for record in world.chain.records) * job.price
