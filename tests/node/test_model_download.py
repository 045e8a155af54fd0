"""A model that comes in parts, over conversations that break off."""

from __future__ import annotations

import hashlib

import pytest

from p2pml.net.errors import Malformed
from p2pml.net.train import NO_MODEL, Model
from p2pml.node.model_download import ModelDownload

WEIGHTS = bytes(range(200))
DIGEST = hashlib.sha256(WEIGHTS).digest()


def announced(offset: int = 0, digest: bytes = DIGEST, size: int = len(WEIGHTS)) -> Model:
    return Model(0, digest, size, offset)


def test_it_goes_on_from_what_is_here_and_only_from_that() -> None:
    download = ModelDownload()
    assert download.held == (NO_MODEL, 0)
    assert not download.begin(announced())
    assert not download.add(0, WEIGHTS[:50])
    assert download.held == (DIGEST, 50)
    for wrong in (announced(49), announced(51), announced(50, bytes(32)), announced(50, size=40)):
        with pytest.raises(Malformed):
            download.begin(wrong)
        assert download.held == (DIGEST, 50)
    assert not download.begin(announced(50))
    assert download.add(50, WEIGHTS[50:])
    assert download.weights == WEIGHTS
    assert download.begin(announced(len(WEIGHTS)))
    assert download.weights == WEIGHTS


def test_a_wrong_model_is_not_gone_on_from() -> None:
    download = ModelDownload()
    download.begin(announced())
    with pytest.raises(Malformed):
        download.add(0, WEIGHTS[::-1])
    assert (download.held, download.weights) == ((NO_MODEL, 0), b"")


@pytest.mark.parametrize(("offset", "data"), [(1, b"x"), (0, bytes(201)), (-1, b"x")])
def test_chunks_follow_each_other(offset: int, data: bytes) -> None:
    download = ModelDownload()
    with pytest.raises(Malformed):
        download.add(0, b"x")
    download.begin(announced())
    with pytest.raises(Malformed):
        download.add(offset, data)


def test_another_model_takes_the_place_of_a_part() -> None:
    download = ModelDownload()
    download.begin(announced())
    download.add(0, WEIGHTS[:50])
    other = b"another"
    digest = hashlib.sha256(other).digest()
    download.begin(announced(0, digest, len(other)))
    assert download.held == (digest, 0)
    assert download.add(0, other)
    assert download.held == (digest, len(other))
