"""The data of a finished job once more: its shards are gone, so they are made again from data set and seed,
and believed only if they are what the job's torrent says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from p2pml.compare.job import FinishedJob
from p2pml.errors import ExitCode, UserError
from p2pml.formats import shards
from p2pml.node.job_prepare import divided, load_data
from torrent.metainfo import Metainfo


@dataclass(frozen=True, slots=True)
class Material:
    """Shard files: one for each client, all training samples in one, and those to evaluate on.

    Args:
        samples: in `whole`.
    """

    shards: tuple[Path, ...]
    whole: Path
    evaluation: Path
    samples: int


def derive(job: FinishedJob, data: Path, folder: Path) -> Material:
    """Make the files.

    Args:
        job: whose data it is.
        data: the data set, a file or a folder.
        folder: for the files.

    Raises:
        UserError: (code 7) the data is not what the job trained on, or cannot be read.
        OSError: no room in the folder.
    """
    train, evaluation, parts = divided(job.spec, load_data(job.spec, data), len(job.shards))
    files = tuple(folder / f"client-{client:04}" for client in range(len(parts)))
    for path, rows in zip(files, parts, strict=True):
        shards.write(path, train.take(rows))
    if not same_files(job.metainfo, files):
        raise UserError(
            f"the data {data} is not what the job {job.id} trained on, or is divided otherwise now",
            "bring back the data set as it was, or train again",
            ExitCode.BAD_CONFIG,
        )
    whole, kept = folder / "whole", folder / "evaluation"
    shards.write(whole, train)
    shards.write(kept, evaluation)
    return Material(files, whole, kept, len(train))


def same_files(metainfo: bytes, files: Sequence[Path]) -> bool:
    """Whether these are a torrent's files, in its order, by the hashes of its pieces."""
    torrent = Metainfo.parse(metainfo)
    numbers = [number for number, file in enumerate(torrent.files) if not file.pad]
    if len(numbers) != len(files):
        return False
    return all(_same(torrent, number, path) for number, path in zip(numbers, files, strict=True))


def _same(torrent: Metainfo, number: int, path: Path) -> bool:
    data, length = path.read_bytes(), torrent.piece_length
    if len(data) != torrent.files[number].length:
        return False
    # Each file begins at a piece; what the last one lacks of it is padding.
    return all(
        torrent.verify_piece(piece, data[at : at + length].ljust(torrent.piece_size(piece), b"\0"))
        for at, piece in zip(range(0, len(data), length), torrent.file_pieces(number), strict=True)
    )
