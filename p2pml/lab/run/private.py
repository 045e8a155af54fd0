"""A scenario's private data: the bundled digits, divided among its owners, and whether they stayed there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from p2pml.formats import shards
from p2pml.formats.shards import Shard
from p2pml.lab.run.checks import Result
from p2pml.scenario.spec import Private
from p2pml.training import dataset

VALIDATION = "validation.npz"
"""What the job of the scenario calls the requester's own data."""
_ROWS = 16
"""Samples in a row that are looked for in others' homes: nobody else has them one after the other."""


def give(private: Private, owner: str, folder: Path, account: str) -> dict[str, Any]:
    """Write an owner's part into `folder`; the table that its `config.toml` needs."""
    digits, number = dataset.load(dataset.digits_path()).train, private.owners.index(owner)
    path = folder / f"{private.name}.npz"
    _save(path, digits.take(np.arange(number, len(digits), len(private.owners))))
    return {"name": private.name, "path": str(path), "requesters": [account]}


def give_validation(folder: Path) -> None:
    """Write the requester's own data, the digits' test set, beside its job."""
    test = dataset.load(dataset.digits_path()).test
    assert test is not None
    _save(folder / VALIDATION, test)


def stayed(private: Private, homes: Mapping[str, Path], peers: Mapping[str, Mapping[str, Any]]) -> Result:
    """Every owner trained on its data, nobody else did, and it lies in no other home.

    Args:
        private: of the scenario.
        homes: of all nodes, those that are down too.
        peers: what the job's requester says of its participants, by name.
    """
    trained = {name for name, peer in peers.items() if peer["samples"]}
    if trained != set(private.owners):
        return Result("private", False, f"{sorted(trained)} trained, the owners are {sorted(private.owners)}")
    for owner in private.owners:
        marks = _marks(shards.read(_copy(homes[owner], private)))
        places = [
            f"{name}: {path.relative_to(home)}"
            for name, home in homes.items()
            for path in holding(home, marks)
        ]
        if places != [f"{owner}: {_copy(Path(), private)}"]:
            return Result("private", False, f"the private data of {owner} lies in {'; '.join(places)}")
    told = ", ".join(f"{name} {peers[name]['samples']}" for name in private.owners)
    return Result("private", True, f"each owner's data is in its own home alone; samples trained on: {told}")


def _save(path: Path, shard: Shard) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, x=shard.x, y=shard.y, scale=np.float32(shard.scale))


def _copy(home: Path, private: Private) -> Path:
    """The worker's copy of the data, as `p2pml.node.private_data` writes it."""
    return home / "private" / f"{private.name}.safetensors"


def _marks(shard: Shard) -> list[bytes]:
    places = (0, len(shard) // 2, len(shard) - _ROWS)
    return [shard.x[place : place + _ROWS].tobytes() for place in places]


def holding(home: Path, marks: Sequence[bytes]) -> list[Path]:
    """The files of a home that hold one of the marks; what ends meanwhile is none."""
    found = []
    for path in sorted(home.rglob("*")):
        try:
            data = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
        except FileNotFoundError:
            continue
        if any(mark in data for mark in marks):
            found.append(path)
    return found
