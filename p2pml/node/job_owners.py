"""What comes before the first round of a job on private data: the trainers are asked who has it, and each
that offers its data is one client. The data stays where it is; what comes from here is the model."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import trio

from p2pml.errors import ExitCode, UserError
from p2pml.net.errors import Malformed, RemoteError
from p2pml.net.train import FROM_PARTICIPANT, PROTOCOL, Channel, Offer, Refuse
from p2pml.node.job_members import GRACE_S, LOOK_S, REFUSED_RETRY_S, eligible, waiting_text
from p2pml.node.job_prepare import Notes, Prepared, check_aggregation, elsewhere, write_down
from p2pml.node.job_store import JobStore
from p2pml.node.ports import NodeParts, Trainer
from p2pml.node.private_data import make_ask
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
            UserError: (code 12) fewer than `peers.min` offered theirs within `peers.join`; with the reasons.
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
                ExitCode.NO_TRAINERS,
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
    evaluation, model = await elsewhere(spec, base_dir, parts)
    note(f"own data to evaluate on: {evaluation}; that of the owners has to be alike")
    found = await Owners(spec, model.to_json(), parts, note).find()
    await check_aggregation(spec, model.params, len(found), parts.tff())
    owners, samples = tuple(peer for peer, _ in found), [count for _, count in found]
    return await write_down(
        spec, base_dir, parts, store, note, model, evaluation, NO_DATASET, samples, owners
    )
