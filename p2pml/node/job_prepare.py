"""What comes before the first round: the data, its division, the model, and the job's terms on the chain."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio

from p2pml.errors import ExitCode, UserError
from p2pml.formats import FormatError, SpecError, shards, tensors
from p2pml.formats.aggregation import TFF_BYTES
from p2pml.formats.keras_json import ModelSpec
from p2pml.formats.shards import Shard
from p2pml.node.job_store import JobStore
from p2pml.node.ports import NodeParts, TffPort
from p2pml.node.spec_paths import spec_path
from p2pml.node.terms import price_per_sample
from p2pml.storage.journal import write_atomic
from p2pml.training import by_file, dataset, models
from p2pml.training.dataset import Dataset
from p2pml.training.partition import Indices, PartitionError, partition
from p2pml.training.rules import trimmed
from p2pml.training.sampling import fewest_updates, most_samples, sample_size
from p2pml.training.spec import TOKEN, JobSpec
from p2pml.worker.protocol import Build
from p2pml.worker.session import WorkerError

Notes = Callable[[str], None]
"""Tells people what is done now."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A job whose data lies in files and whose model has its first weights; survives in the journal.

    Args:
        dataset: infohash of the training data.
        samples: of each client's shard, in client order.
        model: Keras JSON.
        model_hash: SHA-256 of the initial weights.
        price: base units per sample and epoch.
        owners: peer ids of those whose private data the clients are; empty where there are shards.
    """

    dataset: bytes
    samples: tuple[int, ...]
    model: str
    model_hash: bytes
    price: int
    owners: tuple[str, ...] = ()

    def to_entry(self) -> dict[str, Any]:
        """As JSON for the journal."""
        return {
            "dataset": self.dataset.hex(),
            "samples": list(self.samples),
            "model": self.model,
            "model_hash": self.model_hash.hex(),
            "price": self.price,
            "owners": list(self.owners),
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
            tuple(entry.get("owners", ())),
        )


async def prepare(
    spec: JobSpec,
    base_dir: Path,
    clients: Callable[[], Awaitable[int]],
    parts: NodeParts,
    store: JobStore,
    note: Notes,
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
    infohash, path = await _data_of(spec, base_dir, parts)
    data = await trio.to_thread.run_sync(load_data, spec, path)
    model = model_of(spec, base_dir, data)
    await given_weights(spec, base_dir, model)
    by_files = file_clients(spec, data)
    here = await clients()
    count = by_files or here
    await check_aggregation(spec, model.params, count, parts.tff())
    samples = await trio.to_thread.run_sync(_divide, spec, data, count, store)
    files = [(store.shard(client).name, store.shard(client)) for client in range(len(samples))]
    metainfo = await parts.data.offer(store.torrent_name, files)
    with trio.CancelScope(shield=True):  # what is offered must be known, or nobody could end it
        await trio.to_thread.run_sync(write_atomic, store.metainfo_file, metainfo)
    return await write_down(spec, base_dir, parts, store, note, model, None, infohash, samples)


async def elsewhere(spec: JobSpec, base_dir: Path, parts: NodeParts) -> tuple[Shard, ModelSpec]:
    """Of a job whose data is not on this node: what it is evaluated on here, and the model that fits that.

    Raises:
        UserError: as `prepare`.
    """
    path = await parts.data.local(spec.data.validation.path or "", base_dir)
    loaded = await trio.to_thread.run_sync(load_data, spec, path)
    evaluation = loaded.train if loaded.test is None else loaded.test
    model = model_of(spec, base_dir, Dataset(evaluation, None))
    await given_weights(spec, base_dir, model)
    return evaluation, model


async def write_down(
    spec: JobSpec, base_dir: Path, parts: NodeParts, store: JobStore, note: Notes, model: ModelSpec,
    evaluation: Shard | None, infohash: bytes, samples: Sequence[int], owners: tuple[str, ...] = (),
) -> Prepared:  # fmt: skip
    """Build the model, and put all that the rounds need into the job's folder and journal.

    Args:
        evaluation: to be written; None when it is there.
        samples: of each client.

    The others and the errors are those of `prepare` and `Prepared`.
    """
    price = checked_price(spec, samples)
    if evaluation is not None:
        await trio.to_thread.run_sync(shards.write, store.evaluation, evaluation)
    await trio.to_thread.run_sync(write_atomic, store.model_file, model.to_json().encode())
    note("building the model")
    weights = await first_weights(spec, base_dir, model, parts)
    await store.save_model(0, weights, b"")
    result = Prepared(infohash, tuple(samples), model.to_json(), tensors.digest(weights), price, owners)
    await store.note("prepared", **result.to_entry())
    return result


async def _data_of(spec: JobSpec, base_dir: Path, parts: NodeParts) -> tuple[bytes, Path]:
    """The training data's infohash and place. Raises UserError: (code 7) no good; (code 13) not to be had."""
    try:
        return await parts.data.dataset(spec.data.train, base_dir)
    except UserError as error:
        code = error.code if error.code is ExitCode.BAD_CONFIG else ExitCode.NO_DATA
        raise UserError(error.cause, error.fix, code) from error


