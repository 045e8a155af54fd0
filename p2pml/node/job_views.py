"""What the API says of a job beside its record."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MaterialView:
    """Where a job that is over is on this machine: its folder, its data set (a file or a folder), and the
    folder of its result."""

    id: str
    folder: str
    data: str
    output: str
