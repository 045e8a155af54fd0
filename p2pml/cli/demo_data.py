"""The spec of the demo's job."""

from __future__ import annotations

from pathlib import Path

from p2pml.training.bundled import DIGITS_NAME

TOKENS = 20
"""The job's budget."""

_SPEC = """\
# The demo's job: a small network on 8x8 handwritten digits, trained by every node that is willing.
version: 1
name: digits
seed: 1
model: {{builder: mlp, args: {{hidden: [64]}}}}
data:
  train: {dataset}
  partition: {{kind: iid}}
train: {{algorithm: fedavg, optimizer: sgd, lr: 0.1, batch: 16, epochs: 5}}
rounds: {{max: {rounds}}}
peers: {{min: {least}, max: 8, quorum: 0.6, stall: 60s, join: 180s}}
reward: {{budget: {budget}}}
output: {{dir: {output}}}
"""


def make_spec(rounds: int, trainers: int, output: Path) -> str:
    """The demo's job spec for that many rounds and at most so many trainers."""
    return _SPEC.format(
        dataset=DIGITS_NAME, rounds=rounds, least=max(1, min(2, trainers)), budget=TOKENS, output=output
    )
