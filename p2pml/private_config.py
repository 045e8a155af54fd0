"""The tables `[[private]]` of `config.toml`: data that never leaves its node, and who may train on it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
KEYS = ("name", "path", "requesters")
EXAMPLE = """\
# data that never leaves this node, for jobs with `partition: {kind: by_owner}`; a table for each data set
# [[private]]
# name = "wards"                  # what its owners have agreed to call it
# path = "/data/wards.npz"        # a file, a tar or a folder
# requesters = ["pml1…"]          # the accounts whose jobs may train on it
"""


@dataclass(frozen=True, slots=True)
class PrivateDataset:
    """One data set of this node's owner.

    Args:
        name: what jobs call it.
        path: absolute, or from `~`.
        requesters: addresses of the accounts whose jobs may train on it here.
    """

    name: str
    path: str
    requesters: tuple[str, ...]

    @property
    def place(self) -> Path:
        """Where it is."""
        return Path(self.path).expanduser()


def read_tables(value: Any) -> tuple[PrivateDataset, ...]:
    """What the file's tables say.

    Raises:
        ValueError: something else; says what is wrong.
    """
    if not isinstance(value, list | tuple):
        raise ValueError(f"private must be tables [[private]], not {value!r}")
    found = tuple(_read(number, table) for number, table in enumerate(value, start=1))
    names = [item.name for item in found]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"two tables [[private]] are called {name!r}")
    return found


def to_toml(datasets: Sequence[PrivateDataset], text: Any) -> str:
    """The tables, or an example in a comment when there is none; `text` writes one value."""
    tables = [
        "\n".join(["[[private]]", *(f"{key} = {text(getattr(item, key))}" for key in KEYS), ""])
        for item in datasets
    ]
    return "\n".join(tables) or EXAMPLE


def _read(number: int, table: Any) -> PrivateDataset:
    where = f"[[private]] number {number}"
    if not isinstance(table, Mapping) or set(table) != set(KEYS):
        raise ValueError(f"{where} must have the keys {', '.join(KEYS)} and no others")
    name, path, requesters = (table[key] for key in KEYS)
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise ValueError(f"{where}: name {name!r} must be 1 to 64 letters, digits and ._-")
    if not isinstance(path, str) or not Path(path).expanduser().is_absolute():
        raise ValueError(f"{where}: path {path!r} must be absolute")
    if not isinstance(requesters, list | tuple) or not all(isinstance(item, str) for item in requesters):
        raise ValueError(f"{where}: requesters must be a list of accounts' addresses")
    return PrivateDataset(name, path, tuple(requesters))
