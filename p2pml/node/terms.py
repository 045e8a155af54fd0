"""What stays the same for all of a job, as both sides know it, and the signed task that binds them."""

from __future__ import annotations

from dataclasses import dataclass

from chain.codec import pack
from chain.crypto import H, Keypair, verify
from chain.training_records import Commitment
from p2pml.formats import SpecError, keras_json, local, uploads
from p2pml.formats.optimizers import Optimizer
from p2pml.net import train as wire
from p2pml.training.spec import JobSpec

MAX_HEADER = 1 << 20
FEE_SHARE = 20
"""One part in so many of what is paid may go into fees for settling."""


def price_per_sample(budget: int, rounds: int, samples: int) -> int:
    """Base units for one sample in one epoch, so that no round can outrun the budget.

    Args:
        budget: base units.
        rounds: most rounds.
        samples: of all clients of a round together, each counted in every epoch.
    """
    return budget // (rounds * samples)


def settle_interval(budget: int, rounds: int, fee: int) -> int:
    """After how many rounds a job settles when its owner does not say: so that fees take 5 % at most.

    One settlement costs one fee, so with the fewest rounds k for which 5 % of what k rounds can pay reaches
    the fee, trainers' risk stays below 20 fees together, or one round where a round is worth more.

    Args:
        budget: base units.
        rounds: most rounds.
        fee: of one transaction, base units.
    """
    if budget == 0:
        return 1
    return max(1, min(rounds, -(-fee * FEE_SHARE * rounds // budget)))


def settlements(spec: JobSpec, fee: int) -> tuple[int, int]:
    """After how many rounds a job settles, and how many fees its owner pays for it at most, the fee for
    opening the job counted. Where a round has more receipts than a transaction holds, it takes more.

    Args:
        spec: of the job.
        fee: of one transaction, base units.
    """
    given = spec.reward.settle_every if spec.reward else "auto"
    every = settle_interval(spec.budget, spec.rounds.max, fee) if given == "auto" else given
    during = spec.rounds.max // every if spec.budget else 0
    return every, 2 + during


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
        settle_every: rounds after which what was earned is paid on the chain.
        algorithm: of a round: a key of `p2pml.formats.local.ALGORITHMS`.
        prox: weight of FedProx's proximal term, 0 for none.
        upload: kind of the updates' values, one of `p2pml.formats.uploads.KINDS`.
        dataset: name of the participants' own private data that is trained on; empty for other data.
        division: how the participants divide public data (`Division.to_text`); empty for other data.
        trainer: name of the installed trainer that is to do it; empty for p2pml's own.
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
    settle_every: int = 1
    algorithm: str = "fedavg"
    prox: float = 0.0
    upload: str = "float32"
    dataset: str = ""
    division: str = ""
    trainer: str = ""

    def check(self) -> None:
        """Whether a participant can carry this out, the model apart.

        Raises:
            SpecError: no; says what it does not know.
        """
        local.check(self.algorithm, self.optimizer, self.epochs, self.prox, self.trainer)
        if self.upload not in uploads.KINDS:
            raise SpecError(f"unknown kind of upload {self.upload!r}; known: {', '.join(uploads.KINDS)}")

    def samples_of_round(self, count: int) -> int:
        """What a client with a shard of `count` samples trains on in a round, and is paid for."""
        return local.samples_of_round(self.algorithm, count, self.batch, self.epochs)

    def invite(self, keys: Keypair, requester_peer: str, trainer_peer: str) -> wire.Invite:
        """The message that carries them, signed by the requester's account.

        The stream proves which peer sends it. The signature adds that this peer speaks for the account, to
        this trainer: nobody else can invite to the job, and nobody can pass an invitation on.
        """
        sig = keys.sign(self._invite_bytes(requester_peer, trainer_peer))
        return wire.Invite(
            wire.VERSION, self.chain_id, self.job, self.requester, self.name, self.model, self.optimizer.name,
            float(self.optimizer.lr), {key: float(value) for key, value in self.optimizer.args.items()},
            self.batch, self.epochs, self.seed, self.rounds, self.price, self.settle_every,
            self.algorithm, float(self.prox), self.upload, self.dataset, self.division, self.trainer, sig,
        )  # fmt: skip

    @classmethod
    def from_invite(cls, invite: wire.Invite) -> JobTerms:
        """The terms in an invitation; nothing is checked beyond what the wire does."""
        optimizer = Optimizer(invite.optimizer, invite.lr, dict(invite.arguments))
        return cls(
            invite.chain_id, invite.job, invite.requester, invite.name, invite.model, optimizer,
            invite.batch, invite.epochs, invite.seed, invite.rounds, invite.price, invite.settle_every,
            invite.algorithm, invite.prox, invite.upload, invite.dataset, invite.division, invite.trainer,
        )  # fmt: skip

    def invited_by_requester(self, invite: wire.Invite, requester_peer: str, trainer_peer: str) -> bool:
        """Whether the requester's account signed that this peer invites that one."""
        return verify(self.requester, self._invite_bytes(requester_peer, trainer_peer), invite.sig)

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

    def _invite_bytes(self, requester_peer: str, trainer_peer: str) -> bytes:
        return H("invite", pack((self.chain_id, self.job, requester_peer, trainer_peer)))

    def _task_bytes(self, round_: int, client: int, trainer: bytes, samples: int, model_in: bytes) -> bytes:
        return H("task", pack((self.chain_id, self.job, round_, client, trainer, samples, model_in)))
