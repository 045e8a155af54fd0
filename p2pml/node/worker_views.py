"""Records about the training process, as the API has them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LimitsView:
    """What the process may take: `cpu` per cent of what its `threads` could compute, `memory` bytes; by
    `nice` it gives way, with `idle_only` it rests while others use the machine.
    """

    threads: int
    cpu: int
    memory: int
    nice: int
    idle_only: bool


@dataclass(frozen=True, slots=True)
class WorkerView:
    """`state`: starting, ready, busy, or off (then `reason` says why).

    It computes nothing while `rests` has a reason: `rating` (a rating window), `paused` (by its owner) or
    `load` (the machine is busy). `pid`, `versions` and `isolated` (whether it is cut off from the network)
    are null, empty and null until it is ready; `starts` counts its processes. `limits` is null where there is
    no worker; `task_minutes` is the longest training of one task for others.
    """

    state: str
    reason: str
    rests: list[str]
    pid: int | None
    versions: dict[str, str]
    isolated: bool | None
    starts: int
    limits: LimitsView | None
    task_minutes: int
