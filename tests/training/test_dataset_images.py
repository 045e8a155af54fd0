"""Images as samples: sizes, kinds, places, depths, and what is not decoded."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from p2pml.training.dataset import Reading
from p2pml.training.datasets import images
from tests.training.test_dataset_formats import PIXELS, example, load, png, record, refused


def test_images_of_other_sizes_kinds_and_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grey, colour = PIXELS[0], np.zeros((5, 7, 3), np.uint8)
    mixed = {"a/1.png": png(grey), "b/1.jpg": png(colour, "JPEG")}
    assert "is [5, 7], the first image is [4, 3] | set data.shape" in refused(
        tmp_path, {"a/1.png": png(grey), "b/1.png": png(colour[..., 0])}
    )
    assert load(tmp_path, mixed, Reading(shape=(8, 8, 3))).sample_shape == (8, 8, 3)
    assert load(tmp_path, mixed, Reading(shape=(8, 8))).sample_shape == (8, 8)
    assert "cannot have the shape [8]" in refused(tmp_path, mixed, Reading(shape=(8,)))
    assert "make a folder for each class" in refused(tmp_path, {"1.png": png(grey)})
    assert "in 1 folders" in refused(tmp_path, {"a/1.png": png(grey)})
    assert "no class 'c'" in refused(tmp_path, {**mixed, "s/test/c/1.png": png(grey)}, Reading(shape=(4, 3)))
    assert "cannot be decoded" in refused(tmp_path, {**mixed, "a/0.png": b"MZ"})
    gif = io.BytesIO()
    Image.fromarray(grey).save(gif, "GIF")  # a decoder that is not among those that are allowed
    assert "cannot be decoded" in refused(tmp_path, {**mixed, "a/0.png": gif.getvalue()})
    monkeypatch.setattr(images, "MAX_FILE", 10)
    assert "at most 10 are allowed" in refused(tmp_path, mixed)


def test_an_image_that_claims_more_pixels_than_it_may_is_not_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "MAX_PIXELS", 100)
    monkeypatch.setattr(Image.Image, "convert", None)  # decoding would fail otherwise than by our error
    wide = png(np.zeros((11, 10), np.uint8))
    assert "10 × 11 pixels, at most 100" in refused(tmp_path, {"a/1.png": wide, "b/1.png": wide})


DEEP = (np.arange(24, dtype=np.uint16) * 2800).reshape(6, 4)
"""A grey image of 16 bits a pixel, whose last pixels are nearly white."""


def pgm(pixels: np.ndarray, most: int) -> bytes:
    return b"P5\n%d %d\n%d\n" % (*pixels.shape[::-1], most) + pixels.astype(">u2").tobytes()


def plain_pgm(pixels: np.ndarray, most: int) -> bytes:
    return b"P2\n%d %d\n%d\n" % (*pixels.shape[::-1], most) + " ".join(map(str, pixels.flat)).encode() + b"\n"


@pytest.mark.parametrize(
    "file",
    [
        ("1.png", png(DEEP)),
        ("1.pgm", pgm(DEEP, 65535)),
        ("1.pgm", plain_pgm(DEEP, 65535)),
        ("1.pgm", pgm(DEEP >> 4, 4095)),
    ],
    ids=["png", "pgm", "plain pgm", "12 bits"],
)
def test_grey_images_of_16_bits_keep_the_upper_8(tmp_path: Path, file: tuple[str, bytes]) -> None:
    name, data = file
    files = {f"a/{name}": data, f"b/{name}": data}
    expected = (DEEP >> 8).tolist()
    loaded = load(tmp_path, files).train
    assert (loaded.x.dtype, loaded.x.tolist()) == (np.uint8, [expected] * 2)
    colour = load(tmp_path, files, Reading(shape=(6, 4, 3))).train.x
    assert [colour[0, ..., band].tolist() for band in range(3)] == [expected] * 3


def test_so_does_one_in_a_record(tmp_path: Path) -> None:
    loaded = load(tmp_path, {"d.tfrecord": record(example(image=png(DEEP), label=1))}).train
    assert loaded.x.tolist() == [(DEEP >> 8).tolist()]


def test_grey_images_whose_range_is_not_known_are_refused(tmp_path: Path) -> None:
    dark = {"a/1.png": png(DEEP), "b/1.png": png(DEEP >> 4)}  # 12 bits, written as they came
    assert "b/1.png has 16 bits a pixel but uses only 12 of them" in refused(tmp_path, dark)
    assert "scale its values to 0 … 65535" in refused(tmp_path, dark)
    black = load(tmp_path, {**dark, "b/1.png": png(DEEP * 0)}).train.x  # says nothing about its range
    assert black[1].max() == 0
    floats = b"Pf\n4 6\n-1.0\n" + (DEEP / 65535).astype("<f4").tobytes()
    assert "holds fractions | save it with 8 or 16 bits" in refused(tmp_path, {**dark, "a/1.pgm": floats})


def test_an_image_that_claims_more_pixels_than_pillow_opens(tmp_path: Path) -> None:
    huge = bytearray(png(np.zeros((4, 4), np.uint8), "BMP"))
    huge[18:26] = struct.pack("<ii", 20_000, 20_000)  # the header's columns and rows
    assert "a/1.bmp has more than 64000000 pixels" in refused(
        tmp_path, {"a/1.bmp": bytes(huge), "b/1.bmp": bytes(huge)}
    )


def test_no_image_is_resized_to_more_pixels_than_it_may_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "MAX_PIXELS", 100)
    large, small = Reading(shape=(10, 11, 3)), png(PIXELS[0])
    for files in (
        {"a/1.png": small, "b/1.png": small},
        {"d.tfrecord": record(example(image=small, label=1))},
    ):
        assert "data.shape [10, 11, 3] has more than 100 pixels" in refused(tmp_path, files, large)
        refused(tmp_path, files, Reading(shape=(1 << 32, 1 << 32, 3)))


def test_grey_images_with_a_channel(tmp_path: Path) -> None:
    """[rows, columns, 1], as convolutions take them, from images and from records."""
    files = {"a/1.png": png(PIXELS[0]), "b/1.png": png(PIXELS[1])}
    records = {"d.tfrecord": b"".join(record(example(image=data, label=1)) for data in files.values())}
    for each in (records, files):
        loaded = load(tmp_path, each, Reading(shape=(4, 3, 1))).train
        assert loaded.x.tolist() == PIXELS[:2, ..., None].tolist()
    colour = {**files, "b/1.jpg": png(np.zeros((5, 7, 3), np.uint8), "JPEG")}
    assert load(tmp_path, colour, Reading(shape=(8, 8, 1))).sample_shape == (8, 8, 1)
