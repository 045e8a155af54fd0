from __future__ import annotations

import io
import os
import random
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from p2pml.training import dataset
from p2pml.training.dataset import Dataset, DatasetError, Reading
from p2pml.training.datasets import base


def save(path: Path, **arrays: Any) -> Path:
    np.savez_compressed(path, **arrays)
    return path


def x_and_y(samples: int = 10) -> dict[str, Any]:
    return {"x": np.arange(samples * 4, dtype=np.uint8).reshape(samples, 4), "y": np.arange(samples) % 3}


def make_tar(path: Path, members: dict[str, bytes], mode: str = "w:") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def test_the_bundled_digits() -> None:
    digits = dataset.load(dataset.digits_path())
    assert digits.train.x.shape == (1497, 8, 8)
    assert digits.test is not None
    assert digits.test.x.shape == (300, 8, 8)
    assert digits.train.x.dtype == np.uint8
    assert int(digits.train.x.max()) == 16
    assert digits.train.scale == 1 / 16
    assert digits.classes == 10
    assert digits.sample_shape == (8, 8)
    # Every sample is in one part only: the two parts together are the 1,797 published ones.
    assert np.bincount(np.concatenate([digits.train.y, digits.test.y])).tolist() == [
        178, 182, 177, 183, 181, 182, 181, 179, 174, 180,
    ]  # fmt: skip


@pytest.mark.slow
def test_mnist_where_it_is() -> None:
    path = Path(os.environ.get("P2PML_MNIST", Path(__file__).parents[2] / ".." / "shared/data/mnist.npz"))
    if not path.exists():
        pytest.skip(f"MNIST is not at {path}: set P2PML_MNIST to the path of mnist.npz")
    mnist = dataset.load(path)
    assert mnist.train.x.shape == (60_000, 28, 28)
    assert mnist.test is not None
    assert len(mnist.test) == 10_000
    assert mnist.train.scale == float(np.float32(1 / 255))


@pytest.mark.parametrize(
    ("x", "kept", "scale"),
    [
        (np.full((4, 2), 255, np.int64), np.uint8, 1 / 255),
        (np.array([[True], [False]]), np.uint8, 1 / 255),
        (np.full((4, 2), 256, np.int64), np.float32, 1.0),
        (np.full((4, 2), -1, np.int16), np.float32, 1.0),
        (np.full((4, 2), 0.5, np.float64), np.float32, 1.0),
        (np.full((4, 2), 0.5, ">f4"), np.float32, 1.0),
    ],
)
def test_kinds_of_samples(tmp_path: Path, x: np.ndarray, kept: type, scale: float) -> None:
    loaded = dataset.load(save(tmp_path / "d.npz", x=x, y=np.zeros((len(x), 1), np.uint8))).train
    assert loaded.x.dtype == kept
    assert loaded.x.astype(float).tolist() == x.astype(float).tolist()
    assert loaded.scale == float(np.float32(scale))