def load_data(spec: JobSpec, path: Path) -> Dataset:
    """Read the training data. Raises UserError."""
    with data_errors(spec):
        return dataset.load(path, spec.data.reading())


def file_clients(spec: JobSpec, data: Dataset) -> int:
    """How many clients the partition `by_file` makes; 0 for the others, which divide among any number.

    Raises:
        UserError: none or too many, or the spec says another number.
    """
    if spec.data.partition.kind != "by_file":
        return 0
    with data_errors(spec):
        found = by_file.names(data.counts)
    if spec.data.clients not in ("auto", len(found)):
        shown = ", ".join(found[:5]) + (", …" if found[5:] else "")
        raise UserError(
            f"data.clients is {spec.data.clients}, and the data {spec.data.train} lies in {len(found)} files "
            f"or folders: {shown}",
            "leave data.clients out: by_file makes a client of each",
            ExitCode.BAD_CONFIG,
        )
    return len(found)


def divided(spec: JobSpec, data: Dataset, clients: int) -> tuple[Shard, Shard, list[Indices]]:
    """The samples to train on, those to evaluate on, and each client's rows of the former; or UserError."""
    kind, fraction = spec.data.partition, spec.data.validation.fraction
    with data_errors(spec):
        train, evaluation = dataset.hold_out(data, fraction, spec.seed)
        if kind.kind == "by_file":
            rows = dataset.training_rows(data, fraction, spec.seed)
            return train, evaluation, by_file.parts(data.counts, rows)
        parts = partition(
            kind.kind, train.y, clients, spec.seed, per_client=kind.per_client or 2, alpha=kind.alpha or 0.5
        )
    return train, evaluation, parts


def _divide(spec: JobSpec, data: Dataset, clients: int, store: JobStore) -> list[int]:
    """Write the shard files, which may be large: once the price is right. Returns their sample counts."""
    train, evaluation, parts = divided(spec, data, clients)
    samples = [len(part) for part in parts]
    checked_price(spec, samples)
    with data_errors(spec):
        _write(store, train, evaluation, parts)
    return samples


@contextmanager
def data_errors(spec: JobSpec) -> Iterator[None]:
    """Around reading and dividing a job's data: what is wrong with it is its owner's to mend (UserError)."""
    name = spec.data.validation.path or spec.data.train
    try:
        yield
    except (FormatError, PartitionError) as error:
        raise UserError(
            f"the data {name} cannot be used: {error}",
            getattr(error, "fix", "") or "see data in the job spec",
            ExitCode.BAD_CONFIG,
        ) from error
    except OSError as error:
        raise UserError(
            f"the data {name} cannot be read or divided: {error.strerror or error}",
            "check the file, and free space in the home folder",
            ExitCode.NO_DATA,
        ) from error


def _write(store: JobStore, train: Shard, evaluation: Shard, parts: Sequence[Any]) -> None:
    shards.write(store.evaluation, evaluation)
    for client, part in enumerate(parts):
        shards.write(store.shard(client), train.take(part))


def model_of(spec: JobSpec, base_dir: Path, data: Dataset) -> ModelSpec:
    """The model, which fits the data and the batch size. Raises UserError."""
    shape, classes = data.sample_shape, data.classes
    with _model_errors(spec.model.keras, "keras"):
        if spec.model.builder is not None:
            model = models.build(spec.model.builder, spec.model.args, shape, classes)
        else:
            model = models.load(spec_path(base_dir, spec.model.keras or ""))
        model.check_batch(min(spec.train.batch, len(data.train)))
    if model.input_shape != tuple(shape) or model.classes < classes:
        raise UserError(
            f"the model takes samples of {list(model.input_shape)} and knows {model.classes} classes; "
            f"the data has {list(shape)} and {classes}",
            "use a model that fits the data",
            ExitCode.BAD_CONFIG,
        )
    if model.tokens is not None:
        with data_errors(spec):
            for part in (data.train, data.test):
                if part is not None:
                    part.check_tokens(model.tokens)
    return model


