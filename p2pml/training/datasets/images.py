"""Images in folders that are named after their classes: `rose/1.jpg`, or `train/rose/1.jpg` and
`test/rose/7.jpg`.

Pillow decodes them. What an image's header claims is compared with the bounds before any of it is decoded.
"""

from __future__ import annotations

import math
import struct
import warnings
import zlib
from collections.abc import Sequence
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from p2pml.formats.shards import MAX_CLASSES, Shard
from p2pml.training.datasets import base
from p2pml.training.datasets.base import Dataset, DatasetError, Reading, make_shard, train_and_test
from p2pml.training.datasets.sources import Entry

if TYPE_CHECKING:
    from PIL import Image

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".pgm", ".ppm")
FORMATS = ("PNG", "JPEG", "BMP", "PPM")
MAX_PIXELS = 64_000_000
"""Of one image."""

MAX_FILE = 64 << 20
"""Bytes of one image's file."""

# What Pillow's decoders raise on damaged files: UnidentifiedImageError is an OSError.
_UNREADABLE = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    OverflowError,
    AttributeError,
    struct.error,
    zlib.error,
    RuntimeError,
)


def load(files: Sequence[Entry], reading: Reading, max_bytes: int) -> Dataset:
    """Images of one size and kind, grey or in colour; or resized to the shape that the job names.

    The classes are the folders' names in their order. Samples are [rows, columns] when grey, or as the job
    says [rows, columns, 1], else [rows, columns, 3]; transparency is left out, and of 16 bits a pixel the
    lower 8.

    Raises:
        DatasetError: an image that cannot be decoded or is of another size than the first, too large, or no
            folder to name the class.
        OSError: a file cannot be read.
    """
    train, test = train_and_test(files, _split_name)
    classes = base.numbered(map(_class, train), reading, files[0].whole)
    if not (1 if reading.numbers else 2) <= len(classes) <= MAX_CLASSES:
        raise DatasetError(
            f"{files[0].whole}: images lie in {len(classes)} folders, not in 2 to {MAX_CLASSES}",
            "make a folder for each class",
        )
    shape = _shape(reading.shape, train[0])
    base.check_size(len(files) * math.prod(shape), max_bytes, files[0].whole)
    parts = [_decode(part, classes, shape, reading) for part in (train, test)]
    return Dataset(parts[0], parts[1] if test else None, tuple((entry.name, 1) for entry in train))


def decoded(source: IO[bytes], where: str, shape: tuple[int, ...] | None) -> npt.NDArray[np.uint8]:
    """One image as [rows, columns] or [rows, columns, 3]; where `shape` is given, resized to it, and with its
    channels, which may be 1.

    Raises:
        DatasetError: it cannot be decoded, has more pixels than `MAX_PIXELS`, or values of unknown range.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about odd metadata, which nobody reads
            image = _shallow(_opened(source, where), where)
            grey = shape[2:] in ((), (1,)) if shape else image.mode in ("1", "L", "LA")
            image = image.convert("L" if grey else "RGB")
            if shape and shape[0] * shape[1] > MAX_PIXELS:
                raise DatasetError(f"data.shape {list(shape)} has more than {MAX_PIXELS} pixels")
            if shape and image.size != (shape[1], shape[0]):
                image = image.resize((shape[1], shape[0]))
            pixels = np.asarray(image)
            return pixels.reshape(shape) if shape and grey else pixels
    except DatasetError:
        raise
    except _UNREADABLE as error:
        raise DatasetError(
            f"{where} cannot be decoded: {error}", "leave it out, or fetch it again"
        ) from error


def _opened(source: IO[bytes], where: str) -> Image.Image:
    try:
        from PIL import Image
    except ImportError as error:
        raise DatasetError(
            "images need Pillow, which is not installed", "install p2pml with the extra `train`"
        ) from error
    try:
        image = Image.open(source, formats=FORMATS)
    except Image.DecompressionBombError as error:  # Pillow's own bound, above ours
        raise DatasetError(f"{where} has more than {MAX_PIXELS} pixels") from error
    if image.width * image.height > MAX_PIXELS:
        raise DatasetError(f"{where} has {image.width} × {image.height} pixels, at most {MAX_PIXELS}")
    return image


def _shallow(image: Image.Image, where: str) -> Image.Image:
    """The same with 8 bits a pixel: of 16 bits the upper 8, which is what Pillow leaves of such colours. Of
    greys its own `convert` makes everything above 255 white."""
    from PIL import Image

    if image.mode == "F":
        raise DatasetError(f"{where} holds fractions", "save it with 8 or 16 bits a pixel, or use an npz")
    if not image.mode.startswith("I"):
        return image
    values = np.asarray(image)
    used = int(values.max()).bit_length()
    # A PGM says what its white is, and Pillow scales it to 65,535; in a PNG that is 65,535 by definition, but
    # many hold what a detector of 12 bits gave.
    if image.format == "PNG" and 0 < used <= 12:
        raise DatasetError(
            f"{where} has 16 bits a pixel but uses only {used} of them, of which 8 bits would keep "
            f"{max(0, used - 8)}",
            "scale its values to 0 … 65535, or use an npz, which keeps all of them",
        )
    return Image.fromarray((values >> 8).astype(np.uint8))


def _decode(
    files: Sequence[Entry], classes: dict[str, int], shape: tuple[int, ...], reading: Reading
) -> Shard:
    x = np.empty((len(files), *shape), np.uint8)
    y = np.empty(len(files), np.int64)
    for number, entry in enumerate(files):
        image = _image(entry, shape if reading.shape else None)
        if image.shape != shape:
            raise DatasetError(
                f"{entry.where} is {list(image.shape)}, the first image is {list(shape)}",
                "set data.shape to the size that all are resized to, like [32, 32, 3]",
            )
        if _class(entry) not in classes:
            raise DatasetError(f"{entry.where}: there is no class {_class(entry)!r} to train on")
        x[number], y[number] = image, classes[_class(entry)]
    return make_shard(x, y, reading.scale, files[0].whole if files else "")


def _image(entry: Entry, shape: tuple[int, ...] | None) -> npt.NDArray[np.uint8]:
    if entry.size > MAX_FILE:
        raise DatasetError(f"{entry.where} has {entry.size} bytes, at most {MAX_FILE} are allowed")
    with entry.open() as source:
        return decoded(source, entry.where, shape)


def _shape(wanted: tuple[int, ...] | None, first: Entry) -> tuple[int, ...]:
    """Of one sample: what the job says, else the first image's."""
    if wanted is None:
        found: Any = _image(first, None).shape
        return tuple(found)
    if len(wanted) not in (2, 3) or (len(wanted) == 3 and wanted[2] not in (1, 3)):
        raise DatasetError(
            f"images cannot have the shape {list(wanted)}",
            "set data.shape to [rows, columns] or [rows, columns, 1] for grey ones, or [rows, columns, 3]",
        )
    return wanted


def _class(entry: Entry) -> str:
    folder, _, _ = entry.name.rpartition("/")
    if not folder:
        raise DatasetError(
            f"{entry.where} lies in no folder, so its class is not known", "make a folder for each class"
        )
    return folder.rpartition("/")[2]


def _split_name(entry: Entry) -> str:
    """What says whether an image is one of the test set: the folders around that of its class."""
    return "/".join(entry.name.split("/")[:-2])
