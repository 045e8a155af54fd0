"""What comes before the first round: the data, its division, the model, and the job's terms on the chain."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio

from p2pml.errors import ExitCode, UserError
from p2pml.formats import FormatError, SpecError, shards, tensors
from p2pml.formats.keras_json import ModelSpec
from p2pml.formats.shards import Shard
from p2pml.node.job_store import JobStore
from p2pml.node.ports import NodeParts
from p2pml.node.terms import price_per_sample
from p2pml.storage.journal import write_atomic
from p2pml.training import dataset, models
from p2pml.training.dataset import Dataset
from p2pml.training.partition import Indices, PartitionError, partition
from p2pml.training.sampling import most_samples
from p2pml.training.spec import TOKEN, JobSpec
from p2pml.worker.protocol import Build
from p2pml.worker.session import WorkerError


@dataclass(frozen=True, slots=True)
class Prepared:
    """A job whose data lies in files and whose model has its first weights; survives in the journal.

    Args:
        dataset: infohash of the training data.
        samples: of each client's shard, in client order.
        model: Keras JSON.
        model_hash: SHA-256 of the initial weights.
        price: base units per sample and epoch.
    """

    dataset: bytes
    samples: tuple[int, ...]
    model: str
    model_hash: bytes
    price: int

    def to_entry(self) -> dict[str, Any]:
        """As JSON for the journal."""
        return {
            "dataset": self.dataset.hex(),
            "samples": list(self.samples),
            "model": self.model,
            "model_hash": self.model_hash.hex(),
            "price": self.price,
        }

    @classmethod
    def from_entry(cls, entry: dict[str, Any]) -> Prepared:
        """From the journal."""
        return cls(
            bytes.fromhex(entry["dataset"]),
            tuple(entry["samples"]),
            entry["model"],
            bytes.fromhex(entry["model_hash"]),
            entry["price"],
        )


async def prepare(
    spec: JobSpec,
    base_dir: Path,
    clients: Callable[[], Awaitable[int]],
    parts: NodeParts,
    store: JobStore,
    note: Callable[[str], None],
) -> Prepared:
    """Load and divide the data, write a shard per client, offer them as a torrent, build the model.

    Args:
        spec: of the job.
        base_dir: relative paths in the spec start here.
        clients: tells how many parts the data is divided into, perhaps once enough peers are there; asked
            after everything that can be wrong with data and model has been seen.
        parts: of the node.
        store: the job's folder.
        note: tells people what is done now.

    Raises:
        UserError: data, model or budget do not fit the spec; says which and why.
    """
    note(f"getting the data {spec.data.train}")
    infohash, path = await parts.data.dataset(spec.data.train, base_dir)
    data = await trio.to_thread.run_sync(load_data, spec, path)
    model = model_of(spec, base_dir, data.sample_shape, data.classes)
    samples = await trio.to_thread.run_sync(_divide, spec, data, await clients(), store)
    price = checked_price(spec, samples)
    await trio.to_thread.run_sync(write_atomic, store.model_file, model.to_json().encode())
    note("building the model")
    weights = await _first_weights(spec, model, parts)
    await store.save_model(0, weights, b"")
    files = [(store.shard(client).name, store.shard(client)) for client in range(len(samples))]
    metainfo = await parts.data.offer(store.torrent_name, files)
    await trio.to_thread.run_sync(write_atomic, store.metainfo_file, metainfo)
    result = Prepared(infohash, tuple(samples), model.to_json(), tensors.digest(weights), price)
    await store.note("prepared", **result.to_entry())
    return result


def load_data(spec: JobSpec, path: Path) -> Dataset:
    """Read the training data. Raises UserError."""
    with _data_errors(spec):
        return dataset.load(path, spec.data.member)


def divided(spec: JobSpec, data: Dataset, clients: int) -> tuple[Shard, Shard, list[Indices]]:
    """The samples to train on, those to evaluate on, and each client's rows of the former; or UserError."""
    kind = spec.data.partition
    with _data_errors(spec):
        train, evaluation = dataset.hold_out(data, spec.data.validation.fraction, spec.seed)
        parts = partition(
            kind.kind, train.y, clients, spec.seed, per_client=kind.per_client or 2, alpha=kind.alpha or 0.5
        )
    return train, evaluation, parts


def _divide(spec: JobSpec, data: Dataset, clients: int, store: JobStore) -> list[int]:
    """Write the shard files; returns their sample counts."""
    train, evaluation, parts = divided(spec, data, clients)
    with _data_errors(spec):
        _write(store, train, evaluation, parts)
    return [len(part) for part in parts]


@contextmanager
def _data_errors(spec: JobSpec) -> Iterator[None]:
    try:
        yield
    except (FormatError, PartitionError) as error:
        raise UserError(
            f"the data {spec.data.train} cannot be used: {error}",
            "see data in the job spec",
            ExitCode.BAD_CONFIG,
        ) from error
    except OSError as error:
        raise UserError(
            f"the data {spec.data.train} cannot be read or divided: {error.strerror or error}",
            "check the file, and free space in the home folder",
            ExitCode.JOB_FAILED,
        ) from error


def _write(store: JobStore, train: Shard, evaluation: Shard, parts: Sequence[Any]) -> None:
    shards.write(store.evaluation, evaluation)
    for client, part in enumerate(parts):
        shards.write(store.shard(client), train.take(part))


def model_of(spec: JobSpec, base_dir: Path, shape: tuple[int, ...], classes: int) -> ModelSpec:
    """The model, for samples of this shape and so many classes. Raises UserError."""
    try:
        if spec.model.builder is not None:
            return models.build(spec.model.builder, spec.model.args, shape, classes)
        model = models.load(base_dir / (spec.model.keras or ""))
    except SpecError as error:
        raise UserError(
            f"the model is not accepted: {error}", "see model in the job spec", ExitCode.BAD_CONFIG
        ) from error
    except OSError as error:
        raise UserError(
            f"the model {spec.model.keras} cannot be read: {error.strerror or error}",
            "check model.keras in the job spec",
            ExitCode.BAD_CONFIG,
        ) from error
    if model.input_shape != tuple(shape) or model.classes < classes:
        raise UserError(
            f"the model takes samples of {list(model.input_shape)} and knows {model.classes} classes; "
            f"the data has {list(shape)} and {classes}",
            "use a model that fits the data",
            ExitCode.BAD_CONFIG,
        )
    return model


async def _first_weights(spec: JobSpec, model: ModelSpec, parts: NodeParts) -> bytes:
    try:
        built = await parts.worker.call(Build(model.to_json(), spec.seed))
    except WorkerError as error:
        raise UserError(
            f"the worker cannot build the model: {error.reason}", "see logs/worker.log", ExitCode.JOB_FAILED
        ) from error
    return built.weights


def checked_price(spec: JobSpec, samples: Sequence[int]) -> int:
    """Base units for one sample in one epoch, by the samples of each client. Raises UserError for none."""
    most = most_samples(samples, spec.peers.sample)
    price = price_per_sample(spec.budget, spec.rounds.max, most, spec.train.epochs)
    if spec.budget and not price:
        least = spec.rounds.max * most * spec.train.epochs
        raise UserError(
            f"a budget of {spec.budget / TOKEN:g} tokens is less than one base unit per sample",
            f"set reward.budget to {least / TOKEN:.8f} or more",
            ExitCode.BAD_CONFIG,
        )
    return price
