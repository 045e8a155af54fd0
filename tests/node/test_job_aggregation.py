"""Jobs whose spec asks for more than the mean of float32 updates."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trio

from p2pml.errors import UserError
from p2pml.formats import local, shards, tensors, uploads
from p2pml.formats.optimizers import Optimizer
from p2pml.node import aggregator, job_members, job_prepare, update_spool
from p2pml.node.job_store import JobStore
from p2pml.training import rules
from p2pml.training.spec import parse_spec
from p2pml.worker.session import WorkerDied, WorkerError
from p2pml.worker.tff.request import TffRequest, TffResult, decode

pytestmark = pytest.mark.slow
TOKEN = 10**8


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_members, "GRACE_S", 0.5)


def flipped(update: bytes) -> bytes:
    """What a sign-flipping client sends, large enough to outweigh the others."""
    return tensors.encode([-10 * array for array in tensors.decode(update)])


async def run_job(world: Any, spec: str) -> dict[str, Any]:
    shown: dict[str, Any] = await world.finish(
        await world.requester.jobs.start(spec, world.root, "job.yaml"), within=60
    )
    return shown


@pytest.mark.parametrize(
    ("rule", "held"),
    [("{rule: mean}", False), ("{rule: median}", True), ("{rule: trimmed_mean, trim: 0.25}", True)],
)
async def test_one_liar_of_four_spoils_the_mean_alone(
    rule: str, held: bool, job_world: Callable[..., Any], job_spec: Callable[..., str]
) -> None:
    async with job_world(4) as world:
        world.trainers[2].worker.spoil = flipped
        shown = await run_job(world, job_spec(least=4, extra=f"aggregate: {rule}\n"))
        assert shown["state"] == "done"
        assert (shown["accuracy"] >= 0.9) == held


@pytest.mark.parametrize("kind", ["float16", "int8"])
async def test_small_uploads_are_what_is_committed_to_and_counted(
    kind: str, job_world: Callable[..., Any], job_spec: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[bytes, bytes]] = []
    count = aggregator.aggregate

    def noted(updates: Any, kind: str, *rest: Any) -> Any:
        seen.extend((path.read_bytes(), kind.encode()) for path, _ in updates)
        return count(updates, kind, *rest)

    monkeypatch.setattr(aggregator, "aggregate", noted)
    async with job_world(2) as world:
        shown = await run_job(world, job_spec(least=2, extra=f"transport: {{upload: {kind}}}\n"))
        assert (shown["state"], shown["reason"]) == ("done", "")
        assert shown["accuracy"] >= 0.9
        assert len(seen) == 6
        store = world.requester.parts.folder / shown["id"]
        hashes = JobStore(store).delivered()
        assert len(hashes) == 6
        assert {tensors.digest(data) for data, _ in seen} == hashes.keys()
        for data, told in seen:
            assert told.decode() == kind
            (store / "one").write_bytes(data)
            assert uploads.check(store / "one", kind, [(8, 4), (4,)]) > 0


def model(folder: Path, number: int) -> list[np.ndarray]:
    """A job's global weights before round `number`."""
    return list(tensors.decode((folder / "models" / f"{number:05}.safetensors").read_bytes()))


