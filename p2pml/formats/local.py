"""What a client does with its shard in one round, as spec, invitation and worker know it.

`fedavg`: some epochs from the global model (McMahan et al. 2017), with a proximal term if the job wants one.
`sync_sgd`: one step on one batch, drawn anew in each round, so that a round's mean is a step of synchronous
SGD over the batches of all clients (Chen et al. 2016, whose backup workers are the job's `peers.backup`).
"""

from __future__ import annotations

import math

from p2pml.formats import SpecError
from p2pml.formats.optimizers import Optimizer

ALGORITHMS = ("fedavg", "sync_sgd")
MAX_PROX = 1000.0


def check(algorithm: str, optimizer: Optimizer, epochs: int, prox: float, trainer: str = "") -> None:
    """Whether these go together.

    Args:
        algorithm: one of `ALGORITHMS`.
        optimizer: of the local steps.
        epochs: over the shard.
        prox: μ of FedProx (Li et al. 2020): the local loss has μ/2 ‖w − w_global‖² added; 0 for none.
        trainer: name of an installed trainer; empty for p2pml's own.

    Raises:
        SpecError: they do not; says why.
    """
    if algorithm not in ALGORITHMS:
        raise SpecError(f"unknown algorithm {algorithm!r}; known: {', '.join(ALGORITHMS)}")
    if not (math.isfinite(prox) and 0 <= prox <= MAX_PROX):
        raise SpecError(f"prox is {prox}; it must be from 0 to {MAX_PROX:g}")
    if algorithm == "sync_sgd" and (optimizer.name != "sgd" or epochs != 1 or prox):
        raise SpecError(
            "sync_sgd takes one step of plain sgd a round: leave out epochs, momentum and prox, and name "
            "another optimizer under aggregate.server_optimizer"
        )
    if trainer and algorithm != "fedavg":
        raise SpecError(f"the trainer {trainer!r} makes whole epochs: leave out algorithm: {algorithm}")


def samples_of_round(algorithm: str, count: int, batch: int, epochs: int) -> int:
    """How many samples a client of `count` trains on in a round, each counted in every epoch."""
    return min(count, batch) if algorithm == "sync_sgd" else count * epochs
