"""The readers of datasets: each takes what it should, says what is wrong with the rest, keeps its bounds."""

from __future__ import annotations

import gzip
import io
import random
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from p2pml.training import dataset
from p2pml.training.dataset import Dataset, DatasetError, Reading
from p2pml.training.datasets import base, sources, tfrecord
from p2pml.training.datasets.crc32c import crc32c
from tests.training.test_dataset import make_tar

PIXELS = np.arange(6 * 4 * 3, dtype=np.uint8).reshape(6, 4, 3)
LABELS = np.array([0, 1, 2, 0, 1, 2], np.uint8)


def idx(x: np.ndarray, kind: int = 8) -> bytes:
    return bytes((0, 0, kind, x.ndim)) + struct.pack(f">{x.ndim}I", *x.shape) + x.tobytes()


def png(pixels: np.ndarray, form: str = "PNG") -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, form)
    return out.getvalue()


def record(data: bytes) -> bytes:
    head = struct.pack("<Q", len(data))
    crc = [struct.pack("<I", tfrecord._masked(crc32c(part))) for part in (head, data)]
    return head + crc[0] + data + crc[1]


def example(**features: bytes | int | list[float]) -> bytes:
    message = tfrecord._example_class()()
    for name, value in features.items():
        feature = message.features.feature[name]  # type: ignore[attr-defined]
        if isinstance(value, bytes):
            feature.bytes_list.value.append(value)
        elif isinstance(value, int):
            feature.int64_list.value.append(value)
        else:
            feature.float_list.value.extend(value)
    return message.SerializeToString()


def idx_files() -> dict[str, bytes]:
    return {
        "train-images-idx3-ubyte": idx(PIXELS),
        "train-labels-idx1-ubyte.gz": gzip.compress(idx(LABELS)),
        "t10k-images-idx3-ubyte.gz": gzip.compress(idx(PIXELS[:2])),
        "t10k-labels-idx1-ubyte": idx(LABELS[:2]),
    }


def csv_file() -> dict[str, bytes]:
    rows = [f"{label},{','.join(map(str, p.ravel()))}" for p, label in zip(PIXELS, LABELS, strict=True)]
    return {"d.csv": ("label," + ",".join(f"p{i}" for i in range(12)) + "\n" + "\n".join(rows)).encode()}


def image_files() -> dict[str, bytes]:
    found = {f"set/train/{'abc'[k]}/{i}.png": png(PIXELS[i]) for i, k in enumerate(LABELS)}
    return {**found, "set/test/b/9.png": png(PIXELS[1]), "set/README.txt": b"about"}


def tf_file() -> dict[str, bytes]:
    examples = [example(image=p.tobytes(), label=int(k)) for p, k in zip(PIXELS, LABELS, strict=True)]
    return {"d.tfrecord": b"".join(record(each) for each in examples)}


FORMS: dict[str, tuple[Callable[[], dict[str, bytes]], Reading]] = {
    "idx": (idx_files, Reading()),
    "csv": (csv_file, Reading(shape=(4, 3))),
    "images": (image_files, Reading()),
    "tfrecord": (tf_file, Reading(shape=(4, 3))),
}


