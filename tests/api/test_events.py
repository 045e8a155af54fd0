"""The event stream: resumable, filtered by job, quiet connections kept alive."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing

from p2pml.api.events import KEEPALIVE_S, frame, stream
from p2pml.node.events import Events
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


async def test_what_a_slow_reader_missed_is_told(fake_node: Any) -> None:
    frames = stream(fake_node, after=0, job="aa")
    for number in range(3):
        fake_node.events.emit("job.round", job="aa", round=number)
    await take(frames, 2)  # it has seen one, and got three
    for number in range(15):
        fake_node.events.emit("job.round", job="aa", round=3 + number)
    last = (await take(frames, 3))[-1]
    assert last == 'id: 8\nevent: gap\ndata: {"after":3}\n\n', "ten are kept, of eighteen"
    fake_node.events.emit("job.round", job="aa", round=18)  # and the next is lost meanwhile
    again, first = await take(frames, 2)
    assert again == 'id: 9\nevent: gap\ndata: {"after":8}\n\n'
    assert first.startswith("id: 10\n")
    await frames.aclose()


async def test_the_beginning_is_what_is_kept(fake_node: Any) -> None:
    for number in range(15):
        fake_node.events.emit("chain.head", height=number)
    frames = stream(fake_node, after=0)
    assert (await take(frames, 2))[-1].startswith("id: 6\n")
    await frames.aclose()


@pytest.mark.parametrize("after", [500, 5000])
async def test_an_id_from_before_a_restart_is_a_gap_and_gets_everything(fake_node: Any, after: int) -> None:
    fake_node.events = Events(first_id=1000)
    frames = stream(fake_node, after)
    with trio.fail_after(1):  # although nothing has happened yet
        _, gap = await take(frames, 2)
    assert gap == f'id: 999\nevent: gap\ndata: {{"after":{after}}}\n\n'
    fake_node.events.emit("chain.head", height=1)
    assert (await anext(frames)).startswith("id: 1000\n")
    await frames.aclose()


async def test_silence_is_broken_by_a_comment(fake_node: Any, autojump_clock: trio.testing.MockClock) -> None:
    frames = stream(fake_node, after=0)
    await anext(frames)
    begin = trio.current_time()
    assert (await anext(frames)).startswith(":")
    assert trio.current_time() - begin == pytest.approx(KEEPALIVE_S)
    await frames.aclose()