async def test_sync_sgd_is_one_step_on_all_batches_together(
    job_world: Callable[..., Any], job_spec: Callable[..., str]
) -> None:
    """Against a step of SGD on the batches of all clients, computed here from the definition."""
    rounds, batch, lr, clients = 3, 20, 0.5, 3
    async with job_world(2) as world:
        spec = job_spec(rounds=rounds, clients=clients, least=2).replace(
            "train: {lr: 0.1, batch: 20, epochs: 2}",
            f"train: {{algorithm: sync_sgd, lr: {lr}, batch: {batch}}}",
        )
        folder = Path()
        data: list[shards.Shard] = []

        async def read(request: Any) -> None:
            nonlocal folder
            folder = next(world.requester.parts.folder.iterdir())
            if not data:
                paths = [folder / "shards" / f"client-{c:04}.safetensors" for c in range(clients)]
                data.extend(shards.read(path) for path in paths)

        for node in world.trainers:
            node.worker.before_training = read
        shown = await run_job(world, spec)
        assert shown["state"] == "done"
        weights = [w.astype(np.float64) for w in model(folder, 0)]
        for number in range(rounds):
            rows = [
                np.random.Generator(np.random.PCG64([1, number, c, 0])).permutation(len(data[c]))[:batch]
                for c in range(clients)
            ]
            x = np.concatenate([data[c].x[rows[c]].reshape(batch, -1) for c in range(clients)])
            y = np.concatenate([data[c].y[rows[c]] for c in range(clients)])
            logits = x @ weights[0] + weights[1]
            p = np.exp(logits - logits.max(axis=1, keepdims=True))
            p /= p.sum(axis=1, keepdims=True)
            p[np.arange(len(y)), y] -= 1
            weights = [weights[0] - lr * x.T @ p / len(y), weights[1] - lr * p.mean(axis=0)]
        last = model(folder, rounds)
        assert max(float(np.abs(a - b).max()) for a, b in zip(last, weights, strict=True)) < 1e-5
        assert shown["price"] == 10 * TOKEN // (rounds * clients * batch)
        assert shown["spent"] == shown["price"] * rounds * clients * batch


async def test_trainers_are_told_of_momentum(
    job_world: Callable[..., Any], job_spec: Callable[..., str]
) -> None:
    told: list[Optimizer] = []

    async def hear(request: Any) -> None:
        told.append(request.optimizer)

    async with job_world(1) as world:
        world.trainers[0].worker.before_training = hear
        spec = job_spec(least=1, rounds=1).replace("{lr:", "{optimizer: sgdm, momentum: 0.5, lr:")
        shown = await run_job(world, spec)
        assert (shown["state"], shown["reason"]) == ("done", "")
    assert told == [Optimizer("sgdm", 0.1, {"momentum": 0.5})]