def lay(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def load(
    folder: Path, files: dict[str, bytes], reading: Reading | None = None, most: int = 1 << 20
) -> Dataset:
    return dataset.load(make_tar(folder / "t.tar", files), reading, most)


def refused(
    folder: Path, files: dict[str, bytes], reading: Reading | None = None, most: int = 1 << 20
) -> str:
    with pytest.raises(DatasetError) as caught:
        load(folder, files, reading, most)
    return f"{caught.value} | {caught.value.fix}"


@pytest.mark.parametrize("form", FORMS)
def test_each_form_gives_the_same_samples_from_a_tar_and_a_folder(tmp_path: Path, form: str) -> None:
    files, reading = FORMS[form][0](), FORMS[form][1]
    before = set(tmp_path.iterdir())
    for loaded in (load(tmp_path, files, reading), dataset.load(lay(tmp_path / "f", files), reading)):
        order = np.argsort(loaded.train.x.reshape(6, -1)[:, 0], kind="stable")
        assert loaded.train.x[order].tolist() == PIXELS.tolist()
        assert loaded.train.y[order].tolist() == LABELS.tolist()
        assert (loaded.train.x.dtype, loaded.train.scale) == (np.uint8, float(np.float32(1 / 255)))
        assert loaded.classes == 3
    tests = {"idx": [0, 1], "images": [1]}.get(form)
    assert (loaded.test.y.tolist() if loaded.test else None) == tests
    assert {path.name for path in set(tmp_path.iterdir()) - before} == {"t.tar", "f"}  # nothing is unpacked
    scaled = load(tmp_path, files, Reading(shape=reading.shape, scale=0.5)).train
    assert scaled.scale == 0.5


@pytest.mark.parametrize("form", FORMS)
def test_each_form_keeps_the_bound_of_memory(tmp_path: Path, form: str) -> None:
    files, reading = FORMS[form][0](), FORMS[form][1]
    assert "bytes in memory, at most 40" in refused(tmp_path, files, reading, 40).replace("most 0", "most 40")


@pytest.mark.parametrize("form", FORMS)
def test_damaged_files_give_our_error_or_samples(tmp_path: Path, form: str) -> None:
    files, reading = FORMS[form][0](), FORMS[form][1]
    rng = random.Random(form)
    refusals = 0
    for _ in range(60):
        name = rng.choice(list(files))
        data = bytearray(files[name])
        for _ in range(rng.randint(1, 4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        if rng.random() < 0.3:
            del data[rng.randrange(len(data)) :]
        try:
            load(tmp_path, {**files, name: bytes(data)}, reading)
        except DatasetError:
            refusals += 1
    assert refusals > 5


def test_idx_files_that_lie(tmp_path: Path) -> None:
    labels = {"train-labels-idx1-ubyte": idx(LABELS)}

    def images_of(data: bytes, name: str = "train-images-idx3-ubyte") -> str:
        return refused(tmp_path, {**labels, name: data})

    good = idx(PIXELS)
    assert "not an IDX file" in images_of(b"\x01" + good[1:])
    assert "has not the 72 bytes" in images_of(good[:-1])
    assert "has not the 72 bytes" in images_of(good + b"x")
    assert "has 9 dimensions" in images_of(b"\0\0\x08\x09" + bytes(36))
    assert "bytes in memory" in images_of(b"\0\0\x08\x03" + b"\xff" * 12)
    assert "is damaged" in images_of(gzip.compress(good)[:-6], "train-images-idx3-ubyte.gz")
    assert "two files" in refused(tmp_path, labels)
    assert "not samples" in refused(tmp_path, {**labels, "a-ubyte": idx(LABELS)})
    assert "labels must be int64" in refused(tmp_path, {**labels, "a-ubyte": idx(PIXELS[:5])})


@pytest.mark.parametrize(
    ("kind", "dtype", "size"), [(8, "u1", 1), (9, "i1", 4), (11, ">i2", 4), (14, ">f8", 8)]
)
def test_the_bound_of_idx_files_is_of_what_they_become(
    tmp_path: Path, kind: int, dtype: str, size: int
) -> None:
    files = {"x-ubyte": idx(PIXELS.astype(dtype), kind), "y-ubyte": idx(LABELS)}
    whole = PIXELS.size * size + len(LABELS) * 8
    assert len(load(tmp_path, files, None, whole).train) == 6
    assert "bytes in memory" in refused(tmp_path, files, None, whole - 1)


def test_a_gzip_bomb_is_refused_by_its_header(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "RATIO_FROM", 1000)
    bomb = gzip.compress(idx(np.zeros((1, 1000, 1000), np.uint8)))
    files = {"x-ubyte.gz": bomb, "y-ubyte": idx(LABELS[:1])}
    assert "claims 1000000 bytes of values" in refused(tmp_path, files, None, 1 << 30)


def test_crc32c_has_the_published_values() -> None:
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA  # RFC 3720, B.4
    assert crc32c(bytes(range(32))) == 0x46DD794E

    def bit_by_bit(data: bytes) -> int:
        state = 0xFFFFFFFF
        for byte in data:
            state ^= byte
            for _ in range(8):
                state = state >> 1 ^ (0x82F63B78 if state & 1 else 0)
        return state ^ 0xFFFFFFFF

    for size in (0, 1, 255, 256, 257, 1000):
        data = random.Random(size).randbytes(size)
        assert crc32c(data) == bit_by_bit(data)


def test_tfrecords_that_cannot_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = record(example(image=b"abcd", label=1))

    def why(data: bytes, **reading: str) -> str:
        return refused(tmp_path, {"d.tfrecord": data}, Reading(**reading))  # type: ignore[arg-type]

    assert "no samples" in why(b"")
    assert "record 1 is cut off" in why(good + good[:5])
    assert "record 0 is cut off" in why(good[:-1])
    assert "record 0 is damaged, or this is no TFRecord" in why(b"\x01" + good[1:])
    assert "record 0 is damaged" in why(good[:-5] + b"\0" + good[-4:])
    assert "no tf.train.Example" in why(record(b"\xff\xff"))
    assert "none of the features" in why(record(example(picture=b"abcd", label=1)))
    assert "it has: image, label | set data.sample" in why(good, sample="picture")
    assert "not one whole number" in why(record(example(image=b"a", label=b"x")))
    assert "neither numbers" in why(record(example(image=[], label=1)))
    assert "uint8 [2], the first one uint8 [4]" in why(good + record(example(image=b"ab", label=1)))
    monkeypatch.setattr(tfrecord, "MAX_RECORD", 10)
    assert "at most 10 are allowed" in why(good)


def test_tfrecords_of_images_and_of_floats(tmp_path: Path) -> None:
    encoded = record(example(image=png(PIXELS[0]), label=3))
    loaded = load(tmp_path, {"d.tfrecord": encoded}).train
    assert (loaded.x[0].tolist(), loaded.y.tolist()) == (PIXELS[0].tolist(), [3])
    floats = load(tmp_path, {"d.tfrecord-00000-of-00001": record(example(x=[0.5, -1.0], y=0))}).train
    assert floats.x.tolist() == [[0.5, -1.0]]


def test_text_is_windows_and_the_byte_that_follows(tmp_path: Path) -> None:
    data = bytes(range(100))
    loaded = load(tmp_path, {"d.txt": data}, Reading(shape=(4,)))
    assert loaded.test is not None
    assert (loaded.train.scale, loaded.sample_shape, loaded.classes) == (1.0, (4,), 98)
    for part, begin, end in ((loaded.train, 0, 90), (loaded.test, 90, 100)):
        assert part.y.tolist() == list(range(begin + 4, end, 3))
        assert part.x.tolist() == [list(range(label - 4, label)) for label in part.y.tolist()]
    assert "too short" in refused(tmp_path, {"d.txt": b"abcdefg"})
    assert "one dimension" in refused(tmp_path, {"d.txt": data}, Reading(shape=(4, 4)))
    assert "bytes in memory" in refused(tmp_path, {"d.txt": data}, None, 10)


def test_what_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "holds no data that can be read: a.bin | use an .npz file" in refused(tmp_path, {"a.bin": b"x"})
    assert "holds no files of the format csv" in refused(
        tmp_path, {"a.npz": b"", "b.npz": b""}, Reading(format="csv")
    )
    assert load(tmp_path, {"odd.dat": b"label,a\n1,0.5\n"}, Reading(format="csv")).train.y.tolist() == [1]
    monkeypatch.setattr(sources, "MAX_FILES", 2)
    assert "more than 2 files | pack them" in refused(tmp_path, idx_files())


def test_a_folder_is_read_without_its_links_and_hidden_files(tmp_path: Path) -> None:
    secret = tmp_path / "secret.csv"
    secret.write_bytes(b"label,a\n1,0.5\n")
    folder = lay(tmp_path / "f", {"a.csv": b"label,a\n0,0.25\n", ".b.csv": b"label,a\n2,0.5\n"})
    (folder / "c.csv").symlink_to(secret)
    (folder / "linked").symlink_to(tmp_path)
    assert dataset.load(folder).train.y.tolist() == [0]


def test_a_tar_of_a_folder_from_within_is_as_the_folder(tmp_path: Path) -> None:
    """`tar -cf t.tar .`, with what macOS puts beside each file."""
    files = {"d/train/a.csv": b"label,a\n0,0.25\n", "d/b.csv": b"label,a\n1,0.5\n"}
    hidden = {"d/train/._a.csv": b"\0\5\x16\7", "d/.cache/c.csv": b"label,a\n2,1\n"}
    folder = lay(tmp_path / "f", {**files, **hidden})
    with tarfile.open(tmp_path / "t.tar", "w:") as archive:
        archive.add(folder, ".")
        assert "./d/train/._a.csv" in archive.getnames()
    for path in (folder, tmp_path / "t.tar"):
        assert dataset.load(path).counts == (("d/b.csv", 1), ("d/train/a.csv", 1))
        for member in ("d/train", "./d/train/", "d/train/a.csv", "./d/train/a.csv"):
            assert dataset.load(path, Reading(member=member)).counts == (("d/train/a.csv", 1),)
        assert len(dataset.load(path, Reading(member=".")).counts) == 2


def test_a_member_of_a_tar_never_leads_out_of_it(tmp_path: Path) -> None:
    tar = make_tar(
        tmp_path / "t.tar", {"../../d.csv": b"label,a\n0,0.25\n", "/etc/d.csv": b"label,a\n0,0.5\n"}
    )
    before = sorted(tmp_path.parent.iterdir())
    assert dataset.load(tar).train.x.tolist() == [[0.25], [0.5]]  # names only: their bytes are the tar's
    assert sorted(tmp_path.parent.iterdir()) == before
