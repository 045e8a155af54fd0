"""Records about the training process, as the API has them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WorkerView:
    """`state`: starting, ready, busy, or off (then `reason` says why).

    It computes nothing while `rests` has a reason: `rating` (a rating window), `paused` (by its owner) or
    `load` (the machine is busy). `pid` and `versions` are null and empty until it is ready; `starts` counts
    its processes.
    """

    state: str
    reason: str
    rests: list[str]
    pid: int | None
    versions: dict[str, str]
    starts: int
