"""How samples travel to a worker on another machine, and which do not."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from p2pml.worker import offers
from p2pml.worker.protocol import (
    Progress,
)
from p2pml.worker.session import WorkerError
from tests.worker.lent import ANSWERS, READERS, evaluation, pair, training, until

pytestmark = pytest.mark.slow


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Where the node was asked to read from, and small parts."""
    monkeypatch.setattr(offers, "PART_BYTES", 1000)
    read, asked = offers._read, []

    def spy(path: Path, want: Any) -> Any:
        asked.append(want.offset)
        return read(path, want)

    monkeypatch.setattr(offers, "_read", spy)
    return asked


async def test_samples_travel_once_and_are_kept_by_content(tmp_path: Path, sent: list[int]) -> None:
    data = os.urandom(2500)
    (tmp_path / "a").write_bytes(data)
    (tmp_path / "b").write_bytes(data)
    async with pair(tmp_path) as both:
        node = await both.connect()
        reports: list[Progress] = []
        await node.call(training(tmp_path / "a"), reports.append)
        assert sent == [0, 1000, 2000]
        # Whoever waits for the call hears of each part too.
        assert [(report.stage, report.done) for report in reports] == [("fetch", 0)] * 3 + [("train", 1)]
        assert (await node.call(evaluation(tmp_path / "b"))).accuracy == 0.9
        await both.restart()
        await until(lambda: node.starts == 2)
        await node.call(training(tmp_path / "a"))
        assert sent == [0, 1000, 2000]
        (tmp_path / "a").write_bytes(b"other")  # the path is not the content
        await node.call(training(tmp_path / "a"))
    assert both.worker.seen == [data, data, data, b"other"]
    assert (tmp_path / "kept" / f"{hashlib.sha256(data).hexdigest()}.shard").read_bytes() == data


@READERS
async def test_samples_of_every_request_travel(tmp_path: Path, reader: Callable[[Path], Any]) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    async with pair(tmp_path) as both:
        node = await both.connect()
        request = reader(tmp_path / "a")
        assert await node.call(request) == ANSWERS[type(request)]
    assert both.worker.seen == [b"abc"]


@READERS
async def test_paths_of_the_serving_machine_are_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reader: Callable[[Path], Any]
) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"private")

    async def as_it_is(self: object, request: Any) -> Any:
        await trio.lowlevel.checkpoint()
        return request

    monkeypatch.setattr(offers.Offers, "by_content", as_it_is)
    async with pair(tmp_path) as both:
        node = await both.connect()
        for name in (str(secret), "../secret", "", "A" * 64, "0" * 63 + "/"):
            with pytest.raises(WorkerError, match="by their SHA-256") as caught:
                await node.call(reader(Path(name) if name else Path()))
            assert caught.value.refused
        assert both.worker.seen == []


async def test_samples_that_are_whole_but_were_not_put_in_place_are_finished(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abcdef")
    begun = tmp_path / "kept" / f"{hashlib.sha256(b'abcdef').hexdigest()}.part"
    begun.parent.mkdir()
    begun.write_bytes(b"abcdef")
    async with pair(tmp_path) as both:
        node = await both.connect()
        await node.call(training(tmp_path / "a"))
    assert both.worker.seen == [b"abcdef"]


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda part: part.__class__(part.digest, part.offset, 0, b""), "does not have the samples"),
        (lambda part: part.__class__(part.digest, part.offset, part.size, b""), "another part"),
        (lambda part: part.__class__(part.digest, part.offset, part.size, b"x" * len(part.data)), "the hash"),
        (lambda part: part.__class__(part.digest, part.offset + 1, part.size, part.data), "another part"),
        (lambda part: part.__class__(part.digest, part.offset, 2, part.data), "another part"),
        (lambda part: part.__class__(part.digest, part.offset, 1 << 40, part.data), "at most"),
    ],
)
async def test_wrong_samples_are_refused_and_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Any], Any], words: str
) -> None:
    (tmp_path / "a").write_bytes(b"abcdef")
    read = offers._read
    monkeypatch.setattr(offers, "_read", lambda path, want: spoil(read(path, want)))
    async with pair(tmp_path) as both:
        node = await both.connect()
        with pytest.raises(WorkerError, match=words) as caught:
            await node.call(training(tmp_path / "a"))
        assert caught.value.refused
        monkeypatch.setattr(offers, "_read", read)
        await node.call(training(tmp_path / "a"))
    assert both.worker.seen == [b"abcdef"]
