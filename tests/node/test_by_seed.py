"""Jobs on public data that the requester does not hold: everybody derives the same parts of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from p2pml.formats import SpecError
from p2pml.net.train import FROM_PARTICIPANT, Hold, Refuse
from p2pml.training import dataset
from p2pml.training.by_seed import Division
from tests.node.test_job_limits import ByHand

pytestmark = pytest.mark.slow
TRAIN = "data: {train: clouds.npz, clients: auto"
BY_SEED = (
    "data: {train: rain.npz, validation: {path: clouds.npz}, clients: 5, "
    "partition: {kind: by_seed, samples: SAMPLES}"
)


def publish(world: Any) -> Path:
    """The training samples of `clouds.npz` as public data that the requester has not."""
    train = dataset.load(world.root / "clouds.npz").train
    (world.root / "public").mkdir()
    np.savez(world.root / "public" / "rain.npz", x=train.x, y=train.y)
    return Path(world.root / "public" / "rain.npz")


async def finished(world: Any, spec: str) -> dict[str, Any]:
    return dict(await world.finish(await world.requester.jobs.start(spec, world.root, "job.yaml")))


async def test_the_result_is_that_of_iid_shards(
    job_world: Callable[..., Any], job_spec: Callable[..., str]
) -> None:
    """The same seed gives the same parts, so the same model, bit for bit: whoever divides."""
    async with job_world(3) as world:
        publish(world)
        spec = job_spec(least=2)
        sent = await finished(world, spec.replace(TRAIN, "data: {train: clouds.npz, clients: 5"))
        offered, fetched = len(world.torrents), [list(node.data.fetched) for node in world.nodes]
        derived = await finished(world, spec.replace(TRAIN, BY_SEED.replace("SAMPLES", "400")))
        assert (derived["state"], derived["reason"]) == ("done", "")
        models = [(Path(job["output"]) / "model.safetensors").read_bytes() for job in (sent, derived)]
        assert models[0] == models[1]
        assert [item["samples"] for item in derived["history"]] == [400 * 2] * 3
        # No shard was sent: the participants alone fetched the public data, and what they made of it is gone.
        assert (len(world.torrents), [list(node.data.fetched) for node in world.nodes]) == (offered, fetched)
        assert world.requester.data.public_fetched == []
        assert all(set(node.data.public_fetched) == {"rain.npz"} for node in world.trainers)
        assert [list((node.parts.folder / "derived").glob("*")) for node in world.trainers] == [[]] * 3


async def test_a_requester_that_was_killed_goes_on(
    job_world: Callable[..., Any], job_spec: Callable[..., str]
) -> None:
    async with job_world(2) as world:
        publish(world)
        for node in world.trainers:
            node.worker.delay = 0.05
        spec = job_spec(least=2, rounds=8).replace(TRAIN, BY_SEED.replace("SAMPLES", "400"))
        job_id = await world.requester.jobs.start(spec, world.root, "job.yaml")
        await world.until(lambda: world.requester.jobs.show(job_id)["round"] >= 2)
        await world.restart_jobs()
        shown = await world.finish(job_id)
        assert (shown["state"], shown["round"]) == ("done", 8)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("SAMPLES", "401", "the data has 400 samples to train on, the job says 401"),
        ("rain.npz", "snow.npz", "nobody has snow.npz"),
        ("clients: 5", "clients: 500", "400 training examples cannot be divided among 500 clients"),
    ],
)
async def test_what_does_not_fit_fails_with_its_reason(
    old: str, new: str, words: str, job_world: Callable[..., Any], job_spec: Callable[..., str]
) -> None:
    async with job_world(2) as world:
        publish(world)
        text = BY_SEED.replace(old, new).replace("SAMPLES", "400")
        shown = await finished(world, job_spec(least=2, join="2s").replace(TRAIN, text))
        assert shown["state"] == "failed"
        assert words in shown["reason"]
        assert "internal error" not in shown["reason"]


async def test_what_a_participant_refuses(job_world: Callable[..., Any]) -> None:
    async with job_world(1) as world:
        path = publish(world)
        hand = await ByHand.with_job(world)
        good = Division(clients=4, samples=400)
        for text in (
            "{",
            "{}",
            '{"clients": 9, "samples": 4}',
            '{"clients": 0, "samples": 1}',
            '{"clients": 1, "samples": 1, "path": "x"}',
        ):
            hand.terms = replace(hand.terms, division=text)
            answer = await (await hand.say(hand.invitation())).receive(FROM_PARTICIPANT, 10)
            assert isinstance(answer, Refuse)
            assert "the data's division is not understood" in answer.reason
        hand.terms = replace(hand.terms, division=good.to_text())
        channel = await hand.accepted()
        await hand.task(channel)
        assert "the data to take the shard from was not named" in (await hand.answer(channel, Refuse)).reason
        await channel.send(Hold(str(path).encode(), (4,), ()))
        assert "client 4 of 4 is none" in (await hand.answer(channel, Refuse)).reason
        await channel.send(Hold(str(path).encode() + b"x", (1,), ()))
        assert "a job has one data set" in (await hand.answer(channel, Refuse)).reason
        await channel.reset()


def test_a_division_comes_back_and_covers_everything() -> None:
    made = Division(clients=7, samples=100, format="csv", label=-1, shape=[2, 2], scale=0.5)
    assert Division.from_text(made.to_text()) == made
    assert made.reading() == dataset.Reading("csv", None, -1, None, (2, 2), 0.5)
    parts = made.parts(3)
    assert np.sort(np.concatenate(parts)).tolist() == list(range(100))
    with pytest.raises(SpecError):
        Division.from_text(made.to_text().replace("csv", "exe"))
