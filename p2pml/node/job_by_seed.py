"""What comes before the first round of a job on public data that this node does not hold: only the data set's
metainfo is asked for; the participants fetch it and divide it themselves."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import trio

from p2pml.node.job_prepare import (
    Notes,
    Prepared,
    check_aggregation,
    checked_price,
    data_errors,
    elsewhere,
    write_down,
)
from p2pml.node.job_store import JobStore
from p2pml.node.ports import NodeParts
from p2pml.storage.journal import write_atomic
from p2pml.training.by_seed import Division
from p2pml.training.spec import JobSpec


def division(spec: JobSpec, clients: int) -> Division:
    """What the participants are told."""
    readable = spec.data.model_dump(include=set(Division.model_fields) - {"clients", "samples"})
    return Division(**readable, clients=clients, samples=spec.data.partition.samples or 1)


async def prepare_by_seed(
    spec: JobSpec,
    base_dir: Path,
    clients: Callable[[], Awaitable[int]],
    parts: NodeParts,
    store: JobStore,
    note: Notes,
) -> Prepared:
    """Find the data set, build the model; arguments and errors as those of `job_prepare.prepare`."""
    evaluation, model = await elsewhere(spec, base_dir, parts)
    note(f"looking for the data {spec.data.train}")
    infohash, metainfo = await parts.data.public(spec.data.train)
    count = await clients()
    await check_aggregation(spec, model.params, count, parts.tff())
    with data_errors(spec):
        samples = [len(part) for part in division(spec, count).parts(spec.seed)]
    checked_price(spec, samples)
    await trio.to_thread.run_sync(write_atomic, store.dataset_file, metainfo)
    return await write_down(spec, base_dir, parts, store, note, model, evaluation, infohash, samples)