@contextmanager
def _model_errors(path: str | None, key: str) -> Iterator[None]:
    try:
        yield
    except SpecError as error:
        raise UserError(
            f"the model is not accepted: {error}", "see model in the job spec", ExitCode.BAD_CONFIG
        ) from error
    except OSError as error:
        raise UserError(
            f"the model {path} cannot be read: {error.strerror or error}",
            f"check model.{key} in the job spec",
            ExitCode.BAD_CONFIG,
        ) from error


async def check_aggregation(spec: JobSpec, params: int, clients: int, tff: TffPort) -> None:
    """Raises UserError if the rule cannot be carried out here, or does nothing for so few clients.

    Args:
        spec: of the job.
        params: of the model.
        clients: logical clients of the job.
        tff: what carries out TensorFlow Federated's rules.
    """
    how, count = spec.aggregate.aggregation(), sample_size(clients, spec.peers.sample)
    if how.rule == "trimmed_mean" and how.trim:
        _check_trim(how.trim, count, spec.peers.quorum)
    if not how.by_tff:
        return
    if 4 * params * count > TFF_BYTES:
        raise UserError(
            f"rule {how.rule} takes {TFF_BYTES >> 20} MiB of updates a round; "
            f"{count} of this model's are {4 * params * count >> 20} MiB",
            "use rule mean, median or trimmed_mean, a lower peers.sample or a smaller model",
            ExitCode.BAD_CONFIG,
        )
    if reason := await tff.refusal():
        raise UserError(
            f"rule {how.rule} needs namespaces of its own for TensorFlow Federated's executor: {reason}",
            "let users make namespaces (see `man unshare`), or use rule mean, median or trimmed_mean",
            ExitCode.BAD_CONFIG,
        )


def _check_trim(trim: float, clients: int, quorum: float) -> None:
    """Raises UserError if of the fewest updates that a round of so many clients may have nobody is left out:
    what is made of them then is the mean, which one liar moves."""
    fewest = fewest_updates(clients, quorum)
    if trimmed(trim, fewest):
        return
    fixes = ["have more clients"]
    if fewest > 2:  # of one or two no share below a half leaves out one
        fixes.insert(0, f"set it to {math.ceil(100 / fewest) / 100:g} or more")
    if fewest < clients:
        fixes.append("raise peers.quorum")
    raise UserError(
        f"aggregate.trim {trim:g} of {fewest} updates, the fewest that a round may have, leaves out nobody",
        ", or ".join(fixes),
        ExitCode.BAD_CONFIG,
    )


async def first_weights(spec: JobSpec, base_dir: Path, model: ModelSpec, parts: NodeParts) -> bytes:
    """Those that the spec names, or fresh ones; the worker builds the model either way. Raises UserError."""
    try:
        built = await parts.worker.call(Build(model.to_json(), spec.seed))
    except WorkerError as error:
        raise UserError(
            f"the worker cannot build the model: {error.reason}", "see logs/worker.log", ExitCode.NO_WORKER
        ) from error
    given = await given_weights(spec, base_dir, model)
    return built.weights if given is None else given


async def given_weights(spec: JobSpec, base_dir: Path, model: ModelSpec) -> bytes | None:
    """Those that the spec names, if it names any; asked for early, too, to see that they are right. Raises
    UserError."""
    if spec.model.weights is None:
        return None
    with _model_errors(spec.model.weights, "weights"):
        path = spec_path(base_dir, spec.model.weights)
        return await trio.to_thread.run_sync(models.load_weights, path, model)


def checked_price(spec: JobSpec, samples: Sequence[int]) -> int:
    """Base units for one sample in one epoch, by the samples of each shard. Raises UserError for none."""
    counts = [spec.train.samples_of_round(count) for count in samples]
    most = most_samples(counts, spec.peers.sample, spec.peers.backup)
    price = price_per_sample(spec.budget, spec.rounds.max, most)
    if spec.budget and not price:
        least = spec.rounds.max * most
        raise UserError(
            f"a budget of {spec.budget / TOKEN:g} tokens is less than one base unit per sample",
            f"set reward.budget to {least / TOKEN:.8f} or more",
            ExitCode.BAD_CONFIG,
        )
    return price
