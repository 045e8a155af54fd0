"""How a training set is divided among logical clients, reproducibly from a seed.

Every function returns one sorted int64 array of row indices per client; together they are each row
exactly once.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]


class PartitionError(ValueError):
    """The data cannot be divided as asked: too few rows for so many clients."""


def partition(
    kind: str,
    labels: NDArray[np.int64],
    clients: int,
    seed: int,
    *,
    per_client: int = 2,
    alpha: float = 0.5,
) -> list[Indices]:
    """Divide the rows of a dataset.

    Args:
        kind: `iid`, `shards` or `dirichlet`.
        labels: class of each row, shape (n,).
        clients: how many parts, at least 1.
        seed: of the job; the same seed gives the same parts on every machine.
        per_client: `shards` only: label-sorted shards that each client gets.
        alpha: `dirichlet` only: concentration; small means skewed.

    Raises:
        PartitionError: fewer rows than parts (or shards), or an unknown kind.
    """
    if clients < 1 or len(labels) < clients:
        raise PartitionError(f"{len(labels)} training examples cannot be divided among {clients} clients")
    rng = np.random.Generator(np.random.PCG64([seed, 0x706172]))
    if kind == "iid":
        parts = _iid(len(labels), clients, rng)
    elif kind == "shards":
        parts = _shards(labels, clients, per_client, rng)
    elif kind == "dirichlet":
        parts = _dirichlet(labels, clients, alpha, rng)
    else:
        raise PartitionError(f"unknown partition kind {kind!r}")
    return [np.sort(part.astype(np.int64)) for part in parts]


def _iid(rows: int, clients: int, rng: np.random.Generator) -> list[Indices]:
    return list(np.array_split(rng.permutation(rows), clients))


def _shards(
    labels: NDArray[np.int64], clients: int, per_client: int, rng: np.random.Generator
) -> list[Indices]:
    """McMahan et al. 2017: sort by label, cut into shards, give each client `per_client` of them."""
    count = clients * per_client
    if len(labels) < count:
        raise PartitionError(
            f"{len(labels)} training examples cannot be cut into {count} shards: "
            f"{clients} clients × {per_client}"
        )
    order = np.argsort(labels, kind="stable")
    shards = np.array_split(order, count)
    dealt = rng.permutation(count).reshape(clients, per_client)
    return [np.concatenate([shards[index] for index in row]) for row in dealt]


def _dirichlet(
    labels: NDArray[np.int64], clients: int, alpha: float, rng: np.random.Generator
) -> list[Indices]:
    """Yurochkin et al. 2019, Li et al. 2021: each class is divided among the clients in proportions drawn
    from Dirichlet(alpha), so that clients differ in size too. Hsu et al. 2019 draw each client's mix of
    classes instead, at equal sizes."""
    parts: list[list[Indices]] = [[] for _ in range(clients)]
    for label in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == label))
        cuts = (np.cumsum(rng.dirichlet(np.full(clients, alpha)))[:-1] * len(rows)).astype(np.int64)
        for part, piece in zip(parts, np.split(rows, cuts), strict=True):
            part.append(piece)
    return _fill_empty([np.concatenate(part) for part in parts])


def _fill_empty(parts: list[Indices]) -> list[Indices]:
    """Give each empty client one row of the largest: a client without data can neither train nor be
    paid."""
    for index, part in enumerate(parts):
        if len(part) == 0:
            largest = max(range(len(parts)), key=lambda other: (len(parts[other]), -other))
            parts[index], parts[largest] = parts[largest][:1], parts[largest][1:]
    return parts
