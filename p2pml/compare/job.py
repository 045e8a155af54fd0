"""A finished job as its journal tells it: what each round was, from which weights to which."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from p2pml.errors import ExitCode, UserError
from p2pml.formats import tensors
from p2pml.formats.initial import initial_weights
from p2pml.formats.keras_json import ModelSpec, parse
from p2pml.node.job_prepare import Prepared
from p2pml.node.job_store import JobStore, RoundDone
from p2pml.storage.journal import JournalError
from p2pml.training.spec import JobSpec, parse_spec


@dataclass(frozen=True, slots=True)
class Round:
    """One round of the job.

    Args:
        clients: whose updates counted, ascending.
        samples: that they trained on, each counted in every epoch.
        steps: optimizer steps of the client that took most: so many followed each other.
        seconds: from the round's start to its evaluation, by the requester's clock.
        loss, accuracy: of its model, nats and 0 to 1.
    """

    clients: tuple[int, ...]
    samples: int
    steps: int
    seconds: float
    loss: float
    accuracy: float


@dataclass(frozen=True, slots=True)
class FinishedJob:
    """A job that is over and has a model.

    Args:
        id: on its node.
        spec: as it was given.
        model: what was trained.
        rounds: those that changed the model.
        shards: samples of each client's.
        first, last: weights before the first round and after the last (`p2pml.formats.tensors`).
        metainfo: of the torrent with the shards.
    """

    id: str
    spec: JobSpec
    model: ModelSpec
    rounds: tuple[Round, ...]
    shards: tuple[int, ...]
    first: bytes
    last: bytes
    metainfo: bytes


def read_job(folder: Path) -> FinishedJob:
    """The job in this folder of a node's home.

    Raises:
        UserError: (code 6) it has no finished round, or its files are not what its journal says.
    """
    try:
        store = JobStore(folder)
        with store.journal:
            return _read(store)
    except (OSError, JournalError, ValueError, KeyError) as error:
        raise _failed(f"the job's folder {folder} cannot be read: {error}", "train again") from error


def _read(store: JobStore) -> FinishedJob:
    spec = parse_spec((store.folder / "spec.yaml").read_text(encoding="utf-8"))
    done = store.rounds()
    if done and done[-1].model_in == done[-1].model_out:
        done.pop()  # what is owed for a round that came to no end; it changed nothing
    last, entry = store.newest_model(done), store.journal.last("prepared")
    if not done or last is None or entry is None:
        raise _failed(f"the job {store.folder.name} has finished no round", "compare one that has a model")
    prepared = Prepared.from_entry(entry)
    model = parse(prepared.model)
    first = _first_weights(store, model, spec.seed)
    if tensors.digest(first) != done[0].model_in:
        raise _failed(
            "the weights that the seed gives are not those that round 1 started from",
            "compare with the version of p2pml that trained it, or train again",
        )
    rounds = tuple(_round(each, spec) for each in done)
    metainfo = store.metainfo_file.read_bytes()
    return FinishedJob(store.folder.name, spec, model, rounds, prepared.samples, first, last, metainfo)


def _first_weights(store: JobStore, model: ModelSpec, seed: int) -> bytes:
    """Those that the job kept, else what its seed gives."""
    kept = store.model_path(0)
    return kept.read_bytes() if kept.exists() else tensors.encode(initial_weights(model, seed))


def _round(done: RoundDone, spec: JobSpec) -> Round:
    paid = {receipt.commitment.client: receipt.commitment.samples for receipt in done.receipts}
    found = {client: paid[client] for client in done.counted}
    train = spec.train
    steps = [train.epochs * -(-(samples // train.epochs) // train.batch) for samples in found.values()]
    return Round(
        tuple(sorted(found)), sum(found.values()), max(steps), done.seconds, done.loss, done.accuracy
    )


def _failed(cause: str, fix: str) -> UserError:
    return UserError(cause, fix, ExitCode.JOB_FAILED)
