"""Data of owners that do not see each other's: the same number means the same, whoever reads it."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest

from p2pml.formats.shards import Shard
from p2pml.node.job_prepare import load_data
from p2pml.training.dataset import Reading
from p2pml.training.spec import parse_spec
from tests.training.test_dataset_formats import FORMS, idx, lay, load, png

BYTE = float(np.float32(1 / 255))


def npz(x: np.ndarray, **arrays: np.ndarray) -> dict[str, bytes]:
    out = io.BytesIO()
    np.savez(out, x=x, y=np.arange(len(x)), **arrays)
    return {"d.npz": out.getvalue()}


def forms(values: np.ndarray) -> dict[str, dict[str, bytes]]:
    """Numbers that are not stored as bytes, in the forms that can have such."""
    rows = [f"{label},{','.join(map(str, row))}" for label, row in enumerate(values.tolist())]
    labels = np.arange(len(values), dtype=np.uint8)
    return {
        "csv": {"d.csv": ("label,a,b\n" + "\n".join(rows)).encode()},
        "idx": {"x-ubyte": idx(values.astype(">i4"), 0x0C), "y-ubyte": idx(labels)},
        "npz": npz(values),
    }


def seen(shard: Shard) -> list[list[float]]:
    """What a model sees."""
    return (shard.x.astype(np.float32) * np.float32(shard.scale)).tolist()  # type: ignore[no-any-return]


@pytest.mark.parametrize("form", ["csv", "idx", "npz"])
@pytest.mark.parametrize("top", [255, 260])
def test_the_form_says_the_scale_and_not_the_values(tmp_path: Path, form: str, top: int) -> None:
    """One owner has 255 as its largest value, another 260."""
    files = forms(np.array([[0, 1], [7, top]]))[form]
    assert seen(load(tmp_path, files, Reading().apart()).train) == [[0, 1], [7, top]]
    assert load(tmp_path, files, Reading(scale=0.5).apart()).train.scale == 0.5
    alone = load(tmp_path, files).train  # who has all of the data leaves it to the values
    assert alone.scale == (BYTE if top == 255 else 1)


@pytest.mark.parametrize("form", ["idx", "tfrecord"])
def test_what_is_stored_as_bytes_is_scaled_as_ever(tmp_path: Path, form: str) -> None:
    files, reading = FORMS[form][0](), FORMS[form][1]
    for each in (reading, reading.apart()):
        loaded = load(tmp_path, files, each).train
        assert (loaded.x.dtype, loaded.scale) == (np.uint8, BYTE)
    assert load(tmp_path, npz(np.full((2, 3), 9, np.uint8)), Reading().apart()).train.scale == BYTE
    assert load(tmp_path, npz(np.full((2, 3), 0.5, np.float32)), Reading().apart()).train.scale == 1


def test_what_the_data_itself_says_of_its_scale_holds(tmp_path: Path) -> None:
    files = npz(np.array([[1, 2], [3, 4]]), scale=np.float32(0.25))
    assert load(tmp_path, files, Reading().apart()).train.scale == 0.25


def test_folders_are_the_labels_that_they_name(tmp_path: Path) -> None:
    """As strings, 10 comes before 2; and without a folder 0, 5 would be the fourth."""
    files = {f"{label}/a.png": png(np.full((2, 2), label, np.uint8)) for label in (1, 2, 5, 10)}
    loaded = load(tmp_path, files, Reading().apart())
    assert sorted(zip(loaded.train.y.tolist(), loaded.train.x[:, 0, 0].tolist(), strict=True)) == [
        (label, label) for label in (1, 2, 5, 10)
    ]
    assert (loaded.train.scale, loaded.classes) == (BYTE, 11)


@pytest.mark.parametrize("kind", ["by_owner", "by_seed, samples: 9"])
def test_the_requester_of_owners_reads_as_they_do(tmp_path: Path, kind: str) -> None:
    spec = parse_spec(
        "version: 1\nname: wards\nmodel: {builder: softmax}\n"
        f"data: {{train: wards, validation: {{path: own}}, partition: {{kind: {kind}}}}}\n"
    )
    files = {f"{label}/a.png": png(np.full((2, 2), label, np.uint8)) for label in range(1, 12)}
    images = load_data(spec, lay(tmp_path / "images", files)).train
    table = load_data(spec, lay(tmp_path / "table", forms(np.array([[0, 1], [7, 9]]))["csv"])).train
    if kind == "by_owner":
        assert images.y.tolist() == images.x[:, 0, 0].tolist()
        assert seen(table) == [[0, 1], [7, 9]]
    else:  # everybody reads the same public data, and has all of it
        assert sorted(images.y.tolist()) == list(range(11))
        assert table.scale == BYTE
