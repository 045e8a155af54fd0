"""The folder of one job of this node: its journal and its files, and what they say after a restart.

jobs/<id>/journal.jsonl   what happened
          log.txt         the same for people, with refusals and who came and went
          spec.yaml       as it was given
          model.json      the model's configuration
          shards/         one file per logical client, and evaluation.safetensors
          shards.torrent  their metainfo; or dataset.torrent, that of public data
          models/         the global model before and after rounds, and the server optimizer's state
          updates/        what participants uploaded
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio

from chain.training_records import Receipt
from p2pml.formats import tensors
from p2pml.node.job_session import Delivered
from p2pml.storage.journal import Journal, write_atomic


@dataclass(frozen=True, slots=True)
class Receipted:
    """A delivered update and the receipt that was given for it."""

    client: int
    peer: str
    path: Path
    receipt: Receipt
    loss_before: float
    loss_after: float

    @property
    def samples(self) -> int:
        return self.receipt.commitment.samples


@dataclass(frozen=True, slots=True)
class RoundDone:
    """A round in the journal.

    Args:
        number: from 0.
        accuracy: 0 to 1.
        loss: nats.
        receipts: all that are paid, in client order.
        counted: the clients whose updates became the model; the others were spares.
        resumed: whether the requester was started in the midst of it, so that `seconds` are not all of it.
        paused: whether its deadline stood still for a time, so that `seconds` are more than it takes.
    """

    number: int
    model_in: bytes
    model_out: bytes
    accuracy: float
    loss: float
    seconds: float
    receipts: tuple[Receipt, ...]
    counted: tuple[int, ...]
    resumed: bool = False
    paused: bool = False


@dataclass(slots=True)
class JobStore:
    """One job's folder.

    Args:
        folder: made if it is not there.

    Raises:
        JournalError: its journal is damaged.
    """

    folder: Path
    journal: Journal = field(init=False)

    def __post_init__(self) -> None:
        for name in ("shards", "models", "updates"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        self.journal = Journal(self.folder / "journal.jsonl")

    @property
    def evaluation(self) -> Path:
        """The samples that stay with the requester."""
        return self.folder / "shards" / "evaluation.safetensors"

    @property
    def updates(self) -> Path:
        return self.folder / "updates"

    @property
    def torrent_name(self) -> str:
        """What the torrent with the shards is called; the job's id makes it the only one of its name."""
        return self.folder.name

    @property
    def metainfo_file(self) -> Path:
        return self.folder / "shards.torrent"

    @property
    def dataset_file(self) -> Path:
        """Metainfo of the public data that the participants fetch."""
        return self.folder / "dataset.torrent"

    @property
    def model_file(self) -> Path:
        return self.folder / "model.json"

    def shard(self, client: int) -> Path:
        """A client's shard file."""
        return self.folder / "shards" / f"client-{client:04}.safetensors"

    def model_path(self, number: int) -> Path:
        """The global model that round `number` starts from; 0 is the initial one."""
        return self.folder / "models" / f"{number:05}.safetensors"

    def state_path(self, number: int) -> Path:
        """The server optimizer's state that round `number` starts from."""
        return self.folder / "models" / f"{number:05}.state"

    async def note(self, kind: str, **data: Any) -> None:
        """Append to the journal; on disk when this returns."""
        await trio.to_thread.run_sync(lambda: self.journal.append(kind, **data))

    async def save_model(self, number: int, weights: bytes, state: bytes) -> None:
        """Keep the model and optimizer state that round `number` starts from."""
        await trio.to_thread.run_sync(write_atomic, self.state_path(number), state)
        await trio.to_thread.run_sync(write_atomic, self.model_path(number), weights)

    def load_model(self, number: int) -> tuple[bytes, bytes]:
        """The weights and optimizer state that round `number` starts from.

        Raises:
            OSError: they are not there.
        """
        return self.model_path(number).read_bytes(), self.state_path(number).read_bytes()

    def newest_model(self, rounds: Sequence[RoundDone]) -> bytes | None:
        """The weights of the newest global model; None when no round has changed the initial one.

        A model is saved before the journal says that its round is done. One that the journal does not know
        was left by a death between the two and is nobody's result.
        """
        for number in range(len(rounds), 0, -1):
            path = self.model_path(number)
            if path.exists() and tensors.digest(weights := path.read_bytes()) == rounds[number - 1].model_out:
                return weights
        return None

    def drop_models(self, finished: int, every: int, keep: int) -> None:
        """After round `finished`, leave the newest `keep` checkpoints and what the next round starts from."""
        kept = [number for number in range(finished, 0, -1) if number % every == 0][:keep]
        for path in (self.folder / "models").iterdir():
            if path.suffix in (".safetensors", ".state") and int(path.stem) not in {0, finished, *kept}:
                path.unlink()

    async def note_delivery(self, delivered: Delivered, receipt: Receipt) -> Receipted:
        """Journal a receipt before it is given away."""
        commitment = delivered.commitment
        await self.note(
            "receipt",
            round=commitment.round,
            client=commitment.client,
            peer=delivered.peer,
            path=delivered.path.name,
            receipt=receipt.encode().hex(),
            loss=[delivered.loss_before, delivered.loss_after],
            norm=delivered.norm,
        )
        return self._receipted(self.journal.entries[-1])

    def receipted(self, number: int) -> dict[int, Receipted]:
        """The updates of a round that have a receipt and are still on disk, by client."""
        found = [self._receipted(entry) for entry in self.journal.all("receipt") if entry["round"] == number]
        return {item.client: item for item in found if item.path.exists()}

    def delivered(self) -> dict[bytes, tuple[int, int]]:
        """The hashes of all updates that have a receipt and change anything, each with its round and client:
        those that may not be delivered again. What was journaled without its norm changed something."""
        entries = [entry for entry in self.journal.all("receipt") if entry.get("norm", 1.0)]
        found = [self._receipted(entry).receipt.commitment for entry in entries]
        return {item.update_hash: (item.round, item.client) for item in found}

    async def note_chosen(self, number: int, clients: Sequence[int]) -> None:
        """Journal whose updates make the round's model, before it is made: whoever is first after a restart,
        the model stays the same."""
        await self.note("chosen", round=number, clients=list(clients))

    def chosen(self, number: int) -> list[Receipted]:
        """The updates that were chosen for a round, in client order; none before, or if one is not here."""
        entry = self.journal.last("chosen")
        here = self.receipted(number)
        if entry is None or entry["round"] != number or not here.keys() >= set(entry["clients"]):
            return []
        return [here[client] for client in entry["clients"]]

    async def note_round(self, done: RoundDone) -> None:
        """Journal a finished round."""
        await self.note(
            "round",
            round=done.number,
            model_in=done.model_in.hex(),
            model_out=done.model_out.hex(),
            accuracy=done.accuracy,
            loss=done.loss,
            seconds=done.seconds,
            receipts=[receipt.encode().hex() for receipt in done.receipts],
            counted=list(done.counted),
            resumed=done.resumed,
            paused=done.paused,
        )

    def rounds(self) -> list[RoundDone]:
        """The finished rounds in order."""
        return [_round(entry) for entry in self.journal.all("round")]

    def drop_updates(self) -> None:
        """Delete what participants uploaded: the round that they belong to is in the journal."""
        for path in self.updates.iterdir():
            path.unlink(missing_ok=True)  # a spare's may be checked, and so renamed, right now

    def drop_shards(self) -> None:
        """Delete the clients' shards; the evaluation samples stay."""
        for path in self.evaluation.parent.iterdir():
            if path != self.evaluation:
                path.unlink()

    def _receipted(self, entry: dict[str, Any]) -> Receipted:
        before, after = entry["loss"]
        receipt = Receipt.decode(bytes.fromhex(entry["receipt"]))
        path = self.updates / entry["path"]
        return Receipted(entry["client"], entry["peer"], path, receipt, before, after)


def _round(entry: dict[str, Any]) -> RoundDone:
    receipts = tuple(Receipt.decode(bytes.fromhex(text)) for text in entry["receipts"])
    everybody = [receipt.commitment.client for receipt in receipts]  # before there were spares
    return RoundDone(
        entry["round"], bytes.fromhex(entry["model_in"]), bytes.fromhex(entry["model_out"]),
        entry["accuracy"], entry["loss"], entry["seconds"], receipts,
        tuple(entry.get("counted", everybody)), entry.get("resumed", False),
        entry.get("paused", False),
    )  # fmt: skip
