"""The streaming mean against NumPy on everything at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from p2pml.formats import tensors
from p2pml.training.aggregate import weighted_mean


def load(path: Path) -> list[np.ndarray]:
    return list(tensors.decode(path.read_bytes()))


def spool(folder: Path, updates: list[list[np.ndarray]]) -> list[Path]:
    paths = [folder / f"{index}.update" for index in range(len(updates))]
    for path, update in zip(paths, updates, strict=True):
        path.write_bytes(tensors.encode(update))
    return paths


def test_equals_numpy_average(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    updates = [
        [rng.normal(size=(7, 3)).astype(np.float32), rng.normal(size=3).astype(np.float32)] for _ in range(5)
    ]
    weights = [3, 1, 40, 7, 2]
    paths = spool(tmp_path, updates)
    mean = weighted_mean(list(zip(paths, weights, strict=True)), load)
    for index, tensor in enumerate(mean):
        expected = np.average(
            [update[index].astype(np.float64) for update in updates], axis=0, weights=weights
        )
        assert tensor.dtype == np.float32
        np.testing.assert_allclose(tensor, expected, rtol=0, atol=1e-7)


def test_one_update_comes_back_bit_for_bit(tmp_path: Path) -> None:
    update = [np.array([1e-30, 3.14159274, -7.0], np.float32)]
    (path,) = spool(tmp_path, [update])
    assert weighted_mean([(path, 3)], load)[0].tobytes() == update[0].tobytes()


def test_what_has_no_mean(tmp_path: Path) -> None:
    one, two = spool(tmp_path, [[np.zeros(2, np.float32)], [np.zeros(3, np.float32)]])
    with pytest.raises(ValueError, match="at least one update"):
        weighted_mean([], load)
    with pytest.raises(ValueError, match="weight"):
        weighted_mean([(one, 0)], load)
    with pytest.raises(ValueError, match="shapes"):
        weighted_mean([(one, 1), (two, 1)], load)
