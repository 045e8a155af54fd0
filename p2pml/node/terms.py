"""What stays the same for all of a job, as both sides know it, and the signed task that binds them."""

from __future__ import annotations

from dataclasses import dataclass

from chain.codec import pack
from chain.crypto import H, Keypair, verify
from chain.training_records import Commitment
from p2pml.formats import keras_json
from p2pml.formats.optimizers import Optimizer
from p2pml.net import train as wire

MAX_HEADER = 1 << 20


def price_per_sample(budget: int, rounds: int, samples: int, epochs: int) -> int:
    """Base units for one sample in one epoch, so that no round can outrun the budget.

    Args:
        budget: base units.
        rounds: most rounds.
        samples: of all clients together.
        epochs: of each round.
    """
    return budget // (rounds * samples * epochs)


@dataclass(frozen=True, slots=True)
class JobTerms:
    """The terms that a participant is invited to.

    Args:
        chain_id, job, requester: 32 bytes each.
        name: for people.
        model: Keras JSON.
        optimizer: of the local training, afresh in each round.
        batch, epochs, seed: of the local training.
        rounds: most rounds.
        price: base units per sample and epoch.
    """

    chain_id: bytes
    job: bytes
    requester: bytes
    name: str
    model: str
    optimizer: Optimizer
    batch: int
    epochs: int
    seed: int
    rounds: int
    price: int

    def invite(self) -> wire.Invite:
        """The message that carries them."""
        return wire.Invite(
            wire.VERSION, self.chain_id, self.job, self.requester, self.name, self.model, self.optimizer.name,
            float(self.optimizer.lr), {key: float(value) for key, value in self.optimizer.args.items()},
            self.batch, self.epochs, self.seed, self.rounds, self.price,
        )  # fmt: skip

    @classmethod
    def from_invite(cls, invite: wire.Invite) -> JobTerms:
        """The terms in an invitation; nothing is checked beyond what the wire does."""
        optimizer = Optimizer(invite.optimizer, invite.lr, dict(invite.arguments))
        return cls(
            invite.chain_id, invite.job, invite.requester, invite.name, invite.model, optimizer,
            invite.batch, invite.epochs, invite.seed, invite.rounds, invite.price,
        )  # fmt: skip

    def shapes(self) -> list[tuple[int, ...]]:
        """The shapes of the model's weights, in order.

        Raises:
            SpecError: the model is not one that may be trained.
        """
        return list(keras_json.parse(self.model).weight_shapes)

    def max_content(self) -> int:
        """Most bytes of a file with the model's weights: float32 values and the names around them.

        Raises:
            SpecError: the model is not one that may be trained.
        """
        return 4 * keras_json.parse(self.model).params + MAX_HEADER

    def task(
        self, keys: Keypair, round_: int, client: int, trainer: bytes, samples: int, model_in: bytes
    ) -> wire.Task:
        """The signed order to train one client."""
        sig = keys.sign(self._task_bytes(round_, client, trainer, samples, model_in))
        return wire.Task(round_, client, trainer, samples, model_in, sig)

    def signed_by_requester(self, task: wire.Task) -> bool:
        """Whether the requester's account signed the task."""
        message = self._task_bytes(task.round, task.client, task.trainer, task.samples, task.model_in)
        return verify(self.requester, message, task.sig)

    def commitment(
        self, round_: int, client: int, trainer: bytes, samples: int, model_in: bytes, update_hash: bytes
    ) -> Commitment:
        """What the trainer signs about its update."""
        return Commitment(self.chain_id, self.job, round_, client, trainer, samples, model_in, update_hash)

    def _task_bytes(self, round_: int, client: int, trainer: bytes, samples: int, model_in: bytes) -> bytes:
        return H("task", pack((self.chain_id, self.job, round_, client, trainer, samples, model_in)))
