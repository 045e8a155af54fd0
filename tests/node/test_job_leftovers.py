"""What a job takes of its requester's disk, and gives back however it ends."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trio

from p2pml.formats import tensors
from p2pml.net.train import PROTOCOL, Channel, Pull, Update
from p2pml.node import job_members
from tests.node.test_job_faults import Liar, good_update

pytestmark = pytest.mark.slow


def leftovers(folder: Path) -> list[str]:
    """The clients' shards and their uploads."""
    found = [*(folder / "shards").iterdir(), *(folder / "updates").iterdir()]
    return sorted(path.name for path in found if path.name != "evaluation.safetensors")


def written(world: Any) -> list[Path]:
    return list(world.requester.parts.folder.glob("*/shards/*"))


class Stuck(Liar):
    """Uploads a part and then nothing."""

    async def upload(self, channel: Channel, pull: Pull) -> None:
        await channel.send(Update(pull.round, pull.client, pull.offset, self.update[:100]))


class Fickle(Liar):
    """Commits to something else each time, and goes on with it only at the last."""

    async def upload(self, channel: Channel, pull: Pull) -> None:
        if self.invitations < 4:
            self.hang_up_after = 100
        await super().upload(channel, pull)
        value = np.float32(self.invitations / 100)
        self.update = tensors.encode([np.full((8, 4), value), np.zeros(4, np.float32)])


@pytest.mark.parametrize("wrong", ["weights", "budget"])
async def test_what_is_wrong_is_seen_before_anything_is_written(
    wrong: str, job_world: Callable[..., Any], job_spec: Callable[..., str]
) -> None:
    async with job_world(1) as world:
        spec = job_spec(least=1)
        if wrong == "weights":
            spec = spec.replace("builder: softmax", "builder: softmax, weights: nowhere.safetensors")
        else:
            spec = spec.replace("budget: 10", "budget: 0.000001")
        offered: list[int] = []
        offer = world.requester.data.offer

        async def noted(name: str, files: Any) -> bytes:
            offered.append(len(written(world)))
            return bytes(await offer(name, files))

        world.requester.data.offer = noted
        shown = await world.finish(await world.requester.jobs.start(spec, world.root, "job.yaml"))
        assert (shown["state"], offered, written(world)) == ("failed", [], [])
        assert {"weights": "nowhere.safetensors cannot be read", "budget": "one base unit"}[wrong] in shown[
            "reason"
        ]


async def test_a_job_that_fails_before_it_is_prepared_leaves_no_shards_and_no_torrent(
    job_world: Callable[..., Any], job_spec: Callable[..., str]
) -> None:
    async with job_world(1) as world:
        world.requester.worker.deaths = 1
        job_id = await world.requester.jobs.start(job_spec(least=1), world.root, "job.yaml")
        shown = await world.finish(job_id)
        assert "the worker cannot build the model" in shown["reason"]
        assert world.requester.data.forgotten == [False]
        assert leftovers(world.requester.parts.folder / job_id) == []


async def test_a_job_that_is_stopped_as_its_torrent_is_offered_ends_the_torrent(
    job_world: Callable[..., Any], job_spec: Callable[..., str]
) -> None:
    async with job_world(1) as world:
        offer = world.requester.data.offer

        async def stopped(name: str, files: Any) -> bytes:
            metainfo = await offer(name, files)
            await world.requester.jobs.stop(job_id)
            return bytes(metainfo)

        world.requester.data.offer = stopped
        job_id = await world.requester.jobs.start(job_spec(least=1), world.root, "job.yaml")
        assert (await world.finish(job_id))["state"] == "stopped"
        assert world.requester.data.forgotten == [False]
        assert leftovers(world.requester.parts.folder / job_id) == []


async def test_a_job_that_is_stopped_in_an_upload_leaves_nothing_of_it(
    job_world: Callable[..., Any], job_spec: Callable[..., str]
) -> None:
    async with job_world(1) as world:
        node = world.trainers[0]
        node.host.handle(PROTOCOL, Stuck(node.parts.keys, good_update()))
        job_id = await world.requester.jobs.start(
            job_spec(rounds=1, least=1, stall="30s"), world.root, "job.yaml"
        )
        folder = world.requester.parts.folder / job_id
        await world.until(lambda: any(path.stat().st_size for path in folder.glob("updates/*.part")))
        await world.requester.jobs.stop(job_id)
        assert (await world.finish(job_id))["state"] == "stopped"
        assert world.requester.data.forgotten == [False]
        assert leftovers(folder) == []


async def test_what_is_here_of_an_upload_survives_the_requesters_end(
    job_world: Callable[..., Any], job_spec: Callable[..., str]
) -> None:
    async with job_world(1) as world:
        node = world.trainers[0]
        node.host.handle(PROTOCOL, Stuck(node.parts.keys, good_update()))
        job_id = await world.requester.jobs.start(job_spec(rounds=1, least=1), world.root, "job.yaml")
        folder = world.requester.parts.folder / job_id
        await world.until(lambda: any(path.stat().st_size for path in folder.glob("updates/*.part")))
        world.running.cancel()
        await trio.sleep(0.1)
        assert [Path(name).suffix for name in leftovers(folder)] == [".safetensors", ".part"]


async def test_commitments_that_come_to_nothing_do_not_fill_the_disk(
    job_world: Callable[..., Any], job_spec: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_members, "RETRY_S", 0.1)
    parts: list[int] = []
    async with job_world(1) as world:
        node = world.trainers[0]
        peer = Fickle(node.parts.keys, good_update())
        update = job_members.PeerSession._on_update

        async def counted(session: Any, message: Update) -> None:
            await update(session, message)
            parts.append(len(list(session.spool.glob("*.part"))))

        monkeypatch.setattr(job_members.PeerSession, "_on_update", counted)
        node.host.handle(PROTOCOL, peer)
        job_id = await world.requester.jobs.start(job_spec(rounds=1, least=1), world.root, "job.yaml")
        assert (await world.finish(job_id))["state"] == "done"
        assert parts == [1, 1, 1, 0]
        assert [message.offset for message in peer.got if isinstance(message, Pull)] == [0] * 4
