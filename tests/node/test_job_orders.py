"""A requester's orders on a slow link: what was taken back while it was being sent does not arrive."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from chain.crypto import Keypair
from p2pml.formats import tensors
from p2pml.formats.optimizers import Optimizer
from p2pml.net.train import CHUNK_BYTES, Chunk, Message, Model, Refuse, Task
from p2pml.node.job_session import GlobalModel, PeerSession
from p2pml.node.model_download import ModelDownload
from p2pml.node.terms import JobTerms

KEYS = Keypair.from_seed(bytes([7]) * 32)
CHUNKS = 4


def a_model(value: int) -> GlobalModel:
    weights = bytes([value]) * (CHUNKS * CHUNK_BYTES)
    return GlobalModel(weights, tensors.digest(weights))


@dataclass
class SlowReader:
    """Takes the model's second chunk, and what comes after it, only when it is told to."""

    peer: str = "peer"
    got: list[Message] = field(default_factory=list)
    model: ModelDownload = field(default_factory=ModelDownload)
    stalled: trio.Event = field(default_factory=trio.Event)
    go_on: trio.Event = field(default_factory=trio.Event)

    async def send(self, message: Message, deadline: float = 60.0) -> None:
        await trio.lowlevel.checkpoint()
        if isinstance(message, Chunk) and message.offset:
            self.stalled.set()
            await self.go_on.wait()
        self.got.append(message)
        match message:
            case Model():
                self.model.begin(message)
            case Chunk(offset, data):
                self.model.add(offset, data)

    def of(self, kind: type[Any]) -> list[Any]:
        return [message for message in self.got if isinstance(message, kind)]


@pytest.fixture
def a_session(tmp_path: Path) -> Callable[[Any], PeerSession]:
    """A session whose participant has joined."""

    def make(channel: Any) -> PeerSession:
        terms = JobTerms(
            bytes(32), bytes(32), KEYS.public, "job", "{}", Optimizer("sgd", 0.1), 10, 1, 1, 9, 0
        )
        standing: Any = None
        session = PeerSession(
            channel,
            terms,
            KEYS,
            "requester",
            standing,
            [],
            tmp_path,
            {},
            lambda report: None,
            lambda peer: None,
        )
        session.account = KEYS.public
        return session

    return make


@pytest.mark.parametrize("ending", ["the next round", "another attempt"])
async def test_a_task_that_is_taken_back_while_its_model_is_sent_does_not_arrive(
    ending: str, a_session: Callable[[Any], PeerSession]
) -> None:
    reader = SlowReader()
    session = a_session(reader)
    old, again = a_model(1), ending == "another attempt"
    new, number = (old, 0) if again else (a_model(2), 1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(session.assign, session.expect(0, 0, 10, old))
        await reader.stalled.wait()
        await session.refuse(0, 0, "the round was over")
        nursery.start_soon(session.assign, session.expect(number, 0, 10, new))
        await trio.testing.wait_all_tasks_blocked()
        reader.go_on.set()
    (task,) = reader.of(Task)
    assert (task.round, task.model_in) == (number, new.digest)
    assert reader.got[-1] == task
    assert reader.model.weights == new.weights
    assert len(reader.of(Refuse)) == 1
    # What came of the same model is not sent again; of another one not a byte follows.
    assert [model.offset for model in reader.of(Model)] == [0, 2 * CHUNK_BYTES if again else 0]
    assert len(reader.of(Chunk)) == CHUNKS if again else 2 + CHUNKS


async def test_rounds_that_pass_while_a_model_is_sent_leave_only_the_newest_task(
    a_session: Callable[[Any], PeerSession],
) -> None:
    reader = SlowReader()
    session = a_session(reader)
    async with trio.open_nursery() as nursery:
        for number in range(5):
            nursery.start_soon(session.assign, session.expect(number, 0, 10, a_model(number)))
            await reader.stalled.wait()
            await trio.testing.wait_all_tasks_blocked()
        reader.go_on.set()
    assert [task.round for task in reader.of(Task)] == [4]
    assert [model.round for model in reader.of(Model)] == [0, 4]
    assert reader.model.weights == a_model(4).weights
