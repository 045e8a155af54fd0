"""The partition `by_file`: whoever made the files has divided the data already; each file is one client, or
each folder where they lie in several.

What a client is called is the first part of its files' paths below the folder that all have in common:
`texts/hamlet.txt` and `texts/macbeth.txt` are two clients, so are all of `train/ann/` and of `train/bob/`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from p2pml.training.partition import Indices, PartitionError

MAX_CLIENTS = 1024
Counts = Sequence[tuple[str, int]]
"""(name with `/`, samples) of each training file, in the order of the samples."""


def names(counts: Counts) -> list[str]:
    """The clients, in their order.

    Args:
        counts: of the dataset (`Dataset.counts`); empty where its form has no files to divide by.

    Raises:
        PartitionError: there are not at least two, or more than `MAX_CLIENTS`.
    """
    found = list(dict.fromkeys(_owners(counts)))
    if len(found) < 2:
        raise PartitionError(
            "by_file needs at least two files, or folders, with training data; "
            + (f"all of it lies in {found[0]}" if found else "an npz, or a pair of IDX files, is one")
        )
    if len(found) > MAX_CLIENTS:
        raise PartitionError(
            f"by_file makes a client of each of {len(found)} files or folders, at most {MAX_CLIENTS}"
        )
    return found


def parts(counts: Counts, rows: Indices) -> list[Indices]:
    """Each client's rows.

    Args:
        counts: as for `names`.
        rows: of the dataset's samples, those that are trained on, ascending.

    Returns:
        One ascending array for each name, of positions in `rows`.

    Raises:
        PartitionError: as `names`, or nothing of a client is left to train on.
    """
    clients = {name: number for number, name in enumerate(names(counts))}
    owners = [clients[owner] for owner in _owners(counts)]
    client_of = np.repeat(owners, [samples for _, samples in counts])[rows]
    found = [np.flatnonzero(client_of == number) for number in clients.values()]
    for name, part in zip(clients, found, strict=True):
        if not len(part):
            raise PartitionError(f"by_file: {name} has no sample to train on; leave it out")
    return found


def _owners(counts: Counts) -> list[str]:
    """Which client each file belongs to."""
    if not counts:
        return []
    folders = [os.path.dirname(name) for name, _ in counts]
    common = os.path.commonpath(folders) if all(folders) else ""
    skipped = len(common) + 1 if common else 0
    return [name[skipped:].partition("/")[0] for name, _ in counts]
