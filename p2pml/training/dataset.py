"""Datasets for jobs: arrays out of an `.npz` file, or out of one inside an uncompressed tar, which is read in
place.

Both may come from strangers. Nothing is unpickled, nothing is extracted to disk, and no array is read before
its header has agreed with the archive's directory about its size.
"""

from __future__ import annotations

import io
import math
import tarfile
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from p2pml.formats import FormatError
from p2pml.formats.shards import Shard

MAX_BYTES = 4 << 30
"""The most bytes that the arrays of one dataset may have in memory, 4 GiB."""

MAX_RATIO = 250
"""Arrays over 64 MiB may not have been compressed more than so many times; MNIST is compressed 5 times."""

MAX_ENTRIES = 64
MAX_MEMBERS = 10_000
_RATIO_FROM = 64 << 20
# What zipfile, zlib and NumPy's header parser raise on hostile bytes.
_UNREADABLE = (
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
    zlib.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
    OSError,  # a directory that points before the start of the file
    KeyError,
    ValueError,
    SyntaxError,
    OverflowError,
    MemoryError,
    tokenize.TokenError,
)
_NAMES = (("x_train", "y_train"), ("x", "y"))


class DatasetError(FormatError):
    """A dataset that cannot be used; the message names the file and what it lacks."""


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """Samples to train on, and to evaluate on where the data has its own test set.

    Args:
        train: at least one sample; labels are 0 … classes − 1.
        test: of the same sample shape and scale.
    """

    train: Shard
    test: Shard | None

    @property
    def classes(self) -> int:
        """How many labels there are: the largest one plus one, but at least two."""
        tops = [int(part.y.max()) for part in (self.train, self.test) if part is not None and len(part)]
        return max(2, max(tops) + 1)

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """The shape of one sample."""
        return self.train.sample_shape


def digits_path() -> Path:
    """The bundled digits, 8 × 8 pixels; see `p2pml/data/README.md` for where they come from."""
    return Path(__file__).resolve().parent.parent / "data" / "digits.npz"


def load(path: Path, member: str | None = None, max_bytes: int = MAX_BYTES) -> Dataset:
    """Load a dataset.

    Args:
        path: an `.npz` with `x_train`, `y_train` and perhaps `x_test`, `y_test` (or `x`, `y`), or a tar with
            one in it. A `scale` array of one value says what factor leads from stored to model values;
            without it bytes are scaled by 1/255 and everything else by 1.
        member: which file of the tar; needed when it holds several `.npz`.
        max_bytes: the most bytes the arrays may take in memory.

    Raises:
        DatasetError: not such a file, too large, or arrays that do not fit each other.
        OSError: the file cannot be read.
    """
    with open(path, "rb") as source:
        if zipfile.is_zipfile(source) and source.seek(0) == 0 and source.read(2) == b"PK":
            if member is not None:
                raise DatasetError(f"{path.name} is an npz, not a tar: it has no member {member!r}")
            return _load_npz(source, path.name, max_bytes)
    with _tar_member(path, member) as (inner, name):
        return _load_npz(inner, f"{path.name}:{name}", max_bytes)


def members(path: Path) -> list[str]:
    """The names of the `.npz` files in a tar, in its order.

    Raises:
        DatasetError: not an uncompressed tar.
        OSError: the file cannot be read.
    """
    return [info.name for info in _npz_members(path)]


def hold_out(dataset: Dataset, fraction: float, seed: int) -> tuple[Shard, Shard]:
    """What is trained on and what the requester keeps to evaluate.

    Args:
        dataset: with a test set of its own, that is what is kept, and all of `train` is trained on.
        fraction: otherwise the share of `train` to keep, 0 < fraction < 1.
        seed: of which samples are kept.

    Raises:
        DatasetError: too few samples for that.
    """
    if dataset.test is not None and len(dataset.test):
        return dataset.train, dataset.test
    count = len(dataset.train)
    kept = max(1, round(count * fraction))
    if kept >= count:
        raise DatasetError(f"{count} samples cannot be divided into training and validation ({fraction})")
    order = np.random.Generator(np.random.PCG64([seed, 0x7661])).permutation(count)
    # Sorted, so that the samples that stay keep the data's own order.
    return dataset.train.take(np.sort(order[kept:])), dataset.train.take(np.sort(order[:kept]))


def _load_npz(source: IO[bytes], name: str, max_bytes: int) -> Dataset:
    try:
        with zipfile.ZipFile(source) as archive:
            entries = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            _check_archive(archive.infolist(), name, max_bytes)
            x_name, y_name = _names(entries, name)
            wanted = [x_name, y_name, "x_test", "y_test", "scale"]
            arrays = {key: _array(archive, entries[key], name) for key in wanted if key in entries}
    except DatasetError:
        raise
    except _UNREADABLE as error:
        raise DatasetError(f"{name} is not a readable npz: {error}") from error
    scale = _scale(arrays.get("scale"), name)
    train = _shard(arrays[x_name], arrays[y_name], scale, f"{name}: {x_name}, {y_name}")
    if not len(train):
        raise DatasetError(f"{name} holds no samples")
    if ("x_test" in arrays) != ("y_test" in arrays):
        raise DatasetError(f"{name} holds only one of x_test and y_test")
    if "x_test" not in arrays:
        return Dataset(train, None)
    test = _shard(arrays["x_test"], arrays["y_test"], scale, f"{name}: x_test, y_test")
    if test.sample_shape != train.sample_shape or test.x.dtype != train.x.dtype:
        raise DatasetError(f"{name}: x_test {test.x.shape} is of another kind than {x_name} {train.x.shape}")
    return Dataset(train, test)


