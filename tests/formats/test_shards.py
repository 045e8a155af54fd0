from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from p2pml.formats import FormatError, shards
from p2pml.formats.shards import Shard


def some_shard(samples: int = 5) -> Shard:
    rng = np.random.default_rng(3)
    x = rng.integers(0, 256, (samples, 2, 3), dtype=np.uint8)
    return Shard(x, rng.integers(0, 4, samples), 1 / 255)


def test_a_shard_survives_its_file(tmp_path: Path) -> None:
    shard = some_shard()
    size = shards.write(tmp_path / "s", shard)
    assert size == (tmp_path / "s").stat().st_size
    back = shards.read(tmp_path / "s")
    assert back.x.tobytes() == shard.x.tobytes()
    assert back.y.tolist() == shard.y.tolist()
    assert back.scale == float(np.float32(1 / 255))
    assert shards.sample_count(tmp_path / "s") == len(back) == 5
    assert back.sample_shape == (2, 3)
    assert [path.name for path in tmp_path.iterdir()] == ["s"]


def test_the_same_shard_gives_the_same_bytes() -> None:
    assert shards.encode(some_shard()) == shards.encode(some_shard())


def test_take_keeps_the_asked_order() -> None:
    shard = some_shard()
    assert shard.take(np.array([3, 0])).y.tolist() == [shard.y[3], shard.y[0]]


@pytest.mark.parametrize(
    ("x", "y", "scale", "message"),
    [
        (np.zeros((2, 3), np.float64), np.zeros(2, np.int64), 1.0, "uint8 or float32"),
        (np.zeros(2, np.uint8), np.zeros(2, np.int64), 1.0, "uint8 or float32"),
        (np.zeros((2, 3), np.uint8), np.zeros(3, np.int64), 1.0, "labels must be int64"),
        (np.zeros((2, 3), np.uint8), np.zeros(2, np.int32), 1.0, "labels must be int64"),
        (np.zeros((2, 3), np.uint8), np.array([0, -1]), 1.0, "labels run from -1"),
        (np.zeros((2, 3), np.uint8), np.array([0, 1 << 40]), 1.0, "labels run from"),
        (np.zeros((2, 3), np.uint8), np.zeros(2, np.int64), np.nan, "scale"),
        (np.zeros((2, 3), np.uint8), np.zeros(2, np.int64), -1.0, "scale"),
        (np.full((2, 3), np.inf, np.float32), np.zeros(2, np.int64), 1.0, "not finite"),
    ],
)
def test_parts_that_do_not_fit_are_refused(x: np.ndarray, y: np.ndarray, scale: float, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        Shard(x, y, scale)


def test_files_that_are_no_shards_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "s"
    for data in (b"", b"\x00" * 100, save({"x": np.zeros(1)}), shards.encode(some_shard())[:-1]):
        path.write_bytes(data)
        with pytest.raises(FormatError):
            shards.read(path)
    path.write_bytes(b"junk")
    with pytest.raises(FormatError):
        shards.sample_count(path)
    shards.write(path, some_shard())
    with pytest.raises(FormatError, match="at most 20 are allowed"):
        shards.read(path, max_bytes=20)


def test_people_compare_what_models_see() -> None:
    x = np.array([[0, 51], [102, 255]], np.uint8)
    shard = Shard(x, np.array([1, 3]), 1 / 255)
    assert str(shard) == "2 samples of [2], labels 1 to 3, values 0 to 1"
    assert str(shard.take(np.array([], np.int64))) == "0 samples of [2]"
