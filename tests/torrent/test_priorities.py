"""From priorities of files and byte ranges to those of pieces."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from torrent.errors import LocalError
from torrent.geometry import BLOCK
from torrent.hashing import PieceHasher
from torrent.messages import Unchoke
from torrent.metainfo import Metainfo, create, plan
from torrent.priorities import ByteRange, Priorities
from torrent.swarm import SetPriorities

Make = Callable[..., Any]
SIZE = 32_768


def torrent(*sizes: int, align: bool) -> Metainfo:
    files = plan([((f"file{n}",), size) for n, size in enumerate(sizes)], SIZE, align=align)
    hasher = PieceHasher(SIZE)
    hasher.update(bytes(sum(file.length for file in files)))
    return create("sample", files, SIZE, hasher.finish())


def test_a_shared_piece_has_the_higher_priority() -> None:
    sample = torrent(SIZE + 5, SIZE, 2 * SIZE, align=False)
    assert list(Priorities({0: 0, 1: 7, 2: 1}).table(sample)) == [0, 7, 7, 1, 1]
    assert list(Priorities({1: 0}).table(sample)) == [4, 4, 4, 4, 4]
    assert list(Priorities.only([0]).table(sample)) == [4, 4, 0, 0, 0]
    assert list(Priorities.only(None).table(sample)) == [4] * 5


def test_padding_makes_nothing_wanted() -> None:
    sample = torrent(SIZE + 5, 10, align=True)
    assert list(Priorities({0: 0}).table(sample)) == [0, 0, 4]


def test_ranges_stand_over_their_file_and_the_later_over_the_earlier() -> None:
    sample = torrent(10 * SIZE, align=False)
    some = Priorities(
        {0: 2}, ranges=(ByteRange(0, SIZE, 5 * SIZE, 7), ByteRange(0, 2 * SIZE, 3 * SIZE + 1, 0))
    )
    assert list(some.table(sample)) == [2, 7, 0, 7, 7, 2, 2, 2, 2, 2]


@pytest.mark.parametrize(
    "wrong",
    [
        Priorities({0: 8}),
        Priorities({0: -1}),
        Priorities({3: 1}),
        Priorities(ranges=(ByteRange(0, 5, 4, 1),)),
        Priorities(ranges=(ByteRange(0, 0, SIZE + 6, 1),)),
        Priorities(ranges=(ByteRange(0, 0, 1, 9),)),
    ],
)
def test_what_does_not_exist_is_refused(wrong: Priorities) -> None:
    with pytest.raises(LocalError):
        wrong.table(torrent(SIZE + 5, align=False))


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32), st.booleans())
def test_the_table_agrees_with_looking_at_every_byte(seed: int, align: bool) -> None:
    """On a scale of one byte to a sixteenth of a piece."""
    rng = random.Random(seed)
    unit = SIZE // 16
    sample = torrent(*(unit * rng.randrange(40) for _ in range(4)), unit, align=align)
    real = [n for n, file in enumerate(sample.files) if not file.pad]
    ranges = []
    for _ in range(rng.randrange(5)):
        file = rng.choice(real)
        begin, end = sorted(rng.randrange(sample.files[file].length // unit + 1) for _ in range(2))
        ranges.append(ByteRange(file, begin * unit, end * unit, rng.randrange(8)))
    chosen = Priorities({n: rng.randrange(8) for n in real if rng.random() < 0.7}, 4, tuple(ranges))
    units: list[int] = []
    for number, file in enumerate(sample.files):
        of_file = [0 if file.pad else chosen.of(number)] * (file.length // unit)
        for range_ in ranges:
            if range_.file == number:
                low, high = range_.begin // unit, range_.end // unit
                of_file[low:high] = [range_.priority] * (high - low)
        units += of_file
    assert list(chosen.table(sample)) == [max(units[n : n + 16]) for n in range(0, len(units), 16)]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.permutations([1, 4, 7]))
def test_a_swarm_asks_by_priority_and_changes_under_way(wire: Make, content: Make, order: list[int]) -> None:
    sample = content(*[2 * BLOCK] * 3, piece_length=2 * BLOCK)
    w = wire(sample, priorities=Priorities(dict(enumerate(order))))
    w.connect("seed", range(3))
    w.say("seed", Unchoke())
    first = w.requests("seed")
    w.do(SetPriorities(Priorities({0: 0, 1: 0, 2: 0})))
    assert w.swarm.complete
    w.do(SetPriorities(Priorities({0: 1, 1: 0, 2: 2})))
    again = w.requests("seed")
    assert [block.piece for block in first][:4:2] == sorted(range(3), key=lambda n: -order[n])[:2]
    assert [block.piece for block in again] == [2, 2, 0, 0]
    assert w.swarm.stats(w.now).wanted == 2
