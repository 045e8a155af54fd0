"""Aggregation from disk against NumPy on everything at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from p2pml.formats import FormatError, uploads
from p2pml.training import rules
from p2pml.training.aggregate import aggregate
from p2pml.training.rules import Rule

SHAPES = [(70, 3), (3,), (), (0, 4), (1, 1000)]
WEIGHTS = [3, 1, 40, 7, 2]


def random_updates(count: int) -> list[list[np.ndarray]]:
    rng = np.random.default_rng(1)
    return [[rng.normal(size=shape).astype(np.float32) for shape in SHAPES] for _ in range(count)]


def spool(folder: Path, updates: list[list[np.ndarray]], kind: str = "float32") -> list[tuple[Path, int]]:
    paths = [folder / f"{index}.update" for index in range(len(updates))]
    for path, update in zip(paths, updates, strict=True):
        path.write_bytes(uploads.encode(update, kind))
    return [(path, WEIGHTS[index % len(WEIGHTS)]) for index, path in enumerate(paths)]


@pytest.mark.parametrize("cells", [1, 5 * 64, 5 * 192, 4 << 20])
def test_the_mean_equals_numpys_average_however_it_is_cut(tmp_path: Path, cells: int) -> None:
    updates = random_updates(5)
    mean = aggregate(spool(tmp_path, updates), "float32", SHAPES, rules.mean, cells)
    assert [tensor.shape for tensor in mean] == SHAPES
    for index, tensor in enumerate(mean):
        stack = np.stack([update[index] for update in updates]).astype(np.float64)
        assert tensor.dtype == np.float32
        np.testing.assert_allclose(tensor, np.average(stack, axis=0, weights=WEIGHTS), rtol=1e-7)
    whole = aggregate(spool(tmp_path, updates), "float32", SHAPES, rules.mean)
    assert all(a.tobytes() == b.tobytes() for a, b in zip(mean, whole, strict=True))


@pytest.mark.parametrize(
    ("count", "share", "cut"), [(5, 0.2, 1), (10, 0.3, 3), (10, 0.1, 1), (9, 0.1, 0), (7, 0.49, 3)]
)
def test_the_trimmed_mean_leaves_out_the_ends_of_every_coordinate(
    tmp_path: Path, count: int, share: float, cut: int
) -> None:
    updates = random_updates(count)
    found = aggregate(spool(tmp_path, updates), "float32", SHAPES, rules.trimmed_mean(share), 640)
    for index, tensor in enumerate(found):
        order = np.sort(np.stack([update[index] for update in updates]).astype(np.float64), axis=0)
        np.testing.assert_allclose(tensor, order[cut : count - cut].mean(axis=0), rtol=0, atol=1e-6)


@pytest.mark.parametrize("count", [1, 2, 5, 6])
def test_the_median_is_numpys(tmp_path: Path, count: int) -> None:
    updates = random_updates(count)
    found = aggregate(spool(tmp_path, updates), "float32", SHAPES, rules.median, 640)
    for index, tensor in enumerate(found):
        wanted = np.median(np.stack([update[index] for update in updates]).astype(np.float64), axis=0)
        np.testing.assert_allclose(tensor, wanted, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("rule", "held"), [(rules.median, True), (rules.trimmed_mean(0.2), True), (rules.mean, False)]
)
def test_one_of_five_liars_moves_the_mean_alone(tmp_path: Path, rule: Rule, held: bool) -> None:
    updates = random_updates(5)
    updates[2] = [array * 1e6 for array in updates[2]]
    found = aggregate(spool(tmp_path, updates), "float32", SHAPES, rule)
    largest = max(float(np.abs(update[0]).max()) for index, update in enumerate(updates) if index != 2)
    assert (float(np.abs(found[0]).max()) <= largest) == held


@pytest.mark.parametrize(("kind", "error"), [("float16", 2e-3), ("int8", 2e-2)])
def test_uploads_of_fewer_bytes_have_nearly_the_same_mean(tmp_path: Path, kind: str, error: float) -> None:
    updates = random_updates(5)
    exact = aggregate(spool(tmp_path, updates), "float32", SHAPES, rules.mean)
    coarse = aggregate(spool(tmp_path, updates, kind), kind, SHAPES, rules.mean, 640)
    for a, b in zip(exact, coarse, strict=True):
        assert a.size == 0 or np.abs(a - b).max() < error


def test_one_update_comes_back_bit_for_bit(tmp_path: Path) -> None:
    path = tmp_path / "update"
    update = np.array([1e-30, 3.14159274, -7.0], np.float32)
    path.write_bytes(uploads.encode([update], "float32"))
    assert aggregate([(path, 3)], "float32", [(3,)], rules.mean)[0].tobytes() == update.tobytes()


def test_what_has_no_aggregate(tmp_path: Path) -> None:
    one, two = spool(tmp_path, random_updates(2))
    for nothing in ([], [(one[0], 0)]):
        with pytest.raises(ValueError, match="at least one update"):
            aggregate(nothing, "float32", SHAPES, rules.mean)
    with pytest.raises(FormatError, match="shape"):
        aggregate([one, two], "float32", [(3, 70), *SHAPES[1:]], rules.mean)
    with pytest.raises(FormatError, match="'F32', the job wants I8"):
        aggregate([one, two], "int8", SHAPES, rules.mean)