def test_fortran_order_and_explicit_scale(tmp_path: Path) -> None:
    x = np.asfortranarray(np.arange(12, dtype=np.float32).reshape(3, 4))
    loaded = dataset.load(save(tmp_path / "d.npz", x=x, y=np.arange(3), scale=np.float32(0.5))).train
    assert loaded.x.tolist() == x.tolist()
    assert loaded.scale == 0.5


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"a": np.zeros(2)}, "needs arrays x_train and y_train .*holds a"),
        ({"x": np.zeros((2, 2))}, "needs arrays"),
        ({"x": np.zeros((2, 2)), "y": np.zeros(3, int)}, "labels must be int64"),
        ({"x": np.zeros((2, 2)), "y": np.zeros((2, 10), int)}, "one-hot"),
        ({"x": np.zeros((2, 2)), "y": np.zeros(2)}, "whole numbers"),
        ({"x": np.zeros((2, 2)), "y": np.array([0, -1])}, "labels run from"),
        ({"x": np.zeros(2), "y": np.zeros(2, int)}, "samples must be"),
        ({"x": np.zeros((0, 2)), "y": np.zeros(0, int)}, "no samples"),
        ({"x": np.full((2, 2), np.nan), "y": np.zeros(2, int)}, "not finite"),
        ({"x": np.full((2, 2), 1e300), "y": np.zeros(2, int)}, "not finite"),
        ({"x": np.array([["a"], ["b"]]), "y": np.zeros(2, int)}, "not numbers"),
        ({"x": np.zeros((2, 2), complex), "y": np.zeros(2, int)}, "not numbers"),
        ({**x_and_y(), "scale": np.array([0.0])}, "scale"),
        ({**x_and_y(), "scale": np.array([1.0, 2.0])}, "scale"),
        ({**x_and_y(), "x_test": np.zeros((1, 4))}, "only one of"),
        ({**x_and_y(), "x_test": np.zeros((1, 5), np.uint8), "y_test": np.zeros(1, int)}, "another kind"),
    ],
)
def test_arrays_that_do_not_fit_are_named(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        dataset.load(save(tmp_path / "d.npz", **arrays))


@pytest.mark.parametrize(
    ("kind", "size"),
    [("u1", 1), ("?", 1), ("i1", 4), ("i2", 4), ("u2", 4), ("f2", 4), ("f4", 4), ("i8", 8), ("f8", 8)],
)
def test_the_bound_is_of_what_arrays_become(tmp_path: Path, kind: str, size: int) -> None:
    """Samples are kept as bytes or float32, labels as int64, however few bytes they have in the file."""
    x, y = np.ones((50, 100), kind), np.zeros(50, np.uint8)
    path = save(tmp_path / "d.npz", x=x, y=y)
    whole = max(size * 5000 + 8 * 50, sum(len(_npy(array)) for array in (x, y)))
    assert len(dataset.load(path, max_bytes=whole).train) == 50
    with pytest.raises(DatasetError, match="bytes in memory, at most"):
        dataset.load(path, max_bytes=whole - 1)


class Touch:
    """Unpickling one of these would create a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_a_pickle_is_refused_and_does_not_run(tmp_path: Path) -> None:
    proof = tmp_path / "ran"
    x = np.empty(2, object)
    x[0] = Touch(proof)
    path = save(tmp_path / "d.npz", x=x, y=np.zeros(2, int))
    with pytest.raises(DatasetError, match="pickled objects are never loaded"):
        dataset.load(path)
    assert not proof.exists()


def _npy(x: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.save(out, x)
    return out.getvalue()


def test_a_zip_bomb_is_refused_by_its_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "RATIO_FROM", 4 << 20)  # a smaller bomb than the real bound needs
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("y.npy", _npy(np.zeros(1, np.int64)))
        with archive.open("x.npy", "w", force_zip64=True) as out:
            out.write(_npy(np.zeros((1, 1), np.uint8))[:-1])
            for _ in range(5):
                out.write(bytes(1 << 20))
    assert path.stat().st_size < 20_000
    with pytest.raises(DatasetError, match="compressed over 250 times"):
        dataset.load(path)
    with pytest.raises(DatasetError, match="bytes in memory, at most 1000000"):
        dataset.load(path, max_bytes=1_000_000)


def test_a_header_that_lies_about_the_size_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "lie.npz"
    honest = _npy(np.zeros((2, 2), np.uint8))
    for lie in (honest.replace(b"(2, 2)", b"(9, 9)"), honest + b"more", honest[:-1]):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("x.npy", lie)
            archive.writestr("y.npy", _npy(np.zeros(2, np.int64)))
        with pytest.raises(DatasetError, match="claims shape"):
            dataset.load(path)


def test_many_entries_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "many.npz"
    with zipfile.ZipFile(path, "w") as archive:
        for i in range(65):
            archive.writestr(f"a{i}.npy", b"")
    with pytest.raises(DatasetError, match="65 arrays"):
        dataset.load(path)


def test_damaged_files_are_refused_with_our_error(tmp_path: Path) -> None:
    good = save(tmp_path / "d.npz", **x_and_y()).read_bytes()
    tarred = make_tar(tmp_path / "t.tar", {"d.npz": good}).read_bytes()
    rng = random.Random(5)
    damaged = tmp_path / "damaged"
    for source in (good, tarred[: len(good) + 1024]):
        for _ in range(60):
            data = bytearray(source)
            for _ in range(rng.randint(1, 4)):
                data[rng.randrange(len(data))] = rng.randrange(256)
            damaged.write_bytes(bytes(data))
            try:
                loaded = dataset.load(damaged)
            except DatasetError:
                continue
            assert isinstance(loaded, Dataset)


def test_an_npz_inside_a_tar_is_read_in_place(tmp_path: Path) -> None:
    inner = save(tmp_path / "in.npz", **x_and_y()).read_bytes()
    path = make_tar(tmp_path / "t.tar", {"readme.txt": b"hello", "sub/in.npz": inner})
    before = sorted(tmp_path.iterdir())
    assert len(dataset.load(path).train) == 10
    assert len(dataset.load(path, Reading(member="sub/in.npz")).train) == 10
    assert len(dataset.load(path, Reading(member="sub")).train) == 10
    assert sorted(tmp_path.iterdir()) == before
    with pytest.raises(DatasetError, match=r"no member 'x'; it holds: .*sub/in\.npz"):
        dataset.load(path, Reading(member="x"))
    two = make_tar(tmp_path / "two.tar", {"a.npz": inner, "b.npz": inner})
    with pytest.raises(DatasetError, match="several npz files"):
        dataset.load(two)
    assert len(dataset.load(two, Reading(member="b.npz")).train) == 10


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "f"
    for data in (b"", b"hello", bytes(5000)):
        path.write_bytes(data)
        with pytest.raises(DatasetError):
            dataset.load(path)
    compressed = make_tar(tmp_path / "t.tar.gz", {"a.npz": b"x"}, "w:gz")
    with pytest.raises(DatasetError, match=r"no data that can be read: t\.tar\.gz") as caught:
        dataset.load(compressed)
    assert "uncompressed tar" in caught.value.fix
    npz = save(tmp_path / "d.npz", **x_and_y())
    with pytest.raises(DatasetError, match="no member"):
        dataset.load(npz, Reading(member="a.npz"))


def test_hold_out_takes_the_test_set_or_a_seeded_share(tmp_path: Path) -> None:
    digits = dataset.load(dataset.digits_path())
    train, kept = dataset.hold_out(digits, 0.1, 0)
    assert (train, kept) == (digits.train, digits.test)
    plain = dataset.load(save(tmp_path / "d.npz", **x_and_y(50)))
    train, kept = dataset.hold_out(plain, 0.2, 9)
    assert (len(train), len(kept)) == (40, 10)
    rows = {tuple(row) for row in train.x.tolist()} | {tuple(row) for row in kept.x.tolist()}
    assert len(rows) == 50
    again = dataset.hold_out(plain, 0.2, 9)[1]
    other = dataset.hold_out(plain, 0.2, 10)[1]
    assert again.x.tolist() == kept.x.tolist()
    assert other.x.tolist() != kept.x.tolist()
    single = dataset.load(save(tmp_path / "one.npz", **x_and_y(1)))
    with pytest.raises(DatasetError, match="cannot be divided"):
        dataset.hold_out(single, 0.5, 0)
