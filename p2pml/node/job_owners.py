"""What comes before the first round of a job on private data: the trainers are asked who has it, and each
that offers its data is one client. The data stays where it is; what comes from here is the model."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import trio

from p2pml.errors import ExitCode, UserError
from p2pml.formats import shards, tensors
from p2pml.net.errors import Malformed, RemoteError
from p2pml.net.train import FROM_PARTICIPANT, PROTOCOL, Channel, Offer, Refuse
from p2pml.node.job_members import GRACE_S, LOOK_S, REFUSED_RETRY_S, eligible, waiting_text
from p2pml.node.job_prepare import (
    Notes,
    Prepared,
    check_aggregation,
    checked_price,
    first_weights,
    load_data,
    model_of,
)
from p2pml.node.job_store import JobStore
from p2pml.node.ports import NodeParts, Trainer
from p2pml.node.private_data import make_ask
from p2pml.storage.journal import write_atomic
from p2pml.training.dataset import Dataset
from p2pml.training.spec import JobSpec

ANSWER_S = 120.0
"""How long an owner may take to read its data the first time."""
NO_DATASET = bytes(20)
"""What the chain is told in place of an infohash: nobody can fetch this data."""


@dataclass(slots=True)
class Owners:
    """The search for the owners of a private data set.

    Args:
        spec: of the job.
        model: Keras JSON.
        parts: of the node.
        note: tells people what is waited for.
    """

    spec: JobSpec
    model: str
    parts: NodeParts
    note: Notes
    _offers: dict[str, int] = field(default_factory=dict)
    _refusals: dict[str, str] = field(default_factory=dict)
    _ask_again: dict[str, float] = field(default_factory=dict)

    async def find(self) -> list[tuple[str, int]]:
        """The owners' peer ids, ascending, and how many samples each has.

        Raises:
            UserError: (code 6) fewer than `peers.min` offered theirs within `peers.join`; with their reasons.
        """
        limits, name = self.spec.peers, self.spec.data.train
        until = trio.current_time() + limits.join
        async with trio.open_nursery() as nursery:
            while len(self._offers) < limits.min and trio.current_time() < until:
                self.note(
                    waiting_text(len(self._offers), limits.min, f" with the private data {name}", "offered")
                )
                self._ask_all(nursery)
                await trio.sleep(LOOK_S)
            if len(self._offers) >= limits.min:
                await trio.sleep(GRACE_S)  # who answers a little later is wanted too
            nursery.cancel_scope.cancel()
        if len(self._offers) < limits.min:
            told = "; ".join(dict.fromkeys(self._refusals.values())) or "no trainer was there"
            raise UserError(
                f"only {len(self._offers)} of {limits.min} owners offered the private data {name} "
                f"within {limits.join:g} s: {told}",
                "have more owners name this node's account in their config.toml, or lower peers.min",
                ExitCode.JOB_FAILED,
            )
        return sorted(list(self._offers.items())[: limits.max])

    def _ask_all(self, nursery: trio.Nursery) -> None:
        for trainer in eligible(list(self.parts.trainers()), self.spec.peers):
            if trainer.peer not in self._offers and trio.current_time() >= self._ask_again.get(
                trainer.peer, 0
            ):
                self._ask_again[trainer.peer] = trio.current_time() + ANSWER_S
                nursery.start_soon(self._ask, trainer)

    async def _ask(self, trainer: Trainer) -> None:
        name, own = trainer.name or trainer.peer[-8:], self.parts.host.peer_id
        chain_id = self.parts.chain.genesis.chain_id
        ask = make_ask(self.parts.keys, chain_id, self.spec.data.train, self.model, own, trainer.peer)
        try:
            channel = Channel(await self.parts.host.open(trainer.peer, PROTOCOL))
            try:
                await channel.send(ask)
                answer = await channel.receive(FROM_PARTICIPANT, ANSWER_S)
            finally:
                with trio.CancelScope(shield=True):
                    await channel.reset()
            match answer:
                case Offer(samples):
                    self._offers[trainer.peer] = samples
                    return
                case Refuse(reason=reason):
                    self._refusals[trainer.peer] = f"{name}: {reason}"
                case _:
                    raise Malformed(f"{type(answer).__name__} in answer to a question for private data")
        except RemoteError as error:
            self.parts.host.standing.note(trainer.peer, error)
            self._refusals[trainer.peer] = f"{name}: {error}"
        self._ask_again[trainer.peer] = trio.current_time() + REFUSED_RETRY_S


async def prepare_with_owners(
    spec: JobSpec, base_dir: Path, parts: NodeParts, store: JobStore, note: Notes
) -> Prepared:
    """Find the owners, build the model; arguments and errors as those of `job_prepare.prepare`."""
    path = await parts.data.local(spec.data.validation.path or "", base_dir)
    loaded = await trio.to_thread.run_sync(load_data, spec, path)
    evaluation = loaded.train if loaded.test is None else loaded.test
    model = model_of(spec, base_dir, Dataset(evaluation, None))
    owners = await Owners(spec, model.to_json(), parts, note).find()
    samples = [count for _, count in owners]
    await check_aggregation(spec, model.params, len(owners), parts.tff())
    price = checked_price(spec, samples)
    await trio.to_thread.run_sync(shards.write, store.evaluation, evaluation)
    await trio.to_thread.run_sync(write_atomic, store.model_file, model.to_json().encode())
    note("building the model")
    weights = await first_weights(spec, base_dir, model, parts)
    await store.save_model(0, weights, b"")
    peers = tuple(peer for peer, _ in owners)
    result = Prepared(NO_DATASET, tuple(samples), model.to_json(), tensors.digest(weights), price, peers)
    await store.note("prepared", **result.to_entry())
    return result
