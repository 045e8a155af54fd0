"""The event stream: resumable, filtered by job, quiet connections kept alive."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing

from p2pml.api.events import KEEPALIVE_S, frame, stream
from p2pml.node.views import EventView


async def take(frames: Any, count: int) -> list[str]:
    return [await anext(frames) for _ in range(count)]


def test_a_frame_is_one_data_line() -> None:
    text = frame(EventView(7, "job.note", {"text": "a\nb\u2028c"}))
    assert text == 'id: 7\nevent: job.note\ndata: {"text":"a\\nb\\u2028c"}\n\n'


async def test_it_starts_behind_the_id_it_is_given(fake_node: Any) -> None:
    for number in range(4):
        fake_node.events.emit("chain.head", height=number)
    frames = stream(fake_node, after=2)
    opening, third, fourth = await take(frames, 3)
    assert opening.startswith(":")
    assert third.startswith("id: 3\n")
    assert fourth.startswith("id: 4\n")
    await frames.aclose()


async def test_a_new_event_wakes_the_reader(fake_node: Any, nursery: trio.Nursery) -> None:
    frames = stream(fake_node, after=0)
    await anext(frames)

    async def later() -> None:
        await trio.testing.wait_all_tasks_blocked()
        fake_node.events.emit("chain.head", height=9)

    nursery.start_soon(later)
    with trio.fail_after(1):
        assert '"height":9' in await anext(frames)
    await frames.aclose()


async def test_one_jobs_events_only(fake_node: Any) -> None:
    fake_node.events.emit("chain.head", height=1)
    fake_node.events.emit("job.round", job="aa", round=1)
    fake_node.events.emit("job.round", job="bb", round=1)
    frames = stream(fake_node, after=0, job="bb")
    _, only = await take(frames, 2)
    assert only.startswith("id: 3\n")
    await frames.aclose()


async def test_an_id_from_before_a_restart_gets_everything(fake_node: Any) -> None:
    fake_node.events.emit("chain.head", height=1)
    frames = stream(fake_node, after=1000)
    _, first = await take(frames, 2)
    assert first.startswith("id: 1\n")
    await frames.aclose()


async def test_silence_is_broken_by_a_comment(fake_node: Any, autojump_clock: trio.testing.MockClock) -> None:
    frames = stream(fake_node, after=0)
    await anext(frames)
    begin = trio.current_time()
    assert (await anext(frames)).startswith(":")
    assert trio.current_time() - begin == pytest.approx(KEEPALIVE_S)
    await frames.aclose()
