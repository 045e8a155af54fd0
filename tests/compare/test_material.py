"""A job's shards are believed only if its torrent says so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from p2pml.compare.job import FinishedJob, Round
from p2pml.compare.material import derive, same_files
from p2pml.errors import UserError
from p2pml.formats import shards, tensors
from p2pml.formats.initial import initial_weights
from p2pml.training import models
from p2pml.training.spec import parse_spec
from torrent import metainfo
from torrent.hashing import PieceHasher

SPEC = """\
version: 1
name: clouds
model: {builder: softmax}
data: {train: clouds.npz, clients: 3}
train: {lr: 0.1, batch: 20, epochs: 2}
"""
PIECE = 1 << 14


def torrent_of(files: list[Path]) -> bytes:
    """A private torrent's metainfo, each file at the start of a piece."""
    placed = metainfo.plan([((path.name,), path.stat().st_size) for path in files], PIECE)
    hasher, by_name = PieceHasher(PIECE), {path.name: path for path in files}
    for file in placed:
        hasher.update(bytes(file.length) if file.pad else by_name[file.path[-1]].read_bytes())
    return metainfo.create("job-shards", placed, PIECE, hasher.finish(), private=True).raw


def data_set(folder: Path, seed: int) -> Path:
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 4, 1000)
    np.savez(folder / "clouds.npz", x=rng.normal(size=(1000, 20)).astype(np.float32), y=y)
    return folder / "clouds.npz"


@pytest.fixture
def job() -> FinishedJob:
    model = models.build("softmax", {}, (20,), 4)
    first = tensors.encode(initial_weights(model, 1))
    rounds = (Round((0, 1, 2), 1800, 30, 1.0, 0.5, 0.8),)
    return FinishedJob("ab", parse_spec(SPEC), model, rounds, (300, 300, 300), first, first, b"")


def test_the_same_data_gives_the_same_shards(tmp_path: Path, job: FinishedJob) -> None:
    data = data_set(tmp_path, 1)
    with pytest.raises(UserError, match="is not what the job ab trained on") as caught:
        derive(replace(job, metainfo=torrent_of([data])), data, tmp_path)
    assert "bring back the data set" in caught.value.fix
    files = [tmp_path / f"client-{client:04}" for client in range(3)]
    known = replace(job, metainfo=torrent_of(files))
    found = derive(known, data, tmp_path)
    assert found.shards == tuple(files)
    assert (found.samples, len(shards.read(found.whole)), len(shards.read(found.evaluation))) == (
        900,
        900,
        100,
    )
    with pytest.raises(UserError, match="is not what the job ab trained on"):
        derive(known, data_set(tmp_path, 2), tmp_path)
    with pytest.raises(UserError, match="cannot be used"):
        derive(known, files[0], tmp_path)


def test_every_byte_of_every_file_counts(tmp_path: Path) -> None:
    files = [tmp_path / name for name in "abc"]
    for path, length in zip(files, (5, 3 * PIECE, 2 * PIECE + 1), strict=True):
        path.write_bytes(bytes(range(5)) * (length // 5) + bytes(length % 5))
    known = torrent_of(files)
    assert same_files(known, files)
    assert not same_files(known, files[:2])
    assert not same_files(known, [files[1], files[0], files[2]])
    for path in files:
        whole = path.read_bytes()
        for place in (0, len(whole) - 1):
            path.write_bytes(whole[:place] + b"\xff" + whole[place + 1 :])
            assert not same_files(known, files)
        path.write_bytes(whole + b"\0")
        assert not same_files(known, files)
        path.write_bytes(whole)
    assert same_files(known, files)
