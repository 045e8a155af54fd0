"""`by_file`: each file, or each folder, is one client, in every form of data that has files to divide by."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from p2pml.training import by_file, dataset
from p2pml.training.dataset import Dataset, Reading
from p2pml.training.partition import PartitionError
from tests.training.test_dataset import make_tar
from tests.training.test_dataset_formats import LABELS, PIXELS, example, lay, png, record


def csv_of(rows: range) -> bytes:
    return "".join(["label,a,b\n", *(f"{row % 3},{row},{row + 0.5}\n" for row in rows)]).encode()


def divided(data: Dataset, fraction: float = 0.1) -> dict[str, list[int]]:
    """The first value of each sample that a client trains on."""
    rows = dataset.training_rows(data, fraction, 1)
    train, _ = dataset.hold_out(data, fraction, 1)
    found = zip(by_file.names(data.counts), by_file.parts(data.counts, rows), strict=True)
    return {name: train.x[part].reshape(len(part), -1)[:, 0].astype(int).tolist() for name, part in found}


CSVS = {"d/a.csv": csv_of(range(5)), "d/b.csv": csv_of(range(10, 12)), "d/test.csv": csv_of(range(90, 95))}


def test_each_file_is_one_client(tmp_path: Path) -> None:
    expected = {"a.csv": [0, 1, 2, 3, 4], "b.csv": [10, 11]}
    assert divided(dataset.load(lay(tmp_path / "f", CSVS))) == expected
    assert divided(dataset.load(make_tar(tmp_path / "t.tar", CSVS))) == expected


def test_each_top_folder_is_one_client(tmp_path: Path) -> None:
    files = {f"{name}/{part}.csv": csv_of(range(at, at + 2)) for name, part, at in
             (("bob", "2", 20), ("ann", "1", 0), ("ann", "2", 10))}  # fmt: skip
    files["test/x.csv"] = csv_of(range(90, 95))
    expected = {"ann": [0, 1, 10, 11], "bob": [20, 21]}
    assert divided(dataset.load(lay(tmp_path / "f", files))) == expected
    from_within = {f"./{name}": data for name, data in files.items()}  # tar -cf t.tar .
    assert divided(dataset.load(make_tar(tmp_path / "t.tar", from_within))) == expected


def test_images_in_their_owners_folders(tmp_path: Path) -> None:
    files = {
        f"train/{'ann' if i < 4 else 'bob'}/{'abc'[k]}/{i}.png": png(PIXELS[i]) for i, k in enumerate(LABELS)
    }
    files["test/cy/b/9.png"] = png(PIXELS[1])  # the test set, though two folders up
    data = dataset.load(lay(tmp_path / "f", files))
    assert data.test is not None
    assert len(data.test) == 1
    found = divided(data)
    firsts = PIXELS[:, 0, 0].tolist()
    assert {name: sorted(rows) for name, rows in found.items()} == {"ann": firsts[:4], "bob": firsts[4:]}


def test_texts_are_clients_as_leaf_has_it(tmp_path: Path) -> None:
    files = {"plays/hamlet.txt": bytes(range(40, 100)) * 4, "plays/lear.txt": bytes(range(100, 160)) * 3}
    data = dataset.load(lay(tmp_path / "f", files), Reading(shape=(20,)))
    # The last tenth of each text is kept; the windows of the rest start at every third byte.
    assert dict(data.counts) == {
        "plays/hamlet.txt": (216 - 20 + 2) // 3,
        "plays/lear.txt": (162 - 20 + 2) // 3,
    }
    assert sum(samples for _, samples in data.counts) == len(data.train)
    found = divided(data)
    assert all(40 <= value < 100 for value in found["hamlet.txt"])
    assert all(100 <= value < 160 for value in found["lear.txt"])


def test_records_and_a_share_that_is_kept(tmp_path: Path) -> None:
    """Without a test set some of everybody's samples stay with the requester."""

    def records(at: int, count: int) -> bytes:
        return b"".join(record(example(x=[float(at + i), 1.0], label=i % 2)) for i in range(count))

    files = {"a.tfrecord": records(0, 30), "b.tfrecord": records(100, 10)}
    data = dataset.load(lay(tmp_path / "f", files))
    found = divided(data, 0.25)
    assert sum(map(len, found.values())) == 30
    assert set(found["a.tfrecord"]) < set(range(30))
    assert set(found["b.tfrecord"]) < set(range(100, 110))


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"a.csv": csv_of(range(4))}, "at least two files, or folders, .*; all of it lies in a.csv"),
        ({"d/x/a.csv": csv_of(range(4)), "d/test.csv": csv_of(range(4))}, "all of it lies in a.csv"),
        ({"a.csv": csv_of(range(4)), "b.csv": b"label,a,b\n"}, "b.csv has no sample to train on"),
        ({f"{i}.csv": csv_of(range(1)) for i in range(1025)}, "a client of each of 1025 files"),
    ],
)  # fmt: skip
def test_what_cannot_be_divided(files: dict[str, bytes], words: str, tmp_path: Path) -> None:
    data = dataset.load(lay(tmp_path / "f", files))
    with pytest.raises(PartitionError, match=words):
        by_file.parts(data.counts, np.arange(len(data.train)))


def test_an_npz_is_one_file(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=np.zeros((4, 2), np.uint8), y=np.arange(4))
    with pytest.raises(PartitionError, match="an npz, or a pair of IDX files, is one"):
        by_file.names(dataset.load(tmp_path / "d.npz").counts)