def _check_archive(infos: list[zipfile.ZipInfo], name: str, max_bytes: int) -> None:
    if len(infos) > MAX_ENTRIES:
        raise DatasetError(f"{name} holds {len(infos)} arrays, at most {MAX_ENTRIES} are allowed")
    total = sum(info.file_size for info in infos)
    if total > max_bytes:
        raise DatasetError(f"{name} would take {total} bytes in memory, at most {max_bytes} are allowed")
    for info in infos:
        if info.file_size > max(_RATIO_FROM, MAX_RATIO * info.compress_size):
            raise DatasetError(f"{name}: {info.filename} is compressed over {MAX_RATIO} times")


def _names(entries: dict[str, zipfile.ZipInfo], name: str) -> tuple[str, str]:
    for pair in _NAMES:
        if all(key in entries for key in pair):
            return pair
    found = ", ".join(sorted(entries)[:10]) or "nothing"
    raise DatasetError(f"{name} needs arrays x_train and y_train (or x and y); it holds {found}")


def _array(archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str) -> npt.NDArray[Any]:
    """One array, after its header has agreed with the archive's directory about its size."""
    where = f"{name}: {info.filename}"
    with archive.open(info) as source:
        head = io.BytesIO(source.read(min(info.file_size, 16_384)))
        version = np.lib.format.read_magic(head)  # type: ignore[no-untyped-call]
        if version not in ((1, 0), (2, 0)):
            raise DatasetError(f"{where} has npy version {version}")
        read = getattr(np.lib.format, f"read_array_header_{version[0]}_0")
        shape, fortran, dtype = read(head)
        if dtype.hasobject or dtype.kind not in "buif":
            raise DatasetError(f"{where} holds {dtype}, not numbers; pickled objects are never loaded")
        size = math.prod(shape) * dtype.itemsize
        if min(shape, default=0) < 0 or size != info.file_size - head.tell():
            raise DatasetError(f"{where} claims shape {shape} but has {info.file_size - head.tell()} bytes")
        data = bytearray(head.read())
        while chunk := source.read(1 << 20):
            data += chunk
    if len(data) != size:
        raise DatasetError(f"{where} ends after {len(data)} of {size} bytes")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")


def _shard(x: npt.NDArray[Any], y: npt.NDArray[Any], scale: float | None, where: str) -> Shard:
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim != 1 or y.dtype.kind not in "iu":
        raise DatasetError(f"{where}: labels must be whole numbers [n], not {y.dtype} {y.shape} (one-hot?)")
    if x.ndim < 2:
        raise DatasetError(f"{where}: samples must be [n, …], not {x.shape}")
    if x.dtype.kind in "bui" and (not x.size or (x.min() >= 0 and x.max() <= 255)):
        values, default = x.astype(np.uint8), 1 / 255
    else:
        with np.errstate(over="ignore"):  # what overflows is refused as not finite
            values, default = x.astype(np.float32), 1.0
    try:
        return Shard(
            np.ascontiguousarray(values),
            y.astype(np.int64),
            float(np.float32(default if scale is None else scale)),
        )
    except FormatError as error:
        raise DatasetError(f"{where}: {error}") from error


def _scale(array: npt.NDArray[Any] | None, name: str) -> float | None:
    if array is None:
        return None
    if array.size != 1 or not (np.isfinite(array).all() and array.reshape(-1)[0] > 0):
        raise DatasetError(f"{name}: scale must be one positive number")
    return float(array.reshape(-1)[0])


def _npz_members(path: Path) -> list[tarfile.TarInfo]:
    found = []
    try:
        # "r:" reads plain tars only: a compressed one would have to be unpacked to reach its members.
        with tarfile.open(path, "r:") as archive:
            for count, info in enumerate(archive):
                if count >= MAX_MEMBERS:
                    raise DatasetError(f"{path.name} holds more than {MAX_MEMBERS} members")
                if info.isreg() and not info.issparse() and info.name.endswith(".npz"):
                    found.append(info)
    except (tarfile.TarError, ValueError, OverflowError) as error:
        if isinstance(error, DatasetError):
            raise
        raise DatasetError(f"{path.name} is neither an npz nor an uncompressed tar: {error}") from error
    return found


@contextmanager
def _tar_member(path: Path, member: str | None) -> Iterator[tuple[IO[bytes], str]]:
    """The byte range of one member, as a file."""
    candidates = _npz_members(path)
    names = ", ".join(info.name for info in candidates[:10]) or "none"
    chosen = [info for info in candidates if member is None or info.name == member]
    if not chosen:
        raise DatasetError(
            f"{path.name} has no npz member{f' {member!r}' if member else ''}; it holds: {names}"
        )
    if len(chosen) > 1:
        raise DatasetError(f"{path.name} holds several npz files, name one as member: {names}")
    with tarfile.open(path, "r:") as archive:
        inner = archive.extractfile(chosen[0])
        if inner is None:
            raise DatasetError(f"{path.name}: {chosen[0].name} is not a file")
        yield inner, chosen[0].name