async def test_few_updates_are_checked_at_a_time(
    job_world: Callable[..., Any], job_spec: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a check holds in memory must not grow with the participants."""
    now = most = 0
    check = update_spool.update_check.check

    def slow(*arguments: Any) -> float:
        nonlocal now, most
        now += 1
        most = max(most, now)
        time.sleep(0.3)
        norm = check(*arguments)
        now -= 1
        return norm

    monkeypatch.setattr(update_spool.update_check, "check", slow)
    async with job_world(5) as world:
        shown = await run_job(world, job_spec(rounds=1, least=5, stall="10s"))
        assert shown["state"] == "done"
        assert most == 2


def test_what_a_round_trains_on() -> None:
    assert local.samples_of_round("fedavg", 50, 20, 3) == 150
    assert local.samples_of_round("sync_sgd", 50, 20, 1) == 20
    assert local.samples_of_round("sync_sgd", 5, 20, 1) == 5


@dataclass
class FakeTff:
    """Answers with the mean; with faults on request."""

    refuses: str = ""
    deaths: int = 0
    fails: str = ""
    asked: list[TffRequest] = field(default_factory=list)
    closed: int = 0

    async def refusal(self) -> str:
        await trio.lowlevel.checkpoint()
        return self.refuses

    async def aggregate(self, request: TffRequest) -> TffResult:
        await trio.lowlevel.checkpoint()
        self.asked.append(request)
        if self.deaths:
            self.deaths -= 1
            raise WorkerDied("TensorFlow Federated's process ended")
        if self.fails:
            raise WorkerError(self.fails)
        assert decode(request.to_line()) == replace(request, shapes=list(request.shapes))
        mean = aggregator.aggregate(request.updates, request.upload, request.shapes, rules.mean)
        request.result.write_bytes(tensors.encode(mean))
        return TffResult(1.5 * request.rounds)

    async def close(self) -> None:
        await trio.lowlevel.checkpoint()
        self.closed += 1


DP = "aggregate: {rule: dp, clip: 2.0, noise: 0.1}\n"


def with_tff(world: Any, tff: FakeTff) -> None:
    jobs = world.requester.jobs
    jobs._parts = replace(jobs._parts, tff=lambda: tff)


async def test_a_tff_rule_survives_deaths_and_tells_epsilon(
    job_world: Callable[..., Any], job_spec: Callable[..., str]
) -> None:
    tff = FakeTff(deaths=2)
    async with job_world(2) as world:
        with_tff(world, tff)
        shown = await run_job(world, job_spec(least=2, extra=DP))
        assert (shown["state"], shown["reason"]) == ("done", "")
        assert shown["accuracy"] >= 0.9
        assert [request.rounds for request in tff.asked] == [1, 1, 1, 2, 3]
        notes = world.requester.notes()
        told = "round 3: so far differentially private with ε = 4.5 at δ = 1e-05, for all that one client has"
        assert told in notes
        assert tff.closed >= 1


async def test_what_tff_cannot_do_ends_the_job_with_the_reason(
    job_world: Callable[..., Any], job_spec: Callable[..., str]
) -> None:
    async with job_world(2) as world:
        tff = FakeTff(fails="ValueError: no")
        with_tff(world, tff)
        shown = await run_job(world, job_spec(least=2, extra=DP))
        assert shown["state"] == "failed"
        assert "ValueError: no" in shown["reason"]
        assert tff.closed >= 1


@pytest.mark.parametrize(
    ("extra", "most", "refuses", "words"),
    [
        (DP, 1 << 29, "unshare failed: Operation not permitted", "Operation not permitted"),
        (DP, 200, "", "rule dp takes 0 MiB of updates a round"),
        ("aggregate: {rule: trimmed_mean}\n", 0, "", "trim 0.1 of 2 updates, the fewest"),
    ],
)
async def test_a_rule_that_cannot_work_is_refused_before_any_money_moves(
    extra: str,
    most: int,
    refuses: str,
    words: str,
    job_world: Callable[..., Any],
    job_spec: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(job_prepare, "TFF_BYTES", most)
    async with job_world(2) as world:
        with_tff(world, FakeTff(refuses))
        shown = await run_job(world, job_spec(least=2, extra=extra))
        assert shown["state"] == "failed"
        assert words in shown["reason"]
        assert world.chain.included == []


@pytest.mark.parametrize(
    ("trim", "peers", "words"),
    [
        (0.1, "{max: 10}", ""),
        (0.1, "{max: 10, quorum: 0.8}", "trim 0.1 of 8 updates, the fewest that a round may have, leaves"),
        (0.13, "{max: 10, quorum: 0.8}", ""),
        (0.1, "{max: 10, quorum: 0.8, sample: 0.5}", "trim 0.1 of 4 updates"),
        (0.49, "{max: 10, quorum: 0.2}", "trim 0.49 of 2 updates"),  # no share that may be named is enough
    ],
)
async def test_a_round_that_the_quorum_cuts_short_is_trimmed_too(
    trim: float, peers: str, words: str, job_spec: Callable[..., str]
) -> None:
    """Of ten clients nine may have delivered: a tenth of nine is nobody, and the mean what a liar wants."""
    text = job_spec(extra=f"aggregate: {{rule: trimmed_mean, trim: {trim}}}\n")
    spec = parse_spec(re.sub("^peers: .*", f"peers: {peers}", text, flags=re.M))
    if not words:
        await job_prepare.check_aggregation(spec, 36, 10, FakeTff())
        return
    with pytest.raises(UserError) as caught:
        await job_prepare.check_aggregation(spec, 36, 10, FakeTff())
    assert words in caught.value.cause
    fixes = {8: "to 0.13 or more", 4: "to 0.25 or more", 2: "or raise peers.quorum"}
    assert fixes[int(words.split()[3])] in caught.value.fix
