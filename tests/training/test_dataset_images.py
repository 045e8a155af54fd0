"""Images as samples: sizes, kinds, places, depths, and what is not decoded."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from p2pml.training.dataset import Reading
from p2pml.training.datasets import images
from tests.training.test_dataset_formats import PIXELS, load, png, refused


def test_images_of_other_sizes_kinds_and_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grey, colour = PIXELS[0], np.zeros((5, 7, 3), np.uint8)
    mixed = {"a/1.png": png(grey), "b/1.jpg": png(colour, "JPEG")}
    assert "is [5, 7], the first image is [4, 3] | set data.shape" in refused(
        tmp_path, {"a/1.png": png(grey), "b/1.png": png(colour[..., 0])}
    )
    assert load(tmp_path, mixed, Reading(shape=(8, 8, 3))).sample_shape == (8, 8, 3)
    assert load(tmp_path, mixed, Reading(shape=(8, 8, 1))).sample_shape == (8, 8)
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
