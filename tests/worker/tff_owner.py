"""A stand-in for a node that has TensorFlow Federated's process aggregate, to be killed.

Run as `python -m tests.worker.tff_owner FOLDER`: prints the guard's process id as soon as there is one and
after each result, and goes on until it is killed.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import trio

from p2pml.formats import uploads
from p2pml.formats.aggregation import Aggregation
from p2pml.worker.tff.process import TffProcess
from p2pml.worker.tff.request import TffRequest

SHAPES = [(30, 40), (10,)]


def updates() -> list[list[np.ndarray]]:
    """Of four clients."""
    rng = np.random.default_rng(4)
    return [[rng.normal(size=shape).astype(np.float32) for shape in SHAPES] for _ in range(4)]


def spool(folder: Path, arrays: Sequence[list[np.ndarray]], kind: str = "float32") -> list[tuple[Path, int]]:
    """The updates on disk, with weights 10, 20, …."""
    paths = [folder / f"{index}.{kind}" for index in range(len(arrays))]
    for path, update in zip(paths, arrays, strict=True):
        path.write_bytes(uploads.encode(update, kind))
    return [(path, 10 * (index + 1)) for index, path in enumerate(paths)]


async def main(folder: Path) -> None:
    """Aggregate until killed."""
    process, given = TffProcess(folder / "tff.log"), spool(folder, updates())
    request = TffRequest(Aggregation("robust", clip=1.0), given, "float32", SHAPES, 1, folder / "result")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tell, process)
        while True:
            await process.aggregate(request)
            print(process.pid, flush=True)


async def tell(process: TffProcess) -> None:
    """Print the guard's process id once."""
    while process.pid is None:  # noqa: ASYNC110  (it says nothing when it starts)
        await trio.sleep(0.01)
    print(process.pid, flush=True)


if __name__ == "__main__":
    trio.run(main, Path(sys.argv[1]))
